/* arena.h: what one thread owns: spans, and a cache in front of them.
 *
 *   malloc ── cache (cache.h, no lock) ──refill──► spans of the arena   (its mutex)
 *   free   ── cache of the freeing thread ──flush──► spans of whichever arena owns the block:
 *                                  its mutex, or, when that is held, its mailbox (mailbox.h)
 *
 * Spans, their bitmaps and the lists are touched only under the mutex. The cache is the owner's
 * alone without a lock, or a visitor's who holds the mutex and has closed it (a takeover).
 *
 * An arena outlives its thread: at exit its cache is flushed and it becomes an orphan, which the
 * next new thread adopts. Arenas are never freed. A thread that runs destructors after its arena
 * is gone, or for which no arena could be made, works on the commons: an arena without a cache,
 * shared under its mutex.
 */
#ifndef EBB_ARENA_H
#define EBB_ARENA_H

#include "cache.h"
#include "lock.h"
#include "mailbox.h"
#include "span.h"

struct arena {
    struct cache cache;

    /* All below is under the mutex unless it says otherwise. */
    _Alignas(CACHE_LINE) struct lock mutex;
    struct chunk *home;              /* where the last run came from; a hint, and read as one */
    void **stacks[CLASS_END];        /* where each bin's stack starts; NULL: there is none */
    struct span *partial[CLASS_END]; /* spans with free blocks, by class */
    struct span *oldest_recent, *newest_recent; /* spans used within the last two sweeps */
    uint16_t limits[CLASS_END];                 /* blocks that a bin may hold */
    size_t limit_bytes;                         /* the same in bytes, in all */
    size_t span_bytes;                          /* in spans it owns */
    size_t free_bytes;                          /* in blocks free in those spans */
    size_t spans;
    unsigned victim; /* the next class whose limit may have to shrink */
    uint64_t refills, flushes, foreign_frees, takeovers;
    uint64_t calls_seen; /* refills + flushes at the last sweep */

    struct arena *_Atomic next; /* in the list of all; written once */
    struct arena *next_orphan;  /* under the list's lock */
    bool orphan;                /* under the list's lock */
    unsigned exit_rounds;       /* the owner's: destructor rounds it has seen */
    bool at_rest;               /* at fork: its cache was nobody's */
    int thread_id;              /* of the owner, or of the last one */

    _Alignas(CACHE_LINE) struct mailbox mailbox; /* anyone's */
    /* The stacks of the cache follow: see arena.c. */
};

/* All under the arena's mutex, and with nothing that allocates. A mistake of the program's is noted
 * for arena_abort_on, to be called when no lock is held any more. */

/* Takes up to `wanted` blocks of a class, from a new span only if no other has any; stores them
 * downwards from end, the lowest last (span_take). Returns how many; 0 without memory. */
size_t arena_take(struct arena *arena, unsigned class, void **end, size_t wanted);

/* Brings back blocks that lie in one span of the arena, from the first one on; returns how many. */
size_t arena_put_into(struct arena *arena, struct span *span, void *const *blocks, size_t count,
                      struct mistake *mistake);

/* Brings back blocks that all belong to the arena, as far as one can tell. */
void arena_put(struct arena *arena, void *const *blocks, size_t count, struct mistake *mistake);

/* Brings back what lies in the mailbox. */
void arena_drain(struct arena *arena, struct mistake *mistake);

/* Looks at the oldest of the spans that were used lately: one that was not touched for two sweeps,
 * or any when at_once, has its holes purged. False when the sweep of that number has seen all. */
bool arena_age_span(struct arena *arena, uint32_t sweep, bool at_once, size_t *bytes);

/* Brings blocks back, whoever owns them. The caller may hold arenas' mutexes unless may_wait.
 * Those that could not be brought without waiting stay at the start of the array; returns how
 * many. */
size_t arena_deliver(void **blocks, size_t count, bool may_wait, struct mistake *mistake);

/* Ends the program if it made a mistake. With no lock held. */
void arena_abort_on(const struct mistake *mistake);

#endif
