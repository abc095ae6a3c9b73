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
    for (size_t size = 1; size <= SMALL_MAX; size++) {
        unsigned class = sizeclass_of(size);
        require(class >= CLASS_FIRST && class <= CLASS_LAST);
        require(sizeclass_code(size) == class * CODE_PER_CLASS);
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
}

static void classes_grow_from_16_bytes_to_32_KiB(void **state)
{
    (void)state;
    assert_int_equal(sizeclasses[CLASS_NONE].size, 0);
    assert_int_equal(sizeclasses[CLASS_FIRST].size, 16);
    assert_int_equal(sizeclasses[CLASS_LAST].size, 32 * 1024);
    assert_int_equal(SMALL_MAX, 32 * 1024);
    for (unsigned class = CLASS_FIRST; class < CLASS_LAST; class++)
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

/* At least `blocks` of them, and at most 1/32 of the pages lost. */
static bool suits(size_t size, size_t pages, size_t blocks)
{
    size_t bytes = pages * PAGE_SIZE;
    return bytes / size >= blocks && bytes % size * 32 <= bytes;
}

static size_t fewest_pages(size_t size, size_t blocks)
{
    for (size_t pages = 1; pages <= 8; pages++)
        if (suits(size, pages, blocks))
            return pages;
    return 0;
}

/* 30 KiB blocks lose 1/16 in any number of pages up to 8; the rest is exactly by the rule. */
static void spans_have_the_fewest_pages_that_the_rule_allows(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class++) {
        size_t size = sizeclasses[class].size, pages = sizeclasses[class].pages;
        size_t rule = fewest_pages(size, 8) != 0 ? fewest_pages(size, 8) : fewest_pages(size, 4);
        if (size == 30 * 1024) {
            assert_int_equal(rule, 0);
            rule = 4;
        }
        assert_int_equal(pages, rule);
    }
}

static void capacity_and_bitmap_follow_from_size_and_pages(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class++) {
        const struct sizeclass *info = &sizeclasses[class];
        assert_int_equal(info->capacity, info->pages * PAGE_SIZE / info->size);
        assert_int_equal(info->words, (info->capacity + 63) / 64);
    }
}

/* span_put counts on all three: the index of a block start, and for any other offset a product
 * that differs from it. */
static void the_inverse_divides_exactly_for_every_offset_in_a_span(void **state)
{
    (void)state;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class++) {
        const struct sizeclass *info = &sizeclasses[class];
        for (size_t offset = 0; offset < info->pages * PAGE_SIZE; offset++) {
            size_t index = offset * (uint64_t)info->inverse >> 32;
            require(index == offset / info->size);
            require((index * info->size == offset) == (offset % info->size == 0));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_fits_its_class_and_no_smaller_one),
        cmocka_unit_test(waste_is_at_most_an_eighth_over_128_bytes_and_under_16_below),
        cmocka_unit_test(classes_grow_from_16_bytes_to_32_KiB),
        cmocka_unit_test(a_multiple_of_a_power_of_two_gets_a_class_that_is_one),
        cmocka_unit_test(spans_have_the_fewest_pages_that_the_rule_allows),
        cmocka_unit_test(capacity_and_bitmap_follow_from_size_and_pages),
        cmocka_unit_test(the_inverse_divides_exactly_for_every_offset_in_a_span),
    };
    return cmocka_run_group_tests_name("sizeclass", tests, NULL, NULL);
}
