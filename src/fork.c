/* fork.c: a child gets a heap at rest. Before a fork every arena is taken over and every lock
 * taken, in the order of lock.h; after it, parent and child let go, and the child makes orphans of
 * the arenas of the threads that it does not have. A process of one thread has only the purger to
 * keep out (lone.h). A fork does not wait for a sweep: what that has in its hands outside of the
 * locks is found again by the child's next one. Nothing calls this room but libc.
 */
#include <pthread.h>

#include "arenas.h"
#include "chunk.h"
#include "guard.h"
#include "huge.h"
#include "lone.h"
#include "meta.h"
#include "os.h"
#include "pagemap.h"
#include "purger.h"
#include "report.h"
#include "takeover.h"

/* libc takes the lock of its list of streams after our handler has run, and a thread that holds a
 * stream may wait for memory while another one holds that list and waits for the stream. So on
 * glibc we take the list's lock first, as glibc does for its own malloc. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

/* A process of one thread: nobody holds a lock but the caller, who may be a signal handler that
 * interrupted one of our slow paths and must not wait for himself. */
static bool was_lone;

static void before(void)
{
    was_lone = lone_enter(); /* the purger is outside now */
    if (was_lone)
        return;
    if (_IO_list_lock != NULL)
        _IO_list_lock();
    takeover_lock_all();
    guard_lock();
    chunk_lock_all();
    huge_lock();
    pagemap_lock();
    meta_lock();
}

static void unlock_all(bool in_child)
{
    meta_unlock();
    pagemap_unlock();
    huge_unlock();
    chunk_unlock_all();
    guard_unlock();
    takeover_unlock_all(in_child);
}

static void in_parent(void)
{
    if (!was_lone)
        unlock_all(false);
    if (!was_lone && _IO_list_unlock != NULL)
        _IO_list_unlock();
    lone_leave(was_lone);
}

/* A signal for statistics that comes meanwhile waits until all is in its place: its handler starts
 * a thread, on a stack that may be one of the parent's threads' still, for locks that are. */
static void in_child(void)
{
    uint64_t signals;
    os_block_signals(&signals);
    report_enter_child(); /* before the child is home, for which that handler looks */
    os_move_home();
    arenas_enter_child();
    if (!was_lone)
        unlock_all(true);
    if (!was_lone && _IO_list_resetlock != NULL)
        _IO_list_resetlock();
    lone_leave(was_lone);
    purger_enter_child(was_lone);
    os_restore_signals(signals);
}

/* The linker is told to have this run before all other libraries' constructors (-z initfirst), so
 * that our handler is the first one registered: the last to run before a fork and the first after
 * it. Handlers of others may allocate, and would wait for locks that their own thread holds. */
static __attribute__((constructor)) void watch_forks(void)
{
    pthread_atfork(before, in_parent, in_child);
}
