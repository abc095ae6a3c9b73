#define _GNU_SOURCE
#include "exhaust.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const size_t sizes[] = {48, 1000, 5000, 65000, MiB - 100, 10 * MiB, 48, 40 * MiB};
#define SIZES (sizeof sizes / sizeof sizes[0])
#define STACK_BYTES (256 * KiB)

/* What may be refused early: two chunks of the allocator (32 MiB each, and aligned to that), a
 * stack that the C library keeps for its next thread, and an eighth for rounding to size classes.
 */
#define GRAIN_BYTES (64 * MiB + 8 * MiB)

static size_t promised_bytes(size_t limit, size_t size)
{
    return (limit - GRAIN_BYTES - size) / 8 * 7;
}

/* A thread that was started before the limit and has never allocated: it waits for one block. */
struct helper {
    pthread_t thread;
    sem_t start;
    struct parcel *parcel;
    size_t size;
};

static const char *limit_name;
static size_t limit_bytes;
static enum limit_kind limit_kind;
static size_t data_at_start;
static struct parcel **table; /* the live blocks, in no order */
static size_t table_capacity, count;
static struct helper helpers[SIZES];
static void *spare_stack;

/* The compiler may drop a pair of malloc and free whose result nobody uses; not through this. */
static void *volatile seen;

/* A promise about amounts, which holds when nobody else draws on the limit. */
#define AMOUNT_BROKEN(...)                                                                         \
    (limit_kind == LIMIT_OF_PROCESS ? promise_broken(__VA_ARGS__) : report(__VA_ARGS__))

static void require_enomem(const char *call, size_t size)
{
    if (errno != ENOMEM)
        fail("%s: %s of %zu bytes returned NULL with errno %d, expected ENOMEM", limit_name, call,
             size, errno);
}

/* ---- while there is no memory -------------------------------------------------------------------
 */

static void refused_or_freed(const char *call, void *result, size_t size)
{
    seen = result;
    if (result == NULL)
        require_enomem(call, size);
    free(result);
}

static void *help(void *argument)
{
    struct helper *helper = argument;
    while (sem_wait(&helper->start) != 0)
        continue;
    if (helper->parcel == NULL)
        return NULL;
    parcel_end(helper->parcel, 1, "by a thread that never allocated, at the limit");
    errno = 0;
    refused_or_freed("malloc in a new thread", malloc(helper->size), helper->size);
    return NULL;
}

static void all_calls_refuse(size_t size, bool surely)
{
    void *untouched = &limit_bytes, *result = untouched;
    int (*align)(void **, size_t, size_t) = posix_memalign;
    void *results[3];
    errno = 0;
    refused_or_freed("malloc", results[0] = malloc(size), size);
    errno = 0;
    refused_or_freed("calloc", results[1] = calloc(size / 16 + 1, 16), size);
    errno = 0;
    refused_or_freed("aligned_alloc", results[2] = aligned_alloc(64, size), size);
    int error = align(&result, 64, size);
    if (error != 0 && (error != ENOMEM || result != untouched))
        fail("%s: posix_memalign of %zu bytes returned %d and %s its result", limit_name, size,
             error, result == untouched ? "kept" : "changed");
    if (error == 0)
        free(result);
    for (unsigned i = 0; i < 3; i++)
        if (surely && results[i] != NULL)
            fail("%s: %zu bytes were handed out, far over the limit", limit_name, size);
    if (surely && error == 0)
        fail("%s: posix_memalign handed out %zu bytes, far over the limit", limit_name, size);
}

/* The block of an entry cannot grow and stays as it is; or it can, and is then made small again. */
static void grow(size_t entry, size_t size, bool surely)
{
    struct parcel *parcel = table[entry];
    size_t old_size = parcel->size;
    errno = 0;
    struct parcel *grown = realloc(parcel, size);
    if (grown == NULL) {
        require_enomem("realloc", size);
        parcel_check(table[entry], 0, "after realloc refused to grow it");
        return;
    }
    if (surely)
        fail("%s: realloc gave %zu bytes, far over the limit", limit_name, size);
    parcel_write(grown, old_size, 0);
    table[entry] = grown;
}

static void at_the_limit(unsigned turn, size_t size)
{
    all_calls_refuse(size, false);
    all_calls_refuse(4 * limit_bytes, true);
    grow(0, size * 2, false);
    grow(0, 4 * limit_bytes, true);
    helpers[turn].parcel = table[--count];
    helpers[turn].size = size;
    sem_post(&helpers[turn].start);
    pthread_join(helpers[turn].thread, NULL);
}

/* ---- one size
 * ------------------------------------------------------------------------------------ */

