/* malloc and free: zero, alignment, every byte usable, no overlap, sizes that cannot be had. */
#include "support.h"

#include <malloc.h>
#include <pthread.h>

enum { smalls_end = 70000 };

static void zero_size_gives_a_unique_block_that_can_be_freed(void **state)
{
    (void)state;
    enum { count = 3000 };
    static void *blocks[count];
    for (int i = 0; i < count; i++) {
        blocks[i] = malloc(0);
        assert_non_null(blocks[i]);
        assert_true(is_aligned(blocks[i], BLOCK_ALIGNMENT));
        for (int j = 0; j < i; j++)
            assert_ptr_not_equal(blocks[i], blocks[j]);
    }
    for (int i = 0; i < count; i++)
        free(blocks[i]);
}

static void free_of_null_does_nothing(void **state)
{
    (void)state;
    char *block = malloc(100);
    assert_non_null(block);
    fill(block, 100, 1);
    for (int i = 0; i < 1000; i++)
        free(NULL);
    assert_int_equal(first_bad_byte(block, 100, 1), 100);
    free(block);
}

static void every_small_size_is_aligned_to_16_bytes(void **state)
{
    (void)state;
    static void *blocks[smalls_end + 1];
    /* All stay alive, so that not one block per size but many places are looked at. */
    for (size_t size = 0; size <= smalls_end; size++) {
        blocks[size] = malloc(size);
        assert_non_null(blocks[size]);
        assert_true(is_aligned(blocks[size], BLOCK_ALIGNMENT));
    }
    for (size_t size = 0; size <= smalls_end; size++)
        free(blocks[size]);
}

static void large_and_huge_sizes_are_aligned_to_16_bytes(void **state)
{
    (void)state;
    for (size_t size = smalls_end; size <= 64 * MIB; size += size / 64 + 1) {
        void *block = malloc(size);
        assert_non_null(block);
        assert_true(is_aligned(block, BLOCK_ALIGNMENT));
        free(block);
    }
}

static void write_and_verify(size_t size)
{
    char *block = malloc(size);
    assert_non_null(block);
    fill(block, size, size);
    assert_int_equal(first_bad_byte(block, size, size), size);
    free(block);
}

static void every_byte_asked_for_can_be_used(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 4200; size++)
        write_and_verify(size);
    for (size_t size = 4200; size <= smalls_end; size += 61)
        write_and_verify(size);
    for (size_t i = 0; i < border_size_count; i++)
        write_and_verify(border_sizes[i]);
}

struct extent {
    uintptr_t start;
    size_t size; /* all that malloc_usable_size() says may be written */
    void *block;
};

static int by_start(const void *left, const void *right)
{
    const uintptr_t a = ((const struct extent *)left)->start;
    const uintptr_t b = ((const struct extent *)right)->start;
    return a < b ? -1 : a > b;
}

static void take_some_block(struct extent *extent, uint64_t *random)
{
    const size_t size = random_size(random, next_random(random) % 1000 == 0 ? 8 * MIB : 40000);
    switch (next_random(random) % 4) {
    case 0:
        extent->block = calloc(1, size);
        break;
    case 1:
        extent->block = memalign((size_t)16 << next_random(random) % 9, size);
        break;
    case 2:
        extent->block = realloc(malloc(random_size(random, 2000)), size + 1);
        break;
    default:
        extent->block = malloc(size);
    }
    assert_non_null(extent->block);
    extent->start = (uintptr_t)extent->block;
    extent->size = malloc_usable_size(extent->block);
    assert_true(extent->size >= size);
}

static void assert_no_overlap(const struct extent *live, size_t count, struct extent *sorted)
{
    memcpy(sorted, live, count * sizeof *live);
    qsort(sorted, count, sizeof *sorted, by_start);
    for (size_t i = 1; i < count; i++)
        assert_true(sorted[i - 1].start + sorted[i - 1].size <= sorted[i].start);
}

