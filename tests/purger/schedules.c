/* schedules: what EBBMALLOC_PURGE_SCHEDULE promises: `periodic` trims every so often, busy threads
 * too, and does nothing between; `immediate` gives pages back in the call that frees them; `manual`
 * leaves it all to malloc_trim. And without a thread (EBBMALLOC_BACKGROUND_THREAD=off) the slow
 * paths of any thread do what it would have done.
 */
#define _GNU_SOURCE
#include "support.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct load load = {.bytes = 64 * MiB, .least = 16, .most = 4 * KiB};

static size_t measure_start(void)
{
    touch_stack();
    load_prepare(&load);
    return resident_bytes();
}

static size_t over(size_t start)
{
    size_t resident = resident_bytes();
    return resident > start ? resident - start : 0;
}

/* What a slow path is, always: a run of pages comes and goes. */
static void call_slow_path(void)
{
    /* More than a thread's cache holds of them. */
    void *blocks[20];
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        blocks[i] = malloc(100 * KiB);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
}

/* ---- periodic: from one trim to the next ------------------------------------------------------
 */

#define PERIOD "300"
#define PERIOD_SECONDS 0.3

/* On a full machine a trim may be late. */
#define LATE_SECONDS 0.4

/* When so much of memory is gone, a trim has been there, or is there. */
#define FALLEN (8 * MiB)

/* Looks on until the next trim; returns when that was. Calls nothing. */
static double wait_for_trim(size_t start)
{
    double end = now_seconds() + PERIOD_SECONDS + LATE_SECONDS;
    while (over(start) > FALLEN) {
        if (now_seconds() > end)
            promise_broken("periodic: %zu KiB are still there %g s after the last trim",
                           over(start) / KiB, PERIOD_SECONDS + LATE_SECONDS);
        sleep_seconds(0.002);
    }
    return now_seconds();
}

/* What is freed right after a trim stays until the next one, all of it. On other schedules it would
 * go sooner, in parts. */
static void period(void)
{
    enum { TRIMS = 7 };
    double gaps[TRIMS];
    size_t start = measure_start();
    rise_and_fall(64 * MiB);
    double last = wait_for_trim(start);
    for (int i = 0; i < TRIMS; i++) {
        rise_and_fall(64 * MiB);
        size_t peak = over(start);
        if (peak < 48 * MiB)
            fail("periodic: only %zu KiB are there after the load", peak / KiB);
        double trim = wait_for_trim(start);
        gaps[i] = trim - last;
        last = trim;
    }
    double gap = median(gaps, TRIMS);
    report("periodic: from trim to trim %.0f ms (the median; least %.0f, most %.0f)", gap * 1000,
           gaps[0] * 1000, gaps[TRIMS - 1] * 1000);
    if (gap < PERIOD_SECONDS * 0.8)
        promise_broken("periodic: a trim after %.0f ms already", gap * 1000);
}

/* Blocks of one size, so many that no cache holds them: each round has slow paths, and what the
 * thread's cache holds of other sizes is left alone. */
#define BUSY_BLOCKS 64
#define BUSY_SIZE (64 * KiB)

static _Atomic bool stop;
static pthread_barrier_t meeting;

/* Bins that run dry and over by turns grow, and keep what they hold. */
static void fill_bins(void)
{
    static void *blocks[1000];
    const size_t count = sizeof blocks / sizeof *blocks;
    for (int turn = 0; turn < 50; turn++) {
        for (size_t i = 0; i < count; i++)
            blocks[i] = malloc(200 + i % 40 * 100);
        for (size_t i = 0; i < count; i++)
            free(blocks[i]);
    }
}

static void *fill_cache_and_stay_busy(void *unused)
{
    static void *blocks[BUSY_BLOCKS];
    struct load own = {.bytes = 64 * MiB, .least = 200, .most = 8 * KiB};
    load_prepare(&own);
    load_rise(&own, 3);
    load_fall_but(&own, 2); /* who has much out may keep more */
    fill_bins();
    pthread_barrier_wait(&meeting);
    while (!stop) {
        for (int i = 0; i < BUSY_BLOCKS; i++)
            blocks[i] = malloc(BUSY_SIZE);
        for (int i = 0; i < BUSY_BLOCKS; i++)
            free(blocks[i]);
    }
    return unused;
}

