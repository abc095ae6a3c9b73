/* busy: a thread in full swing does not notice the purger. The 99.99th percentile of malloc and of
 * free, call by call, is with the purger within 10 % of what it is without, while the purger has
 * all it can have to do: other threads rise, fall and sleep, and the busy one leaves holes behind.
 *
 * The busy thread has a processor to itself and all others share the rest. Rounds with and without,
 * each a process of its own, take turns; each with is compared to the without beside it, and the
 * median of these ratios counts. As long as it is too high there are more rounds, up to a limit.
 *
 * Needs two processors: with one, every sweep takes time from somebody.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAY_DIFFER 1.10
#define PERCENTILE 0.9999
#define ROUND_SECONDS 2.0 /* the purger begins after more than half a second */
#define WARM_SECONDS 0.4  /* at the start of a round, not measured */
#define ROUNDS_LEAST 7
#define ROUNDS_MOST 15
#define BEYOND_DOUBT 1.5 /* times as slow: no noise, and no more rounds */

#define TIDES 8
#define TIDE_BYTES (12 * MiB)
#define TIDE_SURVIVORS 16       /* one block in so many, until the next rise */
#define PURGED_LEAST (16 * MiB) /* in a round, else it shows nothing */
#define SWEEPS_LEAST 4
#define SLOTS 4096
#define STEPS_PER_WAVE 32768
#define WAVE_BLOCKS 1000
#define WAVES_KEPT 8

/* ---- Histograms ------------------------------------------------------------------------------ */

/* Ticks in buckets that are 1/128 apart. */
#define FINE_BITS 7
#define FINE (1u << FINE_BITS)
#define BUCKETS ((64 - FINE_BITS + 1) * FINE)

struct histogram {
    uint64_t count, most;
    uint32_t buckets[BUCKETS];
};

static unsigned bucket_of(uint64_t ticks)
{
    if (ticks < FINE)
        return (unsigned)ticks;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ticks) - FINE_BITS;
    return (shift << FINE_BITS) + (unsigned)(ticks >> shift);
}

static uint64_t bucket_start(unsigned bucket)
{
    unsigned shift = bucket >> FINE_BITS;
    return shift < 2 ? bucket : (uint64_t)(bucket - ((shift - 1) << FINE_BITS)) << (shift - 1);
}

static void add(struct histogram *histogram, uint64_t ticks)
{
    histogram->count++;
    histogram->buckets[bucket_of(ticks)]++;
    if (ticks > histogram->most)
        histogram->most = ticks;
}

static uint64_t percentile(const struct histogram *histogram, double share)
{
    uint64_t above = 0, allowed = (uint64_t)((double)histogram->count * (1 - share));
    unsigned bucket = BUCKETS;
    while (bucket != 0 && above <= allowed)
        above += histogram->buckets[--bucket];
    return bucket_start(bucket);
}

/* ---- Time ------------------------------------------------------------------------------------ */

/* The processor's counter where it can be read in a few instructions. Only ratios are promised, so
 * what a tick is matters to the report alone. */
static inline uint64_t ticks_now(void)
{
#if defined(__x86_64__)
    unsigned processor;
    return __builtin_ia32_rdtscp(&processor);
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
#endif
}

static double ticks_per_ns(void)
{
    double start = now_seconds();
    uint64_t ticks = ticks_now();
    while (now_seconds() < start + 0.01)
        continue;
    return (double)(ticks_now() - ticks) / ((now_seconds() - start) * 1e9);
}

/* ---- One round --------------------------------------------------------------------------------
 */

struct result {
    double malloc_ns, free_ns;           /* the percentile */
    double malloc_most_ns, free_most_ns; /* the slowest call */
    uint64_t calls, sweeps, purged_bytes;
};

static struct histogram mallocs, frees;
static bool measures;
static _Atomic bool stop;

static char *timed_malloc(size_t size)
{
    uint64_t start = ticks_now();
    char *block = malloc(size);
    uint64_t end = ticks_now();
    if (block == NULL)
        fail("malloc(%zu) = NULL", size);
    if (measures)
        add(&mallocs, end - start);
    block[0] = block[size - 1] = 1;
    return block;
}

static void timed_free(char *block)
{
    uint64_t start = ticks_now();
    free(block);
    uint64_t end = ticks_now();
    if (measures)
        add(&frees, end - start);
}

/* The first of the processors that this process may use is the busy thread's. */
enum share { BUSY, OTHERS };

static cpu_set_t allowed;

