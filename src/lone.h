/* lone.h: a process of one thread, which does not know of the purger beside it.
 *
 * A signal handler of such a process may fork wherever it came upon the program, also in the middle
 * of malloc, while that holds locks; and the child goes on from there (POSIX counts fork among what
 * is safe in a handler). That is well as long as the memory that is copied holds nothing half done
 * by anybody else. So the purger does what needs a lock only while the lone thread is outside of
 * the allocator's slow paths, and a fork waits until the purger is outside.
 *
 * It is the biased lock of cache.h again, for slow paths. The thread marks with plain stores that
 * it is inside, and looks whether there is a visitor; the visitor says that he comes, makes all
 * threads pass a barrier, and looks whether the thread is inside; then he leaves and tries again
 * later. The thread waits for a visitor, a visitor never for the thread; and he does not stay long:
 * as long as one hold on a lock.
 *
 * Processes of several threads need none of this: their locks do it, and a fork takes them all.
 */
#ifndef EBB_LONE_H
#define EBB_LONE_H

#include <stdatomic.h>

#include "base.h"
#include "lock.h"
#include "older.h"

/* Where libc does not say whether there are other threads, no process is lone. */
static inline bool lone_process(void)
{
    return &__libc_single_threaded != NULL && __libc_single_threaded;
}

extern hidden struct lone {
    _Atomic uint32_t inside;  /* how deep the lone thread is in slow paths; his alone to write */
    _Atomic uint32_t visitor; /* not 0 while the purger is here, or looks whether he may
                                 be; a futex */
} lone;

/* After inside was raised: until there is no visitor. */
void lone_wait(void);

/* Around all that takes a lock, in a slow path. What lone_enter returned is for lone_leave. Calls
 * may nest. Whoever is inside must not wait for the sweep lock, which the purger holds while he
 * wants to be a visitor. */
static inline bool lone_enter(void)
{
    if (!lone_process())
        return false;
    atomic_store_explicit(&lone.inside,
                          atomic_load_explicit(&lone.inside, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    /* Acquire: what the last visitor did is there. */
    if (unlikely(atomic_load_explicit(&lone.visitor, memory_order_acquire) != 0))
        lone_wait();
    return true;
}

static inline void lone_leave(bool entered)
{
    if (!entered)
        return;
    /* Release: pairs with the acquire in lone.c, come. */
    atomic_store_explicit(&lone.inside,
                          atomic_load_explicit(&lone.inside, memory_order_relaxed) - 1,
                          memory_order_release);
}

/* The purger's way to take the sweep lock and to let go of it: so that a fork can tell whether it
 * is he who holds it. */
void lone_sweep_begin(struct lock *sweep_lock);
void lone_sweep_end(struct lock *sweep_lock);

/* Around each piece of a sweep that holds locks. Nothing happens when it is not the purger who
 * sweeps. */
void lone_visit_begin(void);
void lone_visit_end(void);

/* For the child of a fork: whether it was the purger who held the sweep lock; then, that there is
 * none now; whether its thread is in the middle of a slow path, further down its stack. */
bool lone_purger_swept(void);
void lone_enter_child(void);
bool lone_is_inside(void);

#endif
