/* Arenas through the front door: refill and flush, the limits of caches, blocks that others free,
 * threads that come and go, and what is caught. The purger's thread is off: nothing but the test
 * empties caches here.
 */
#include "support.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arenas.h"
#include "options.h"
#include "stats.h"

static int start(void **state)
{
    (void)state;
    setenv("EBBMALLOC_BACKGROUND_THREAD", "off", 1);
    ebb_free(ebb_malloc(1));
    return 0;
}

static struct stats collect(void)
{
    struct stats stats;
    stats_collect(&stats, NULL);
    return stats;
}

/* Every test leaves nothing behind: what it freed can all be brought back. */
static int nothing_in_use(void **state)
{
    (void)state;
    ebb_malloc_trim(0);
    struct stats stats = collect();
    bool clean = stats.small_live == 0 && stats.cached == 0 && stats.spans == 0 &&
                 stats.large_live == 0 && stats.huge_live == 0 && stats.small_free == 0;
    return clean ? 0 : -1;
}

static void run_thread(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    require(pthread_create(&thread, NULL, function, argument) == 0);
    require(pthread_join(thread, NULL) == 0);
}

/* ---- Refill and flush ---------------------------------------------------------------------------
 */

enum { MANY = 3000 };
static char *blocks[MANY];

static void allocate(size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        blocks[i] = ebb_malloc(size);
        require(blocks[i] != NULL);
        pattern_write(blocks[i], size, i);
    }
}

static void release(size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        require(pattern_holds(blocks[i], size, i));
        ebb_free(blocks[i]);
    }
}

static void blocks_of_every_class_are_whole_and_apart(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_SMALL_LAST; class ++) {
        size_t size = sizeclasses[class].size, count = min_size(MANY, 2 * MiB / size);
        allocate(count, size);
        struct stats stats = collect();
        assert_int_equal(stats.small_live, count * size);
        release(count, size);
        assert_int_equal(collect().small_live, 0);
    }
}

static void a_refill_takes_the_lowest_blocks_in_order(void **state)
{
    (void)state;
    allocate(500, 64);
    for (size_t i = 1; i < 500; i++)
        assert_ptr_equal(blocks[i], blocks[0] + i * 64);
    release(500, 64);
}

/* The most that a bin holds, and what it may hold at first whatever the budget is (arena.c). */
enum { BIN_BYTES = 512 * 1024, BIN_BLOCKS = 2048, BIN_BLOCKS_LEAST = 4, FIRST_BYTES = 4 * 1024 };

static void a_bin_keeps_no_more_than_its_limits(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_SMALL_LAST; class ++) {
        size_t size = sizeclasses[class].size, count = min_size(MANY, 4 * MiB / size);
        ebb_malloc_trim(0);
        allocate(count, size);
        release(count, size);
        size_t cached = collect().cached;
        assert_true(cached <= max_size(BIN_BYTES, BIN_BLOCKS_LEAST * size));
        assert_true(cached <= BIN_BLOCKS * size);
        assert_int_not_equal(cached, 0);
    }
}

/* All bins after a load of each class, which used more than a thread may keep. */
static void check_budget(size_t option)
{
    size_t first_limits = 0;
    options.thread_cache = option;
    ebb_malloc_trim(0);
    for (int round = 0; round < 3; round++) {
        for (unsigned class = CLASS_FIRST; class <= CLASS_SMALL_LAST; class ++) {
            size_t size = sizeclasses[class].size;
            allocate(min_size(MANY, 1 * MiB / size), size);
            release(min_size(MANY, 1 * MiB / size), size);
            if (round == 0)
                first_limits += max_size(size, FIRST_BYTES);
        }
        assert_true(collect().cached <= option + first_limits);
    }
}

static void all_bins_together_stay_within_the_option(void **state)
{
    (void)state;
    size_t option = options.thread_cache;
    assert_int_equal(option, 4 * MiB);
    check_budget(option);
    check_budget(1 * MiB);
    check_budget(0);
    options.thread_cache = option;
}

