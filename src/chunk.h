/* chunk.h: 32 MiB of address space at a multiple of its size, cut into 1,024 pages that a buddy
 * hands out as runs. All threads share all chunks: what one gave up serves the next.
 *
 * Each chunk has a lock of its own. A chunk's record is never freed or used for anything else (a
 * chunk without a base waits to be used again), so the list of records can be walked without a
 * lock and a stale pointer to one does no harm.
 *
 * A free page is clean (reads as zero, costs no memory) or marked in one of three bitmaps: dirty
 * and young, dirty and old, or lazy: left to the kernel by MADV_FREE, or it refused to purge them;
 * not known to be zero, and only a trim looks at them again. A sweep purges the old and makes the
 * young ones old.
 *
 * Pages from `committed` on were never used, are not accessible yet and not in the buddy: under
 * strict overcommit a process is charged for what it uses, not for whole chunks.
 */
#ifndef EBB_CHUNK_H
#define EBB_CHUNK_H

#include "bits.h"
#include "buddy.h"
#include "lock.h"
#include "purge.h"

struct span;

enum page_state { PAGE_YOUNG, PAGE_OLD, PAGE_LAZY, PAGE_STATES };

struct chunk {
    struct lock lock;
    _Atomic uint32_t orders; /* sizes of runs it could give, for who looks without the lock */
    char *base;              /* NULL: this record is not in use */
    struct chunk *_Atomic next;
    size_t number;      /* in the list; written once */
    size_t committed;   /* pages, from the base */
    size_t large_pages; /* in large blocks */
    _Atomic uint32_t
        dirty; /* free pages that are young or old; read by who looks without the lock */
    struct buddy buddy;
    uint64_t free_state[PAGE_STATES][CHUNK_PAGES / 64]; /* of free pages only */
    uint64_t forbidden[CHUNK_PAGES / 64];               /* cannot be touched (guard.h) */
    _Atomic uint16_t large[CHUNK_PAGES]; /* pages of the large block that begins here, or 0; read by
                                            who holds the block */
    struct span *spans[CHUNK_PAGES];     /* the span that each page belongs to, or NULL; written by
                                            who holds the page, read by who holds a block in it */
};

struct run {
    struct chunk *chunk;
    size_t first; /* page in the chunk */
    size_t pages;
    char *start;
    bool zero; /* reads as zero throughout */
};

/* Takes a run of `pages` (1 … 1,024) at a multiple of `alignment` (in pages, a power of two up to
 * 1,024): from the first chunk that can give it, else from a new one. False when there is no
 * memory.
 */
bool chunk_take(size_t pages, size_t alignment, struct run *run);

/* The same for a large block, with its length noted under the same hold of the lock: so a fork,
 * which takes that, finds the pages in a list or noted. */
bool chunk_take_large(size_t pages, size_t alignment, struct run *run);

/* The same, of free pages alone, and not of any that were never used; what lies between the run and
 * the next multiple of the alignment is free then, too. False when there are none. */
bool chunk_take_large_at_hand(size_t pages, size_t alignment, struct run *run);

/* The length of the large block that begins at that page, or 0. No lock: a handler that came upon
 * who asks may want the chunk's. */
static inline size_t chunk_large_pages(const struct chunk *chunk, size_t first)
{
    return atomic_load_explicit(&chunk->large[first], memory_order_relaxed);
}

/* Notes a shorter length for one, down to 0: what it has no more is given back. */
void chunk_shorten_large(struct chunk *chunk, size_t first, size_t wanted);

/* Makes one pages that were taken, and returns how many. */
size_t chunk_unmake_large(struct chunk *chunk, size_t first);

/* Makes pages that were taken a large block, or one longer by the `more` pages right behind it, if
 * they are free. */
void chunk_make_large(struct chunk *chunk, size_t first, size_t pages);
bool chunk_extend_large(struct chunk *chunk, size_t first, size_t more);

/* Takes the `more` pages right behind a run, if they are free. */
bool chunk_extend(struct chunk *chunk, size_t first, size_t pages, size_t more);

/* Gives pages back, used; and the same for those that nobody has used for a while. */
void chunk_give(struct chunk *chunk, size_t first, size_t pages);
void chunk_give_rested(struct chunk *chunk, size_t first, size_t pages);

