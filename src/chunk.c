#include "chunk.h"

#include "lone.h"
#include "meta.h"
#include "options.h"
#include "pagemap.h"

/* Pages made accessible at a time, 2 MiB: few calls, and little charged before it is used. */
#define COMMIT_STEP 64

/* Guards the making of chunks. */
static struct lock list_lock;
struct chunk *_Atomic chunks_oldest;

static size_t chunk_records; /* under the list's lock */

struct chunk_books chunk_books;

struct chunk *chunk_first(void)
{
    /* Acquire: pairs with the release that appends a record. */
    return atomic_load_explicit(&chunks_oldest, memory_order_acquire);
}

/* Our pages in an OS page, at least 1. */
static size_t os_page_pages(void)
{
    return max_size(os_page_size / PAGE_SIZE, 1);
}

/* Which runs the chunk could give, counting what it could commit. */
static void publish_orders(struct chunk *chunk)
{
    size_t rest = chunk->base != NULL ? CHUNK_PAGES - chunk->committed : 0;
    uint32_t orders = chunk->buddy.orders | (uint32_t)rest; /* at least 2^k pages: bit k or above */
    atomic_store_explicit(&chunk->orders, orders, memory_order_relaxed);
}

/* By order, a chunk before which none is likely to give such a run; NULL: not even the first. */
static struct chunk *_Atomic first_fit[BUDDY_ORDERS];

/* The chunk may give runs that it could not give before. */
static void lower_first_fit(struct chunk *chunk)
{
    uint32_t orders = atomic_load_explicit(&chunk->orders, memory_order_relaxed);
    for (unsigned order = 0; orders >> order != 0; order++) {
        struct chunk *first = atomic_load_explicit(&first_fit[order], memory_order_relaxed);
        if (first != NULL && chunk->number < first->number)
            atomic_store_explicit(&first_fit[order], chunk, memory_order_relaxed);
    }
}

static void give_to_buddy(struct chunk *chunk, size_t first, size_t pages)
{
    uint32_t before = atomic_load_explicit(&chunk->orders, memory_order_relaxed);
    buddy_free(&chunk->buddy, first, pages);
    publish_orders(chunk);
    if (atomic_load_explicit(&chunk->orders, memory_order_relaxed) > before)
        lower_first_fit(chunk);
}

/* Makes the chunk accessible up to `end`, or a step further, and the new pages free. */
static bool commit_up_to(struct chunk *chunk, size_t end)
{
    if (end > CHUNK_PAGES)
        return false;
    size_t target = min_size(round_up(end, COMMIT_STEP), CHUNK_PAGES);
    char *start = chunk->base + chunk->committed * PAGE_SIZE;
    if (!os_commit(start, (target - chunk->committed) * PAGE_SIZE)) {
        target = round_up(end, os_page_pages()); /* perhaps less is granted */
        if (!os_commit(start, (target - chunk->committed) * PAGE_SIZE))
            return false;
    }
    size_t more = target - chunk->committed;
    raise_to(&chunk_books.peak_pages, more + atomic_fetch_add_explicit(&chunk_books.committed_pages,
                                                                       more, memory_order_relaxed));
    give_to_buddy(chunk, chunk->committed, target - chunk->committed);
    purge_note_growth((target - chunk->committed) * PAGE_SIZE);
    chunk->committed = target;
    return true;
}

/* Counts dirty pages; under the lock. */
static void count_dirty(struct chunk *chunk, size_t more, size_t fewer)
{
    size_t dirty = atomic_load_explicit(&chunk->dirty, memory_order_relaxed);
    atomic_store_explicit(&chunk->dirty, (uint32_t)(dirty + more - fewer), memory_order_relaxed);
}

static void set_state(struct chunk *chunk, enum page_state state, size_t first, size_t end)
{
    bits_set(chunk->free_state[state], first, end);
    if (state != PAGE_LAZY)
        count_dirty(chunk, end - first, 0);
}

/* Forgets the states of pages; returns how many had none: they are clean. */
static size_t clear_states(struct chunk *chunk, size_t first, size_t end)
{
    size_t clean = end - first;
    for (int state = 0; state < PAGE_STATES; state++) {
        uint64_t *bits = chunk->free_state[state];
        if (!bits_any(bits, first, end))
            continue;
        size_t count = bits_count(bits, first, end);
        clean -= count;
        if (state != PAGE_LAZY)
            count_dirty(chunk, 0, count);
        bits_clear(bits, first, end);
    }
    return clean;
}

