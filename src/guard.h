/* guard.h: pages that cannot be touched, in the hardened mode (harden.h): behind a run, so that who
 * writes beyond its end is stopped, and for a while where a block was, so that who uses it after
 * free is. They cost no memory, and are neither free nor anybody's.
 */
#ifndef EBB_GUARD_H
#define EBB_GUARD_H

#include "chunk.h"

/* Whether there may be another one: where each takes mappings of the kernel's, there are fewer than
 * GUARDS_MOST. */
#define GUARDS_MOST 8192
bool guard_is_possible(void);

/* Makes one of a page that was taken; false, and it is as before, when that is refused. */
bool guard_page(struct chunk *chunk, size_t page);

/* As chunk_give, but nobody can touch them, and they are not taken again, until more were given so:
 * DETAINED_BYTES, or DETAINED_MOST times, or memory is asked back. */
#define DETAINED_BYTES (32 * MiB)
#define DETAINED_MOST 64
void guard_detain(struct chunk *chunk, size_t first, size_t pages);

/* Makes one a page that is taken and can be touched; false, and it is as before, when that is
 * refused, or it is none (any more). */
bool guard_take(struct chunk *chunk, size_t page);

/* Those of the pages that cannot be touched are free now, unless that is refused. Any pages may be
 * named, whosever they are. */
void guard_allow(struct chunk *chunk, size_t first, size_t pages);

/* The same of all there are: memory is short. False when there were none. */
bool guard_allow_all(void);

/* The same of what is detained. By those who may sweep (purger.c). */
void guard_release(void);

/* For fork. */
void guard_lock(void);
void guard_unlock(void);

#endif
