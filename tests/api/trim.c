/*
 * malloc_trim: gives back all that can be given back, whichever thread freed it and whichever
 * sleeps, and tells truly whether it gave anything. ebbmalloc's own promise; skipped elsewhere.
 */
#include "support.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

/*
 * What may stay of 200 MiB that came and went: descriptors and bitmaps of the spans, the page map,
 * stacks of threads. 4 %, and the same once only: see the test with many rounds.
 */
static const size_t load_bytes = 200 * MIB;
static const size_t may_stay = 8 * MIB;

enum { block_max = 2 * 1024 * 1024 };
static char *blocks[block_max];
static size_t block_count;

/* So that the tables of the test are not counted as memory of the allocator. */
static int touch_tables(void **state)
{
    (void)state;
    memset(blocks, 1, sizeof blocks);
    return 0;
}

static size_t server_like_size(uint64_t *random)
{
    return 16 + random_size(random, 1008);
}

/* Allocates and writes `bytes` in blocks of one size, or mixed from 16 to 1024 bytes when 0. */
static void allocate(char **table, size_t *count, size_t bytes, size_t one_size)
{
    uint64_t random = 77;
    *count = 0;
    for (size_t total = 0; total < bytes; ++*count) {
        const size_t size = one_size != 0 ? one_size : server_like_size(&random);
        char *block = malloc(size);
        if (block == NULL)
            abort();
        memset(block, 1, size);
        table[*count] = block;
        total += size;
    }
}

static void release(char **table, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(table[i]);
}

/* Returns what trim said. Says how much there was left to give when it was called, if asked. */
static int load_and_trim(size_t one_size, size_t *left_to_give)
{
    malloc_trim(0);
    const size_t before = resident_bytes();
    allocate(blocks, &block_count, load_bytes, one_size);
    assert_true(resident_bytes() >= before + load_bytes);
    release(blocks, block_count);
    const size_t freed = resident_bytes();
    const int gave = malloc_trim(0);
    const size_t trimmed = resident_bytes();
    assert_in_range(trimmed, 0, before + may_stay);
    if (left_to_give != NULL)
        *left_to_give = freed > trimmed ? freed - trimmed : 0;
    return gave;
}

static void memory_of_small_blocks_is_given_back(void **state)
{
    (void)state;
    skip_on_other_malloc();
    const size_t sizes[] = {0, 128, 1000, 4000, 30000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_int_equal(load_and_trim(sizes[i], NULL), 1);
}

static void memory_of_large_blocks_is_given_back(void **state)
{
    (void)state;
    skip_on_other_malloc();
    const size_t sizes[] = {33000, 200 * KIB, 3 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_int_equal(load_and_trim(sizes[i], NULL), 1);
}

/* So large a block may have gone back when it was freed: then trim must say that it gave nothing.
 */
static void memory_of_huge_blocks_is_given_back(void **state)
{
    (void)state;
    skip_on_other_malloc();
    const size_t sizes[] = {5 * MIB, 20 * MIB, load_bytes};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t left_to_give;
        const int gave = load_and_trim(sizes[i], &left_to_give);
        assert_int_equal(gave, left_to_give >= MIB);
    }
}

/* No test ever asks for a trim when something is left: what one call left, the next would give. */
static void a_second_trim_has_nothing_to_give(void **state)
{
    (void)state;
    skip_on_other_malloc();
    const size_t sizes[] = {0, 64, 20000, 100 * KIB, 20 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        allocate(blocks, &block_count, load_bytes / 4, sizes[i]);
        release(blocks, block_count);
        malloc_trim(0);
        assert_int_equal(malloc_trim(0), 0);
        assert_int_equal(malloc_trim(0), 0);
    }
}

/* Free, and given back, is not the same: of what nobody wrote to there is nothing to give. */
static void trim_of_what_was_never_touched_says_that_it_gave_nothing(void **state)
{
    (void)state;
    skip_on_other_malloc();
    const size_t sizes[] = {33000, 100 * KIB, 3 * MIB, 20 * MIB};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const size_t count = 64 * MIB / sizes[s];
        malloc_trim(0);
        for (size_t i = 0; i < count; i++)
            blocks[i] = malloc(sizes[s]);
        release(blocks, count);
        const size_t freed = resident_bytes();
        const int gave = malloc_trim(0);
        const size_t trimmed = resident_bytes();
        assert_int_equal(gave, 0);
        assert_in_range(trimmed, freed - 64 * KIB, freed);
    }
}

