/* holds: what a sweep does to an arena, it does in short holds. An owner that wants its arena's
 * mutex all the while, as its slow paths do, is kept out for less than half a millisecond each
 * time: while its cache is emptied, and while its holes are given back, whose number has no bound.
 * The median counts, since other programs may keep the holder from its processor; the rest is
 * reported.
 *
 * Works on the core, beside the preloaded library, since nothing tells of a hold from outside.
 */
#include "../unit/support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "arenas.h"
#include "takeover.h"

/* There are more rounds until the owner was there, on its processor, when its cache was emptied. */
enum {
    ROUNDS = 20,
    ROUNDS_MOST = 100,
    WAITS_LEAST = 15,
    HEAP_BYTES = 24 * MiB,
    BLOCKS_MOST = 100000,
    SURVIVORS = 16
};

#define MAY_WAIT_US 500.0

/* Nobody else had the mutex. */
#define NO_WAIT_US 3.0

/* ---- The owner --------------------------------------------------------------------------------
 */

enum order { OWNER_IDLE, OWNER_RISE, OWNER_FALL, OWNER_END, OWNER_WATCH, OWNER_LEAVE };

static _Atomic enum order order;
static char *blocks[BLOCKS_MOST];
static size_t count;

struct waits {
    double us[100000];
    size_t count;
};
static struct waits *watched;

static void rise(struct random *random)
{
    count = 0;
    for (size_t bytes = 0; bytes < HEAP_BYTES; count++) {
        size_t size = (size_t)16 << random_below(random, 8);
        size += random_below(random, size);
        require(count < BLOCKS_MOST && (blocks[count] = ebb_malloc(size)) != NULL);
        memset(blocks[count], 1, size);
        bytes += size;
    }
}

static void fall(struct random *random, size_t one_in)
{
    for (size_t i = 0; i < count; i++) {
        if (blocks[i] == NULL || (one_in != 0 && random_below(random, one_in) == 0))
            continue;
        ebb_free(blocks[i]);
        blocks[i] = NULL;
    }
}

static void watch(void)
{
    double before = seconds_now();
    lock_acquire(&arena_self->mutex);
    double us = (seconds_now() - before) * 1e6;
    lock_release(&arena_self->mutex);
    if (us > NO_WAIT_US && watched->count < sizeof watched->us / sizeof *watched->us)
        watched->us[watched->count++] = us;
    for (int i = 0; i < 100; i++)
        lock_pause(); /* the program's own work */
}

static void *own(void *unused)
{
    struct random random = {1};
    for (;;) {
        switch (atomic_load(&order)) {
        case OWNER_RISE:
            rise(&random);
            break;
        case OWNER_FALL:
            fall(&random, SURVIVORS);
            break;
        case OWNER_END:
            fall(&random, 0);
            break;
        case OWNER_WATCH:
            watch();
            continue;
        case OWNER_LEAVE:
            return unused;
        case OWNER_IDLE:
            sched_yield();
            continue;
        }
        atomic_store(&order, OWNER_IDLE);
    }
}

static void give_order(enum order wanted)
{
    atomic_store(&order, wanted);
    while (atomic_load(&order) != OWNER_IDLE)
        usleep(100);
}

/* ---- The sweeps -------------------------------------------------------------------------------
 */

/* Calls sweep while the owner watches. */
static size_t sweep_watched(size_t (*sweep)(void), struct waits *waits)
{
    watched = waits;
    atomic_store(&order, OWNER_WATCH);
    usleep(5000); /* it is there */
    size_t result = sweep();
    usleep(1000);
    atomic_store(&order, OWNER_IDLE);
    usleep(1000);
    return result;
}

static size_t sweep_quiet(void)
{
    takeover_flush(false);
    return 0;
}

static size_t purge_holes(void)
{
    return takeover_purge_holes(0);
}

static int compare(const void *first, const void *second)
{
    double a = *(const double *)first, b = *(const double *)second;
    return (a > b) - (a < b);
}

static void require_short(const char *what, struct waits *waits)
{
    if (waits->count == 0) {
        print_message("%s: the owner never had to wait\n", what);
        return;
    }
    qsort(waits->us, waits->count, sizeof *waits->us, compare);
    double us = waits->us[waits->count / 2];
    print_message("%s: the owner waited %zu times, %.0f us in the median (allowed are %.0f), nine "
                  "times of ten within %.0f us, %.0f us at most\n",
                  what, waits->count, us, MAY_WAIT_US, waits->us[waits->count * 9 / 10],
                  waits->us[waits->count - 1]);
    assert_true(us <= MAY_WAIT_US);
}

static struct waits emptying, purging;

static void sweep_beside_owner(void **state)
{
    (void)state;
    pthread_t thread;
    size_t bytes = 0;
    ebb_free(ebb_malloc(1));
    assert_int_equal(pthread_create(&thread, NULL, own, NULL), 0);
    size_t rounds = 0;
    for (; rounds < ROUNDS || (rounds < ROUNDS_MOST && emptying.count < WAITS_LEAST); rounds++) {
        give_order(OWNER_RISE);
        give_order(OWNER_FALL);
        for (int sweep = 0; sweep < 2; sweep++)
            takeover_flush(false); /* it has seen what the owner did */
        sweep_watched(sweep_quiet, &emptying);
        purge_holes(); /* the spans rest */
        bytes += sweep_watched(purge_holes, &purging);
        give_order(OWNER_END);
    }
    atomic_store(&order, OWNER_LEAVE);
    pthread_join(thread, NULL);
    print_message("%zu MiB of holes in %zu sweeps\n", bytes / MiB, rounds);
    assert_true(bytes >= rounds * (HEAP_BYTES / 4));
}

static void owner_is_let_in_while_its_cache_is_emptied(void **state)
{
    (void)state;
    require_short("cache", &emptying);
}

static void owner_is_let_in_while_its_holes_are_purged(void **state)
{
    (void)state;
    require_short("holes", &purging);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sweep_beside_owner),
        cmocka_unit_test(owner_is_let_in_while_its_cache_is_emptied),
        cmocka_unit_test(owner_is_let_in_while_its_holes_are_purged),
    };
    if ((size_t)sysconf(_SC_PAGESIZE) > PAGE_SIZE) {
        puts("left out: an OS page is larger than most spans");
        return 77;
    }
    return cmocka_run_group_tests_name("holds", tests, NULL, NULL);
}
