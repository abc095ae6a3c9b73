/* purger.h: when memory is given back, and who does it.
 *
 * A thread of the library's own, started by a slow path of malloc or free when the process is no
 * longer small, sweeps a few times a second: it empties the caches of threads that are quiet, and
 * gives back pages that stayed free from one sweep to the next. When memory is short (pressure.h)
 * it gives back all that is free, of all threads, at once. When nothing is left to give back and
 * every thread is quiet, it ends; the next slow path starts it again. So a process at rest has no
 * extra thread and no wakeups.
 *
 * What a sweep does and when is the user's choice (options.h: schedule, delay, period). Where there
 * is no such thread (option off, or the kernel refuses one) the slow paths look at the clock and
 * sweep in its place. Called with no lock held.
 */
#ifndef EBB_PURGER_H
#define EBB_PURGER_H

#include "base.h"

/* From every slow path. */
void purger_tick(void);

/* Brings back what every thread's cache holds and gives back all that is free. Returns the bytes
 * that were resident. */
size_t purger_trim(void);

/* Before an allocation fails: the same, and address space too. */
void purger_reclaim(void);

/* A process that uses fewer bytes is left alone; SIZE_MAX: it is in any case. */
void purger_set_threshold(size_t bytes);

/* Ends the thread, if there is one, until the next slow path: for what the kernel refuses to a
 * process of several. Waits for it for a second at most. */
void purger_stop(void);

/* Sweeps since the start, trims among them; and how long they took. */
size_t purger_sweeps(void);
struct purger_work {
    size_t sweeps; /* count */
    uint64_t all_us, longest_us;
};
struct purger_work purger_work(void);

/* For another thread of the library's own: calls visit under the sweep lock, taken as the purger
 * takes it, so that what visit does between lone_visit_begin and lone_visit_end may take locks. */
void purger_visit(void (*visit)(void *context), void *context);

/* The child of a fork has no thread; was_lone: nor had the parent others than the purger. */
void purger_enter_child(bool was_lone);

#endif
