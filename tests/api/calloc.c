/* calloc: zero bytes, products that overflow, and memory that is zero however dirty it was. */
#include "support.h"

static void zero_products_give_unique_blocks_that_can_be_freed(void **state)
{
    (void)state;
    enum { count = 300 };
    const size_t factors[][2] = {{0, 0}, {0, 1}, {1, 0}, {0, SIZE_MAX}, {SIZE_MAX, 0}};
    for (size_t f = 0; f < sizeof factors / sizeof *factors; f++) {
        void *blocks[count];
        for (int i = 0; i < count; i++) {
            blocks[i] = calloc(opaque(factors[f][0]), opaque(factors[f][1]));
            assert_non_null(blocks[i]);
            for (int j = 0; j < i; j++)
                assert_ptr_not_equal(blocks[i], blocks[j]);
        }
        for (int i = 0; i < count; i++)
            free(blocks[i]);
    }
}

static void the_block_holds_the_whole_product_zeroed_and_aligned(void **state)
{
    (void)state;
    for (size_t number = 1; number <= 3000; number += number / 9 + 1) {
        for (size_t size = 1; size <= 3000; size += size / 9 + 1) {
            char *block = calloc(number, size);
            assert_non_null(block);
            assert_true(is_aligned(block, BLOCK_ALIGNMENT));
            assert_int_equal(first_nonzero_byte(block, number * size), number * size);
            fill(block, number * size, size);
            assert_int_equal(first_bad_byte(block, number * size, size), number * size);
            free(block);
        }
    }
}

static void every_small_size_is_aligned_to_16_bytes(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 70000; size++) {
        void *block = calloc(1, size);
        assert_non_null(block);
        assert_true(is_aligned(block, BLOCK_ALIGNMENT));
        free(block);
    }
}

/* Leaves `count` free blocks of this size behind, every byte of them set. */
static void leave_dirty_blocks(size_t size, int count)
{
    void *blocks[64];
    for (int i = 0; i < count; i++) {
        blocks[i] = malloc(size);
        assert_non_null(blocks[i]);
        memset(blocks[i], 0xff, size);
    }
    for (int i = 0; i < count; i++)
        free(blocks[i]);
}

static void calloc_over_dirty_blocks(size_t size, int count)
{
    void *blocks[64];
    leave_dirty_blocks(size, count);
    for (int i = 0; i < count; i++) {
        blocks[i] = calloc(1, size);
        assert_non_null(blocks[i]);
        assert_int_equal(first_nonzero_byte(blocks[i], size), size);
    }
    for (int i = 0; i < count; i++)
        free(blocks[i]);
}

static void reused_small_blocks_are_zero(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 1200; size++)
        calloc_over_dirty_blocks(size, 64);
    for (size_t size = 1200; size <= 40000; size += size / 64)
        calloc_over_dirty_blocks(size, 32);
}

static void reused_large_and_huge_blocks_are_zero(void **state)
{
    (void)state;
    for (size_t size = 40000; size <= 600 * KIB; size += 16 * KIB + 7)
        calloc_over_dirty_blocks(size, 8);
    for (size_t size = 600 * KIB; size <= 64 * MIB; size += size / 2)
        for (int round = 0; round < 3; round++)
            calloc_over_dirty_blocks(size, 2);
}

/* A block of another size may be cut from the dirty memory, or joined from several dirty ones. */
static void memory_that_was_dirty_in_another_size_is_zero(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++) {
        for (size_t dirty = 16; dirty <= 40 * MIB; dirty *= 7) {
            leave_dirty_blocks(dirty, dirty > MIB ? 2 : 64);
            char *block = calloc(border_sizes[i], 1);
            assert_non_null(block);
            assert_int_equal(first_nonzero_byte(block, border_sizes[i]), border_sizes[i]);
            free(block);
        }
    }
}

static void products_that_overflow_fail_with_enomem(void **state)
{
    (void)state;
    const size_t half = (size_t)1 << 32; /* half * half is 2^64, which wraps to 0 */
    assert_out_of_memory(calloc(opaque(half), opaque(half)));
    assert_out_of_memory(calloc(opaque(half + 1), opaque(half)));
    assert_out_of_memory(calloc(opaque(half - 1), opaque(half + 2)));
    assert_out_of_memory(calloc(opaque(SIZE_MAX), opaque(SIZE_MAX)));
    /* For each factor the smallest number whose product wraps, to almost nothing at times. */
    for (size_t factor = 2; factor <= 1 << 20; factor += factor / 16 + 1) {
        assert_out_of_memory(calloc(opaque(SIZE_MAX / factor + 1), opaque(factor)));
        assert_out_of_memory(calloc(opaque(factor), opaque(SIZE_MAX / factor + 1)));
        assert_out_of_memory(calloc(opaque(SIZE_MAX / factor + 2), opaque(factor)));
    }
}

static void products_over_ptrdiff_max_fail_with_enomem(void **state)
{
    (void)state;
    for (size_t factor = 1; factor <= 1 << 20; factor += factor / 16 + 1) {
        assert_out_of_memory(calloc(opaque(PTRDIFF_MAX / factor + 1), opaque(factor)));
        assert_out_of_memory(calloc(opaque(factor), opaque(SIZE_MAX / factor)));
    }
    for (size_t below = 0; below <= 70000; below++)
        assert_out_of_memory(calloc(1, opaque(SIZE_MAX - below)));
}

int main(void)
{
    require_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_products_give_unique_blocks_that_can_be_freed),
        cmocka_unit_test(the_block_holds_the_whole_product_zeroed_and_aligned),
        cmocka_unit_test(every_small_size_is_aligned_to_16_bytes),
        cmocka_unit_test(reused_small_blocks_are_zero),
        cmocka_unit_test(reused_large_and_huge_blocks_are_zero),
        cmocka_unit_test(memory_that_was_dirty_in_another_size_is_zero),
        cmocka_unit_test(products_that_overflow_fail_with_enomem),
        cmocka_unit_test(products_over_ptrdiff_max_fail_with_enomem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
