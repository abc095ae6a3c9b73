/* realloc and reallocarray: every border crossed both ways, and the old block safe on failure. */
#include "support.h"

#include <malloc.h>

/* The library's page. */
static const size_t page_size = 32 * KIB;

static size_t max_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void realloc_of_null_is_malloc(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++) {
        char *block = realloc(NULL, border_sizes[i]);
        assert_non_null(block);
        assert_true(is_aligned(block, BLOCK_ALIGNMENT));
        fill(block, border_sizes[i], i);
        assert_int_equal(first_bad_byte(block, border_sizes[i], i), border_sizes[i]);
        free(block);
    }
}

static void realloc_of_null_to_zero_gives_a_unique_block(void **state)
{
    (void)state;
    void *first = realloc(NULL, 0);
    void *second = realloc(NULL, 0);
    assert_non_null(first);
    assert_non_null(second);
    assert_ptr_not_equal(first, second);
    free(first);
    free(second);
}

static void realloc_to_zero_gives_null_and_keeps_errno(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++) {
        void *block = malloc(border_sizes[i]);
        assert_non_null(block);
        errno = EDOM;
        assert_null(realloc(block, opaque(0)));
        assert_int_equal(errno, EDOM);
    }
}

/* If it did not free, this would take 64 GiB of addresses and then 64 MiB of small blocks. */
static void realloc_to_zero_over_and_over(void *unused)
{
    (void)unused;
    const size_t before = resident_bytes();
    limit_address_space(4096 * MIB);
    for (size_t i = 0; i < 64 * 1024; i++) {
        void *block = malloc(MIB);
        child_check(block != NULL);
        child_check(realloc(block, opaque(0)) == NULL);
    }
    for (size_t i = 0; i < 64 * MIB; i += 64) {
        char *block = malloc(64);
        child_check(block != NULL);
        *block = 1;
        child_check(realloc(block, opaque(0)) == NULL);
    }
    child_check(resident_bytes() < before + 16 * MIB);
}

static void realloc_to_zero_frees_the_block(void **state)
{
    (void)state;
    struct child_end end;
    run_child(&end, realloc_to_zero_over_and_over, NULL);
    assert_child_passed(&end);
}

/* A block of one size made into one of another size; what both hold must be the same. */
static void resize_and_verify(size_t from, size_t to)
{
    const size_t kept = from < to ? from : to;
    char *block = malloc(from);
    assert_non_null(block);
    block[from - 1] = 1;
    fill(block, kept, from ^ to);
    block = realloc(block, to);
    assert_non_null(block);
    assert_true(is_aligned(block, BLOCK_ALIGNMENT));
    assert_true(malloc_usable_size(block) >= to);
    assert_int_equal(first_bad_byte(block, kept, from ^ to), kept);
    /* What is new must be there: here and there a byte of it, and the last. */
    for (size_t offset = kept; offset < to; offset += 64 * KIB)
        block[offset] = 1;
    block[to - 1] = 1;
    free(block);
}

static void data_is_kept_between_every_two_sizes(void **state)
{
    (void)state;
    for (size_t i = 0; i < border_size_count; i++)
        for (size_t j = 0; j < border_size_count; j++)
            resize_and_verify(border_sizes[i], border_sizes[j]);
}

static void data_is_kept_between_all_small_sizes(void **state)
{
    (void)state;
    for (size_t from = 1; from <= 300; from++)
        for (size_t to = 1; to <= 300; to++)
            resize_and_verify(from, to);
}

