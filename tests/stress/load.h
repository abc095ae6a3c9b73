/* load.h: the pattern load: workers that allocate by every call, fill blocks to their last usable
 * byte, hand them to each other, and verify every byte before realloc and free.
 *
 *   load ── worker (one per thread) ── slots: the blocks it holds now
 *                                   └─ queue: blocks that others passed to it
 *
 * A worker is used by its own thread alone, but for its queue, which has a mutex.
 */
#ifndef EBB_TESTS_STRESS_LOAD_H
#define EBB_TESTS_STRESS_LOAD_H

#include "support.h"

#include <pthread.h>
#include <stdatomic.h>

#define LOAD_WORKERS_MOST 16
#define WORKER_SLOTS 256
#define QUEUE_CAPACITY 64

struct block {
    unsigned char *start;
    size_t requested; /* bytes asked for: what realloc has to keep */
    size_t usable;    /* bytes filled: malloc_usable_size, at least requested */
    uint64_t serial;
    uint64_t tag; /* of the pattern: from all of the above */
    unsigned maker;
};

enum call {
    CALL_MALLOC,
    CALL_CALLOC,
    CALL_REALLOC_NULL,
    CALL_ALIGNED_ALLOC,
    CALL_POSIX_MEMALIGN,
    CALL_MEMALIGN,
    CALL_REALLOC,
    CALL_FREE,
    CALL_FREE_OF_ANOTHER, /* made by another thread */
    CALL_COUNT
};

struct queue {
    pthread_mutex_t mutex;
    struct block ring[QUEUE_CAPACITY];
    size_t first, count;
};

struct worker {
    struct load *load;
    unsigned number;
    struct rng rng;
    uint64_t serial;
    struct block slots[WORKER_SLOTS];
    struct queue queue;
    _Atomic uint64_t calls[CALL_COUNT]; /* written by the worker, read by anyone */
    _Atomic uint64_t steps;
};

struct load {
    unsigned workers;
    size_t live_limit;   /* bytes, of all blocks together */
    size_t largest;      /* bytes, of one block */
    unsigned large_odds; /* one allocation in so many is up to largest; the rest to 16 KiB */
    _Atomic size_t live;
    struct worker worker[LOAD_WORKERS_MOST];
};

/* Static memory is zero: the caller sets workers … large_odds, then calls this. */
void load_init(struct load *load);

/* One random step of a worker: allocate, reallocate, pass on, take over or free. */
void load_step(struct worker *worker);

/* Allocates one block of just this size now. */
void load_allocate(struct worker *worker, size_t size);

/* After all threads ended: verifies and frees all blocks, and fails the test unless every kind of
 * call was made. Prints the counts. */
void load_end(struct load *load);

/* True while this thread is inside a call of malloc and its family made by a load. A handler of a
 * signal may allocate only while it is false. */
extern _Thread_local volatile sig_atomic_t load_in_malloc;
void load_enter_malloc(void);
void load_leave_malloc(void);

#endif
