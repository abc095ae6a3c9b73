/* survives: what is live stays as it is, however often it is swept around. Threads work in bursts
 * and sleep for 50 to 400 ms, so that each cache is taken over, emptied and given back again and
 * again, while others are in the middle of their work; blocks pass from thread to thread; and every
 * byte is verified. Two threads live on their caches alone: to a sweep they look quiet, though they
 * never pause, and so are taken over in the middle of malloc and free. With a delay of 12 ms there
 * are thousands of sweeps.
 */
#define _GNU_SOURCE
#include "support.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORKERS 12
#define HAMMERS 2
#define HAMMER_BLOCKS 6
#define SLOTS 3000
#define SECONDS 8
#define SWEEPS_LEAST 800

static struct parcel *_Atomic slots[SLOTS];
static double end;
static _Atomic uint64_t exchanges, bursts;

static void exchange(struct rng *rng, unsigned thread)
{
    size_t most = rng_below(rng, 100) == 0 ? 2 * MiB : 4 * KiB;
    struct parcel *made = NULL;
    if (rng_below(rng, 3) != 0)
        made = parcel_make(rng_size(rng, PARCEL_LEAST, most), thread);
    struct parcel *other = atomic_exchange(&slots[rng_below(rng, SLOTS)], made);
    if (other != NULL)
        parcel_end(other, thread, "taken out");
    atomic_fetch_add_explicit(&exchanges, 1, memory_order_relaxed);
}

static void *work_in_bursts(void *number)
{
    unsigned thread = (unsigned)(uintptr_t)number;
    struct rng rng = rng_stream(thread);
    while (now_seconds() < end) {
        uint64_t length = 1 + rng_below(&rng, 1 + rng_below(&rng, 20000));
        for (uint64_t i = 0; i < length; i++)
            exchange(&rng, thread);
        bursts++;
        sleep_seconds(0.05 + 0.35 * (double)rng_below(&rng, 1000) / 1000);
    }
    return NULL;
}

/* A few blocks of a few sizes: no more than the least that a cache holds. Two that were handed out
 * twice would have each other's words. */
static void *hammer(void *number)
{
    uint64_t tag = (uint64_t)(uintptr_t)number << 56;
    for (uint64_t round = 0; round % 1024 != 0 || now_seconds() < end; round++) {
        uint64_t *blocks[HAMMER_BLOCKS];
        for (unsigned i = 0; i < HAMMER_BLOCKS; i++) {
            size_t words = 2 << round % 3;
            blocks[i] = malloc(words * sizeof **blocks);
            blocks[i][0] = blocks[i][words - 1] = ++tag;
        }
        for (unsigned i = 0; i < HAMMER_BLOCKS; i++) {
            uint64_t expected = tag - HAMMER_BLOCKS + 1 + i;
            size_t words = 2 << round % 3;
            if (blocks[i][0] != expected || blocks[i][words - 1] != expected)
                fail("a block of %zu bytes: %#" PRIx64 " and %#" PRIx64 ", expected %#" PRIx64,
                     words * sizeof **blocks, blocks[i][0], blocks[i][words - 1], expected);
            free(blocks[i]);
        }
    }
    return NULL;
}

/* As the library counts them: how much was tried, not how well it went. */
static uint64_t count_sweeps(void)
{
    char text[4096] = "";
    FILE *stream = fmemopen(text, sizeof text - 1, "w");
    malloc_info(0, stream);
    fclose(stream);
    const char *found = strstr(text, "sweeps=\"");
    return found == NULL ? 0 : strtoull(found + strlen("sweeps=\""), NULL, 10);
}

int main(int argc, char **argv)
{
    if (getenv("EBBMALLOC_PURGE_DELAY") == NULL) {
        setenv("EBBMALLOC_PURGE_DELAY", "12", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    stress_begin(argc, argv, "survives", 60);
    end = now_seconds() + scaled_seconds(SECONDS);
    pthread_t threads[WORKERS + HAMMERS];
    for (uintptr_t i = 0; i < WORKERS + HAMMERS; i++)
        if (pthread_create(&threads[i], NULL, i < WORKERS ? work_in_bursts : hammer, (void *)i) !=
            0)
            fail("pthread_create");
    for (unsigned i = 0; i < WORKERS + HAMMERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < SLOTS; i++)
        if (slots[i] != NULL)
            parcel_end(slots[i], 0, "left at the end");
    uint64_t sweeps = count_sweeps();
    report("%" PRIu64 " exchanges in %" PRIu64 " bursts, %" PRIu64 " sweeps", exchanges, bursts,
           sweeps);
    if (bursts < scaled(100) || exchanges < scaled(10000))
        fail("too little work to show anything");
    if (sweeps < scaled(SWEEPS_LEAST))
        promise_broken("too few sweeps to show anything");
    return 0;
}
