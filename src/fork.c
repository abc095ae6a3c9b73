#include "fork.h"

#include <pthread.h>
#include <stdatomic.h>

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

void fork_watch(void)
{
    static _Atomic bool registered;
    if (likely(atomic_load_explicit(&registered, memory_order_relaxed)) ||
        atomic_exchange(&registered, true))
        return;
    pthread_atfork(before, in_parent, in_child);
}
