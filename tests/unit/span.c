/* Spans: every block of every class, and every offset that is none. */
#include "support.h"

#include "guard.h"
#include "options.h"
#include "span.h"

enum { BLOCKS_MOST = 2048 };

static struct arena *const owner = (struct arena *)(uintptr_t)0x1230; /* never looked into */
static void *blocks[BLOCKS_MOST];

static int start(void **state)
{
    (void)state;
    os_init();
    return 0;
}

static struct span *kept[CLASS_END]; /* records of spans that are no more, by class */

/* By turns its record is kept and goes back. */
static void destroy(struct span *span)
{
    static unsigned turn;
    struct span *full = span, **record = turn++ % 2 == 0 ? &kept[span->class] : &full;
    span_destroy(span, false, record);
}

static struct span *create(unsigned class)
{
    bool zero;
    struct span *span = span_create(owner, class, &kept[class], &zero);
    assert_non_null(span);
    return span;
}

/* Takes all blocks; blocks[0] is the highest then. */
static void take_all(struct span *span)
{
    assert_int_equal(span_take(span, blocks + span->capacity, span->capacity), span->capacity);
}

static enum span_error put(struct span *span, void *block)
{
    struct mistake mistake = {SPAN_FINE, NULL};
    require(span_put(span, &block, 1, &mistake) == 1);
    require(mistake.block == (mistake.error == SPAN_FINE ? NULL : block));
    return mistake.error;
}

static void put_all(struct span *span)
{
    for (size_t i = 0; i < span->capacity; i++)
        assert_int_equal(put(span, blocks[i]), SPAN_FINE);
    assert_int_equal(span->free_count, span->capacity);
}

static void a_new_span_is_whole_free_and_in_the_page_map(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        struct span *span = create(class);
        const struct sizeclass *info = &sizeclasses[class];
        assert_ptr_equal(span_owner(span), owner);
        assert_int_equal(span->class, class);
        assert_int_equal(span->capacity, info->capacity);
        assert_int_equal(span->free_count, info->capacity);
        assert_int_equal((uintptr_t)span->base % PAGE_SIZE, 0);
        for (size_t offset = 0; offset < info->pages * PAGE_SIZE; offset += 16) {
            /* Of a large one, the first page alone is known. */
            bool known = class <= CLASS_SMALL_LAST || offset < PAGE_SIZE;
            require(pagemap_class(span->base + offset) == (known ? class : CLASS_NONE));
            require(span_of(span->base + offset) == (known ? span : NULL));
        }
        assert_false(span_of(span->base - 16) == span);
        assert_false(span_of(span->base + info->pages * PAGE_SIZE) == span);
        char *base = span->base;
        destroy(span);
        for (size_t page = 0; page < info->pages; page++) {
            assert_int_equal(pagemap_class(base + page * PAGE_SIZE), CLASS_NONE);
            assert_null(span_of(base + page * PAGE_SIZE));
        }
    }
}

static void blocks_are_taken_lowest_first_and_stored_downwards(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        struct span *span = create(class);
        size_t size = sizeclasses[class].size, next = 0;
        for (size_t wanted = 1; next < span->capacity; wanted = wanted * 2 + 1) {
            size_t left = span->capacity - next;
            size_t count = span_take(span, blocks + wanted, wanted);
            require(count == min_size(wanted, left));
            for (size_t i = 0; i < count; i++)
                require(blocks[wanted - 1 - i] == span->base + (next + i) * size);
            next += count;
            require(span->free_count == span->capacity - next);
        }
        assert_int_equal(span_take(span, blocks + 1, 1), 0);
        destroy(span);
    }
}

/* Whatever was put back last: the lowest free block is the next one. */
static void a_block_put_back_is_found_again_in_order_of_address(void **state)
{
    (void)state;
    struct random random = {5};
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        struct span *span = create(class);
        bool free[BLOCKS_MOST] = {false};
        take_all(span);
        for (int step = 0; step < 3000; step++) {
            size_t index = random_below(&random, span->capacity);
            if (!free[index] && random_below(&random, 2)) {
                require(put(span, span->base + index * sizeclasses[class].size) == SPAN_FINE);
                free[index] = true;
                continue;
            }
            size_t lowest = 0;
            while (lowest < span->capacity && !free[lowest])
                lowest++;
            void *block = NULL;
            require(span_take(span, &block + 1, 1) == (lowest < span->capacity));
            if (block == NULL)
                continue;
            require(block == span->base + lowest * sizeclasses[class].size);
            free[lowest] = false;
        }
        destroy(span);
    }
}

