#include "huge.h"

#include "lock.h"
#include "lone.h"
#include "meta.h"
#include "options.h"
#include "os.h"
#include "pagemap.h"
#include "purge.h"

/* What is kept of freed blocks, in bytes in all. */
#define KEEP_MOST (64 * MiB)

/* Neighbours freed within so many milliseconds become one piece. */
#define JOIN_MS 16

struct huge_lists huge_lists;

/* Bytes of kept and leaving for those who look without the lock. */
static _Atomic size_t kept_bytes;

/* In the hardened mode what is kept cannot be touched, and is not used again before it is unmapped:
 * who writes to it after free is stopped (harden.h). */
static bool is_kept_for_use(void)
{
    return options.harden == HARDEN_OFF;
}

/* ---- Under the lock -------------------------------------------------------------------------- */

static void note_bytes(void)
{
    size_t kept = huge_lists.kept.bytes + huge_lists.leaving.bytes;
    huge_lists.peak_bytes = max_size(huge_lists.peak_bytes, huge_lists.live.bytes + kept);
    atomic_store_explicit(&kept_bytes, kept, memory_order_relaxed);
}

/* Behind a member of the list, or, behind NULL, at the front. */
static void list_add_behind(struct huge_list *list, struct huge *before, struct huge *block)
{
    struct huge *after = before != NULL ? before->next : list->first;
    block->previous = before;
    block->next = after;
    if (before != NULL)
        before->next = block;
    else
        list->first = block;
    if (after != NULL)
        after->previous = block;
    list->count++;
    list->bytes += block->size;
    note_bytes();
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
    list->bytes -= block->size;
    note_bytes();
}

static void put_record(struct huge *block)
{
    block->next = huge_lists.unused;
    huge_lists.unused = block;
}

/* NULL when there is none. */
static struct huge *take_record(void)
{
    struct huge *block = huge_lists.unused;
    if (block != NULL)
        huge_lists.unused = block->next;
    return block;
}

static bool stand_together(const struct huge *first, const struct huge *second)
{
    return second != NULL && first->start + first->size == second->start;
}

static uint64_t ms_apart(uint64_t one, uint64_t other)
{
    return one > other ? one - other : other - one;
}

/* Makes one piece of two members of the list. It is as old as the older, so that what is used does
 * not keep its neighbour from growing old. */
static void join(struct huge_list *list, struct huge *first, struct huge *second)
{
    if (!stand_together(first, second) || first->mapping != second->mapping ||
        ms_apart(first->freed_ms, second->freed_ms) > JOIN_MS)
        return;
    list_remove(list, second);
    first->size += second->size;
    list->bytes += second->size;
    if (second->freed_ms < first->freed_ms)
        first->freed_ms = second->freed_ms;
    put_record(second);
    note_bytes();
}

/* By address. */
static void list_insert(struct huge_list *list, struct huge *block)
{
    struct huge *before = NULL;
    for (struct huge *look = list->first; look != NULL && look->start < block->start;
         look = look->next)
        before = look;
    list_add_behind(list, before, block);
    join(list, block, block->next);
    if (before != NULL)
        join(list, before, block);
}

/* Makes a block, which is in no list, longer by the piece that stands behind it. */
static void swallow(struct huge_list *list, struct huge *block, struct huge *piece)
{
    list_remove(list, piece);
    block->size += piece->size;
    block->freed_ms = piece->freed_ms;
    if (piece->mapping != block->mapping)
        block->mapping = 0;
    put_record(piece);
}

/* Cuts off what a block, which is in no list, has beyond size. NULL for want of a record, and then
 * the block stays as long as it is. */
static struct huge *cut(struct huge *block, size_t size, uint64_t mapping)
{
    struct huge *rest = take_record();
    if (rest == NULL)
        return NULL;
    rest->start = block->start + size;
    rest->size = block->size - size;
    rest->mapping = mapping;
    rest->freed_ms = block->freed_ms;
    block->size = size;
    return rest;
}

/* Bytes of the pieces that stand side by side from this one on, at least `enough` if there are. */
static size_t bytes_from(const struct huge *piece, size_t enough)
{
    size_t bytes = piece->size;
    for (; bytes < enough && stand_together(piece, piece->next); piece = piece->next)
        bytes += piece->next->size;
    return bytes;
}

