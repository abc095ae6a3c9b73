/*
 * C23's free_sized and free_aligned_sized. glibc 2.36 has neither, so they are looked up at run
 * time; a malloc without them passes only as another malloc.
 */
#include "support.h"

#include <dlfcn.h>
#include <malloc.h>

static void (*free_sized)(void *block, size_t size);
static void (*free_aligned_sized)(void *block, size_t alignment, size_t size);

static int find_both(void **state)
{
    (void)state;
    free_sized = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    free_aligned_sized =
        (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    return 0;
}

#define skip_unless_there()                                                                        \
    do {                                                                                           \
        if (!on_ebbmalloc() && (free_sized == NULL || free_aligned_sized == NULL))                 \
            skip();                                                                                \
    } while (0)

static void both_calls_exist(void **state)
{
    (void)state;
    skip_on_other_malloc();
    assert_non_null((void *)free_sized);
    assert_non_null((void *)free_aligned_sized);
}

static void null_is_ignored_whatever_the_size(void **state)
{
    (void)state;
    skip_unless_there();
    free_sized(NULL, 0);
    free_sized(NULL, 100);
    free_sized(NULL, SIZE_MAX);
    free_aligned_sized(NULL, 16, 0);
    free_aligned_sized(NULL, 4096, 100);
}

static void use_and_free_sized(void *block, size_t size)
{
    assert_non_null(block);
    fill(block, size, size);
    assert_int_equal(first_bad_byte(block, size, size), size);
    free_sized(block, size);
}

static void free_sized_takes_what_malloc_calloc_and_realloc_gave(void **state)
{
    (void)state;
    skip_unless_there();
    for (size_t size = 0; size <= 70000; size += size < 4100 ? 1 : 37) {
        use_and_free_sized(malloc(size), size);
        use_and_free_sized(calloc(1, size), size);
        use_and_free_sized(realloc(malloc(3 * size + 1), size + 1), size + 1);
    }
    for (size_t i = 0; i < border_size_count; i++)
        use_and_free_sized(malloc(border_sizes[i]), border_sizes[i]);
}

static void free_aligned_sized_takes_what_aligned_alloc_gave(void **state)
{
    (void)state;
    skip_unless_there();
    for (size_t alignment = 1; alignment <= 4 * MIB; alignment *= 2) {
        for (size_t i = 0; i < border_size_count; i++) {
            char *block = aligned_alloc(alignment, border_sizes[i]);
            assert_non_null(block);
            block[0] = block[border_sizes[i] - 1] = 1;
            free_aligned_sized(block, alignment, border_sizes[i]);
        }
        free_aligned_sized(aligned_alloc(alignment, 0), alignment, 0);
    }
}

/* Were the memory not taken back, or taken back into a wrong size, this would run out of it. */
static void allocate_and_free_more_than_there_is(void *unused)
{
    (void)unused;
    const size_t before = resident_bytes();
    limit_address_space(4096 * MIB);
    for (size_t i = 0; i < border_size_count; i++) {
        const size_t size = border_sizes[i];
        for (size_t total = 0; total < 1024 * MIB && total < 200000 * size; total += size) {
            char *block = malloc(size);
            char *aligned = aligned_alloc(64, size);
            child_check(block != NULL && aligned != NULL);
            block[0] = aligned[0] = 1;
            free_sized(block, size);
            free_aligned_sized(aligned, 64, size);
        }
    }
    child_check(resident_bytes() < before + 64 * MIB);
}

static void the_memory_is_really_taken_back(void **state)
{
    (void)state;
    skip_unless_there();
    struct child_end end;
    run_child(&end, allocate_and_free_more_than_there_is, NULL);
    assert_child_passed(&end);
}

static void sized_and_plain_free_can_be_mixed_without_harm(void **state)
{
    (void)state;
    skip_unless_there();
    enum { count = 2000, steps = 100000 };
    static struct {
        char *block;
        size_t size;
        uint64_t seed;
    } live[count];
    uint64_t random = 3;
    for (uint64_t step = 0; step < steps; step++) {
        const size_t i = next_random(&random) % count;
        assert_int_equal(first_bad_byte(live[i].block, live[i].size, live[i].seed), live[i].size);
        if (step % 2 == 0)
            free_sized(live[i].block, live[i].size);
        else
            free(live[i].block);
        live[i].size = random_size(&random, step % 1024 == 0 ? 5 * MIB : 40000);
        live[i].seed = step;
        live[i].block = malloc(live[i].size);
        assert_non_null(live[i].block);
        fill(live[i].block, live[i].size, step);
    }
    for (int i = 0; i < count; i++)
        free_sized(live[i].block, live[i].size);
}

static void errno_is_kept(void **state)
{
    (void)state;
    skip_unless_there();
    for (size_t i = 0; i < border_size_count; i++) {
        void *block = malloc(border_sizes[i]);
        void *aligned = aligned_alloc(256, border_sizes[i]);
        errno = EDOM;
        free_sized(block, border_sizes[i]);
        free_aligned_sized(aligned, 256, border_sizes[i]);
        assert_int_equal(errno, EDOM);
    }
}

int main(void)
{
    require_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_calls_exist),
        cmocka_unit_test(null_is_ignored_whatever_the_size),
        cmocka_unit_test(free_sized_takes_what_malloc_calloc_and_realloc_gave),
        cmocka_unit_test(free_aligned_sized_takes_what_aligned_alloc_gave),
        cmocka_unit_test(the_memory_is_really_taken_back),
        cmocka_unit_test(sized_and_plain_free_can_be_mixed_without_harm),
        cmocka_unit_test(errno_is_kept),
    };
    return cmocka_run_group_tests(tests, find_both, NULL);
}
