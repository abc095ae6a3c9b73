#include "huge.h"

#include <string.h>

#include "lock.h"
#include "lone.h"
#include "meta.h"
#include "options.h"
#include "os.h"
#include "pagemap.h"
#include "pieces.h"
#include "purge.h"

/* What is kept of freed blocks, in bytes in all. */
#define KEEP_MOST (128 * MiB)

/* How many pieces may become one block, and how large they must be: moving one takes a system call,
 * some 15 ns an OS page, and a mapping as long as it lives. */
#define GATHER_MOST 16
#define GATHER_LEAST ((size_t)128 * KiB)

/* With so many blocks live, none is made of several pieces any more: the kernel allows a process
 * 65,530 mappings. */
#define GATHER_BLOCKS 1024

struct huge_lists huge_lists;

/* Bytes of kept and leaving for those who look without the lock. */
static _Atomic size_t kept_bytes;

/* How often the lists of the page map have changed, and one more while they do. */
static _Atomic uint32_t changes;

/* In the hardened mode what is kept cannot be touched, and is not used again before it is unmapped:
 * who writes to it after free is stopped (harden.h). */
static bool is_kept_for_use(void)
{
    return options.harden == HARDEN_OFF;
}

static void lock_lists(void)
{
    lock_acquire(&huge_lists.lock);
}

static void unlock_lists(void)
{
    size_t kept = huge_lists.kept.bytes + huge_lists.leaving.bytes;
    huge_lists.peak_bytes = max_size(huge_lists.peak_bytes, huge_lists.live.bytes + kept);
    atomic_store_explicit(&kept_bytes, kept, memory_order_relaxed);
    lock_release(&huge_lists.lock);
}

/* ---- The page map's lists, by who holds the block or the lock -------------------------------- */

static struct huge *next_here(const struct huge *block)
{
    return atomic_load_explicit(&block->next_here, memory_order_acquire);
}

/* NULL also when others changed the list meanwhile. Only the record of a live block has its start
 * as `entered`: what is found is found. */
static struct huge *find(const void *start)
{
    struct huge *block = pagemap_huge(start);
    while (block != NULL && atomic_load_explicit(&block->entered, memory_order_relaxed) != start)
        block = next_here(block);
    return block;
}

static void count_change(void)
{
    atomic_store_explicit(&changes, atomic_load_explicit(&changes, memory_order_relaxed) + 1,
                          memory_order_release);
}

/* The page map's leaves exist by now. */
static void enter(struct huge *block)
{
    count_change();
    atomic_thread_fence(memory_order_release); /* the change is told before it begins */
    atomic_store_explicit(&block->next_here, pagemap_huge(block->start), memory_order_release);
    atomic_store_explicit(&block->entered, block->start, memory_order_relaxed);
    pagemap_set_huge(block->start, block);
    count_change();
    pagemap_set(block->start, 1, CLASS_HUGE);
    pieces_add(&huge_lists.live, block);
}

static void leave(struct huge *block)
{
    struct huge *before = pagemap_huge(block->start);
    count_change();
    atomic_thread_fence(memory_order_release);
    if (before == block) {
        pagemap_set_huge(block->start, next_here(block));
    } else {
        while (next_here(before) != block)
            before = next_here(before);
        atomic_store_explicit(&before->next_here, next_here(block), memory_order_release);
    }
    atomic_store_explicit(&block->entered, NULL, memory_order_relaxed);
    count_change();
    pagemap_set(block->start, 1, CLASS_NONE);
    pieces_remove(&huge_lists.live, block);
}

/* ---- Under the lock -------------------------------------------------------------------------- */

/* What could not be unmapped. Without memory it is for use; with it, it is to be tried again. */
static void keep_refused(struct huge *block, bool is_empty)
{
    is_empty = is_empty && (is_kept_for_use() || os_commit(block->start, block->size));
    block->freed_ms = os_now_ms();
    pieces_insert(is_empty ? &huge_lists.empty : &huge_lists.kept, block);
}

