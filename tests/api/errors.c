/*
 * A caller's mistake ends in one line on stderr that names the call and the pointer, and in
 * abort(): never in a fault, never in silence. Each mistake is made in a child.
 *
 * When a mistake is seen depends on who can see it. The page map knows at once what is no block at
 * all and what is not the start of a large or huge one. Small blocks are only held against their
 * span's bitmap when they leave the thread's cache, which malloc_trim(0) makes happen; so after a
 * mistake with a small block the children here trim.
 */
#include "support.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* Where a child leaves word for the parent; shared memory. */
static struct {
    void *volatile pointer;
    volatile int handler_ran;
} * shared;

static int share_memory(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED ? -1 : 0;
}

static void call_free(void *pointer)
{
    free(pointer);
}
static void call_realloc(void *pointer)
{
    free(realloc(pointer, 100));
}
static void call_realloc_to_zero(void *pointer)
{
    free(realloc(pointer, opaque(0)));
}
static void call_reallocarray(void *pointer)
{
    free(reallocarray(pointer, 10, 100));
}
static void call_usable_size(void *pointer)
{
    child_check(malloc_usable_size(pointer) + 1 != 0);
}

static void call_free_sized(void *pointer, size_t size)
{
    void (*free_sized)(void *, size_t) =
        (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    child_check(free_sized != NULL);
    free_sized(pointer, size);
}
static void call_free_sized_small(void *pointer)
{
    call_free_sized(pointer, 64);
}
static void call_free_sized_large(void *pointer)
{
    call_free_sized(pointer, 200 * KIB);
}
static void call_free_sized_huge(void *pointer)
{
    call_free_sized(pointer, 32 * MIB);
}

/* What a mistake is made with, and the begin of the line it must give. */
struct call {
    void (*make)(void *pointer);
    const char *name;
};

static const struct call calls_that_look[] = {
    {call_free, "free"},
    {call_realloc, "realloc"},
    {call_realloc_to_zero, "realloc"},
    {call_reallocarray, "realloc"},
    {call_usable_size, "malloc_usable_size"},
};
enum { calls_that_look_count = sizeof calls_that_look / sizeof *calls_that_look };

/* These believe what the caller says; the cache's flush or the page map finds out. */
static const struct call calls_that_believe[] = {
    {call_free_sized_small, "free"},
    {call_free_sized_large, "free"},
    {call_free_sized_huge, "free"},
};
enum { calls_that_believe_count = sizeof calls_that_believe / sizeof *calls_that_believe };

/* One mistake: what the child does, and what the line must say beside the pointer. */
struct mistake {
    void (*body)(void *mistake);
    const struct call *call;
    void *pointer;
    size_t size;
    ptrdiff_t offset;
    bool then_trim;
};

static void assert_one_line(const char *words, const char *call, const char *said)
{
    char begin[100];
    snprintf(begin, sizeof begin, "ebbmalloc: %s", call);
    if (strncmp(words, begin, strlen(begin)) != 0)
        fail_msg("expected a line that begins with \"%s\", got: \"%s\"", begin, words);
    const char *end = strchr(words, '\n');
    if (end == NULL || end[1] != '\0')
        fail_msg("expected exactly one line, got: \"%s\"", words);
    snprintf(begin, sizeof begin, "(%p): ", shared->pointer);
    if (strstr(words, begin) == NULL)
        fail_msg("expected the pointer as \"%s\" in: \"%s\"", begin, words);
    if (said != NULL && strstr(words, said) == NULL)
        fail_msg("expected \"%s\" in: \"%s\"", said, words);
}

static void assert_caught(struct mistake *mistake, const char *said)
{
    struct child_end end;
    shared->pointer = NULL;
    run_child(&end, mistake->body, mistake);
    if (!WIFSIGNALED(end.status) || WTERMSIG(end.status) != SIGABRT)
        fail_msg("expected SIGABRT for %s of %p (size %zu offset %td), got wait status %#x and "
                 "\"%s\"",
                 mistake->call->name, shared->pointer, mistake->size, mistake->offset,
                 (unsigned)end.status, end.words);
    assert_one_line(end.words, mistake->call->name, said);
}

/* ---- Pointers that the library never gave out. ---- */

static void use_foreign_pointer(void *argument)
{
    const struct mistake *mistake = argument;
    free(malloc(100));
    shared->pointer = mistake->pointer;
    mistake->call->make(opaque_pointer(mistake->pointer));
    if (mistake->then_trim)
        malloc_trim(0);
}

static void assert_foreign(const void *pointer)
{
    for (int i = 0; i < calls_that_look_count; i++) {
        struct mistake mistake = {
            .body = use_foreign_pointer, .call = &calls_that_look[i], .pointer = (void *)pointer};
        assert_caught(&mistake, NULL);
    }
    for (int i = 0; i < calls_that_believe_count; i++) {
        struct mistake mistake = {.body = use_foreign_pointer,
                                  .call = &calls_that_believe[i],
                                  .pointer = (void *)pointer,
                                  .then_trim = true};
        assert_caught(&mistake, NULL);
    }
}

static void a_stack_address_is_refused(void **state)
{
    (void)state;
    _Alignas(64) char local[128] = "local";
    assert_foreign(opaque_pointer(local));
    assert_foreign(opaque_pointer(local + 16));
    assert_foreign(opaque_pointer(local + 17));
}

static void an_address_in_the_program_is_refused(void **state)
{
    (void)state;
    static _Alignas(64) char zeroed[128];
    static _Alignas(64) char written[128] = "written";
    static _Alignas(64) const char constant[128] = "constant";
    static _Thread_local _Alignas(64) char thread_local_bytes[128];
    assert_foreign(zeroed);
    assert_foreign(written + 16);
    assert_foreign(constant);
    assert_foreign(thread_local_bytes);
    assert_foreign((const void *)(uintptr_t)assert_foreign);
    assert_foreign(getenv("PATH"));
}

static void an_address_in_a_shared_library_is_refused(void **state)
{
    (void)state;
    assert_foreign(stdout);
    assert_foreign(dlsym(RTLD_DEFAULT, "printf"));
    assert_foreign(dlsym(RTLD_DEFAULT, "malloc"));
    assert_foreign((const void *)getauxval(AT_SYSINFO_EHDR));
}

static void a_mapping_of_the_program_is_refused(void **state)
{
    (void)state;
    const size_t size = 64 * MIB;
    char *mapping = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(mapping, MAP_FAILED);
    assert_foreign(mapping);
    assert_foreign(mapping + size / 2);
    assert_foreign(mapping + size - 16);
    assert_int_equal(mprotect(mapping, size, PROT_READ | PROT_WRITE), 0);
    assert_foreign(mapping);
    assert_int_equal(munmap(mapping, size), 0);
    assert_foreign(mapping);
}

static void an_address_where_nothing_is_is_refused(void **state)
{
    (void)state;
    const uintptr_t nowhere[] = {1, 8, 16, 4096, 0xdeadbeef000, 0xdeadbeef010, 0x1000000000};
    for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++)
        assert_foreign((const void *)nowhere[i]);
}