/* The same of pages that are to be used. True when they are clean throughout. */
static bool begin_use(struct chunk *chunk, size_t first, size_t end)
{
    size_t clean = clear_states(chunk, first, end);
    if (clean != 0)
        purge_note_use(clean * PAGE_SIZE);
    return clean == end - first;
}

/* Under the chunk's lock. */
static void note_large(struct chunk *chunk, size_t first, size_t pages)
{
    chunk->large_pages += pages - chunk_large_pages(chunk, first);
    atomic_store_explicit(&chunk->large[first], (uint16_t)pages, memory_order_relaxed);
}

/* Under the chunk's lock. */
static bool take_locked(struct chunk *chunk, size_t pages, size_t alignment, bool large,
                        struct run *run)
{
    if (chunk->base == NULL)
        return false;
    size_t first = buddy_alloc(&chunk->buddy, pages, alignment);
    if (first == BUDDY_NONE) {
        size_t block = (size_t)1 << buddy_order(pages, alignment);
        if (!commit_up_to(chunk, round_up(chunk->committed, block) + block))
            return false;
        first = buddy_alloc(&chunk->buddy, pages, alignment);
    }
    publish_orders(chunk);
    run->chunk = chunk;
    run->first = first;
    run->pages = pages;
    run->start = chunk->base + first * PAGE_SIZE;
    run->zero = begin_use(chunk, first, first + pages);
    if (large) {
        note_large(chunk, first, pages);
    }
    return true;
}

static bool may_hold(const struct chunk *chunk, unsigned order)
{
    return atomic_load_explicit(&chunk->orders, memory_order_relaxed) >> order != 0;
}

/* From the first chunk that can give the run, so that pages that were used a moment ago are used
 * again and the others can be given back. Who finds that chunk's lock held for long goes on to the
 * next, or, with `wait`, waits. */
static bool take_from_any(size_t pages, size_t alignment, bool large, bool wait, struct run *run)
{
    unsigned order = buddy_order(pages, alignment);
    bool taken = false, passed_over = false;
    struct chunk *first =
        wait ? NULL : atomic_load_explicit(&first_fit[order], memory_order_acquire);
    struct chunk *chunk = first != NULL ? first : chunk_first();
    for (; chunk != NULL && !taken; chunk = chunk_next(chunk)) {
        if (!may_hold(chunk, order))
            continue;
        if (wait)
            lock_acquire(&chunk->lock);
        else if (!lock_try_a_while(&chunk->lock)) {
            passed_over = true;
            continue;
        }
        taken = take_locked(chunk, pages, alignment, large, run);
        lock_release(&chunk->lock);
        if (taken && !passed_over && chunk != first)
            atomic_store_explicit(&first_fit[order], chunk, memory_order_release);
    }
    return taken;
}

bool chunk_take_large_at_hand(size_t pages, size_t alignment, struct run *run)
{
    unsigned order = buddy_order(pages, alignment);
    bool taken = false;
    struct chunk *first = atomic_load_explicit(&first_fit[order], memory_order_acquire);
    struct chunk *chunk = first != NULL ? first : chunk_first();
    for (; chunk != NULL && !taken; chunk = chunk_next(chunk)) {
        if (!may_hold(chunk, order) || !lock_try_a_while(&chunk->lock))
            continue;
        taken =
            chunk->buddy.orders >> order != 0 && take_locked(chunk, pages, alignment, true, run);
        lock_release(&chunk->lock);
    }
    return taken;
}

/* A record without a base, or a new one at the end of the list. Under list_lock. */
static struct chunk *spare_record(void)
{
    struct chunk *_Atomic *link = &chunks_oldest;
    for (struct chunk *chunk; (chunk = atomic_load_explicit(link, memory_order_relaxed)) != NULL;
         link = &chunk->next) {
        lock_acquire(&chunk->lock);
        bool unused = chunk->base == NULL;
        lock_release(&chunk->lock);
        if (unused)
            return chunk;
    }
    struct chunk *chunk = meta_alloc(sizeof *chunk);
    if (chunk != NULL) {
        chunk->number = chunk_records++;
        atomic_store_explicit(link, chunk, memory_order_release);
    }
    return chunk;
}

