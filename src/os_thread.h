/* os_thread.h: a thread of the library's own, unknown to libc: started from anywhere, whatever
 * locks libc or the program hold, and invisible to what libc does for its threads. In it nothing of
 * libc may be used but calls that touch no more than errno.
 *
 * It has all signals blocked, and, unless it is a plain one, no capabilities, a table of
 * descriptors of its own, and runs as an ordinary thread wherever the process might run at its
 * start, whoever started it.
 *
 * The program may be confined by a filter of system calls that ends it for one that is not on its
 * list. So what is not needed is not called.
 */
#ifndef EBB_OS_THREAD_H
#define EBB_OS_THREAD_H

#include "base.h"

struct os_thread {
    int (*run)(void *);
    const char *name;
    bool plain;               /* it keeps the descriptors and rights of who started it: for short */
    _Atomic uint32_t running; /* the kernel sets it to 0 when the thread's memory is free again … */
    _Atomic int id;           /* … and a little later this is nobody's id any more; 0: unknown */
    char *area;               /* its stack and its thread-local storage, kept for the next time */
    size_t local;             /* bytes of the latter, on each side of the thread pointer */
};

/* Starts it. variable: the caller's, of the library's thread-local ones. False when the kernel
 * refuses. One caller at a time, after the last one's run has returned, and with all signals
 * blocked (os_block_signals), as they are in the thread. */
bool os_thread_start(struct os_thread *thread, int (*run)(void *), const char *name,
                     const void *variable);

/* True when the kernel counts it no more among the process's threads, or it never was one. */
bool os_thread_is_gone(const struct os_thread *thread);

/* In the thread: true when its descriptors are its own. */
bool os_thread_has_own_descriptors(void);

/* In the thread, now and then: looks at the process's first thread. True when that has other user
 * or group ids than this one: the program has dropped privileges, or changed them, since the thread
 * was started. Where the kernel does not tell (a root without /proc; before Linux 5.9) it is false,
 * and the thread, which has no capabilities, keeps its ids until it ends. */
bool os_thread_watch_ids(void);

#endif
