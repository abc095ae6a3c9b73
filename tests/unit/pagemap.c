/* The page map. It never touches the memory that it describes, so the addresses here are made up:
 * no mapping of this process lies in them.
 */
#include "support.h"

#include "pagemap.h"

#define LEAF_BYTES ((uintptr_t)1 << LEAF_SHIFT)
#define ADDRESSES_END ((uintptr_t)1 << ADDRESS_BITS)

/* Leaves that each test has for itself. */
enum { LEAF_CODES = 16, LEAF_BORDER, LEAF_BEHIND, LEAF_MISALIGNED, LEAF_OWNERS, LEAF_REFUSED };

static char *in_leaf(size_t leaf, uintptr_t offset)
{
    return (char *)(leaf * LEAF_BYTES + offset);
}

static int start(void **state)
{
    (void)state;
    os_init();
    return 0;
}

static unsigned code_at(const void *address)
{
    unsigned code = 12345;
    assert_true(pagemap_find(address, &code));
    return code;
}

static void absent_leaves_read_as_not_ours(void **state)
{
    (void)state;
    assert_int_equal(code_at(NULL), 0);
    for (uintptr_t address = 0; address < ADDRESSES_END; address += LEAF_BYTES / 2) {
        require(pagemap_class((void *)address) == CLASS_NONE);
        require(pagemap_owner((void *)address) == 0);
        require(pagemap_chunk((void *)address) == NULL);
        require(pagemap_huge((void *)address) == NULL);
    }
}

static void a_run_is_found_at_each_of_its_pages_and_nowhere_else(void **state)
{
    (void)state;
    char *run = in_leaf(LEAF_CODES, 100 * PAGE_SIZE);
    assert_true(pagemap_prepare(run, 8 * PAGE_SIZE));
    assert_int_equal(pagemap_class(run), CLASS_NONE);
    for (unsigned class = CLASS_FIRST; class < CLASS_END; class ++) {
        pagemap_set(run, 8, class);
        for (size_t offset = 0; offset < 8 * PAGE_SIZE; offset += 16) {
            require(code_at(run + offset) == class * CODE_PER_CLASS);
            require(pagemap_class(run + offset) == class);
        }
        assert_int_equal(pagemap_class(run - 16), CLASS_NONE);
        assert_int_equal(pagemap_class(run + 8 * PAGE_SIZE), CLASS_NONE);
    }
    pagemap_set(run + 3 * PAGE_SIZE, 2, CLASS_NONE);
    for (size_t page = 0; page < 8; page++)
        assert_int_equal(pagemap_class(run + page * PAGE_SIZE),
                         page == 3 || page == 4 ? CLASS_NONE : CLASS_HUGE);
}

static void the_last_page_of_a_leaf_and_the_first_of_the_next_are_kept_apart(void **state)
{
    (void)state;
    char *border = in_leaf(LEAF_BEHIND, 0);
    /* Memory across the border needs both leaves. */
    assert_true(pagemap_prepare(border - CHUNK_SIZE, 2 * CHUNK_SIZE));
    pagemap_set(border - PAGE_SIZE, 1, 5);
    assert_int_equal(pagemap_class(border - 16), 5);
    assert_int_equal(pagemap_class(border), CLASS_NONE);
    pagemap_set(border, 1, 6);
    assert_int_equal(pagemap_class(border - 16), 5);
    assert_int_equal(pagemap_class(border), 6);
    assert_int_equal(pagemap_class(border - PAGE_SIZE - 16), CLASS_NONE);
    assert_int_equal(pagemap_class(border + PAGE_SIZE), CLASS_NONE);
    /* The ends of both leaves, which a wrong index would mix up. */
    assert_int_equal(pagemap_class(in_leaf(LEAF_BORDER, 0)), CLASS_NONE);
    assert_int_equal(pagemap_class(in_leaf(LEAF_BEHIND, LEAF_BYTES - 16)), CLASS_NONE);
}

static void misaligned_addresses_are_no_blocks(void **state)
{
    (void)state;
    char *page = in_leaf(LEAF_MISALIGNED, 0);
    assert_true(pagemap_prepare(page, PAGE_SIZE));
    pagemap_set(page, 1, 7);
    for (size_t offset = 0; offset < PAGE_SIZE; offset++) {
        unsigned code = 0;
        require(pagemap_find(page + offset, &code) == (offset % 16 == 0));
        require(pagemap_class(page + offset) == (offset % 16 == 0 ? 7 : CLASS_NONE));
    }
}