static void no_two_live_blocks_overlap(void **state)
{
    (void)state;
    enum { count = 30000, rounds = 6 };
    static struct extent live[count], sorted[count];
    uint64_t random = 20240601;
    for (int i = 0; i < count; i++)
        take_some_block(&live[i], &random);
    for (int round = 0; round < rounds; round++) {
        for (int step = 0; step < count; step++) {
            struct extent *extent = &live[next_random(&random) % count];
            free(extent->block);
            take_some_block(extent, &random);
        }
        assert_no_overlap(live, count, sorted);
    }
    for (int i = 0; i < count; i++)
        free(live[i].block);
}

static void live_blocks_keep_their_bytes_while_others_come_and_go(void **state)
{
    (void)state;
    enum { count = 4000, steps = 200000 };
    static struct {
        char *block;
        size_t size;
        uint64_t seed;
    } live[count];
    uint64_t random = 7;
    for (uint64_t step = 0; step < steps; step++) {
        const size_t i = next_random(&random) % count;
        assert_int_equal(first_bad_byte(live[i].block, live[i].size, live[i].seed), live[i].size);
        free(live[i].block);
        live[i].size = random_size(&random, step % 4096 == 0 ? 5 * MIB : 9000);
        live[i].seed = step;
        live[i].block = malloc(live[i].size);
        assert_non_null(live[i].block);
        fill(live[i].block, live[i].size, step);
    }
    for (int i = 0; i < count; i++) {
        assert_int_equal(first_bad_byte(live[i].block, live[i].size, live[i].seed), live[i].size);
        free(live[i].block);
    }
}

/* Every amount that an allocator might add for a header or to round up must be found to wrap. */
static void sizes_near_size_max_never_wrap_around_to_a_success(void **state)
{
    (void)state;
    for (size_t below = 0; below <= 70000; below++)
        assert_out_of_memory(malloc(opaque(SIZE_MAX - below)));
    for (size_t below = 1; below <= SIZE_MAX / 4; below = below * 2 + 1)
        assert_out_of_memory(malloc(opaque(SIZE_MAX - below)));
}

static void sizes_over_ptrdiff_max_fail_with_enomem(void **state)
{
    (void)state;
    for (size_t above = 1; above <= 70000; above++)
        assert_out_of_memory(malloc(opaque(PTRDIFF_MAX + above)));
}

static void sizes_that_no_address_space_holds_fail_with_enomem(void **state)
{
    (void)state;
    for (size_t below = 0; below <= 70000; below += 7)
        assert_out_of_memory(malloc(opaque(PTRDIFF_MAX - below)));
    for (size_t size = (size_t)1 << 48; size <= PTRDIFF_MAX; size += size / 8)
        assert_out_of_memory(malloc(opaque(size)));
}

static void a_failed_malloc_leaves_the_next_one_working(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++) {
        assert_out_of_memory(malloc(opaque(PTRDIFF_MAX)));
        write_and_verify(border_sizes[i]);
    }
}

static void *free_it(void *block)
{
    free(block);
    return NULL;
}

static void a_block_can_be_freed_by_another_thread(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++) {
        pthread_t thread;
        char *block = malloc(border_sizes[i]);
        assert_non_null(block);
        assert_int_equal(pthread_create(&thread, NULL, free_it, block), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        write_and_verify(border_sizes[i]);
    }
}

int main(void)
{
    require_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_size_gives_a_unique_block_that_can_be_freed),
        cmocka_unit_test(free_of_null_does_nothing),
        cmocka_unit_test(every_small_size_is_aligned_to_16_bytes),
        cmocka_unit_test(large_and_huge_sizes_are_aligned_to_16_bytes),
        cmocka_unit_test(every_byte_asked_for_can_be_used),
        cmocka_unit_test(no_two_live_blocks_overlap),
        cmocka_unit_test(live_blocks_keep_their_bytes_while_others_come_and_go),
        cmocka_unit_test(sizes_near_size_max_never_wrap_around_to_a_success),
        cmocka_unit_test(sizes_over_ptrdiff_max_fail_with_enomem),
        cmocka_unit_test(sizes_that_no_address_space_holds_fail_with_enomem),
        cmocka_unit_test(a_failed_malloc_leaves_the_next_one_working),
        cmocka_unit_test(a_block_can_be_freed_by_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
