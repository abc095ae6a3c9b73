/*
 * posix_memalign, aligned_alloc, memalign, valloc, pvalloc. What POSIX and C leave open is as in
 * glibc 2.36, which has one rule for aligned_alloc and memalign: an alignment that is no power of
 * two is rounded up to one, and one over half of the address range is EINVAL.
 */
#include "support.h"

#include <malloc.h>

#include <sys/mman.h>

static void *by_posix_memalign(size_t alignment, size_t size)
{
    void *block = NULL;
    /* The least that it takes; the other two take any alignment from 0. */
    if (alignment < sizeof(void *))
        alignment = sizeof(void *);
    errno = posix_memalign(&block, alignment, size);
    return block;
}

typedef void *aligned_call(size_t alignment, size_t size);

static aligned_call *const aligned_calls[] = {by_posix_memalign, aligned_alloc, memalign};
enum { aligned_call_count = sizeof aligned_calls / sizeof *aligned_calls };

static void verify_aligned(char *block, size_t alignment, size_t size)
{
    assert_non_null(block);
    assert_true(is_aligned(block, alignment));
    assert_true(is_aligned(block, BLOCK_ALIGNMENT));
    assert_true(malloc_usable_size(block) >= size);
    const size_t looked_at = size < 20000 ? size : 20000;
    fill(block, looked_at, alignment);
    if (size > 0)
        block[size - 1] = block[size - 1] + 0;
    assert_int_equal(first_bad_byte(block, looked_at, alignment), looked_at);
}

/* Three at once: a single one may lie well by being the first of its kind. */
static void allocate_aligned_and_verify(aligned_call *call, size_t alignment, size_t size)
{
    char *blocks[3];
    for (int i = 0; i < 3; i++) {
        blocks[i] = call(opaque(alignment), opaque(size));
        verify_aligned(blocks[i], alignment, size);
    }
    for (int i = 0; i < 3; i++)
        free(blocks[i]);
}

static void every_power_of_two_is_honoured_with_sizes_around_it(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= 64 * MIB; alignment *= 2) {
        const size_t sizes[] = {0,
                                1,
                                8,
                                100,
                                alignment / 2,
                                alignment - 1,
                                alignment,
                                alignment + 1,
                                alignment + alignment / 2 + 1,
                                2 * alignment,
                                3 * alignment + 5};
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int call = 0; call < aligned_call_count; call++)
                allocate_aligned_and_verify(aligned_calls[call], alignment, sizes[i]);
    }
}

static void every_power_of_two_goes_with_every_border_size(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= 64 * MIB; alignment *= 2)
        for (size_t i = 0; i < border_size_count; i++)
            for (int call = 0; call < aligned_call_count; call++)
                allocate_aligned_and_verify(aligned_calls[call], alignment, border_sizes[i]);
}

static void many_aligned_blocks_live_side_by_side(void **state)
{
    (void)state;
    enum { count = 3000 };
    static char *blocks[count];
    static size_t sizes[count];
    uint64_t random = 4;
    for (int i = 0; i < count; i++) {
        const size_t alignment = (size_t)1 << next_random(&random) % 17;
        sizes[i] = random_size(&random, 50000);
        blocks[i] = memalign(alignment, sizes[i]);
        assert_non_null(blocks[i]);
        assert_true(is_aligned(blocks[i], alignment));
        fill(blocks[i], sizes[i], (uint64_t)i);
    }
    for (int i = 0; i < count; i++) {
        assert_int_equal(first_bad_byte(blocks[i], sizes[i], (uint64_t)i), sizes[i]);
        free(blocks[i]);
    }
}

/* 1 GiB costs address space alone, which there is; the rest cannot be had. */
static void a_huge_alignment_is_honoured_or_fails_with_enomem(void **state)
{
    (void)state;
    for (int call = 0; call < aligned_call_count; call++) {
        allocate_aligned_and_verify(aligned_calls[call], 256 * MIB, 10);
        allocate_aligned_and_verify(aligned_calls[call], 1024 * MIB, 10);
        for (size_t alignment = (size_t)1 << 48; alignment != 0; alignment *= 2) {
            assert_out_of_memory(aligned_calls[call](opaque(alignment), 0));
            assert_out_of_memory(aligned_calls[call](opaque(alignment), 100));
            assert_out_of_memory(aligned_calls[call](opaque(alignment), opaque(alignment)));
            assert_out_of_memory(aligned_calls[call](opaque(alignment), opaque(SIZE_MAX)));
        }
    }
}

