/* attacks: what a program must not do with memory, done, each in a process of its own, and what
 * becomes of it.
 *
 *   attacks                the test: on the library as it is and with EBBMALLOC_HARDEN=1, each must
 *                          end as the table at the end says
 *   attacks --outcomes     one line for each, on whatever malloc is preloaded: name, tab, outcome,
 * tab, what it is
 *
 * An attack that is done with and was not noticed looks whether the allocator was led astray: it
 * handed out memory twice, or that of somebody else. What the attacker wrote into other blocks of
 * the program does not count as that.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS 20

/* What an attack's process says by its exit status. */
enum { UNNOTICED = 0, REFUSED = 10, ASTRAY = 11, ABSENT = 12 };

/* What the compiler must know nothing about. */
static void *volatile hidden_pointer;
static volatile size_t hidden_size;

static char *hide(const void *pointer)
{
    hidden_pointer = (void *)pointer;
    return hidden_pointer;
}

static size_t hide_size(size_t size)
{
    hidden_size = size;
    return hidden_size;
}

static char *get(size_t size)
{
    char *block = hide(malloc(size));
    if (block == NULL)
        _exit(ABSENT);
    memset(block, 'x', size);
    return block;
}

/* ---- Blocks side by side, and blocks twice --------------------------------------------------- */

enum { MANY = 600 };
static char *blocks[MANY];

static size_t how_many(size_t size)
{
    return size <= 1024 ? MANY : size <= 32768 ? 100 : size <= 1 << 20 ? 16 : 4;
}

static void get_many(size_t size)
{
    for (size_t i = 0; i < how_many(size); i++)
        blocks[i] = get(size);
}

/* Ends the process when two of the blocks overlap, or one lies in target. */
static void look_for_doubles(size_t size, const char *target)
{
    size_t count = how_many(size);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++)
            if (blocks[i] < blocks[j] + size && blocks[j] < blocks[i] + size)
                _exit(ASTRAY);
        if (target != NULL && blocks[i] <= target && target < blocks[i] + size)
            _exit(ASTRAY);
    }
}

/* What a program does next: it takes memory, also after the caches have been emptied. */
static void go_on(size_t size)
{
    for (int round = 0; round < 2; round++) {
        get_many(size);
        look_for_doubles(size, NULL);
        for (size_t i = 0; i < how_many(size); i++)
            free(blocks[i]);
        malloc_trim(0);
    }
}

/* Two of many blocks that lie side by side, or as near as there are. */
static void get_neighbours(size_t size, char **before, char **after)
{
    size_t nearest = SIZE_MAX;
    get_many(size);
    for (size_t i = 0; i < how_many(size); i++)
        for (size_t j = 0; j < how_many(size); j++)
            if (blocks[i] < blocks[j] && (size_t)(blocks[j] - blocks[i]) < nearest) {
                nearest = (size_t)(blocks[j] - blocks[i]);
                *before = blocks[i];
                *after = blocks[j];
            }
}

/* ---- Writes beyond the ends ------------------------------------------------------------------ */

static void beyond_end(size_t size, size_t excess, int byte)
{
    char *before, *after;
    get_neighbours(size, &before, &after);
    memset(hide(before + size), byte, excess);
    free(before);
    free(after);
    go_on(size);
}

static void end_by_one(size_t size)
{
    beyond_end(size, 1, 'A');
}

static void end_by_one_zero(size_t size)
{
    beyond_end(size, 1, 0);
}

static void end_by_32(size_t size)
{
    beyond_end(size, 32, 'A');
}

/* Noticed at the next call for the block that is not free, or never. */
static void end_then_realloc(size_t size)
{
    char *block = get(size);
    *hide(block + size) = 'A';
    hide(realloc(block, size + size / 8));
}

static void end_then_usable_size(size_t size)
{
    char *block = get(size);
    *hide(block + size) = 'A';
    hide_size(malloc_usable_size(block));
}

