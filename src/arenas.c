#include "arenas.h"

#include <pthread.h>

#include "lone.h"
#include "meta.h"
#include "options.h"
#include "os.h"
#include "secret.h"

/* Arenas before the first look for threads that ended without a word. */
#define FIRST_LOOK_FOR_DEAD 16

/* Stands in for the arena of a thread that has none yet; only its closed cache and what tells what
 * grew last, a hint, are ever used. */
static struct arena unborn;

/* For threads that have none any more. It has no stacks and no limits, so its cache is closed even
 * when it is open; it ends the list of all arenas, and is nobody's to adopt. */
static struct arena commons;

__thread struct arena *arena_self = &unborn;

static struct {
    struct lock lock;
    struct arena *orphans;
    size_t next_count;    /* of arenas, when to look for dead threads again */
    _Atomic size_t count; /* without the commons; written under the lock */
    size_t arena_size;    /* with its stacks, in bytes */
} arenas;

/* ---- Threads come and go --------------------------------------------------------------------- */

#define EXIT_ROUNDS 3

static pthread_key_t exit_key;
static _Atomic int exit_key_state; /* EXIT_KEY_… */
enum { EXIT_KEY_NONE, EXIT_KEY_MAKING, EXIT_KEY_READY, EXIT_KEY_REFUSED };

/* Under the list's lock. */
void arenas_add_orphan(struct arena *arena)
{
    arena->orphan = true;
    arena->next_orphan = arenas.orphans;
    arenas.orphans = arena;
    cache_count(false);
}

/* Runs at the end of a thread. libc calls the destructors of all keys again as long as values are
 * set, four times at most, and ours is among the first in each round: so the arena is given up in
 * the third. Destructors that run later still work on the commons. */
static void thread_exit(void *value)
{
    struct arena *arena = value;
    struct mistake mistake = {SPAN_FINE, NULL};
    /* A thread whose first call came after its key destructors left its value behind, and libc gave
     * it to us with the dead thread's stack. */
    if (arena != arena_self)
        return;
    if (++arena->exit_rounds < EXIT_ROUNDS && pthread_setspecific(exit_key, arena) == 0)
        return;
    arena->exit_rounds = 0;
    arena_self = &commons;
    bool entered = lone_enter();
    lock_acquire(&arena->mutex);
    cache_flush(arena, SIZE_MAX, true, &mistake);
    cache_reset(arena);
    cache_open(arena);
    arena_drop_spares(arena);
    lock_release(&arena->mutex);
    lock_acquire(&arenas.lock);
    arenas_add_orphan(arena);
    lock_release(&arenas.lock);
    lone_leave(entered);
    arena_abort_on(&mistake);
}

/* Makes sure that thread_exit will be called. Both calls into libc may allocate, which is why the
 * thread has its arena already. Without a key (a program may use up all 1,024) arenas of dead
 * threads are not adopted, which wastes memory and breaks nothing. */
static void watch_thread_exit(struct arena *arena)
{
    int expected = EXIT_KEY_NONE;
    if (atomic_compare_exchange_strong(&exit_key_state, &expected, EXIT_KEY_MAKING))
        atomic_store(&exit_key_state, pthread_key_create(&exit_key, thread_exit) == 0
                                          ? EXIT_KEY_READY
                                          : EXIT_KEY_REFUSED);
    while (atomic_load(&exit_key_state) == EXIT_KEY_MAKING)
        os_yield();
    if (atomic_load(&exit_key_state) == EXIT_KEY_READY)
        pthread_setspecific(exit_key, arena);
}

static bool straddles_4_gib(const struct arena *arena)
{
    uintptr_t first = (uintptr_t)arena, last = first + arenas.arena_size - 1;
    return first >> 32 != last >> 32;
}

/* The first thing that the library does. Under the list's lock, which orders it before whatever
 * reads the page size and the options. */
static void prepare(void)
{
    if (arenas.arena_size != 0)
        return;
    os_init();
    options_init();
    if (options.harden == HARDEN_ON)
        secret_init();
    arenas.arena_size = cache_lay_out();
    commons.orphan = true;
    arenas_add(&commons);
}