/* Beyond what a program can have: the kernel's half, the hole between, pointers with tags. */
static void addresses_beyond_the_map_are_no_blocks(void **state)
{
    (void)state;
    char *page = in_leaf(LEAF_MISALIGNED, 0);
    assert_true(pagemap_prepare(page, PAGE_SIZE));
    pagemap_set(page, 1, 7);
    unsigned code;
    for (unsigned shift = ADDRESS_BITS; shift < 64; shift++) {
        void *beyond = (void *)((uintptr_t)page | (uintptr_t)1 << shift);
        assert_false(pagemap_find(beyond, &code));
        assert_int_equal(pagemap_class(beyond), CLASS_NONE);
        assert_int_equal(pagemap_owner(beyond), 0);
    }
    assert_false(pagemap_find((void *)(uintptr_t)-16, &code));
    assert_false(pagemap_find((void *)(uintptr_t)-1, &code));
    assert_false(pagemap_find((void *)ADDRESSES_END, &code));
    assert_true(pagemap_find((void *)(ADDRESSES_END - 16), &code));
}

static void prepare_refuses_what_the_map_does_not_cover(void **state)
{
    (void)state;
    assert_false(pagemap_prepare((void *)ADDRESSES_END, PAGE_SIZE));
    assert_false(pagemap_prepare((void *)(ADDRESSES_END - PAGE_SIZE), 2 * PAGE_SIZE));
    char *last = (char *)(ADDRESSES_END - PAGE_SIZE);
    assert_true(pagemap_prepare(last, PAGE_SIZE));
    pagemap_set(last, 1, 9);
    assert_int_equal(pagemap_class(last), 9);
    assert_int_equal(pagemap_class(last - 16), CLASS_NONE);
}

static void owners_tell_chunks_from_huge_blocks(void **state)
{
    (void)state;
    static long records[3] __attribute__((aligned(16)));
    char *first = in_leaf(LEAF_OWNERS, LEAF_BYTES - 2 * CHUNK_SIZE);
    assert_true(pagemap_prepare(first, 2 * CHUNK_SIZE));
    pagemap_set_chunk(first, &records[0]);
    pagemap_set_huge(first + CHUNK_SIZE, &records[2]);
    const size_t offsets[] = {0, 1, PAGE_SIZE, CHUNK_SIZE - 1};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        assert_ptr_equal(pagemap_chunk(first + offsets[i]), &records[0]);
        assert_null(pagemap_huge(first + offsets[i]));
        assert_ptr_equal(pagemap_huge(first + CHUNK_SIZE + offsets[i]), &records[2]);
        assert_null(pagemap_chunk(first + CHUNK_SIZE + offsets[i]));
    }
    assert_int_equal(pagemap_owner(first - 1), 0);
    assert_int_equal(pagemap_owner(first + 2 * CHUNK_SIZE), 0);
    pagemap_set_chunk(first, NULL);
    pagemap_set_huge(first + CHUNK_SIZE, NULL);
    assert_int_equal(pagemap_owner(first), 0);
    assert_int_equal(pagemap_owner(first + CHUNK_SIZE), 0);
}

static void a_refused_leaf_is_told_and_can_be_had_later(void **state)
{
    (void)state;
    char *page = in_leaf(LEAF_REFUSED, 0);
    refuse(KIND(OS_CALL_MAP), 1, 1);
    bool prepared = pagemap_prepare(page, PAGE_SIZE);
    refuse_none();
    assert_false(prepared);
    assert_int_equal(refused_count(), 1);
    assert_int_equal(pagemap_class(page), CLASS_NONE);
    assert_true(pagemap_prepare(page, PAGE_SIZE));
    /* A leaf that is there is not asked for again. */
    refuse(KIND(OS_CALL_MAP), 1, SIZE_MAX);
    prepared = pagemap_prepare(page, PAGE_SIZE);
    refuse_none();
    assert_true(prepared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_leaves_read_as_not_ours),
        cmocka_unit_test(a_run_is_found_at_each_of_its_pages_and_nowhere_else),
        cmocka_unit_test(the_last_page_of_a_leaf_and_the_first_of_the_next_are_kept_apart),
        cmocka_unit_test(misaligned_addresses_are_no_blocks),
        cmocka_unit_test(addresses_beyond_the_map_are_no_blocks),
        cmocka_unit_test(prepare_refuses_what_the_map_does_not_cover),
        cmocka_unit_test(owners_tell_chunks_from_huge_blocks),
        cmocka_unit_test(a_refused_leaf_is_told_and_can_be_had_later),
    };
    return cmocka_run_group_tests_name("pagemap", tests, start, NULL);
}