/* One block wanders through the sizes, with neighbours that must not notice. */
static void a_block_resized_many_times_keeps_its_data_and_its_neighbours(void **state)
{
    (void)state;
    enum { count = 16, steps = 40000 };
    char *blocks[count] = {0};
    size_t sizes[count] = {0};
    uint64_t random = 99;
    for (int step = 0; step < steps; step++) {
        const size_t i = next_random(&random) % count;
        const size_t size = 1 + random_size(&random, step % 64 == 0 ? 6 * MIB : 60000);
        const size_t kept = size < sizes[i] ? size : sizes[i];
        blocks[i] = realloc(blocks[i], size);
        assert_non_null(blocks[i]);
        assert_int_equal(first_bad_byte(blocks[i], kept, i), kept);
        fill(blocks[i], size, i);
        sizes[i] = size;
    }
    for (int i = 0; i < count; i++) {
        assert_int_equal(first_bad_byte(blocks[i], sizes[i], i), sizes[i]);
        free(blocks[i]);
    }
}

static void growing_byte_by_byte_keeps_the_data(void **state)
{
    (void)state;
    unsigned char *block = NULL;
    for (size_t size = 1; size <= 70000; size++) {
        block = realloc(block, size);
        assert_non_null(block);
        block[size - 1] = (unsigned char)(size * 31);
    }
    for (size_t size = 70000; size > 0; size--) {
        block = realloc(block, size);
        assert_non_null(block);
        assert_int_equal(block[size - 1], (unsigned char)(size * 31));
    }
    free(block);
}

/* By steps that a neighbour is not in the way of, most of the time: in place, beyond the size from
 * which on malloc makes mappings, beyond a chunk, and back. */
static void a_large_block_grows_to_a_huge_one_and_shrinks_again(void **state)
{
    (void)state;
    const size_t step = 700 * 1024, most = 64 * step;
    size_t stayed = 0;
    char *block = NULL;
    for (size_t size = step; size <= most; size += step) {
        uintptr_t before = (uintptr_t)block;
        block = realloc(block, size);
        assert_non_null(block);
        assert_true(malloc_usable_size(block) >= size);
        stayed += (uintptr_t)block == before;
        assert_int_equal(first_bad_byte(block, size - step, 1), size - step);
        fill(block, size, 1);
    }
    assert_true(stayed > 16);
    for (size_t size = most; size > 0; size -= step) {
        block = realloc(block, size);
        assert_non_null(block);
        assert_true(malloc_usable_size(block) >= size);
        assert_int_equal(first_bad_byte(block, size, 1), size);
    }
    free(block);
}

/* In the hardened mode a block has what was asked for, and no more. */
#define skip_unless_growth_takes_more()                                                            \
    do {                                                                                           \
        if (!on_ebbmalloc() || is_hardened())                                                      \
            skip();                                                                                \
    } while (0)

/* Growth by steps, up to `most` bytes: who adds a little is expected to do it again. */
static void grow_by_steps(size_t step, size_t most)
{
    size_t copied = 0, room = 0;
    char *block = NULL;
    for (size_t size = step; size <= most; size += step) {
        const uintptr_t before = (uintptr_t)block;
        block = realloc(block, size);
        assert_non_null(block);
        assert_true(malloc_usable_size(block) >= max_of(size, room));
        copied += (uintptr_t)block != before ? room : 0;
        room = malloc_usable_size(block);
        assert_int_equal(first_bad_byte(block, size - step, step), size - step);
        fill(block, size, step);
    }
    assert_true(copied <= 160 * KIB);
    free(block);
}

static void growing_by_steps_copies_little(void **state)
{
    (void)state;
    const size_t steps[] = {16, 100, 1000, 4096, 10000};
    skip_unless_growth_takes_more();
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        grow_by_steps(steps[i], MIB);
}

/* What a block that grows takes more than it needs is a quarter, but that it is a size class or
 * whole pages. */
static void growing_by_steps_takes_a_quarter_more_at_most(void **state)
{
    (void)state;
    const size_t steps[] = {16, 1000, 10000, 100 * KIB};
    size_t most = 0;
    skip_unless_growth_takes_more();
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const size_t step = steps[i];
        char *block = NULL;
        for (size_t size = step; size <= 300 * step; size += step) {
            block = realloc(block, size);
            assert_non_null(block);
            void *other = malloc(size / 4 * 5 + 16 * KIB);
            assert_true(malloc_usable_size(block) <= malloc_usable_size(other));
            free(other);
            if (size > 64 * KIB && malloc_usable_size(block) > size / 8 * 9 + page_size)
                most++;
        }
        free(block);
    }
    assert_true(most != 0); /* there was more than a class takes */
}

