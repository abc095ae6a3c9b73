#include "chunk.h"

#include "meta.h"
#include "pagemap.h"
#include "purge.h"

/* Pages made accessible at a time, 2 MiB: few calls, and little charged before it is used. */
#define COMMIT_STEP 64

/* Guards the making of chunks. */
static struct lock list_lock;
static struct chunk *_Atomic first_chunk;

static _Atomic size_t committed_pages;

struct chunk *chunk_first(void)
{
    /* Acquire: pairs with the release that appends a record. */
    return atomic_load_explicit(&first_chunk, memory_order_acquire);
}

/* Our pages in an OS page, at least 1. */
static size_t os_page_pages(void)
{
    return max_size(os_page_size / PAGE_SIZE, 1);
}

static struct chunk *next_of(const struct chunk *chunk)
{
    return atomic_load_explicit(&chunk->next, memory_order_acquire);
}

/* Which runs the chunk could give, counting what it could commit. */
static void publish_orders(struct chunk *chunk)
{
    size_t rest = chunk->base != NULL ? CHUNK_PAGES - chunk->committed : 0;
    uint32_t orders = chunk->buddy.orders | (uint32_t)rest; /* at least 2^k pages: bit k or above */
    atomic_store_explicit(&chunk->orders, orders, memory_order_relaxed);
}

static void give_to_buddy(struct chunk *chunk, size_t first, size_t pages)
{
    buddy_free(&chunk->buddy, first, pages);
    publish_orders(chunk);
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
    atomic_fetch_add_explicit(&committed_pages, target - chunk->committed, memory_order_relaxed);
    give_to_buddy(chunk, chunk->committed, target - chunk->committed);
    chunk->committed = target;
    return true;
}

static void claim_states(struct chunk *chunk, size_t first, size_t end, bool *zero)
{
    *zero = true;
    for (int state = 0; state < PAGE_STATES; state++) {
        uint64_t *bits = chunk->free_state[state];
        if (bits_any(bits, first, end)) {
            *zero = false;
            bits_clear(bits, first, end);
        }
    }
}

/* Under the chunk's lock. */
static bool take_locked(struct chunk *chunk, size_t pages, size_t alignment, struct run *run)
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
    claim_states(chunk, first, first + pages, &run->zero);
    return true;
}

static bool may_hold(const struct chunk *chunk, unsigned order)
{
    return atomic_load_explicit(&chunk->orders, memory_order_relaxed) >> order != 0;
}

static bool take_from(struct chunk *chunk, size_t pages, size_t alignment, struct run *run)
{
    if (!may_hold(chunk, buddy_order(pages, alignment)))
        return false;
    lock_acquire(&chunk->lock);
    bool taken = take_locked(chunk, pages, alignment, run);
    lock_release(&chunk->lock);
    return taken;
}

static bool take_from_any(size_t pages, size_t alignment, struct run *run)
{
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = next_of(chunk))
        if (take_from(chunk, pages, alignment, run))
            return true;
    return false;
}

/* A record without a base, or a new one at the end of the list. Under list_lock. */
static struct chunk *spare_record(void)
{
    struct chunk *_Atomic *link = &first_chunk;
    for (struct chunk *chunk; (chunk = atomic_load_explicit(link, memory_order_relaxed)) != NULL;
         link = &chunk->next) {
        lock_acquire(&chunk->lock);
        bool unused = chunk->base == NULL;
        lock_release(&chunk->lock);
        if (unused)
            return chunk;
    }
    struct chunk *chunk = meta_alloc(sizeof *chunk);
    if (chunk != NULL)
        atomic_store_explicit(link, chunk, memory_order_release);
    return chunk;
}

/* Maps a chunk and takes the run from it before anybody else can. Under list_lock. */
static bool take_from_new(size_t pages, size_t alignment, struct run *run)
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
    lock_acquire(&chunk->lock);
    chunk->base = base;
    chunk->committed = 0;
    buddy_init(&chunk->buddy, 0);
    pagemap_set_chunk(base, chunk);
    bool taken = take_locked(chunk, pages, alignment, run);
    publish_orders(chunk);
    lock_release(&chunk->lock);
    return taken;
}

bool chunk_take(struct chunk **home, size_t pages, size_t alignment, struct run *run)
{
    if (likely(*home != NULL && take_from(*home, pages, alignment, run)))
        return true;
    bool taken = take_from_any(pages, alignment, run);
    if (!taken) {
        lock_acquire(&list_lock);
        /* Another thread may have mapped one, or given pages back, meanwhile. */
        taken = take_from_any(pages, alignment, run) || take_from_new(pages, alignment, run);
        lock_release(&list_lock);
    }
    if (taken)
        *home = run->chunk;
    return taken;
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

bool chunk_extend(struct chunk *chunk, size_t first, size_t pages, size_t more)
{
    size_t end = first + pages;
    bool zero;
    lock_acquire(&chunk->lock);
    bool taken = extend_locked(chunk, end, more);
    if (taken)
        claim_states(chunk, end, end + more, &zero);
    publish_orders(chunk);
    lock_release(&chunk->lock);
    return taken;
}

void chunk_give(struct chunk *chunk, size_t first, size_t pages)
{
    lock_acquire(&chunk->lock);
    bits_set(chunk->free_state[PAGE_YOUNG], first, first + pages);
    give_to_buddy(chunk, first, pages);
    lock_release(&chunk->lock);
}

/* Sets of states. */
#define STATES_OLD (1u << PAGE_OLD)
#define STATES_DIRTY (1u << PAGE_OLD | 1u << PAGE_YOUNG)
#define STATES_ALL (STATES_DIRTY | 1u << PAGE_LAZY)

/* Finds the next free pages in these states from *page on that make whole OS pages (which may be
 * larger than ours, and then cannot be given back while the other half is in use). */
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
        *page = round_up(first, unit);
        *end = stop & ~(unit - 1);
        if (*page < *end)
            return true;
    }
    return false;
}

