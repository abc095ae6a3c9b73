/* long-run: a server's life by the minute, of SCALE minutes (`make check-long` says 60). Resident
 * memory at the end of each minute is no more than a twentieth above that of the tenth.
 *
 *   workers ── requests ──► pieces, a buffer that grows, a response ──► the logger frees it
 *      │          ├──► the store: 64 MiB of values, whose usual sizes change three times a minute
 *      │          └──► sessions: a few blocks each, replaced together
 *      └── a worker ends after some requests, and a new thread goes on
 *   main ── jobs: an index of many nodes and a table of some MiB that grows, gone a moment later
 *
 * A minute has three quiet parts and three loud ones, and ends in a loud one, at which time all
 * minutes are alike. Nobody makes up for what he missed while the machine was busy with something
 * else; but a minute whose jobs were not done in time, and may be under way at its end, is lived
 * again.
 */
#define _GNU_SOURCE
#include "support.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#ifndef MINUTE_SECONDS
#define MINUTE_SECONDS 60.0 /* less: for a look at the test itself */
#endif
#define PARTS 6
#define MINUTES_MOST 10080 /* a week */
#define MINUTE_OF_REFERENCE 10
#define MAY_GROW(resident) ((resident) / 20)
#define LOOKS 11 /* at the end of a minute, in a twelfth of it; their median counts */

#define WORKERS 4
#define TICK_SECONDS 0.01
#define REQUESTS_LOUD 20 /* a tick */
#define REQUESTS_QUIET 1
#define REQUESTS_OF_A_LIFE 50000
#define PIECES 8

#define STORE_SLOTS (1u << 18)
#define STORE_BYTES (64 * MiB)

#define SESSIONS 4096
#define SESSION_PARTS 16

#define QUEUE_SLOTS 1024

#define JOBS 4 /* a minute */
#define JOB_NODES 50000
#define JOB_TABLE (16 * MiB)

static _Atomic(struct parcel *) store[STORE_SLOTS], sessions[SESSIONS][SESSION_PARTS],
    queue[QUEUE_SLOTS];
static _Atomic size_t store_bytes, session_bytes;
static _Atomic uint64_t requests, lives;
static _Atomic unsigned part; /* of the minute: the odd ones are loud */

/* ---- the store ------------------------------------------------------------------------------ */

static size_t value_size(struct rng *rng)
{
    static const struct {
        size_t least, most;
    } usual[PARTS / 2] = {{128, 2 * KiB}, {1 * KiB, 16 * KiB}, {64, 32 * KiB}};
    unsigned kind = atomic_load(&part) / 2;
    return rng_size(rng, usual[kind].least, usual[kind].most);
}

static void put_into(_Atomic(struct parcel *) *slot, struct parcel *parcel, _Atomic size_t *bytes,
                     unsigned thread)
{
    if (parcel != NULL)
        atomic_fetch_add(bytes, parcel->size);
    struct parcel *old = atomic_exchange(slot, parcel);
    if (old == NULL)
        return;
    atomic_fetch_sub(bytes, old->size);
    parcel_end(old, thread, "replaced");
}

static void set_value(struct rng *rng, unsigned thread)
{
    struct parcel *value = parcel_make(value_size(rng), thread);
    put_into(&store[rng_below(rng, STORE_SLOTS)], value, &store_bytes, thread);
    while (atomic_load(&store_bytes) > STORE_BYTES)
        put_into(&store[rng_below(rng, STORE_SLOTS)], NULL, &store_bytes, thread);
}

/* Nobody else has it while it is read. */
static void get_value(struct rng *rng, unsigned thread)
{
    _Atomic(struct parcel *) *slot = &store[rng_below(rng, STORE_SLOTS)];
    struct parcel *value = atomic_exchange(slot, NULL), *none = NULL;
    if (value == NULL)
        return;
    parcel_check(value, thread, "in the store");
    if (atomic_compare_exchange_strong(slot, &none, value))
        return;
    atomic_fetch_sub(&store_bytes, value->size);
    parcel_end(value, thread, "out of date");
}

/* ---- requests ------------------------------------------------------------------------------- */

static void replace_session(struct rng *rng, unsigned thread)
{
    size_t session = rng_below(rng, SESSIONS);
    for (unsigned i = 0; i < SESSION_PARTS; i++)
        put_into(&sessions[session][i], parcel_make(rng_size(rng, 32, 2 * KiB), thread),
                 &session_bytes, thread);
}

/* A text that is not known to be so long. */
static void grow_buffer(struct rng *rng)
{
    size_t most = rng_below(rng, 100) == 0 ? MiB : 32 * KiB, end = rng_size(rng, 64, most);
    char *buffer = NULL;
    for (size_t size = 0; size < end;) {
        size_t more = size == 0 ? 64 : size;
        buffer = realloc(buffer, size + more);
        if (buffer == NULL)
            fail("realloc(%zu) = NULL", size + more);
        if (size != 0 && (buffer[0] != 'a' || buffer[size - 1] != 'a'))
            fail("realloc(%zu) lost what was in it", size + more);
        memset(buffer + size, 'a', more);
        size += more;
    }
    free(buffer);
}