static void before_start(size_t size, size_t excess)
{
    char *before, *after;
    get_neighbours(size, &before, &after);
    /* Other bytes than were there: one in 256 is what is written anyhow. */
    for (size_t i = 1; i <= excess; i++)
        *hide(after - i) ^= 'A';
    free(after);
    go_on(size);
}

static void start_by_one(size_t size)
{
    before_start(size, 1);
}

static void start_by_32(size_t size)
{
    before_start(size, 32);
}

/* The block before it is free by then. Noticed at the free, or never. */
static void start_behind_a_free_block(size_t size)
{
    char *before, *after;
    get_neighbours(size, &before, &after);
    free(before);
    *hide(after - 1) ^= 'A';
    free(after);
}

/* As a copy without a bound does it. The block is not freed: nothing but the kernel can see it. */
static void far_beyond_end(size_t size)
{
    char *block = get(size);
    memset(hide(block + size), 'A', 1 << 20);
}

static void far_beyond_end_after_a_refusal(size_t size)
{
    char *block = get(size);
    setrlimit(RLIMIT_AS, &(struct rlimit){0, 0});
    if (realloc(block, hide_size((size_t)1 << 30)) != NULL)
        _exit(ABSENT);
    memset(hide(block + size), 'A', 1 << 20);
}

/* As it was before, there would be room. */
static void beyond_end_of_the_shortened(size_t size)
{
    char *block = realloc(get(size * 8), size);
    if (block == NULL)
        _exit(ABSENT);
    memset(hide(block + size), 'A', 1 << 16);
}

/* ---- Second frees ---------------------------------------------------------------------------- */

/* Noticed at once, or never. */
static void twice_at_once(size_t size)
{
    char *block = get(size);
    free(block);
    free(hide(block));
}

static void twice_with_another_between(size_t size)
{
    char *first = get(size), *second = get(size);
    free(first);
    free(second);
    free(hide(first));
    go_on(size);
}

static void twice_late(size_t size)
{
    char *block = get(size);
    get_many(size);
    free(block);
    for (size_t i = 0; i < how_many(size); i++)
        free(blocks[i]);
    free(hide(block));
    go_on(size);
}

/* One stays, so that what held the block is not given back as a whole. */
static void twice_after_trim(size_t size)
{
    get_many(size);
    for (size_t i = 1; i < how_many(size); i++)
        free(blocks[i]);
    malloc_trim(0);
    free(hide(blocks[1]));
    go_on(size);
}

/* The cache has room again by then. */
static void twice_after_trim_into_a_cache(size_t size)
{
    get_many(size);
    for (size_t i = 1; i < how_many(size); i++)
        free(blocks[i]);
    malloc_trim(0);
    free(get(size));
    free(hide(blocks[how_many(size) - 1]));
    go_on(size);
}

/* It would be among those that are taken if it did not wait. */
static void twice_many_taken_between(size_t size)
{
    char *block = get(size), *other = get(size);
    free(block);
    free(other);
    get_many(size);
    free(hide(block));
    go_on(size);
}

static void *free_it(void *block)
{
    free(block);
    return NULL;
}

static void twice_by_two_threads(size_t size)
{
    char *block = get(size);
    pthread_t thread;
    if (pthread_create(&thread, NULL, free_it, block) != 0)
        _exit(ABSENT);
    pthread_join(thread, NULL);
    free(hide(block));
    go_on(size);
}

/* The first one has it in its cache still. */
static void twice_and_the_second_by_another(size_t size)
{
    char *block = get(size);
    pthread_t thread;
    free(block);
    if (pthread_create(&thread, NULL, free_it, hide(block)) != 0)
        _exit(ABSENT);
    pthread_join(thread, NULL);
    go_on(size);
}

/* The block belongs to somebody else by the second time, and he frees it, too. */
static void twice_when_reused(size_t size)
{
    char *block = get(size), *others = NULL;
    free(block);
    for (int tries = 0; tries < 64 && others != block; tries++)
        others = get(size);
    if (others != block)
        _exit(REFUSED); /* it is not to be had so soon */
    free(hide(block));
    free(hide(others));
    go_on(size);
}