/* Gives the addresses of a chunk back that is free throughout. Under its lock. */
static void unmap_chunk(struct chunk *chunk)
{
    /* Forgotten before they are given back: from then on the addresses may be anyone's. */
    pagemap_set_chunk(chunk->base, NULL);
    if (!os_unmap(chunk->base, CHUNK_SIZE)) {
        pagemap_set_chunk(chunk->base, chunk);
        return;
    }
    atomic_fetch_sub_explicit(&chunk_books.committed_pages, chunk->committed, memory_order_relaxed);
    chunk->base = NULL;
    chunk->buddy.orders = 0;
    bits_clear(chunk->free_state[PAGE_LAZY], 0, CHUNK_PAGES);
    publish_orders(chunk);
}

/* Maps a chunk and takes the run from it before anybody else can. Under list_lock. */
static bool take_from_new(size_t pages, size_t alignment, bool large, struct run *run)
{
    struct chunk *chunk = spare_record();
    if (chunk == NULL)
        return false;
    char *base = os_reserve_aligned(CHUNK_SIZE, CHUNK_SIZE);
    if (base == NULL)
        return false;
    if (!pagemap_prepare(base, CHUNK_SIZE)) {
        os_unmap(base, CHUNK_SIZE);
        return false;
    }
    if (options.huge_pages != HUGE_PAGES_KERNEL)
        os_use_huge_pages(base, CHUNK_SIZE, options.huge_pages == HUGE_PAGES_ON);
    lock_acquire(&chunk->lock);
    chunk->base = base;
    chunk->committed = 0;
    buddy_init(&chunk->buddy, 0);
    pagemap_set_chunk(base, chunk);
    bool taken = take_locked(chunk, pages, alignment, large, run);
    publish_orders(chunk);
    if (taken)
        lower_first_fit(chunk);
    else
        unmap_chunk(chunk); /* not one page of it is to be had */
    lock_release(&chunk->lock);
    return taken;
}

static bool take(size_t pages, size_t alignment, bool large, struct run *run)
{
    if (likely(take_from_any(pages, alignment, large, false, run)))
        return true;
    lock_acquire(&list_lock);
    /* Another thread may have mapped one, or given pages back, meanwhile. */
    bool taken = take_from_any(pages, alignment, large, true, run) ||
                 take_from_new(pages, alignment, large, run);
    lock_release(&list_lock);
    return taken;
}

bool chunk_take(size_t pages, size_t alignment, struct run *run)
{
    return take(pages, alignment, false, run);
}

bool chunk_take_large(size_t pages, size_t alignment, struct run *run)
{
    return take(pages, alignment, true, run);
}

/* Under the chunk's lock. The pages that were never used come last, and only when the others are
 * to be had. */
static bool extend_locked(struct chunk *chunk, size_t end, size_t more)
{
    size_t used = end < chunk->committed ? min_size(more, chunk->committed - end) : 0;
    if (end + more > CHUNK_PAGES || (used != 0 && !buddy_take(&chunk->buddy, end, used)))
        return false;
    if (used == more ||
        (commit_up_to(chunk, end + more) && buddy_take(&chunk->buddy, end + used, more - used)))
        return true;
    if (used != 0)
        buddy_free(&chunk->buddy, end, used);
    return false;
}

static bool extend(struct chunk *chunk, size_t first, size_t pages, size_t more, bool large)
{
    size_t end = first + pages;
    lock_acquire(&chunk->lock);
    bool taken = extend_locked(chunk, end, more);
    if (taken)
        begin_use(chunk, end, end + more);
    if (taken && large)
        note_large(chunk, first, pages + more);
    publish_orders(chunk);
    lock_release(&chunk->lock);
    return taken;
}

bool chunk_extend(struct chunk *chunk, size_t first, size_t pages, size_t more)
{
    return extend(chunk, first, pages, more, false);
}

/* Sets of states. */
#define STATES_OLD (1u << PAGE_OLD)
#define STATES_DIRTY (1u << PAGE_OLD | 1u << PAGE_YOUNG)
#define STATES_ALL (STATES_DIRTY | 1u << PAGE_LAZY)

/* True for free pages that may be purged along with some in these states, whose OS page they share:
 * clean or lazy ones. The young have a sweep of their own. */