/* An index made from such a pointer runs out of every table. */
static void an_address_that_cannot_be_is_refused(void **state)
{
    (void)state;
    const uintptr_t impossible[] = {0x00007fffffffffff, 0x00007ffffffffff0, 0x0000800000000000,
                                    0x0000800000000010, 0x0001000000000000, 0x00ffffffffffffff,
                                    (uintptr_t)1 << 56, (uintptr_t)1 << 63, 0xffff800000000000,
                                    0xffffffff80000000, UINTPTR_MAX - 15,   UINTPTR_MAX - 7,
                                    UINTPTR_MAX};
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++)
        assert_foreign((const void *)impossible[i]);
}

/* ---- Pointers into a block, and beside one. ---- */

static void use_pointer_beside_block(void *argument)
{
    const struct mistake *mistake = argument;
    char *block = malloc(mistake->size);
    child_check(block != NULL);
    memset(block, 1, mistake->size);
    shared->pointer = block + mistake->offset;
    mistake->call->make(opaque_pointer(block + mistake->offset));
    if (mistake->then_trim)
        malloc_trim(0);
}

static void assert_offset_caught(size_t size, ptrdiff_t offset, const struct call *call,
                                 bool then_trim)
{
    struct mistake mistake = {.body = use_pointer_beside_block,
                              .call = call,
                              .size = size,
                              .offset = offset,
                              .then_trim = then_trim};
    assert_caught(&mistake, NULL);
}

