/* arena.h: what one thread owns: spans, and a cache in front of them.
 *
 *   malloc ── cache (cache.h, no lock) ──refill──► spans of the arena   (its mutex)
 *   free   ── cache of the freeing thread ──flush──► spans of whichever arena owns the block:
 *                                  its mutex, or, when that is held, its mailbox (mailbox.h)
 *
 * Spans, their bitmaps and the lists are touched only under the mutex. An arena that needs a span
 * of a class takes over one of another arena's, if it finds one with many free blocks that the
 * other does not need, before it makes a new one: what one thread gives up serves the next. The
 * cache is the owner's alone without a lock, or a visitor's who holds the mutex and has closed it
 * (a takeover).
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

/* Mail is taken so many blocks at a time. */
#define STRAYS_MOST 64

struct arena {
    struct cache cache;

    /* What the owner's last realloc made longer, and to how many bytes: it may be gone, so this
     * only tells what the owner does. Without a lock. */
    struct {
        void *_Atomic block;
        _Atomic size_t size;
    } grown;

    /* All below is under the mutex unless it says otherwise. */
    _Alignas(CACHE_LINE) struct lock mutex;
    void **stacks[CLASS_END];            /* where each bin's stack starts; NULL: there is none */
    struct span *dense[CLASS_SMALL_END]; /* spans with free blocks, by class: most of them out … */
    struct span *_Atomic sparse[CLASS_SMALL_END]; /* … or many free; others look if there are any */
    struct span_list {
        struct span *oldest, *newest;
    } recent, lazy; /* spans used within the last two sweeps; spans with lazy holes (ageing.h) */
    uint16_t limits[CLASS_END];    /* blocks that a bin may hold */
    uint8_t last_end[CLASS_END];   /* which end each bin met last, and how often since (cache.c) */
    size_t limit_bytes;            /* the same in bytes, of small classes … */
    size_t large_limit_bytes;      /* … and of large ones */
    size_t span_bytes;             /* in spans it owns */
    size_t free_bytes;             /* in blocks free in those spans */
    size_t reclaim_at;             /* so many in spans, and it looks for free ones in its cache */
    size_t hole_bytes, lazy_bytes; /* of those, given back; and of these, lazily */
    size_t large_bytes;            /* in large ones of its spans */
    size_t spans, large_spans;
    bool took_zero;                /* the last span made reads as zero */
    struct quarantine *quarantine; /* in the hardened mode (harden.h); NULL: none yet */
    unsigned victim;               /* the next class whose limit may have to shrink */
    struct arena *lender;          /* whom to ask next for a span */
    uint64_t refills, flushes, foreign_frees, takeovers, borrowed_spans;
    uint64_t calls, calls_us; /* of those, at the ends of bins; when they were looked at last … */
    bool calm;                /* … and were few */
    bool stacks_touched;      /* larger ones than the small ones, since they were given back */
    bool full_touched[CLASS_SMALL_END]; /* the one of this class in its full one */
    uint64_t calls_seen;                /* refills + flushes at the last sweep */
    bool rested; /* a sweep empties the cache of an owner who has been quiet for a while */
    uint32_t quiet_sweeps; /* since then they were the same */

    struct arena *_Atomic next; /* in the list of all; written once … */
    size_t number;              /* … as is which one it is there, from the oldest, 0 */
    struct arena *next_orphan;  /* under the list's lock */
    bool orphan;                /* under the list's lock */
    unsigned exit_rounds;       /* the owner's: destructor rounds it has seen */
    bool at_rest;               /* at fork: its cache was nobody's */
    int thread_id;              /* of the owner, or of the last one */

    /* Of its spans by class, for the statistics. */
    struct class_books {
        uint32_t spans;       /* count */
        uint32_t free_blocks; /* in them; not those in caches */
        uint32_t hole_pages;  /* OS pages of them that are given back, lazily or not */
        uint32_t retired;     /* blocks in this arena's quarantine, whosever spans they are of */
    } books[CLASS_END];

    /* Of a span that is no more, for the next one of its class; or a whole span, in no list, whose
     * blocks are all free (span_is_whole). */
    struct span *records[CLASS_END];

    /* Mail that had to go on to another arena, and could not yet; others look whether there is any.
     */
    void *strays[STRAYS_MOST];
    _Atomic uint32_t stray_count;

    _Alignas(CACHE_LINE) struct mailbox mailbox; /* anyone's */
    /* The stacks of the cache follow: see cache.c. */
};

/* All under the arena's mutex, and with nothing that allocates. A mistake of the program's is noted
 * for arena_abort_on, to be called when no lock is held any more. */

/* The list of all, for arenas.c and root.h; the rest by ->next. */
extern hidden struct arena *_Atomic arenas_newest;

/* All arenas, without a lock: the newest first. Arenas are never freed. */
struct arena *arenas_first(void);
struct arena *arenas_next(const struct arena *arena);

/* Puts one at the front. Under the list's lock (arenas.c). */
void arenas_add(struct arena *arena);

/* True when blocks of a small class are free in its spans. */
bool arena_has_free(const struct arena *arena, unsigned class);

/* Takes up to `wanted` blocks of a class, of others' spans or a new one only if it must have some
 * and has none; stores them downwards from end, the lowest last (span_take). Returns how many; if
 * it must, 0 without memory. */
size_t arena_take(struct arena *arena, unsigned class, void **end, size_t wanted, bool must);

/* Gives a large block, the size of which is that of its class, the length of another class where it
 * stands; false, and nothing changed, when that cannot be. Takes its owner's mutex. */
bool arena_resize_large(void *block, unsigned class);

/* Makes a large block, that is to have size bytes (over LARGE_MAX), one that belongs to no arena
 * (large.h); false, and nothing changed, when it would lose its guard and not be so large (span.h).
 * Takes its owner's mutex. */
bool arena_let_go(void *block, size_t size);

/* Brings back blocks that lie in one span of the arena, from the first one on; returns how many. */
size_t arena_put_into(struct arena *arena, struct span *span, void *const *blocks, size_t count,
                      struct mistake *mistake);

/* Brings blocks back. Those of other arenas stay, at the start of the array; returns how many. */
size_t arena_put(struct arena *arena, void **blocks, size_t count, struct mistake *mistake);

/* Gives up the spans and records that it keeps: it is quiet. */
void arena_drop_spares(struct arena *arena);

/* Brings back what lies in the mailbox. */
void arena_drain(struct arena *arena, struct mistake *mistake);

/* False when there is nothing to drain; a hint without the mutex. */
bool arena_has_mail(const struct arena *arena);

/* Brings blocks back, whoever owns them. The caller may hold arenas' mutexes unless may_wait.
 * Those that could not be brought without waiting stay at the start of the array; returns how
 * many. */
size_t arena_deliver(void **blocks, size_t count, bool may_wait, struct mistake *mistake);

/* Ends the program if it made a mistake. With no lock held. */
void arena_abort_on(const struct mistake *mistake);

#endif
