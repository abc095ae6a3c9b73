/* purger.h: when memory is given back. Until there is a thread for it, the slow paths of malloc and
 * free look at the clock and sweep when it is time; malloc_trim and an allocation that failed ask
 * for all at once. Called with no lock held.
 */
#ifndef EBB_PURGER_H
#define EBB_PURGER_H

#include "base.h"

/* From a slow path: sweeps if the last sweep is half of the purge delay ago. */
void purger_tick(void);

/* Brings back what every thread's cache holds and gives back all that is free. Returns bytes. */
size_t purger_trim(void);

/* Before an allocation fails: the same, and address space too. */
void purger_reclaim(void);

/* Sweeps since the start. */
size_t purger_sweeps(void);

#endif
