/* The size classes: what sizeclass.h promises, for every size and every class. */
#include "support.h"

#include "sizeclass.h"

static const struct sizeclass *class_for(size_t size)
{
    return &sizeclasses[sizeclass_of(size)];
}

static void every_size_fits_its_class_and_no_smaller_one(void **state)
{
    (void)state;
    for (size_t size = 1; size <= LARGE_MAX; size++) {
        unsigned class = sizeclass_of(size);
        require(class >= CLASS_FIRST && class <= CLASS_LAST);
        require((size <= SMALL_MAX ? sizeclass_code(size) : sizeclass_large_code(size)) ==
                class * CODE_PER_CLASS);
        require(size <= sizeclasses[class].size);
        require(class == CLASS_FIRST || size > sizeclasses[class - 1].size);
    }
}

static void waste_is_at_most_an_eighth_over_128_bytes_and_under_16_below(void **state)
{
    (void)state;
    for (size_t size = 1; size <= SMALL_MAX; size++) {
        size_t waste = class_for(size)->size - size;
        require(size > 128 ? waste * 8 <= size : waste < 16);
    }
    /* Of whole pages: an eighth of those that are asked for. */
    for (size_t pages = 2; pages <= LARGE_MAX / PAGE_SIZE; pages++)
        require((class_for(pages * PAGE_SIZE)->pages - pages) * 8 <= pages);
}

static void classes_grow_from_16_bytes_to_4_MiB(void **state)
{
    (void)state;
    assert_int_equal(sizeclasses[CLASS_NONE].size, 0);
    assert_int_equal(sizeclasses[CLASS_FIRST].size, 16);
    assert_int_equal(sizeclasses[CLASS_SMALL_LAST].size, 32 * 1024);
    assert_int_equal(SMALL_MAX, 32 * 1024);
    assert_int_equal(sizeclasses[CLASS_LAST].size, 4 * MiB);
    assert_int_equal(LARGE_MAX, 4 * MiB);
    for (unsigned class = CLASS_FIRST; class < CLASS_LAST; class ++)
        assert_true(sizeclasses[class].size < sizeclasses[class + 1].size);
    assert_int_equal(sizeclasses[CLASS_LARGE].size, 0);
    assert_int_equal(sizeclasses[CLASS_HUGE].size, 0);
}

static void a_multiple_of_a_power_of_two_gets_a_class_that_is_one(void **state)
{
    (void)state;
    for (size_t alignment = 16; alignment <= SMALL_MAX; alignment *= 2)
        for (size_t size = alignment; size <= SMALL_MAX; size += alignment)
            require(class_for(size)->size % alignment == 0);
}

/* Bytes lost at the end of a span, out of 8 pages' worth of such spans, so that shares compare. */
static size_t loss(size_t size, size_t pages)
{
    return pages * PAGE_SIZE % size * (8 / pages);
}

static size_t pages_by_rule(size_t size)
{
    size_t least = size > 2 * KiB && size <= 4 * KiB ? 4 : 1;
    for (size_t pages = least; pages <= 8; pages *= 2)
        if (pages * PAGE_SIZE / size >= 8 && loss(size, pages) * 32 <= 8 * PAGE_SIZE)
            return pages;
    size_t best = 0;
    for (size_t pages = 1; pages <= 8; pages *= 2)
        if (pages * PAGE_SIZE / size >= 4 && (best == 0 || loss(size, pages) < loss(size, best)))
            best = pages;
    return best;
}

static void spans_have_as_many_pages_as_the_rule_says(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_SMALL_LAST; class ++)
        assert_int_equal(sizeclasses[class].pages, pages_by_rule(sizeclasses[class].size));
    for (unsigned class = CLASS_SMALL_LAST + 1; class <= CLASS_LAST; class ++)
        assert_int_equal(sizeclasses[class].pages * PAGE_SIZE, sizeclasses[class].size);
}

static void capacity_and_bitmap_follow_from_size_and_pages(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        const struct sizeclass *info = &sizeclasses[class];
        assert_int_equal(info->capacity, info->pages * PAGE_SIZE / info->size);
        assert_int_equal(info->words, (info->capacity + 63) / 64);
    }
}

/* span_put counts on both: the index of a block start, and for any other offset an index whose
 * block does not start there. */
static void the_inverse_finds_every_block_start_and_no_other_offset(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        const struct sizeclass *info = &sizeclasses[class];
        for (size_t offset = 0; offset < info->pages * PAGE_SIZE; offset++) {
            size_t index = offset * (uint64_t)info->inverse >> 32;
            require(offset % info->size != 0 || index == offset / info->size);
            require((index * info->size == offset) == (offset % info->size == 0));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_fits_its_class_and_no_smaller_one),
        cmocka_unit_test(waste_is_at_most_an_eighth_over_128_bytes_and_under_16_below),
        cmocka_unit_test(classes_grow_from_16_bytes_to_4_MiB),
        cmocka_unit_test(a_multiple_of_a_power_of_two_gets_a_class_that_is_one),
        cmocka_unit_test(spans_have_as_many_pages_as_the_rule_says),
        cmocka_unit_test(capacity_and_bitmap_follow_from_size_and_pages),
        cmocka_unit_test(the_inverse_finds_every_block_start_and_no_other_offset),
    };
    return cmocka_run_group_tests_name("sizeclass", tests, NULL, NULL);
}
