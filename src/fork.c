/* fork.c: a child gets a heap at rest. Before a fork every arena is taken over and every lock taken,
 * in the order of lock.h; after it, parent and child let go, and the child makes orphans of the
 * arenas of the threads that it does not have. Nothing calls this room but libc.
 */
#include <pthread.h>

#include "arena.h"
#include "chunk.h"
#include "huge.h"
#include "meta.h"
#include "pagemap.h"

static void before(void)
{
    arena_lock_all();
    chunk_lock_all();
    huge_lock();
    pagemap_lock();
    meta_lock();
}

static void let_go(bool in_child)
{
    meta_unlock();
    pagemap_unlock();
    huge_unlock();
    chunk_unlock_all();
    arena_unlock_all(in_child);
}

static void in_parent(void)
{
    let_go(false);
}

static void in_child(void)
{
    let_go(true);
}

/* The linker is told to have this run before all other libraries' constructors (-z initfirst), so
 * that our handler is the first one registered: the last to run before a fork and the first after
 * it. Handlers of others may allocate, and would wait for locks that their own thread holds. */
static __attribute__((constructor)) void watch_forks(void)
{
    pthread_atfork(before, in_parent, in_child);
}