/* With its end as it was before, a free block looks like a live one. Noticed at once, or never. */
static void realloc_of_the_freed(size_t size)
{
    static char kept[8192];
    char *block, *after;
    get_neighbours(size, &block, &after);
    size_t room = (size_t)(after - block);
    if (room > sizeof kept)
        _exit(ABSENT);
    memcpy(kept, hide(block), room);
    free(block);
    memcpy(hide(block), kept, room);
    hide(realloc(block, size));
}

/* ---- Frees of what is no block --------------------------------------------------------------- */

static void of_the_stack(size_t size)
{
    char local[256] __attribute__((aligned(64)));
    free(get(size));
    memset(local, 0, sizeof local);
    free(hide(local + 64));
    go_on(size);
}

static void of_code(size_t size)
{
    free(get(size));
    free(hide((const void *)((uintptr_t)of_the_stack & ~(uintptr_t)15)));
    go_on(size);
}

static void of_static_data(size_t size)
{
    static char data[256] __attribute__((aligned(64)));
    free(get(size));
    free(hide(data + 64));
    go_on(size);
}

static void of_a_mapping(size_t size)
{
    char *mapping = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    free(get(size));
    free(hide(mapping + 4096));
    go_on(size);
}

/* A block that looks like one of glibc's, on the stack. */
static void of_a_forged_block(size_t size)
{
    size_t forged[64] __attribute__((aligned(64))) = {0};
    free(get(size));
    forged[1] = forged[9] = 0x41;
    free(hide(&forged[2]));
    char *next = get(0x38);
    if (next == (char *)&forged[2])
        _exit(ASTRAY);
    go_on(size);
}

static void misaligned(size_t size)
{
    char *block = get(size);
    free(hide(block + 8));
    go_on(size);
}

static void of_the_middle(size_t size)
{
    char *block = get(size);
    free(hide(block + size / 2 / 16 * 16));
    for (size_t i = 0; i < how_many(size); i++) {
        blocks[i] = get(size);
        if (blocks[i] < block + size && block < blocks[i] + size)
            _exit(ASTRAY);
    }
    malloc_trim(0);
    go_on(size);
}

/* ---- Writes after free ----------------------------------------------------------------------- */

/* Where the attacker would have malloc lead to. */
static char target[65536] __attribute__((aligned(64)));

static void after_free(size_t size, const uintptr_t words[2])
{
    char *block = get(size), *other = get(size);
    free(other);
    free(block);
    memcpy(hide(block), words, 2 * sizeof *words);
    get_many(size);
    look_for_doubles(size, target + 64);
    for (size_t i = 0; i < how_many(size); i++)
        free(blocks[i]);
    malloc_trim(0);
    go_on(size);
}

/* Of every second block: so the allocator has no reason to give all their memory back. */
static void all_of_free_blocks(size_t size)
{
    get_many(size);
    for (size_t i = 0; i < how_many(size); i += 2)
        free(blocks[i]);
    for (size_t i = 0; i < how_many(size); i += 2)
        memset(hide(blocks[i]), 'A', size);
    go_on(size);
}

/* An address in the first word, as lists of free blocks have it. */
static void address_into_a_free_block(size_t size)
{
    after_free(size, (uintptr_t[]){(uintptr_t)(target + 64), 0});
}

/* The same as glibc hides it, by one who knows where the heap is. */
static void hidden_address_into_a_free_block(size_t size)
{
    char *block = get(size), *other = get(size);
    free(other);
    free(block);
    uintptr_t word = (uintptr_t)(target + 64) ^ (uintptr_t)block >> 12;
    memcpy(hide(block), &word, sizeof word);
    get_many(size);
    look_for_doubles(size, target + 64);
    go_on(size);
}

enum { NEWCOMERS = 24 };
static pthread_barrier_t turn;

/* Has had nothing until the blocks are gone. */
static void *begin_late(void *argument)
{
    void *mine[64];
    pthread_barrier_wait(&turn);
    for (size_t i = 0; i < 64; i++)
        mine[i] = malloc(16 + 40 * i);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    for (size_t i = 0; i < 64; i++)
        free(mine[i]);
    return argument;
}