/* Of the blocks that are out: which offsets can be put back, all of them in turn. */
static void every_block_start_is_accepted_once_and_no_other_offset(void **state)
{
    (void)state;
    size_t accepted = 0, refused = 0;
    for (unsigned class = CLASS_FIRST; class <= CLASS_SMALL_LAST; class ++) {
        struct span *span = create(class);
        size_t size = sizeclasses[class].size;
        take_all(span);
        for (size_t offset = 0; offset < span->pages * PAGE_SIZE; offset++) {
            char *address = span->base + offset;
            bool is_block = offset % size == 0 && offset / size < span->capacity;
            if (!is_block) {
                require(put(span, address) == SPAN_MISALIGNED);
                require(span->free_count == 0);
                refused++;
                continue;
            }
            require(put(span, address) == SPAN_FINE);
            require(put(span, address) == SPAN_FREED_TWICE);
            require(span->free_count == 1);
            void *block;
            require(span_take(span, &block + 1, 1) == 1 && block == address);
            accepted++;
        }
        put_all(span);
        destroy(span);
    }
    print_message("%zu block starts, %zu other addresses\n", accepted, refused);
}

static void check_batch(unsigned class)
{
    struct span *span = create(class), *other = create(class);
    void *foreign;
    struct mistake mistake = {SPAN_FINE, NULL};
    take_all(span);
    assert_int_equal(span_take(other, &foreign + 1, 1), 1);
    void *batch[] = {blocks[2], blocks[3], blocks[0], foreign, blocks[1]};
    assert_int_equal(span_put(span, batch, 5, &mistake), 3);
    assert_int_equal(mistake.error, SPAN_FINE);
    assert_int_equal(span->free_count, 3);
    assert_int_equal(span_put(other, batch + 3, 1, &mistake), 1);
    assert_int_equal(other->free_count, other->capacity);
    /* take_all stores downwards: blocks[3] is the lowest of the three. */
    void *taken[3];
    assert_int_equal(span_take(span, taken + 3, 3), 3);
    assert_ptr_equal(taken[2], blocks[3]);
    assert_ptr_equal(taken[1], blocks[2]);
    assert_ptr_equal(taken[0], blocks[0]);
    destroy(span);
    destroy(other);
}

static void a_batch_is_put_back_up_to_the_first_block_of_another_span(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_SMALL_LAST; class ++)
        check_batch(class);
}

static void check_bad_batches(unsigned class)
{
    struct span *span = create(class);
    struct mistake mistake = {SPAN_FINE, NULL};
    take_all(span);
    void *twice[] = {blocks[0], blocks[1], blocks[0], blocks[2]};
    assert_int_equal(span_put(span, twice, 4, &mistake), 4);
    assert_int_equal(mistake.error, SPAN_FREED_TWICE);
    assert_ptr_equal(mistake.block, blocks[0]);
    assert_int_equal(span->free_count, 3);
    destroy(span);
    span = create(class);
    take_all(span);
    void *inside[] = {blocks[0], (char *)blocks[1] + 1, blocks[3]};
    assert_int_equal(span_put(span, inside, 3, &mistake), 3);
    assert_int_equal(mistake.error, SPAN_MISALIGNED);
    assert_ptr_equal(mistake.block, inside[1]);
    assert_int_equal(span->free_count, 2);
    destroy(span);
}

static void a_bad_block_in_a_batch_is_told_and_the_rest_is_put_back(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_SMALL_LAST; class ++)
        check_bad_batches(class);
}

/* Blocks of one OS page and more, of which the first and the last stay: what lies between is a
 * hole.
 */
static void holes_count_as_given_back_as_far_as_they_were_resident(void **state)
{
    (void)state;
    struct span *span = create(sizeclass_of(4096));
    size_t bytes = span->pages * PAGE_SIZE;
    take_all(span);
    for (size_t i = 1; i + 1 < span->capacity; i++)
        assert_int_equal(put(span, blocks[i]), SPAN_FINE);
    assert_int_equal(span_purge_holes(&span, 1, SWEEP_NOW), 0); /* never written to */
    void *block;
    assert_int_equal(span_take(span, &block + 1, 1), 1); /* and a hole no more */
    size_t others = resident_in(span->base, bytes);
    memset(block, 1, 4096);
    size_t written = resident_in(span->base, bytes) - others;
    assert_int_not_equal(written, 0);
    assert_int_equal(put(span, block), SPAN_FINE);
    /* OS pages of more than a block may have to stay. */
    assert_int_equal(span_purge_holes(&span, 1, SWEEP_NOW), os_page_size <= 4096 ? written : 0);
    destroy(span);
}