/* Blocks in bins would keep spans from serving the class that grows. */
static void an_arena_that_grows_empties_its_bins_first(void **state)
{
    (void)state;
    enum { GROWN = 2200, MORE = 512, SIZES = 3, CACHED = 200 };
    static const size_t sizes[SIZES] = {96, 320, 1024};
    static char *more[MORE], *soon_free[CACHED];
    allocate(GROWN, 4096);
    for (size_t i = 0; i < 4 * SIZES; i++) {
        for (size_t k = 0; k < CACHED; k++)
            soon_free[k] = ebb_malloc(sizes[i % SIZES]);
        for (size_t k = 0; k < CACHED; k++)
            ebb_free(soon_free[k]);
    }
    assert_true(collect().cached > 128 * KiB);
    size_t spans = collect().spans;
    for (size_t i = 0; i < MORE; i++)
        require((more[i] = ebb_malloc(2048)) != NULL);
    /* What is left is of the class that grows. */
    assert_true(collect().cached <= 64 * KiB);
    assert_true(collect().spans <= spans - SIZES + MORE / sizeclasses[sizeclass_of(2048)].capacity);
    for (size_t i = 0; i < MORE; i++)
        ebb_free(more[i]);
    release(GROWN, 4096);
}

static void an_empty_span_goes_back_at_once(void **state)
{
    (void)state;
    allocate(2000, 4096);
    assert_true(collect().spans >= 2000 / sizeclasses[sizeclass_of(4096)].capacity);
    release(2000, 4096);
    /* What stays in the cache keeps its spans. */
    size_t cached_blocks = collect().cached / 4096;
    assert_true(collect().spans <= cached_blocks);
    ebb_malloc_trim(0);
    assert_int_equal(collect().spans, 0);
}

/* ---- Large blocks: spans of one block each
 * -------------------------------------------------------
 */

static void large_blocks_are_cached_and_serve_again(void **state)
{
    (void)state;
    for (size_t size = SMALL_MAX + 1; size <= LARGE_MAX; size += size / 3) {
        char *block = ebb_malloc(size);
        size_t usable = ebb_malloc_usable_size(block);
        pattern_write(block, usable, size);
        require(usable >= size && usable % PAGE_SIZE == 0);
        require((uintptr_t)block % PAGE_SIZE == 0);
        assert_int_equal(collect().large_live, usable);
        assert_int_equal(collect().large_blocks, 1);
        require(pattern_holds(block, usable, size));
        ebb_free(block);
        struct stats stats = collect();
        assert_int_equal(stats.large_live, 0);
        assert_int_equal(stats.large_blocks, 0);
        assert_int_equal(stats.cached, usable);
        assert_ptr_equal(ebb_malloc(size), block);
        ebb_free(block);
        ebb_malloc_trim(0);
    }
}

/* A cached block serves a request that is a little smaller, and none that is much smaller. */
static void a_larger_cached_block_serves_if_it_is_not_much_larger(void **state)
{
    (void)state;
    unsigned class = sizeclass_of(1 * MiB);
    char *block = ebb_malloc(sizeclasses[class].size);
    ebb_free(block);
    char *much_smaller = ebb_malloc(sizeclasses[class - 3].size);
    char *smaller = ebb_malloc(sizeclasses[class - 2].size);
    assert_ptr_not_equal(much_smaller, block);
    assert_ptr_equal(smaller, block);
    assert_int_equal(ebb_malloc_usable_size(smaller), 1 * MiB);
    ebb_free(smaller);
    ebb_free(much_smaller);
}