/* How many bytes could be written: where nothing is now, the kernel says so. */
static size_t write_all_over(char *block, size_t size)
{
    static char junk[4096];
    size_t written = 0;
    memset(junk, 'A', sizeof junk);
    for (size_t at = 0; at < size; at += sizeof junk) {
        struct iovec from = {junk, sizeof junk}, to = {block + at, sizeof junk};
        written += process_vm_writev(getpid(), &from, 1, &to, 1, 0) == (ssize_t)sizeof junk
                       ? sizeof junk
                       : 0;
    }
    return written;
}

/* The kernel has their addresses; threads that begin then need memory of all kinds. */
static void all_of_blocks_given_back(size_t size)
{
    pthread_t threads[NEWCOMERS];
    pthread_barrier_init(&turn, NULL, NEWCOMERS + 1);
    for (int i = 0; i < NEWCOMERS; i++)
        if (pthread_create(&threads[i], NULL, begin_late, NULL) != 0)
            _exit(ABSENT);
    get_many(size);
    if (write_all_over(blocks[0], size) != size)
        _exit(ABSENT); /* nor could be done what the attack is */
    for (size_t i = 0; i < how_many(size); i++)
        free(blocks[i]);
    malloc_trim(0);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    for (size_t i = 0; i < how_many(size); i++)
        write_all_over(blocks[i], size);
    pthread_barrier_wait(&turn);
    for (int i = 0; i < NEWCOMERS; i++)
        pthread_join(threads[i], NULL);
    go_on(size);
}

/* ---- Sizes ----------------------------------------------------------------------------------- */

static void *find_operator(const char *name)
{
    if (dlsym(RTLD_DEFAULT, name) == NULL)
        dlopen("libstdc++.so.6", RTLD_NOW | RTLD_GLOBAL);
    void *found = dlsym(RTLD_DEFAULT, name);
    if (found == NULL)
        _exit(ABSENT);
    return found;
}

static void delete_of_size(size_t size, size_t wrong)
{
    void *(*new)(size_t) = (void *(*)(size_t))find_operator("_Znwm");
    void (*delete)(void *, size_t) = (void (*)(void *, size_t))find_operator("_ZdlPvm");
    char *block = hide(new (size)), *other = hide(new (size));
    memset(other, 'x', size);
    delete (block, wrong);
    for (size_t i = 0; i < how_many(wrong); i++) {
        blocks[i] = get(wrong);
        if (blocks[i] < other + size && other < blocks[i] + wrong)
            _exit(ASTRAY);
    }
    look_for_doubles(wrong, NULL);
    malloc_trim(0);
    go_on(size);
}

static void delete_of_a_smaller_size(size_t size)
{
    delete_of_size(size, size / 4);
}

static void delete_of_a_larger_size(size_t size)
{
    delete_of_size(size, size * 4);
}

static void delete_of_a_wrong_size_aligned(size_t size)
{
    void *(*new)(size_t, size_t) = (void *(*)(size_t, size_t))find_operator("_ZnwmSt11align_val_t");
    void (*delete)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))find_operator("_ZdlPvmSt11align_val_t");
    delete (hide(new (size, 256)), size * 2, 256);
    go_on(size);
}

static void delete_of_the_stack(size_t size)
{
    void (*delete)(void *, size_t) = (void (*)(void *, size_t))find_operator("_ZdlPvm");
    char local[8192] __attribute__((aligned(64)));
    memset(local, 0, sizeof local);
    free(get(size));
    delete (hide(local), size);
    get_many(size);
    look_for_doubles(size, local);
}

static void sizes_that_wrap(size_t size)
{
    void *aligned = NULL;
    char *block = get(size);
    for (size_t less = 0; less < 4096; less += less < 64 ? 1 : 64)
        if (malloc(hide_size(SIZE_MAX - less)) != NULL ||
            realloc(block, hide_size(SIZE_MAX - less)) != NULL ||
            memalign(64, hide_size(SIZE_MAX - less)) != NULL ||
            posix_memalign(&aligned, 4096, hide_size(SIZE_MAX - less)) == 0)
            _exit(ASTRAY);
    if (calloc(hide_size(SIZE_MAX / 2 + 2), 2) != NULL ||
        calloc((size_t)1 << 33, hide_size((size_t)1 << 33)) != NULL ||
        reallocarray(block, hide_size(SIZE_MAX / 16 + 2), 16) != NULL)
        _exit(ASTRAY);
    go_on(size);
    _exit(REFUSED);
}

