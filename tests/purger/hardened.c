/* hardened: in the hardened mode, too, resident memory follows the load down by itself. What eight
 * threads freed last waits in their quarantines, and those are empty a second after they went to
 * sleep; then the purger ends.
 */
#define _GNU_SOURCE
#include "support.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define WORKERS 8

/* Of the 256 KiB, or 1,024 blocks, that each may keep. */
#define WAITING_LEAST (WORKERS * 64 * KiB)

static pthread_barrier_t barrier;

static void *rise_fall_sleep(void *number)
{
    struct load load = {.bytes = 8 * MiB, .least = 16, .most = 8 * KiB};
    load_prepare(&load);
    pthread_barrier_wait(&barrier);
    load_rise(&load, (uintptr_t)number);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* the peak is measured */
    load_fall(&load);
    pthread_barrier_wait(&barrier);
    for (;;)
        pause();
    return NULL;
}

int main(int argc, char **argv)
{
    if (!is_hardened()) {
        setenv("EBBMALLOC_HARDEN", "1", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    stress_begin(argc, argv, "hardened", 60);
    pthread_barrier_init(&barrier, NULL, WORKERS + 1);
    for (uintptr_t i = 0; i < WORKERS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, rise_fall_sleep, (void *)i) != 0)
            fail("pthread_create");
    }
    books_number("free", "cached"); /* what printing needs is there from now on */
    pthread_barrier_wait(&barrier);
    size_t start = resident_bytes();
    pthread_barrier_wait(&barrier);
    size_t peak = resident_bytes();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    size_t waiting = books_number("free", "cached");
    if (waiting < WAITING_LEAST)
        fail("%zu KiB wait in quarantines: too little to show anything", waiting / KiB);
    require_fall("hardened", start, peak);
    size_t left = books_number("free", "cached");
    report("%zu KiB in quarantines after the fall, %zu KiB later", waiting / KiB, left / KiB);
    if (left > 64 * KiB) /* the main thread's own: it has just been printing */
        promise_broken("%zu KiB are still in quarantines", left / KiB);
    if (!purger_ends(5))
        fail("the purger is still there after 5 s of quiet");
    return 0;
}
