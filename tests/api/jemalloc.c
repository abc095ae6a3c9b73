/*
 * jemalloc's own calls, as jemalloc(3) describes them: blocks of theirs and of the standard calls
 * are of one kind. They are looked up at run time; where malloc is another one without them, there
 * is nothing to test.
 */
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>

#define ZERO 0x40
#define LG_ALIGN(exponent) (exponent)
#define OTHERS (0x100 | 0x300000) /* a cache and an arena of jemalloc's */

static void *(*mallocx)(size_t size, int flags);
static void *(*rallocx)(void *block, size_t size, int flags);
static size_t (*xallocx)(void *block, size_t size, size_t extra, int flags);
static size_t (*sallocx)(const void *block, int flags);
static void (*dallocx)(void *block, int flags);
static void (*sdallocx)(void *block, size_t size, int flags);
static size_t (*nallocx)(size_t size, int flags);

static int find_all(void **state)
{
    (void)state;
    *(void **)&mallocx = dlsym(RTLD_DEFAULT, "mallocx");
    *(void **)&rallocx = dlsym(RTLD_DEFAULT, "rallocx");
    *(void **)&xallocx = dlsym(RTLD_DEFAULT, "xallocx");
    *(void **)&sallocx = dlsym(RTLD_DEFAULT, "sallocx");
    *(void **)&dallocx = dlsym(RTLD_DEFAULT, "dallocx");
    *(void **)&sdallocx = dlsym(RTLD_DEFAULT, "sdallocx");
    *(void **)&nallocx = dlsym(RTLD_DEFAULT, "nallocx");
    return 0;
}

#define skip_unless_there()                                                                        \
    do {                                                                                           \
        if (!on_ebbmalloc() && mallocx == NULL)                                                    \
            skip();                                                                                \
    } while (0)

static const size_t sizes[] = {1,         16,      100,     1000,    4096,    20000,   32 * KIB,
                               100 * KIB, 1 * MIB, 4 * MIB, 5000000, 9 * MIB, 40 * MIB};
enum { SIZES = sizeof sizes / sizeof *sizes };

static bool is_zero(const char *block, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (block[i] != 0)
            return false;
    return true;
}

/* Leaves freed blocks that are not zero. */
static void soil(size_t size)
{
    char *block = malloc(size);
    assert_non_null(block);
    memset(block, 0xa5, malloc_usable_size(block));
    free(block);
}

static void mallocx_gives_what_free_takes_and_dallocx_takes_what_malloc_gives(void **state)
{
    (void)state;
    skip_unless_there();
    for (size_t i = 0; i < SIZES; i++) {
        char *theirs = mallocx(sizes[i], OTHERS), *ours = malloc(sizes[i]);
        char *third = mallocx(sizes[i], 0);
        assert_true(theirs != NULL && ours != NULL && third != NULL);
        assert_in_range(malloc_usable_size(theirs), sizes[i], SIZE_MAX);
        assert_int_equal(sallocx(ours, 0), malloc_usable_size(ours));
        fill(theirs, sizes[i], 1);
        fill(ours, sizes[i], 2);
        fill(third, sizes[i], 3);
        assert_int_equal(first_bad_byte(theirs, sizes[i], 1), sizes[i]);
        assert_int_equal(first_bad_byte(ours, sizes[i], 2), sizes[i]);
        assert_int_equal(first_bad_byte(third, sizes[i], 3), sizes[i]);
        free(theirs);
        dallocx(ours, OTHERS);
        sdallocx(third, sizes[i], 0);
    }
}

static void what_is_asked_to_be_zero_is_zero_as_far_as_the_block_goes(void **state)
{
    (void)state;
    skip_unless_there();
    for (size_t i = 0; i < SIZES; i++) {
        for (int exponent = 0; exponent <= 16; exponent += 8) {
            soil(sizes[i]);
            char *block = mallocx(sizes[i], ZERO | LG_ALIGN(exponent));
            assert_non_null(block);
            assert_int_equal((uintptr_t)block % ((size_t)1 << exponent), 0);
            assert_true(is_zero(block, 0, sallocx(block, 0)));
            memset(block, 0xa5, sallocx(block, 0));
            dallocx(block, 0);
        }
    }
}

