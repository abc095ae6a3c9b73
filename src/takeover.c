#include "takeover.h"

#include "arenas.h"
#include "os.h"

/* Arenas taken over with one membarrier. */
#define VISIT_BATCH 16

/* Spans whose holes are purged while a mutex is held: some 50 µs. */
#define HOLES_PER_HOLD 8

/* How long a visitor waits for an owner in the middle of its few instructions, who must have been
 * descheduled there: yields first, then sleeps of 50 µs. */
#define WAIT_YIELDS 64
#define WAIT_SLEEPS_VISIT 400  /* 20 ms */
#define WAIT_SLEEPS_FORK 20000 /* 1 s */
#define WAIT_SLEEP_US 50

/* One takeover of several arenas at a time. */
static struct lock visit_lock;

/* After close_cache and the barrier: true when the cache is ours. */
static bool wait_for_owner(struct arena *arena, unsigned sleeps)
{
    for (unsigned look = 0; look < WAIT_YIELDS; look++) {
        if (!cache_is_busy(&arena->cache))
            return true;
        os_yield();
    }
    for (unsigned look = 0; look < sleeps; look++) {
        if (!cache_is_busy(&arena->cache))
            return true;
        os_sleep_us(WAIT_SLEEP_US);
    }
    return false;
}

static void visit_and_open(struct arena *arena, bool owned,
                           void (*visit)(struct arena *, bool, void *), void *context)
{
    arena->takeovers++;
    visit(arena, owned, context);
    cache_open(arena);
    lock_release(&arena->mutex);
}

/* Arenas that were closed and are locked: first those that are at rest, so that none of them waits
 * for an owner who is stuck in the middle. Without membarrier only the caller's own cache is out
 * of use for certain. */
static void visit_batch(struct arena **batch, size_t count, unsigned sleeps,
                        void (*visit)(struct arena *, bool, void *), void *context)
{
    bool barrier = count != 0 && os_has_barrier() && os_barrier_all();
    size_t busy = 0;
    for (size_t i = 0; i < count; i++) {
        bool ours = barrier || batch[i] == arena_self;
        if (ours && cache_is_busy(&batch[i]->cache))
            batch[busy++] = batch[i];
        else
            visit_and_open(batch[i], ours, visit, context);
    }
    for (size_t i = 0; i < busy; i++)
        visit_and_open(batch[i], wait_for_owner(batch[i], sleeps), visit, context);
}

void takeover_visit_all(void (*visit)(struct arena *arena, bool owned, void *context),
                        void *context)
{
    struct arena *batch[VISIT_BATCH];
    arenas_prepare();
    lock_acquire(&visit_lock);
    struct arena *arena = arenas_first();
    while (arena != NULL) {
        size_t count = 0;
        for (; arena != NULL && count < VISIT_BATCH; arena = arenas_next(arena)) {
            lock_acquire(&arena->mutex);
            cache_close(arena);
            batch[count++] = arena;
        }
        visit_batch(batch, count, WAIT_SLEEPS_VISIT, visit, context);
    }
    lock_release(&visit_lock);
}

static void flush_visited(struct arena *arena, bool owned, void *context)
{
    if (owned) {
        cache_flush(arena, false, context);
        cache_shrink(arena);
    } else {
        arena_drain(arena, context);
    }
}

void takeover_flush_all(void)
{
    struct mistake mistake = {SPAN_FINE, NULL};
    takeover_visit_all(flush_visited, &mistake);
    /* What one visit brought to the mailbox of an arena that had been visited before. */
    for (struct arena *arena = arenas_first(); arena != NULL; arena = arenas_next(arena)) {
        if (mailbox_is_empty(&arena->mailbox))
            continue;
        lock_acquire(&arena->mutex);
        arena_drain(arena, &mistake);
        lock_release(&arena->mutex);
    }
    arena_abort_on(&mistake);
}

/* ---- Sweeps ---------------------------------------------------------------------------------- */

static uint64_t arena_calls(const struct arena *arena)
{
    return arena->refills + arena->flushes;
}