/* ---- The table ------------------------------------------------------------------------------- */

/* How it must end: in any way but ASTRAY, or stopped, with a line or also by a fault. */
enum end { ANY, SOUND, STOPPED, STOPPED_OR_FAULT, IS_REFUSED };

#define SMALL 24, 100, 1000, 5000
#define PAGES 100000, 8 << 20

static const struct attack {
    const char *name, *what;
    void (*run)(size_t size);
    enum end by_default, hardened;
    size_t sizes[8];
} attacks[] = {
    {"end-1", "one byte beyond the end, then free", end_by_one, ANY, STOPPED, {SMALL, PAGES}},
    {"end-0", "one zero beyond the end, then free", end_by_one_zero, ANY, STOPPED, {SMALL, PAGES}},
    {"end-32", "32 bytes beyond the end, then free", end_by_32, ANY, STOPPED, {SMALL, PAGES}},
    {"end-far", "1 MiB beyond the end", far_beyond_end, ANY, STOPPED_OR_FAULT, {SMALL, 100000}},
    {"end-refused",
     "the same, when a realloc was refused",
     far_beyond_end_after_a_refusal,
     ANY,
     STOPPED_OR_FAULT,
     {100000}},
    {"end-shortened",
     "64 KiB beyond the end of what realloc has shortened",
     beyond_end_of_the_shortened,
     ANY,
     STOPPED_OR_FAULT,
     {100000}},
    {"end-realloc",
     "one byte beyond the end, then realloc",
     end_then_realloc,
     ANY,
     STOPPED,
     {SMALL, PAGES}},
    {"end-usable",
     "one byte beyond the end, then malloc_usable_size",
     end_then_usable_size,
     ANY,
     STOPPED,
     {SMALL, PAGES}},
    {"start-1", "one byte before the start, then free", start_by_one, ANY, STOPPED, {SMALL}},
    {"start-32", "32 bytes before the start, then free", start_by_32, ANY, STOPPED, {SMALL}},
    {"start-32-pages", "the same, of large blocks", start_by_32, ANY, SOUND, {PAGES}},
    {"start-free",
     "one byte before the start, the block there free",
     start_behind_a_free_block,
     ANY,
     STOPPED,
     {SMALL}},
    {"twice-at-once", "free twice in a row", twice_at_once, STOPPED, STOPPED, {SMALL, PAGES}},
    {"twice-other",
     "free twice, another between",
     twice_with_another_between,
     ANY,
     STOPPED,
     {SMALL}},
    {"twice-other-pages",
     "the same, of large blocks",
     twice_with_another_between,
     STOPPED,
     STOPPED,
     {PAGES}},
    {"twice-late", "free twice, many others between", twice_late, STOPPED, STOPPED, {SMALL, PAGES}},
    {"twice-trim",
     "free twice, malloc_trim between",
     twice_after_trim,
     STOPPED,
     STOPPED,
     {SMALL, PAGES}},
    {"twice-trim-cache",
     "the same, with room in the cache again",
     twice_after_trim_into_a_cache,
     ANY,
     STOPPED,
     {SMALL, PAGES}},
    {"twice-taken",
     "free twice, many others taken between",
     twice_many_taken_between,
     ANY,
     STOPPED,
     {SMALL, PAGES}},
    {"twice-threads", "free by two threads", twice_by_two_threads, ANY, STOPPED, {SMALL, PAGES}},
    {"twice-another",
     "free twice, by another thread the second time",
     twice_and_the_second_by_another,
     ANY,
     STOPPED,
     {SMALL, PAGES}},
    {"twice-reused",
     "free twice, handed out between",
     twice_when_reused,
     ANY,
     SOUND,
     {SMALL, PAGES}},
    {"realloc-freed",
     "realloc of a free block whose end was put back",
     realloc_of_the_freed,
     ANY,
     STOPPED,
     {SMALL}},
    {"stack", "free of the stack", of_the_stack, STOPPED, STOPPED, {100}},
    {"code", "free of code", of_code, STOPPED, STOPPED, {100}},
    {"data", "free of static data", of_static_data, STOPPED, STOPPED, {100}},
    {"mapping", "free of the program's own mapping", of_a_mapping, STOPPED, STOPPED, {100}},
    {"forged", "free of a forged block", of_a_forged_block, STOPPED, STOPPED, {100}},
    {"misaligned",
     "free of a pointer 8 bytes further",
     misaligned,
     STOPPED,
     STOPPED,
     {SMALL, PAGES}},
    {"middle",
     "free of the middle of a block",
     of_the_middle,
     ANY,
     STOPPED,
     {100, 1000, 5000, PAGES}},
    {"after-all",
     "free blocks written all over, then malloc",
     all_of_free_blocks,
     SOUND,
     STOPPED,
     {SMALL}},
    {"after-pages",
     "the same, of large blocks",
     all_of_free_blocks,
     SOUND,
     STOPPED_OR_FAULT,
     {PAGES}},
    {"after-word",
     "an address written into a free block",
     address_into_a_free_block,
     SOUND,
     SOUND,
     {SMALL}},
    {"after-hidden",
     "the same, as glibc hides it",
     hidden_address_into_a_free_block,
     SOUND,
     SOUND,
     {SMALL}},
    {"after-gone",
     "the same, that the kernel has back, while threads begin",
     all_of_blocks_given_back,
     SOUND,
     SOUND,
     {8 << 20, 40 << 20}},
    {"delete-less",
     "delete with a smaller size",
     delete_of_a_smaller_size,
     SOUND,
     STOPPED,
     {SMALL}},
    {"delete-more", "delete with a larger size", delete_of_a_larger_size, SOUND, STOPPED, {SMALL}},
    {"delete-aligned",
     "aligned delete with a larger size",
     delete_of_a_wrong_size_aligned,
     ANY,
     STOPPED,
     {SMALL, PAGES}},
    {"delete-stack",
     "delete of the stack, with a size",
     delete_of_the_stack,
     STOPPED,
     STOPPED,
     {SMALL}},
    {"wrap", "sizes that wrap", sizes_that_wrap, IS_REFUSED, IS_REFUSED, {100}},
};
enum { ATTACKS = sizeof attacks / sizeof *attacks };

