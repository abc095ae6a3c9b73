/*
 * RLIMIT_AS in a child: memory ends in NULL and ENOMEM, what is live stays as it was, and what is
 * freed can be had again, in any size, by any thread.
 */
#include "support.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>

/* What a child may still take. Address space kept for other uses must not eat half of it. */
static const size_t allowance = 128 * MIB;

/* A live block: the list of them runs through the blocks themselves. */
struct block {
    struct block *next;
    size_t seed;
    char rest[];
};

static struct block *push(struct block *list, size_t size)
{
    struct block *block = malloc(size);
    if (block == NULL)
        return NULL;
    block->next = list;
    block->seed = list == NULL ? 1 : list->seed + 1;
    /* The first bytes are enough to see another block written over this one. */
    fill(block->rest, size - sizeof *block < 1000 ? size - sizeof *block : 1000, block->seed);
    return block;
}

/* Allocates until there is no more, and returns the list; *count is how many it got. */
static struct block *take_all(struct block *list, size_t size, size_t *count)
{
    struct block *block;
    for (*count = 0; errno = 0, (block = push(list, size)) != NULL; ++*count)
        list = block;
    child_check(errno == ENOMEM);
    return list;
}

static void verify(const struct block *list, size_t size)
{
    const size_t looked_at = size - sizeof *list < 1000 ? size - sizeof *list : 1000;
    for (; list != NULL; list = list->next)
        child_check(first_bad_byte(list->rest, looked_at, list->seed) == looked_at);
}

static void free_all(struct block *list)
{
    while (list != NULL) {
        struct block *next = list->next;
        free(list);
        list = next;
    }
}

/* Every second block of the list goes. */
static size_t thin_out(struct block *list)
{
    size_t freed = 0;
    for (; list != NULL && list->next != NULL; list = list->next, freed++) {
        struct block *gone = list->next;
        list->next = gone->next;
        free(gone);
    }
    return freed;
}

#define child_check_out_of_memory(call) child_check((errno = 0, (call)) == NULL && errno == ENOMEM)

/* `block` is live and so are all others; nothing of this size is left for any call. */
static void every_call_fails(struct block *block, size_t size)
{
    void *aligned = &aligned;
    child_check_out_of_memory(malloc(size));
    child_check_out_of_memory(calloc(1, size));
    child_check_out_of_memory(realloc(NULL, size));
    child_check_out_of_memory(realloc(block, opaque(allowance + size)));
    child_check_out_of_memory(reallocarray(block, opaque(allowance + size), 1));
    child_check_out_of_memory(memalign(4096, opaque(allowance)));
    child_check(posix_memalign(&aligned, 4096, opaque(allowance)) == ENOMEM);
    child_check(aligned == &aligned);
}

static void run_out_and_go_on(void *argument)
{
    const size_t size = *(const size_t *)argument;
    size_t count, refilled, again;
    limit_address_space(allowance);
    struct block *list = take_all(NULL, size, &count);
    child_check(count * size >= allowance / 2);
    every_call_fails(list, size);
    verify(list, size);

    struct block *rest = list->next;
    free(list);
    list = push(rest, size);
    child_check(list != NULL);

    const size_t freed = thin_out(list);
    verify(list, size);
    list = take_all(list, size, &refilled);
    child_check(refilled >= freed);
    verify(list, size);

    free_all(list);
    list = take_all(NULL, size, &again);
    child_check(again >= count - count / 50);
    verify(list, size);
    free_all(list);
}

static void run_out_with(size_t size)
{
    struct child_end end;
    run_child(&end, run_out_and_go_on, &size);
    assert_child_passed(&end);
}

static void the_program_goes_on_after_running_out_of_small_blocks(void **state)
{
    (void)state;
    run_out_with(64);
    run_out_with(1000);
    run_out_with(20000);
}

static void the_program_goes_on_after_running_out_of_large_blocks(void **state)
{
    (void)state;
    run_out_with(40000);
    run_out_with(200 * KIB);
    /* In the hardened mode, with a seal behind it, no two of a whole MiB fit into 2 MiB. */
    run_out_with(is_hardened() ? MIB - 64 : MIB);
}

static void the_program_goes_on_after_running_out_of_huge_blocks(void **state)
{
    (void)state;
    run_out_with(5 * MIB);
    run_out_with(16 * MIB + 1);
    run_out_with(40 * MIB);
}

/* Pages that were never used count here, too: so what the library needs for itself must be there
 * when all others have been taken. In the hardened mode a block of 48 bytes takes 64. */
static void take_all_data(void *unused)
{
    (void)unused;
    const size_t limit = data_bytes() + allowance, size = 48;
    size_t taken = 0;
    child_check(setrlimit(RLIMIT_DATA, &(struct rlimit){limit, limit}) == 0);
    while (malloc(opaque(size)) != NULL)
        taken += size;
    child_check(taken >= allowance / 10 * (is_hardened() ? 7 : 9));
}