static void move_to(enum share share)
{
    cpu_set_t chosen;
    CPU_ZERO(&chosen);
    bool first = true;
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &allowed))
            continue;
        if (first == (share == BUSY))
            CPU_SET(i, &chosen);
        first = false;
    }
    if (sched_setaffinity(0, sizeof chosen, &chosen) != 0)
        fail("sched_setaffinity: %s", strerror(errno));
}

static size_t busy_size(struct rng *rng)
{
    uint64_t choice = rng_below(rng, 1000);
    if (choice == 0)
        return rng_size(rng, 8 * KiB, 64 * KiB);
    return rng_size(rng, 16, choice < 30 ? 8 * KiB : 512);
}

/* Many blocks of about one size, most of which go again soon, while one in eight stays on for some
 * waves: holes, in the busy thread's own spans. */
static char *waves[WAVES_KEPT][WAVE_BLOCKS];

static void thin_wave(char **wave, unsigned one_in)
{
    for (unsigned i = 0; i < WAVE_BLOCKS; i++) {
        if (wave[i] != NULL && (one_in == 0 || i % one_in != 0)) {
            timed_free(wave[i]);
            wave[i] = NULL;
        }
    }
}

static void next_wave(struct rng *rng, unsigned number)
{
    char **wave = waves[number % WAVES_KEPT];
    size_t size = rng_size(rng, 128, 4 * KiB);
    thin_wave(waves[(number + WAVES_KEPT - 1) % WAVES_KEPT], 8);
    thin_wave(wave, 0);
    for (unsigned i = 0; i < WAVE_BLOCKS; i++)
        wave[i] = timed_malloc(size);
}

static void *be_busy(void *unused)
{
    static char *slots[SLOTS];
    struct rng rng = rng_stream(1000);
    move_to(BUSY);
    double begin = now_seconds(), now = begin, end = begin + scaled_seconds(ROUND_SECONDS);
    for (unsigned wave = 0; now < end; wave++, now = now_seconds()) {
        measures = now > begin + WARM_SECONDS;
        for (unsigned step = 0; step < STEPS_PER_WAVE; step++) {
            char **slot = &slots[rng_below(&rng, SLOTS)];
            if (*slot != NULL)
                timed_free(*slot);
            *slot = timed_malloc(busy_size(&rng));
        }
        next_wave(&rng, wave);
    }
    return unused;
}

/* Rises, falls but for some blocks, and sleeps: pages, caches and holes for the purger. */
static void *rise_and_sleep(void *number)
{
    struct rng rng = rng_stream((uintptr_t)number);
    struct load load = {.bytes = TIDE_BYTES, .least = 64, .most = 4 * KiB};
    load_prepare(&load);
    sleep_seconds(0.1 * (double)rng_below(&rng, 8));
    for (uint64_t turn = 0; !stop; turn++) {
        for (size_t i = 0; i < load.count; i += TIDE_SURVIVORS)
            free(load.blocks[i]);
        load_rise(&load, turn);
        load_fall_but(&load, TIDE_SURVIVORS);
        sleep_seconds(0.5 + 0.1 * (double)rng_below(&rng, 5));
    }
    return NULL;
}

static void start(pthread_t *thread, void *(*work)(void *), void *argument)
{
    if (pthread_create(thread, NULL, work, argument) != 0)
        fail("pthread_create");
}

static void run_round(bool with_purger)
{
    pthread_t busy, tides[TIDES];
    double per_ns = ticks_per_ns();
    move_to(OTHERS); /* and with this thread all that it starts, the purger included */
    if (with_purger)
        wake_purger();
    for (uintptr_t i = 0; i < TIDES; i++)
        start(&tides[i], rise_and_sleep, (void *)i);
    start(&busy, be_busy, NULL);
    pthread_join(busy, NULL);
    stop = true;
    for (unsigned i = 0; i < TIDES; i++)
        pthread_join(tides[i], NULL);
    struct result result = {
        .malloc_ns = (double)percentile(&mallocs, PERCENTILE) / per_ns,
        .free_ns = (double)percentile(&frees, PERCENTILE) / per_ns,
        .malloc_most_ns = (double)mallocs.most / per_ns,
        .free_most_ns = (double)frees.most / per_ns,
        .calls = mallocs.count + frees.count,
        .sweeps = books_number("purged", "sweeps"),
        .purged_bytes = books_number("purged", "bytes"),
    };
    give_result(&result, sizeof result);
}

/* ---- All rounds -------------------------------------------------------------------------------
 */

