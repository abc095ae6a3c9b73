/* malloc_usable_size: never less than asked for, all of it writable, and little more than asked. */
#include "support.h"

#include <malloc.h>

static void null_has_no_usable_bytes(void **state)
{
    (void)state;
    errno = EDOM;
    assert_int_equal(malloc_usable_size(NULL), 0);
    assert_int_equal(errno, EDOM);
}

/* Writes all of a block's usable bytes while a neighbour on either side watches. */
static void write_all_usable_bytes(size_t size)
{
    char *before = malloc(size);
    char *block = malloc(size);
    char *after = malloc(size);
    assert_non_null(before);
    assert_non_null(block);
    assert_non_null(after);
    fill(before, size, 1);
    fill(after, size, 2);
    const size_t usable = malloc_usable_size(block);
    assert_true(usable >= size);
    fill(block, usable, 3);
    assert_int_equal(first_bad_byte(before, size, 1), size);
    assert_int_equal(first_bad_byte(after, size, 2), size);
    assert_int_equal(first_bad_byte(block, usable, 3), usable);
    assert_int_equal(malloc_usable_size(block), usable);
    free(after);
    free(block);
    free(before);
}

static void all_usable_bytes_can_be_written(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 4200; size++)
        write_all_usable_bytes(size);
    for (size_t size = 4200; size <= 70000; size += 123)
        write_all_usable_bytes(size);
    for (size_t i = 0; i < border_size_count; i++)
        write_all_usable_bytes(border_sizes[i]);
}

static void every_call_gives_at_least_what_was_asked_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++) {
        const size_t size = border_sizes[i];
        void *blocks[] = {malloc(size),
                          calloc(size, 1),
                          realloc(malloc(1), size),
                          memalign(64, size),
                          aligned_alloc(4096, size),
                          valloc(size),
                          memalign(MIB, size),
                          reallocarray(NULL, 1, size)};
        for (size_t j = 0; j < sizeof blocks / sizeof *blocks; j++) {
            assert_non_null(blocks[j]);
            const size_t usable = malloc_usable_size(blocks[j]);
            assert_true(usable >= size);
            memset(blocks[j], 1, usable);
            free(blocks[j]);
        }
    }
}

/* A program that filled the block to its usable size keeps all of that over a realloc. */
static void realloc_keeps_all_usable_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++) {
        char *block = malloc(border_sizes[i]);
        assert_non_null(block);
        const size_t usable = malloc_usable_size(block);
        fill(block, usable, i);
        block = realloc(block, 2 * usable);
        assert_non_null(block);
        assert_int_equal(first_bad_byte(block, usable, i), usable);
        free(block);
    }
}

/* Small blocks waste an eighth and the alignment, large ones the same and a 32 KiB page, or a
 * quarter more, when one that lies ready serves; huge ones less than such a page, or one of the OS
 * where those are larger. */
static void little_more_is_given_than_was_asked_for(void **state)
{
    (void)state;
    skip_on_other_malloc();
    const size_t os_page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t size = 1; size <= 64 * MIB; size += 1 + size / 1000) {
        if (size > 32 * KIB) { /* alone lies ready */
            malloc_trim(0);
            free(malloc(2 * size));
        }
        void *block = malloc(size);
        assert_non_null(block);
        const size_t waste = malloc_usable_size(block) - size;
        if (size < 32 * KIB)
            assert_true(waste <= size / 8 + BLOCK_ALIGNMENT);
        else if (size <= 4 * MIB)
            assert_true(waste < size * 7 / 16 + 32 * KIB);
        else
            assert_true(waste < (os_page > 32 * KIB ? os_page : 32 * KIB));
        free(block);
    }
}

int main(void)
{
    require_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_has_no_usable_bytes),
        cmocka_unit_test(all_usable_bytes_can_be_written),
        cmocka_unit_test(every_call_gives_at_least_what_was_asked_for),
        cmocka_unit_test(realloc_keeps_all_usable_bytes),
        cmocka_unit_test(little_more_is_given_than_was_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