static void size_and_alignment_never_wrap_around_to_a_success(void **state)
{
    (void)state;
    for (int call = 0; call < aligned_call_count; call++) {
        for (size_t alignment = 1; alignment <= 64 * MIB; alignment *= 2) {
            assert_out_of_memory(aligned_calls[call](alignment, opaque(PTRDIFF_MAX)));
            assert_out_of_memory(aligned_calls[call](alignment, opaque(PTRDIFF_MAX - alignment)));
            assert_out_of_memory(aligned_calls[call](alignment, opaque(SIZE_MAX - alignment)));
            assert_out_of_memory(aligned_calls[call](alignment, opaque(SIZE_MAX - alignment + 1)));
            for (size_t below = 0; below < 100; below++)
                assert_out_of_memory(aligned_calls[call](alignment, opaque(SIZE_MAX - below)));
        }
    }
}

static void posix_memalign_refuses_bad_alignments_and_touches_nothing(void **state)
{
    (void)state;
    const size_t bad[] = {0,
                          1,
                          2,
                          3,
                          4,
                          6,
                          7,
                          9,
                          12,
                          15,
                          17,
                          24,
                          40,
                          48,
                          100,
                          1000,
                          4095,
                          4097,
                          3 * 4096,
                          64 * MIB + 8,
                          ((size_t)1 << 63) + 8,
                          ((size_t)1 << 62) + ((size_t)1 << 61),
                          SIZE_MAX - 7,
                          SIZE_MAX};
    const size_t sizes[] = {0, 1, 100, 100 * KIB, 64 * MIB, PTRDIFF_MAX, SIZE_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            void *block = &block;
            errno = EDOM;
            assert_int_equal(posix_memalign(&block, opaque(bad[i]), opaque(sizes[j])), EINVAL);
            assert_int_equal(errno, EDOM);
            assert_ptr_equal(block, &block);
        }
    }
}

static void posix_memalign_out_of_memory_leaves_the_pointer_alone(void **state)
{
    (void)state;
    for (size_t alignment = sizeof(void *); alignment <= 64 * MIB; alignment *= 2) {
        void *block = &block;
        assert_int_equal(posix_memalign(&block, alignment, opaque(PTRDIFF_MAX)), ENOMEM);
        assert_int_equal(posix_memalign(&block, alignment, opaque(SIZE_MAX)), ENOMEM);
        assert_ptr_equal(block, &block);
    }
}

static void posix_memalign_of_zero_bytes_gives_unique_blocks(void **state)
{
    (void)state;
    for (size_t alignment = sizeof(void *); alignment <= MIB; alignment *= 2) {
        void *first = by_posix_memalign(alignment, 0);
        void *second = by_posix_memalign(alignment, 0);
        assert_non_null(first);
        assert_non_null(second);
        assert_ptr_not_equal(first, second);
        free(first);
        free(second);
    }
}

static size_t next_power_of_two(size_t number)
{
    size_t power = 1;
    while (power < number)
        power *= 2;
    return power;
}

static void memalign_and_aligned_alloc_round_odd_alignments_up(void **state)
{
    (void)state;
    for (size_t alignment = 0; alignment <= 300000; alignment += alignment / 7 + 1) {
        for (int call = 1; call < aligned_call_count; call++) {
            char *blocks[3];
            for (int i = 0; i < 3; i++) {
                blocks[i] = aligned_calls[call](opaque(alignment), 100);
                verify_aligned(blocks[i], next_power_of_two(alignment), 100);
            }
            for (int i = 0; i < 3; i++)
                free(blocks[i]);
        }
    }
}

static void memalign_and_aligned_alloc_refuse_more_than_half_the_range(void **state)
{
    (void)state;
    const size_t half = (size_t)1 << 63;
    const size_t bad[] = {half + 1, half + 16, half + half / 2, SIZE_MAX - 4095, SIZE_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (int call = 1; call < aligned_call_count; call++) {
            errno = 0;
            assert_null(aligned_calls[call](opaque(bad[i]), 100));
            assert_int_equal(errno, EINVAL);
        }
    }
    /* Rounded up, this is half of the range itself: allowed, and more than there is. */
    for (int call = 1; call < aligned_call_count; call++)
        assert_out_of_memory(aligned_calls[call](opaque(half / 2 + 1), 100));
}

