/*
 * Blocks that are runs of pages or mappings of their own, in the shapes where page map, size and
 * alignment meet: over-aligned ones, neighbours in the address space, shrinking without memory.
 */
#include "support.h"

#include <malloc.h>

/* The library's page, and what is larger is a mapping of its own. */
static const size_t page_size = 32 * KIB;
static const size_t large_max = 4 * MIB;

/* A block that is a mapping only for its alignment's sake: smaller than any other of its kind. */
static void realloc_of_an_overaligned_block_keeps_its_content(void **state)
{
    (void)state;
    const size_t alignments[] = {64 * KIB, MIB, 8 * MIB, 64 * MIB};
    const size_t old_sizes[] = {1, 100 * KIB, MIB, 5 * MIB};
    const size_t new_sizes[] = {100, 20000, 100 * KIB, 2 * MIB, 3 * MIB, 6 * MIB, 20 * MIB};
    for (size_t a = 0; a < sizeof alignments / sizeof *alignments; a++) {
        for (size_t o = 0; o < sizeof old_sizes / sizeof *old_sizes; o++) {
            for (size_t n = 0; n < sizeof new_sizes / sizeof *new_sizes; n++) {
                const size_t old_size = old_sizes[o], new_size = new_sizes[n];
                const size_t kept = old_size < new_size ? old_size : new_size;
                char *block = aligned_alloc(alignments[a], old_size);
                assert_non_null(block);
                fill(block, old_size, n);
                block = realloc(block, new_size);
                assert_non_null(block);
                assert_int_equal(first_bad_byte(block, kept, n), kept);
                assert_true(malloc_usable_size(block) >= new_size);
                fill(block, new_size, n + 1);
                assert_int_equal(first_bad_byte(block, new_size, n + 1), new_size);
                free(block);
            }
        }
    }
}

/* Bytes of address space from the end of the mapping that holds `address` to the next one. */
static size_t gap_above(const void *address, char **end)
{
    char line[512];
    uintptr_t first, last, found = 0;
    size_t gap = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (gap == 0 && fgets(line, sizeof line, maps) != NULL) {
        if (sscanf(line, "%lx-%lx", &first, &last) != 2)
            continue;
        if (found != 0 && first != found)
            gap = first - found;
        else if (found != 0 || (first <= (uintptr_t)address && (uintptr_t)address < last))
            found = last;
    }
    fclose(maps);
    *end = (char *)found;
    return gap;
}

/* The kernel puts a mapping that fits exactly into the gap right above another one. */
static void two_huge_blocks_never_share_a_page_of_the_map(void **state)
{
    (void)state;
    skip_on_other_malloc();
    enum { rounds = 24 };
    char *small[rounds], *filling[rounds];
    size_t neighbours = 0;
    for (size_t i = 0; i < rounds; i++) {
        const size_t size = (i % 5) * 4096 + 1;
        char *end;
        small[i] = aligned_alloc(8 * MIB << i % 3, size);
        assert_non_null(small[i]);
        fill(small[i], size, i);
        const size_t gap = gap_above(small[i], &end);
        filling[i] = NULL;
        if (gap <= large_max || gap > 64 * MIB)
            continue;
        filling[i] = malloc(gap);
        assert_non_null(filling[i]);
        memset(filling[i], 0xee, 4096);
        neighbours += filling[i] == end;
        assert_true((uintptr_t)filling[i] / page_size != (uintptr_t)small[i] / page_size);
    }
    assert_true(neighbours != 0); /* else nothing was tried */
    for (size_t i = 0; i < rounds; i++) {
        const size_t size = (i % 5) * 4096 + 1;
        free(filling[i]);
        assert_true(malloc_usable_size(small[i]) >= size);
        assert_int_equal(first_bad_byte(small[i], size, i), size);
        free(small[i]);
    }
}

/* No program expects that; most of them lose the block then. */
static void shrink_without_memory(void *unused)
{
    (void)unused;
    const struct {
        size_t from, to;
    } steps[] = {{40 * MIB, 3 * MIB},  {40 * MIB, 5 * MIB}, {20 * MIB, 100},
                 {3 * MIB, 100 * KIB}, {2 * MIB, 30000},    {MIB, 17},
                 {20000, 100},         {4096, 16},          {128, 1}};
    enum { count = sizeof steps / sizeof *steps };
    char *blocks[count];
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(steps[i].from);
        child_check(blocks[i] != NULL);
        fill(blocks[i], steps[i].to, i);
    }
    eat_everything();
    for (size_t i = 0; i < count; i++) {
        errno = EDOM;
        char *smaller = realloc(blocks[i], steps[i].to);
        child_check(smaller != NULL);
        child_check(errno == EDOM);
        child_check(first_bad_byte(smaller, steps[i].to, i) == steps[i].to);
        child_check(malloc_usable_size(smaller) >= steps[i].to);
    }
}

static void a_shrinking_realloc_never_fails(void **state)
{
    (void)state;
    skip_on_other_malloc();
    struct child_end end;
    run_child(&end, shrink_without_memory, NULL);
    assert_child_passed(&end);
}

int main(void)
{
    require_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(realloc_of_an_overaligned_block_keeps_its_content),
        cmocka_unit_test(two_huge_blocks_never_share_a_page_of_the_map),
        cmocka_unit_test(a_shrinking_realloc_never_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