/* Under the mutex: true when the arena's owner let it be since the last sweep. */
static bool is_quiet(struct arena *arena)
{
    bool quiet = arena->calls_seen == arena_calls(arena);
    arena->calls_seen = arena_calls(arena);
    return quiet;
}

/* Nothing for a sweep to bring back: a cache without any room holds nothing, and without membarrier
 * what it holds is out of reach. */
static bool is_empty(struct arena *arena)
{
    return (arena->limit_bytes == 0 || !os_has_barrier()) && mailbox_is_empty(&arena->mailbox);
}

/* Locks and closes the next arenas that are worth it; moves *arena on behind them. */
static size_t close_quiet(struct arena **arena, struct arena **batch)
{
    size_t count = 0;
    for (; *arena != NULL && count < VISIT_BATCH; *arena = arenas_next(*arena)) {
        if (!lock_try(&(*arena)->mutex))
            continue; /* not quiet */
        if (is_quiet(*arena) && !is_empty(*arena)) {
            cache_close(*arena);
            batch[count++] = *arena;
        } else {
            lock_release(&(*arena)->mutex);
        }
    }
    return count;
}

void takeover_sweep_quiet(void)
{
    struct arena *batch[VISIT_BATCH];
    struct mistake mistake = {SPAN_FINE, NULL};
    lock_acquire(&visit_lock);
    for (struct arena *arena = arenas_first(); arena != NULL;)
        visit_batch(batch, close_quiet(&arena, batch), 0, flush_visited, &mistake);
    lock_release(&visit_lock);
    arena_abort_on(&mistake);
}

size_t takeover_purge_holes(bool at_once)
{
    static uint32_t sweep; /* under the caller's lock */
    size_t bytes = 0;
    sweep++;
    for (struct arena *arena = arenas_first(); arena != NULL; arena = arenas_next(arena)) {
        for (bool more = true; more;) {
            lock_acquire(&arena->mutex);
            for (int i = 0; i < HOLES_PER_HOLD && more; i++)
                more = arena_age_span(arena, sweep, at_once, &bytes);
            lock_release(&arena->mutex);
        }
    }
    return bytes;
}

bool takeover_any_unswept(void)
{
    bool any = false;
    for (struct arena *arena = arenas_first(); arena != NULL && !any; arena = arenas_next(arena)) {
        lock_acquire(&arena->mutex);
        any = arena->calls_seen != arena_calls(arena) || !is_empty(arena) ||
              arena->oldest_recent != NULL;
        lock_release(&arena->mutex);
    }
    return any;
}

/* ---- Fork ------------------------------------------------------------------------------------ */

void takeover_lock_all(void)
{
    lock_acquire(&visit_lock);
    arenas_lock();
    for (struct arena *arena = arenas_first(); arena != NULL; arena = arenas_next(arena)) {
        lock_acquire(&arena->mutex);
        cache_close(arena);
    }
    bool barrier = os_has_barrier() && os_barrier_all();
    for (struct arena *arena = arenas_first(); arena != NULL; arena = arenas_next(arena))
        arena->at_rest = (barrier || arena == arena_self || arena->orphan) &&
                         wait_for_owner(arena, WAIT_SLEEPS_FORK);
}

/* In the child: the owner does not exist any more. A cache that was in use while the memory was
 * copied is not to be trusted: its blocks stay allocated for ever. */
static void orphan(struct arena *arena)
{
    if (!arena->at_rest)
        cache_forget(arena);
    atomic_store_explicit(&arena->cache.busy, 0, memory_order_relaxed);
    if (!arena->orphan)
        arenas_add_orphan(arena);
}

void takeover_unlock_all(bool in_child)
{
    for (struct arena *arena = arenas_first(); arena != NULL; arena = arenas_next(arena)) {
        if (in_child)
            mailbox_repair(&arena->mailbox);
        if (in_child && arena != arena_self)
            orphan(arena);
        cache_open(arena);
        lock_release(&arena->mutex);
    }
    arenas_unlock();
    lock_release(&visit_lock);
}
