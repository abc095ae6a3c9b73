/* takeover.h: work on arenas by a thread that does not own them, for the purger, malloc_trim, the
 * statistics and fork. How a cache is taken over is told in cache.h.
 */
#ifndef EBB_TAKEOVER_H
#define EBB_TAKEOVER_H

#include "arena.h"

/* Calls visit for every arena: with its mutex held, and, when owned is true, its cache closed and
 * at rest; false when its owner could not be kept out (no membarrier, or a thread that is stopped
 * in the middle). visit must not allocate, or wait for an arena's mutex. */
void takeover_visit_all(void (*visit)(struct arena *arena, bool owned, void *context),
                        void *context);

/* Takes over the arenas whose owners have not called for a block or brought one back since the last
 * time, or all, and empties their caches and mailboxes. Waits for nobody, or, for all, 20 ms for an
 * owner who is stopped in the middle. A hold on an arena is short (takeover.c: SWEEP_BATCH). By
 * those who may sweep. */
void takeover_flush(bool all);

/* All mail to where it belongs: what one visit of takeover_flush brought to the mailbox of an arena
 * that had been visited before. */
void takeover_drain(void);

/* Gives back the OS pages between live blocks in spans of which nothing was taken or brought back
 * for two sweeps; unless the kind is SWEEP_OLD, in all that were used lately. One caller at a time.
 * Returns bytes. */
size_t takeover_purge_holes(enum sweep_kind kind);

/* Bytes of blocks that are not free in their spans: live, or in a cache. */
size_t takeover_out_bytes(void);

/* True when an arena was used since the last sweep, or holds something a sweep would bring back. */
bool takeover_any_unswept(void);

/* For fork: every mutex held, every cache closed and at rest. The child makes orphans of all
 * arenas but the caller's. */
void takeover_lock_all(void);
void takeover_unlock_all(bool in_child);

#endif
