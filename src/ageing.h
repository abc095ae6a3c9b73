/* ageing.h: which of an arena's spans were used lately, and the holes in those that were not. All
 * under the arena's mutex.
 *
 *   touched ──a sweep──► resting ──a sweep: holes purged──► settled, or lazy
 *      ▲                                                        │
 *      └──────────── a block is taken or brought back ──────────┘
 *
 * Touched and resting spans are in one list, the oldest first; lazy ones, whose holes are left to
 * the kernel, in another one, for those who want them back at once; settled ones in none.
 */
#ifndef EBB_AGEING_H
#define EBB_AGEING_H

#include "arena.h"

void ageing_touch_slowly(struct arena *arena, struct span *span);

/* Something was taken out of the span or brought back. */
static inline void ageing_touch(struct arena *arena, struct span *span)
{
    if (unlikely(span->age != SPAN_TOUCHED) && !span_is_large(span))
        ageing_touch_slowly(arena, span);
}

/* Before the span goes away, or to another arena. */
void ageing_forget(struct arena *arena, struct span *span);

/* Looks at the oldest few of the spans that were used lately: those that were not touched for two
 * sweeps, or all unless the kind is SWEEP_OLD, have their holes purged. Adds the bytes. False when
 * the sweep of that number has seen all. */
bool ageing_sweep(struct arena *arena, uint32_t sweep, enum sweep_kind kind, size_t *bytes);

#endif
