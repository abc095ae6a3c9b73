/* why.h: why memory is resident that no live block is in, in words. */
#ifndef EBB_WHY_H
#define EBB_WHY_H

#include "heap.h"

/* Of a heap that was read with its spans. */
void print_why(const struct target *target, const struct heap *heap);

#endif