static const struct call free_call = {call_free, "free"};

static void a_pointer_into_a_small_block_is_caught(void **state)
{
    (void)state;
    const size_t sizes[] = {48, 64, 100, 1000, 3000, 20000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const ptrdiff_t size = (ptrdiff_t)sizes[i];
        const ptrdiff_t offsets[] = {1, 4, 8, 15, 16, 17, 24, 32, size / 2 / 16 * 16, -16, -8, -1};
        for (size_t j = 0; j < sizeof offsets / sizeof *offsets; j++)
            assert_offset_caught(sizes[i], offsets[j], &free_call, true);
    }
}

/* Of the smallest blocks every multiple of 16 may be the start of another one. */
static void a_misaligned_pointer_into_the_smallest_block_is_caught(void **state)
{
    (void)state;
    for (ptrdiff_t offset = 1; offset < 16; offset++)
        assert_offset_caught(16, offset, &free_call, true);
}

static void a_pointer_into_a_large_or_huge_block_is_caught_at_once(void **state)
{
    (void)state;
    const size_t sizes[] = {40 * KIB, 200 * KIB, 3 * MIB, 32 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const ptrdiff_t size = (ptrdiff_t)sizes[i];
        const ptrdiff_t offsets[] = {
            1, 8, 16, 4096, size / 2, 32 * 1024, 32 * 1024 + 16, size - 1, size - 16, size - 4096};
        for (size_t j = 0; j < sizeof offsets / sizeof *offsets; j++)
            for (int call = 0; call < calls_that_look_count; call++)
                assert_offset_caught(sizes[i], offsets[j], &calls_that_look[call], false);
    }
}

/* Whatever lies there, no block starts at such an address. */
static void a_pointer_beside_a_large_or_huge_block_is_caught(void **state)
{
    (void)state;
    const size_t sizes[] = {200 * KIB, 3 * MIB, 32 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_offset_caught(sizes[i], -8, &free_call, true);
        assert_offset_caught(sizes[i], -4088, &free_call, true);
        assert_offset_caught(sizes[i], (ptrdiff_t)sizes[i] + 64 * 1024 + 8, &free_call, true);
    }
}

/* ---- Blocks that were freed before. ---- */

static void free_twice_at_once(void *argument)
{
    const struct mistake *mistake = argument;
    void *block = malloc(mistake->size);
    child_check(block != NULL);
    shared->pointer = block;
    free(block);
    mistake->call->make(opaque_pointer(shared->pointer));
    malloc_trim(0);
}

static void a_small_block_freed_twice_is_caught_by_the_next_trim(void **state)
{
    (void)state;
    for (size_t size = 1; size < 32 * KIB; size = size * 2 + 5) {
        struct mistake mistake = {
            .body = free_twice_at_once, .call = &free_call, .size = size, .then_trim = true};
        assert_caught(&mistake, "twice");
    }
}

static const size_t large_sizes[] = {40 * KIB, 200 * KIB, 3 * MIB, 5 * MIB, 32 * MIB, 100 * MIB};
enum { large_size_count = sizeof large_sizes / sizeof *large_sizes };

static void free_twice_without_trim(void *argument)
{
    const struct mistake *mistake = argument;
    void *block = malloc(mistake->size);
    child_check(block != NULL);
    shared->pointer = block;
    free(block);
    if (mistake->then_trim)
        malloc_trim(0);
    mistake->call->make(opaque_pointer(shared->pointer));
}

static void a_large_or_huge_block_used_after_free_is_caught_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < large_size_count; i++) {
        for (int call = 0; call < calls_that_look_count; call++) {
            struct mistake mistake = {.body = free_twice_without_trim,
                                      .call = &calls_that_look[call],
                                      .size = large_sizes[i]};
            assert_caught(&mistake, NULL);
        }
    }
}

static void a_large_or_huge_block_used_after_free_and_trim_is_caught(void **state)
{
    (void)state;
    for (int i = 0; i < large_size_count; i++) {
        for (int call = 0; call < calls_that_look_count; call++) {
            struct mistake mistake = {.body = free_twice_without_trim,
                                      .call = &calls_that_look[call],
                                      .size = large_sizes[i],
                                      .then_trim = true};
            assert_caught(&mistake, NULL);
        }
    }
}