/* Under the list's lock. */
static struct arena *make_arena(void)
{
    prepare();
    struct arena *arena = meta_alloc(arenas.arena_size);
    /* The cache compares low halves of addresses. One that straddles is left unused. */
    if (arena != NULL && straddles_4_gib(arena)) {
        meta_note(0, arenas.arena_size);
        arena = meta_alloc(arenas.arena_size);
    }
    if (arena == NULL)
        return NULL;
    meta_note(0, cache_begin(arena));
    arenas_add(arena);
    atomic_fetch_add_explicit(&arenas.count, 1, memory_order_relaxed);
    return arena;
}

/* Under the list's lock. Makes orphans of arenas whose threads ended without saying so: they made
 * their first call after their key destructors had run, or there was no key to be had. Looks when
 * there are twice as many arenas as the last time, or as many again if that look was worth it. */
static void find_dead(void)
{
    if (arenas.count < arenas.next_count)
        return;
    size_t found = 0;
    for (struct arena *arena = arenas_first(); arena != NULL; arena = arenas_next(arena)) {
        if (!arena->orphan && !os_thread_exists(arena->thread_id)) {
            arenas_add_orphan(arena);
            found++;
        }
    }
    size_t next = found * 4 >= arenas.count ? arenas.count : 2 * arenas.count;
    arenas.next_count = max_size(next, FIRST_LOOK_FOR_DEAD);
}

static struct arena *adopt(void)
{
    struct arena *arena = arenas.orphans;
    if (arena != NULL) {
        arenas.orphans = arena->next_orphan;
        arena->orphan = false;
    }
    return arena;
}

/* Gives the thread an arena: an orphan, or a new one, or, without memory, the commons for now. */
static cold struct arena *join(void)
{
    lock_acquire(&arenas.lock);
    struct arena *arena = adopt();
    if (arena == NULL) {
        find_dead();
        arena = adopt();
    }
    if (arena == NULL)
        arena = make_arena();
    if (arena != NULL) {
        arena->thread_id = os_thread_id();
        cache_count(true);
    }
    lock_release(&arenas.lock);
    if (arena == NULL)
        return &commons;
    arena_self = arena;
    watch_thread_exit(arena);
    return arena_self;
}

struct arena *arenas_join(void)
{
    return likely(arena_self != &unborn) ? arena_self : join();
}

/* ---- Slow paths ------------------------------------------------------------------------------ */

void *arena_alloc(unsigned class, bool *zero)
{
    struct arena *arena = arenas_join();
    struct bin *bin = &arena->cache.bins[class];
    struct mistake mistake = {SPAN_FINE, NULL};
    void *block;
    lock_acquire(&arena->mutex);
    arena->took_zero = false;
    if (bin->top > arena->stacks[class]) /* it was closed, not empty */
        block = *--bin->top;
    else
        block = cache_refill(arena, class, &mistake);
    *zero = class > CLASS_SMALL_LAST && arena->took_zero;
    lock_release(&arena->mutex);
    arena_abort_on(&mistake);
    return block;
}

/* What can be seen at once of a block that must not be freed: it was kept last, or is none or free
 * in a span of the arena. Under its mutex. */
static enum span_error error_of(struct arena *arena, unsigned class, void *block)
{
    const struct span *span = span_of(block);
    if (arena->limits[class] != 0 && arena->cache.bins[class].top[-1] == block)
        return SPAN_FREED_TWICE;
    return span != NULL && span_owner(span) == arena ? span_error_of(span, block) : SPAN_FINE;
}

void arena_free(unsigned class, void *block)
{
    struct arena *arena = arenas_join();
    struct mistake mistake = {SPAN_FINE, block};
    void *foreign[CACHE_BATCH];
    size_t foreigners = 0;
    lock_acquire(&arena->mutex);
    mistake.error = error_of(arena, class, block);
    if (likely(mistake.error == SPAN_FINE))
        foreigners = cache_keep(arena, class, block, foreign, &mistake);
    lock_release(&arena->mutex);
    if (foreigners != 0)
        arena_deliver(foreign, foreigners, true, &mistake);
    arena_abort_on(&mistake);
}

size_t arenas_count(void)
{
    return atomic_load_explicit(&arenas.count, memory_order_relaxed);
}

void arenas_enter_child(void)
{
    arena_self->thread_id = os_thread_id();
}

void arenas_lock(void)
{
    lock_acquire(&arenas.lock);
}

void arenas_unlock(void)
{
    lock_release(&arenas.lock);
}

void arenas_prepare(void)
{
    bool entered = lone_enter();
    lock_acquire(&arenas.lock);
    prepare();
    lock_release(&arenas.lock);
    lone_leave(entered);
}
