/* purger.h: when memory is given back, and who does it.
 *
 * A thread of the library's own, started by a slow path of malloc or free when the process is no
 * longer small, sweeps a few times a second: it empties the caches of threads that are quiet, and
 * gives back pages that stayed free from one sweep to the next. When nothing is left to give back
 * and every thread is quiet, it ends; the next slow path starts it again. So a process at rest has
 * no extra thread and no wakeups.
 *
 * Where there is no such thread (option off, or the kernel refuses one) the slow paths look at the
 * clock and sweep by themselves what can be swept without a takeover. Called with no lock held.
 */
#ifndef EBB_PURGER_H
#define EBB_PURGER_H

#include "base.h"

/* From every slow path. */
void purger_tick(void);

/* Brings back what every thread's cache holds and gives back all that is free. Returns bytes. */
size_t purger_trim(void);

/* Before an allocation fails: the same, and address space too. */
void purger_reclaim(void);

/* Sweeps since the start. */
size_t purger_sweeps(void);

/* For fork: no sweep is under way while this is held. The child has no thread. A caller who is
 * alone may be a signal handler that interrupted a sweep of its own, or a slow path that the purger
 * waits for: so it waits for a while only, and goes on without. */
void purger_lock(bool alone);
void purger_unlock(bool in_child);

#endif