static void growth_ends_at_a_power_of_two(void **state)
{
    (void)state;
    skip_on_other_malloc();
    for (size_t end = KIB; end <= 2 * MIB; end *= 2) {
        char *block = NULL;
        for (size_t step = end / 50, size = end % step; size <= end; size += step) {
            block = realloc(block, size + !size);
            assert_non_null(block);
        }
        assert_int_equal(malloc_usable_size(block), end);
        free(block);
    }
}

/* Each is a stranger to the one that grew before it: it gets what malloc gives. */
static void blocks_that_grow_by_turns_take_no_more_than_malloc_gives(void **state)
{
    (void)state;
    char *blocks[2] = {NULL, NULL};
    skip_on_other_malloc();
    for (size_t size = 2000; size <= page_size; size += size / 16) {
        void *other = malloc(size);
        for (int i = 0; i < 2; i++) {
            blocks[i] = realloc(blocks[i], size);
            assert_non_null(blocks[i]);
            assert_int_equal(malloc_usable_size(blocks[i]), malloc_usable_size(other));
        }
        free(other);
    }
    free(blocks[0]);
    free(blocks[1]);
}

enum { PLUGS = 20 };

/* A block of more than 4 MiB, which has whole pages and no class, with much more than the *size
 * that it was grown to. One that has no room behind it has none: so the places where one came to
 * lie are plugged until there is another. */
static char *grow_to_have_spare(size_t *size, char *plugs[PLUGS])
{
    for (int tries = 0; tries < PLUGS; tries++) {
        char *block = malloc(3 * MIB);
        for (*size = 5 * MIB; *size < 20 * MIB; *size += 64 * KIB) {
            block = realloc(block, *size);
            assert_non_null(block);
            if (malloc_usable_size(block) - *size > *size / 10)
                return block;
        }
        free(block);
        plugs[tries] = malloc(3 * MIB);
    }
    fail_msg("no block took more than it needed");
    return NULL;
}

static void what_a_block_took_to_grow_is_given_back_when_it_shrinks(void **state)
{
    (void)state;
    skip_unless_growth_takes_more();
    for (int by = 0; by <= 1; by++) {
        size_t size;
        char *plugs[PLUGS] = {NULL};
        char *block = grow_to_have_spare(&size, plugs);
        block = realloc(block, size - (size_t)by);
        assert_true(malloc_usable_size(block) < size + page_size);
        free(block);
        for (int i = 0; i < PLUGS; i++)
            free(plugs[i]);
    }
}

/* 34 MB, in pages of which each block has one: eight times as much if the room behind it were its.
 */
static void keep_many_that_grew(void *unused)
{
    (void)unused;
    limit_address_space(160 * MIB);
    for (int i = 0; i < 2000; i++) {
        char *block = NULL;
        for (size_t size = 1000; size <= 17000; size += 1000)
            child_check((block = realloc(block, size)) != NULL);
    }
}

static void many_blocks_that_grew_take_little_address_space(void **state)
{
    (void)state;
    struct child_end end;
    run_child(&end, keep_many_that_grew, NULL);
    assert_child_passed(&end);
}

/* size: of a block that wants more, which is not to be had. Its neighbours keep what is freed from
 * being anything but what it was. */
static void grow_without_memory(void *argument)
{
    const size_t size = *(const size_t *)argument;
    char *block = malloc(size / 2), *neighbours[4];
    block = realloc(block, size / 16 * 15);
    child_check(block != NULL);
    const size_t room = malloc_usable_size(block);
    child_check(room < size);
    fill(block, room, 1);
    for (int i = 0; i < 4; i++)
        child_check((neighbours[i] = malloc(size)) != NULL);
    eat_everything();
    while (malloc(room / 4 * 5) != NULL)
        continue;
    free(neighbours[1]);
    errno = EDOM;
    block = realloc(block, size);
    child_check(block != NULL);
    child_check(errno == EDOM);
    child_check(malloc_usable_size(block) < room / 4 * 5);
    child_check(first_bad_byte(block, room, 1) == room);
}