/* Its neighbours are alive, so the span stays and its bitmap says that the block is free. */
static void free_again_after_trim(void *argument)
{
    const struct mistake *mistake = argument;
    enum { count = 1000 };
    static void *blocks[count];
    for (int i = 0; i < count; i++)
        child_check((blocks[i] = malloc(mistake->size)) != NULL);
    shared->pointer = blocks[count / 2];
    free(blocks[count / 2]);
    malloc_trim(0);
    free(opaque_pointer(shared->pointer));
    malloc_trim(0);
}

static void a_small_block_freed_again_after_a_trim_is_caught(void **state)
{
    (void)state;
    for (size_t size = 1; size < 16 * KIB; size = size * 2 + 5) {
        struct mistake mistake = {.body = free_again_after_trim, .call = &free_call, .size = size};
        assert_caught(&mistake, "twice");
    }
}

/* The whole span is gone: the page map may know nothing of the pointer any more. */
static void free_again_after_everything_was_freed(void *argument)
{
    const struct mistake *mistake = argument;
    enum { count = 1000 };
    static void *blocks[count];
    for (int i = 0; i < count; i++)
        child_check((blocks[i] = malloc(mistake->size)) != NULL);
    shared->pointer = blocks[count / 2];
    for (int i = 0; i < count; i++)
        free(blocks[i]);
    malloc_trim(0);
    free(opaque_pointer(shared->pointer));
    malloc_trim(0);
}

static void a_small_block_freed_again_after_its_span_is_gone_is_caught(void **state)
{
    (void)state;
    for (size_t size = 1; size < 16 * KIB; size = size * 2 + 5) {
        struct mistake mistake = {
            .body = free_again_after_everything_was_freed, .call = &free_call, .size = size};
        assert_caught(&mistake, NULL);
    }
}

static void free_twice_with_others_between(void *argument)
{
    const struct mistake *mistake = argument;
    void *first = malloc(mistake->size), *second = malloc(mistake->size);
    child_check(first != NULL && second != NULL);
    shared->pointer = first;
    free(first);
    free(second);
    free(opaque_pointer(shared->pointer));
    malloc_trim(0);
}

static void a_block_freed_twice_with_another_between_is_caught(void **state)
{
    (void)state;
    for (size_t size = 1; size < 64 * MIB; size = size * 4 + 5) {
        struct mistake mistake = {
            .body = free_twice_with_others_between, .call = &free_call, .size = size};
        assert_caught(&mistake, NULL);
    }
}

struct second_thread {
    pthread_barrier_t freed_once;
    void *block;
};

static void *free_the_second_time(void *argument)
{
    struct second_thread *second = argument;
    pthread_barrier_wait(&second->freed_once);
    free(second->block);
    return NULL;
}

/* The thread is there before, since to start one allocates, and may be given that very block. */
static void free_here_and_in_a_thread(void *argument)
{
    const struct mistake *mistake = argument;
    struct second_thread second = {.block = malloc(mistake->size)};
    pthread_t thread;
    child_check(second.block != NULL);
    child_check(pthread_barrier_init(&second.freed_once, NULL, 2) == 0);
    child_check(pthread_create(&thread, NULL, free_the_second_time, &second) == 0);
    shared->pointer = second.block;
    free(second.block);
    pthread_barrier_wait(&second.freed_once);
    child_check(pthread_join(thread, NULL) == 0);
    malloc_trim(0);
}

static void a_block_freed_by_two_threads_is_caught(void **state)
{
    (void)state;
    for (size_t size = 1; size < 64 * MIB; size = size * 4 + 5) {
        struct mistake mistake = {
            .body = free_here_and_in_a_thread, .call = &free_call, .size = size};
        assert_caught(&mistake, NULL);
    }
}

static void free_what_realloc_took(void *argument)
{
    const struct mistake *mistake = argument;
    void *block = malloc(mistake->size);
    child_check(block != NULL);
    shared->pointer = block;
    child_check(realloc(block, opaque(0)) == NULL);
    free(opaque_pointer(shared->pointer));
    malloc_trim(0);
}

