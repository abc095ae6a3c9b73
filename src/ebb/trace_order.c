#include <string.h>

#include "trace_reader.h"

/* ---- Blocks that live ------------------------------------------------------------------------ */

static uint64_t key_of(uint32_t thread, uint64_t index)
{
    return ((uint64_t)thread << TRACE_INDEX_BITS | index) + 1;
}

static size_t home_of(const struct trace_file *file, uint64_t key)
{
    return (size_t)(key * 0x9e3779b97f4a7c15u >> 20) & (file->live_capacity - 1);
}

static struct trace_live *find_live(const struct trace_file *file, uint64_t key)
{
    if (file->live_count == 0)
        return NULL;
    size_t at = home_of(file, key);
    for (; file->live[at].key != 0; at = (at + 1) & (file->live_capacity - 1))
        if (file->live[at].key == key)
            return &file->live[at];
    return NULL;
}

static void place_live(struct trace_file *file, struct trace_live live)
{
    size_t at = home_of(file, live.key);
    while (file->live[at].key != 0)
        at = (at + 1) & (file->live_capacity - 1);
    file->live[at] = live;
}

static void grow_live(struct trace_file *file)
{
    struct trace_live *old = file->live;
    size_t old_capacity = file->live_capacity;
    file->live_capacity = old_capacity == 0 ? 4096 : 2 * old_capacity;
    file->live = table_map(file->live_capacity * sizeof *file->live);
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i].key != 0)
            place_live(file, old[i]);
    table_unmap(old, old_capacity * sizeof *old);
}

/* Those behind it move up, so that no search ends too soon. */
static void remove_live(struct trace_file *file, struct trace_live *live)
{
    size_t mask = file->live_capacity - 1;
    size_t hole = (size_t)(live - file->live);
    for (size_t at = (hole + 1) & mask; file->live[at].key != 0; at = (at + 1) & mask) {
        size_t home = home_of(file, file->live[at].key);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            file->live[hole] = file->live[at];
            hole = at;
        }
    }
    file->live[hole].key = 0;
    file->live_count--;
}

static uint32_t new_number(struct trace_file *file)
{
    if (file->free_count > 0)
        return file->free_numbers[--file->free_count];
    if (file->blocks == file->block_capacity) {
        size_t old = file->block_capacity, more = old == 0 ? 4096 : 2 * old;
        file->block =
            table_grow(file->block, old * sizeof *file->block, more * sizeof *file->block);
        file->free_numbers = table_grow(file->free_numbers, old * sizeof *file->free_numbers,
                                        more * sizeof *file->free_numbers);
        file->block_capacity = more;
    }
    return file->blocks++;
}

static struct trace_live *add_live(struct trace_file *file, uint64_t key)
{
    if (2 * file->live_count >= file->live_capacity)
        grow_live(file);
    place_live(file, (struct trace_live){key, NO_BLOCK, 0});
    file->live_count++;
    return find_live(file, key);
}

static void wake(struct trace_file *file, struct trace_live *awaited, bool in_vain);

/* The thread gets its next block. */
static uint32_t get_block(struct trace_file *file, uint32_t number, uint64_t size)
{
    uint64_t key = key_of(number, file->thread[number].count++);
    struct trace_live *live = file->parked == 0 ? NULL : find_live(file, key);
    uint32_t block = new_number(file);
    file->block[block] = (struct trace_block){size, file->operations, file->time_us, number};
    if (live == NULL)
        live = add_live(file, key);
    live->block = block;
    wake(file, live, false);
    return block;
}

/* ---- The order of threads ---------------------------------------------------------------------
 */

static bool is_before(const struct trace_order *a, const struct trace_order *b)
{
    return a->tick != b->tick ? a->tick < b->tick : a->turn < b->turn;
}

static void swap(struct trace_order *a, struct trace_order *b)
{
    struct trace_order kept = *a;
    *a = *b;
    *b = kept;
}

