/* Takeovers of caches whose owners never pause: the biased lock of cache.h.
 *
 * Owners allocate, stamp, verify and free as fast as they can, small blocks from the cache and now
 * and then one that goes to the slow path. Visitors flush, count and trim meanwhile. A visitor that
 * worked on a cache together with its owner would have a block handed out twice or lost: two
 * holders would overwrite each other's stamp, or the allocator would find a block freed twice.
 *
 * That this would be seen is shown by the same load without the barrier.
 */
#include "support.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arenas.h"
#include "stats_sum.h"
#include "takeover.h"

enum { OWNERS = 2, SLOTS = 24, WANTED_TAKEOVERS = 2000000 };

#define SECONDS_MOST 15.0            /* whatever has been reached by then has to do */
#define SECONDS_WITHOUT_BARRIER 20.0 /* for the violation to be seen */

static _Atomic bool stop;
static struct arena *_Atomic owned_by[OWNERS];
static _Atomic size_t owner_steps;

/* The block's owner, its slot and a number that is never used again; twice, at both ends. */
struct stamp {
    uint64_t who, serial;
};

struct held {
    char *start;
    size_t size;
    struct stamp stamp;
};

static void stamp_block(struct held *held)
{
    memcpy(held->start, &held->stamp, sizeof held->stamp);
    memcpy(held->start + held->size - sizeof held->stamp, &held->stamp, sizeof held->stamp);
}

static void require_stamp(const struct held *held)
{
    require(memcmp(held->start, &held->stamp, sizeof held->stamp) == 0);
    require(memcmp(held->start + held->size - sizeof held->stamp, &held->stamp,
                   sizeof held->stamp) == 0);
}

/* Stores that miss the processor's caches: those that follow have to queue behind them, in order
 * (on x86-64), while loads go on. So the owner's `busy = 1` becomes visible late, which is what the
 * barrier is against; without them a violation is too rare to be seen. */
enum { QUEUED_STORES = 30, LINES_PER_OWNER = 1 << 19 };

static struct {
    _Alignas(64) size_t word;
} lines[OWNERS][LINES_PER_OWNER];

static void queue_stores(struct random *random, size_t owner)
{
    size_t line = random_below(random, LINES_PER_OWNER);
    for (size_t i = 0; i < QUEUED_STORES; i++) {
        *(volatile size_t *)&lines[owner][line].word = i;
        line = (line + 7919) % LINES_PER_OWNER;
    }
}

/* A few sizes, so that pops and pushes of one bin follow each other closely. */
static size_t owner_size(struct random *random)
{
    static const size_t sizes[] = {16, 32, 48, 128, 512, 4096};
    size_t choice = random_below(random, 1024);
    return choice == 0 ? 40000 : sizes[choice % 6];
}

static void *own(void *argument)
{
    size_t owner = (size_t)argument, steps = 0;
    struct random random = {owner};
    struct held held[SLOTS] = {0};
    ebb_free(ebb_malloc(1));
    atomic_store(&owned_by[owner], arena_self);
    for (; !atomic_load_explicit(&stop, memory_order_relaxed); steps++) {
        struct held *slot = &held[random_below(&random, SLOTS)];
        if (slot->start != NULL) {
            require_stamp(slot);
            queue_stores(&random, owner);
            ebb_free(slot->start);
        }
        slot->size = owner_size(&random);
        queue_stores(&random, owner);
        slot->start = ebb_malloc(slot->size);
        require(slot->start != NULL);
        slot->stamp = (struct stamp){owner * SLOTS + (size_t)(slot - held), steps};
        stamp_block(slot);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (held[i].start != NULL) {
            require_stamp(&held[i]);
            ebb_free(held[i].start);
        }
    }
    atomic_fetch_add(&owner_steps, steps);
    return NULL;
}

/* ---- Visitors ----------------------------------------------------------------------------------
 */

struct tally {
    size_t visits, kept_out; /* of the owners' arenas */
};

/* Reads the whole cache, as the statistics do: what it finds has to make sense. */
static void look(struct arena *arena, bool owned, void *context)
{
    struct tally *tally = context;
    for (size_t i = 0; i < OWNERS; i++) {
        if (arena != atomic_load_explicit(&owned_by[i], memory_order_relaxed))
            continue;
        tally->visits++;
        tally->kept_out += owned;
        struct stats stats = {0};
        struct sums sums = {.stats = &stats};
        sum_arena(&sums, arena, owned, 0);
        require(stats.cached <= 64 * MiB);
    }
}