/* ---- Each in a process of its own ------------------------------------------------------------ */

enum outcome { OUT_STOPPED, OUT_FAULT, OUT_REFUSED, OUT_UNNOTICED, OUT_ASTRAY, OUT_ABSENT, OUTS };
static const char *const outcome_names[OUTS] = {"stopped",   "fault",  "refused",
                                                "unnoticed", "ASTRAY", "absent"};

static enum outcome outcome_of(int status)
{
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGABRT ? OUT_STOPPED : OUT_FAULT;
    switch (WEXITSTATUS(status)) {
    case UNNOTICED:
        return OUT_UNNOTICED;
    case REFUSED:
        return OUT_REFUSED;
    case ASTRAY:
        return OUT_ASTRAY;
    default:
        return OUT_ABSENT;
    }
}

/* The first line that it wrote is left in words. */
static enum outcome attempt(const struct attack *attack, size_t size, char *words, size_t room)
{
    int ends[2], status;
    char text[32];
    snprintf(text, sizeof text, "%zu", size);
    if (pipe2(ends, O_CLOEXEC) != 0)
        exit(99);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        execl("/proc/self/exe", "attacks", "--run", attack->name, text, (char *)NULL);
        _exit(99);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t more; length < room - 1; length += (size_t)more)
        if ((more = read(ends[0], words + length, room - 1 - length)) <= 0)
            break;
    words[length] = '\0';
    close(ends[0]);
    waitpid(child, &status, 0);
    return outcome_of(status);
}

