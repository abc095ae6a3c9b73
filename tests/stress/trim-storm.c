/* trim-storm: malloc_trim(0), mallinfo2 and malloc_stats in a tight loop disturb nobody: the data
 * of four busy threads stays intact, and none of them stands still for longer than two seconds. */
#define _GNU_SOURCE
#include "load.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <unistd.h>

#include "older.h"

#define WORKERS 4
#define SECONDS 8
#define STANDSTILL_SECONDS 2.0

static struct load load = {
    .workers = WORKERS,
    .live_limit = 128 * MiB,
    .largest = 8 * MiB,
    .large_odds = 128,
};
static atomic_bool stop;
static uint64_t trims, looks;

static void *work(void *argument)
{
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        load_step(argument);
    return NULL;
}

/* mallinfo2 is newer than some C libraries; where it is missing the trims alone make the storm. */
extern struct mallinfo2 mallinfo2(void) __attribute__((weak));

static void *storm(void *argument)
{
    (void)argument;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        malloc_trim(0);
        trims++;
        if (trims % 4 != 0)
            continue;
        if (mallinfo2 != NULL) {
            struct mallinfo2 info = mallinfo2();
            if (!stress_any_malloc && info.uordblks == 0)
                fail("mallinfo2 counts no live byte while four threads hold blocks");
        }
        malloc_stats();
        looks++;
    }
    return NULL;
}

/* malloc_stats writes to stderr: away with it, but the test's own messages must come through. */
static int silence_stderr(void)
{
    int kept = dup(STDERR_FILENO);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (kept < 0 || null < 0 || dup2(null, STDERR_FILENO) < 0)
        fail("stderr cannot be redirected");
    close(null);
    return kept;
}

/* The longest time that any worker made no step, in seconds, watched until end. */
static double watch(double end)
{
    uint64_t seen[WORKERS] = {0};
    double since[WORKERS], longest = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        since[i] = now_seconds();
    while (now_seconds() < end) {
        sleep_seconds(0.01);
        for (unsigned i = 0; i < WORKERS; i++) {
            uint64_t steps = atomic_load(&load.worker[i].steps);
            double now = now_seconds();
            if (now - since[i] > longest)
                longest = now - since[i];
            if (steps != seen[i]) {
                since[i] = now;
                seen[i] = steps;
            }
        }
    }
    return longest;
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "trim-storm", 120);
    load_init(&load);
    /* A lasting block, so that mallinfo2 has something to count at any time. */
    load_allocate(&load.worker[0], 1000);
    int stderr_copy = silence_stderr();
    fail_descriptor = stderr_copy;
    pthread_t threads[WORKERS + 1];
    for (unsigned i = 0; i < WORKERS; i++)
        if (pthread_create(&threads[i], NULL, work, &load.worker[i]) != 0)
            fail("pthread_create");
    if (pthread_create(&threads[WORKERS], NULL, storm, NULL) != 0)
        fail("pthread_create");
    double longest = watch(now_seconds() + scaled_seconds(SECONDS));
    atomic_store(&stop, true);
    for (unsigned i = 0; i <= WORKERS; i++)
        pthread_join(threads[i], NULL);
    report("%" PRIu64 " trims, %" PRIu64 " looks; longest standstill of a worker %.3f s", trims,
           looks, longest);
    if (trims < 20 || looks < 5)
        fail("too few trims (%" PRIu64 ") or looks (%" PRIu64 ") to show anything", trims, looks);
    if (longest > STANDSTILL_SECONDS)
        fail("a worker stood still for %.3f s, more than %g s", longest, STANDSTILL_SECONDS);
    load_end(&load);
    return 0;
}