static void large_blocks_grow_and_shrink_where_they_stand(void **state)
{
    (void)state;
    size_t size = 40000;
    char *block = ebb_malloc(size);
    pattern_write(block, size, 1);
    for (size_t larger = 2 * size; larger <= LARGE_MAX; larger *= 2)
        assert_ptr_equal(ebb_realloc(block, larger), block);
    assert_int_equal(collect().large_live, ebb_malloc_usable_size(block));
    assert_ptr_equal(ebb_realloc(block, 3 * PAGE_SIZE), block);
    assert_int_equal(ebb_malloc_usable_size(block), 3 * PAGE_SIZE);
    assert_int_equal(collect().large_live, 3 * PAGE_SIZE);
    assert_true(pattern_holds(block, size, 1));
    /* Not over a neighbour. */
    char *next = ebb_malloc(3 * PAGE_SIZE);
    require(next == block + 3 * PAGE_SIZE || next == block + 4 * PAGE_SIZE);
    char *moved = ebb_realloc(block, LARGE_MAX);
    assert_ptr_not_equal(moved, block);
    assert_true(pattern_holds(moved, size, 1));
    ebb_free(next);
    ebb_free(moved);
}

static void large_blocks_of_calloc_are_zero_whoever_had_them_before(void **state)
{
    (void)state;
    for (size_t size = SMALL_MAX + 1; size <= LARGE_MAX; size += size / 2) {
        for (int round = 0; round < 3; round++) {
            char *block = ebb_calloc(1, size);
            require(reads_zero(block, size));
            memset(block, 1, ebb_malloc_usable_size(block));
            ebb_free(block);
            if (round == 1)
                ebb_malloc_trim(0);
        }
    }
}

/* ---- Blocks that other threads free -------------------------------------------------------------
 */

static void *free_all(void *argument)
{
    release(MANY, (size_t)(uintptr_t)argument);
    return NULL;
}

static void *allocate_all(void *argument)
{
    allocate(MANY, (size_t)(uintptr_t)argument);
    return NULL;
}

static void blocks_freed_elsewhere_return_to_their_owner(void **state)
{
    (void)state;
    size_t before = collect().foreign_frees;
    allocate(MANY, 200);
    run_thread(free_all, (void *)200);
    struct stats stats = collect();
    assert_int_equal(stats.small_live, 0);
    assert_int_equal(stats.foreign_frees - before, MANY);
    /* The thread has gone, and what it freed can serve the first one: no new span is needed. */
    allocate(MANY, 200);
    release(MANY, 200);
}

static void blocks_of_a_thread_that_ended_can_be_used_and_freed(void **state)
{
    (void)state;
    run_thread(allocate_all, (void *)700);
    release(MANY, 700);
    assert_int_equal(collect().small_live, 0);
}

static struct arena *main_arena;

static void *free_while_owner_is_busy(void *argument)
{
    (void)argument;
    for (size_t i = 0; i < 200; i++)
        ebb_free(blocks[i]);
    return NULL;
}

static void mail_for_an_owner_whose_mutex_is_held_is_not_lost(void **state)
{
    (void)state;
    ebb_malloc_trim(0);
    allocate(200, 3000);
    size_t before = collect().foreign_frees;
    main_arena = arena_self;
    lock_acquire(&main_arena->mutex);
    run_thread(free_while_owner_is_busy, NULL); /* ends, though the mutex is held */
    bool mail = !mailbox_is_empty(&main_arena->mailbox);
    lock_release(&main_arena->mutex);
    assert_true(mail);
    ebb_malloc_trim(0);
    assert_true(mailbox_is_empty(&main_arena->mailbox));
    assert_int_equal(collect().foreign_frees - before, 200);
    assert_int_equal(collect().small_live, 0);
    assert_int_equal(collect().spans, 0);
}

/* ---- Spans that change their owner
 * ---------------------------------------------------------------
 */

enum { LENT = 840, LENT_SIZE = 3000, WANTED = 400 };
static char *wanted_blocks[WANTED];
static pthread_barrier_t steps;

/* Half of what the main thread made goes back to its spans, every other block. */
static void leave_half_free(void)
{
    allocate(LENT, LENT_SIZE);
    for (size_t i = 0; i < LENT; i += 2) {
        ebb_free(blocks[i]);
        blocks[i] = NULL;
    }
    ebb_malloc_trim(0);
}

