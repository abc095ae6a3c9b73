/* EBBMALLOC_THREAD_CACHE=0: everything works, and no thread keeps anything for itself. */
#include "support.h"

#include <malloc.h>
#include <pthread.h>

#include "older.h"

enum { block_count = 4096 };
static char *blocks[block_count];
static size_t sizes[block_count];

static void make_all(uint64_t seed)
{
    for (size_t i = 0; i < block_count; i++) {
        sizes[i] = 1 + random_size(&seed, 32 * KIB);
        blocks[i] = malloc(sizes[i]);
        if (blocks[i] == NULL)
            abort();
        fill(blocks[i], sizes[i], i);
    }
}

static bool free_all(void)
{
    bool good = true;
    for (size_t i = 0; i < block_count; i++) {
        good = good && first_bad_byte(blocks[i], sizes[i], i) == sizes[i];
        free(blocks[i]);
    }
    return good;
}

static void every_size_works(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < border_size_count; i++) {
            char *block = malloc(border_sizes[i]);
            assert_non_null(block);
            fill(block, border_sizes[i], i);
            assert_int_equal(first_bad_byte(block, border_sizes[i], i), border_sizes[i]);
            free(block);
        }
    }
}

static void blocks_stay_apart(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        make_all(seed);
        assert_true(free_all());
    }
}

static void *free_as_a_thread(void *unused)
{
    (void)unused;
    return free_all() ? blocks : NULL;
}

static void blocks_may_be_freed_by_another_thread(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        pthread_t thread;
        void *good;
        make_all(seed);
        assert_int_equal(pthread_create(&thread, NULL, free_as_a_thread, NULL), 0);
        pthread_join(thread, &good);
        assert_non_null(good);
    }
}

static void nothing_is_cached(void **state)
{
    (void)state;
    skip_on_other_malloc();
    make_all(9);
    assert_int_equal(mallinfo2().fsmblks, 0);
    assert_true(free_all());
    assert_int_equal(mallinfo2().fsmblks, 0);
}

int main(int argc, char **argv)
{
    (void)argc;
    require_library();
    if (getenv("EBBMALLOC_THREAD_CACHE") == NULL) {
        setenv("EBBMALLOC_THREAD_CACHE", "0", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_works),
        cmocka_unit_test(blocks_stay_apart),
        cmocka_unit_test(blocks_may_be_freed_by_another_thread),
        cmocka_unit_test(nothing_is_cached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