static void queue(struct trace_file *file, uint32_t thread)
{
    size_t at = file->waiting++;
    file->order[at] = (struct trace_order){file->turn++, file->thread[thread].tick, thread};
    for (; at > 0 && is_before(&file->order[at], &file->order[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&file->order[at], &file->order[(at - 1) / 2]);
}

static void leave_queue(struct trace_file *file)
{
    file->order[0] = file->order[--file->waiting];
    for (size_t at = 0, child; (child = 2 * at + 1) < file->waiting; at = child) {
        if (child + 1 < file->waiting && is_before(&file->order[child + 1], &file->order[child]))
            child++;
        if (!is_before(&file->order[child], &file->order[at]))
            break;
        swap(&file->order[child], &file->order[at]);
    }
}

/* The thread, which is the first in the order, waits for a block: it leaves the order until that is
 * there. */
static void park(struct trace_file *file, uint32_t number, uint64_t key)
{
    struct trace_thread *thread = &file->thread[number];
    struct trace_live *awaited = find_live(file, key);
    if (awaited == NULL)
        awaited = add_live(file, key);
    thread->awaits = key;
    thread->next_for_block = awaited->waiting;
    awaited->waiting = number + 1;
    thread->next_parked = 0;
    thread->previous = file->last_parked;
    if (file->last_parked != 0)
        file->thread[file->last_parked - 1].next_parked = number + 1;
    else
        file->parked = number + 1;
    file->last_parked = number + 1;
}

static void unpark(struct trace_file *file, const struct trace_thread *thread)
{
    if (thread->previous != 0)
        file->thread[thread->previous - 1].next_parked = thread->next_parked;
    else
        file->parked = thread->next_parked;
    if (thread->next_parked != 0)
        file->thread[thread->next_parked - 1].previous = thread->previous;
    else
        file->last_parked = thread->previous;
}

/* All who wait for the block are in the order again, behind whoever else is in their tick. */
static void wake(struct trace_file *file, struct trace_live *awaited, bool in_vain)
{
    while (awaited->waiting != 0) {
        uint32_t number = awaited->waiting - 1;
        struct trace_thread *thread = &file->thread[number];
        awaited->waiting = thread->next_for_block;
        thread->is_stuck = in_vain;
        unpark(file, thread);
        queue(file, number);
    }
}

/* Whoever waits does so in the lowest tick of all. When nobody in it goes on, the block that the
 * first of them waits for does not come. */
static void wake_stuck(struct trace_file *file)
{
    const struct trace_thread *thread = &file->thread[file->parked - 1];
    if (file->waiting > 0 && file->order[0].tick == thread->tick)
        return;
    struct trace_live *awaited = find_live(file, thread->awaits);
    wake(file, awaited, true);
    remove_live(file, awaited);
}

static void enter_chunk(struct trace_file *file, struct trace_thread *thread, uint32_t number)
{
    const struct trace_chunk_place *chunk = &file->chunk[number];
    thread->chunk = number;
    thread->at = file->bytes + chunk->start;
    thread->end = thread->at + chunk->length;
}

void trace_rewind(struct trace_file *file)
{
    file->operations = file->time_us = file->left_out = 0;
    file->turn = file->waiting = 0;
    file->parked = file->last_parked = 0;
    file->free_count = 0;
    file->blocks = 0;
    if (file->live != NULL)
        memset(file->live, 0, file->live_capacity * sizeof *file->live);
    file->live_count = 0;
    for (uint32_t i = 0; i < file->threads; i++) {
        struct trace_thread *thread = &file->thread[i];
        if (thread->first == NONE)
            continue;
        *thread = (struct trace_thread){.first = thread->first, .last = thread->last};
        enter_chunk(file, thread, thread->first);
        queue(file, i);
    }
}

/* ---- Operations ------------------------------------------------------------------------------ */

/* Which block an operation refers to. */
struct reference {
    uint64_t thread, index;
};

/* An operation as it lies in the file. */
struct raw {
    enum trace_kind kind;
    uint64_t value; /* its number */
    uint64_t size;
    unsigned alignment_log;
    bool has_reference, is_other;
    struct reference reference;
};

static void refer_to_own(const struct trace_thread *thread, uint32_t number, uint64_t distance,
                         struct raw *raw)
{
    raw->has_reference = true;
    /* One that is too far wraps, and is no block's. */
    raw->reference = (struct reference){number, thread->count - 1 - distance};
}

static bool refer_to_other(const struct trace_thread *thread, const unsigned char **at,
                           uint64_t other, struct raw *raw)
{
    uint64_t step;
    if (!trace_get_number(at, thread->end, &step))
        return false;
    raw->has_reference = raw->is_other = true;
    raw->reference =
        (struct reference){other, thread->other_index + (uint64_t)trace_unzigzag(step)};
    return true;
}

/* Decodes one operation, and changes nothing. *at: behind it. */
static bool decode(const struct trace_thread *thread, uint32_t number, const unsigned char **at,
                   struct raw *raw)
{
    uint64_t reference;
    *raw = (struct raw){0};
    if (!trace_get(at, thread->end, &raw->kind, &raw->value))
        return false;
    raw->size = thread->size + (uint64_t)trace_unzigzag(raw->value);
    switch (raw->kind) {
    case TRACE_FREE:
        refer_to_own(thread, number, raw->value, raw);
        return true;
    case TRACE_FREE_OTHER:
        return refer_to_other(thread, at, raw->value, raw);
    case TRACE_REALLOC:
        if (!trace_get_number(at, thread->end, &reference))
            return false;
        if ((reference & 1) != 0)
            return refer_to_other(thread, at, reference >> 1, raw);
        refer_to_own(thread, number, reference >> 1, raw);
        return true;
    case TRACE_ALIGNED:
        if (*at == thread->end)
            return false;
        raw->alignment_log = *(*at)++;
        return true;
    default:
        return true;
    }
}

static bool gets_block(enum trace_kind kind)
{
    return kind == TRACE_MALLOC || kind == TRACE_CALLOC || kind == TRACE_REALLOC ||
           kind == TRACE_ALIGNED;
}

/* What no recorder writes. */
static const char *wrong_with(const struct trace_file *file, const struct raw *raw)
{
    if (gets_block(raw->kind) && raw->size > (uint64_t)1 << 47)
        return "a size beyond all memory";
    if (raw->kind == TRACE_ALIGNED && raw->alignment_log > 47)
        return "an alignment beyond all memory";
    if (raw->is_other && raw->reference.thread >= TRACE_THREADS_MOST)
        return "a reference to a thread beyond all numbers";
    if (raw->is_other && raw->reference.thread >= file->threads && file->is_whole)
        return "a reference to a thread that is not there";
    if (raw->has_reference && raw->reference.index >> TRACE_INDEX_BITS != 0)
        return "a reference to a block that never was";
    return NULL;
}

/* True when the block may still be got: its thread has more to tell. */
static bool is_to_come(const struct trace_file *file, const struct reference *reference)
{
    if (reference->thread >= file->threads)
        return false;
    const struct trace_thread *maker = &file->thread[reference->thread];
    return maker->first != NONE && reference->index >= maker->count &&
           (maker->at < maker->end || file->chunk[maker->chunk].next != NONE);
}

enum step { STEP_TOLD, STEP_ON, STEP_QUEUE_AGAIN, STEP_PARK, STEP_THREAD_ENDS, STEP_DAMAGED };

/* The block that is referred to lives not. */
static enum step step_without_block(struct trace_file *file, struct trace_thread *thread,
                                    const struct raw *raw)
{
    if (is_to_come(file, &raw->reference) && !thread->is_stuck)
        return STEP_PARK;
    bool may_be_cut = !file->is_whole && raw->is_other &&
                      (raw->reference.thread >= file->threads ||
                       file->thread[raw->reference.thread].first == NONE ||
                       raw->reference.index >= file->thread[raw->reference.thread].count);
    if (may_be_cut)
        return STEP_ON;
    damaged(file, thread->at, "block %llu of thread %llu is not there to be %s",
            (unsigned long long)raw->reference.index, (unsigned long long)raw->reference.thread,
            raw->kind == TRACE_REALLOC ? "resized" : "freed");
    return STEP_DAMAGED;
}

static void end_block(struct trace_file *file, struct trace_live *live, struct trace_event *event)
{
    event->old = live->block;
    event->was = file->block[live->block];
    file->free_numbers[file->free_count++] = live->block;
    remove_live(file, live);
}

/* The thread has read a tick or a time. */
static enum step step_clock(struct trace_file *file, struct trace_thread *thread,
                            const struct raw *raw)
{
    if (raw->kind == TRACE_TIME) {
        if (raw->value > UINT64_MAX / 4 - thread->time_us) {
            damaged(file, thread->at, "a time beyond all years");
            return STEP_DAMAGED;
        }
        thread->time_us += raw->value;
        return STEP_ON;
    }
    if (raw->value > UINT32_MAX - thread->tick) {
        damaged(file, thread->at, "a tick beyond all numbers");
        return STEP_DAMAGED;
    }
    thread->tick += (uint32_t)raw->value;
    return STEP_QUEUE_AGAIN;
}

/* One operation of the thread. */
static enum step step(struct trace_file *file, uint32_t number, struct trace_event *event)
{
    struct trace_thread *thread = &file->thread[number];
    while (thread->at == thread->end) {
        uint32_t next = file->chunk[thread->chunk].next;
        if (next == NONE)
            return STEP_THREAD_ENDS;
        enter_chunk(file, thread, next);
    }
    struct raw raw;
    const unsigned char *at = thread->at;
    if (!decode(thread, number, &at, &raw)) {
        damaged(file, thread->at, "an operation that does not end");
        return STEP_DAMAGED;
    }
    const char *wrong = wrong_with(file, &raw);
    if (wrong != NULL) {
        damaged(file, thread->at, "%s", wrong);
        return STEP_DAMAGED;
    }
    if (raw.kind == TRACE_TICK || raw.kind == TRACE_TIME) {
        enum step result = step_clock(file, thread, &raw);
        thread->at = at;
        return result;
    }
    struct trace_live *live = NULL;
    bool is_left_out = false;
    if (raw.has_reference) {
        uint64_t key = key_of((uint32_t)raw.reference.thread, raw.reference.index);
        live = find_live(file, key);
        if (live == NULL || live->block == NO_BLOCK) {
            live = NULL;
            enum step result = step_without_block(file, thread, &raw);
            if (result == STEP_PARK)
                park(file, number, key);
            if (result != STEP_ON)
                return result;
            is_left_out = true;
            file->left_out++;
        }
    }
    thread->at = at;
    thread->is_stuck = false;
    if (raw.is_other)
        thread->other_index = raw.reference.index;
    if (thread->time_us > file->time_us)
        file->time_us = thread->time_us;
    if (is_left_out && raw.kind != TRACE_REALLOC)
        return STEP_ON;
    *event = (struct trace_event){.kind = is_left_out                    ? TRACE_MALLOC
                                          : raw.kind == TRACE_FREE_OTHER ? TRACE_FREE
                                                                         : raw.kind,
                                  .thread = number,
                                  .tick = thread->tick,
                                  .size = raw.size,
                                  .alignment_log = raw.alignment_log,
                                  .time_us = file->time_us};
    if (live != NULL)
        end_block(file, live, event);
    event->block = event->old;
    if (gets_block(event->kind)) {
        thread->size = raw.size;
        event->block = get_block(file, number, raw.size);
    }
    file->operations++;
    return STEP_TOLD;
}

bool trace_next(struct trace_file *file, struct trace_event *event)
{
    if (file->error[0] != '\0')
        return false;
    for (;;) {
        if (file->parked != 0)
            wake_stuck(file);
        if (file->waiting == 0)
            return false;
        uint32_t number = file->order[0].thread;
        /* The first in the order goes on until its tick changes, or it has to wait. */
        enum step result = step(file, number, event);
        if (result == STEP_TOLD)
            return true;
        if (result == STEP_DAMAGED)
            return false;
        if (result == STEP_ON)
            continue;
        leave_queue(file);
        if (result == STEP_QUEUE_AGAIN)
            queue(file, number);
    }
}
