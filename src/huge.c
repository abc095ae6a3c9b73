#include "huge.h"

#include "lock.h"
#include "meta.h"
#include "os.h"
#include "pagemap.h"

/* What is kept of freed mappings, in bytes in all. */
#define KEEP_MOST (64 * MiB)

/* A kept mapping serves a request that it exceeds by at most this share. */
#define KEEP_EXCESS 8

/* How far the size of a block may stay above what realloc asked for, as a share of the block. */
#define SHRINK_SHARE 8

struct huge {
    char *start;
    size_t size;                  /* bytes that were asked for, in whole OS pages */
    size_t mapped;                /* bytes; more than size where a kept mapping was larger */
    struct huge *next_here;       /* live: the next that begins in the same 32 MiB */
    struct huge *next, *previous; /* in the list of live or of kept blocks, the newest first */
    uint64_t freed_ms;
};

struct list {
    struct huge *first;
    size_t count, bytes;
};

static struct {
    struct lock lock;
    struct list live, kept;
    struct huge *unused; /* records, never used for anything else */
} huge;

/* huge.kept.bytes for those who look without the lock. */
static _Atomic size_t kept_bytes;

/* ---- Under the lock -------------------------------------------------------------------------- */

static void publish_kept(void)
{
    atomic_store_explicit(&kept_bytes, huge.kept.bytes, memory_order_relaxed);
}

static void list_add(struct list *list, struct huge *block)
{
    block->previous = NULL;
    block->next = list->first;
    if (list->first != NULL)
        list->first->previous = block;
    list->first = block;
    list->count++;
    list->bytes += block->mapped;
    publish_kept();
}

static void list_remove(struct list *list, struct huge *block)
{
    if (block->previous != NULL)
        block->previous->next = block->next;
    else
        list->first = block->next;
    if (block->next != NULL)
        block->next->previous = block->previous;
    list->count--;
    list->bytes -= block->mapped;
    publish_kept();
}

static struct huge *find(const void *start)
{
    struct huge *block = pagemap_huge(start);
    while (block != NULL && block->start != start)
        block = block->next_here;
    return block;
}

/* The page map's leaves exist by now. */
static void enter(struct huge *block)
{
    block->next_here = pagemap_huge(block->start);
    pagemap_set_huge(block->start, block);
    pagemap_set(block->start, 1, CLASS_HUGE);
    list_add(&huge.live, block);
}

static void leave(struct huge *block)
{
    struct huge *first = pagemap_huge(block->start);
    if (first == block) {
        pagemap_set_huge(block->start, block->next_here);
    } else {
        while (first->next_here != block)
            first = first->next_here;
        first->next_here = block->next_here;
    }
    pagemap_set(block->start, 1, CLASS_NONE);
    list_remove(&huge.live, block);
}

/* The smallest kept mapping that fits and is not much too large. */
static struct huge *take_kept(size_t size, size_t alignment)
{
    struct huge *best = NULL;
    for (struct huge *block = huge.kept.first; block != NULL; block = block->next)
        if (block->mapped >= size && block->mapped - size <= size / KEEP_EXCESS &&
            ((uintptr_t)block->start & (alignment - 1)) == 0 &&
            (best == NULL || block->mapped < best->mapped))
            best = block;
    if (best != NULL)
        list_remove(&huge.kept, best);
    return best;
}

/* ---- Without the lock ------------------------------------------------------------------------ */

static struct huge *new_record(void)
{
    lock_acquire(&huge.lock);
    struct huge *block = huge.unused;
    if (block != NULL)
        huge.unused = block->next;
    lock_release(&huge.lock);
    return block != NULL ? block : meta_alloc(sizeof *block);
}

static void drop_record(struct huge *block)
{
    lock_acquire(&huge.lock);
    block->next = huge.unused;
    huge.unused = block;
    lock_release(&huge.lock);
}

/* A fresh mapping, whose start the page map has a leaf for; NULL when refused. */
static char *map(size_t size, size_t alignment)
{
    char *start = alignment <= os_page_size ? os_map(size) : os_map_aligned(size, alignment);
    if (start != NULL && !pagemap_prepare(start, PAGE_SIZE)) {
        os_unmap(start, size);
        return NULL;
    }
    return start;
}

/* Unmaps what is in no list. Where the kernel refuses (at vm.max_map_count, when that would split
 * a mapping), the memory goes at least, and the addresses are kept for use. */
static void let_go(struct huge *block)
{
    if (os_unmap(block->start, block->mapped)) {
        drop_record(block);
        return;
    }
    os_purge(block->start, block->mapped);
    block->freed_ms = os_now_ms();
    lock_acquire(&huge.lock);
    list_add(&huge.kept, block);
    lock_release(&huge.lock);
}

/* At least one of our pages, so that no two blocks begin in the same one: the page map has one code
 * for it. */
