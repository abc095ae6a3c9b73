/* residency.h: what of a heap is resident, by the kernel's own books: /proc/PID/pagemap, asked for
 * the pages of chunks, huge blocks and metadata, in the order of their addresses.
 */
#ifndef EBB_RESIDENCY_H
#define EBB_RESIDENCY_H

#include "heap.h"

/* Sets kernel_known and what that says is known. heap has its chunks, huge blocks and regions. */
void residency_ask(struct heap *heap, const struct target *target);

#endif
