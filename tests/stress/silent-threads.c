/* silent-threads: threads whose first call is one of libc's last, a free when the thread is already
 * gone for pthreads, leave nothing behind for good. Thousands of detached threads that never call
 * malloc themselves come and go; the address space must not grow with their number.
 */
#define _GNU_SOURCE
#include "support.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 40
#define WARM_UP_ROUNDS 5
#define ROUNDS 60

/* 2,400 threads: this is less than 3.5 KiB for each, a fraction of what an arena takes. */
#define MAY_GROW (8 * MiB)

static _Atomic unsigned started, gone;
static _Atomic bool may_go;

static void *do_nothing(void *unused)
{
    started++;
    while (!may_go)
        sleep_seconds(0.0005);
    gone++;
    return unused;
}

static void run_round(const pthread_attr_t *attributes)
{
    started = gone = 0;
    may_go = false;
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, attributes, do_nothing, NULL) != 0)
            fail("pthread_create");
    }
    while (started < THREADS)
        sleep_seconds(0.0005);
    may_go = true;
    while (gone < THREADS)
        sleep_seconds(0.0005);
    sleep_seconds(0.01); /* for their last few instructions */
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "silent-threads", 60);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 64 * KiB);
    for (unsigned i = 0; i < WARM_UP_ROUNDS; i++)
        run_round(&attributes);
    size_t before = address_bytes();
    for (uint64_t i = 0; i < scaled(ROUNDS); i++)
        run_round(&attributes);
    size_t after = address_bytes();
    size_t growth = after > before ? after - before : 0;
    report("%" PRIu64 " threads: %zu KiB more", scaled(ROUNDS) * THREADS, growth / KiB);
    if (growth > MAY_GROW)
        promise_broken("the address space grew by %zu KiB", growth / KiB);
    return 0;
}