static void trim_of_a_single_touched_page_says_that_it_gave_something(void **state)
{
    (void)state;
    skip_on_other_malloc();
    const size_t sizes[] = {100 * KIB, 20 * MIB};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        malloc_trim(0);
        char *block = malloc(sizes[s]);
        block[sizes[s] / 2] = 1;
        free(block);
        const int gave = malloc_trim(0);
        assert_int_equal(gave, 1);
        assert_int_equal(malloc_trim(0), 0);
    }
}

static void errno_is_kept_by_trim(void **state)
{
    (void)state;
    allocate(blocks, &block_count, load_bytes / 4, 0);
    release(blocks, block_count);
    errno = EDOM;
    malloc_trim(0);
    malloc_trim(0);
    assert_int_equal(errno, EDOM);
}

static void what_stays_does_not_grow_with_rounds(void **state)
{
    (void)state;
    skip_on_other_malloc();
    load_and_trim(0, NULL);
    const size_t after_one = resident_bytes();
    for (int round = 0; round < 5; round++)
        load_and_trim(0, NULL);
    assert_in_range(resident_bytes(), 0, after_one + MIB);
}

static void live_blocks_are_left_as_they_are(void **state)
{
    (void)state;
    enum { count = 200000 };
    static size_t sizes[count];
    uint64_t random = 12;
    for (size_t i = 0; i < count; i++) {
        sizes[i] = i % 1000 == 0 ? random_size(&random, MIB) : server_like_size(&random);
        blocks[i] = malloc(sizes[i]);
        assert_non_null(blocks[i]);
        fill(blocks[i], sizes[i], i);
    }
    /* Ever fewer survive, and each time the freed ones between them are given up. */
    for (size_t step = 2; step <= 128; step *= 2) {
        for (size_t i = 0; i < count; i++) {
            if (i % step == 0)
                continue;
            free(blocks[i]);
            blocks[i] = NULL;
        }
        malloc_trim(0);
        for (size_t i = 0; i < count; i += step)
            assert_int_equal(first_bad_byte(blocks[i], sizes[i], i), sizes[i]);
    }
    release(blocks, count);
}

static void memory_given_back_can_be_used_again_and_is_zero_for_calloc(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++) {
        const size_t size = border_sizes[i];
        char *dirty = malloc(size);
        assert_non_null(dirty);
        memset(dirty, 0xff, size);
        free(dirty);
        malloc_trim(0);
        char *block = calloc(1, size);
        assert_non_null(block);
        assert_int_equal(first_nonzero_byte(block, size), size);
        fill(block, size, i);
        malloc_trim(0);
        assert_int_equal(first_bad_byte(block, size, i), size);
        free(block);
    }
}

/* Threads that do their part of a load when told, and sleep in the kernel before and after. */
enum { thread_max = 32 };
static pthread_barrier_t begin, done, end;

struct sleeper {
    pthread_t thread;
    char **table;
    size_t count, bytes, one_size;
    bool frees;
};

static void *sleeper_main(void *argument)
{
    struct sleeper *sleeper = argument;
    allocate(sleeper->table, &sleeper->count, sleeper->bytes, sleeper->one_size);
    pthread_barrier_wait(&begin);
    if (sleeper->frees)
        release(sleeper->table, sleeper->count);
    pthread_barrier_wait(&done);
    pthread_barrier_wait(&end);
    return NULL;
}

static void start_sleepers(struct sleeper *sleepers, int count, size_t bytes, size_t one_size)
{
    pthread_barrier_init(&begin, NULL, (unsigned)count + 1);
    pthread_barrier_init(&done, NULL, (unsigned)count + 1);
    pthread_barrier_init(&end, NULL, (unsigned)count + 1);
    for (int i = 0; i < count; i++) {
        sleepers[i] = (struct sleeper){.table = blocks + block_max / count * i,
                                       .bytes = bytes,
                                       .one_size = one_size,
                                       .frees = true};
        assert_int_equal(pthread_create(&sleepers[i].thread, NULL, sleeper_main, &sleepers[i]), 0);
    }
}