static void a_block_freed_after_realloc_took_it_is_caught(void **state)
{
    (void)state;
    for (size_t size = 1; size < 64 * MIB; size = size * 4 + 5) {
        struct mistake mistake = {.body = free_what_realloc_took, .call = &free_call, .size = size};
        assert_caught(&mistake, NULL);
    }
}

/* ---- How it ends. ---- */

static void close_stderr_and_err(void *unused)
{
    (void)unused;
    close(STDERR_FILENO);
    free(opaque_pointer(&shared));
}

static void without_stderr_it_still_aborts(void **state)
{
    (void)state;
    struct child_end end;
    run_child(&end, close_stderr_and_err, NULL);
    assert_true(WIFSIGNALED(end.status));
    assert_int_equal(WTERMSIG(end.status), SIGABRT);
    assert_string_equal(end.words, "");
}

/* What a crash reporter does: it allocates, though it should not. No lock may be held by then. */
static void allocating_handler(int number)
{
    (void)number;
    for (size_t size = 16; size <= 32 * MIB; size *= 2) {
        char *block = malloc(size);
        if (block == NULL)
            return;
        memset(block, 1, size);
        free(block);
    }
    malloc_trim(0);
    shared->handler_ran = 1;
}

static void err_with_an_allocating_handler(void *argument)
{
    const struct mistake *mistake = argument;
    signal(SIGABRT, allocating_handler);
    shared->handler_ran = 0;
    free_twice_at_once((void *)mistake);
}

static void a_handler_of_the_abort_may_allocate(void **state)
{
    (void)state;
    const size_t sizes[] = {64, 3000, 200 * KIB, 32 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct mistake mistake = {
            .body = err_with_an_allocating_handler, .call = &free_call, .size = sizes[i]};
        assert_caught(&mistake, NULL);
        assert_int_equal(shared->handler_ran, 1);
    }
}

/* If this failed, every test above would be worth nothing: correct use must not be refused. */
static void use_correctly(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < border_size_count; i++) {
        char *block = malloc(border_sizes[i]);
        child_check(block != NULL);
        block = realloc(block, malloc_usable_size(block) + 1);
        child_check(block != NULL);
        malloc_trim(0);
        free(block);
        malloc_trim(0);
    }
}

static void correct_use_is_not_refused(void **state)
{
    (void)state;
    struct child_end end;
    run_child(&end, use_correctly, NULL);
    assert_child_passed(&end);
    assert_string_equal(end.words, "");
}

int main(void)
{
    require_library();
    if (!on_ebbmalloc()) {
        puts("how mistakes are reported is ebbmalloc's own promise: nothing to test here");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(correct_use_is_not_refused),
        cmocka_unit_test(a_stack_address_is_refused),
        cmocka_unit_test(an_address_in_the_program_is_refused),
        cmocka_unit_test(an_address_in_a_shared_library_is_refused),
        cmocka_unit_test(a_mapping_of_the_program_is_refused),
        cmocka_unit_test(an_address_where_nothing_is_is_refused),
        cmocka_unit_test(an_address_that_cannot_be_is_refused),
        cmocka_unit_test(a_pointer_into_a_small_block_is_caught),
        cmocka_unit_test(a_misaligned_pointer_into_the_smallest_block_is_caught),
        cmocka_unit_test(a_pointer_into_a_large_or_huge_block_is_caught_at_once),
        cmocka_unit_test(a_pointer_beside_a_large_or_huge_block_is_caught),
        cmocka_unit_test(a_small_block_freed_twice_is_caught_by_the_next_trim),
        cmocka_unit_test(a_large_or_huge_block_used_after_free_is_caught_at_once),
        cmocka_unit_test(a_large_or_huge_block_used_after_free_and_trim_is_caught),
        cmocka_unit_test(a_small_block_freed_again_after_a_trim_is_caught),
        cmocka_unit_test(a_small_block_freed_again_after_its_span_is_gone_is_caught),
        cmocka_unit_test(a_block_freed_twice_with_another_between_is_caught),
        cmocka_unit_test(a_block_freed_by_two_threads_is_caught),
        cmocka_unit_test(a_block_freed_after_realloc_took_it_is_caught),
        cmocka_unit_test(without_stderr_it_still_aborts),
        cmocka_unit_test(a_handler_of_the_abort_may_allocate),
    };
    return cmocka_run_group_tests(tests, share_memory, NULL);
}
