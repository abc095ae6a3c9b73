/* Large blocks: whole pages of a chunk, resized where they stand. */
#include "support.h"

#include <sys/mman.h>
#include <sys/random.h>

#include "huge.h"
#include "large.h"
#include "older.h"
#include "options.h"
#include "pagemap.h"

static int no_blocks(void **state)
{
    (void)state;
    chunk_sweep(true, 0);
    huge_sweep(0);
    struct chunk_totals left = chunk_totals();
    return left.mapped_bytes == 0 && left.large_blocks == 0 && left.large_bytes == 0 ? 0 : -1;
}

static char *take(size_t size)
{
    bool zero;
    char *block = large_alloc(size, 16, &zero);
    assert_non_null(block);
    return block;
}

static size_t pages_in(size_t size)
{
    return (size + PAGE_SIZE - 1) / PAGE_SIZE;
}

static void every_size_is_rounded_up_to_whole_pages(void **state)
{
    (void)state;
    for (size_t pages = 1; pages <= LARGE_MAX / PAGE_SIZE; pages++) {
        const size_t sizes[] = {(pages - 1) * PAGE_SIZE + 1, pages * PAGE_SIZE};
        for (size_t i = 0; i < 2; i++) {
            char *block = take(sizes[i]);
            assert_int_equal((uintptr_t)block % PAGE_SIZE, 0);
            assert_int_equal(pagemap_class(block), CLASS_LARGE);
            assert_int_equal(large_size(block), pages * PAGE_SIZE);
            assert_int_equal(chunk_totals().large_bytes, pages * PAGE_SIZE);
            assert_int_equal(chunk_totals().large_blocks, 1);
            block[0] = block[pages * PAGE_SIZE - 1] = 1;
            assert_true(large_free(block));
            assert_int_equal(pagemap_class(block), CLASS_NONE);
        }
    }
}

static void blocks_stand_at_the_alignment_that_is_asked_for(void **state)
{
    (void)state;
    for (size_t alignment = 16; alignment <= CHUNK_SIZE; alignment *= 2) {
        bool zero;
        char *blocks[2];
        for (size_t i = 0; i < 2; i++) {
            blocks[i] = large_alloc(40000, alignment, &zero);
            assert_non_null(blocks[i]);
            assert_int_equal((uintptr_t)blocks[i] % alignment, 0);
        }
        assert_true(large_free(blocks[0]));
        assert_true(large_free(blocks[1]));
    }
}

static void only_the_start_of_a_live_block_is_one(void **state)
{
    (void)state;
    char *block = take(5 * PAGE_SIZE);
    for (size_t offset = 16; offset < 5 * PAGE_SIZE; offset += 16) {
        require(offset < PAGE_SIZE || pagemap_class(block + offset) == CLASS_NONE);
        require(large_size(block + offset) == 0);
        require(!large_free(block + offset));
    }
    assert_int_equal(large_size(block), 5 * PAGE_SIZE);
    assert_true(large_free(block));
    assert_false(large_free(block));
    assert_int_equal(large_size(block), 0);
}

static void a_block_grows_where_it_stands_when_there_is_room(void **state)
{
    (void)state;
    char *block = take(4 * PAGE_SIZE), *next = take(4 * PAGE_SIZE);
    assert_ptr_equal(next, block + 4 * PAGE_SIZE);
    pattern_write(block, 4 * PAGE_SIZE, 1);
    assert_false(large_resize(block, 4 * PAGE_SIZE + 1));
    assert_int_equal(large_size(block), 4 * PAGE_SIZE);
    assert_true(large_free(next));
    assert_true(large_resize(block, 7 * PAGE_SIZE + 1));
    assert_int_equal(large_size(block), 8 * PAGE_SIZE);
    assert_int_equal(chunk_totals().large_bytes, 8 * PAGE_SIZE);
    assert_true(pattern_holds(block, 4 * PAGE_SIZE, 1));
    memset(block + 4 * PAGE_SIZE, 1, 4 * PAGE_SIZE);
    assert_true(large_free(block));
}