static size_t allocate_all(size_t size)
{
    size_t before = count;
    for (;;) {
        if (count == table_capacity && limit_kind == LIMIT_OF_MACHINE) {
            report("SKIPPED: others gave back more than the limit meanwhile");
            _exit(77);
        }
        if (count == table_capacity)
            fail("%s: %zu blocks of %zu bytes, twice the limit: it is not in force", limit_name,
                 count, size);
        errno = 0;
        struct parcel *parcel = parcel_try(size, 0);
        if (parcel == NULL)
            break;
        table[count++] = parcel;
    }
    require_enomem("malloc", size);
    return count - before;
}

/* Frees the last third, so that whole spans and runs become free, and every second of the rest, so
 * that others become half free. */
static void free_some(void)
{
    size_t kept = 0, from = count / 3 * 2;
    for (size_t i = 0; i < count; i++) {
        if (i < from && i % 2 == 0)
            table[kept++] = table[i];
        else
            parcel_end(table[i], 0, "freed at the limit");
    }
    count = kept;
}

static void *exercise(void *argument)
{
    size_t size = *(size_t *)argument;
    struct parcel *parcel = parcel_try(size, 2);
    if (parcel == NULL)
        AMOUNT_BROKEN("%s: a thread started after blocks were freed gets none of %zu bytes",
                      limit_name, size);
    else
        parcel_end(parcel, 2, "in a thread started at the limit");
    return NULL;
}

static void run_thread(void *stack, size_t size, const char *when)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack != NULL && pthread_attr_setstack(&attributes, stack, STACK_BYTES) != 0)
        fail("pthread_attr_setstack");
    pthread_t thread;
    int error = pthread_create(&thread, &attributes, exercise, &size);
    if (error != 0)
        AMOUNT_BROKEN("%s: no thread can be started %s: %s", limit_name, when, strerror(error));
    else
        pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

static void refill(size_t wanted, size_t size)
{
    size_t before = count;
    while (count - before < wanted) {
        struct parcel *parcel = parcel_try(size, 0);
        if (parcel == NULL)
            break;
        table[count++] = parcel;
    }
    if (count - before < wanted)
        AMOUNT_BROKEN("%s: after %zu blocks of %zu bytes were freed, only %zu can be had again",
                      limit_name, wanted, size, count - before);
}

static void free_all(void)
{
    while (count > 0)
        parcel_end(table[--count], 0, "at the end of a size");
}

/* The kernel charges for writable private memory, used or not. A third over what the program has is
 * for rounding to classes and for tables; a chunk or two may just have been begun. */
static void require_fair_charge(size_t asked)
{
    size_t charged = data_bytes() - data_at_start, fair = asked / 3 * 4 + 64 * MiB;
    if (charged > fair)
        promise_broken("%s: %zu bytes of blocks are charged as %zu, bound %zu", limit_name, asked,
                       charged, fair);
}

static void exhaust_size(unsigned turn, size_t size)
{
    size_t got = allocate_all(size);
    report("%-15s %9zu bytes: refused after %3.0f %% of the limit", limit_name, size,
           100.0 * (double)got * (double)size / (double)limit_bytes);
    if (got * size < promised_bytes(limit_bytes, size))
        AMOUNT_BROKEN("%s: malloc(%zu) refused after %zu blocks, %zu of %zu bytes: too early",
                      limit_name, size, got, got * size, limit_bytes);
    require_fair_charge(got * size);
    if (count == 0 && limit_kind == LIMIT_OF_MACHINE)
        return;
    if (count == 0)
        fail("%s: not one block of %zu bytes to be had", limit_name, size);
    at_the_limit(turn, size);
    size_t full = count;
    free_some();
    run_thread(spare_stack, size, "after some blocks were freed");
    refill(full - count, size);
    free_all();
    malloc_trim(0);
    run_thread(NULL, size, "after all was freed and trimmed");
}

static void start_helper(struct helper *helper)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sem_init(&helper->start, 0, 0);
    if (pthread_create(&helper->thread, &attributes, help, helper) != 0)
        fail("pthread_create");
}

void exhaust_prepare(size_t bytes)
{
    limit_bytes = bytes;
    table_capacity = (2 * bytes / sizes[0] / MiB + 1) * MiB;
    table = mmap(NULL, table_capacity * sizeof *table, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    spare_stack =
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED || spare_stack == MAP_FAILED)
        fail("no memory for tables");
    for (unsigned i = 0; i < SIZES; i++)
        start_helper(&helpers[i]);
}

void exhaust(const char *name, enum limit_kind kind)
{
    limit_name = name;
    limit_kind = kind;
    data_at_start = data_bytes();
    for (unsigned i = 0; i < SIZES; i++)
        exhaust_size(i, sizes[i]);
}