/* Gives pages back that read as zero and cost no memory. */
void chunk_give_clean(struct chunk *chunk, size_t first, size_t pages);

/* One sweep over all chunks: purges the old dirty pages (all of them unless the kind is SWEEP_OLD),
 * makes the young ones old, and unmaps chunks that are free throughout and clean, but for
 * `spare` of them. Never holds a lock during madvise. One caller at a time, under the sweep lock
 * (purger.c). Returns the bytes given back. */
size_t chunk_sweep(enum sweep_kind kind, size_t spare);

/* Gives dirty pages back, so many bytes or a little more, those first that are least likely to be
 * used next, by the advice that the user chose. By those who may sweep. Returns the bytes, `bytes`
 * at most. */
size_t chunk_make_up(size_t bytes);

/* In the child of a fork, and by those who may sweep: what a sweep that is no more had in its hands
 * is free again. */
void chunk_put_back(void);

/* True when a sweep would have something to do, now or the next time. By those who may sweep. */
bool chunk_any_dirty(void);

/* Bytes of dirty pages, with those that a sweep has in its hands. */
size_t chunk_dirty_bytes(void);

/* The page of its chunk that address lies in. */
static inline size_t chunk_page(const void *address)
{
    return ((uintptr_t)address >> PAGE_SHIFT) & (CHUNK_PAGES - 1);
}

/* The list of all records, for chunk.c and root.h. */
extern hidden struct chunk *_Atomic chunks_oldest;

/* All records, one after the other. No lock needed. */
struct chunk *chunk_first(void);

static inline struct chunk *chunk_next(const struct chunk *chunk)
{
    return atomic_load_explicit(&chunk->next, memory_order_acquire);
}

/* What an address is, for error messages: slow. chunk_holding is NULL when no chunk holds it. */
struct chunk *chunk_holding(const void *address);
bool chunk_page_is_free(struct chunk *chunk, const void *address);

struct chunk_totals {
    size_t mapped_bytes; /* address space of chunks in use */
    size_t free_bytes;   /* free pages of all states */
    size_t dirty_bytes;  /* free pages that are still resident */
    size_t lazy_bytes;   /* free pages that may still be */
    size_t large_bytes;  /* in large blocks */
    size_t large_blocks;
};
void chunk_count(struct chunk_totals *totals);

/* Of these, large_bytes alone: a look at one word of each chunk. */
size_t chunk_large_bytes(void);

/* Pure: of a record under its lock, or of a copy. */

static inline size_t chunk_count_state(const struct chunk *chunk, enum page_state state)
{
    return bits_count(chunk->free_state[state], 0, CHUNK_PAGES);
}

static inline void chunk_add(const struct chunk *chunk, struct chunk_totals *totals)
{
    if (chunk->base == NULL)
        return;
    totals->mapped_bytes += CHUNK_SIZE;
    /* What cannot be touched is as good as free: it costs no memory. */
    totals->free_bytes += (chunk->buddy.free_pages + CHUNK_PAGES - chunk->committed +
                           bits_count(chunk->forbidden, 0, CHUNK_PAGES)) *
                          PAGE_SIZE;
    totals->dirty_bytes +=
        (chunk_count_state(chunk, PAGE_YOUNG) + chunk_count_state(chunk, PAGE_OLD)) * PAGE_SIZE;
    totals->lazy_bytes += chunk_count_state(chunk, PAGE_LAZY) * PAGE_SIZE;
    totals->large_bytes += chunk->large_pages * PAGE_SIZE;
    for (size_t page = 0; page < CHUNK_PAGES; page++)
        totals->large_blocks += chunk_large_pages(chunk, page) != 0;
}

/* Pages that were used at some time and are still mapped, now and at the most. */
extern hidden struct chunk_books {
    _Atomic size_t committed_pages, peak_pages;
} chunk_books;

/* Bytes of pages that were used at some time and are still mapped: no lock, no exactness. */
size_t chunk_committed_bytes(void);

/* The most that this ever was. */
size_t chunk_peak_bytes(void);

/* For fork: all chunks and the list. */
void chunk_lock_all(void);
void chunk_unlock_all(void);

#endif
