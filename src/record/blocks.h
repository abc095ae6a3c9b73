/* blocks.h: which block begins at an address: a number for every 16 bytes of address space, and
 * the others, at odd multiples of 8 (small blocks of some allocators), in a second such map. Filled
 * as it is touched, an OS page of it for two of blocks: half as much memory as the blocks, where
 * they are small and dense.
 *
 * No locks: a block's entry is touched by whoever may touch the block. From any thread.
 */
#ifndef EBB_RECORD_BLOCKS_H
#define EBB_RECORD_BLOCKS_H

#include <stdatomic.h>

#include "base.h"

#define BLOCKS_ADDRESS_BITS 47
#define BLOCKS_LEAF_SHIFT 26 /* a leaf is for 64 MiB of addresses, and of 32 MiB itself */
#define BLOCKS_TOPS ((size_t)1 << (BLOCKS_ADDRESS_BITS - BLOCKS_LEAF_SHIFT))
#define BLOCKS_PER_LEAF ((size_t)1 << (BLOCKS_LEAF_SHIFT - 4))

typedef _Atomic uint64_t block_entry;

extern hidden block_entry *_Atomic blocks_top[2][BLOCKS_TOPS];

/* The leaf's first entry; NULL when there is no memory for it. */
block_entry *blocks_make_leaf(block_entry *_Atomic *top);

/* Its entry; NULL where no block was ever noted nearby and, if make, none can be. */
static inline block_entry *blocks_entry(const void *block, bool make)
{
    uintptr_t address = (uintptr_t)block;
    size_t top = address >> BLOCKS_LEAF_SHIFT;
    if (unlikely(top >= BLOCKS_TOPS))
        return NULL;
    block_entry *_Atomic *place = &blocks_top[address >> 3 & 1][top];
    /* Acquire: pairs with the release in blocks_make_leaf. */
    block_entry *leaf = atomic_load_explicit(place, memory_order_acquire);
    if (unlikely(leaf == NULL) && (!make || (leaf = blocks_make_leaf(place)) == NULL))
        return NULL;
    return &leaf[address >> 4 & (BLOCKS_PER_LEAF - 1)];
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
