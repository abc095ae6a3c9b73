#include "huge.h"

#include "lock.h"
#include "lone.h"
#include "meta.h"
#include "options.h"
#include "os.h"
#include "pagemap.h"
#include "purge.h"

/* What is kept of freed mappings, in bytes in all. */
#define KEEP_MOST (64 * MiB)

/* Of a block that shrinks, what it has too much is given back at once when it is more than this
 * share, else by a sweep. */
#define SHRINK_SHARE 8

struct huge_lists huge_lists;

/* Bytes of kept, leaving and excess for those who look without the lock. */
static _Atomic size_t kept_bytes;

/* ---- Under the lock -------------------------------------------------------------------------- */

static void note_peak(void)
{
    size_t bytes = huge_lists.live.bytes + huge_lists.kept.bytes + huge_lists.leaving.bytes;
    huge_lists.peak_bytes = max_size(huge_lists.peak_bytes, bytes);
}

static void publish_kept(void)
{
    note_peak();
    atomic_store_explicit(
        &kept_bytes, huge_lists.kept.bytes + huge_lists.leaving.bytes + huge_lists.excess_bytes,
        memory_order_relaxed);
}

static void list_add(struct huge_list *list, struct huge *block)
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

static void list_remove(struct huge_list *list, struct huge *block)
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

/* Of a live block whose size or mapping has changed. */
static void set_excess(struct huge *block, size_t excess)
{
    huge_lists.excess_bytes += excess - block->excess;
    block->excess = excess;
    block->excess_ms = excess != 0 ? os_now_ms() : 0;
    publish_kept();
}

/* The page map's leaves exist by now. */
static void enter(struct huge *block)
{
    set_excess(block, block->mapped - block->size);
    block->next_here = pagemap_huge(block->start);
    pagemap_set_huge(block->start, block);
    pagemap_set(block->start, 1, CLASS_HUGE);
    list_add(&huge_lists.live, block);
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
    set_excess(block, 0);
    list_remove(&huge_lists.live, block);
}

/* The smallest mapping of the list that fits. What it has too much is cut off by a sweep, unless
 * the block has grown or gone by then. */
static struct huge *take_fitting(struct huge_list *list, size_t size, size_t alignment)
{
    struct huge *best = NULL;
    for (struct huge *block = list->first; block != NULL; block = block->next)
        if (block->mapped >= size && ((uintptr_t)block->start & (alignment - 1)) == 0 &&
            (best == NULL || block->mapped < best->mapped))
            best = block;
    if (best != NULL)
        list_remove(list, best);
    return best;
}

/* A mapping that could not be unmapped. Without memory it is for use, if the page map has a leaf
 * for it (what was cut off may begin in one of its own), else lost; with it, it is to be tried
 * again. */
static void keep_refused(struct huge *block, bool is_empty)
{
    block->freed_ms = os_now_ms();
    if (pagemap_prepare(block->start, PAGE_SIZE))
        list_add(is_empty ? &huge_lists.empty : &huge_lists.kept, block);
}

/* The largest kept mapping: it can be made to fit, and what is resident of it saves as much. */
static struct huge *take_largest(void)
{
    struct huge *best = huge_lists.kept.first;
    for (struct huge *block = best; block != NULL; block = block->next)
        if (block->mapped > best->mapped)
            best = block;
    if (best != NULL)
        list_remove(&huge_lists.kept, best);
    return best;
}

/* ---- Without the lock ------------------------------------------------------------------------ */

static struct huge *new_record(void)
{
    lock_acquire(&huge_lists.lock);
    struct huge *block = huge_lists.unused;
    if (block != NULL)
        huge_lists.unused = block->next;
    lock_release(&huge_lists.lock);
    return block != NULL ? block : meta_alloc(sizeof *block);
}

static void drop_record(struct huge *block)
{
    lock_acquire(&huge_lists.lock);
    block->next = huge_lists.unused;
    huge_lists.unused = block;
    lock_release(&huge_lists.lock);
}

/* A fresh mapping, whose start the page map has a leaf for; NULL when refused. */
static char *map(size_t size, size_t alignment)
{
    char *start = alignment <= os_page_size ? os_map(size) : os_map_aligned(size, alignment);
    if (start != NULL && !pagemap_prepare(start, PAGE_SIZE)) {
        os_unmap(start, size);
        return NULL;
    }
    if (start != NULL && options.huge_pages == HUGE_PAGES_ON)
        os_use_huge_pages(start, size, true);
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
    bool is_empty = os_purge(block->start, block->mapped);
    lock_acquire(&huge_lists.lock);
    keep_refused(block, is_empty);
    lock_release(&huge_lists.lock);
}

static void note_growth(size_t bytes)
{
    purge_note_growth(bytes);
    purge_note_use(bytes);
}

/* At least one of our pages, so that no two blocks begin in the same one: the page map has one code
 * for it. */
static size_t whole_size(size_t size)
{
    return round_up(max_size(size, PAGE_SIZE), os_page_size);
}

