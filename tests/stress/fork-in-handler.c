/* fork-in-handler: a signal handler of a program with one thread may fork, wherever it came upon
 * the program: POSIX counts fork among what is safe there. So the handler interrupts the slow paths
 * of malloc, and malloc_trim, each in a small process and in one that is large enough to have the
 * purger at work at that moment; parent and child go on with blocks that were being made.
 */
#define _GNU_SOURCE
#include "support.h"

#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/single_threaded.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS 600
#define BLOCKS 1000
#define LARGE_BLOCKS 200
#define LARGE_ROUNDS 50
#define PART_SECONDS 20
#define CHILD_SECONDS 8

static volatile sig_atomic_t forks;
static volatile sig_atomic_t in_child;

/* The child goes on from where the handler came, so it is the load that ends it. */
static void on_signal(int signal)
{
    (void)signal;
    if (in_child)
        return;
    pid_t child = fork();
    if (child == 0) {
        in_child = 1;
        alarm(CHILD_SECONDS); /* no handler: it ends the child */
        return;
    }
    int status;
    if (child > 0 && waitpid(child, &status, 0) == child && status == 0)
        forks++;
    else
        _exit(3);
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
            if ((blocks[i] = malloc(100 * KiB)) == NULL)
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

static void run_part(const char *what, void (*load)(void), bool trim)
{
    pid_t part = fork();
    if (part < 0)
        fail("fork");
    if (part == 0) {
        fork_every(500);
        for (unsigned rounds_in_child = 0; forks < FORKS && rounds_in_child < 1;) {
            load();
            if (trim)
                malloc_trim(0);
            rounds_in_child += in_child;
        }
        if (!__libc_single_threaded)
            fail("%s: libc takes the program for one with threads", what);
        _exit(0);
    }
    require_success(wait_for(part, PART_SECONDS, what), what);
}

int main(int argc, char **argv)
{
    /* A sweep every millisecond: it should be at work when the handler forks. */
    if (getenv("EBBMALLOC_PURGE_DELAY") == NULL) {
        setenv("EBBMALLOC_PURGE_DELAY", "3", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    stress_begin(argc, argv, "fork-in-handler", 120);
    run_part("a small process", run_small_load, false);
    run_part("a small process that trims", run_small_load, true);
    /* An open defect: the handler waits for the purger, who waits for the lock that the interrupted
     * call holds, until the handler gives up; and the child may wait for ever. */
    if (getenv("EBB_TEST_OPEN_DEFECTS") != NULL) {
        run_part("a process with the purger", run_large_load, false);
        run_part("a process with the purger that trims", run_large_load, true);
    } else {
        report(
            "parts with the purger left out: an open defect (EBB_TEST_OPEN_DEFECTS=1 runs them)");
    }
    return 0;
}
