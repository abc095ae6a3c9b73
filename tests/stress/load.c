#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

_Thread_local volatile sig_atomic_t load_in_malloc;

/* The fences keep the compiler from moving the call, which it knows, across the flag. */
void load_enter_malloc(void)
{
    load_in_malloc = 1;
    atomic_signal_fence(memory_order_seq_cst);
}

void load_leave_malloc(void)
{
    atomic_signal_fence(memory_order_seq_cst);
    load_in_malloc = 0;
}

static const char *const call_names[CALL_COUNT] = {
    "malloc",   "calloc",  "realloc(NULL)", "aligned_alloc",     "posix_memalign",
    "memalign", "realloc", "free",          "free of another's",
};

void load_init(struct load *load)
{
    if (load->workers > LOAD_WORKERS_MOST)
        fail("%u workers: the test is wrong", load->workers);
    for (unsigned i = 0; i < load->workers; i++) {
        struct worker *worker = &load->worker[i];
        worker->load = load;
        worker->number = i;
        worker->rng = rng_stream(i);
        pthread_mutex_init(&worker->queue.mutex, NULL);
    }
}

/* Only the worker itself writes its counters: no read-modify-write is needed. */
static void count(_Atomic uint64_t *counter)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + 1, memory_order_relaxed);
}

/* ---- one block ------------------------------------------------------------------------------ */

static uint64_t block_tag(const struct block *block)
{
    return mix((uint64_t)(uintptr_t)block->start ^ mix(block->usable) ^
               mix(block->serial * LOAD_WORKERS_MOST + block->maker + 1));
}

static void block_fail(const struct worker *worker, const struct block *block, size_t offset,
                       unsigned expected, const char *when)
{
    fail("thread %u, %s: block %p of %zu bytes (%zu usable), serial %" PRIu64
         " made by thread %u: byte at offset %zu is %#x, expected %#x",
         worker->number, when, (void *)block->start, block->requested, block->usable, block->serial,
         block->maker, offset, block->start[offset], expected);
}

static void block_verify(const struct worker *worker, const struct block *block, const char *when)
{
    size_t bad = pattern_check(block->start, block->usable, block->tag);
    if (bad != PATTERN_GOOD)
        block_fail(worker, block, bad, pattern_byte(bad, block->tag), when);
}

/* Takes what an allocation call returned into the books: alignment, usable size, new pattern. */
static void block_adopt(struct worker *worker, struct block *block, enum call call,
                        size_t alignment)
{
    if ((uintptr_t)block->start % alignment != 0)
        fail("thread %u: %s of %zu bytes = %p is not aligned to %zu", worker->number,
             call_names[call], block->requested, (void *)block->start, alignment);
    block->usable = malloc_usable_size(block->start);
    if (block->usable < block->requested)
        fail("thread %u: malloc_usable_size(%p) = %zu after %s of %zu bytes", worker->number,
             (void *)block->start, block->usable, call_names[call], block->requested);
    block->serial = worker->serial++;
    block->maker = worker->number;
    block->tag = block_tag(block);
    pattern_fill(block->start, block->usable, block->tag);
    count(&worker->calls[call]);
}

static void block_free(struct worker *worker, struct block *block)
{
    block_verify(worker, block, "before free");
    count(&worker->calls[block->maker == worker->number ? CALL_FREE : CALL_FREE_OF_ANOTHER]);
    atomic_fetch_sub_explicit(&worker->load->live, block->requested, memory_order_relaxed);
    int before = errno;
    load_enter_malloc();
    free(block->start);
    load_leave_malloc();
    if (errno != before)
        fail("thread %u: free(%p) changed errno from %d to %d", worker->number,
             (void *)block->start, before, errno);
    block->start = NULL;
}

/* ---- allocation ------------------------------------------------------------------------------ */

static bool reserve_live(struct load *load, size_t size)
{
    size_t live = atomic_fetch_add_explicit(&load->live, size, memory_order_relaxed);
    if (live + size <= load->live_limit)
        return true;
    atomic_fetch_sub_explicit(&load->live, size, memory_order_relaxed);
    return false;
}

static size_t pick_size(struct worker *worker)
{
    struct load *load = worker->load;
    if (rng_below(&worker->rng, load->large_odds) == 0)
        return rng_size(&worker->rng, 1, load->largest);
    return rng_size(&worker->rng, 1, 16 * KiB - 1);
}

static void *make_call(enum call call, size_t alignment, size_t size)
{
    void *result = NULL;
    switch (call) {
    case CALL_MALLOC:
        return malloc(size);
    case CALL_CALLOC:
        return size % 4 == 0 ? calloc(size / 4, 4) : calloc(1, size);
    case CALL_REALLOC_NULL:
        return realloc(NULL, size);
    case CALL_ALIGNED_ALLOC:
        return aligned_alloc(alignment, size);
    case CALL_POSIX_MEMALIGN:
        errno = posix_memalign(&result, alignment, size);
        return result;
    default:
        return memalign(alignment, size);
    }
}

/* Most aligned blocks want a cache line or an OS page; a few want up to 4 MiB. */
static size_t pick_alignment(struct worker *worker)
{
    unsigned most = rng_below(&worker->rng, 64) == 0 ? 22 : 12;
    return (size_t)1 << (3 + rng_below(&worker->rng, most - 2));
}