static size_t whole_size(size_t size)
{
    return round_up(max_size(size, PAGE_SIZE), os_page_size);
}

void *huge_alloc(size_t size, size_t alignment, bool *zero)
{
    size = whole_size(size);
    lock_acquire(&huge.lock);
    struct huge *block = take_kept(size, alignment);
    if (block != NULL) {
        block->size = size;
        enter(block);
    }
    lock_release(&huge.lock);
    *zero = block == NULL;
    if (block != NULL)
        return block->start;
    block = new_record();
    if (block == NULL)
        return NULL;
    block->start = map(size, alignment);
    block->size = block->mapped = size;
    if (block->start == NULL) {
        drop_record(block);
        return NULL;
    }
    lock_acquire(&huge.lock);
    enter(block);
    lock_release(&huge.lock);
    return block->start;
}

bool huge_free(void *start)
{
    uint64_t now = os_now_ms();
    lock_acquire(&huge.lock);
    struct huge *block = find(start);
    bool keep = false;
    if (block != NULL) {
        leave(block);
        keep = block->mapped <= KEEP_MOST - min_size(huge.kept.bytes, KEEP_MOST);
        if (keep) {
            block->freed_ms = now;
            list_add(&huge.kept, block);
        }
    }
    lock_release(&huge.lock);
    if (block != NULL && !keep)
        let_go(block);
    return block != NULL;
}

size_t huge_size(const void *start)
{
    lock_acquire(&huge.lock);
    const struct huge *block = find(start);
    size_t size = block != NULL ? block->size : 0;
    lock_release(&huge.lock);
    return size;
}

static void set_size(struct huge *block, size_t size, size_t mapped)
{
    lock_acquire(&huge.lock);
    huge.live.bytes += mapped - block->mapped;
    block->size = size;
    block->mapped = mapped;
    lock_release(&huge.lock);
}

/* Moves a block to a mapping of its new size. All that can be refused comes before anything is
 * changed, but for the move itself, after which the block is entered again where it was. */
static void *move(struct huge *block, size_t size)
{
    char *target = map(size, os_page_size);
    if (target == NULL)
        return NULL;
    lock_acquire(&huge.lock);
    leave(block);
    lock_release(&huge.lock);
    bool moved = os_move(block->start, block->mapped, target, size);
    if (moved) {
        block->start = target;
        block->size = block->mapped = size;
    } /* else target's addresses are lost: whether the kernel unmapped them is not known */
    lock_acquire(&huge.lock);
    enter(block);
    lock_release(&huge.lock);
    return moved ? target : NULL;
}

void *huge_resize(void *start, size_t size)
{
    size = whole_size(size);
    lock_acquire(&huge.lock);
    struct huge *block = find(start);
    lock_release(&huge.lock);
    if (block == NULL)
        return NULL;
    size_t excess = block->mapped - min_size(size, block->mapped);
    if (excess > block->mapped / SHRINK_SHARE && os_unmap(block->start + size, excess))
        set_size(block, size, size);
    else if (size <= block->mapped)
        set_size(block, size, block->mapped);
    else if (os_resize(start, block->mapped, size))
        set_size(block, size, size);
    else
        return move(block, size);
    return start;
}

static bool list_contains(const struct list *list, const char *address)
{
    for (const struct huge *block = list->first; block != NULL; block = block->next)
        if (address >= block->start && address < block->start + block->mapped)
            return true;
    return false;
}

bool huge_contains(const void *address)
{
    lock_acquire(&huge.lock);
    bool inside = list_contains(&huge.live, address);
    lock_release(&huge.lock);
    return inside;
}

size_t huge_sweep(uint64_t age_ms)
{
    uint64_t now = os_now_ms();
    struct huge *old = NULL, *next;
    size_t bytes = 0;
    lock_acquire(&huge.lock);
    for (struct huge *block = huge.kept.first; block != NULL; block = next) {
        next = block->next;
        if (block->freed_ms + age_ms > now)
            continue;
        list_remove(&huge.kept, block);
        block->next = old;
        old = block;
    }
    lock_release(&huge.lock);
    for (; old != NULL; old = next) {
        next = old->next;
        bytes += old->mapped;
        let_go(old);
    }
    return bytes;
}

size_t huge_kept_bytes(void)
{
    return atomic_load_explicit(&kept_bytes, memory_order_relaxed);
}

void huge_count(struct huge_totals *totals)
{
    lock_acquire(&huge.lock);
    *totals =
        (struct huge_totals){huge.live.bytes, huge.live.count, huge.kept.bytes, huge.kept.count};
    lock_release(&huge.lock);
}

void huge_lock(void)
{
    lock_acquire(&huge.lock);
}

void huge_unlock(void)
{
    lock_release(&huge.lock);
}
