/* first-look: threads that all allocate while the purger starts wait for its first look, and no
 * longer than it takes. In 24 processes (times the scale) four threads begin at the same time. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCESSES 24
#define THREADS 4
#define BLOCK (64 * KiB)
#define BLOCKS 256

/* A call that nobody kept waiting may take as long where the machine is busy: that is seldom. */
#define LONG_SECONDS 0.15
#define MAY_BE_LONG(processes) ((processes) / 6)

#define TOOK_LONG 42

static pthread_barrier_t barrier;

/* Not NULL when one of its calls took long. */
static void *allocate(void *unused)
{
    (void)unused;
    bool took_long = false;
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < BLOCKS; i++) {
        double start = now_seconds();
        char *block = malloc(BLOCK);
        took_long |= now_seconds() - start > LONG_SECONDS;
        if (block == NULL)
            fail("malloc(%zu) = NULL", BLOCK);
        memset(block, 1, BLOCK); /* and keeps it */
    }
    return took_long ? &barrier : NULL;
}

static bool a_process_took_long(void)
{
    pthread_t threads[THREADS];
    bool took_long = false;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, allocate, NULL) != 0)
            fail("pthread_create");
    for (unsigned i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        took_long |= result != NULL;
    }
    return took_long;
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "first-look", 120);
    unsigned processes = (unsigned)scaled(PROCESSES), long_ones = 0;
    for (unsigned i = 0; i < processes; i++) {
        pid_t child = fork();
        if (child < 0)
            fail("fork: %s", strerror(errno));
        if (child == 0)
            _exit(a_process_took_long() ? TOOK_LONG : 0);
        int status;
        waitpid(child, &status, 0);
        if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != TOOK_LONG))
            fail("a process ended with status %x", (unsigned)status);
        long_ones += WEXITSTATUS(status) == TOOK_LONG;
    }
    report("in %u of %u processes a call took over %.2f s", long_ones, processes, LONG_SECONDS);
    if (long_ones > MAY_BE_LONG(processes))
        promise_broken("%u such processes, allowed are %u", long_ones, MAY_BE_LONG(processes));
    return 0;
}