static void a_block_grows_to_the_end_of_its_chunk(void **state)
{
    (void)state;
    char *block = take(PAGE_SIZE);
    size_t rest = CHUNK_SIZE - chunk_page(block) * PAGE_SIZE;
    assert_true(rest > LARGE_MAX);
    pattern_write(block, PAGE_SIZE, 3);
    for (size_t size = 2 * PAGE_SIZE; size < rest; size += min_size(size, LARGE_MAX)) {
        assert_true(large_resize(block, size));
        assert_true(pattern_holds(block, PAGE_SIZE, 3));
        block[size - 1] = 1;
    }
    assert_true(large_resize(block, rest));
    assert_int_equal(large_size(block), rest);
    assert_int_equal(chunk_totals().large_bytes, rest);
    memset(block, 1, rest);
    char *beyond = large_resize(block, rest + 1);
    assert_int_equal(huge_size(beyond), rest + os_page_size);
    assert_int_equal(beyond[rest - 1], 1);
    assert_true(huge_free(beyond));
}

static void a_block_at_the_end_of_its_chunk_does_not_grow(void **state)
{
    (void)state;
    enum { BLOCKS = CHUNK_SIZE / (2 * MiB) };
    char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = take(2 * MiB);
    char *last = blocks[BLOCKS - 1];
    assert_int_equal(chunk_page(last) + 2 * MiB / PAGE_SIZE, CHUNK_PAGES);
    assert_true(large_resize(last, 2 * MiB - PAGE_SIZE));
    assert_true(large_resize(last, 2 * MiB));
    assert_false(large_resize(last, 2 * MiB + 1));
    for (size_t i = 0; i < BLOCKS; i++)
        assert_true(large_free(blocks[i]));
}

static void a_block_made_to_grow_has_room_where_pages_are_at_hand(void **state)
{
    (void)state;
    enum { BLOCKS = 128, ROOM = 8 };
    char *blocks[BLOCKS];
    for (size_t i = 0; i < 3; i++) {
        blocks[i] = large_alloc_to_grow(PAGE_SIZE + 1, ROOM * PAGE_SIZE);
        assert_non_null(blocks[i]);
        assert_int_equal(large_size(blocks[i]), 2 * PAGE_SIZE);
        assert_true(i == 0 || large_resize_in_place(blocks[i - 1], ROOM * PAGE_SIZE));
    }
    for (size_t i = 0; i < 3; i++)
        assert_true(large_free(blocks[i]));
    /* Nothing is left between them when no more pages were ever used. */
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = large_alloc_to_grow(PAGE_SIZE, ROOM * PAGE_SIZE);
        assert_non_null(blocks[i]);
    }
    assert_int_equal(chunk_committed_bytes(), BLOCKS * PAGE_SIZE);
    for (size_t i = 0; i < BLOCKS; i++)
        assert_true(large_free(blocks[i]));
}

/* With a neighbour in the way. */
static void a_block_moves_out_to_grow_beyond_4_MiB(void **state)
{
    (void)state;
    char *block = take(MiB), *next = take(MiB);
    assert_ptr_equal(next, block + MiB);
    pattern_write(block, MiB, 6);
    assert_null(large_resize(block, LARGE_MAX)); /* that is copied */
    refuse(KIND(OS_CALL_REMAP), 1, SIZE_MAX);
    char *none = large_resize(block, LARGE_MAX + 1);
    refuse_none();
    assert_null(none);
    assert_int_equal(large_size(block), MiB);
    assert_true(pattern_holds(block, MiB, 6));
    char *moved = large_resize(block, LARGE_MAX + 1);
    assert_non_null(moved);
    assert_int_equal(huge_size(moved), LARGE_MAX + os_page_size);
    assert_true(pattern_holds(moved, MiB, 6));
    assert_int_equal(large_size(block), 0);
    assert_int_equal(pagemap_class(block), CLASS_NONE);
    assert_int_equal(chunk_totals().large_bytes, MiB);
    assert_int_equal(chunk_totals().dirty_bytes, 0);
    bool zero = false;
    assert_ptr_equal(large_alloc(MiB, 16, &zero), block);
    assert_true(zero);
    assert_true(reads_zero(block, MiB));
    assert_int_equal(getrandom(block + MiB - 256, 256, 0), 256); /* the kernel can write there */
    assert_true(large_free(block));
    assert_true(large_free(next));
    assert_true(huge_free(moved));
}

static bool is_locked(void *start)
{
    return madvise(start, os_page_size, MADV_COLD) != 0;
}

