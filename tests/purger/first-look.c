/* first-look: threads that all allocate while the purger starts wait for its first look, and no
 * longer than it takes. In 24 processes (times the scale) four threads begin at the same time.
 * Neither do they wait any longer when the kernel refuses the purger at last, having thought about
 * it for a while. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
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

static char *take(void)
{
    char *block = malloc(BLOCK);
    if (block == NULL)
        fail("malloc(%zu) = NULL", BLOCK);
    return block; /* kept */
}

/* ---- Granted --------------------------------------------------------------------------------- */

/* Not NULL when one of its calls took long. */
static void *allocate(void *unused)
{
    (void)unused;
    bool took_long = false;
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < BLOCKS; i++) {
        double start = now_seconds();
        char *block = take();
        took_long |= now_seconds() - start > LONG_SECONDS;
        memset(block, 1, BLOCK);
    }
    return took_long ? &barrier : NULL;
}

static int start_together(void)
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
    return took_long ? TOOK_LONG : 0;
}

/* ---- Refused --------------------------------------------------------------------------------- */

/* So often at most, until it shows something: the machine may be busy. */
#define REFUSALS 10
#define HELD_SECONDS 0.05
#define LATE_SECONDS 0.075 /* where the wait ends by itself: half of what is left of it then */

enum { PROMPT, LATE, NOBODY_WAITED, NO_FILTERS };

static _Atomic int watcher;
static atomic_bool is_held;
static _Atomic double refused_at;

static void let_the_other_wait(void)
{
    is_held = true;
    sleep_seconds(HELD_SECONDS);
    refused_at = now_seconds();
}

static void *start_purger(void *unused)
{
    (void)unused;
    watcher = watch_clone();
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < BLOCKS && watcher >= 0; i++)
        take();
    return NULL;
}

static void *wait_with_it(void *outcome)
{
    while (!is_held)
        sleep_seconds(0.001);
    if (refused_at != 0)
        return NULL; /* too late */
    take();
    double end = now_seconds();
    if (end > refused_at && refused_at != 0)
        *(int *)outcome = end < refused_at + LATE_SECONDS ? PROMPT : LATE;
    return NULL;
}

/* While one thread's clone is held up another one takes memory, for which it has to wait. */
static int be_refused(void)
{
    pthread_t starter, other;
    int outcome = NOBODY_WAITED;
    pthread_barrier_init(&barrier, NULL, 2);
    if (pthread_create(&starter, NULL, start_purger, NULL) != 0 ||
        pthread_create(&other, NULL, wait_with_it, &outcome) != 0)
        fail("pthread_create");
    pthread_barrier_wait(&barrier);
    if (watcher < 0)
        return NO_FILTERS;
    if (!refuse_clone(watcher, let_the_other_wait))
        fail("the clone of the purger: %s", strerror(errno));
    pthread_join(other, NULL);
    return outcome;
}

/* ---- In processes ---------------------------------------------------------------------------- */

static int result_of(int (*part)(void))
{
    int status;
    pid_t child = fork();
    if (child < 0)
        fail("fork: %s", strerror(errno));
    if (child == 0)
        _exit(part());
    waitpid(child, &status, 0);
    if (!WIFEXITED(status))
        fail("a process ended with status %x", (unsigned)status);
    return WEXITSTATUS(status);
}

static void see_it_granted(void)
{
    unsigned processes = (unsigned)scaled(PROCESSES), long_ones = 0;
    for (unsigned i = 0; i < processes; i++) {
        int result = result_of(start_together);
        if (result != 0 && result != TOOK_LONG)
            fail("a process ended with %d", result);
        long_ones += result == TOOK_LONG;
    }
    report("in %u of %u processes a call took over %.2f s", long_ones, processes, LONG_SECONDS);
    if (long_ones > MAY_BE_LONG(processes))
        promise_broken("%u such processes, allowed are %u", long_ones, MAY_BE_LONG(processes));
}

static void see_it_refused(void)
{
    int counts[NO_FILTERS + 1] = {0};
    for (unsigned i = 0; i < REFUSALS && counts[PROMPT] + counts[NO_FILTERS] == 0; i++) {
        int outcome = result_of(be_refused);
        if (outcome > NO_FILTERS)
            fail("a process ended with %d", outcome);
        counts[outcome]++;
    }
    if (counts[NO_FILTERS] != 0) {
        report("refused: SKIPPED, this kernel has no filters that ask");
        return;
    }
    report("refused: went on at once in %d, later in %d processes; nobody waited in %d",
           counts[PROMPT], counts[LATE], counts[NOBODY_WAITED]);
    if (counts[PROMPT] == 0)
        promise_broken("no call went on when the kernel refused the thread that it waited for");
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "first-look", 120);
    see_it_granted();
    see_it_refused();
    return 0;
}