static void join_sleepers(struct sleeper *sleepers, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(pthread_join(sleepers[i].thread, NULL), 0);
    pthread_barrier_destroy(&begin);
    pthread_barrier_destroy(&done);
    pthread_barrier_destroy(&end);
}

/* A sleeping thread's cache can only be visited where the kernel has membarrier. */
#define skip_without_membarrier()                                                                  \
    do {                                                                                           \
        const long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);                 \
        if (commands < 0 || (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0)                    \
            skip();                                                                                \
    } while (0)

static void trim_while_all_sleep(int count, size_t bytes_each, size_t one_size, size_t stays)
{
    struct sleeper sleepers[thread_max];
    malloc_trim(0);
    const size_t before = resident_bytes();
    start_sleepers(sleepers, count, bytes_each, one_size);
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&done);
    const int gave = malloc_trim(0);
    const size_t resident = resident_bytes();
    const int gave_again = malloc_trim(0);
    pthread_barrier_wait(&end);
    join_sleepers(sleepers, count);
    assert_int_equal(gave, 1);
    assert_in_range(resident, 0, before + stays);
    assert_int_equal(gave_again, 0);
}

static void memory_that_sleeping_threads_freed_is_given_back(void **state)
{
    (void)state;
    skip_on_other_malloc();
    skip_without_membarrier();
    trim_while_all_sleep(4, load_bytes / 4, 0, may_stay);
    trim_while_all_sleep(4, load_bytes / 4, 2000, may_stay);
    trim_while_all_sleep(4, load_bytes / 4, 100 * KIB, may_stay);
    trim_while_all_sleep(4, load_bytes / 4, 25 * MIB, may_stay);
}

/* So little by each that caches hold most of it: 128 KiB may stay of a thread, its stack and all.
 */
static void the_caches_of_many_sleeping_threads_are_emptied(void **state)
{
    (void)state;
    skip_on_other_malloc();
    skip_without_membarrier();
    for (size_t size = 512; size <= 32 * KIB; size *= 2)
        trim_while_all_sleep(thread_max, MIB, size, thread_max * 128 * KIB);
}

static void memory_freed_by_other_threads_than_took_it_is_given_back(void **state)
{
    (void)state;
    skip_on_other_malloc();
    skip_without_membarrier();
    struct sleeper takers[4];
    malloc_trim(0);
    const size_t before = resident_bytes();
    start_sleepers(takers, 4, load_bytes / 4, 0);
    for (int i = 0; i < 4; i++)
        takers[i].frees = false;
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&done);
    for (int i = 0; i < 4; i++)
        release(takers[i].table, takers[i].count);
    const int gave = malloc_trim(0);
    const size_t resident = resident_bytes();
    pthread_barrier_wait(&end);
    join_sleepers(takers, 4);
    assert_int_equal(gave, 1);
    assert_in_range(resident, 0, before + may_stay);
}

static void memory_of_threads_that_are_gone_is_given_back(void **state)
{
    (void)state;
    skip_on_other_malloc();
    struct sleeper gone[4];
    malloc_trim(0);
    const size_t before = resident_bytes();
    start_sleepers(gone, 4, load_bytes / 4, 0);
    for (int i = 0; i < 4; i++)
        gone[i].frees = i % 2 == 0;
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&done);
    pthread_barrier_wait(&end);
    join_sleepers(gone, 4);
    for (int i = 1; i < 4; i += 2)
        release(gone[i].table, gone[i].count);
    assert_int_equal(malloc_trim(0), 1);
    assert_in_range(resident_bytes(), 0, before + may_stay);
    assert_int_equal(malloc_trim(0), 0);
}

/* ---- What was left to the kernel --------------------------------------------------------------
 */

