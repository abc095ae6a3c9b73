/* fork-in-handler: a signal handler of a program with one thread may fork, wherever it came upon
 * the program: POSIX counts fork among what is safe there. So the handler interrupts the slow paths
 * of malloc, and malloc_trim, each in a small process and in one that is large enough to have the
 * purger at work at that moment, on several schedules; parent and child go on with blocks that were
 * being made. And the child gets a purger of its own.
 */
#define _GNU_SOURCE
#include "support.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "older.h"

#define BLOCKS 1000
#define LARGE_BLOCKS 200
#define LARGE_SIZE (100 * KiB)
#define LARGE_ROUNDS 50
#define PART_SECONDS 60
#define CHILD_SECONDS 8
#define SKIPPED 77

/* For the child's purger, which sweeps every millisecond, on a machine that is full. */
#define PURGE_SECONDS 3.0

static volatile sig_atomic_t forks;
static volatile sig_atomic_t in_child;

/* Set while a load whose child is to begin in the middle of a call is in one. */
static volatile sig_atomic_t in_call;
static bool forks_in_calls;

/* It is the load that ends the child. */
static void on_signal(int signal)
{
    (void)signal;
    if (in_child || (forks_in_calls && !in_call))
        return;
    pid_t child = fork();
    if (child == 0) {
        in_child = 1;
        alarm(CHILD_SECONDS); /* no handler: it ends the child */
        return;
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child)
        fail("fork or waitpid in the handler");
    require_success(status, "the child of a handler");
    forks++;
}

static void fork_every(unsigned microseconds)
{
    struct itimerval period = {{0, microseconds}, {0, microseconds}};
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &period, NULL);
}

/* Mixed sizes that fill and empty caches, spans and runs of pages all the time. */
static void run_small_load(void)
{
    static struct parcel *parcels[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++)
        parcels[i] = parcel_make(PARCEL_LEAST + i * 2, 0);
    for (size_t i = 0; i < BLOCKS; i++)
        parcel_end(parcels[i], 0, in_child ? "in the child" : "in the parent");
}

/* Runs of pages, 20 MiB, hardly touched: nearly all the time is spent in malloc and free, under the
 * lock of a chunk, which the purger has to take as well. */
static void run_large_load(void)
{
    static size_t *blocks[LARGE_BLOCKS];
    for (size_t round = 0; round < LARGE_ROUNDS; round++) {
        for (size_t i = 0; i < LARGE_BLOCKS; i++) {
            if ((blocks[i] = malloc(LARGE_SIZE)) == NULL)
                fail("malloc");
            *blocks[i] = i;
        }
        for (size_t i = 0; i < LARGE_BLOCKS; i++) {
            if (*blocks[i] != i)
                fail("two blocks in one place");
            free(blocks[i]);
        }
    }
}

/* The purger is alive, and empties caches. */
static void run_both_loads(void)
{
    run_large_load();
    run_small_load();
}

/* 20 MiB, every byte. */
static void rise_and_fall(void)
{
    char *blocks[LARGE_BLOCKS];
    for (size_t i = 0; i < LARGE_BLOCKS; i++) {
        if ((blocks[i] = malloc(LARGE_SIZE)) == NULL)
            fail("malloc");
        memset(blocks[i], 1, LARGE_SIZE);
    }
    for (size_t i = 0; i < LARGE_BLOCKS; i++)
        free(blocks[i]);
}

/* Nothing is called until most of it has been given back. */
static void require_fall_in_child(void)
{
    size_t start = resident_bytes(), resident = 0, allowed = LARGE_BLOCKS * LARGE_SIZE / 4;
    rise_and_fall();
    for (double end = now_seconds() + PURGE_SECONDS; now_seconds() < end; sleep_seconds(0.001))
        if ((resident = resident_bytes()) < start + allowed)
            return;
    promise_broken("the child of a handler: %zu KiB of %zu are still there after %g s",
                   (resident - start) / KiB, LARGE_BLOCKS * LARGE_SIZE / KiB, PURGE_SECONDS);
}

/* Calls and next to nothing between them. The child ends the call in the middle of which it began,
 * and no further one of these. */
static void run_calls(void)
{
    static void *blocks[LARGE_BLOCKS];
    for (size_t round = 0; round < LARGE_ROUNDS && !in_child; round++) {
        in_call = 1;
        for (size_t i = 0; i < LARGE_BLOCKS && !in_child; i++)
            blocks[i] = malloc(LARGE_SIZE);
        for (size_t i = 0; i < LARGE_BLOCKS && !in_child; i++)
            free(blocks[i]);
        in_call = 0;
    }
    if (in_child)
        require_fall_in_child();
}

static const struct part {
    const char *what;
    void (*load)(void);
    bool trims, forks_in_calls;
    const char *schedule;
    int forks;
} parts[] = {
    {"a small process", run_small_load, false, false, "idle", 600},
    {"a small process that trims", run_small_load, true, false, "idle", 600},
    {"a process with the purger", run_large_load, false, false, "idle", 600},
    {"a process with the purger that trims", run_large_load, true, false, "idle", 600},
    {"schedule periodic, small blocks", run_both_loads, false, false, "periodic", 300},
    {"schedule immediate", run_large_load, false, false, "immediate", 200},
    {"a child that waits for its purger", run_calls, false, true, "idle", 60},
};
enum { PARTS = sizeof parts / sizeof *parts };

/* In a process of its own, with its variables. */
static void run_part(const struct part *part)
{
    forks_in_calls = part->forks_in_calls;
    fork_every(500);
    for (unsigned rounds_in_child = 0; forks < part->forks && rounds_in_child < 1;) {
        part->load();
        if (part->trims)
            malloc_trim(0);
        rounds_in_child += in_child;
    }
    if (!__libc_single_threaded)
        fail("%s: libc takes the program for one with threads", part->what);
    _exit(0);
}

/* A sweep every millisecond: it should be at work when the handler forks. */
static void start_part(const struct part *part)
{
    char seed[32], number[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)stress_seed);
    snprintf(number, sizeof number, "%d", (int)(part - parts));
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        setenv("EBBMALLOC_PURGE_SCHEDULE", part->schedule, 1);
        setenv("EBBMALLOC_PURGE_DELAY", "3", 1);
        setenv("EBBMALLOC_PURGE_PERIOD", "1", 1);
        execl("/proc/self/exe", "part", number, seed, (char *)NULL);
        _exit(127);
    }
    double start = now_seconds();
    require_success(wait_for(child, PART_SECONDS, part->what), part->what);
    report("%s: %.1f s", part->what, now_seconds() - start);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[0], "part") == 0) {
        stress_begin_part("fork-in-handler", argv[2]);
        run_part(&parts[atoi(argv[1]) % PARTS]);
    }
    if (&__libc_single_threaded == NULL) {
        puts("libc does not say whether there are other threads, so this is not safe: skipped");
        return SKIPPED;
    }
    stress_begin(argc, argv, "fork-in-handler", 300);
    for (size_t i = 0; i < PARTS; i++)
        start_part(&parts[i]);
    return 0;
}
