/* buddy.h: which pages of a chunk are free. Pure: no memory of its own, no lock, no kernel.
 *
 * Free pages are kept as blocks of 1, 2, 4 … pages, each at a multiple of its size; two free
 * halves of a larger block never stand side by side. A run of any length takes the smallest block
 * that holds it, the lowest of those, and gives the tail back at once.
 *
 * After K. C. Knowlton, "A Fast Storage Allocator", CACM 8 (1965), with a bitmap per order in
 * place of lists.
 */
#ifndef EBB_BUDDY_H
#define EBB_BUDDY_H

#include "base.h"

#define BUDDY_ORDERS 11 /* 1 … 1,024 pages */
#define BUDDY_PAGES ((size_t)1 << (BUDDY_ORDERS - 1))
_Static_assert(BUDDY_PAGES == CHUNK_PAGES, "one buddy serves one chunk");

/* Words of the bitmaps of all orders, each order in words of its own: 16 + 8 + 4 + 2 + 7 × 1. */
#define BUDDY_WORDS 37

#define BUDDY_NONE ((size_t)-1)

struct buddy {
    uint32_t orders;               /* bit k: some block of 2^k pages is free */
    uint32_t free_pages;           /* in all */
    uint16_t counts[BUDDY_ORDERS]; /* free blocks of each order */
    uint64_t free[BUDDY_WORDS];    /* bit i of order k: the block at page i * 2^k is free */
};

/* All of the first `pages` pages free (any number up to BUDDY_PAGES). */
void buddy_init(struct buddy *buddy, size_t pages);

/* Takes `pages` (1 … BUDDY_PAGES) in a row at a multiple of `alignment` (a power of two, in
 * pages). Returns the first page, or BUDDY_NONE. */
size_t buddy_alloc(struct buddy *buddy, size_t pages, size_t alignment);

/* Takes exactly these pages; false, and nothing taken, unless all of them are free. */
bool buddy_take(struct buddy *buddy, size_t first, size_t pages);

/* Gives back pages that were taken, in any pieces. */
void buddy_free(struct buddy *buddy, size_t first, size_t pages);

bool buddy_is_free(const struct buddy *buddy, size_t page);

/* The smallest order whose blocks hold `pages` at `alignment`. */
unsigned buddy_order(size_t pages, size_t alignment);

#endif
