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

/* The calling thread's arena. Before its first call a stand-in whose cache is always closed. */
extern hidden __thread struct arena *arena_self __attribute__((tls_model("initial-exec")));

/* The slow paths. Each begins by leaving the cache that the fast path entered. */

/* A block of the class, or NULL when there is no memory (errno is not set). */
void *arena_alloc(unsigned class);

/* Keeps a block, or brings older ones back. Aborts when it finds one that was not to be freed. */
void arena_free(unsigned class, void *block);

/* The caller's arena's preferred chunk, for runs that are no spans. */
struct chunk **arena_home(void);

/* Calls visit for every arena: with its mutex held, and, when owned is true, its cache closed and
 * at rest; false when its owner could not be kept out (no membarrier, or a thread that is stopped
 * in the middle). visit must not allocate, or wait for
 * an arena's mutex. */
void arena_visit_all(void (*visit)(struct arena *arena, bool owned, void *context), void *context);

/* Brings every cached block of every arena back to its span, and all mail. */
void arena_flush_all(void);

/* The purger's part: takes over the arenas whose owners have not called for a block or brought one
 * back since the last time, and empties their caches and mailboxes. Waits for nobody. */
void arena_sweep_quiet(void);

/* Gives back the OS pages between live blocks in spans of which nothing was taken or brought back
 * for two sweeps, or in all when at_once. One caller at a time. Returns bytes. */
size_t arena_purge_holes(bool at_once);

/* True when an arena was used since the last sweep, or holds something a sweep would bring back. */
bool arena_any_unswept(void);

/* What one arena holds; call from a visit. Blocks in caches and mailboxes count as live in
 * span_bytes - free_bytes of their owners. */
size_t arena_cached_bytes(const struct arena *arena);

/* Arenas made since the start. */
size_t arena_count(void);

/* In the child of a fork, first of all: the caller's thread has a new id. */
void arena_enter_child(void);

/* For fork: every mutex held, every cache closed and at rest. The child makes orphans of all
 * arenas but the caller's. */
void arena_lock_all(void);
void arena_unlock_all(bool in_child);

#endif
