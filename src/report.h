/* report.h: the page of statistics, written to stderr or to the file that the user names
 * (EBBMALLOC_STATS_FILE): when the program calls malloc_stats, when it exits (EBBMALLOC_STATS), or
 * when a signal comes (EBBMALLOC_STATS_SIGNAL).
 *
 * A signal may come upon a thread that holds any of our locks, in the middle of anything, and upon
 * a process that will not call malloc for hours. So its handler takes no lock and does not wait: it
 * notes that a page is wanted, and starts a thread of the library's own for it (os_thread.h: from
 * anywhere, without libc's locks or ours), unless there is one. That thread waits for locks like
 * any other, and whoever was interrupted lets go of his as soon as the handler is over. The handler
 * itself has all signals blocked while it starts the thread, so that no second one finds it in the
 * middle of that; two threads' handlers decide by a compare-and-swap which of them starts it. The
 * thread is about for as long as it takes to count and to write.
 *
 * In a process of one thread the writer comes as a visitor, like the purger (lone.h): a fork finds
 * no lock held by a thread that the child does not have.
 */
#ifndef EBB_REPORT_H
#define EBB_REPORT_H

enum report_place { REPORT_STDERR, REPORT_CHOSEN /* by the user: the file, or else stderr */ };

/* Writes the page. With no lock held; not from a signal handler. */
void report_write(enum report_place place);

/* A handler: has the page written, in a moment, by a thread. */
void report_on_signal(int number);

/* In the child of a fork: nobody writes. */
void report_enter_child(void);

#endif