/* The pages of this process that the kernel may take when it wants to, in bytes. */
static size_t lazy_bytes(void)
{
    char text[4096];
    const int file = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    const ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    child_check(length > 0 && close(file) == 0);
    text[length] = '\0';
    const char *found = strstr(text, "\nLazyFree:");
    child_check(found != NULL);
    return strtoull(found + strlen("\nLazyFree:"), NULL, 10) * KIB;
}

/* Chunks that are free throughout are unmapped, but for a spare one of 32 MiB: most of that. */
static const size_t lazy_least = 16 * MIB;

static size_t wait_until_lazy(void)
{
    for (int look = 0; look < 500 && lazy_bytes() < lazy_least; look++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    child_check(lazy_bytes() >= lazy_least);
    return lazy_bytes();
}

/* A process of its own: EBBMALLOC_PURGE_ADVICE=free, and sweeps that come soon. */
static int be_lazy_and_trim(void)
{
    touch_tables(NULL);
    malloc_trim(0);
    const size_t before = resident_bytes(), kinds[] = {0, 100 * KIB};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        allocate(blocks, &block_count, load_bytes / 2, kinds[i]);
        release(blocks, block_count);
        child_check(resident_bytes() >= before + wait_until_lazy() - MIB);
        child_check(malloc_trim(0) == 1);
        child_check(lazy_bytes() <= 256 * KIB);
        child_check(resident_bytes() <= before + may_stay);
        child_check(malloc_trim(0) == 0);
    }
    return 0;
}

static void what_was_left_to_the_kernel_is_given_back_by_trim(void **state)
{
    (void)state;
    skip_on_other_malloc();
    struct child_end child;
    char *const arguments[] = {"/proc/self/exe", "lazy", NULL};
    char *delay = strdup(getenv("EBBMALLOC_PURGE_DELAY"));
    setenv("EBBMALLOC_PURGE_DELAY", "30", 1);
    setenv("EBBMALLOC_PURGE_ADVICE", "free", 1);
    run_program(&child, arguments, environ);
    unsetenv("EBBMALLOC_PURGE_ADVICE");
    setenv("EBBMALLOC_PURGE_DELAY", delay, 1);
    free(delay);
    assert_child_passed(&child);
    assert_string_equal(child.words, "");
}

/* Starts the program anew with a purge delay of an hour: what a trim finds is then not left to the
 * speed of the machine. Options are read once, before main. */
static void keep_sweeps_out(char **arguments)
{
    if (getenv("EBBMALLOC_PURGE_DELAY") != NULL)
        return;
    setenv("EBBMALLOC_PURGE_DELAY", "3600000", 1);
    execv("/proc/self/exe", arguments);
    perror("cannot start anew");
    exit(1);
}

int main(int argument_count, char **arguments)
{
    require_library();
    if (argument_count == 2 && strcmp(arguments[1], "lazy") == 0)
        return be_lazy_and_trim();
    keep_sweeps_out(arguments);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_of_small_blocks_is_given_back),
        cmocka_unit_test(memory_of_large_blocks_is_given_back),
        cmocka_unit_test(memory_of_huge_blocks_is_given_back),
        cmocka_unit_test(a_second_trim_has_nothing_to_give),
        cmocka_unit_test(trim_of_what_was_never_touched_says_that_it_gave_nothing),
        cmocka_unit_test(trim_of_a_single_touched_page_says_that_it_gave_something),
        cmocka_unit_test(errno_is_kept_by_trim),
        cmocka_unit_test(what_stays_does_not_grow_with_rounds),
        cmocka_unit_test(live_blocks_are_left_as_they_are),
        cmocka_unit_test(memory_given_back_can_be_used_again_and_is_zero_for_calloc),
        cmocka_unit_test(memory_that_sleeping_threads_freed_is_given_back),
        cmocka_unit_test(the_caches_of_many_sleeping_threads_are_emptied),
        cmocka_unit_test(memory_freed_by_other_threads_than_took_it_is_given_back),
        cmocka_unit_test(memory_of_threads_that_are_gone_is_given_back),
        cmocka_unit_test(what_was_left_to_the_kernel_is_given_back_by_trim),
    };
    return cmocka_run_group_tests(tests, touch_tables, NULL);
}