static void *want_some(void *argument)
{
    for (size_t i = 0; i < WANTED; i++) {
        wanted_blocks[i] = ebb_malloc(LENT_SIZE);
        pattern_write(wanted_blocks[i], LENT_SIZE, i);
    }
    return argument;
}

static void check_and_free_wanted(void)
{
    for (size_t i = 0; i < WANTED; i++) {
        require(pattern_holds(wanted_blocks[i], LENT_SIZE, i));
        ebb_free(wanted_blocks[i]);
    }
}

static void check_and_free_rest(void)
{
    for (size_t i = 1; i < LENT; i += 2) {
        if (blocks[i] == NULL)
            continue;
        require(pattern_holds(blocks[i], LENT_SIZE, i));
        ebb_free(blocks[i]);
    }
}

static void spans_with_free_blocks_serve_another_thread(void **state)
{
    (void)state;
    leave_half_free();
    struct stats before = collect();
    run_thread(want_some, NULL);
    struct stats after = collect();
    assert_int_equal(after.spans, before.spans); /* no new one */
    assert_true(after.borrowed_spans > before.borrowed_spans);
    check_and_free_wanted();
    check_and_free_rest();
    assert_int_equal(collect().small_live, 0);
}

enum { MAILED = 200 };

/* With the owner's mutex held by the main thread: mail. Then his spans are taken over. */
static void *mail_then_want_some(void *argument)
{
    for (size_t i = 1; i < 2 * MAILED; i += 2) {
        ebb_free(blocks[i]);
        blocks[i] = NULL;
    }
    pthread_barrier_wait(&steps);
    pthread_barrier_wait(&steps);
    want_some(argument);
    pthread_barrier_wait(&steps);
    pthread_barrier_wait(&steps);
    return argument;
}

static void mail_for_a_span_that_has_moved_reaches_its_owner(void **state)
{
    (void)state;
    pthread_t thread;
    leave_half_free();
    size_t borrowed = collect().borrowed_spans;
    main_arena = arena_self;
    require(pthread_barrier_init(&steps, NULL, 2) == 0);
    lock_acquire(&main_arena->mutex);
    require(pthread_create(&thread, NULL, mail_then_want_some, NULL) == 0);
    pthread_barrier_wait(&steps);
    lock_release(&main_arena->mutex);
    pthread_barrier_wait(&steps);
    pthread_barrier_wait(&steps);
    require(!mailbox_is_empty(&main_arena->mailbox));
    require(collect().borrowed_spans > borrowed);
    ebb_malloc_trim(0);
    require(!arena_has_mail(main_arena));
    pthread_barrier_wait(&steps);
    require(pthread_join(thread, NULL) == 0);
    assert_int_equal(collect().small_live, (LENT / 2 - MAILED + WANTED) * 3072);
    check_and_free_wanted();
    check_and_free_rest();
}

/* A thread that makes what others free: more than 64 KiB of it must be free before it is lent. */
enum { MADE_SIZE = 1024, FEW = 60, MORE = 400 };

static void *free_every_other(void *argument)
{
    const size_t *range = argument;
    for (size_t i = range[0]; i < range[1]; i += 2) {
        ebb_free(blocks[i]);
        blocks[i] = NULL;
    }
    return NULL;
}

static void *make_and_free_many(void *argument)
{
    void *made[MORE / 2];
    for (size_t i = 0; i < MORE / 2; i++)
        made[i] = ebb_malloc(MADE_SIZE);
    *(struct stats *)argument = collect();
    for (size_t i = 0; i < MORE / 2; i++)
        ebb_free(made[i]);
    return NULL;
}