static void serve(struct rng *rng, unsigned thread)
{
    struct parcel *pieces[PIECES];
    for (unsigned i = 0; i < PIECES; i++)
        pieces[i] = parcel_make(rng_size(rng, 32, 512), thread);
    grow_buffer(rng);
    set_value(rng, thread);
    get_value(rng, thread);
    if (rng_below(rng, 20) == 0)
        replace_session(rng, thread);
    struct parcel *response = parcel_make(rng_size(rng, 128, 16 * KiB), thread);
    response = atomic_exchange(&queue[rng_below(rng, QUEUE_SLOTS)], response);
    if (response != NULL) /* the logger is behind */
        parcel_end(response, thread, "not logged");
    for (unsigned i = 0; i < PIECES; i++)
        parcel_end(pieces[i], thread, "a piece of a request");
    atomic_fetch_add(&requests, 1);
}

/* ---- threads -------------------------------------------------------------------------------- */

static void start(void *(*main_of_thread)(void *), void *argument)
{
    pthread_t id;
    int error = pthread_create(&id, NULL, main_of_thread, argument);
    if (error != 0)
        fail("pthread_create: %s", strerror(error));
    pthread_detach(id);
}

static void *work(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;
    struct rng rng = rng_stream(atomic_fetch_add(&lives, 1));
    for (unsigned served = 0; served < REQUESTS_OF_A_LIFE;) {
        unsigned count = atomic_load(&part) % 2 == 1 ? REQUESTS_LOUD : REQUESTS_QUIET;
        for (unsigned i = 0; i < count; i++)
            serve(&rng, number);
        served += count;
        sleep_seconds(TICK_SECONDS);
    }
    start(work, argument);
    return NULL;
}

static _Noreturn void *log_responses(void *argument)
{
    (void)argument;
    for (;;) {
        for (unsigned i = 0; i < QUEUE_SLOTS; i++) {
            struct parcel *response = atomic_exchange(&queue[i], NULL);
            if (response != NULL)
                parcel_end(response, WORKERS, "logged");
        }
        sleep_seconds(TICK_SECONDS);
    }
}

static void do_job(struct rng *rng)
{
    static struct parcel *nodes[JOB_NODES];
    char *table = NULL;
    for (size_t i = 0; i < JOB_NODES; i++)
        nodes[i] = parcel_make(rng_size(rng, 32, 512), WORKERS + 1);
    for (size_t size = MiB; size <= JOB_TABLE; size *= 2) {
        table = realloc(table, size);
        if (table == NULL)
            fail("realloc(%zu) = NULL", size);
        memset(table + size / 2, 1, size / 2);
    }
    for (size_t i = 0; i < JOB_NODES; i++)
        parcel_end(nodes[i], WORKERS + 1, "a node of a job");
    free(table);
}

/* ---- minutes -------------------------------------------------------------------------------- */

static void sleep_until(double when)
{
    double now = now_seconds();
    if (when > now)
        sleep_seconds(when - now);
}

static int compare_sizes(const void *a, const void *b)
{
    size_t first = *(const size_t *)a, second = *(const size_t *)b;
    return (first > second) - (first < second);
}

/* Returns what is resident at its end, or 0 when it was behind its time. */
static size_t live_a_minute(struct rng *rng)
{
    double begin = now_seconds();
    size_t looks[LOOKS];
    for (unsigned now = 0; now < PARTS; now++) {
        atomic_store(&part, now);
        if (now < JOBS)
            do_job(rng);
        double end = begin + (now + 1) * MINUTE_SECONDS / PARTS;
        if (now_seconds() > end)
            return 0;
        if (now < PARTS - 1)
            sleep_until(end);
    }
    for (int i = 0; i < LOOKS; i++) {
        sleep_until(begin + MINUTE_SECONDS * (1 - (LOOKS - 1 - i) / (LOOKS - 1.0) / 12));
        looks[i] = resident_bytes();
    }
    qsort(looks, LOOKS, sizeof *looks, compare_sizes);
    return looks[LOOKS / 2];
}

int main(int argc, char **argv)
{
    static size_t resident[MINUTES_MOST + 1];
    stress_begin(argc, argv, "long-run", 150);
    uint64_t minutes = scaled(1);
    if (minutes <= MINUTE_OF_REFERENCE || minutes > MINUTES_MOST)
        fail("%" PRIu64 " minutes: from %d to %d are of use", minutes, MINUTE_OF_REFERENCE + 1,
             MINUTES_MOST);
    struct rng rng = rng_stream(1000000);
    start(log_responses, NULL);
    for (uintptr_t i = 0; i < WORKERS; i++)
        start(work, (void *)i);
    uint64_t again = 0;
    for (uint64_t now = 1; now <= minutes; now++) {
        while ((resident[now] = live_a_minute(&rng)) == 0)
            if (++again > minutes)
                fail("the machine is too busy: half of the minutes were not lived in time");
        report("minute %" PRIu64 ": %.1f MiB resident, %.1f MiB in the store and sessions, %" PRIu64
               " requests so far",
               now, (double)resident[now] / MiB,
               (double)(atomic_load(&store_bytes) + atomic_load(&session_bytes)) / MiB,
               atomic_load(&requests));
    }
    size_t most = resident[MINUTE_OF_REFERENCE] + MAY_GROW(resident[MINUTE_OF_REFERENCE]);
    for (uint64_t now = MINUTE_OF_REFERENCE + 1; now <= minutes; now++)
        if (resident[now] > most)
            fail("minute %" PRIu64 ": %.1f MiB resident, more than a twentieth above the %.1f MiB"
                 " of minute %d",
                 now, (double)resident[now] / MiB, (double)resident[MINUTE_OF_REFERENCE] / MiB,
                 MINUTE_OF_REFERENCE);
    report("passed: %" PRIu64 " minutes, %" PRIu64 " more that were not lived in time, %" PRIu64
           " threads",
           minutes, again, atomic_load(&lives));
    return 0;
}