enum { WITHOUT, WITH, KINDS };

struct series {
    double malloc_ns[ROUNDS_MOST], free_ns[ROUNDS_MOST]; /* of each round */
    double malloc_most_ns, free_most_ns;
    uint64_t calls, sweeps, purged_bytes;
};

static void add_round(struct series *series, unsigned kind, unsigned round)
{
    static char *variables[KINDS][3] = {
        {"EBBMALLOC_BACKGROUND_THREAD=off", "EBBMALLOC_PURGE_SCHEDULE=manual", NULL}, {NULL}};
    struct result result;
    struct measuring measuring =
        start_measuring(kind == WITH ? "with" : "without", variables[kind]);
    finish_measuring(&measuring, 10 + 4 * scaled_seconds(ROUND_SECONDS), &result, sizeof result);
    series->malloc_ns[round] = result.malloc_ns;
    series->free_ns[round] = result.free_ns;
    if (result.malloc_most_ns > series->malloc_most_ns)
        series->malloc_most_ns = result.malloc_most_ns;
    if (result.free_most_ns > series->free_most_ns)
        series->free_most_ns = result.free_most_ns;
    series->calls += result.calls;
    series->sweeps += result.sweeps;
    series->purged_bytes += result.purged_bytes;
}

static double median_of(const double *figures, unsigned count)
{
    double sorted[ROUNDS_MOST];
    memcpy(sorted, figures, count * sizeof *figures);
    return median(sorted, count);
}

/* Of rounds that ran one after the other: what the machine does besides changes more slowly. */
static double median_ratio(const double *with, const double *without, unsigned count)
{
    double ratios[ROUNDS_MOST];
    for (unsigned i = 0; i < count; i++)
        ratios[i] = with[i] / without[i];
    return median(ratios, count);
}

static void report_series(const char *what, const struct series *series, unsigned rounds)
{
    report("%s: 99.99 %% of malloc within %.0f ns, of free within %.0f ns; the slowest %.0f and "
           "%.0f us; %.1f million calls, %" PRIu64 " sweeps, %" PRIu64 " MiB purged",
           what, median_of(series->malloc_ns, rounds), median_of(series->free_ns, rounds),
           series->malloc_most_ns / 1e3, series->free_most_ns / 1e3, (double)series->calls / 1e6,
           series->sweeps, series->purged_bytes / MiB);
}

int main(int argc, char **argv)
{
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        fail("sched_getaffinity: %s", strerror(errno));
    if (argc > 2 && strcmp(argv[0], "part") == 0) {
        stress_begin_part("busy", argv[2]);
        run_round(strcmp(argv[1], "with") == 0);
        return 0;
    }
    static struct series series[KINDS];
    stress_begin(argc, argv, "busy", 240);
    if (CPU_COUNT(&allowed) < 2) {
        report("skipped: one processor cannot be shared without being noticed");
        return 77;
    }
    double malloc_ratio, free_ratio, worst;
    unsigned rounds = 0;
    do {
        for (unsigned turn = 0; turn < KINDS; turn++) {
            unsigned kind = (rounds + turn) % KINDS; /* each comes first as often */
            add_round(&series[kind], kind, rounds);
        }
        rounds++;
        malloc_ratio = median_ratio(series[WITH].malloc_ns, series[WITHOUT].malloc_ns, rounds);
        free_ratio = median_ratio(series[WITH].free_ns, series[WITHOUT].free_ns, rounds);
        worst = malloc_ratio > free_ratio ? malloc_ratio : free_ratio;
    } while (rounds < ROUNDS_LEAST ||
             (rounds < ROUNDS_MOST && worst > MAY_DIFFER && worst < BEYOND_DOUBT));
    report_series("with the purger", &series[WITH], rounds);
    report_series("without", &series[WITHOUT], rounds);
    report("ratios after %u rounds each: malloc %.3f, free %.3f; allowed are %.2f", rounds,
           malloc_ratio, free_ratio, MAY_DIFFER);
    if (series[WITH].sweeps < rounds * SWEEPS_LEAST ||
        series[WITH].purged_bytes < rounds * PURGED_LEAST || series[WITHOUT].purged_bytes != 0)
        fail("too little for the purger to do, or too much without it, to show anything");
    if (worst > MAY_DIFFER)
        promise_broken("the 99.99th percentile is %.3f (malloc) and %.3f (free) times that "
                       "without the purger, allowed are %.2f",
                       malloc_ratio, free_ratio, MAY_DIFFER);
    return 0;
}