/* Makes a block, which is in no list, at least size bytes long by pieces of the list from `piece`
 * on, which stand behind it and suffice. What it then has too much goes back. */
static void grow_into(struct huge_list *list, struct huge *block, struct huge *piece, size_t size)
{
    uint64_t last = block->mapping;
    for (struct huge *next; block->size < size; piece = next) {
        next = piece->next;
        last = piece->mapping;
        swallow(list, block, piece);
    }
    struct huge *rest = block->size > size ? cut(block, size, last) : NULL;
    if (rest != NULL)
        list_insert(list, rest);
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
    list_add_behind(&huge_lists.live, NULL, block);
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
    list_remove(&huge_lists.live, block);
}

/* A block of the pieces that fit best; NULL when none do. */
static struct huge *take_fitting(struct huge_list *list, size_t size, size_t alignment)
{
    struct huge *best = NULL;
    size_t best_bytes = SIZE_MAX;
    for (struct huge *piece = list->first; piece != NULL && best_bytes != size;
         piece = piece->next) {
        size_t bytes = bytes_from(piece, size);
        if (bytes < size || bytes >= best_bytes || ((uintptr_t)piece->start & (alignment - 1)) != 0)
            continue;
        best = piece;
        best_bytes = bytes;
    }
    if (best != NULL) {
        struct huge *next = best->next;
        list_remove(list, best);
        grow_into(list, best, next, size);
    }
    return best;
}

/* What could not be unmapped. Without memory it is for use; with it, it is to be tried again. */
static void keep_refused(struct huge *block, bool is_empty)
{
    is_empty = is_empty && (is_kept_for_use() || os_commit(block->start, block->size));
    block->freed_ms = os_now_ms();
    list_insert(is_empty ? &huge_lists.empty : &huge_lists.kept, block);
}

/* The largest piece that the kernel can make longer: what is resident of it saves as much. */
static struct huge *take_largest(void)
{
    struct huge *best = NULL;
    for (struct huge *block = huge_lists.kept.first; block != NULL; block = block->next)
        if (block->mapping != 0 && (best == NULL || block->size > best->size))
            best = block;
    if (best != NULL)
        list_remove(&huge_lists.kept, best);
    return best;
}

/* Takes a freed block, or a part of one, into those kept; false when it is to be unmapped. */
static bool keep(struct huge *block)
{
    if (options.schedule == SCHEDULE_IMMEDIATE ||
        block->size > KEEP_MOST - min_size(huge_lists.kept.bytes, KEEP_MOST))
        return false;
    list_insert(&huge_lists.kept, block);
    return true;
}

/* ---- Without the lock ------------------------------------------------------------------------ */

static void drop_record(struct huge *block)
{
    lock_acquire(&huge_lists.lock);
    put_record(block);
    lock_release(&huge_lists.lock);
}

/* NULL when there is no memory. */
static struct huge *new_record(void)
{
    lock_acquire(&huge_lists.lock);
    struct huge *block = take_record();
    lock_release(&huge_lists.lock);
    return block != NULL ? block : meta_alloc(sizeof *block);
}

/* Sees to it that cut will find a record, if there is memory. */
static void provide_record(void)
{
    struct huge *block = new_record();
    if (block != NULL)
        drop_record(block);
}

/* A fresh mapping that the page map has leaves for; NULL when refused. */
static char *map(size_t size, size_t alignment)
{
    char *start = alignment <= os_page_size ? os_map(size) : os_map_aligned(size, alignment);
    if (start != NULL && !pagemap_prepare(start, size)) {
        os_unmap(start, size);
        return NULL;
    }
    if (start != NULL && options.huge_pages == HUGE_PAGES_ON)
        os_use_huge_pages(start, size, true);
    return start;
}

static uint64_t next_mapping(void)
{
    static _Atomic uint64_t mappings;
    return atomic_fetch_add_explicit(&mappings, 1, memory_order_relaxed) + 1;
}

/* Unmaps what is in no list. Where the kernel refuses (at vm.max_map_count, when that would split
 * a mapping), the memory goes at least, and the addresses are kept for use. */