static void rallocx_keeps_what_there_was_and_clears_what_is_new(void **state)
{
    (void)state;
    skip_unless_there();
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t j = 0; j < SIZES; j++) {
            for (int exponent = 0; exponent <= 12; exponent += 6) {
                soil(sizes[j]);
                char *block = mallocx(sizes[i], LG_ALIGN(exponent));
                assert_non_null(block);
                const size_t before = sallocx(block, 0);
                const size_t kept = before < sizes[j] ? before : sizes[j];
                fill(block, before, i);
                block = rallocx(block, sizes[j], ZERO | LG_ALIGN(exponent));
                assert_non_null(block);
                assert_int_equal((uintptr_t)block % ((size_t)1 << exponent), 0);
                assert_in_range(sallocx(block, 0), sizes[j], SIZE_MAX);
                assert_int_equal(first_bad_byte(block, kept, i), kept);
                assert_true(is_zero(block, before, sallocx(block, 0)));
                dallocx(block, 0);
            }
        }
    }
}

static void xallocx_says_what_the_block_has(void **state)
{
    (void)state;
    skip_unless_there();
    for (size_t i = 0; i < SIZES; i++) {
        char *block = mallocx(sizes[i], 0);
        assert_non_null(block);
        fill(block, sizes[i], i);
        const size_t size = xallocx(block, 2 * sizes[i], 0, 0);
        assert_in_range(size, sizes[i], SIZE_MAX);
        assert_int_equal(size, sallocx(block, 0));
        assert_int_equal(first_bad_byte(block, sizes[i], i), sizes[i]);
        dallocx(block, 0);
    }
}

static void nallocx_promises_no_more_than_there_is(void **state)
{
    (void)state;
    skip_unless_there();
    for (size_t i = 0; i < SIZES; i++) {
        for (int exponent = 0; exponent <= 24; exponent += 3) {
            char *block = mallocx(sizes[i], LG_ALIGN(exponent));
            assert_non_null(block);
            assert_in_range(nallocx(sizes[i], LG_ALIGN(exponent)), sizes[i], sallocx(block, 0));
            dallocx(block, 0);
        }
    }
}

static void what_cannot_be_is_refused_and_the_block_stays(void **state)
{
    (void)state;
    skip_unless_there();
    const size_t absurd = PTRDIFF_MAX;
    char *block = mallocx(100, 0);
    assert_non_null(block);
    fill(block, 100, 5);
    const struct {
        size_t size;
        int flags;
    } impossible[] = {{absurd, 0},
                      {absurd, ZERO},
                      {absurd, LG_ALIGN(12)},
                      {100, LG_ALIGN(62)},
                      {100, LG_ALIGN(63)},
                      {100, ZERO | LG_ALIGN(62)},
                      {SIZE_MAX, 0},
                      {SIZE_MAX, ZERO},
                      {SIZE_MAX, LG_ALIGN(12)},
                      {absurd, ZERO | LG_ALIGN(12)}};
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        const size_t size = impossible[i].size;
        const int flags = impossible[i].flags;
        errno = 0;
        assert_null(mallocx(size, flags));
        assert_true(errno == ENOMEM || !on_ebbmalloc());
        errno = 0;
        assert_null(rallocx(block, size, flags));
        assert_true(errno == ENOMEM || !on_ebbmalloc());
        assert_true(nallocx(size, flags) == 0 || !on_ebbmalloc());
    }
    assert_int_equal(first_bad_byte(block, 100, 5), 100);
    dallocx(block, 0);
}

int main(void)
{
    require_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mallocx_gives_what_free_takes_and_dallocx_takes_what_malloc_gives),
        cmocka_unit_test(what_is_asked_to_be_zero_is_zero_as_far_as_the_block_goes),
        cmocka_unit_test(rallocx_keeps_what_there_was_and_clears_what_is_new),
        cmocka_unit_test(xallocx_says_what_the_block_has),
        cmocka_unit_test(nallocx_promises_no_more_than_there_is),
        cmocka_unit_test(what_cannot_be_is_refused_and_the_block_stays),
    };
    return cmocka_run_group_tests(tests, find_all, NULL);
}