static bool may_join(const struct chunk *chunk, unsigned states, size_t page, size_t end)
{
    bool spare_young = (states & 1u << PAGE_YOUNG) == 0;
    if (spare_young && bits_any(chunk->free_state[PAGE_YOUNG], page, end))
        return false;
    while (page < end && buddy_is_free(&chunk->buddy, page))
        page++;
    return page == end;
}

/* On the schedule immediate, before pages are given that are in nobody's hands: which of them are
 * clean now, none or all whole OS pages. */
struct clean {
    size_t first, end;
};

static struct clean purge_at_once(const struct chunk *chunk, size_t first, size_t end)
{
    size_t unit = os_page_pages(), bytes = 0;
    struct clean clean = {round_up(first, unit), end & ~(unit - 1)};
    if (options.schedule == SCHEDULE_IMMEDIATE && clean.first < clean.end &&
        purge_range(chunk->base + clean.first * PAGE_SIZE, (clean.end - clean.first) * PAGE_SIZE,
                    SWEEP_ALL, &bytes) == PURGE_DONE)
        return clean;
    return (struct clean){first, first};
}

/* The same afterwards, for an OS page that the first page, or the end, divides: it may be free now.
 * Under the lock, since it is only one. */
static void purge_divided(struct chunk *chunk, size_t page)
{
    size_t unit = os_page_pages(), outer = page & ~(unit - 1), bytes = 0;
    if (options.schedule == SCHEDULE_IMMEDIATE && outer != page &&
        may_join(chunk, STATES_ALL, outer, outer + unit) &&
        purge_range(chunk->base + outer * PAGE_SIZE, os_page_size, SWEEP_ALL, &bytes) == PURGE_DONE)
        clear_states(chunk, outer, outer + unit);
}

static void give_locked(struct chunk *chunk, size_t first, size_t end, struct clean clean,
                        enum page_state state)
{
    set_state(chunk, state, first, clean.first);
    set_state(chunk, state, clean.end, end);
    give_to_buddy(chunk, first, end - first);
    purge_divided(chunk, first);
    purge_divided(chunk, end);
}

static void give(struct chunk *chunk, size_t first, size_t pages, enum page_state state)
{
    struct clean clean = purge_at_once(chunk, first, first + pages);
    lock_acquire(&chunk->lock);
    give_locked(chunk, first, first + pages, clean, state);
    lock_release(&chunk->lock);
}

void chunk_give(struct chunk *chunk, size_t first, size_t pages)
{
    give(chunk, first, pages, PAGE_YOUNG);
}

void chunk_give_rested(struct chunk *chunk, size_t first, size_t pages)
{
    give(chunk, first, pages, PAGE_OLD);
}

void chunk_give_clean(struct chunk *chunk, size_t first, size_t pages)
{
    lock_acquire(&chunk->lock);
    give_locked(chunk, first, first + pages, (struct clean){first, first + pages}, PAGE_YOUNG);
    lock_release(&chunk->lock);
}

/* ---- Large blocks ---------------------------------------------------------------------------- */

void chunk_make_large(struct chunk *chunk, size_t first, size_t pages)
{
    lock_acquire(&chunk->lock);
    note_large(chunk, first, pages);
    lock_release(&chunk->lock);
}

bool chunk_extend_large(struct chunk *chunk, size_t first, size_t more)
{
    return extend(chunk, first, chunk_large_pages(chunk, first), more, true);
}

void chunk_shorten_large(struct chunk *chunk, size_t first, size_t wanted)
{
    size_t end = first + chunk_large_pages(chunk, first);
    struct clean clean = purge_at_once(chunk, first + wanted, end);
    lock_acquire(&chunk->lock);
    note_large(chunk, first, wanted);
    give_locked(chunk, first + wanted, end, clean, PAGE_YOUNG);
    lock_release(&chunk->lock);
}

size_t chunk_unmake_large(struct chunk *chunk, size_t first)
{
    size_t pages = chunk_large_pages(chunk, first);
    lock_acquire(&chunk->lock);
    note_large(chunk, first, 0);
    lock_release(&chunk->lock);
    return pages;
}

/* ---- Sweeps ---------------------------------------------------------------------------------- */

/* Finds the next free pages in these states from *page on, as whole OS pages (which may be larger
 * than ours, and then cannot be given back while the other half is in use). */
