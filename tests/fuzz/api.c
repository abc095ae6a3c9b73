/* The API from bytes, for libFuzzer: the input is a program for up to four threads, which get,
 * check, resize, pass on and give back blocks at the same time, while the kernel may refuse. Every
 * block is filled to its last usable byte, and checked before it is resized or given back.
 *
 *   input   a byte: threads, and whether they run at once or one after another; then operations of
 *           four bytes, dealt to the threads in turn: what, slot, two of size
 *
 * tests/fuzz/api.sh builds it with the library under other names (EBB_PREFIXED).
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "older.h"
#include "os.h"

void *ebb_malloc(size_t size);
void *ebb_calloc(size_t count, size_t size);
void *ebb_realloc(void *pointer, size_t size);
void *ebb_reallocarray(void *pointer, size_t count, size_t size);
void *ebb_memalign(size_t alignment, size_t size);
int ebb_posix_memalign(void **pointer, size_t alignment, size_t size);
void ebb_free(void *pointer);
void ebb_free_sized(void *pointer, size_t size);
size_t ebb_malloc_usable_size(void *pointer);
int ebb_malloc_trim(size_t pad);
struct mallinfo2 ebb_mallinfo2(void);

enum { THREADS = 4, SLOTS = 64, SHELVES = 16, OPERATION = 4 };

#define LIVE_MOST (128 * MiB)

struct block {
    unsigned char *start; /* NULL: none */
    size_t size, usable;  /* asked for; filled */
    uint64_t tag;
};

struct worker {
    const uint8_t *input;
    size_t count, first, step; /* operations: which are this worker's */
    struct block slots[SLOTS];
    uint64_t serial;
};

static struct worker workers[THREADS];
static struct block *_Atomic shelves[SHELVES]; /* where blocks are passed on */
static _Atomic size_t live;
static _Atomic int refusals; /* of the kernel, yet to come */

#define require(condition) ((condition) ? (void)0 : fail(__LINE__, #condition))

static _Noreturn void fail(int line, const char *what)
{
    fprintf(stderr, "api.c:%d: not so: %s\n", line, what);
    abort();
}

