/* reuse: memory in steady use is not given back. A load that rises and falls every 200 ms, with
 * default settings, takes no more processor time than with the purger off and a delay of an hour,
 * but for 5 %, and no more page faults, but for 5 % of what it touches. Time is user and system of
 * the whole process, the purger's included.
 *
 * Each shape runs with and without side by side, half a period apart, as processes of their own.
 * Page faults are asserted on all runs together, since how sweeps and waves meet differs from run
 * to run; time on the medians, with more runs as long as those are apart, up to a limit. If they
 * still are, three runs in four must say so by themselves: else the machine is too busy with others
 * to tell, and the test is skipped.
 */
#define _GNU_SOURCE
#include "support.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MAY_DIFFER 0.05
#define PERIOD_SECONDS 0.2
#define WAVES_BEFORE 3 /* not measured */
#define WAVES 12
#define THREADS_MOST 8
#define RUNS_LEAST 2
#define RUNS_MOST 16
#define SKIPPED 77

static const struct shape {
    const char *name;
    unsigned threads;
    size_t bytes, least, most;
} shapes[] = {
    {"one thread, small blocks", 1, 64 * MiB, 16, 4 * KiB},
    {"eight threads, small blocks", 8, 64 * MiB, 16, 4 * KiB},
    {"one thread, large blocks", 1, 64 * MiB, 64 * KiB, 2 * MiB},
    {"one thread, huge blocks", 1, 60 * MiB, 20 * MiB, 20 * MiB},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* ---- One run ----------------------------------------------------------------------------------
 */

struct result {
    double seconds; /* of processor time */
    double faults;
    uint64_t sweeps;
};

static struct load loads[THREADS_MOST];
static pthread_barrier_t barrier;
static pthread_barrier_t peak;
static double begin;

static void *rise_and_fall_often(void *number)
{
    struct load *load = &loads[(uintptr_t)number];
    touch_stack();
    for (unsigned wave = 0; wave < WAVES_BEFORE + scaled(WAVES); wave++) {
        if (wave == WAVES_BEFORE) {
            pthread_barrier_wait(&barrier);
            pthread_barrier_wait(&barrier); /* the start is measured */
        }
        double now = now_seconds(), next = begin + wave * PERIOD_SECONDS;
        if (next > now)
            sleep_seconds(next - now);
        load_rise(load, (uintptr_t)number);
        /* All are up at a time: how much the waves of several threads overlap is chance, and one
         * that is higher than those before it needs memory that was not in use. */
        pthread_barrier_wait(&peak);
        load_fall(load);
    }
    pthread_barrier_wait(&barrier);
    return NULL;
}

static struct rusage usage_now(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage;
}

static double seconds_of(const struct rusage *usage)
{
    return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
           (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e6;
}

static void run_shape(const struct shape *shape)
{
    pthread_t threads[THREADS_MOST];
    pthread_barrier_init(&barrier, NULL, shape->threads + 1);
    pthread_barrier_init(&peak, NULL, shape->threads);
    begin = now_seconds();
    for (uintptr_t i = 0; i < shape->threads; i++) {
        loads[i] = (struct load){
            .bytes = shape->bytes / shape->threads, .least = shape->least, .most = shape->most};
        load_prepare(&loads[i]);
        if (pthread_create(&threads[i], NULL, rise_and_fall_often, (void *)i) != 0)
            fail("pthread_create");
    }
    pthread_barrier_wait(&barrier);
    struct rusage before = usage_now();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    struct rusage after = usage_now();
    struct result result = {
        .seconds = seconds_of(&after) - seconds_of(&before),
        .faults = (double)(after.ru_minflt - before.ru_minflt),
        .sweeps = books_number("purged", "sweeps"),
    };
    give_result(&result, sizeof result);
}

/* ---- All runs ---------------------------------------------------------------------------------
 */

enum { WITHOUT, WITH, KINDS };

struct series {
    double seconds[RUNS_MOST];
    double faults; /* of all runs */
    uint64_t sweeps;
};

static void add_result(struct series *series, const struct measuring *measuring, unsigned run)
{
    struct result result;
    finish_measuring(measuring, 20 + scaled_seconds(10), &result, sizeof result);
    series->seconds[run] = result.seconds;
    series->faults += result.faults;
    series->sweeps += result.sweeps;
}

static void add_run(struct series *series, const struct shape *shape, unsigned run)
{
    static char *variables[KINDS][3] = {
        {"EBBMALLOC_BACKGROUND_THREAD=off", "EBBMALLOC_PURGE_DELAY=3600000", NULL}, {NULL}};
    struct measuring measuring[KINDS];
    for (unsigned turn = 0; turn < KINDS; turn++) {
        unsigned kind = (run + turn) % KINDS; /* each comes first as often */
        measuring[kind] = start_measuring(shape->name, variables[kind]);
        sleep_seconds(PERIOD_SECONDS / 2);
    }
    for (unsigned kind = 0; kind < KINDS; kind++)
        add_result(&series[kind], &measuring[kind], run);
}

static double median_seconds(const struct series *series, unsigned runs)
{
    double sorted[RUNS_MOST];
    memcpy(sorted, series->seconds, runs * sizeof *sorted);
    return median(sorted, runs);
}

/* Most runs show it, each beside its own neighbour: chance would seldom do that. */
static bool most_are_slow(const struct series *series, unsigned runs)
{
    unsigned slow = 0;
    for (unsigned run = 0; run < runs; run++)
        slow += series[WITH].seconds[run] > series[WITHOUT].seconds[run] * (1 + MAY_DIFFER);
    return slow * 4 >= runs * 3;
}

enum verdict { HOLDS, BROKEN, UNKNOWN };

static enum verdict compare(const struct shape *shape)
{
    struct series series[KINDS] = {0};
    unsigned runs = 0;
    double seconds[KINDS], faults[KINDS]; /* of a wave */
    double pages = (double)shape->bytes / (double)sysconf(_SC_PAGESIZE);
    bool slow, faulty;
    do {
        add_run(series, shape, runs++);
        for (unsigned kind = 0; kind < KINDS; kind++) {
            seconds[kind] = median_seconds(&series[kind], runs) / (double)scaled(WAVES);
            faults[kind] = series[kind].faults / (double)(runs * scaled(WAVES));
        }
        slow = seconds[WITH] > seconds[WITHOUT] * (1 + MAY_DIFFER);
        faulty = faults[WITH] > faults[WITHOUT] + pages * MAY_DIFFER;
    } while (runs < RUNS_LEAST || (runs < RUNS_MOST && slow && !faulty));
    report("%s, a wave: %.2f ms and %.0f page faults with the purger, %.2f ms and %.0f without; "
           "%u runs, %" PRIu64 " sweeps",
           shape->name, seconds[WITH] * 1e3, faults[WITH], seconds[WITHOUT] * 1e3, faults[WITHOUT],
           runs, series[WITH].sweeps);
    if (series[WITH].sweeps < runs * scaled(6))
        fail("%s: too few sweeps to show anything", shape->name);
    if (slow && !faulty && !most_are_slow(series, runs)) {
        report("%s: %.3f times the processor time without the purger, but not in most runs: the "
               "machine is too busy to tell",
               shape->name, seconds[WITH] / seconds[WITHOUT]);
        return UNKNOWN;
    }
    if (slow || faulty)
        report("%s: BROKEN: %.3f times the processor time without the purger, allowed are %.2f; "
               "%.0f page faults more, allowed are %.0f",
               shape->name, seconds[WITH] / seconds[WITHOUT], 1 + MAY_DIFFER,
               faults[WITH] - faults[WITHOUT], pages * MAY_DIFFER);
    return slow || faulty ? BROKEN : HOLDS;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[0], "part") == 0) {
        stress_begin_part("reuse", argv[2]);
        for (unsigned i = 0; i < SHAPES; i++)
            if (strcmp(shapes[i].name, argv[1]) == 0)
                run_shape(&shapes[i]);
        return 0;
    }
    stress_begin(argc, argv, "reuse", 300);
    unsigned count[UNKNOWN + 1] = {0};
    for (unsigned i = 0; i < SHAPES; i++)
        count[compare(&shapes[i])]++;
    if (count[BROKEN] != 0)
        promise_broken("%u of %u shapes cost more with the purger", count[BROKEN],
                       (unsigned)SHAPES);
    return count[UNKNOWN] != 0 ? SKIPPED : 0;
}