static void a_thread_that_makes_what_others_free_lends_what_it_has_many_of(void **state)
{
    (void)state;
    struct stats before, after;
    allocate(MANY, MADE_SIZE);
    run_thread(free_every_other, (size_t[]){0, FEW});
    before = collect();
    run_thread(make_and_free_many, &after);
    assert_int_equal(after.borrowed_spans, before.borrowed_spans);
    assert_true(after.spans > before.spans);
    run_thread(free_every_other, (size_t[]){FEW, FEW + 2 * MORE});
    before = collect();
    run_thread(make_and_free_many, &after);
    assert_true(after.borrowed_spans > before.borrowed_spans);
    for (size_t i = 0; i < MANY; i++)
        ebb_free(blocks[i]);
}

static void a_thread_that_makes_what_others_free_keeps_one_empty_span(void **state)
{
    (void)state;
    struct span *const *spare = &arena_self->records[sizeclass_of(MADE_SIZE)];
    allocate(MANY, MADE_SIZE);
    run_thread(free_all, (void *)(uintptr_t)MADE_SIZE);
    struct span *kept = *spare;
    assert_non_null(kept);
    assert_true(span_is_whole(kept));
    assert_int_equal(kept->free_count, kept->capacity);
    /* More than can be left in the cache: the span comes before a new one. */
    allocate(MANY, MADE_SIZE);
    assert_null(*spare);
    assert_int_not_equal(kept->free_count, kept->capacity);
    run_thread(free_all, (void *)(uintptr_t)MADE_SIZE);
    assert_non_null(*spare);
    ebb_malloc_trim(0);
    assert_null(*spare);
}

/* ---- Threads come and go
 * --------------------------------------------------------------------------- */

static void *live_and_end(void *argument)
{
    for (size_t size = 1; size <= 100000; size = size * 3 + 1)
        ebb_free(ebb_malloc(size));
    return argument;
}

static void threads_one_after_another_share_one_arena(void **state)
{
    (void)state;
    run_thread(live_and_end, NULL);
    ebb_malloc_trim(0);
    size_t arenas = arenas_count(), mapped = collect().metadata;
    for (int i = 0; i < 2000; i++)
        run_thread(live_and_end, NULL);
    ebb_malloc_trim(0);
    assert_int_equal(arenas_count(), arenas);
    assert_int_equal(collect().metadata, mapped);
}

static pthread_barrier_t meeting;

static void *live_together(void *argument)
{
    ebb_free(ebb_malloc(100));
    pthread_barrier_wait(&meeting);
    return argument;
}

static void crowd(size_t count)
{
    pthread_t threads[64];
    require(pthread_barrier_init(&meeting, NULL, (unsigned)count) == 0);
    for (size_t i = 0; i < count; i++)
        require(pthread_create(&threads[i], NULL, live_together, NULL) == 0);
    for (size_t i = 0; i < count; i++)
        require(pthread_join(threads[i], NULL) == 0);
    pthread_barrier_destroy(&meeting);
}

static void a_crowd_makes_an_arena_each_and_the_next_crowd_none(void **state)
{
    (void)state;
    crowd(64);
    size_t arenas = arenas_count();
    assert_true(arenas >= 65); /* the first thread's, too */
    for (int i = 0; i < 5; i++)
        crowd(64);
    assert_int_equal(arenas_count(), arenas);
}

static void the_cache_of_a_thread_that_ended_is_empty(void **state)
{
    (void)state;
    ebb_malloc_trim(0);
    run_thread(live_and_end, NULL);
    assert_int_equal(collect().cached, 0);
    assert_int_equal(collect().spans, 0);
}

static pthread_key_t late_key;
static size_t late_rounds;

/* Comes again until the last round that POSIX promises; by then the arena is an orphan. */
static void work_late(void *value)
{
    char *kept = value;
    require(pattern_holds(kept, 500, late_rounds));
    ebb_free(kept);
    kept = ebb_malloc(500);
    require(kept != NULL);
    for (size_t size = 16; size < 9 * MiB; size *= 4) {
        char *block = ebb_malloc(size);
        require(block != NULL);
        block[0] = block[size - 1] = 1;
        ebb_free(block);
    }
    if (++late_rounds == 3) {
        ebb_free(kept);
        return;
    }
    pattern_write(kept, 500, late_rounds);
    pthread_setspecific(late_key, kept);
}