static bool refuse(enum os_call call)
{
    (void)call;
    return atomic_load(&refusals) > 0 && atomic_fetch_sub(&refusals, 1) > 0;
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

/* What is far from both ends of a large block is looked at in steps. */
static size_t next_offset(size_t offset, size_t size)
{
    bool is_near = offset < 1024 || offset + 256 > size;
    return offset + (is_near ? 1 : size < 64 * KiB ? 61 : 4099);
}

static unsigned char byte_of(const struct block *block, size_t offset)
{
    return (unsigned char)((block->tag + offset) * 0x9e3779b97f4a7c15u >> 56);
}

static void fill(struct block *block, size_t from)
{
    for (size_t i = from; i < block->usable; i = next_offset(i, block->usable))
        block->start[i] = byte_of(block, i);
}

/* Up to size: what a resized block keeps; was: how much had been filled. */
static void check(const struct block *block, const unsigned char *start, size_t size, size_t was)
{
    for (size_t i = 0; i < was; i = next_offset(i, was))
        if (i < size)
            require(start[i] == byte_of(block, i));
}

static bool has_room(size_t size)
{
    return atomic_load(&live) + size <= LIVE_MOST;
}

static void hold(struct worker *worker, struct block *slot, void *start, size_t size,
                 size_t alignment)
{
    if (start == NULL) {
        require(errno == ENOMEM);
        return;
    }
    require((uintptr_t)start % alignment == 0);
    *slot = (struct block){.start = start,
                           .size = size,
                           .usable = ebb_malloc_usable_size(start),
                           .tag = (uint64_t)(worker - workers + 1) << 56 | ++worker->serial};
    require(slot->usable >= size);
    atomic_fetch_add(&live, slot->usable);
    fill(slot, 0);
}

static void drop(struct block *slot, bool sized)
{
    if (slot->start == NULL)
        return;
    check(slot, slot->start, slot->usable, slot->usable);
    atomic_fetch_sub(&live, slot->usable);
    errno = 4711;
    if (sized)
        ebb_free_sized(slot->start, slot->size);
    else
        ebb_free(slot->start);
    require(errno == 4711);
    slot->start = NULL;
}

static void resize(struct block *slot, size_t size, bool as_array)
{
    if (slot->start == NULL || size == 0)
        return;
    check(slot, slot->start, slot->usable, slot->usable);
    errno = 0;
    unsigned char *start =
        as_array ? ebb_reallocarray(slot->start, 1, size) : ebb_realloc(slot->start, size);
    if (start == NULL) {
        require(errno == ENOMEM && size > slot->usable);
        check(slot, slot->start, slot->usable, slot->usable);
        return;
    }
    /* Bytes beyond what was asked for need not move along. */
    size_t kept = min_size(slot->size, size);
    check(slot, start, kept, slot->usable);
    atomic_fetch_sub(&live, slot->usable);
    slot->start = start;
    slot->size = size;
    slot->usable = ebb_malloc_usable_size(start);
    require(slot->usable >= size);
    atomic_fetch_add(&live, slot->usable);
    fill(slot, 0);
}

/* Puts the block on a shelf and takes what lies there: another thread's, perhaps. The record is a
 * block itself. */
static void pass_on(struct block *slot, unsigned shelf)
{
    struct block *mine = NULL;
    if (slot->start != NULL && (mine = ebb_malloc(sizeof *mine)) != NULL)
        *mine = *slot;
    if (mine != NULL)
        slot->start = NULL;
    struct block *theirs = atomic_exchange(&shelves[shelf % SHELVES], mine);
    if (theirs == NULL)
        return;
    if (slot->start != NULL)
        drop(slot, false);
    *slot = *theirs;
    ebb_free(theirs);
}

/* ---- Operations ------------------------------------------------------------------------------ */

/* 0 to 14 MiB: eight steps between powers of two. */
static size_t size_of(const uint8_t *bytes)
{
    unsigned exponent = bytes[0] & 31;
    size_t base = exponent > 20 ? exponent - 20 : (size_t)(8 | bytes[0] >> 5) << exponent;
    return base + (exponent > 20 ? (size_t)bytes[1] * (bytes[0] >> 5) : bytes[1] % 17);
}

static void get(struct worker *worker, struct block *slot, unsigned how, size_t size)
{
    if (!has_room(size))
        return;
    drop(slot, false);
    errno = 0;
    size_t alignment = (size_t)16 << (size % 11);
    void *start = NULL;
    switch (how) {
    case 0:
        hold(worker, slot, ebb_malloc(size), size, 16);
        break;
    case 1:
        start = ebb_calloc(size, 1);
        for (size_t i = 0; start != NULL && i < size; i = next_offset(i, size))
            require(((unsigned char *)start)[i] == 0);
        hold(worker, slot, start, size, 16);
        break;
    case 2:
        hold(worker, slot, ebb_memalign(alignment, size), size, alignment);
        break;
    default:
        if (ebb_posix_memalign(&start, alignment, size) != 0)
            errno = ENOMEM;
        hold(worker, slot, start, size, alignment);
    }
}

static void do_operation(struct worker *worker, const uint8_t *bytes)
{
    struct block *slot = &worker->slots[bytes[1] % SLOTS];
    size_t size = size_of(bytes + 2);
    switch (bytes[0] % 16) {
    case 0 ... 3:
        get(worker, slot, bytes[0] % 4, size);
        break;
    case 4 ... 6:
        drop(slot, bytes[0] % 16 == 6);
        break;
    case 7 ... 8:
        if (has_room(size))
            resize(slot, size, bytes[0] % 16 == 8);
        break;
    case 9 ... 10:
        pass_on(slot, bytes[2]);
        break;
    case 11:
        if (bytes[2] % 16 == 0)
            ebb_malloc_trim(0);
        break;
    case 12:
        if (bytes[2] % 16 == 0)
            require(ebb_mallinfo2().uordblks <= ebb_mallinfo2().arena + ebb_mallinfo2().hblkhd);
        break;
    case 13:
        if (bytes[2] % 4 == 0)
            atomic_store(&refusals, bytes[3] % 8);
        break;
    case 14: /* many of one size */
        for (unsigned i = 0; i < SLOTS && size <= 4096; i++)
            get(worker, &worker->slots[i], 0, size);
        break;
    default: /* and back, every other one or all */
        for (unsigned i = 0; i < SLOTS; i += 1 + bytes[2] % 2)
            drop(&worker->slots[i], false);
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    for (size_t i = worker->first; i < worker->count; i += worker->step)
        do_operation(worker, worker->input + i * OPERATION);
    return NULL;
}

static void end(void)
{
    atomic_store(&refusals, 0);
    for (unsigned i = 0; i < THREADS; i++)
        for (unsigned j = 0; j < SLOTS; j++)
            drop(&workers[i].slots[j], false);
    for (unsigned i = 0; i < SHELVES; i++) {
        struct block *left = atomic_exchange(&shelves[i], NULL);
        if (left != NULL)
            drop(left, false);
        ebb_free(left);
    }
    require(atomic_load(&live) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (size < 1 + OPERATION)
        return 0;
    os_refuse = refuse;
    size_t threads = 1 + input[0] % THREADS;
    bool at_once = (input[0] & 8) != 0;
    pthread_t ids[THREADS];
    for (size_t i = 0; i < threads; i++) {
        workers[i].input = input + 1;
        workers[i].count = (size - 1) / OPERATION;
        workers[i].first = i;
        workers[i].step = threads;
        if (pthread_create(&ids[i], NULL, work, &workers[i]) != 0) {
            threads = i; /* the machine's limit is no finding */
            break;
        }
        if (!at_once)
            pthread_join(ids[i], NULL);
    }
    for (size_t i = 0; i < threads && at_once; i++)
        pthread_join(ids[i], NULL);
    end();
    return 0;
}