/* Cached bytes of a thread that is busy with blocks of one size: before, and SECONDS later. */
#define SECONDS 1.0

static void measure_busy_cache(uint64_t *before, uint64_t *after)
{
    pthread_t thread;
    pthread_barrier_init(&meeting, NULL, 2);
    if (pthread_create(&thread, NULL, fill_cache_and_stay_busy, NULL) != 0)
        fail("pthread_create");
    pthread_barrier_wait(&meeting);
    *before = books_number("free", "cached");
    sleep_seconds(SECONDS);
    *after = books_number("free", "cached");
    stop = true;
    pthread_join(thread, NULL);
    report("%s: %zu KiB in caches, %zu after %g s in a busy thread",
           getenv("EBBMALLOC_PURGE_SCHEDULE"), (size_t)*before / KiB, (size_t)*after / KiB,
           SECONDS);
    if (*before < 512 * KiB)
        fail("the load left nothing to speak of in the cache");
}

/* What the thread is busy with stays, in its cache: a few blocks. */
#define BUSY_CACHE (512 * KiB)

static void busy_trimmed(void)
{
    uint64_t before, after;
    measure_busy_cache(&before, &after);
    if (after > BUSY_CACHE)
        promise_broken("periodic: a busy thread keeps %zu KiB in its cache", (size_t)after / KiB);
}

/* Shows that the thread is busy enough for the schedule idle to leave it alone. */
static void busy_left_alone(void)
{
    uint64_t before, after;
    measure_busy_cache(&before, &after);
    if (after < before / 2)
        fail("the thread is not busy: the schedule idle takes its cache, too");
}

/* ---- immediate: when the call returns ---------------------------------------------------------
 */

#define EACH (1 * MiB)

static void one_by_one(void)
{
    enum { BLOCKS = 32 };
    char *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        if ((blocks[i] = malloc(EACH)) == NULL)
            fail("malloc");
        memset(blocks[i], 1, EACH);
    }
    for (int i = 0; i < BLOCKS; i++) {
        size_t before = resident_bytes();
        free(blocks[i]);
        size_t after = resident_bytes();
        if (after + EACH / 8 * 7 > before)
            promise_broken("immediate: free of 1 MiB, block %d: %zu KiB before, %zu after", i,
                           before / KiB, after / KiB);
    }
}

static void require_gone(const char *what, size_t start, size_t peak, size_t allowed)
{
    size_t stays = over(start);
    report("immediate: %s: %zu KiB over the start, %zu right after", what, peak / KiB, stays / KiB);
    if (peak < 48 * MiB)
        fail("%s: the load did not rise", what);
    if (stays > allowed)
        promise_broken("immediate: %s: %zu KiB stay, allowed are %zu", what, stays / KiB,
                       allowed / KiB);
}

/* What a thread's cache may hold. */
#define CACHE_MOST (4 * MiB)

static void at_once(void)
{
    size_t start = measure_start();
    char *block = malloc(64 * MiB);
    if (block == NULL)
        fail("malloc");
    memset(block, 1, 64 * MiB);
    size_t peak = over(start);
    free(block);
    require_gone("a huge block", start, peak, MAY_STAY(peak));

    one_by_one();

    load_rise(&load, 4);
    peak = over(start);
    load_fall(&load);
    require_gone("spans of small blocks", start, peak, MAY_STAY(peak) + CACHE_MOST);
    require_fall("immediate: caches", start, start + peak);
}

/* ---- manual: when the program says so ---------------------------------------------------------
 */

#define MANUAL_SECONDS 3.0

/* So much may go without anyone's giving it back: the test's own. */
#define MANUAL_SLACK (1 * MiB)

