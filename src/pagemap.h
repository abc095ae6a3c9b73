/* pagemap.h: what an address is. Two levels over the whole address space:
 *
 *   top[address / 128 GiB] ──► leaf: a code byte per page (sizeclass.h), and
 *                                    an owner per 32 MiB: the chunk, or a list of huge blocks
 *
 * Entries of the top that were never set point at one shared leaf of zeros, so a lookup needs no
 * test for an absent leaf and a foreign pointer reads as CLASS_NONE, never as a fault.
 *
 * An entry tells where the code of page 0 would be if the leaf went down to there, counted from the
 * top itself: so a lookup adds the page's number as it is, and the entries of a top that nobody has
 * written to yet are known to the linker.
 *
 * Readers take no lock. Who writes a code owns the pages (fresh from their chunk, or a mapping of
 * its own), and does so before it hands out the first block there; the program's own
 * synchronisation carries the block, and with it the code, to other threads.
 */
#ifndef EBB_PAGEMAP_H
#define EBB_PAGEMAP_H

#include <stdatomic.h>

#include "base.h"
#include "sizeclass.h"

#if defined(__aarch64__)
#define ADDRESS_BITS 48
#else
#define ADDRESS_BITS 47
#endif

#define LEAF_SHIFT 37
#define LEAF_PAGES ((size_t)1 << (LEAF_SHIFT - PAGE_SHIFT))
#define LEAF_CHUNKS ((size_t)1 << (LEAF_SHIFT - CHUNK_SHIFT))
#define TOP_ENTRIES ((size_t)1 << (ADDRESS_BITS - LEAF_SHIFT))

struct pagemap_leaf {
    uint8_t codes[LEAF_PAGES];
    _Atomic uintptr_t owners[LEAF_CHUNKS];
};

/* Added to an owner that is a list of huge blocks and no chunk. */
#define OWNER_IS_HUGE 1

extern hidden struct pagemap_leaf pagemap_none; /* of zeros; never written */
extern hidden _Atomic uintptr_t pagemap_top[TOP_ENTRIES];

/* The leaf that was made first, in which as a rule the whole heap lies: a lookup takes it that the
 * address is there and goes on while that is compared, so waits for one load in place of two. Set
 * once, codes first: who finds the top of his address there (acquire) finds them, too. */
extern hidden struct pagemap_near {
    _Alignas(CACHE_LINE) _Atomic size_t top; /* SIZE_MAX: no leaf was made yet */
    uintptr_t codes;                         /* where the code of page 0 would be */
} pagemap_near;

/* Where the code of page 0 would be. */
static always_inline uintptr_t pagemap_codes(size_t top)
{
    /* Relaxed: the leaf's address reaches a reader only through a block in it (see above), and
     * its memory is read by dependency. */
    return (uintptr_t)pagemap_top + atomic_load_explicit(&pagemap_top[top], memory_order_relaxed);
}

static always_inline const struct pagemap_leaf *pagemap_leaf_at(size_t top)
{
    return (const struct pagemap_leaf *)(pagemap_codes(top) + top * LEAF_PAGES);
}

/* Tells the code of the page that address lies in. False when the address is not a multiple of 16,
 * or one that no program can have: turning its low four bits to the top lets one comparison tell
 * both. */
static always_inline bool pagemap_find(const void *address, unsigned *code)
{
    uintptr_t value = (uintptr_t)address;
    size_t top = ((value >> 4) | (value << 60)) >> (LEAF_SHIFT - 4);
    uintptr_t codes;
    if (likely(top == atomic_load_explicit(&pagemap_near.top, memory_order_acquire))) {
        codes = pagemap_near.codes;
    } else {
        if (unlikely(top >= TOP_ENTRIES))
            return false;
        codes = pagemap_codes(top);
        __asm__("" : "+r"(codes)); /* not to be chosen without a branch: that waits for both */
    }
    *code = *(const uint8_t *)(codes + (value >> PAGE_SHIFT));
    return true;
}

/* The class of the page that address lies in; CLASS_NONE where pagemap_find is false. */
static inline unsigned pagemap_class(const void *address)
{
    unsigned code;
    return pagemap_find(address, &code) ? code / CODE_PER_CLASS : CLASS_NONE;
}

/* What owns the 32 MiB that address lies in, as it was set. Any value of address is allowed. */
static inline uintptr_t pagemap_owner(const void *address)
{
    size_t top = (uintptr_t)address >> LEAF_SHIFT;
    if (unlikely(top >= TOP_ENTRIES))
        return 0;
    return atomic_load_explicit(
        &pagemap_leaf_at(top)->owners[((uintptr_t)address >> CHUNK_SHIFT) & (LEAF_CHUNKS - 1)],
        memory_order_acquire);
}

/* A chunk, or NULL when there is none there. */
static inline void *pagemap_chunk(const void *address)
{
    uintptr_t owner = pagemap_owner(address);
    return likely((owner & OWNER_IS_HUGE) == 0) ? (void *)owner : NULL;
}

/* The first of the huge blocks that begin there, or NULL. */
static inline void *pagemap_huge(const void *address)
{
    uintptr_t owner = pagemap_owner(address);
    return (owner & OWNER_IS_HUGE) != 0 ? (void *)(owner - OWNER_IS_HUGE) : NULL;
}

/* Address space of the leaves that were made, of which little is resident. */
extern hidden struct pagemap_books {
    _Atomic size_t leaf_bytes;
} pagemap_books;

/* Makes sure that leaves exist for size bytes at start, which no one else may be using. False when
 * there is no memory for them, or the addresses are beyond what the map covers. */
bool pagemap_prepare(const void *start, size_t size);

/* Set the code of pages, the owner of 32 MiB (or NULL): after pagemap_prepare. */
void pagemap_set(const void *start, size_t pages, unsigned class);
void pagemap_set_chunk(const void *start, void *chunk);
void pagemap_set_huge(const void *start, void *first);

/* For fork. */
void pagemap_lock(void);
void pagemap_unlock(void);

#endif