static bool find_pages(const struct chunk *chunk, unsigned states, size_t *page, size_t *end)
{
    uint64_t wanted[CHUNK_PAGES / 64] = {0};
    for (unsigned state = 0; state < PAGE_STATES; state++)
        for (size_t word = 0; word < CHUNK_PAGES / 64 && (states >> state & 1); word++)
            wanted[word] |= chunk->free_state[state][word];
    size_t unit = os_page_pages();
    for (size_t first = *page, stop; first < CHUNK_PAGES; first = stop) {
        first = bits_find(wanted, first, CHUNK_PAGES, true);
        stop = first < CHUNK_PAGES ? bits_find(wanted, first, CHUNK_PAGES, false) : CHUNK_PAGES;
        size_t outer = first & ~(unit - 1), outer_end = round_up(stop, unit);
        *page = may_join(chunk, states, outer, first) ? outer : outer + unit;
        *end = may_join(chunk, states, stop, outer_end) ? outer_end : outer_end - unit;
        if (*page < *end)
            return true;
    }
    return false;
}

/* What the sweep that is under way has taken out of a buddy; written under that chunk's lock. In
 * the child of a fork it may be left of a sweep that is not: the next one finds it. */
static struct {
    struct chunk *chunk; /* NULL: nothing */
    size_t page, end;
} in_hand;

/* Takes the next such pages out of the buddy, so that they can be purged without the lock. Under
 * the chunk's lock. */
static bool take_pages(struct chunk *chunk, unsigned states, size_t *page, size_t *end)
{
    if (chunk->base == NULL || !find_pages(chunk, states, page, end))
        return false;
    buddy_take(&chunk->buddy, *page, *end - *page);
    publish_orders(chunk);
    clear_states(chunk, *page, *end);
    in_hand.chunk = chunk;
    in_hand.page = *page;
    in_hand.end = *end;
    return true;
}

/* Gives them back, with a state, or clean (PAGE_STATES). Under the chunk's lock. */
static void put_pages(enum page_state state)
{
    struct chunk *chunk = in_hand.chunk;
    in_hand.chunk = NULL;
    if (state != PAGE_STATES)
        set_state(chunk, state, in_hand.page, in_hand.end);
    give_to_buddy(chunk, in_hand.page, in_hand.end - in_hand.page);
}

void chunk_put_back(void)
{
    if (in_hand.chunk == NULL)
        return;
    lone_visit_begin();
    struct chunk *chunk = in_hand.chunk;
    lock_acquire(&chunk->lock);
    put_pages(PAGE_YOUNG);
    lock_release(&chunk->lock);
    lone_visit_end();
}

static void make_young_old(struct chunk *chunk)
{
    for (size_t word = 0; word < CHUNK_PAGES / 64; word++) {
        chunk->free_state[PAGE_OLD][word] |= chunk->free_state[PAGE_YOUNG][word];
        chunk->free_state[PAGE_YOUNG][word] = 0;
    }
}

/* Up to *most bytes, or the run that exceeds them; takes those that it advised off. Returns what is
 * not resident any more. */
static size_t sweep_chunk(struct chunk *chunk, enum sweep_kind kind, size_t *most)
{
    bool whole = *most == SIZE_MAX;
    static const unsigned states[] = {
        [SWEEP_OLD] = STATES_OLD, [SWEEP_ALL] = STATES_DIRTY, [SWEEP_NOW] = STATES_ALL};
    size_t given_back = 0, page = 0, end;
    lone_visit_begin();
    lock_acquire(&chunk->lock);
    while (page < CHUNK_PAGES && *most != 0 && take_pages(chunk, states[kind], &page, &end)) {
        lock_release(&chunk->lock);
        lone_visit_end();
        char *start = chunk->base + page * PAGE_SIZE;
        enum purge_result result = purge_range(start, (end - page) * PAGE_SIZE, kind, &given_back);
        lone_visit_begin();
        lock_acquire(&chunk->lock);
        /* Refused (locked memory, for one) is refused for long: only a trim tries again. */
        put_pages(result == PURGE_DONE ? PAGE_STATES : PAGE_LAZY);
        if (!whole)
            *most -= min_size(*most, (end - page) * PAGE_SIZE);
        page = end;
    }
    if (whole)
        make_young_old(chunk);
    lock_release(&chunk->lock);
    lone_visit_end();
    return given_back;
}