static void aligned_alloc_takes_sizes_that_are_no_multiple(void **state)
{
    (void)state;
    for (size_t size = 0; size < 200; size++)
        allocate_aligned_and_verify(aligned_alloc, 64, size);
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void *by_valloc(size_t alignment, size_t size)
{
    (void)alignment;
    return valloc(size);
}

static void *by_pvalloc(size_t alignment, size_t size)
{
    (void)alignment;
    return pvalloc(size);
}

static void valloc_gives_whole_page_alignment(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++)
        allocate_aligned_and_verify(by_valloc, page_size(), border_sizes[i]);
    allocate_aligned_and_verify(by_valloc, page_size(), 0);
    void *first = valloc(0);
    void *second = valloc(0);
    assert_ptr_not_equal(first, second);
    free(first);
    free(second);
}

/* All of the rounded size may be used, to its last byte. */
static void pvalloc_rounds_the_size_up_to_whole_pages(void **state)
{
    (void)state;
    const size_t page = page_size();
    for (size_t i = 0; i < border_size_count; i++) {
        const size_t rounded = (border_sizes[i] + page - 1) / page * page;
        allocate_aligned_and_verify(by_pvalloc, page, border_sizes[i]);
        char *block = pvalloc(border_sizes[i]);
        assert_non_null(block);
        assert_true(malloc_usable_size(block) >= rounded);
        memset(block + rounded - page, 1, page);
        free(block);
    }
    allocate_aligned_and_verify(by_pvalloc, page, 0);
}

static void valloc_and_pvalloc_never_wrap_around_to_a_success(void **state)
{
    (void)state;
    for (size_t below = 0; below <= 70000; below++) {
        assert_out_of_memory(valloc(opaque(SIZE_MAX - below)));
        assert_out_of_memory(pvalloc(opaque(SIZE_MAX - below)));
        assert_out_of_memory(pvalloc(opaque(PTRDIFF_MAX - below)));
    }
}

/* The typical buffer of a server that bypasses the page cache: whole pages, many of them. */
static void page_aligned_blocks_can_be_protected_and_unprotected(void **state)
{
    (void)state;
    const size_t page = page_size();
    for (int round = 0; round < 100; round++) {
        char *block = by_posix_memalign(page, page);
        assert_non_null(block);
        assert_int_equal(mprotect(block, page, PROT_NONE), 0);
        void *other = malloc(100);
        assert_non_null(other);
        memset(other, 1, 100);
        free(other);
        assert_int_equal(mprotect(block, page, PROT_READ | PROT_WRITE), 0);
        block[0] = block[page - 1] = 1;
        free(block);
    }
}

int main(void)
{
    require_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_power_of_two_is_honoured_with_sizes_around_it),
        cmocka_unit_test(every_power_of_two_goes_with_every_border_size),
        cmocka_unit_test(many_aligned_blocks_live_side_by_side),
        cmocka_unit_test(a_huge_alignment_is_honoured_or_fails_with_enomem),
        cmocka_unit_test(size_and_alignment_never_wrap_around_to_a_success),
        cmocka_unit_test(posix_memalign_refuses_bad_alignments_and_touches_nothing),
        cmocka_unit_test(posix_memalign_out_of_memory_leaves_the_pointer_alone),
        cmocka_unit_test(posix_memalign_of_zero_bytes_gives_unique_blocks),
        cmocka_unit_test(memalign_and_aligned_alloc_round_odd_alignments_up),
        cmocka_unit_test(memalign_and_aligned_alloc_refuse_more_than_half_the_range),
        cmocka_unit_test(aligned_alloc_takes_sizes_that_are_no_multiple),
        cmocka_unit_test(valloc_gives_whole_page_alignment),
        cmocka_unit_test(pvalloc_rounds_the_size_up_to_whole_pages),
        cmocka_unit_test(valloc_and_pvalloc_never_wrap_around_to_a_success),
        cmocka_unit_test(page_aligned_blocks_can_be_protected_and_unprotected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
