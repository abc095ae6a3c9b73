#include "script.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ebb.h"

#define CHUNK_WORDS 4096  /* of one thread; the last one is a link */
#define OWN_SLOTS_MOST 32 /* empty ones that a thread keeps for itself */
#define NONE UINT32_MAX
#define PROGRESS_STEP 1000000 /* operations */

struct writer {       /* a thread's */
    uint64_t at, end; /* words */
    uint32_t tick;
    uint32_t own_slots, own_count; /* empty ones, by next */
    bool is_begun;
};

struct slot {
    uint64_t word;   /* that filled it last */
    uint32_t filled; /* times */
    uint32_t next;   /* in a thread's list, or in the queue */
    uint32_t tick;   /* when it was emptied */
};

struct maker {
    struct trace_file *file;
    struct script_head *head;
    struct script_thread *threads;
    uint32_t *ticks;
    uint64_t *live;
    uint64_t *words;
    uint64_t next_word;
    struct writer *writers;
    struct slot *slots;
    uint32_t *slot_of; /* by the reader's number of a block */
    size_t slot_capacity, block_capacity;
    uint32_t queue_first, queue_last; /* empty slots for all */
    uint32_t tick, trace_tick;
    uint64_t live_bytes;
};

const struct script_thread *script_threads(const struct script_head *head)
{
    return (const struct script_thread *)((const char *)head + head->thread_offset);
}

uint32_t *script_ticks(struct script_head *head)
{
    return (uint32_t *)((char *)head + head->tick_offset);
}

const uint64_t *script_live(const struct script_head *head)
{
    return (const uint64_t *)((const char *)head + head->live_offset);
}

const uint64_t *script_words(const struct script_head *head)
{
    return (const uint64_t *)((const char *)head + head->word_offset);
}

/* ---- Words ----------------------------------------------------------------------------------- */

static void take_chunk(struct maker *maker, struct writer *writer)
{
    writer->at = maker->next_word;
    maker->next_word += CHUNK_WORDS;
    writer->end = maker->next_word - 2; /* room for a word that needs two, less one for the link */
}

static void put(struct maker *maker, struct writer *writer, uint64_t word)
{
    maker->words[writer->at++] = word;
}

/* Before the words of an operation, at most two. */
static void make_room(struct maker *maker, struct writer *writer)
{
    if (writer->at < writer->end)
        return;
    uint64_t *link = &maker->words[writer->at];
    take_chunk(maker, writer);
    *link = (uint64_t)SCRIPT_LINK << 60 | writer->at;
}

static void put_sized(struct maker *maker, struct writer *writer, unsigned kind, uint32_t slot,
                      const struct trace_event *event)
{
    make_room(maker, writer);
    maker->slots[slot].word = writer->at;
    if (kind != SCRIPT_ALIGNED && event->size <= UINT32_MAX) {
        put(maker, writer, script_word(kind, slot, (uint32_t)event->size));
        return;
    }
    put(maker, writer, script_word(SCRIPT_WIDE, slot, kind | event->alignment_log << 8));
    put(maker, writer, event->size);
}

/* ---- Slots ----------------------------------------------------------------------------------- */

static uint32_t new_slot(struct maker *maker)
{
    if (maker->head->slots == maker->slot_capacity) {
        size_t old = maker->slot_capacity, more = old == 0 ? 4096 : 2 * old;
        maker->slots =
            table_grow(maker->slots, old * sizeof *maker->slots, more * sizeof *maker->slots);
        maker->slot_capacity = more;
    }
    return maker->head->slots++;
}

static uint32_t take_slot(struct maker *maker, struct writer *writer)
{
    uint32_t slot = writer->own_slots;
    if (slot != NONE) {
        writer->own_slots = maker->slots[slot].next;
        writer->own_count--;
        return slot;
    }
    slot = maker->queue_first;
    if (slot == NONE || maker->slots[slot].tick + SCRIPT_DRIFT >= maker->tick)
        return new_slot(maker);
    maker->queue_first = maker->slots[slot].next;
    return slot;
}