static void without_memory_for_more_a_block_grows_as_far_as_asked(void **state)
{
    (void)state;
    size_t sizes[] = {650, 9300, 16800};
    skip_on_other_malloc();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct child_end end;
        run_child(&end, grow_without_memory, &sizes[i]);
        assert_child_passed(&end);
    }
}

static void an_aligned_block_can_be_resized(void **state)
{
    (void)state;
    for (size_t alignment = 16; alignment <= MIB; alignment *= 2) {
        for (size_t i = 0; i < border_size_count; i += 3) {
            char *block = memalign(alignment, 1000);
            assert_non_null(block);
            fill(block, 1000, i);
            block = realloc(block, border_sizes[i]);
            assert_non_null(block);
            const size_t kept = border_sizes[i] < 1000 ? border_sizes[i] : 1000;
            assert_int_equal(first_bad_byte(block, kept, i), kept);
            free(block);
        }
    }
}

static void shrink_many_blocks(void *unused)
{
    (void)unused;
    enum { count = 512 };
    void *blocks[count];
    const size_t before = resident_bytes();
    /* 4 GiB if the tails were kept; a few MiB when they are given up. */
    for (int i = 0; i < count; i++) {
        blocks[i] = malloc(8 * MIB);
        child_check(blocks[i] != NULL);
        memset(blocks[i], 1, 8 * MIB);
        blocks[i] = realloc(blocks[i], 100);
        child_check(blocks[i] != NULL);
    }
    child_check(resident_bytes() < before + 64 * MIB);
    for (int i = 0; i < count; i++)
        free(blocks[i]);
}

static void shrinking_gives_up_the_rest(void **state)
{
    (void)state;
    struct child_end end;
    run_child(&end, shrink_many_blocks, NULL);
    assert_child_passed(&end);
}

static void a_failed_realloc_leaves_the_old_block_intact(void **state)
{
    (void)state;
    const size_t impossible[] = {PTRDIFF_MAX,  (size_t)PTRDIFF_MAX + 1, SIZE_MAX,
                                 SIZE_MAX - 8, SIZE_MAX - 4096,         (size_t)1 << 60};
    for (size_t i = 0; i < border_size_count; i++) {
        const size_t size = border_sizes[i];
        char *block = malloc(size);
        assert_non_null(block);
        fill(block, size, i);
        for (size_t j = 0; j < sizeof impossible / sizeof *impossible; j++) {
            assert_out_of_memory(realloc(opaque_pointer(block), opaque(impossible[j])));
            assert_out_of_memory(reallocarray(opaque_pointer(block), opaque(impossible[j]), 1));
        }
        assert_int_equal(first_bad_byte(block, size, i), size);
        block = realloc(block, size + 1);
        assert_non_null(block);
        assert_int_equal(first_bad_byte(block, size, i), size);
        free(block);
    }
}

static void sizes_near_size_max_never_wrap_around_to_a_success(void **state)
{
    (void)state;
    char *block = malloc(100);
    assert_non_null(block);
    fill(block, 100, 5);
    for (size_t below = 0; below <= 70000; below++) {
        assert_out_of_memory(realloc(opaque_pointer(block), opaque(SIZE_MAX - below)));
        assert_out_of_memory(realloc(NULL, opaque(PTRDIFF_MAX + below + 1)));
    }
    assert_int_equal(first_bad_byte(block, 100, 5), 100);
    free(block);
}