static void let_go(struct huge *block)
{
    if (os_unmap(block->start, block->size)) {
        purge_note_unmapped(block->size);
        drop_record(block);
        return;
    }
    bool is_empty = os_purge(block->start, block->size);
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

/* Makes a mapping longer where it stands. What begins in the new part one day needs a leaf of the
 * page map, too. */
static bool resize_in_place(const struct huge *block, size_t size)
{
    return pagemap_prepare(block->start + block->size, size - block->size) &&
           os_resize(block->start, block->size, size);
}

/* Makes a piece in no list longer, wherever it then is. False when refused, and then nothing has
 * changed but that addresses may be lost: whether the kernel unmapped the target is not known. */
static bool lengthen(struct huge *block, size_t size)
{
    if (!resize_in_place(block, size)) {
        char *target = map(size, os_page_size);
        if (target == NULL || !os_move(block->start, block->size, target, size))
            return false;
        block->start = target;
        block->mapping = next_mapping();
    }
    note_growth(size - block->size);
    block->size = size;
    return true;
}

/* Of what was kept; NULL when there is nothing to be had. */
static struct huge *reuse(size_t size, size_t alignment)
{
    lock_acquire(&huge_lists.lock);
    struct huge *block = is_kept_for_use() ? take_fitting(&huge_lists.kept, size, alignment) : NULL;
    if (block == NULL) {
        block = take_fitting(&huge_lists.empty, size, alignment);
        purge_note_use(block != NULL ? size : 0);
    }
    bool too_short = block == NULL && alignment <= os_page_size && is_kept_for_use();
    if (too_short)
        block = take_largest();
    lock_release(&huge_lists.lock);
    if (block != NULL && too_short && !lengthen(block, size)) {
        lock_acquire(&huge_lists.lock);
        list_insert(&huge_lists.kept, block);
        lock_release(&huge_lists.lock);
        return NULL;
    }
    return block;
}

void *huge_alloc(size_t size, size_t alignment, bool *zero)
{
    size = whole_size(size);
    provide_record();
    struct huge *block = reuse(size, alignment);
    *zero = block == NULL;
    if (block == NULL) {
        block = new_record();
        if (block == NULL)
            return NULL;
        *block = (struct huge){.start = map(size, alignment), .size = size};
        if (block->start == NULL) {
            drop_record(block);
            return NULL;
        }
        block->mapping = next_mapping();
        note_growth(size);
    }
    lock_acquire(&huge_lists.lock);
    enter(block);
    lock_release(&huge_lists.lock);
    return block->start;
}

/* Takes a freed block that is in no list into those kept, out of everybody's reach. */
static bool detain(struct huge *block)
{
    if (!os_forbid_mapping(block->start, block->size))
        return false;
    lock_acquire(&huge_lists.lock);
    bool kept = keep(block);
    lock_release(&huge_lists.lock);
    return kept;
}

bool huge_free(void *start)
{
    uint64_t now = os_now_ms();
    lock_acquire(&huge_lists.lock);
    struct huge *block = find(start);
    bool kept = false;
    if (block != NULL) {
        leave(block);
        block->freed_ms = now;
        kept = is_kept_for_use() && keep(block);
    }
    lock_release(&huge_lists.lock);
    if (block != NULL && !kept && (is_kept_for_use() || !detain(block)))
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

static void set_size(struct huge *block, size_t size)
{
    lock_acquire(&huge_lists.lock);
    huge_lists.live.bytes += size - block->size;
    block->size = size;
    note_bytes();
    lock_release(&huge_lists.lock);
}

/* Moves a block to a mapping of its new size. All that can be refused comes before anything is
 * changed, but for the move itself, after which the block is entered again where it was. */
static void *move(struct huge *block, size_t size)
{
    char *target = map(size, os_page_size);
    if (target == NULL)
        return NULL;
    lock_acquire(&huge_lists.lock);
    leave(block);
    lock_release(&huge_lists.lock);
    bool moved = os_move(block->start, block->size, target, size);
    if (moved) {
        block->start = target;
        block->size = size;
        block->mapping = next_mapping();
    } /* else target's addresses are lost, as above */
    lock_acquire(&huge_lists.lock);
    enter(block);
    lock_release(&huge_lists.lock);
    return moved ? target : NULL;
}

/* Under the lock: gives up what a live block has beyond size. Returns what is to be unmapped, or
 * NULL. */
static struct huge *shorten(struct huge *block, size_t size)
{
    struct huge *rest = block->size > size ? cut(block, size, block->mapping) : NULL;
    if (rest == NULL)
        return NULL;
    huge_lists.live.bytes -= rest->size;
    rest->freed_ms = os_now_ms();
    return is_kept_for_use() && keep(rest) ? NULL : rest;
}

/* Under the lock: lets a live block grow where it stands by what is kept behind it; false when that
 * does not suffice. */
static bool grow_in_place(struct huge *block, size_t size)
{
    struct huge *piece = huge_lists.kept.first;
    while (piece != NULL && piece->start < block->start)
        piece = piece->next;
    if (!is_kept_for_use() || !stand_together(block, piece) ||
        bytes_from(piece, size - block->size) < size - block->size)
        return false;
    size_t before = block->size;
    grow_into(&huge_lists.kept, block, piece, size);
    huge_lists.live.bytes += block->size - before;
    note_bytes();
    return true;
}

void *huge_resize(void *start, size_t size)
{
    size = whole_size(size);
    provide_record();
    lock_acquire(&huge_lists.lock);
    struct huge *block = find(start), *rest = NULL;
    bool done = block != NULL;
    if (block != NULL && size <= block->size)
        rest = shorten(block, size);
    else if (block != NULL)
        done = grow_in_place(block, size);
    lock_release(&huge_lists.lock);
    if (rest != NULL)
        let_go(rest);
    if (done)
        return start;
    if (block == NULL || block->mapping == 0)
        return NULL;
    size_t before = block->size;
    void *grown = start;
    if (resize_in_place(block, size))
        set_size(block, size);
    else
        grown = move(block, size);
    if (grown != NULL)
        note_growth(size - before);
    return grown;
}

static bool list_contains(const struct huge_list *list, const char *address)
{
    for (const struct huge *block = list->first; block != NULL; block = block->next)
        if (address >= block->start && address < block->start + block->size)
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

/* Under the lock. */
static void move_to_leaving(struct huge_list *list, uint64_t age_ms)
{
    uint64_t now = os_now_ms();
    for (struct huge *block = list->first, *next; block != NULL; block = next) {
        next = block->next;
        if (block->freed_ms + age_ms > now)
            continue;
        list_remove(list, block);
        list_add_behind(&huge_lists.leaving, NULL, block);
    }
}

static void choose_leaving(uint64_t age_ms)
{
    lock_acquire(&huge_lists.lock);
    move_to_leaving(&huge_lists.kept, age_ms);
    if (age_ms == 0) /* the kernel may allow it now */
        move_to_leaving(&huge_lists.empty, 0);
    lock_release(&huge_lists.lock);
}

/* If the memory of the first is gone already, this takes no time under the lock. */
static void unmap_leaving(bool is_empty)
{
    lock_acquire(&huge_lists.lock);
    struct huge *block = huge_lists.leaving.first;
    list_remove(&huge_lists.leaving, block);
    if (os_unmap(block->start, block->size))
        put_record(block);
    else
        keep_refused(block, is_empty);
    lock_release(&huge_lists.lock);
}

/* By those who may sweep: unmaps what is to leave. */
static size_t let_leave(void)
{
    size_t bytes = 0;
    while (huge_lists.leaving.first != NULL) {
        const struct huge *first = huge_lists.leaving.first;
        enum purge_result result = purge_range(first->start, first->size, SWEEP_NOW, &bytes);
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

/* The piece that was freed first. */
static struct huge *oldest_kept(void)
{
    struct huge *oldest = huge_lists.kept.first;
    for (struct huge *block = oldest; block != NULL; block = block->next)
        if (block->freed_ms < oldest->freed_ms)
            oldest = block;
    return oldest;
}

size_t huge_make_up(size_t bytes)
{
    size_t given_back = 0;
    lone_visit_begin();
    lock_acquire(&huge_lists.lock);
    for (struct huge *block; given_back < bytes && (block = oldest_kept()) != NULL;) {
        given_back += block->size;
        list_remove(&huge_lists.kept, block);
        list_add_behind(&huge_lists.leaving, NULL, block);
    }
    lock_release(&huge_lists.lock);
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
    bool any = huge_lists.kept.count != 0 || huge_lists.leaving.count != 0;
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
        .kept_pieces = huge_lists.kept.count + huge_lists.leaving.count,
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
