#include "takeover.h"

#include "ageing.h"
#include "arenas.h"
#include "harden.h"
#include "lone.h"
#include "os.h"

/* Arenas taken over with one membarrier. */
#define VISIT_BATCH 16

/* What a sweep does at most while it holds arenas: one of them may be wanted by its owner, who was
 * quiet until now, or is not quiet at all. Arenas at a time, and blocks out of the cache of each;
 * of spans with holes, SPAN_PURGES. */
#define SWEEP_BATCH 4
#define FLUSHED_PER_HOLD 512

/* For so many sweeps an owner must not have called for blocks or brought any back before his cache
 * is emptied. */
#define QUIET_SWEEPS 2

/* How often a sweep comes back to an arena whose cache was not empty after one hold: more often
 * than it takes for a full one, and not for ever to one that is filled as fast as it is emptied. */
#define FLUSHES_MOST 256

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

/* True when somebody waited for the arena. */
static bool visit_and_open(struct arena *arena, bool owned,
                           void (*visit)(struct arena *, bool, void *), void *context)
{
    arena->takeovers++;
    visit(arena, owned, context);
    cache_open(arena);
    bool awaited = lock_is_awaited(&arena->mutex);
    lock_release(&arena->mutex);
    return awaited;
}

/* Arenas that were closed and are locked: first those that are at rest, so that none of them waits
 * for an owner who is stuck in the middle. Without membarrier only the caller's own cache is out
 * of use for certain. True when somebody waited for one of them. */
static bool visit_batch(struct arena **batch, size_t count, unsigned sleeps,
                        void (*visit)(struct arena *, bool, void *), void *context)
{
    bool barrier = count != 0 && os_has_barrier() && os_barrier_all();
    bool awaited = false;
    size_t busy = 0;
    for (size_t i = 0; i < count; i++) {
        struct arena *arena = batch[i];
        bool ours = barrier || arena == arena_self;
        if (ours && cache_is_busy(&arena->cache)) {
            batch[i] = batch[busy];
            batch[busy++] = arena;
        } else {
            awaited |= visit_and_open(arena, ours, visit, context);
        }
    }
    for (size_t i = 0; i < busy; i++)
        awaited |= visit_and_open(batch[i], wait_for_owner(batch[i], sleeps), visit, context);
    return awaited;
}