static void empty_slot(struct maker *maker, struct writer *writer, uint32_t slot)
{
    if (writer->own_count < OWN_SLOTS_MOST) {
        maker->slots[slot].next = writer->own_slots;
        writer->own_slots = slot;
        writer->own_count++;
        return;
    }
    maker->slots[slot].tick = maker->tick;
    maker->slots[slot].next = NONE;
    if (maker->queue_first == NONE)
        maker->queue_first = slot;
    else
        maker->slots[maker->queue_last].next = slot;
    maker->queue_last = slot;
}

static void note_slot(struct maker *maker, uint32_t block, uint32_t slot)
{
    if (block >= maker->block_capacity) {
        size_t old = maker->block_capacity, more = old == 0 ? 4096 : 2 * old;
        while (more <= block)
            more *= 2;
        maker->slot_of =
            table_grow(maker->slot_of, old * sizeof *maker->slot_of, more * sizeof *maker->slot_of);
        maker->block_capacity = more;
    }
    maker->slot_of[block] = slot;
    maker->slots[slot].filled++;
}

/* ---- Operations ------------------------------------------------------------------------------ */

static void begin_thread(struct maker *maker, struct writer *writer, uint32_t number)
{
    writer->is_begun = true;
    writer->own_slots = NONE;
    take_chunk(maker, writer);
    maker->threads[maker->head->threads++] =
        (struct script_thread){writer->at, maker->tick, number};
}

/* The event's tick, numbered without gaps, and the thread's. */
static void keep_time(struct maker *maker, struct writer *writer, const struct trace_event *event)
{
    if (event->tick != maker->trace_tick && maker->file->operations > 1)
        maker->tick++;
    maker->trace_tick = event->tick;
    bool is_new = !writer->is_begun;
    if (is_new)
        begin_thread(maker, writer, event->thread);
    if (is_new || writer->tick != maker->tick) {
        writer->tick = maker->tick;
        maker->ticks[maker->tick]++;
        make_room(maker, writer);
        put(maker, writer, script_word(SCRIPT_TICK, 0, maker->tick));
    }
}

/* Of a slot that another thread has filled. */
static void put_wait(struct maker *maker, struct writer *writer, uint32_t slot)
{
    uint64_t *filling = &maker->words[maker->slots[slot].word];
    bool is_wide = *filling >> 60 == SCRIPT_WIDE;
    *filling |= is_wide ? SCRIPT_WIDE_AWAITED : (uint64_t)SCRIPT_AWAITED << 60;
    make_room(maker, writer);
    put(maker, writer, script_word(SCRIPT_WAIT, slot, maker->slots[slot].filled));
}

static void put_event(struct maker *maker, struct writer *writer, const struct trace_event *event)
{
    static const unsigned kinds[] = {[TRACE_MALLOC] = SCRIPT_MALLOC,
                                     [TRACE_CALLOC] = SCRIPT_CALLOC,
                                     [TRACE_REALLOC] = SCRIPT_REALLOC,
                                     [TRACE_ALIGNED] = SCRIPT_ALIGNED};
    bool ends_block = event->kind == TRACE_FREE || event->kind == TRACE_REALLOC;
    uint32_t slot;
    if (ends_block) {
        slot = maker->slot_of[event->old];
        maker->live_bytes -= event->was.size;
        if (event->was.thread != event->thread)
            put_wait(maker, writer, slot);
    } else {
        slot = take_slot(maker, writer);
    }
    if (event->kind == TRACE_FREE) {
        make_room(maker, writer);
        put(maker, writer, script_word(SCRIPT_FREE, slot, 0));
        empty_slot(maker, writer, slot);
    } else {
        put_sized(maker, writer, kinds[event->kind], slot, event);
        note_slot(maker, event->block, slot);
        maker->live_bytes += event->size;
    }
    maker->live[maker->tick] = maker->live_bytes;
    if (maker->live_bytes > maker->head->most_live)
        maker->head->most_live = maker->live_bytes;
}