static void *set_late_work(void *argument)
{
    char *kept = ebb_malloc(500);
    pattern_write(kept, 500, 0);
    pthread_setspecific(late_key, kept);
    return argument;
}

static void destructors_that_run_late_can_allocate_and_free(void **state)
{
    (void)state;
    require(pthread_key_create(&late_key, work_late) == 0);
    run_thread(set_late_work, NULL);
    assert_int_equal(late_rounds, 3);
    pthread_key_delete(late_key);
}

/* ---- Takeover and fork
 * ------------------------------------------------------------------------------ */

static void *cache_some_and_sleep(void *argument)
{
    for (size_t i = 0; i < 50; i++)
        blocks[i] = memset(ebb_malloc(1000), 1, 1000);
    for (size_t i = 0; i < 50; i++)
        ebb_free(blocks[i]);
    pthread_barrier_wait(&meeting);
    pthread_barrier_wait(&meeting);
    return argument;
}

static void trim_empties_the_cache_of_a_thread_that_sleeps(void **state)
{
    (void)state;
    pthread_t thread;
    ebb_malloc_trim(0);
    require(pthread_barrier_init(&meeting, NULL, 2) == 0);
    require(pthread_create(&thread, NULL, cache_some_and_sleep, NULL) == 0);
    pthread_barrier_wait(&meeting);
    size_t cached = collect().cached;
    int given_back = ebb_malloc_trim(0);
    size_t left = collect().cached, spans = collect().spans;
    pthread_barrier_wait(&meeting);
    require(pthread_join(thread, NULL) == 0);
    assert_int_not_equal(cached, 0);
    assert_int_equal(given_back, 1);
    assert_int_equal(left, 0);
    assert_int_equal(spans, 0);
}

/* Without a barrier the cache of another thread must be left alone. */
static void without_a_barrier_the_cache_of_a_thread_that_sleeps_is_left_alone(void **state)
{
    (void)state;
    pthread_t thread;
    ebb_malloc_trim(0);
    require(pthread_barrier_init(&meeting, NULL, 2) == 0);
    require(pthread_create(&thread, NULL, cache_some_and_sleep, NULL) == 0);
    pthread_barrier_wait(&meeting);
    size_t cached = collect().cached;
    refuse(KIND(OS_CALL_BARRIER), 1, SIZE_MAX);
    ebb_malloc_trim(0);
    refuse_none();
    size_t left = collect().cached;
    pthread_barrier_wait(&meeting);
    require(pthread_join(thread, NULL) == 0);
    assert_int_not_equal(refused_count(), 0);
    assert_int_not_equal(cached, 0);
    assert_int_equal(left, cached);
}

/* The arenas of threads that the child does not have serve its own. */
static void adopt_in_child(void *argument)
{
    size_t arenas = arenas_count();
    for (int i = 0; i < 10; i++)
        run_thread(live_and_end, argument);
    require(arenas_count() == arenas);
    release(MANY, 300);
    ebb_malloc_trim(0);
    require(collect().small_live == 0);
}

static void a_child_adopts_the_arenas_of_threads_it_does_not_have(void **state)
{
    (void)state;
    pthread_t thread;
    char said[512];
    require(pthread_barrier_init(&meeting, NULL, 2) == 0);
    require(pthread_create(&thread, NULL, cache_some_and_sleep, NULL) == 0);
    pthread_barrier_wait(&meeting);
    allocate(MANY, 300);
    int status = run_in_child(adopt_in_child, NULL, said, sizeof said);
    pthread_barrier_wait(&meeting);
    require(pthread_join(thread, NULL) == 0);
    assert_string_equal(said, "");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    release(MANY, 300);
}

/* ---- What is caught
 * ------------------------------------------------------------------------------------ */

static void free_twice_in_a_row(void *argument)
{
    ebb_free(argument);
    ebb_free(argument);
}