static void each_error_has_words_of_its_own(void **state)
{
    (void)state;
    assert_non_null(strstr(span_error_text(SPAN_FREED_TWICE), "twice"));
    assert_non_null(strstr(span_error_text(SPAN_MISALIGNED), "into a block"));
}

static void without_memory_there_is_no_span_and_nothing_is_lost(void **state)
{
    (void)state;
    struct chunk_totals before, after;
    chunk_sweep(SWEEP_NOW, 0);
    chunk_count(&before);
    assert_int_equal(before.mapped_bytes, 0);
    refuse(KIND(OS_CALL_MAP), 1, SIZE_MAX);
    bool zero;
    struct span *span = span_create(owner, 10, &kept[10], &zero);
    refuse_none();
    chunk_count(&after);
    assert_null(span);
    assert_int_not_equal(refused_count(), 0);
    assert_int_equal(after.mapped_bytes, 0);
    destroy(create(10));
}

/* ---- The hardened mode ----------------------------------------------------------------------- */

static int harden(void **state)
{
    (void)state;
    options.harden = HARDEN_ON;
    return 0;
}

static int harden_no_more(void **state)
{
    (void)state;
    options.harden = HARDEN_OFF;
    return 0;
}

static struct span *create_guarded(void)
{
    bool zero;
    struct span *record = NULL;
    struct span *span = span_create(owner, sizeclass_of(100 * KiB), &record, &zero);
    assert_non_null(span);
    assert_int_equal(span->guard, span->pages);
    return span;
}

/* To outgrow the classes it wants the pages behind its guard. They are another's, or the kernel
 * refuses one call after the other: it has its guard, and nothing else, until it has them all. */
static void hardened_a_guard_stands_until_its_block_has_the_pages_behind(void **state)
{
    (void)state;
    if (!guard_is_possible()) {
        print_message("not tested: no guards where an OS page is so large\n");
        skip();
    }
    const size_t wanted = LARGE_MAX / PAGE_SIZE + 10;
    struct span *span = create_guarded(), *behind = create_guarded();
    char *base = span->base, *guard = base + span->pages * PAGE_SIZE;
    struct chunk *chunk = span->chunk;
    size_t first = chunk_page(base), refusals = 0;
    assert_ptr_equal(behind->chunk, chunk);
    assert_in_range(behind->base - base, 1, wanted * PAGE_SIZE - 1);
    size_t free_bytes = chunk_totals().free_bytes;
    assert_false(span_dissolve(span, wanted));
    assert_false(is_accessible(guard));
    assert_int_equal(chunk_totals().free_bytes, free_bytes);
    span_destroy(behind, false, NULL);
    guard_release();
    free_bytes = chunk_totals().free_bytes;
    for (bool done = false; !done; refusals += !done) {
        refuse(KIND(OS_CALL_COMMIT), refusals + 1, SIZE_MAX);
        done = span_dissolve(span, wanted);
        refuse_none();
        require(done == (refused_count() == 0));
        require(done == is_accessible(guard));
        require(pagemap_class(base) == (done ? CLASS_LARGE : sizeclass_of(100 * KiB)));
        size_t taken = done ? (wanted - sizeclasses[sizeclass_of(100 * KiB)].pages) * PAGE_SIZE : 0;
        require(chunk_totals().free_bytes == free_bytes - taken);
    }
    assert_in_range(refusals, 1, 10);
    assert_int_equal(chunk_large_pages(chunk, first), wanted);
    memset(base, 1, wanted * PAGE_SIZE);
    pagemap_set(base, 1, CLASS_NONE);
    chunk_shorten_large(chunk, first, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_span_is_whole_free_and_in_the_page_map),
        cmocka_unit_test(blocks_are_taken_lowest_first_and_stored_downwards),
        cmocka_unit_test(a_block_put_back_is_found_again_in_order_of_address),
        cmocka_unit_test(every_block_start_is_accepted_once_and_no_other_offset),
        cmocka_unit_test(a_batch_is_put_back_up_to_the_first_block_of_another_span),
        cmocka_unit_test(a_bad_block_in_a_batch_is_told_and_the_rest_is_put_back),
        cmocka_unit_test(holes_count_as_given_back_as_far_as_they_were_resident),
        cmocka_unit_test(each_error_has_words_of_its_own),
        cmocka_unit_test(without_memory_there_is_no_span_and_nothing_is_lost),
        cmocka_unit_test_setup_teardown(
            hardened_a_guard_stands_until_its_block_has_the_pages_behind, harden, harden_no_more),
    };
    return cmocka_run_group_tests_name("span", tests, start, NULL);
}
