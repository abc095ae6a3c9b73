#include "blocks.h"

#include <sys/mman.h>

block_entry *_Atomic blocks_top[2][BLOCKS_TOPS];

#define HUGE_PAGE (2 * MiB)

/* In huge pages where the kernel has them: every operation touches an entry, and with small ones
 * the processor would spend most of the recorder's time on looking up pages. A huge page is for
 * 4 MiB of blocks. */
cold block_entry *blocks_make_leaf(block_entry *_Atomic *top)
{
    size_t bytes = BLOCKS_PER_LEAF * sizeof(block_entry);
    char *area = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return NULL;
    block_entry *leaf = (block_entry *)round_up((uintptr_t)area, HUGE_PAGE);
    madvise(leaf, bytes, MADV_HUGEPAGE);
    block_entry *found = NULL;
    /* Release: the leaf is there before others see it. */
    if (atomic_compare_exchange_strong_explicit(top, &found, leaf, memory_order_acq_rel,
                                                memory_order_acquire))
        return leaf;
    munmap(area, bytes + HUGE_PAGE);
    return found;
}
