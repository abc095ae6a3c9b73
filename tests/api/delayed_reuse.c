/*
 * The hardened mode (EBBMALLOC_HARDEN=1): what a thread frees waits, whatever it takes then, until
 * it has freed 256 KiB, or 1,024 blocks, more; a block of pages until 64 others, or 32 MiB, were
 * freed, and one over 4 MiB for the purge delay. And which of the free blocks comes next nobody can
 * tell.
 */
#include "support.h"

#include <malloc.h>
#include <sys/wait.h>

static const size_t sizes[] = {24, 100, 1000, 5000};
enum { SIZES = sizeof sizes / sizeof *sizes };

#define MOST 4096
static char *first[MOST], *last[MOST], *taken[MOST];

static size_t least_of(size_t one, size_t other)
{
    return one < other ? one : other;
}

static void take(char **blocks, size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(opaque(size));
        assert_non_null(blocks[i]);
    }
}

static void free_all(char **blocks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
}

static bool is_among(char *const *blocks, size_t count, const char *block)
{
    for (size_t i = 0; i < count; i++)
        if (blocks[i] == block)
            return true;
    return false;
}

/* So many are taken that all would be that are free: there are none in other spans. */
static void the_blocks_freed_last_are_not_handed_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        const size_t size = sizes[i];
        const size_t many = least_of(MOST, 4 * MIB / size),
                     waiting = least_of(512, 96 * KIB / size);
        take(first, many, size);
        take(last, waiting, size);
        free_all(first, many);
        free_all(last, waiting);
        take(taken, many, size);
        size_t out = 0;
        for (size_t j = 0; j < many; j++) {
            assert_false(is_among(last, waiting, taken[j]));
            out += is_among(first, many, taken[j]);
        }
        assert_in_range(out, many / 4, many - 1); /* the others did not wait any longer */
        free_all(taken, many);
    }
}

/* Memory that grows gives up much that is kept for reuse, but not this. */
static void a_block_of_pages_is_not_handed_out(void **state)
{
    (void)state;
    const size_t page_sizes[] = {100000, 8 * MIB};
    enum { TAKEN = 20 };
    /* A run can be out of reach only where an OS page is no larger than a page of the library. */
    for (size_t i = (size_t)sysconf(_SC_PAGESIZE) > 32 * KIB;
         i < sizeof page_sizes / sizeof *page_sizes; i++) {
        const size_t size = page_sizes[i];
        take(last, 1, size);
        free(opaque_pointer(last[0]));
        take(taken, TAKEN, size);
        for (size_t j = 0; j < TAKEN; j++)
            assert_true(taken[j] + size <= last[0] || last[0] + size <= taken[j]);
        free_all(taken, TAKEN);
    }
}

enum { IN_ORDER = 64 };

/* Where in their pages the first blocks of a new process lie. */
static int print_order(void)
{
    uintptr_t places[IN_ORDER];
    for (size_t i = 0; i < IN_ORDER; i++)
        places[i] = (uintptr_t)malloc(opaque(100)) % (32 * KIB);
    return write(STDERR_FILENO, places, sizeof places) == sizeof places ? 0 : 1;
}

static void get_order(uintptr_t places[IN_ORDER])
{
    struct child_end end;
    char *const arguments[] = {"/proc/self/exe", "order", NULL};
    run_program(&end, arguments, environ);
    assert_child_passed(&end);
    memcpy(places, end.words, IN_ORDER * sizeof *places);
}

static void the_order_of_blocks_is_random(void **state)
{
    (void)state;
    uintptr_t one[IN_ORDER], other[IN_ORDER];
    get_order(one);
    get_order(other);
    size_t same = 0, up = 0;
    for (size_t i = 0; i < IN_ORDER; i++) {
        same += one[i] == other[i];
        up += i != 0 && one[i] > one[i - 1];
    }
    assert_in_range(same, 0, IN_ORDER / 8);
    assert_in_range(up, IN_ORDER / 8, IN_ORDER / 8 * 7);
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return print_order();
    require_library();
    if (!is_hardened()) {
        setenv("EBBMALLOC_HARDEN", "1", 1);
        setenv("EBBMALLOC_PURGE_DELAY", "600000", 1); /* a sweep would end the wait */
        execv("/proc/self/exe", argv);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_blocks_freed_last_are_not_handed_out),
        cmocka_unit_test(a_block_of_pages_is_not_handed_out),
        cmocka_unit_test(the_order_of_blocks_is_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
