/* blocks.h: which block begins at an address: a number for every 16 bytes of address space, and
 * the others, at odd multiples of 8 (small blocks of some allocators), in a second such map. Filled
 * as it is touched, an OS page of it for two of blocks: half as much memory as the blocks, where
 * they are small and dense.
 *
 * The numbers of each 32 KiB are a cache line further on than the addresses say: where programs
 * have a few blocks of many sizes, these lie at the beginning of as many spans, and all their
 * numbers would be in the same few lines of the processor's cache.
 *
 * No locks: a block's entry is touched by whoever may touch the block. From any thread.
 */
#ifndef EBB_RECORD_BLOCKS_H
#define EBB_RECORD_BLOCKS_H

#include <stdatomic.h>

#include "base.h"

#define BLOCKS_ADDRESS_BITS 48
#define BLOCKS_LEAF_SHIFT 28 /* a leaf is for 256 MiB of addresses, and of 128 MiB itself */
#define BLOCKS_TOPS ((size_t)1 << (BLOCKS_ADDRESS_BITS - BLOCKS_LEAF_SHIFT))
#define BLOCKS_PER_LEAF ((size_t)1 << (BLOCKS_LEAF_SHIFT - 4))
#define BLOCKS_PER_PAGE ((size_t)1 << (PAGE_SHIFT - 4))
#define BLOCKS_PER_LINE (CACHE_LINE / sizeof(uint64_t))

typedef _Atomic uint64_t block_entry;

extern hidden block_entry *_Atomic blocks_top[BLOCKS_TOPS][2];

/* The leaf's first entry; NULL when there is no memory for it. */
block_entry *blocks_make_leaf(block_entry *_Atomic *top);

/* place: how many numbers of the leaf are for lower addresses. */
static always_inline block_entry *blocks_at(block_entry *leaf, size_t place)
{
    return &leaf[place + place / BLOCKS_PER_PAGE * BLOCKS_PER_LINE];
}

/* Its entry; NULL where no block was ever noted nearby and, if make, none can be. */
static inline block_entry *blocks_entry(const void *block, bool make)
{
    uintptr_t address = (uintptr_t)block;
    size_t top = address >> BLOCKS_LEAF_SHIFT;
    if (unlikely(top >= BLOCKS_TOPS))
        return NULL;
    block_entry *_Atomic *place = &blocks_top[top][address >> 3 & 1];
    /* Acquire: pairs with the release in blocks_make_leaf. */
    block_entry *leaf = atomic_load_explicit(place, memory_order_acquire);
    if (unlikely(leaf == NULL) && (!make || (leaf = blocks_make_leaf(place)) == NULL))
        return NULL;
    return blocks_at(leaf, address >> 4 & (BLOCKS_PER_LEAF - 1));
}

/* The leaf that a thread came by last: few instructions lead to its numbers. Of even multiples of 8
 * alone. */
struct blocks_near {
    uintptr_t start; /* of its addresses; BLOCKS_NOWHERE */
    block_entry *leaf;
};
#define BLOCKS_NOWHERE UINTPTR_MAX

/* A block's place in that leaf; BLOCKS_PER_LEAF or more where it is not there. */
static always_inline size_t blocks_near_place(const struct blocks_near *near, const void *block)
{
    uintptr_t offset = (uintptr_t)block - near->start;
    /* One that is no multiple of 16 becomes large. */
    return offset >> 4 | offset << (8 * sizeof offset - 4);
}

static inline void blocks_come_near(struct blocks_near *near, const void *block)
{
    uintptr_t start = (uintptr_t)block >> BLOCKS_LEAF_SHIFT << BLOCKS_LEAF_SHIFT;
    block_entry *leaf = blocks_entry((const void *)start, false);
    if (leaf != NULL)
        *near = (struct blocks_near){start, leaf};
}

/* Notes that a block begins there. 0 is none. Relaxed: whoever frees it got it from the caller, in
 * an order that the program made. */
static inline bool blocks_note(const void *block, uint64_t number)
{
    block_entry *entry = blocks_entry(block, true);
    if (unlikely(entry == NULL))
        return false;
    atomic_store_explicit(entry, number, memory_order_relaxed);
    return true;
}

/* What was noted, and nothing is from now on; 0: nothing was. */
static inline uint64_t blocks_take(const void *block)
{
    block_entry *entry = blocks_entry(block, false);
    if (unlikely(entry == NULL))
        return 0;
    uint64_t number = atomic_load_explicit(entry, memory_order_relaxed);
    atomic_store_explicit(entry, 0, memory_order_relaxed);
    return number;
}

#endif