static void reallocarray_makes_room_for_the_product(void **state)
{
    (void)state;
    char *block = NULL;
    size_t held = 0;
    for (size_t number = 1; number <= 3000; number += number / 3 + 1) {
        for (size_t size = 1; size <= 3000; size += size / 3 + 1) {
            const size_t product = number * size;
            const size_t kept = held < product ? held : product;
            block = reallocarray(block, number, size);
            assert_non_null(block);
            assert_int_equal(first_bad_byte(block, kept, 3), kept);
            fill(block, product, 3);
            held = product;
        }
    }
    free(block);
}

static void reallocarray_refuses_products_that_overflow(void **state)
{
    (void)state;
    const size_t half = (size_t)1 << 32; /* half * half is 2^64, which wraps to 0 */
    char *block = malloc(1000);
    assert_non_null(block);
    fill(block, 1000, 8);
    for (size_t factor = 2; factor <= 1 << 20; factor += factor / 16 + 1) {
        const size_t number = SIZE_MAX / factor + 1;
        assert_out_of_memory(reallocarray(opaque_pointer(block), opaque(number), opaque(factor)));
        assert_out_of_memory(reallocarray(opaque_pointer(block), opaque(factor), opaque(number)));
        assert_out_of_memory(reallocarray(NULL, opaque(number), opaque(factor)));
        assert_out_of_memory(
            reallocarray(opaque_pointer(block), opaque(PTRDIFF_MAX / factor + 1), factor));
    }
    assert_out_of_memory(reallocarray(opaque_pointer(block), opaque(half), opaque(half)));
    assert_int_equal(first_bad_byte(block, 1000, 8), 1000);
    free(block);
}

static void reallocarray_to_zero_frees_and_gives_null(void **state)
{
    (void)state;
    errno = EDOM;
    assert_null(reallocarray(malloc(100), opaque(0), 10));
    assert_null(reallocarray(malloc(100), 10, opaque(0)));
    assert_null(reallocarray(malloc(40 * MIB), opaque(0), opaque(SIZE_MAX)));
    assert_int_equal(errno, EDOM);
    void *block = reallocarray(NULL, 0, 10);
    assert_non_null(block);
    free(block);
}

int main(void)
{
    require_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(realloc_of_null_is_malloc),
        cmocka_unit_test(realloc_of_null_to_zero_gives_a_unique_block),
        cmocka_unit_test(realloc_to_zero_gives_null_and_keeps_errno),
        cmocka_unit_test(realloc_to_zero_frees_the_block),
        cmocka_unit_test(data_is_kept_between_every_two_sizes),
        cmocka_unit_test(data_is_kept_between_all_small_sizes),
        cmocka_unit_test(a_block_resized_many_times_keeps_its_data_and_its_neighbours),
        cmocka_unit_test(growing_byte_by_byte_keeps_the_data),
        cmocka_unit_test(a_large_block_grows_to_a_huge_one_and_shrinks_again),
        cmocka_unit_test(growing_by_steps_copies_little),
        cmocka_unit_test(growing_by_steps_takes_a_quarter_more_at_most),
        cmocka_unit_test(growth_ends_at_a_power_of_two),
        cmocka_unit_test(blocks_that_grow_by_turns_take_no_more_than_malloc_gives),
        cmocka_unit_test(what_a_block_took_to_grow_is_given_back_when_it_shrinks),
        cmocka_unit_test(many_blocks_that_grew_take_little_address_space),
        cmocka_unit_test(without_memory_for_more_a_block_grows_as_far_as_asked),
        cmocka_unit_test(an_aligned_block_can_be_resized),
        cmocka_unit_test(shrinking_gives_up_the_rest),
        cmocka_unit_test(a_failed_realloc_leaves_the_old_block_intact),
        cmocka_unit_test(sizes_near_size_max_never_wrap_around_to_a_success),
        cmocka_unit_test(reallocarray_makes_room_for_the_product),
        cmocka_unit_test(reallocarray_refuses_products_that_overflow),
        cmocka_unit_test(reallocarray_to_zero_frees_and_gives_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