static void unmap_if_empty(struct chunk *chunk, size_t *spare)
{
    lone_visit_begin();
    lock_acquire(&chunk->lock);
    bool empty = chunk->base != NULL && chunk->buddy.free_pages == chunk->committed &&
                 !bits_any(chunk->free_state[PAGE_OLD], 0, CHUNK_PAGES) &&
                 !bits_any(chunk->free_state[PAGE_YOUNG], 0, CHUNK_PAGES);
    if (empty && *spare != 0)
        (*spare)--;
    else if (empty)
        unmap_chunk(chunk);
    lock_release(&chunk->lock);
    lone_visit_end();
}

size_t chunk_sweep(enum sweep_kind kind, size_t spare)
{
    size_t given_back = 0, all = SIZE_MAX;
    chunk_put_back();
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = chunk_next(chunk)) {
        given_back += sweep_chunk(chunk, kind, &all);
        unmap_if_empty(chunk, &spare);
    }
    return given_back;
}

/* The last chunks that have dirty pages, and that their number. */
static size_t last_dirty(struct chunk **last, size_t most)
{
    size_t count = 0;
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = chunk_next(chunk))
        if (atomic_load_explicit(&chunk->dirty, memory_order_relaxed) != 0)
            last[count++ % most] = chunk;
    return count;
}

size_t chunk_make_up(size_t bytes)
{
    struct chunk *last[64];
    size_t most = sizeof last / sizeof *last, left = bytes;
    size_t count = last_dirty(last, most), least = count > most ? count - most : 0;
    chunk_put_back();
    for (; count > least && left != 0; count--)
        sweep_chunk(last[(count - 1) % most], SWEEP_ALL, &left);
    return bytes - left;
}

bool chunk_any_dirty(void)
{
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = chunk_next(chunk)) {
        size_t page = 0, end;
        lock_acquire(&chunk->lock);
        bool dirty = find_pages(chunk, STATES_DIRTY, &page, &end);
        lock_release(&chunk->lock);
        if (dirty)
            return true;
    }
    return in_hand.chunk != NULL;
}

size_t chunk_dirty_bytes(void)
{
    size_t pages = 0;
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = chunk_next(chunk)) {
        lock_acquire(&chunk->lock);
        pages += chunk_count_state(chunk, PAGE_YOUNG) + chunk_count_state(chunk, PAGE_OLD);
        lock_release(&chunk->lock);
    }
    if (in_hand.chunk != NULL)
        pages += in_hand.end - in_hand.page;
    return pages * PAGE_SIZE;
}

struct chunk *chunk_holding(const void *address)
{
    const char *base = (const char *)((uintptr_t)address & ~(CHUNK_SIZE - 1));
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = chunk_next(chunk)) {
        lock_acquire(&chunk->lock);
        bool here = chunk->base != NULL && chunk->base == base;
        lock_release(&chunk->lock);
        if (here)
            return chunk;
    }
    return NULL;
}

bool chunk_page_is_free(struct chunk *chunk, const void *address)
{
    lock_acquire(&chunk->lock);
    size_t page = chunk_page(address);
    bool free = page >= chunk->committed || buddy_is_free(&chunk->buddy, page) ||
                bits_any(chunk->forbidden, page, page + 1);
    lock_release(&chunk->lock);
    return free;
}

void chunk_count(struct chunk_totals *totals)
{
    *totals = (struct chunk_totals){0};
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = chunk_next(chunk)) {
        lock_acquire(&chunk->lock);
        chunk_add(chunk, totals);
        lock_release(&chunk->lock);
    }
}

size_t chunk_large_bytes(void)
{
    size_t pages = 0;
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = chunk_next(chunk)) {
        lock_acquire(&chunk->lock);
        pages += chunk->large_pages;
        lock_release(&chunk->lock);
    }
    return pages * PAGE_SIZE;
}

size_t chunk_committed_bytes(void)
{
    return atomic_load_explicit(&chunk_books.committed_pages, memory_order_relaxed) * PAGE_SIZE;
}

size_t chunk_peak_bytes(void)
{
    return atomic_load_explicit(&chunk_books.peak_pages, memory_order_relaxed) * PAGE_SIZE;
}

void chunk_lock_all(void)
{
    lock_acquire(&list_lock);
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = chunk_next(chunk))
        lock_acquire(&chunk->lock);
}

void chunk_unlock_all(void)
{
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = chunk_next(chunk))
        lock_release(&chunk->lock);
    lock_release(&list_lock);
}