/* Takeovers of the owners' arenas so far. */
static void add_takeovers(struct arena *arena, bool owned, void *context)
{
    (void)owned;
    for (size_t i = 0; i < OWNERS; i++)
        if (arena == atomic_load(&owned_by[i]))
            *(size_t *)context += arena->takeovers;
}

static size_t takeovers(void)
{
    size_t count = 0;
    takeover_visit_all(add_takeovers, &count);
    return count;
}

/* Mostly looks and flushes, which are quick; a trim costs page faults, and the figures a look at
 * every page. */
static void visit_once(size_t turn, struct tally *tally)
{
    if (turn % 1024 == 1023)
        ebb_malloc_trim(0);
    else if (turn % 256 == 255)
        ebb_mallinfo2();
    else if (turn % 2 == 1)
        takeover_flush(true);
    else
        takeover_visit_all(look, tally);
}

static void start_owners(pthread_t *threads)
{
    atomic_store(&stop, false);
    for (size_t i = 0; i < OWNERS; i++)
        require(pthread_create(&threads[i], NULL, own, (void *)i) == 0);
    for (size_t i = 0; i < OWNERS; i++)
        while (atomic_load(&owned_by[i]) == NULL)
            sched_yield();
}

static void stop_owners(pthread_t *threads)
{
    atomic_store(&stop, true);
    for (size_t i = 0; i < OWNERS; i++)
        require(pthread_join(threads[i], NULL) == 0);
}

/* Until enough takeovers or the time is over. */
static struct tally visit_owners(size_t wanted, double seconds)
{
    pthread_t threads[OWNERS];
    struct tally tally = {0, 0};
    double end = seconds_now() + seconds;
    start_owners(threads);
    for (size_t turn = 0; turn % 4096 != 0 || (takeovers() < wanted && seconds_now() < end); turn++)
        visit_once(turn, &tally);
    size_t reached = takeovers();
    stop_owners(threads);
    print_message("%zu takeovers of %d owners, who made %zu steps\n", reached, OWNERS,
                  atomic_load(&owner_steps));
    return tally;
}

static void owners_that_never_pause_are_taken_over_without_harm(void **state)
{
    (void)state;
    os_init();
    assert_true(os_has_barrier());
    struct tally tally = visit_owners(WANTED_TAKEOVERS, SECONDS_MOST);
    print_message("%zu visits looked inside, %zu of them with the owner kept out\n", tally.visits,
                  tally.kept_out);
    assert_int_not_equal(tally.kept_out, 0);
    ebb_malloc_trim(0);
    struct mallinfo2 info = ebb_mallinfo2();
    assert_int_equal(info.uordblks, 0);
    assert_int_equal(info.fsmblks, 0);
}

static void visit_without_barrier(void *argument)
{
    (void)argument;
    os_skip_barrier = true;
    alarm(120); /* harm may also be that it never ends */
    visit_owners(SIZE_MAX, SECONDS_WITHOUT_BARRIER);
    ebb_malloc_trim(0);
    require(ebb_mallinfo2().uordblks == 0); /* no block was lost */
}

/* The child ends at the first violation: by a stamp, by the allocator's checks, or by a crash. */
static void without_the_barrier_the_same_load_does_harm(void **state)
{
    (void)state;
    cpu_set_t processors;
    require(sched_getaffinity(0, sizeof processors, &processors) == 0);
    if (CPU_COUNT(&processors) < 2)
        skip(); /* threads of one processor see each other's stores in order */
    char said[4096];
    double begin = seconds_now();
    int status = run_in_child(visit_without_barrier, NULL, said, sizeof said);
    print_message("signal %d after %.3f s: %s\n", WTERMSIG(status), seconds_now() - begin, said);
    assert_true(WIFSIGNALED(status));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_the_barrier_the_same_load_does_harm),
        cmocka_unit_test(owners_that_never_pause_are_taken_over_without_harm),
    };
    return cmocka_run_group_tests_name("takeover", tests, NULL, NULL);
}