static int run(const char *name, size_t size)
{
    alarm(SECONDS);
    for (int i = 0; i < ATTACKS; i++)
        if (strcmp(attacks[i].name, name) == 0)
            attacks[i].run(size);
    _exit(UNNOTICED); /* the handlers of exit may use what was damaged */
}

/* By size class, what came of it most to least; one word when it was always the same. */
static int print_outcomes(void)
{
    char words[512];
    for (int i = 0; i < ATTACKS; i++) {
        int counts[OUTS] = {0}, kinds = 0;
        for (const size_t *size = attacks[i].sizes; *size != 0; size++)
            counts[attempt(&attacks[i], *size, words, sizeof words)]++;
        printf("%s\t", attacks[i].name);
        for (int out = 0; out < OUTS; out++)
            kinds += counts[out] != 0;
        for (int out = 0, printed = 0; out < OUTS; out++) {
            if (counts[out] == 0)
                continue;
            printf("%s%s", printed++ != 0 ? ", " : "", outcome_names[out]);
            if (kinds > 1)
                printf(" %d", counts[out]);
        }
        printf("\t%s\n", attacks[i].what);
        fflush(stdout);
    }
    return 0;
}

static bool is_as_expected(enum end end, enum outcome outcome, const char *words)
{
    bool has_line = outcome != OUT_STOPPED || strncmp(words, "ebbmalloc: ", 11) == 0;
    bool good = end == ANY;
    if (end == SOUND)
        good = outcome != OUT_ASTRAY && outcome != OUT_FAULT;
    if (end == STOPPED)
        good = outcome == OUT_STOPPED;
    if (end == STOPPED_OR_FAULT)
        good = outcome == OUT_STOPPED || outcome == OUT_FAULT;
    if (end == IS_REFUSED)
        good = outcome == OUT_REFUSED;
    return good && has_line;
}

/* What only a guard page stops, or that a block of pages is out of reach for a while: neither is
 * there where an OS page is larger than a page of the library. */
static bool is_by_guard(const struct attack *attack, size_t size)
{
    return attack->run == far_beyond_end || attack->run == far_beyond_end_after_a_refusal ||
           (size == 100000 &&
            (attack->run == beyond_end_of_the_shortened ||
             attack->run == twice_many_taken_between || attack->run == all_of_free_blocks));
}

static int test(bool hardened)
{
    const bool has_guards = sysconf(_SC_PAGESIZE) <= 32768;
    int failed = 0;
    char words[512];
    setenv("EBBMALLOC_HARDEN", hardened ? "1" : "0", 1);
    /* However slow the machine is, no sweep comes between. */
    setenv("EBBMALLOC_PURGE_DELAY", "600000", 1);
    for (int i = 0; i < ATTACKS; i++) {
        enum end end = hardened ? attacks[i].hardened : attacks[i].by_default;
        for (const size_t *size = attacks[i].sizes; *size != 0; size++) {
            enum outcome outcome = attempt(&attacks[i], *size, words, sizeof words);
            bool matters = has_guards || !is_by_guard(&attacks[i], *size);
            if (outcome == OUT_ABSENT)
                printf("not to be had here: %s, %zu bytes\n", attacks[i].name, *size);
            if (is_as_expected(matters ? end : ANY, outcome, words))
                continue;
            failed++;
            printf("FAILED: %s, %zu bytes, %s: %s; %s\n", attacks[i].name, *size,
                   hardened ? "hardened" : "by default", outcome_names[outcome], words);
        }
    }
    return failed;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--run") == 0)
        return run(argv[2], strtoul(argv[3], NULL, 10));
    if (argc == 2 && strcmp(argv[1], "--outcomes") == 0)
        return print_outcomes();
    if (dlsym(RTLD_DEFAULT, "ebb_version") == NULL) {
        puts("the library is not preloaded");
        return 1;
    }
    int failed = test(false) + test(true);
    printf("%d attacks, %d ended otherwise than they must\n", ATTACKS, failed);
    return failed != 0;
}