static void allocate(struct worker *worker, struct block *block, enum call call, size_t size)
{
    size_t alignment = malloc_alignment(size);
    if (call >= CALL_ALIGNED_ALLOC)
        alignment = pick_alignment(worker);
    load_enter_malloc();
    block->start = make_call(call, alignment, size);
    load_leave_malloc();
    if (block->start == NULL)
        fail("thread %u: %s of %zu bytes, alignment %zu, returned NULL with errno %d",
             worker->number, call_names[call], size, alignment, errno);
    block->requested = block->usable = size;
    if (call == CALL_CALLOC) {
        size_t bad = zero_check(block->start, size);
        if (bad != PATTERN_GOOD)
            block_fail(worker, block, bad, 0, "after calloc");
    }
    block_adopt(worker, block, call, alignment);
}

static size_t pick_new_size(struct worker *worker, size_t size)
{
    switch (rng_below(&worker->rng, 4)) {
    case 0:
        return 1 + rng_below(&worker->rng, size);
    case 1:
        return size + rng_below(&worker->rng, size / 4 + 64);
    case 2:
        return size * 2;
    default:
        return pick_size(worker);
    }
}

static void reallocate(struct worker *worker, struct block *block)
{
    struct load *load = worker->load;
    struct block old = *block;
    uintptr_t old_address = (uintptr_t)old.start; /* for messages: old.start dies in realloc */
    size_t size = pick_new_size(worker, old.requested);
    if (size > load->largest || !reserve_live(load, size))
        return;
    block_verify(worker, &old, "before realloc");
    load_enter_malloc();
    block->start = realloc(old.start, size);
    load_leave_malloc();
    if (block->start == NULL)
        fail("thread %u: realloc(%#jx, %zu) of %zu bytes returned NULL with errno %d",
             worker->number, (uintmax_t)old_address, size, old.requested, errno);
    size_t kept = old.requested < size ? old.requested : size;
    size_t bad = pattern_check(block->start, kept, old.tag);
    if (bad != PATTERN_GOOD)
        fail("thread %u: realloc(%#jx, %zu) of %zu bytes = %p: byte at offset %zu is %#x, was %#x",
             worker->number, (uintmax_t)old_address, size, old.requested, (void *)block->start, bad,
             block->start[bad], pattern_byte(bad, old.tag));
    atomic_fetch_sub_explicit(&load->live, old.requested, memory_order_relaxed);
    block->requested = size;
    block_adopt(worker, block, CALL_REALLOC, malloc_alignment(size));
}

void load_allocate(struct worker *worker, size_t size)
{
    struct block *block = &worker->slots[rng_below(&worker->rng, WORKER_SLOTS)];
    if (block->start != NULL)
        block_free(worker, block);
    if (!reserve_live(worker->load, size))
        return;
    allocate(worker, block, CALL_MALLOC, size);
}

/* ---- passing on ------------------------------------------------------------------------------ */

static bool queue_put(struct queue *queue, const struct block *block)
{
    pthread_mutex_lock(&queue->mutex);
    bool room = queue->count < QUEUE_CAPACITY;
    if (room)
        queue->ring[(queue->first + queue->count++) % QUEUE_CAPACITY] = *block;
    pthread_mutex_unlock(&queue->mutex);
    return room;
}

static bool queue_take(struct queue *queue, struct block *block)
{
    pthread_mutex_lock(&queue->mutex);
    bool found = queue->count > 0;
    if (found) {
        *block = queue->ring[queue->first];
        queue->first = (queue->first + 1) % QUEUE_CAPACITY;
        queue->count--;
    }
    pthread_mutex_unlock(&queue->mutex);
    return found;
}

static void pass_on(struct worker *worker, struct block *block)
{
    unsigned to = (unsigned)rng_below(&worker->rng, worker->load->workers);
    if (queue_put(&worker->load->worker[to].queue, block))
        block->start = NULL;
}

/* ---- the load -------------------------------------------------------------------------------- */

static void step_with_block(struct worker *worker, struct block *block)
{
    uint64_t choice = rng_below(&worker->rng, 8);
    if (choice < 3)
        block_free(worker, block);
    else if (choice < 5)
        reallocate(worker, block);
    else
        pass_on(worker, block);
}

void load_step(struct worker *worker)
{
    struct block *block = &worker->slots[rng_below(&worker->rng, WORKER_SLOTS)];
    if (block->start != NULL) {
        step_with_block(worker, block);
    } else if (rng_below(&worker->rng, 2) != 0 || !queue_take(&worker->queue, block)) {
        size_t size = pick_size(worker);
        enum call call = rng_below(&worker->rng, CALL_REALLOC);
        if (reserve_live(worker->load, size))
            allocate(worker, block, call, size);
    }
    count(&worker->steps);
}

static void worker_drain(struct worker *worker)
{
    struct block block;
    while (queue_take(&worker->queue, &block))
        block_free(worker, &block);
    for (unsigned i = 0; i < WORKER_SLOTS; i++)
        if (worker->slots[i].start != NULL)
            block_free(worker, &worker->slots[i]);
}

void load_end(struct load *load)
{
    uint64_t calls[CALL_COUNT] = {0};
    for (unsigned i = 0; i < load->workers; i++) {
        struct worker *worker = &load->worker[i];
        worker_drain(worker);
        for (unsigned call = 0; call < CALL_COUNT; call++)
            calls[call] += atomic_load(&worker->calls[call]);
    }
    if (atomic_load(&load->live) != 0)
        fail("%zu bytes are still in the test's own books: the test is wrong", load->live);
    for (unsigned call = 0; call < CALL_COUNT; call++) {
        if (calls[call] == 0)
            fail("no %s was made: the run was too short to show anything", call_names[call]);
        report("%10" PRIu64 " %s", calls[call], call_names[call]);
    }
}
