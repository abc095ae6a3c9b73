/*
 * The hardened mode (EBBMALLOC_HARDEN=1): every block remembers what was asked for, whatever its
 * kind and whichever call made or resized it; also when that call is the first of the process, and
 * when there was no memory to resize it. So malloc_usable_size tells that size exactly, free_sized
 * takes it, and no other.
 */
#include "support.h"

#include <dlfcn.h>
#include <malloc.h>
#include <sys/wait.h>

static void (*free_sized)(void *block, size_t size);

static int find_free_sized(void **state)
{
    (void)state;
    free_sized = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    return free_sized == NULL;
}

/* On both sides of every border between kinds of blocks, and of what a seal tells in one word. */
static const size_t sizes[] = {
    1,
    8,
    9,
    24,
    25,
    1000,
    32 * KIB - 9,
    32 * KIB - 8,
    32 * KIB - 7,
    32 * KIB,
    100 * KIB,
    128 * KIB - 8,
    128 * KIB - 7,
    4 * MIB - 8,
    4 * MIB - 7,
    4 * MIB,
    20 * MIB,
    20 * MIB + 1,
    36 * MIB,
};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void every_size_is_told_exactly(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t alignment = 16; alignment <= 16 * MIB; alignment *= 4) {
            char *block = memalign(alignment, sizes[i]);
            assert_non_null(block);
            assert_true(is_aligned(block, alignment));
            assert_int_equal(malloc_usable_size(block), sizes[i]);
            fill(block, sizes[i], i);
            free_sized(block, sizes[i]);
        }
    }
}

static void every_size_is_told_exactly_after_realloc(void **state)
{
    (void)state;
    for (size_t from = 0; from < SIZES; from++) {
        for (size_t to = 0; to < SIZES; to++) {
            const size_t kept = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
            char *block = malloc(sizes[from]);
            assert_non_null(block);
            fill(block, sizes[from], to);
            block = realloc(block, sizes[to]);
            assert_non_null(block);
            assert_int_equal(malloc_usable_size(block), sizes[to]);
            assert_int_equal(first_bad_byte(block, kept, to), kept);
            free_sized(block, sizes[to]);
        }
    }
}

/* A block that cannot be moved to a smaller place stays where it is, and is a smaller one. Of the
 * first, more is left over than three bytes of a seal can tell. */
static void shrink_without_memory(void *unused)
{
    (void)unused;
    const struct {
        size_t from, to;
    } steps[] = {
        {40 * MIB, 3 * MIB}, {20 * MIB, 100}, {3 * MIB, 100 * KIB}, {MIB, 17}, {20000, 100}};
    enum { count = sizeof steps / sizeof *steps };
    char *blocks[count];
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(steps[i].from);
        child_check(blocks[i] != NULL);
        fill(blocks[i], steps[i].to, i);
    }
    eat_everything();
    for (size_t i = 0; i < count; i++) {
        char *smaller = realloc(blocks[i], steps[i].to);
        child_check(smaller != NULL);
        child_check(malloc_usable_size(smaller) == steps[i].to);
        child_check(first_bad_byte(smaller, steps[i].to, i) == steps[i].to);
        free_sized(smaller, steps[i].to);
    }
}

static void a_size_is_told_exactly_after_a_realloc_without_memory(void **state)
{
    (void)state;
    struct child_end end;
    run_child(&end, shrink_without_memory, NULL);
    assert_child_passed(&end);
}

/* ---- The first call of a process ------------------------------------------------------------- */

#define FIRST_ALIGNMENT 256
#define FIRST_SIZE 100

static void *first_call(char call)
{
    void *block = NULL;
    switch (call) {
    case 'a':
        return aligned_alloc(FIRST_ALIGNMENT, FIRST_SIZE);
    case 'm':
        return memalign(FIRST_ALIGNMENT, FIRST_SIZE);
    case 'p':
        return posix_memalign(&block, FIRST_ALIGNMENT, FIRST_SIZE) == 0 ? block : NULL;
    case 'v':
        return valloc(FIRST_SIZE);
    case 'c':
        return calloc(1, FIRST_SIZE);
    case 'r':
        return realloc(NULL, FIRST_SIZE);
    default:
        return malloc(FIRST_SIZE);
    }
}

/* In a process of its own. The calls that align are named first. */
static int make_first_call(char call)
{
    char *block = first_call(call);
    if (block == NULL || (strchr("ampv", call) != NULL && !is_aligned(block, FIRST_ALIGNMENT)))
        return 10;
    if (malloc_usable_size(block) != FIRST_SIZE)
        return 11;
    memset(block, 1, FIRST_SIZE);
    find_free_sized(NULL);
    free_sized(block, FIRST_SIZE);
    return 0;
}

static void the_first_call_of_a_process_is_hardened(void **state)
{
    (void)state;
    for (const char *call = "ampvcrx"; *call != '\0'; call++) {
        struct child_end end;
        char *arguments[] = {(char *)"/proc/self/exe", (char[]){*call, '\0'}, NULL};
        run_program(&end, arguments, environ);
        if (!WIFEXITED(end.status) || WEXITSTATUS(end.status) != 0)
            fail_msg("first call '%c': status %#x, %s", *call, (unsigned)end.status, end.words);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return make_first_call(argv[1][0]);
    require_library();
    if (!is_hardened()) {
        setenv("EBBMALLOC_HARDEN", "1", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_is_told_exactly),
        cmocka_unit_test(every_size_is_told_exactly_after_realloc),
        cmocka_unit_test(a_size_is_told_exactly_after_a_realloc_without_memory),
        cmocka_unit_test(the_first_call_of_a_process_is_hardened),
    };
    return cmocka_run_group_tests(tests, find_free_sized, NULL);
}
