/* falls: resident memory follows the load down within a second, by default, whoever freed and
 * whoever sleeps, with no call from the program. Each scenario is a process of its own; what is
 * measured is Rss of /proc/self/smaps_rollup, before, at the peak, and one second after the last
 * free, during which every thread sleeps.
 */
#define _GNU_SOURCE
#include "support.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 8
#define LOAD (128 * MiB)

static struct load loads[WORKERS];

/* The workers do one step at a time, all of them together with the main thread. */
static pthread_barrier_t barrier;

static void meet(void)
{
    pthread_barrier_wait(&barrier);
}

static _Noreturn void sleep_for_good(void)
{
    for (;;)
        pause();
}

static void *rise_fall_sleep(void *load)
{
    touch_stack();
    meet(); /* the start is measured */
    meet();
    load_rise(load, (uint64_t)(load - (void *)loads));
    meet(); /* the peak is measured */
    meet();
    load_fall(load);
    meet();
    sleep_for_good();
}

static void *rise_sleep(void *load)
{
    touch_stack();
    meet();
    meet();
    load_rise(load, (uint64_t)(load - (void *)loads));
    meet();
    sleep_for_good();
}

static void *rise_fall_end(void *load)
{
    touch_stack();
    meet();
    meet();
    load_rise(load, (uint64_t)(load - (void *)loads));
    meet();
    meet();
    load_fall(load);
    return NULL;
}

static void start_workers(pthread_t *threads, void *(*work)(void *))
{
    pthread_barrier_init(&barrier, NULL, WORKERS + 1);
    for (unsigned i = 0; i < WORKERS; i++) {
        loads[i] = (struct load){.bytes = LOAD / WORKERS, .least = 16, .most = 4 * KiB};
        load_prepare(&loads[i]);
        if (pthread_create(&threads[i], NULL, work, &loads[i]) != 0)
            fail("pthread_create");
    }
}

static void own(void)
{
    pthread_t threads[WORKERS];
    start_workers(threads, rise_fall_sleep);
    meet();
    size_t start = resident_bytes();
    meet();
    meet();
    size_t peak = resident_bytes();
    meet();
    meet();
    require_fall("eight threads free their own and sleep", start, peak);
}

static void remote(void)
{
    pthread_t threads[WORKERS];
    touch_stack();
    start_workers(threads, rise_sleep);
    meet();
    size_t start = resident_bytes();
    meet();
    meet();
    size_t peak = resident_bytes();
    for (unsigned i = 0; i < WORKERS; i++)
        load_fall(&loads[i]);
    require_fall("one thread frees what eight sleeping ones made", start, peak);
}

static void ended(void)
{
    pthread_t threads[WORKERS];
    start_workers(threads, rise_fall_end);
    meet();
    size_t start = resident_bytes();
    meet();
    meet();
    size_t peak = resident_bytes();
    meet();
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    require_fall("the threads end", start, peak);
}

/* What lives on keeps the OS pages that it lies in, two at most for a block, and no others. */
#define ONE_STAYS_IN 64

static void *rise_fall_in_part_sleep(void *load)
{
    touch_stack();
    meet();
    meet();
    load_rise(load, (uint64_t)(load - (void *)loads));
    meet();
    meet();
    load_fall_but(load, ONE_STAYS_IN);
    meet();
    sleep_for_good();
}

static void survivors(void)
{
    pthread_t threads[WORKERS];
    start_workers(threads, rise_fall_in_part_sleep);
    meet();
    size_t start = resident_bytes(), blocks = 0;
    meet();
    meet();
    size_t peak = resident_bytes();
    for (unsigned i = 0; i < WORKERS; i++)
        blocks += loads[i].count / ONE_STAYS_IN + 1;
    meet();
    meet();
    require_fall_but("one block in 64 stays", start, peak,
                     blocks * 2 * (size_t)sysconf(_SC_PAGESIZE));
}

static void fall_alone(const char *what, size_t bytes, size_t least, size_t most)
{
    struct load load = {.bytes = bytes, .least = least, .most = most};
    touch_stack();
    load_prepare(&load);
    size_t start = resident_bytes();
    load_rise(&load, 0);
    size_t peak = resident_bytes();
    load_fall(&load);
    require_fall(what, start, peak);
}

static void single(void)
{
    fall_alone("a program with one thread", LOAD, 16, 4 * KiB);
}

static void large(void)
{
    fall_alone("large blocks", LOAD, 64 * KiB, 4 * MiB);
}

static void huge(void)
{
    fall_alone("huge blocks", 10 * 20 * MiB, 20 * MiB, 20 * MiB);
}

/* A small block stands in the mapping that a large one had, when there is nothing else to do any
 * more. */
#define HUGE_BEFORE (60 * MiB)
#define HUGE_AFTER (5 * MiB)

static void huge_reused(void)
{
    touch_stack();
    wake_purger();
    sleep_seconds(2);
    size_t start = resident_bytes();
    char *block = malloc(HUGE_BEFORE);
    memset(block, 1, HUGE_BEFORE);
    size_t peak = resident_bytes();
    free(block);
    block = malloc(HUGE_AFTER);
    memset(block, 1, HUGE_AFTER);
    require_fall_but("a smaller block in place of a huge one", start, peak, HUGE_AFTER);
    free(block);
}

static void child(void)
{
    struct load load = {.bytes = LOAD, .least = 16, .most = 4 * KiB};
    touch_stack();
    load_prepare(&load);
    size_t start = resident_bytes();
    wake_purger(); /* the parent has one, and the child must find out that it has none */
    pid_t child = fork();
    if (child == 0) {
        load_rise(&load, 0);
        size_t peak = resident_bytes();
        load_fall(&load);
        require_fall("in a forked child", start, peak);
        _exit(0);
    }
    require_success(wait_for(child, 20, "the child"), "the child");
}

static void inherited(void)
{
    struct load load = {.bytes = LOAD, .least = 16, .most = 4 * KiB};
    touch_stack();
    load_prepare(&load);
    size_t start = resident_bytes();
    load_rise(&load, 0);
    pid_t child = fork();
    if (child == 0) {
        size_t peak = resident_bytes();
        load_fall(&load);
        require_fall("a child frees what it inherited", start, peak);
        _exit(0);
    }
    require_success(wait_for(child, 20, "the child"), "the child");
}

/* Again and again, nothing piles up: the start is that of the first time. */
static void tide(void)
{
    struct load load = {.bytes = LOAD, .least = 16, .most = 64 * KiB};
    touch_stack();
    load_prepare(&load);
    size_t start = resident_bytes();
    for (uint64_t turn = 0; turn < 3; turn++) {
        load_rise(&load, turn);
        size_t peak = resident_bytes();
        load_fall(&load);
        require_fall("three times in a row", start, peak);
    }
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"own", own},       {"remote", remote},       {"ended", ended}, {"survivors", survivors},
    {"single", single}, {"large", large},         {"huge", huge},   {"huge, reused", huge_reused},
    {"child", child},   {"inherited", inherited}, {"tide", tide},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[0], "part") == 0) {
        stress_begin_part("falls", argv[2]);
        for (unsigned i = 0; i < SCENARIOS; i++)
            if (strcmp(scenarios[i].name, argv[1]) == 0)
                scenarios[i].run();
        return 0;
    }
    stress_begin(argc, argv, "falls", 100);
    unsigned failed = 0;
    for (unsigned i = 0; i < SCENARIOS; i++)
        failed += run_part(scenarios[i].name, NULL, 30) != 0;
    if (failed != 0)
        fail("%u of %u scenarios", failed, (unsigned)SCENARIOS);
    return 0;
}