/* Takes a freed block, or a part of one, into those kept, as far as there is room. Returns what is
 * to be unmapped, or NULL. */
static struct huge *keep(struct huge *block)
{
    size_t room = options.schedule == SCHEDULE_IMMEDIATE
                      ? 0
                      : KEEP_MOST - min_size(huge_lists.kept.bytes, KEEP_MOST);
    struct huge *rest = NULL;
    if (block->size > room && (room < GATHER_LEAST || (rest = pieces_cut(block, room)) == NULL))
        return block;
    pieces_insert(&huge_lists.kept, block);
    return rest;
}

/* ---- Without the lock ------------------------------------------------------------------------ */

static void drop_record(struct huge *block)
{
    lock_lists();
    pieces_drop(block);
    unlock_lists();
}

/* NULL when there is no memory. */
static struct huge *new_record(void)
{
    lock_lists();
    struct huge *block = pieces_take_record();
    unlock_lists();
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

/* Makes the record that of a mapping, or drops it: false, where that was refused, and start NULL.
 */
static bool begin(struct huge *block, char *start, size_t size)
{
    if (start == NULL) {
        drop_record(block);
        return false;
    }
    *block = (struct huge){.start = start, .size = size, .mapping = next_mapping()};
    return true;
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
    lock_lists();
    keep_refused(block, is_empty);
    unlock_lists();
}

static void note_growth(size_t bytes)
{
    purge_note_growth(bytes);
    purge_note_use(bytes);
}

size_t huge_room(size_t size)
{
    return round_up(max_size(size, PAGE_SIZE), os_page_size);
}

/* Makes a mapping longer where it stands. What begins in the new part one day needs a leaf of the
 * page map, too. */
static bool resize_in_place(struct huge *block, size_t size)
{
    const struct huge *last = pieces_last(block);
    size_t more = size - block->size, own = pieces_own(last);
    return pagemap_prepare(block->start + block->size, more) &&
           os_resize(last->start, own, own + more);
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
    block->size = size;
    return true;
}

/* Makes the pieces of a row stand side by side, and the last of them as long as size wants. False
 * when refused: those that were moved stay where they are then, and addresses may be lost, as
 * above. */
static bool assemble(struct huge *row, size_t size)
{
    char *target = map(size, os_page_size);
    size_t left = size;
    for (struct huge *piece = row; piece != NULL && target != NULL; piece = piece->behind) {
        size_t wanted = piece->behind != NULL ? piece->size : left;
        left -= wanted;
        if (os_move(piece->start, piece->size, target, wanted)) {
            piece->start = target;
            piece->size = wanted;
            piece->mapping = next_mapping();
            target += wanted;
        } else {
            if (left != 0)
                os_unmap(target + wanted, left);
            target = NULL;
        }
    }
    if (target != NULL)
        row->size = size;
    return target != NULL;
}

/* Of what was kept, wherever it is: a row that pieces_gather gave. NULL when refused. */
static struct huge *use_gathered(struct huge *row, size_t size)
{
    size_t bytes = 0;
    for (struct huge *piece = row; piece != NULL; piece = piece->behind)
        bytes += piece->size;
    size = max_size(size, bytes);
    if (row->behind == NULL ? lengthen(row, size) : assemble(row, size)) {
        note_growth(size - bytes);
        return row;
    }
    lock_lists();
    for (struct huge *piece = row, *behind; piece != NULL; piece = behind) {
        behind = piece->behind;
        piece->behind = NULL;
        pieces_insert(&huge_lists.kept, piece);
    }
    unlock_lists();
    return NULL;
}

/* Of what was kept; NULL when there is nothing to be had. */
static struct huge *reuse(size_t size, size_t alignment)
{
    struct huge *row = NULL;
    lock_lists();
    struct huge *block =
        is_kept_for_use() ? pieces_take_fitting(&huge_lists.kept, size, alignment) : NULL;
    if (block == NULL) {
        block = pieces_take_fitting(&huge_lists.empty, size, alignment);
        purge_note_use(block != NULL ? size : 0);
    }
    if (block == NULL && alignment <= os_page_size && is_kept_for_use() &&
        huge_lists.live.count < GATHER_BLOCKS)
        row = pieces_gather(&huge_lists.kept, size, GATHER_LEAST, GATHER_MOST);
    unlock_lists();
    return row != NULL ? use_gathered(row, size) : block;
}

void *huge_alloc(size_t size, size_t alignment, bool *zero)
{
    size = huge_room(size);
    provide_record();
    struct huge *block = reuse(size, alignment);
    *zero = block == NULL;
    if (block == NULL) {
        block = new_record();
        if (block == NULL || !begin(block, map(size, alignment), size))
            return NULL;
        note_growth(size);
    }
    lock_lists();
    enter(block);
    unlock_lists();
    return block->start;
}

bool huge_free(void *start)
{
    uint64_t now = os_now_ms();
    provide_record();
    lock_lists();
    struct huge *block = find(start), *rest = block;
    if (block != NULL) {
        leave(block);
        block->freed_ms = now;
        rest = is_kept_for_use() ? keep(block) : block;
    }
    unlock_lists();
    if (rest != NULL && !is_kept_for_use() && os_forbid_mapping(rest->start, rest->size)) {
        lock_lists();
        rest = keep(rest);
        unlock_lists();
    }
    if (rest != NULL)
        let_go(rest);
    return block != NULL;
}

size_t huge_size(const void *start)
{
    for (unsigned look = 1;; look++) {
        uint32_t before = atomic_load_explicit(&changes, memory_order_acquire);
        const struct huge *block = find(start);
        if (likely(block != NULL))
            return block->size;
        atomic_thread_fence(memory_order_acquire);
        if (before % 2 == 0 && atomic_load_explicit(&changes, memory_order_relaxed) == before)
            return 0;
        /* Others come and go in this list. */
        lock_pause();
        lock_give_way(look % LOCK_LOOKS == 0);
    }
}

/* Of a live block whose last piece has become longer. */
static void set_size(struct huge *block, size_t size)
{
    lock_lists();
    struct huge *last = pieces_last(block);
    if (last != block)
        last->size += size - block->size;
    huge_lists.live.bytes += size - block->size;
    block->size = size;
    unlock_lists();
}

/* Where a block of `before` bytes can be moved to, to have size bytes; NULL when refused. The
 * kernel refuses a move, and the mapping is lost, if the growth does not fit under RLIMIT_AS beside
 * it: so there is room for that first. */
static char *map_target(size_t before, size_t size)
{
    size_t growth = size - before;
    char *target = map(size + growth, os_page_size);
    if (target != NULL && !os_unmap(target + size, growth)) {
        os_unmap(target, size + growth);
        return NULL;
    }
    return target;
}

/* Moves a block to a mapping of its new size. All that can be refused comes before anything is
 * changed, but for the move itself, after which the block is entered again where it was. */
static void *move(struct huge *block, size_t size)
{
    char *target = map_target(block->size, size);
    if (target == NULL)
        return NULL;
    lock_lists();
    leave(block);
    unlock_lists();
    bool moved = os_move(block->start, block->size, target, size);
    if (moved) {
        block->start = target;
        block->size = size;
        block->mapping = next_mapping();
    } /* else target's addresses are lost, as above */
    lock_lists();
    enter(block);
    unlock_lists();
    return moved ? target : NULL;
}

/* Under the lock: gives up what a live block has beyond size. Returns what is to be unmapped, or
 * NULL. */
static struct huge *shorten(struct huge *block, size_t size)
{
    struct huge *rest = block->size > size ? pieces_cut(block, size) : NULL;
    if (rest == NULL)
        return NULL;
    huge_lists.live.bytes -= rest->size;
    rest->freed_ms = os_now_ms();
    return is_kept_for_use() ? keep(rest) : rest;
}

/* Under the lock: lets a live block grow where it stands by what is kept behind it; false when that
 * does not suffice. */
static bool grow_in_place(struct huge *block, size_t size)
{
    size_t before = block->size;
    bool grown = is_kept_for_use() && pieces_grow(&huge_lists.kept, block, size);
    huge_lists.live.bytes += block->size - before;
    return grown;
}

void *huge_resize(void *start, size_t size)
{
    size = huge_room(size);
    provide_record();
    lock_lists();
    struct huge *block = find(start), *rest = NULL;
    bool done = block != NULL;
    if (block != NULL && size <= block->size)
        rest = shorten(block, size);
    else if (block != NULL)
        done = grow_in_place(block, size);
    unlock_lists();
    if (rest != NULL)
        let_go(rest);
    if (done)
        return start;
    if (block == NULL)
        return NULL;
    size_t before = block->size;
    void *grown = start;
    if (resize_in_place(block, size))
        set_size(block, size);
    else
        grown = block->behind == NULL ? move(block, size) : NULL;
    if (grown != NULL)
        note_growth(size - before);
    return grown;
}

void *huge_move_in(char *start, size_t bytes, size_t size)
{
    struct huge *block = new_record();
    if (block == NULL || !begin(block, os_move_out(start, bytes), bytes))
        return NULL;
    bool ready = pagemap_prepare(block->start, bytes);
    if (!ready || !lengthen(block, huge_room(size))) {
        memcpy(start, block->start, bytes);
        purge_note_use(bytes);
        if (ready)
            let_go(block);
        else if (os_unmap(block->start, bytes)) /* else nobody may have these addresses */
            drop_record(block);
        return NULL;
    }
    note_growth(block->size - bytes);
    lock_lists();
    enter(block);
    unlock_lists();
    return block->start;
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
    lock_lists();
    bool inside = list_contains(&huge_lists.live, address);
    unlock_lists();
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
        pieces_remove(list, block);
        pieces_add(&huge_lists.leaving, block);
    }
}