/* The kernel would unlock the neighbour, too. */
static void a_locked_block_does_not_move_out(void **state)
{
    (void)state;
    char *block = take(MiB), *next = take(MiB);
    assert_ptr_equal(next, block + MiB);
    pattern_write(block, MiB, 7);
    /* The process may not lock so much, or qemu does not say what is locked. */
    bool known = mlock(block, 2 * MiB) == 0 && is_locked(block);
    if (known) {
        assert_null(large_resize(block, LARGE_MAX + 1));
        assert_true(pattern_holds(block, MiB, 7));
        assert_true(is_locked(block) && is_locked(next));
    }
    munlock(block, 2 * MiB);
    assert_true(large_free(block));
    assert_true(large_free(next));
    if (!known)
        skip();
}

static void a_block_that_shrinks_gives_its_tail_back(void **state)
{
    (void)state;
    char *block = take(8 * PAGE_SIZE);
    pattern_write(block, 8 * PAGE_SIZE, 2);
    assert_true(large_resize(block, 2 * PAGE_SIZE + 1));
    assert_int_equal(large_size(block), 3 * PAGE_SIZE);
    assert_int_equal(chunk_totals().large_bytes, 3 * PAGE_SIZE);
    assert_true(pattern_holds(block, 3 * PAGE_SIZE, 2));
    char *tail = take(4 * PAGE_SIZE);
    assert_ptr_equal(tail, block + 4 * PAGE_SIZE);
    memset(tail, 0, 4 * PAGE_SIZE);
    assert_true(pattern_holds(block, 3 * PAGE_SIZE, 2));
    assert_true(large_free(tail));
    assert_true(large_free(block));
}

static void zero_is_told_truly(void **state)
{
    (void)state;
    bool zero = false;
    char *block = large_alloc(LARGE_MAX, 16, &zero);
    assert_non_null(block);
    assert_true(zero);
    assert_true(reads_zero(block, LARGE_MAX));
    memset(block, 1, LARGE_MAX);
    assert_true(large_free(block));
    char *again = large_alloc(LARGE_MAX, 16, &zero);
    assert_ptr_equal(again, block);
    assert_false(zero);
    assert_true(large_free(again));
}

static void without_memory_there_is_no_block(void **state)
{
    (void)state;
    bool zero;
    refuse(KIND(OS_CALL_MAP), 1, SIZE_MAX);
    void *none = large_alloc(100000, 16, &zero);
    refuse_none();
    assert_null(none);
    refuse(KIND(OS_CALL_COMMIT), 1, SIZE_MAX);
    none = large_alloc(100000, 16, &zero);
    refuse_none();
    assert_null(none);
    assert_int_equal(chunk_totals().large_blocks, 0);
}

static void random_resizes_keep_every_byte(void **state)
{
    (void)state;
    enum { BLOCKS = 12 };
    struct random random = {3};
    char *blocks[BLOCKS];
    size_t grown = 0, refused = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = take(PAGE_SIZE);
        pattern_write(blocks[i], PAGE_SIZE, i);
    }
    for (int step = 0; step < 3000; step++) {
        size_t i = random_below(&random, BLOCKS), size = 1 + random_below(&random, 2 * MiB);
        size_t before = large_size(blocks[i]);
        bool done = large_resize(blocks[i], size);
        size_t after = large_size(blocks[i]);
        require(done || pages_in(size) * PAGE_SIZE > before);
        require(after == (done ? pages_in(size) * PAGE_SIZE : before));
        require(pattern_holds(blocks[i], before < after ? before : after, i));
        pattern_write(blocks[i], after, i);
        grown += done && after > before;
        refused += !done;
    }
    assert_int_not_equal(grown, 0);
    assert_int_not_equal(refused, 0);
    for (size_t i = 0; i < BLOCKS; i++)
        assert_true(large_free(blocks[i]));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, no_blocks, no_blocks)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_size_is_rounded_up_to_whole_pages),
        TEST(blocks_stand_at_the_alignment_that_is_asked_for),
        TEST(only_the_start_of_a_live_block_is_one),
        TEST(a_block_grows_where_it_stands_when_there_is_room),
        TEST(a_block_grows_to_the_end_of_its_chunk),
        TEST(a_block_at_the_end_of_its_chunk_does_not_grow),
        TEST(a_block_made_to_grow_has_room_where_pages_are_at_hand),
        TEST(a_block_moves_out_to_grow_beyond_4_MiB),
        TEST(a_locked_block_does_not_move_out),
        TEST(a_block_that_shrinks_gives_its_tail_back),
        TEST(zero_is_told_truly),
        TEST(without_memory_there_is_no_block),
        TEST(random_resizes_keep_every_byte),
    };
    return cmocka_run_group_tests_name("large", tests, start_library, NULL);
}
