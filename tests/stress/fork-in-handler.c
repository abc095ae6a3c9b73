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
#include <string.h>
#include <sys/single_threaded.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS 250
#define BLOCKS 3000
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
static void run_load(size_t step, bool trim)
{
    static struct parcel *parcels[BLOCKS];
    unsigned rounds_in_child = 0;
    while (forks < FORKS && rounds_in_child < 2) {
        for (size_t i = 0; i < BLOCKS; i++)
            parcels[i] = parcel_make(PARCEL_LEAST + i % 1000 * step, 0);
        for (size_t i = 0; i < BLOCKS; i++)
            parcel_end(parcels[i], 0, in_child ? "in the child" : "in the parent");
        if (trim)
            malloc_trim(0);
        rounds_in_child += in_child;
    }
}

static void run_part(const char *what, size_t step, bool trim)
{
    pid_t part = fork();
    if (part < 0)
        fail("fork");
    if (part == 0) {
        fork_every(2000);
        run_load(step, trim);
        if (!__libc_single_threaded)
            fail("%s: libc takes the program for one with threads", what);
        _exit(0);
    }
    require_success(wait_for(part, PART_SECONDS, what), what);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "fork-in-handler", 120);
    /* Bytes in all: 2 MiB, and 30 MiB, of which some are large blocks. */
    run_part("a small process", 1, false);
    run_part("a small process that trims", 1, true);
    run_part("a process with the purger", 40, false);
    run_part("a process with the purger that trims", 40, true);
    return 0;
}