static void choose_leaving(uint64_t age_ms)
{
    lock_lists();
    move_to_leaving(&huge_lists.kept, age_ms);
    if (age_ms == 0) /* the kernel may allow it now */
        move_to_leaving(&huge_lists.empty, 0);
    unlock_lists();
}

/* If the memory of the first is gone already, this takes no time under the lock. */
static void unmap_leaving(bool is_empty)
{
    lock_lists();
    struct huge *block = huge_lists.leaving.first;
    pieces_remove(&huge_lists.leaving, block);
    if (os_unmap(block->start, block->size))
        pieces_drop(block);
    else
        keep_refused(block, is_empty);
    unlock_lists();
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
    if (!is_kept_for_use())
        return 0; /* what is kept has no memory: none would be saved */
    lone_visit_begin();
    lock_lists();
    for (struct huge *block; given_back < bytes && (block = oldest_kept()) != NULL;) {
        given_back += block->size;
        pieces_remove(&huge_lists.kept, block);
        pieces_add(&huge_lists.leaving, block);
    }
    unlock_lists();
    lone_visit_end();
    return let_leave();
}

size_t huge_kept_bytes(void)
{
    return atomic_load_explicit(&kept_bytes, memory_order_relaxed);
}

bool huge_any_kept(void)
{
    lock_lists();
    bool any = huge_lists.kept.count != 0 || huge_lists.leaving.count != 0;
    unlock_lists();
    return any;
}

void huge_count(struct huge_totals *totals)
{
    lock_lists();
    *totals = (struct huge_totals){
        .live_bytes = huge_lists.live.bytes,
        .live_blocks = huge_lists.live.count,
        .kept_bytes = huge_lists.kept.bytes + huge_lists.leaving.bytes,
        .kept_pieces = huge_lists.kept.count + huge_lists.leaving.count,
        .peak_bytes = huge_lists.peak_bytes,
    };
    unlock_lists();
}

void huge_lock(void)
{
    lock_lists();
}

void huge_unlock(void)
{
    unlock_lists();
}