/* One line on a terminal, for long traces. */
static void show_progress(uint64_t operations, bool is_done)
{
    if (operations < PROGRESS_STEP || !isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[K");
    if (!is_done)
        fprintf(stderr, "reading: %llu million operations",
                (unsigned long long)operations / PROGRESS_STEP);
    fflush(stderr);
}

static bool put_all(struct maker *maker)
{
    struct trace_event event;
    while (trace_next(maker->file, &event)) {
        struct writer *writer = &maker->writers[event.thread];
        if (maker->file->operations % PROGRESS_STEP == 0)
            show_progress(maker->file->operations, false);
        keep_time(maker, writer, &event);
        put_event(maker, writer, &event);
        if (maker->head->slots >= SCRIPT_SLOTS_MOST) {
            complain("replay: more blocks live at once than %u", SCRIPT_SLOTS_MOST);
            return false;
        }
    }
    show_progress(maker->file->operations, true);
    for (uint32_t i = 0; i < maker->file->threads; i++) {
        struct writer *writer = &maker->writers[i];
        if (writer->is_begun) {
            make_room(maker, writer);
            put(maker, writer, script_word(SCRIPT_END, 0, 0));
        }
    }
    return maker->file->error[0] == '\0';
}

/* ---- The whole ------------------------------------------------------------------------------- */

/* An operation is a byte at least and two words and a tick at most, and a thread leaves one chunk
 * unfinished: that is how large each part can become. What is not used takes no memory. */
static size_t lay_out(struct script_head *head, const struct trace_file *file)
{
    size_t at = round_up(sizeof *head, 4096);
    size_t operations = file->size + 1;
    head->thread_offset = at;
    at = round_up(at + file->threads * sizeof(struct script_thread), 4096);
    head->tick_offset = at;
    at = round_up(at + operations * sizeof(uint32_t), 4096);
    head->live_offset = at;
    at = round_up(at + operations * sizeof(uint64_t), 4096);
    head->word_offset = at;
    return at + (5 * operations + (size_t)file->threads * CHUNK_WORDS + CHUNK_WORDS) * 8;
}

static bool fill(struct maker *maker, int descriptor)
{
    struct script_head head = {0};
    size_t size = lay_out(&head, maker->file);
    void *base = ftruncate(descriptor, (off_t)size) != 0
                     ? MAP_FAILED
                     : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (base == MAP_FAILED) {
        complain("replay: no memory for the script: %s", strerror(errno));
        return false;
    }
    maker->head = base;
    *maker->head = head;
    maker->threads = (struct script_thread *)script_threads(base);
    maker->ticks = script_ticks(base);
    maker->live = (uint64_t *)script_live(base);
    maker->words = (uint64_t *)script_words(base);
    maker->queue_first = NONE;
    bool done = put_all(maker);
    maker->head->operations = maker->file->operations;
    maker->head->recorded_us = maker->file->time_us;
    maker->head->ticks = maker->tick + 1;
    maker->head->size =
        maker->head->word_offset + (maker->next_word + SCRIPT_AHEAD) * sizeof(uint64_t);
    done = ftruncate(descriptor, (off_t)maker->head->size) == 0 && done;
    munmap(base, size);
    return done;
}

int script_make(struct trace_file *file)
{
    struct maker maker = {.file = file};
    int descriptor = memfd_create("ebb-replay", 0);
    if (descriptor < 0) {
        complain("replay: no memory for the script: %s", strerror(errno));
        return -1;
    }
    size_t writer_bytes = (file->threads + 1) * sizeof *maker.writers;
    maker.writers = table_map(writer_bytes);
    bool done = fill(&maker, descriptor);
    table_unmap(maker.writers, writer_bytes);
    table_unmap(maker.slots, maker.slot_capacity * sizeof *maker.slots);
    table_unmap(maker.slot_of, maker.block_capacity * sizeof *maker.slot_of);
    if (done)
        return descriptor;
    close(descriptor);
    return -1;
}

/* Only the counts in the ticks are written by a run: they are copied, the rest is shared. */
struct script_head *script_map(int descriptor)
{
    struct stat status;
    void *base = MAP_FAILED;
    if (fstat(descriptor, &status) == 0)
        base = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (base == MAP_FAILED) {
        complain("replay: mapping the script: %s", strerror(errno));
        return NULL;
    }
    return base;
}
