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

struct span;

enum page_state { PAGE_YOUNG, PAGE_OLD, PAGE_LAZY, PAGE_STATES };

struct chunk {
    struct lock lock;
    _Atomic uint32_t orders; /* sizes of runs it could give, for who looks without the lock */
    char *base;              /* NULL: this record is not in use */
    struct chunk *_Atomic next;
    size_t committed;   /* pages, from the base */
    size_t large_pages; /* in large blocks */
    struct buddy buddy;
    uint64_t free_state[PAGE_STATES][CHUNK_PAGES / 64]; /* of free pages only */
    uint16_t large[CHUNK_PAGES];     /* pages of the large block that begins here, or 0 */
    struct span *spans[CHUNK_PAGES]; /* the span that each page belongs to, or NULL; written by
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
 * 1,024): from *home if it can, else from any chunk, else from a new one; *home becomes the chunk
 * that gave it. False when there is no memory. */
bool chunk_take(struct chunk **home, size_t pages, size_t alignment, struct run *run);

/* Takes the `more` pages right behind a run, if they are free. */
bool chunk_extend(struct chunk *chunk, size_t first, size_t pages, size_t more);

/* Gives pages back, used. */
void chunk_give(struct chunk *chunk, size_t first, size_t pages);

/* One sweep over all chunks: purges the old dirty pages (and the young ones too when `everything`),
 * makes the young ones old, and unmaps chunks that are free throughout and clean, but for
 * `spare` of them. Never holds a lock during madvise. Returns the bytes given back. */
size_t chunk_sweep(bool everything, size_t spare);

/* True when a sweep would have something to do, now or the next time. */
bool chunk_any_dirty(void);

/* The page of its chunk that address lies in. */
static inline size_t chunk_page(const void *address)
{
    return ((uintptr_t)address >> PAGE_SHIFT) & (CHUNK_PAGES - 1);
}

/* The first record; the rest by ->next. No lock needed. */
struct chunk *chunk_first(void);

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

/* Bytes of pages that were used at some time and are still mapped: no lock, no exactness. */
size_t chunk_committed_bytes(void);

/* For fork: all chunks and the list. */
void chunk_lock_all(void);
void chunk_unlock_all(void);

#endif
