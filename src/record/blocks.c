#include "blocks.h"

#include <sys/mman.h>

#include "text.h"

block_entry *_Atomic blocks_top[BLOCKS_TOPS][2];

/* Else a trace would be whole, and empty. */
static void warn_once(void)
{
    static _Atomic bool is_warned;
    if (!atomic_exchange(&is_warned, true))
        text_warn("record: no address space to note blocks in; what is done to some is left out");
}

/* No huge pages are asked for: where each arena of a program has a few blocks, they cost more than
 * the program. */
cold block_entry *blocks_make_leaf(block_entry *_Atomic *top)
{
    size_t lines = BLOCKS_PER_LEAF / BLOCKS_PER_PAGE;
    size_t bytes = (BLOCKS_PER_LEAF + lines * BLOCKS_PER_LINE) * sizeof(block_entry);
    block_entry *leaf = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (leaf == MAP_FAILED) {
        warn_once();
        return NULL;
    }
    block_entry *found = NULL;
    /* Release: the leaf is there before others see it. */
    if (atomic_compare_exchange_strong_explicit(top, &found, leaf, memory_order_acq_rel,
                                                memory_order_acquire))
        return leaf;
    munmap(leaf, bytes);
    return found;
}