void takeover_visit_all(void (*visit)(struct arena *arena, bool owned, void *context),
                        void *context)
{
    struct arena *batch[VISIT_BATCH];
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

/* ---- Sweeps ---------------------------------------------------------------------------------- */

static uint64_t arena_calls(const struct arena *arena)
{
    return arena->refills + arena->flushes;
}

/* Under the mutex: true when the arena's owner has let it be since the last sweep looked. */
static bool is_untouched(const struct arena *arena)
{
    return arena->calls_seen == arena_calls(arena);
}

/* Under the mutex, once a sweep. */
static void look_at(struct arena *arena)
{
    arena->quiet_sweeps = is_untouched(arena) ? arena->quiet_sweeps + 1 : 0;
    arena->calls_seen = arena_calls(arena);
}

/* Nothing for a sweep to bring back: a cache without any room holds nothing, and without membarrier
 * what it holds is out of reach. */
static bool is_empty(const struct arena *arena)
{
    bool keeps = arena->limit_bytes != 0 || arena->large_limit_bytes != 0 || arena->stacks_touched;
    return (!keeps || !os_has_barrier()) && !arena_has_mail(arena) && !harden_holds_any(arena);
}

/* Locks and closes an arena if it is worth it: if it is quiet, or all are wanted. */
static bool close_if_worth(struct arena *arena, bool all, bool again)
{
    if (all)
        lock_acquire(&arena->mutex);
    else if (!lock_try(&arena->mutex))
        return false; /* not quiet */
    if (!again)
        look_at(arena);
    bool quiet = is_untouched(arena) && arena->quiet_sweeps >= QUIET_SWEEPS;
    bool worth = (all || quiet) && !is_empty(arena);
    if (worth)
        cache_close(arena);
    else
        lock_release(&arena->mutex);
    return worth;
}

/* The next arenas of which that is true; moves *arena on behind them. */
static size_t close_next(struct arena **arena, struct arena **batch, bool all)
{
    size_t count = 0;
    for (; *arena != NULL && count < SWEEP_BATCH; *arena = arenas_next(*arena))
        if (close_if_worth(*arena, all, false))
            batch[count++] = *arena;
    return count;
}

/* Of those that were closed, the ones of which it is still true: unless all are wanted, those whose
 * owners have not come back. */
static size_t close_again(struct arena **batch, size_t count, bool all)
{
    size_t still = 0;
    for (size_t i = 0; i < count; i++)
        if (close_if_worth(batch[i], all, true))
            batch[still++] = batch[i];
    return still;
}

struct flush {
    struct mistake mistake;
    bool more; /* something was left in one of the caches for another hold */
};

static void flush_some(struct arena *arena, bool owned, void *context)
{
    struct flush *flush = context;
    arena->rested = arena->quiet_sweeps >= QUIET_SWEEPS;
    if (!owned)
        arena_drain(arena, &flush->mistake);
    else if (cache_flush(arena, FLUSHED_PER_HOLD, false, &flush->mistake)) {
        cache_shrink(arena);
        arena_drop_spares(arena);
    } else {
        flush->more = true;
    }
    if (!harden_flush(arena, FLUSHED_PER_HOLD, &flush->mistake))
        flush->more = true;
    arena->rested = false;
}

void takeover_flush(bool all)
{
    struct arena *batch[SWEEP_BATCH];
    struct flush flush = {{SPAN_FINE, NULL}, false};
    struct arena *next = arenas_first();
    size_t count = 0;
    for (unsigned times = 0; flush.more || next != NULL; times++) {
        lone_visit_begin();
        lock_acquire(&visit_lock);
        bool again = flush.more && times < FLUSHES_MOST;
        if (!again)
            times = 0;
        count = again ? close_again(batch, count, all) : close_next(&next, batch, all);
        flush.more = false;
        bool awaited = visit_batch(batch, count, all ? WAIT_SLEEPS_VISIT : 0, flush_some, &flush);
        lock_release(&visit_lock);
        lone_visit_end();
        lock_give_way(awaited);
    }
    arena_abort_on(&flush.mistake);
}

static bool drain_all(struct mistake *mistake)
{
    bool any = false;
    for (struct arena *arena = arenas_first(); arena != NULL; arena = arenas_next(arena)) {
        lone_visit_begin();
        if (arena_has_mail(arena)) {
            lock_acquire(&arena->mutex);
            arena_drain(arena, mistake);
            lock_release(&arena->mutex);
            any = true;
        }
        lone_visit_end();
    }
    return any;
}

/* Twice at most: mail that has to go on may go to an arena that was drained before. */
void takeover_drain(void)
{
    struct mistake mistake = {SPAN_FINE, NULL};
    if (drain_all(&mistake))
        drain_all(&mistake);
    arena_abort_on(&mistake);
}

size_t takeover_purge_holes(enum sweep_kind kind)
{
    static uint32_t sweep; /* under the caller's lock */
    size_t bytes = 0;
    sweep++;
    for (struct arena *arena = arenas_first(); arena != NULL; arena = arenas_next(arena)) {
        for (bool more = true; more;) {
            lone_visit_begin();
            lock_acquire(&arena->mutex);
            more = ageing_sweep(arena, sweep, kind, &bytes);
            bool awaited = lock_is_awaited(&arena->mutex);
            lock_release(&arena->mutex);
            lone_visit_end();
            lock_give_way(awaited);
        }
    }
    return bytes;
}

size_t takeover_out_bytes(void)
{
    size_t bytes = 0;
    for (struct arena *arena = arenas_first(); arena != NULL; arena = arenas_next(arena)) {
        lock_acquire(&arena->mutex);
        bytes += arena->span_bytes - arena->free_bytes;
        lock_release(&arena->mutex);
    }
    return bytes;
}

bool takeover_any_unswept(void)
{
    bool any = false;
    for (struct arena *arena = arenas_first(); arena != NULL && !any; arena = arenas_next(arena)) {
        lock_acquire(&arena->mutex);
        any = !is_untouched(arena) || !is_empty(arena) || arena->recent.oldest != NULL;
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
        arena->at_rest = arena == arena_self ||
                         ((barrier || arena->orphan) && wait_for_owner(arena, WAIT_SLEEPS_FORK));
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
