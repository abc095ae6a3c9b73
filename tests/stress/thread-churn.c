/* thread-churn: a thread leaves nothing behind. Tens of thousands of threads, hundreds at once,
 * each allocate, free some of it, leave the rest to others, and allocate again in the destructor of
 * a thread-specific key. At the end, all freed and trimmed, resident memory is what it was before
 * but for a small sum per thread that was alive at once, and the address space stopped growing long
 * ago.
 *
 * The threads' stacks are the test's own, mapped once: glibc's stack cache would blur the figures.
 */
#define _GNU_SOURCE
#include "support.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define AT_ONCE 256
#define THREADS 40960
#define STACK_BYTES (128 * KiB) /* the least on aarch64 */
#define BLOCKS 48               /* per thread */
#define SHARED 4096

/* What may stay resident after the end for each thread that was alive at once: the records of its
 * arena, which the next thread adopts. Measured against what the program itself keeps: nothing. */
#define RESIDENT_PER_THREAD (48 * KiB)
#define RESIDENT_BOUND (AT_ONCE * RESIDENT_PER_THREAD)
/* The address space may differ by two chunks of the allocator between the first tenth of the
 * threads and the last: chance, not a sum per thread. */
#define ADDRESS_BOUND (64 * MiB)

static _Atomic(struct parcel *) shared[SHARED];
static pthread_barrier_t all_alive;
static bool meet; /* in this batch all threads hold their blocks at once */
static pthread_key_t key;
static _Atomic uint64_t destructors, blocks_made;
static unsigned char *stacks;

/* Runs after the thread's function returned; re-arms itself once with a new block. */
static void last_words(void *value)
{
    struct parcel *parcel = value;
    bool again = parcel->size == 100;
    parcel_end(parcel, parcel->maker, "in a destructor");
    if (again)
        pthread_setspecific(key, parcel_make(101, 0));
    atomic_fetch_add_explicit(&destructors, 1, memory_order_relaxed);
}

static void leave_to_others(struct parcel *parcel, struct rng *rng, unsigned thread)
{
    struct parcel *old = atomic_exchange(&shared[rng_below(rng, SHARED)], parcel);
    if (old != NULL)
        parcel_end(old, thread, "left by another thread");
}

static void *live(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;
    struct rng rng = rng_stream(thread);
    struct parcel *mine[BLOCKS];
    pthread_setspecific(key, parcel_make(100, thread));
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t most = rng_below(&rng, 64) == 0 ? 128 * KiB : 2 * KiB;
        mine[i] = parcel_make(rng_size(&rng, PARCEL_LEAST, most), thread);
    }
    if (meet)
        pthread_barrier_wait(&all_alive);
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (i % 4 == 0)
            leave_to_others(mine[i], &rng, thread);
        else
            parcel_end(mine[i], thread, "own block");
    }
    atomic_fetch_add_explicit(&blocks_made, BLOCKS, memory_order_relaxed);
    return NULL;
}

static void start_thread(pthread_t *thread, unsigned slot, uintptr_t number)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, stacks + slot * STACK_BYTES, STACK_BYTES) != 0)
        fail("pthread_attr_setstack");
    int error = pthread_create(thread, &attributes, live, (void *)number);
    if (error != 0)
        fail("pthread_create of thread %zu: %s", (size_t)number, strerror(error));
    pthread_attr_destroy(&attributes);
}

/* Every second batch meets in the middle, so all of its threads are alive with all their blocks; in
 * the others they come and go, as in a server that starts a thread per request. */
static void run_batch(unsigned batch)
{
    pthread_t threads[AT_ONCE];
    meet = batch % 2 == 0;
    for (unsigned i = 0; i < AT_ONCE; i++)
        start_thread(&threads[i], i, (uintptr_t)batch * AT_ONCE + i);
    for (unsigned i = 0; i < AT_ONCE; i++)
        pthread_join(threads[i], NULL);
}

static void free_shared(void)
{
    for (unsigned i = 0; i < SHARED; i++) {
        struct parcel *parcel = atomic_exchange(&shared[i], NULL);
        if (parcel != NULL)
            parcel_end(parcel, 0, "at the end");
    }
}

/* The pages of the stacks are the test's own and leave the reckoning. */
static size_t resident_without_stacks(void)
{
    if (madvise(stacks, AT_ONCE * STACK_BYTES, MADV_DONTNEED) != 0)
        fail("madvise of the stacks");
    return resident_bytes();
}

static double mib(size_t bytes)
{
    return (double)bytes / (double)MiB;
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "thread-churn", 150);
    stacks = mmap(NULL, AT_ONCE * STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1, 0);
    if (stacks == MAP_FAILED)
        fail("no memory for stacks");
    pthread_key_create(&key, last_words);
    pthread_barrier_init(&all_alive, NULL, AT_ONCE);

    unsigned batches = (unsigned)(scaled(THREADS) / AT_ONCE);
    batches = batches < 10 ? 10 : batches;
    size_t start = resident_without_stacks();
    size_t address_early = 0;
    for (unsigned batch = 0; batch < batches; batch++) {
        run_batch(batch);
        if (batch == batches / 10)
            address_early = address_bytes();
    }
    size_t address_late = address_bytes();
    free_shared();
    malloc_trim(0);
    size_t end = resident_without_stacks();

    size_t over = end > start ? end - start : 0;
    size_t growth = address_late > address_early ? address_late - address_early : 0;
    uint64_t threads = (uint64_t)batches * AT_ONCE;
    report("%" PRIu64 " threads, %u at once, %" PRIu64 " blocks", threads, AT_ONCE, blocks_made);
    report("resident after malloc_trim(0): %.1f MiB over the start's %.1f MiB, bound %.1f MiB",
           mib(over), mib(start), mib(RESIDENT_BOUND));
    report("address space: %.0f MiB after a tenth of the threads, grew by %.0f MiB, bound %.0f MiB",
           mib(address_early), mib(growth), mib(ADDRESS_BOUND));
    if (destructors != 2 * threads)
        fail("%" PRIu64 " destructors ran for %" PRIu64 " threads, expected two each", destructors,
             threads);
    if (over > RESIDENT_BOUND)
        promise_broken("resident memory is %zu bytes over the start, bound %zu", over,
                       RESIDENT_BOUND);
    if (growth > ADDRESS_BOUND)
        promise_broken("the address space grew by %zu bytes, bound %zu", growth, ADDRESS_BOUND);
    return 0;
}