/* Takes the next such pages out of the buddy, so that they can be purged without the lock. Under
 * the chunk's lock. */
static bool take_pages(struct chunk *chunk, unsigned states, size_t *page, size_t *end)
{
    if (!find_pages(chunk, states, page, end))
        return false;
    buddy_take(&chunk->buddy, *page, *end - *page);
    publish_orders(chunk);
    for (unsigned state = 0; state < PAGE_STATES; state++)
        bits_clear(chunk->free_state[state], *page, *end);
    return true;
}

static size_t sweep_chunk(struct chunk *chunk, bool everything)
{
    unsigned states = everything ? STATES_ALL : STATES_OLD;
    size_t given_back = 0, page = 0, end;
    lock_acquire(&chunk->lock);
    while (chunk->base != NULL && page < CHUNK_PAGES && take_pages(chunk, states, &page, &end)) {
        lock_release(&chunk->lock);
        enum purge_result result =
            purge_range(chunk->base + page * PAGE_SIZE, (end - page) * PAGE_SIZE);
        lock_acquire(&chunk->lock);
        if (result == PURGE_DONE)
            given_back += (end - page) * PAGE_SIZE;
        else /* refused (locked memory, for one) is refused for long: only a trim tries again */
            bits_set(chunk->free_state[PAGE_LAZY], page, end);
        give_to_buddy(chunk, page, end - page);
        page = end;
    }
    for (size_t word = 0; word < CHUNK_PAGES / 64; word++) {
        chunk->free_state[PAGE_OLD][word] |= chunk->free_state[PAGE_YOUNG][word];
        chunk->free_state[PAGE_YOUNG][word] = 0;
    }
    lock_release(&chunk->lock);
    return given_back;
}

/* Gives the addresses of a chunk back when it is free throughout and clean. */
static void unmap_if_empty(struct chunk *chunk, size_t *spare)
{
    lock_acquire(&chunk->lock);
    bool empty = chunk->base != NULL && chunk->buddy.free_pages == chunk->committed &&
                 !bits_any(chunk->free_state[PAGE_OLD], 0, CHUNK_PAGES) &&
                 !bits_any(chunk->free_state[PAGE_YOUNG], 0, CHUNK_PAGES);
    if (empty && *spare != 0) {
        (*spare)--;
    } else if (empty) {
        /* Forgotten before they are given back: from then on the addresses may be anyone's. */
        pagemap_set_chunk(chunk->base, NULL);
        if (os_unmap(chunk->base, CHUNK_SIZE)) {
            chunk->base = NULL;
            chunk->buddy.orders = 0;
            bits_clear(chunk->free_state[PAGE_LAZY], 0, CHUNK_PAGES);
            publish_orders(chunk);
        } else {
            pagemap_set_chunk(chunk->base, chunk);
        }
    }
    lock_release(&chunk->lock);
}

size_t chunk_sweep(bool everything, size_t spare)
{
    size_t given_back = 0;
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = next_of(chunk)) {
        given_back += sweep_chunk(chunk, everything);
        unmap_if_empty(chunk, &spare);
    }
    return given_back;
}

bool chunk_any_dirty(void)
{
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = next_of(chunk)) {
        size_t page = 0, end;
        lock_acquire(&chunk->lock);
        bool dirty = find_pages(chunk, STATES_DIRTY, &page, &end);
        lock_release(&chunk->lock);
        if (dirty)
            return true;
    }
    return false;
}

struct chunk *chunk_holding(const void *address)
{
    const char *base = (const char *)((uintptr_t)address & ~(CHUNK_SIZE - 1));
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = next_of(chunk)) {
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
    bool free = page >= chunk->committed || buddy_is_free(&chunk->buddy, page);
    lock_release(&chunk->lock);
    return free;
}

void chunk_count(struct chunk_totals *totals)
{
    *totals = (struct chunk_totals){0};
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = next_of(chunk)) {
        lock_acquire(&chunk->lock);
        if (chunk->base != NULL) {
            totals->mapped_bytes += CHUNK_SIZE;
            totals->free_bytes +=
                (chunk->buddy.free_pages + CHUNK_PAGES - chunk->committed) * PAGE_SIZE;
            totals->dirty_bytes += (bits_count(chunk->free_state[PAGE_OLD], 0, CHUNK_PAGES) +
                                    bits_count(chunk->free_state[PAGE_YOUNG], 0, CHUNK_PAGES)) *
                                   PAGE_SIZE;
            totals->lazy_bytes +=
                bits_count(chunk->free_state[PAGE_LAZY], 0, CHUNK_PAGES) * PAGE_SIZE;
            totals->large_bytes += chunk->large_pages * PAGE_SIZE;
            for (size_t page = 0; page < CHUNK_PAGES; page++)
                totals->large_blocks += chunk->large[page] != 0;
        }
        lock_release(&chunk->lock);
    }
}

size_t chunk_committed_bytes(void)
{
    return atomic_load_explicit(&committed_pages, memory_order_relaxed) * PAGE_SIZE;
}

void chunk_lock_all(void)
{
    lock_acquire(&list_lock);
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = next_of(chunk))
        lock_acquire(&chunk->lock);
}

void chunk_unlock_all(void)
{
    for (struct chunk *chunk = chunk_first(); chunk != NULL; chunk = next_of(chunk))
        lock_release(&chunk->lock);
    lock_release(&list_lock);
}
