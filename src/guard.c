#include "guard.h"

#include "lone.h"

static _Atomic size_t forbidden_pages;

bool guard_is_possible(void)
{
    return os_page_size <= PAGE_SIZE &&
           (os_forbids_lightly() ||
            atomic_load_explicit(&forbidden_pages, memory_order_relaxed) < GUARDS_MOST);
}

static void set_forbidden(struct chunk *chunk, size_t first, size_t end)
{
    lock_acquire(&chunk->lock);
    bits_set(chunk->forbidden, first, end);
    lock_release(&chunk->lock);
}

/* Pages that were taken. */
static bool forbid(struct chunk *chunk, size_t first, size_t pages)
{
    if (!os_forbid(chunk->base + first * PAGE_SIZE, pages * PAGE_SIZE))
        return false;
    purge_note_unmapped(pages * PAGE_SIZE);
    atomic_fetch_add_explicit(&forbidden_pages, pages, memory_order_relaxed);
    set_forbidden(chunk, first, first + pages);
    return true;
}

bool guard_page(struct chunk *chunk, size_t page)
{
    return forbid(chunk, page, 1);
}

/* The next pages from *first on that are forbidden, into the caller's hands. */
static bool take_forbidden(struct chunk *chunk, size_t *first, size_t *stop, size_t end)
{
    lock_acquire(&chunk->lock);
    *first = bits_find(chunk->forbidden, *first, end, true);
    *stop = *first < end ? bits_find(chunk->forbidden, *first, end, false) : end;
    if (*first < end)
        bits_clear(chunk->forbidden, *first, *stop);
    lock_release(&chunk->lock);
    return *first < end;
}

/* Of what is in the caller's hands; where it is refused, it is not any more. */
static bool allow(struct chunk *chunk, size_t first, size_t stop)
{
    bool allowed = os_allow(chunk->base + first * PAGE_SIZE, (stop - first) * PAGE_SIZE);
    if (allowed)
        atomic_fetch_sub_explicit(&forbidden_pages, stop - first, memory_order_relaxed);
    else
        set_forbidden(chunk, first, stop);
    return allowed;
}

void guard_allow(struct chunk *chunk, size_t first, size_t pages)
{
    size_t end = first + pages, stop;
    for (; first < end && take_forbidden(chunk, &first, &stop, end); first = stop)
        if (allow(chunk, first, stop))
            chunk_give_clean(chunk, first, stop - first);
}

bool guard_take(struct chunk *chunk, size_t page)
{
    size_t stop;
    if (!take_forbidden(chunk, &page, &stop, page + 1) || !allow(chunk, page, stop))
        return false;
    purge_note_use(PAGE_SIZE);
    return true;
}

/* A ring of what is detained, under its lock; others look whether there is anything. What is in it
 * may have been allowed to all meanwhile: it is the chunk that knows. */
static struct {
    struct lock lock;
    size_t first, pages;
    _Atomic size_t count;
    struct run runs[DETAINED_MOST];
} detained;

static size_t detained_count(void)
{
    return atomic_load_explicit(&detained.count, memory_order_relaxed);
}

static void set_detained_count(size_t count)
{
    atomic_store_explicit(&detained.count, count, memory_order_relaxed);
}

/* False when others must leave first. */
static bool remember(const struct run *run)
{
    size_t count = detained_count();
    if (count == DETAINED_MOST || (detained.pages + run->pages) * PAGE_SIZE > DETAINED_BYTES)
        return false;
    detained.runs[(detained.first + count) % DETAINED_MOST] = *run;
    set_detained_count(count + 1);
    detained.pages += run->pages;
    return true;
}

/* False when there is none. */
static bool forget_oldest(struct run *run)
{
    size_t count = detained_count();
    if (count == 0)
        return false;
    *run = detained.runs[detained.first];
    detained.first = (detained.first + 1) % DETAINED_MOST;
    set_detained_count(count - 1);
    detained.pages -= run->pages;
    return true;
}

static void release_oldest(void)
{
    struct run run;
    lock_acquire(&detained.lock);
    bool any = forget_oldest(&run);
    lock_release(&detained.lock);
    if (any)
        guard_allow(run.chunk, run.first, run.pages);
}

void guard_detain(struct chunk *chunk, size_t first, size_t pages)
{
    struct run run = {.chunk = chunk, .first = first, .pages = pages};
    if (!guard_is_possible() || !forbid(chunk, first, pages)) {
        chunk_give(chunk, first, pages);
        return;
    }
    for (bool remembered = false; !remembered;) {
        lock_acquire(&detained.lock);
        remembered = remember(&run);
        lock_release(&detained.lock);
        if (!remembered)
            release_oldest();
    }
}

void guard_release(void)
{
    while (detained_count() != 0) {
        lone_visit_begin();
        release_oldest();
        lone_visit_end();
    }
}

bool guard_allow_all(void)
{
    size_t before = atomic_load_explicit(&forbidden_pages, memory_order_relaxed);
    for (struct chunk *chunk = chunk_first(); chunk != NULL && before != 0;
         chunk = chunk_next(chunk))
        guard_allow(chunk, 0, CHUNK_PAGES);
    return before != 0;
}

void guard_lock(void)
{
    lock_acquire(&detained.lock);
}

void guard_unlock(void)
{
    lock_release(&detained.lock);
}