/* Makes a mapping in no list longer, wherever it then is. False when refused, and then nothing has
 * changed but that addresses may be lost: whether the kernel unmapped the target is not known. */
static bool lengthen(struct huge *block, size_t size)
{
    if (!os_resize(block->start, block->mapped, size)) {
        char *target = map(size, os_page_size);
        if (target == NULL || !os_move(block->start, block->mapped, target, size))
            return false;
        block->start = target;
    }
    note_growth(size - block->mapped);
    block->mapped = size;
    return true;
}

/* A mapping that was kept, or NULL. */
static struct huge *reuse(size_t size, size_t alignment)
{
    lock_acquire(&huge_lists.lock);
    struct huge *block = take_fitting(&huge_lists.kept, size, alignment);
    if (block == NULL)
        block = take_fitting(&huge_lists.empty, size, alignment);
    bool too_short = block == NULL && alignment <= os_page_size;
    if (too_short)
        block = take_largest();
    lock_release(&huge_lists.lock);
    if (block != NULL && too_short && !lengthen(block, size)) {
        lock_acquire(&huge_lists.lock);
        list_add(&huge_lists.kept, block);
        lock_release(&huge_lists.lock);
        return NULL;
    }
    return block;
}

void *huge_alloc(size_t size, size_t alignment, bool *zero)
{
    size = whole_size(size);
    struct huge *block = reuse(size, alignment);
    *zero = block == NULL;
    if (block == NULL) {
        block = new_record();
        if (block == NULL)
            return NULL;
        block->start = map(size, alignment);
        block->mapped = size;
        note_growth(size);
        if (block->start == NULL) {
            drop_record(block);
            return NULL;
        }
    }
    block->size = size;
    lock_acquire(&huge_lists.lock);
    enter(block);
    lock_release(&huge_lists.lock);
    return block->start;
}

bool huge_free(void *start)
{
    uint64_t now = os_now_ms();
    lock_acquire(&huge_lists.lock);
    struct huge *block = find(start);
    bool keep = false;
    if (block != NULL) {
        leave(block);
        keep = options.schedule != SCHEDULE_IMMEDIATE &&
               block->mapped <= KEEP_MOST - min_size(huge_lists.kept.bytes, KEEP_MOST);
        if (keep) {
            block->freed_ms = now;
            list_add(&huge_lists.kept, block);
        }
    }
    lock_release(&huge_lists.lock);
    if (block != NULL && !keep)
        let_go(block);
    return block != NULL;
}

size_t huge_size(const void *start)
{
    lock_acquire(&huge_lists.lock);
    const struct huge *block = find(start);
    size_t size = block != NULL ? block->size : 0;
    lock_release(&huge_lists.lock);
    return size;
}

static void set_size(struct huge *block, size_t size, size_t mapped)
{
    lock_acquire(&huge_lists.lock);
    huge_lists.live.bytes += mapped - block->mapped;
    note_peak();
    block->size = size;
    block->mapped = mapped;
    set_excess(block, mapped - size);
    lock_release(&huge_lists.lock);
}

/* Moves a block to a mapping of its new size. All that can be refused comes before anything is
 * changed, but for the move itself, after which the block is entered again where it was. */
static void *move(struct huge *block, size_t size)
{
    char *target = map(size, os_page_size);
    if (target == NULL) {
        set_size(block, block->size, block->mapped); /* a sweep may have its excess again */
        return NULL;
    }
    lock_acquire(&huge_lists.lock);
    leave(block);
    lock_release(&huge_lists.lock);
    bool moved = os_move(block->start, block->mapped, target, size);
    if (moved) {
        block->start = target;
        block->size = block->mapped = size;
    } /* else target's addresses are lost, as above */
    lock_acquire(&huge_lists.lock);
    enter(block);
    lock_release(&huge_lists.lock);
    return moved ? target : NULL;
}

void *huge_resize(void *start, size_t size)
{
    size = whole_size(size);
    lock_acquire(&huge_lists.lock);
    struct huge *block = find(start);
    if (block != NULL)
        set_excess(block, 0); /* no sweep touches it from now on */
    lock_release(&huge_lists.lock);
    if (block == NULL)
        return NULL;
    size_t excess = block->mapped - min_size(size, block->mapped);
    bool shrinks = size < block->size && excess > block->mapped / SHRINK_SHARE;
    if (shrinks && os_unmap(block->start + size, excess))
        set_size(block, size, size);
    else if (size <= block->mapped)
        set_size(block, size, block->mapped);
    else {
        note_growth(size - block->mapped);
        if (!os_resize(start, block->mapped, size))
            return move(block, size);
        set_size(block, size, size);
    }
    return start;
}

static bool list_contains(const struct huge_list *list, const char *address)
{
    for (const struct huge *block = list->first; block != NULL; block = block->next)
        if (address >= block->start && address < block->start + block->mapped)
            return true;
    return false;
}

bool huge_contains(const void *address)
{
    lock_acquire(&huge_lists.lock);
    bool inside = list_contains(&huge_lists.live, address);
    lock_release(&huge_lists.lock);
    return inside;
}

