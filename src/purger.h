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

#include <stdatomic.h>

#include "base.h"

/* From every slow path. */
void purger_tick(void);

/* Brings back what every thread's cache holds and gives back all that is free. Returns the bytes
 * that were resident. */
size_t purger_trim(void);

/* Before an allocation fails: the same, and address space too. */
void purger_reclaim(void);

/* A process that uses no more bytes is left alone; SIZE_MAX: it is in any case. */
void purger_set_threshold(size_t bytes);

/* Ends the thread, if there is one, until the next slow path: for what the kernel refuses to a
 * process of several. Waits for it for a second at most. */
void purger_stop(void);

/* Written under the sweep lock, but for the last. */
extern hidden struct purger_books {
    _Atomic size_t sweeps;
    _Atomic uint64_t sweeps_us, longest_us;
    _Atomic size_t peak_out; /* bytes of blocks, live or in caches, at the most that was seen */
} purger_books;

/* The most of them is known from looks alone, so that malloc and free have nothing to do for it:
 * each sweep begins with one, and so does growth, a thirty-second more at a time. Whoever counts
 * them for another reason says how many there are. */
void purger_note_out(size_t bytes);

/* Sweeps since the start, trims among them; and how long they took. */
size_t purger_sweeps(void);
struct purger_work {
    size_t sweeps; /* count */
    uint64_t all_us, longest_us;
};
struct purger_work purger_work(void);

/* What `ebb trim` asks for from outside: it writes another number than `done` to `wanted`, and
 * looks for the answer. Whoever comes along first answers: the purger, which looks between its
 * sweeps; a slow path of malloc or free, where there is no purger; or the thread that a signal
 * starts (report.h). */
extern hidden struct purger_request {
    _Atomic uint32_t wanted, done; /* numbers of requests */
    _Atomic size_t bytes;          /* that were resident and were given back for the last one */
} purger_request;

/* By a thread of the library's own: answers, and returns true, if there is a request. */
bool purger_answer(void);

/* For another thread of the library's own: calls visit under the sweep lock, taken as the purger
 * takes it, so that what visit does between lone_visit_begin and lone_visit_end may take locks. */
void purger_visit(void (*visit)(void *context), void *context);

/* The child of a fork has no thread; was_lone: nor had the parent others than the purger. */
void purger_enter_child(bool was_lone);

#endif
