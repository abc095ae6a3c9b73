/*
 * Sizes and alignments that no address space holds fail at once. Nothing is given back for their
 * sake first: a program that asks for them by mistake must not lose its caches each time.
 */
#include "support.h"

#include <malloc.h>

enum { block_count = 32, huge_count = 2 };

static const size_t sizes[] = {
    (size_t)1 << 63, SIZE_MAX / 2 + 4096, PTRDIFF_MAX,
    PTRDIFF_MAX / 2, (size_t)1 << 62,     (size_t)1 << 56,
};
enum { size_count = sizeof sizes / sizeof *sizes };

/* 72 MiB that are free and still resident: what a purge would give back. */
static void leave_dirty_memory(void)
{
    char *blocks[block_count], *huge[huge_count];
    for (size_t i = 0; i < block_count; i++) {
        blocks[i] = malloc(MIB);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, MIB);
    }
    for (size_t i = 0; i < huge_count; i++) {
        huge[i] = malloc(20 * MIB);
        assert_non_null(huge[i]);
        memset(huge[i], 1, 20 * MIB);
    }
    for (size_t i = 0; i < block_count; i++)
        free(blocks[i]);
    for (size_t i = 0; i < huge_count; i++)
        free(huge[i]);
}

static void ask_for(size_t size)
{
    char *block = malloc(100);
    void *unchanged = block;
    assert_non_null(block);
    fill(block, 100, size);
    assert_out_of_memory(malloc(opaque(size)));
    assert_out_of_memory(calloc(opaque(size), 1));
    assert_out_of_memory(calloc(1, opaque(size)));
    assert_out_of_memory(realloc(block, opaque(size)));
    assert_out_of_memory(reallocarray(opaque_pointer(block), opaque(size), 1));
    assert_out_of_memory(memalign(64, opaque(size)));
    assert_out_of_memory(aligned_alloc(4096, opaque(size)));
    assert_out_of_memory(aligned_alloc(MIB, opaque(size)));
    assert_out_of_memory(valloc(opaque(size)));
    assert_out_of_memory(pvalloc(opaque(size)));
    assert_int_equal(posix_memalign(&unchanged, 64, opaque(size)), ENOMEM);
    assert_ptr_equal(unchanged, block);
    assert_int_equal(first_bad_byte(block, 100, size), 100);
    free(block);
}

static void align_to(size_t alignment)
{
    void *block = &block;
    assert_null(memalign(opaque(alignment), 64));
    assert_null(aligned_alloc(opaque(alignment), 64));
    assert_null(aligned_alloc(opaque(alignment), opaque(alignment)));
    assert_int_equal(posix_memalign(&block, opaque(alignment), 64), ENOMEM);
    assert_ptr_equal(block, &block);
}

static void absurd_sizes_fail_without_giving_anything_back(void **state)
{
    (void)state;
    leave_dirty_memory();
    const size_t before = resident_bytes();
    /* Else there is nothing to lose. In the hardened mode large blocks go when they are freed. */
    if (on_ebbmalloc() && !is_hardened())
        assert_true(before > 64 * MIB);
    for (size_t i = 0; i < size_count; i++)
        ask_for(sizes[i]);
    if (on_ebbmalloc())
        assert_in_range(resident_bytes(), before - MIB, before + MIB);
}

static void absurd_alignments_fail_without_giving_anything_back(void **state)
{
    (void)state;
    leave_dirty_memory();
    const size_t before = resident_bytes();
    for (unsigned bit = 56; bit < 63; bit++)
        align_to((size_t)1 << bit);
    if (on_ebbmalloc())
        assert_in_range(resident_bytes(), before - MIB, before + MIB);
}

int main(int argc, char **argv)
{
    (void)argc;
    require_library();
    /* So that whatever is given back here was not given back by the clock. */
    if (getenv("EBBMALLOC_PURGE_DELAY") == NULL) {
        setenv("EBBMALLOC_PURGE_DELAY", "3600000", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absurd_sizes_fail_without_giving_anything_back),
        cmocka_unit_test(absurd_alignments_fail_without_giving_anything_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