/* A live block's mapping without what it has too much, which becomes a mapping of its own. Under
 * the lock; false for want of a record. */
static bool cut(struct huge *block)
{
    struct huge *rest = huge_lists.unused;
    if (rest == NULL)
        return false;
    huge_lists.unused = rest->next;
    rest->start = block->start + block->size;
    rest->mapped = block->excess;
    rest->excess = 0;
    huge_lists.live.bytes -= rest->mapped;
    block->mapped = block->size;
    set_excess(block, 0);
    list_add(&huge_lists.leaving, rest);
    return true;
}

/* Cuts all whose excess was taken so long ago. False for want of a record: the rest is to be done.
 */
static bool cut_live(uint64_t age_ms)
{
    uint64_t now = os_now_ms();
    bool done = true;
    lock_acquire(&huge_lists.lock);
    for (struct huge *block = huge_lists.live.first; block != NULL && done; block = block->next)
        if (block->excess != 0 && block->excess_ms + age_ms <= now)
            done = cut(block);
    lock_release(&huge_lists.lock);
    return done;
}

/* Under the lock. */
static void move_to_leaving(struct huge_list *list, uint64_t age_ms)
{
    uint64_t now = os_now_ms();
    for (struct huge *block = list->first, *next; block != NULL; block = next) {
        next = block->next;
        if (block->freed_ms + age_ms > now)
            continue;
        list_remove(list, block);
        list_add(&huge_lists.leaving, block);
    }
}

static void cut_all(uint64_t age_ms)
{
    struct huge *record;
    while (!cut_live(age_ms) && (record = meta_alloc(sizeof *record)) != NULL)
        drop_record(record);
}

static void choose_leaving(uint64_t age_ms)
{
    lock_acquire(&huge_lists.lock);
    move_to_leaving(&huge_lists.kept, age_ms);
    if (age_ms == 0) /* the kernel may allow it now */
        move_to_leaving(&huge_lists.empty, 0);
    lock_release(&huge_lists.lock);
    cut_all(age_ms);
}

/* If the memory of the first is gone already, this takes no time under the lock. */
static void unmap_leaving(bool is_empty)
{
    lock_acquire(&huge_lists.lock);
    struct huge *block = huge_lists.leaving.first;
    list_remove(&huge_lists.leaving, block);
    if (os_unmap(block->start, block->mapped)) {
        block->next = huge_lists.unused;
        huge_lists.unused = block;
    } else {
        keep_refused(block, is_empty);
    }
    lock_release(&huge_lists.lock);
}

/* By those who may sweep: unmaps what is to leave. */
static size_t let_leave(void)
{
    size_t bytes = 0;
    while (huge_lists.leaving.first != NULL) {
        const struct huge *first = huge_lists.leaving.first;
        enum purge_result result = purge_range(first->start, first->mapped, SWEEP_NOW, &bytes);
        lone_visit_begin();
        unmap_leaving(result == PURGE_DONE);
        lone_visit_end();
    }
    return bytes;
}

size_t huge_sweep(uint64_t age_ms)
{
    lone_visit_begin();
    choose_leaving(age_ms);
    lone_visit_end();
    return let_leave();
}

/* The kept mapping that was freed first. */
static struct huge *oldest_kept(void)
{
    struct huge *block = huge_lists.kept.first;
    while (block != NULL && block->next != NULL)
        block = block->next;
    return block;
}

size_t huge_make_up(size_t bytes)
{
    size_t given_back = 0;
    lone_visit_begin();
    lock_acquire(&huge_lists.lock);
    for (struct huge *block; given_back < bytes && (block = oldest_kept()) != NULL;) {
        given_back += block->mapped;
        list_remove(&huge_lists.kept, block);
        list_add(&huge_lists.leaving, block);
    }
    lock_release(&huge_lists.lock);
    if (given_back < bytes)
        cut_all(0);
    lone_visit_end();
    return let_leave();
}

size_t huge_kept_bytes(void)
{
    return atomic_load_explicit(&kept_bytes, memory_order_relaxed);
}

bool huge_any_kept(void)
{
    lock_acquire(&huge_lists.lock);
    bool any =
        huge_lists.kept.count != 0 || huge_lists.leaving.count != 0 || huge_lists.excess_bytes != 0;
    lock_release(&huge_lists.lock);
    return any;
}

void huge_count(struct huge_totals *totals)
{
    lock_acquire(&huge_lists.lock);
    *totals = (struct huge_totals){
        .live_bytes = huge_lists.live.bytes,
        .live_blocks = huge_lists.live.count,
        .kept_bytes = huge_lists.kept.bytes + huge_lists.leaving.bytes,
        .kept_mappings = huge_lists.kept.count + huge_lists.leaving.count,
        .peak_bytes = huge_lists.peak_bytes,
    };
    lock_release(&huge_lists.lock);
}

void huge_lock(void)
{
    lock_acquire(&huge_lists.lock);
}

void huge_unlock(void)
{
    lock_release(&huge_lists.lock);
}
