/* errno: kept by free whatever it had to do, ENOMEM after every call that found no memory. */
#include "support.h"

#include <malloc.h>
#include <pthread.h>

static const int values[] = {0, EDOM, ENOMEM, EINTR};
enum { value_count = sizeof values / sizeof *values };

static void free_keeps_errno_for_one_block_of_every_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++) {
        for (int v = 0; v < value_count; v++) {
            void *block = malloc(border_sizes[i]);
            assert_non_null(block);
            memset(block, 1, border_sizes[i]);
            errno = values[v];
            free(block);
            assert_int_equal(errno, values[v]);
        }
    }
}

/* Many at once: caches run over, spans empty, runs and mappings go back to the kernel. */
static void free_keeps_errno_when_much_is_given_back(void **state)
{
    (void)state;
    static void *blocks[20000];
    const size_t sizes[] = {16, 100, 1000, 10000, 40000, 200 * KIB, 5 * MIB, 40 * MIB};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const size_t fitting = 256 * MIB / sizes[s];
        const size_t count = fitting < 20000 ? fitting : 20000;
        for (size_t i = 0; i < count; i++) {
            blocks[i] = malloc(sizes[s]);
            assert_non_null(blocks[i]);
            memset(blocks[i], 1, sizes[s]);
        }
        for (size_t i = 0; i < count; i++) {
            errno = values[i % value_count];
            free(blocks[i]);
            assert_int_equal(errno, values[i % value_count]);
        }
    }
}

static void free_of_null_keeps_errno(void **state)
{
    (void)state;
    for (int v = 0; v < value_count; v++) {
        errno = values[v];
        free(NULL);
        assert_int_equal(errno, values[v]);
    }
}

static void *free_with_errno_set(void *block)
{
    errno = EDOM;
    free(block);
    return (void *)(intptr_t)errno;
}

/* The first call of a thread may have to make what the thread needs. */
static void free_keeps_errno_as_the_first_call_of_a_thread(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++) {
        pthread_t thread;
        void *kept;
        assert_int_equal(
            pthread_create(&thread, NULL, free_with_errno_set, malloc(border_sizes[i])), 0);
        assert_int_equal(pthread_join(thread, &kept), 0);
        assert_int_equal((intptr_t)kept, EDOM);
    }
}

static void success_does_not_touch_errno(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++) {
        errno = EDOM;
        void *block = malloc(border_sizes[i]);
        block = realloc(block, border_sizes[i] * 2);
        block = realloc(block, border_sizes[i]);
        void *zeroed = calloc(border_sizes[i], 1);
        void *aligned = memalign(256, border_sizes[i]);
        const int kept = errno;
        assert_true(block != NULL && zeroed != NULL && aligned != NULL);
        assert_int_equal(kept, EDOM);
        free(block);
        free(zeroed);
        free(aligned);
    }
}

static void every_call_without_memory_sets_enomem(void **state)
{
    (void)state;
    const size_t sizes[] = {PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX, (size_t)1 << 60};
    char *block = malloc(100);
    assert_non_null(block);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const size_t size = sizes[s];
        assert_out_of_memory(malloc(opaque(size)));
        assert_out_of_memory(calloc(opaque(size), 1));
        assert_out_of_memory(calloc(1, opaque(size)));
        assert_out_of_memory(realloc(opaque_pointer(block), opaque(size)));
        assert_out_of_memory(realloc(NULL, opaque(size)));
        assert_out_of_memory(reallocarray(opaque_pointer(block), opaque(size), 3));
        assert_out_of_memory(aligned_alloc(4096, opaque(size)));
        assert_out_of_memory(memalign(4096, opaque(size)));
        assert_out_of_memory(valloc(opaque(size)));
        assert_out_of_memory(pvalloc(opaque(size)));
    }
    free(block);
}

int main(void)
{
    require_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(free_keeps_errno_for_one_block_of_every_size),
        cmocka_unit_test(free_keeps_errno_when_much_is_given_back),
        cmocka_unit_test(free_of_null_keeps_errno),
        cmocka_unit_test(free_keeps_errno_as_the_first_call_of_a_thread),
        cmocka_unit_test(success_does_not_touch_errno),
        cmocka_unit_test(every_call_without_memory_sets_enomem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