static void nearly_all_of_rlimit_data_is_to_be_had(void **state)
{
    (void)state;
    skip_on_other_malloc();
    struct child_end end;
    run_child(&end, take_all_data, NULL);
    assert_child_passed(&end);
}

/* What was small blocks must come to serve a huge one, and the other way round. */
static void change_sizes(void *argument)
{
    const size_t *sizes = argument;
    size_t count;
    limit_address_space(allowance);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 2; i++) {
            struct block *list = take_all(NULL, sizes[i], &count);
            child_check(count * sizes[i] >= allowance / 2);
            verify(list, sizes[i]);
            free_all(list);
        }
    }
}

static void memory_freed_in_one_size_serves_another(void **state)
{
    (void)state;
    skip_on_other_malloc(); /* glibc's heap cannot be made into mappings of their own */
    size_t pairs[][2] = {
        {64, 20000}, {64, 200 * KIB}, {500, 32 * MIB}, {300 * KIB, 32 * MIB}, {48, 70 * MIB}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct child_end end;
        run_child(&end, change_sizes, pairs[i]);
        assert_child_passed(&end);
    }
}

struct late_thread {
    pthread_barrier_t full, done;
    struct block *list;
};

/* Its first call of all comes when there is nothing left. */
static void *first_calls_without_memory(void *argument)
{
    struct late_thread *late = argument;
    pthread_barrier_wait(&late->full);
    child_check_out_of_memory(malloc(32 * MIB));
    errno = 0;
    free(malloc(100));
    child_check(errno == 0 || errno == ENOMEM);
    errno = EDOM;
    free_all(late->list);
    child_check(errno == EDOM);
    struct block *block = push(NULL, 200);
    child_check(block != NULL);
    free(block);
    pthread_barrier_wait(&late->done);
    return NULL;
}

static void let_a_thread_begin_without_memory(void *argument)
{
    const size_t size = *(const size_t *)argument;
    struct late_thread late = {.list = NULL};
    pthread_t thread;
    size_t count;
    child_check(pthread_barrier_init(&late.full, NULL, 2) == 0);
    child_check(pthread_barrier_init(&late.done, NULL, 2) == 0);
    child_check(pthread_create(&thread, NULL, first_calls_without_memory, &late) == 0);
    limit_address_space(allowance);
    late.list = take_all(NULL, size, &count);
    pthread_barrier_wait(&late.full);
    pthread_barrier_wait(&late.done);
    child_check(pthread_join(thread, NULL) == 0);
    /* What that thread freed is there for this one too. */
    late.list = take_all(NULL, size, &count);
    child_check(count * size >= allowance / 2);
    free_all(late.list);
}

static void a_thread_may_begin_when_there_is_no_memory(void **state)
{
    (void)state;
    size_t sizes[] = {100, 3000, 200 * KIB, 32 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct child_end end;
        run_child(&end, let_a_thread_begin_without_memory, &sizes[i]);
        assert_child_passed(&end);
    }
}

static void grow_until_it_fails(void *unused)
{
    (void)unused;
    limit_address_space(allowance);
    for (int round = 0; round < 3; round++) {
        size_t size = MIB;
        char *block = malloc(size), *grown;
        child_check(block != NULL);
        fill(block, MIB, 1);
        while (errno = 0, (grown = realloc(block, size + MIB)) != NULL) {
            block = grown;
            size += MIB;
            child_check(first_bad_byte(block, MIB, 1) == MIB);
        }
        child_check(errno == ENOMEM);
        /* Without mremap, a third: the old one and the new one have to stand side by side. */
        child_check(size >= allowance / 3);
        child_check(first_bad_byte(opaque_pointer(block), MIB, 1) == MIB);
        free(opaque_pointer(block));
    }
}

static void a_block_that_can_grow_no_more_is_left_as_it_was(void **state)
{
    (void)state;
    struct child_end end;
    run_child(&end, grow_until_it_fails, NULL);
    assert_child_passed(&end);
}

int main(void)
{
    require_library();
    free(malloc(1)); /* what the library begins with is not of the allowance */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_program_goes_on_after_running_out_of_small_blocks),
        cmocka_unit_test(the_program_goes_on_after_running_out_of_large_blocks),
        cmocka_unit_test(the_program_goes_on_after_running_out_of_huge_blocks),
        cmocka_unit_test(nearly_all_of_rlimit_data_is_to_be_had),
        cmocka_unit_test(memory_freed_in_one_size_serves_another),
        cmocka_unit_test(a_thread_may_begin_when_there_is_no_memory),
        cmocka_unit_test(a_block_that_can_grow_no_more_is_left_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