static void free_twice_with_others_between(void *argument)
{
    ebb_free(argument);
    void *other = ebb_malloc(500);
    ebb_free(other);
    ebb_free(argument);
    ebb_malloc_trim(0);
}

static void *free_it(void *argument)
{
    ebb_free(argument);
    return NULL;
}

static void free_twice_in_two_threads(void *argument)
{
    run_thread(free_it, argument);
    run_thread(free_it, argument);
}

static void free_inside(void *argument)
{
    ebb_free((char *)argument + 16);
    ebb_malloc_trim(0);
}

static void free_misaligned(void *argument)
{
    ebb_free((char *)argument + 1);
}

static void free_foreign(void *argument)
{
    (void)argument;
    int local[8];
    ebb_free((void *)(((uintptr_t)local + 15) & ~(uintptr_t)15));
}

static void check_caught(void (*mistake)(void *), size_t size, const char *word)
{
    char said[1024];
    void *block = ebb_malloc(size), *neighbour = ebb_malloc(size);
    int status = run_in_child(mistake, block, said, sizeof said);
    ebb_free(block);
    ebb_free(neighbour);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_memory_equal(said, "ebbmalloc: free(0x", 18);
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    if (strstr(said, word) == NULL)
        fail_msg("\"%s\" is not in: %s", word, said);
}

static void mistakes_are_caught_and_named_in_one_line(void **state)
{
    (void)state;
    static const size_t sizes[] = {64, 100, 3000, 50000, 6 * MiB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_caught(free_twice_in_a_row, sizes[i], "twice");
        /* The pages of a larger one may serve for something else meanwhile. */
        if (sizes[i] <= SMALL_MAX)
            check_caught(free_twice_with_others_between, sizes[i], "twice");
        check_caught(free_twice_in_two_threads, sizes[i], "twice");
        check_caught(free_inside, sizes[i], "into a block");
        check_caught(free_misaligned, sizes[i], "into a block");
        check_caught(free_foreign, sizes[i], "not a block");
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, nothing_in_use, nothing_in_use)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(blocks_of_every_class_are_whole_and_apart),
        TEST(a_refill_takes_the_lowest_blocks_in_order),
        TEST(a_bin_keeps_no_more_than_its_limits),
        TEST(all_bins_together_stay_within_the_option),
        TEST(an_arena_that_grows_empties_its_bins_first),
        TEST(an_empty_span_goes_back_at_once),
        TEST(large_blocks_are_cached_and_serve_again),
        TEST(a_larger_cached_block_serves_if_it_is_not_much_larger),
        TEST(large_blocks_grow_and_shrink_where_they_stand),
        TEST(large_blocks_of_calloc_are_zero_whoever_had_them_before),
        TEST(blocks_freed_elsewhere_return_to_their_owner),
        TEST(blocks_of_a_thread_that_ended_can_be_used_and_freed),
        TEST(mail_for_an_owner_whose_mutex_is_held_is_not_lost),
        TEST(spans_with_free_blocks_serve_another_thread),
        TEST(mail_for_a_span_that_has_moved_reaches_its_owner),
        TEST(a_thread_that_makes_what_others_free_lends_what_it_has_many_of),
        TEST(a_thread_that_makes_what_others_free_keeps_one_empty_span),
        TEST(threads_one_after_another_share_one_arena),
        TEST(a_crowd_makes_an_arena_each_and_the_next_crowd_none),
        TEST(the_cache_of_a_thread_that_ended_is_empty),
        TEST(destructors_that_run_late_can_allocate_and_free),
        TEST(trim_empties_the_cache_of_a_thread_that_sleeps),
        TEST(without_a_barrier_the_cache_of_a_thread_that_sleeps_is_left_alone),
        TEST(a_child_adopts_the_arenas_of_threads_it_does_not_have),
        TEST(mistakes_are_caught_and_named_in_one_line),
    };
    return cmocka_run_group_tests_name("arena", tests, start, NULL);
}
