/* silent-threads: threads whose first call is one of libc's last, a free when the thread is already
 * gone for pthreads, leave nothing behind for good, and no trace that misleads others. Thousands of
 * detached threads that never call malloc themselves come and go; memory must not grow with their
 * number. Beside them others allocate, who inherit what the silent ones leave: their blocks must be
 * theirs alone.
 */
#define _GNU_SOURCE
#include "support.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define THREADS 20
#define ALLOCATING 6
#define PARCELS 100
#define WARM_UP_ROUNDS 5
#define ROUNDS 500

/* More than libc keeps of the stacks of ended threads: so each thread frees what belonged to those
 * that ended before it, when its own destructors have run. */
#define STACK (48 * MiB)

/* Of resident memory: one full cache (4 MiB, and a process as small as this one is not swept) and
 * 200 bytes for each of the 10,000 threads, of which an arena takes more than an OS page. */
#define MAY_GROW (6 * MiB)

static _Atomic unsigned started, gone, allocating;
static _Atomic bool may_go;

static void *do_nothing(void *unused)
{
    started++;
    while (!may_go)
        sleep_seconds(0.0005);
    gone++;
    return unused;
}

/* Lives through several rounds of the silent ones. */
static void *allocate(void *unused)
{
    struct parcel *parcels[PARCELS];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < PARCELS; i++)
            parcels[i] = parcel_make(PARCEL_LEAST + i * 8, 1);
        sleep_seconds(0.005);
        for (unsigned i = 0; i < PARCELS; i++)
            parcel_end(parcels[i], 1, "after a sleep");
    }
    allocating--;
    return unused;
}

static void start(const pthread_attr_t *attributes, void *(*work)(void *))
{
    pthread_t thread;
    if (pthread_create(&thread, attributes, work, NULL) != 0)
        fail("pthread_create");
}

static void run_round(const pthread_attr_t *attributes)
{
    started = gone = 0;
    may_go = false;
    for (unsigned i = 0; i < THREADS; i++)
        start(attributes, do_nothing);
    for (; allocating < ALLOCATING; allocating++)
        start(attributes, allocate);
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
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* 2 MiB at once in stacks would look like a leak */
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK);
    for (unsigned i = 0; i < WARM_UP_ROUNDS; i++)
        run_round(&attributes);
    size_t before = resident_bytes();
    for (uint64_t i = 0; i < scaled(ROUNDS); i++)
        run_round(&attributes);
    while (allocating != 0)
        sleep_seconds(0.001);
    size_t after = resident_bytes();
    size_t growth = after > before ? after - before : 0;
    report("%" PRIu64 " threads: %zu KiB more resident", scaled(ROUNDS) * THREADS, growth / KiB);
    if (growth > MAY_GROW)
        promise_broken("resident memory grew by %zu KiB", growth / KiB);
    return 0;
}
