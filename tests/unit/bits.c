/* Ranges of bits, each against a loop over single bits: every range of three words. */
#include "support.h"

#include "bits.h"

enum { WORDS = 3, BITS = WORDS * 64 };

static bool bit(const uint64_t *words, size_t index)
{
    return words[index / 64] >> (index % 64) & 1;
}

/* All zeros, all ones, single bits at the borders of words, alternating, and random words. */
static void fill(uint64_t *words, size_t pattern)
{
    struct random random = {pattern};
    static const size_t borders[] = {0, 63, 64, 127, 128, 191};
    for (size_t word = 0; word < WORDS; word++)
        words[word] = pattern == 0   ? 0
                      : pattern == 1 ? ~(uint64_t)0
                      : pattern == 2 ? 0x5555555555555555
                                     : random_next(&random);
    if (pattern >= 3 && pattern < 15) {
        size_t border = borders[(pattern - 3) / 2];
        bool value = pattern % 2;
        memset(words, value ? 0 : 0xff, WORDS * sizeof *words);
        words[border / 64] ^= (uint64_t)1 << (border % 64);
    }
}

enum { PATTERNS = 20 };

typedef void check_range(const uint64_t *words, size_t first, size_t end);

static void for_all_ranges(check_range *check)
{
    for (size_t pattern = 0; pattern < PATTERNS; pattern++) {
        uint64_t words[WORDS];
        fill(words, pattern);
        for (size_t first = 0; first < BITS; first++)
            for (size_t end = first + 1; end <= BITS; end++)
                check(words, first, end);
    }
}

static void check_set_and_clear(const uint64_t *words, size_t first, size_t end)
{
    uint64_t set[WORDS], cleared[WORDS];
    memcpy(set, words, sizeof set);
    memcpy(cleared, words, sizeof cleared);
    bits_set(set, first, end);
    bits_clear(cleared, first, end);
    for (size_t i = 0; i < BITS; i++) {
        bool inside = i >= first && i < end;
        require(bit(set, i) == (inside || bit(words, i)));
        require(bit(cleared, i) == (!inside && bit(words, i)));
    }
}

static void check_count_and_any(const uint64_t *words, size_t first, size_t end)
{
    size_t count = 0;
    for (size_t i = first; i < end; i++)
        count += bit(words, i);
    require(bits_count(words, first, end) == count);
    require(bits_any(words, first, end) == (count != 0));
}

static void check_find(const uint64_t *words, size_t first, size_t end)
{
    for (int value = 0; value <= 1; value++) {
        size_t expected = first;
        while (expected < end && bit(words, expected) != value)
            expected++;
        require(bits_find(words, first, end, value) == expected);
    }
}

static void set_and_clear_touch_the_range_and_nothing_else(void **state)
{
    (void)state;
    for_all_ranges(check_set_and_clear);
}

static void count_and_any_see_the_range_and_nothing_else(void **state)
{
    (void)state;
    for_all_ranges(check_count_and_any);
}

static void find_returns_the_first_of_either_value_or_the_end(void **state)
{
    (void)state;
    for_all_ranges(check_find);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_and_clear_touch_the_range_and_nothing_else),
        cmocka_unit_test(count_and_any_see_the_range_and_nothing_else),
        cmocka_unit_test(find_returns_the_first_of_either_value_or_the_end),
    };
    return cmocka_run_group_tests_name("bits", tests, NULL, NULL);
}