static void by_hand(void)
{
    size_t start = measure_start();
    load_rise(&load, 5);
    char *huge = malloc(40 * MiB);
    if (huge == NULL)
        fail("malloc");
    memset(huge, 1, 40 * MiB);
    rise_and_fall(32 * MiB);
    size_t peak = over(start);
    free(huge);
    load_fall(&load);
    for (double end = now_seconds() + MANUAL_SECONDS; now_seconds() < end; sleep_seconds(0.02)) {
        if (find_purger(getpid()) != 0)
            promise_broken("manual: there is a purger");
        call_slow_path();
    }
    size_t later = over(start);
    int gave = malloc_trim(0);
    size_t trimmed = over(start);
    report("manual: %zu KiB at the peak, %zu after %g s, malloc_trim = %d, %zu then", peak / KiB,
           later / KiB, MANUAL_SECONDS, gave, trimmed / KiB);
    if (peak < 100 * MiB)
        fail("the load did not rise");
    if (later + MANUAL_SLACK < peak)
        promise_broken("manual: %zu KiB are gone, and nobody asked", (peak - later) / KiB);
    if (gave != 1 || trimmed > MAY_STAY(peak))
        promise_broken("manual: malloc_trim = %d, and %zu KiB stay", gave, trimmed / KiB);
    if (malloc_trim(0) != 0)
        promise_broken("manual: a second malloc_trim says that it gave something");
}

/* ---- no thread: slow paths --------------------------------------------------------------------
 */

/* Longer than the purge delay: when the program calls again, all that is free is old enough. */
#define QUIET_SECONDS 0.6

/* Three sweeps empty the cache, and two more, a purge delay apart, give back what was in it. */
#define CALLS 8
#define CALL_EVERY_SECONDS 0.18

static void *rise_fall_sleep(void *unused)
{
    load_rise(&load, 6);
    pthread_barrier_wait(&meeting);
    pthread_barrier_wait(&meeting);
    load_fall(&load);
    pthread_barrier_wait(&meeting);
    for (;;)
        pause();
    return unused;
}

/* In the caches of a thread that sleeps; who calls is another one. */
static void without_thread(void)
{
    pthread_t thread;
    pthread_barrier_init(&meeting, NULL, 2);
    size_t start = measure_start();
    if (pthread_create(&thread, NULL, rise_fall_sleep, NULL) != 0)
        fail("pthread_create");
    pthread_barrier_wait(&meeting);
    size_t peak = over(start);
    pthread_barrier_wait(&meeting);
    pthread_barrier_wait(&meeting);
    sleep_seconds(QUIET_SECONDS);
    size_t quiet = over(start);
    for (int i = 0; i < CALLS; i++) {
        call_slow_path();
        sleep_seconds(CALL_EVERY_SECONDS);
    }
    size_t stays = over(start);
    report("no thread: %zu KiB at the peak, %zu after %g s, %zu after %d calls in %g s", peak / KiB,
           quiet / KiB, QUIET_SECONDS, stays / KiB, CALLS, CALLS * CALL_EVERY_SECONDS);
    if (peak < 48 * MiB)
        fail("the load did not rise");
    if (find_purger(getpid()) != 0)
        promise_broken("no thread: there is a purger");
    if (stays > MAY_STAY(peak))
        promise_broken("no thread: %zu KiB stay, allowed are %zu", stays / KiB,
                       MAY_STAY(peak) / KiB);
}

/* ---- parts -------------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    void (*run)(void);
    const char *schedule, *thread;
} parts[] = {
    {"periodic", period, "periodic", "auto"},
    {"periodic, a busy thread", busy_trimmed, "periodic", "auto"},
    {"idle, a busy thread", busy_left_alone, "idle", "auto"},
    {"immediate", at_once, "immediate", "auto"},
    {"manual", by_hand, "manual", "auto"},
    {"no thread", without_thread, "idle", "off"},
};
enum { PARTS = sizeof parts / sizeof *parts };

static void start_part(const char *name)
{
    for (unsigned i = 0; i < PARTS; i++)
        if (strcmp(parts[i].name, name) == 0)
            parts[i].run();
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[0], "part") == 0) {
        stress_begin_part("schedules", argv[2]);
        start_part(argv[1]);
        return 0;
    }
    stress_begin(argc, argv, "schedules", 100);
    setenv("EBBMALLOC_PURGE_PERIOD", PERIOD, 1);
    unsigned failed = 0;
    for (unsigned i = 0; i < PARTS; i++) {
        setenv("EBBMALLOC_PURGE_SCHEDULE", parts[i].schedule, 1);
        setenv("EBBMALLOC_BACKGROUND_THREAD", parts[i].thread, 1);
        int status = run_part(parts[i].name, NULL, 20);
        if (status != 0)
            report("%s: wait status %#x", parts[i].name, status);
        failed += status != 0;
    }
    if (failed != 0)
        fail("%u of %u parts", failed, (unsigned)PARTS);
    return 0;
}
