#include "purger.h"

#include "chunk.h"
#include "huge.h"
#include "lock.h"
#include "options.h"
#include "os.h"
#include "takeover.h"

/* Chunks that are free throughout and stay mapped. */
#define SPARE_CHUNKS 1

/* A process that never used more pages than this is left alone: what could be given back is less
 * than a thread is worth, and short commands pay nothing. */
#define SMALL_PROCESS (8 * MiB)

/* Sweeps in a purge delay: a page freed right after one is given back two sweeps later, and the
 * cache of a thread that goes quiet right after one is emptied two sweeps later. */
#define SWEEPS_PER_DELAY 3

/* How long to go without a thread when the kernel refused one. */
#define REFUSED_MS 1000

/* How long a fork that may be a signal handler's waits for a sweep to end, in milliseconds. */
#define ALONE_WAITS 200

/* One sweep at a time, of whoever. The outermost lock. */
static struct lock sweep_lock;
static bool thread_sweeps; /* under it: it is the purger who holds it */
static bool fork_has_lock; /* for fork: between purger_lock and purger_unlock */

/* ENDING: it has found nothing left, and looks once more. */
enum { THREAD_NONE, THREAD_RUNNING, THREAD_ENDING };
static _Atomic uint32_t thread_state;
static struct os_thread thread;
static _Atomic uint64_t next_start_ms; /* after a refusal */

static _Atomic uint64_t next_sweep_ms; /* without a thread */
static _Atomic size_t sweeps;

static uint64_t period_ms(void)
{
    return max_size(options.purge_delay_ms / SWEEPS_PER_DELAY, 1);
}

/* Under the sweep lock: true when there is something for another sweep to do, or to look at. */
static bool anything_left(void)
{
    return takeover_any_unswept() || chunk_any_dirty() || huge_kept_bytes() != 0;
}

/* Returns what is left for the next one. */
static bool sweep(void)
{
    lock_acquire(&sweep_lock);
    thread_sweeps = true;
    atomic_fetch_add_explicit(&sweeps, 1, memory_order_relaxed);
    takeover_sweep_quiet();
    takeover_purge_holes(options.purge_delay_ms == 0);
    chunk_sweep(options.purge_delay_ms == 0, SPARE_CHUNKS);
    huge_sweep(options.purge_delay_ms / SWEEPS_PER_DELAY);
    bool again = anything_left();
    thread_sweeps = false;
    lock_release(&sweep_lock);
    return again;
}

static bool change_state(uint32_t from, uint32_t to)
{
    return atomic_compare_exchange_strong(&thread_state, &from, to);
}

/* After a sweep that left nothing: true when the thread may end. What somebody did since then, who
 * saw it running, must not be left undone: so it says first that it is ending, and then looks once
 * again. Both sides pass the same lock (an arena's, a chunk's, the huge list's): who was there
 * before us has left something for us to see; who comes after us sees that we are ending, and makes
 * us go on. */
static bool may_end(void)
{
    atomic_store(&thread_state, THREAD_ENDING);
    lock_acquire(&sweep_lock);
    thread_sweeps = true;
    bool left = anything_left();
    thread_sweeps = false;
    lock_release(&sweep_lock);
    if (!left && change_state(THREAD_ENDING, THREAD_NONE))
        return true;
    atomic_store(&thread_state, THREAD_RUNNING);
    return false;
}

/* The thread. */
static int purge(void *unused)
{
    static _Atomic uint32_t never;
    (void)unused;
    do {
        do {
            os_futex_wait_ms(&never, 0, period_ms());
            if (os_ids_changed()) { /* the next slow path starts one with the new ids */
                atomic_store(&thread_state, THREAD_NONE);
                return 0;
            }
        } while (sweep());
    } while (!may_end());
    return 0;
}

/* False when the slow path has to do without a thread. */
static bool start_thread(void)
{
    if (change_state(THREAD_ENDING, THREAD_RUNNING))
        return true;
    if (!os_is_home() || os_now_ms() < atomic_load_explicit(&next_start_ms, memory_order_relaxed))
        return false;
    if (!change_state(THREAD_NONE, THREAD_RUNNING))
        return true; /* somebody else just did it */
    if (os_thread_start(&thread, purge, "ebb-purger"))
        return true;
    atomic_store_explicit(&next_start_ms, os_now_ms() + REFUSED_MS, memory_order_relaxed);
    atomic_store(&thread_state, THREAD_NONE);
    return false;
}

/* In place of the thread: pages and mappings, but not the caches of others. */
static void sweep_if_due(void)
{
    uint64_t now = os_now_ms();
    uint64_t due = atomic_load_explicit(&next_sweep_ms, memory_order_relaxed);
    /* Whoever moves the clock on does the sweep. */
    if (now < due ||
        !atomic_compare_exchange_strong_explicit(&next_sweep_ms, &due, now + period_ms(),
                                                 memory_order_relaxed, memory_order_relaxed) ||
        !lock_try(&sweep_lock))
        return;
    atomic_fetch_add_explicit(&sweeps, 1, memory_order_relaxed);
    chunk_sweep(options.purge_delay_ms == 0, SPARE_CHUNKS);
    huge_sweep(options.purge_delay_ms / SWEEPS_PER_DELAY);
    lock_release(&sweep_lock);
}

void purger_tick(void)
{
    if (likely(atomic_load_explicit(&thread_state, memory_order_relaxed) == THREAD_RUNNING))
        return;
    if (chunk_committed_bytes() < SMALL_PROCESS && huge_kept_bytes() == 0)
        return;
    if (options.background_thread == THREAD_OFF || !start_thread())
        sweep_if_due();
}

size_t purger_trim(void)
{
    lock_acquire(&sweep_lock);
    takeover_flush_all();
    size_t bytes = takeover_purge_holes(true) + chunk_sweep(true, SPARE_CHUNKS) + huge_sweep(0);
    lock_release(&sweep_lock);
    return bytes;
}

void purger_reclaim(void)
{
    lock_acquire(&sweep_lock);
    takeover_flush_all();
    huge_sweep(0);
    chunk_sweep(true, 0);
    lock_release(&sweep_lock);
}

size_t purger_sweeps(void)
{
    return atomic_load_explicit(&sweeps, memory_order_relaxed);
}

void purger_lock(bool alone)
{
    bool locked = lock_try(&sweep_lock);
    for (int wait = 0; !locked && alone && wait < ALONE_WAITS; wait++) {
        os_sleep_us(1000);
        locked = lock_try(&sweep_lock);
    }
    if (!locked && !alone) {
        lock_acquire(&sweep_lock);
        locked = true;
    }
    fork_has_lock = locked; /* under the lock, or alone */
}

void purger_unlock(bool in_child)
{
    /* Who holds it in the child: the thread itself, further down its stack, or a purger that is
     * not there. */
    bool release = fork_has_lock || (in_child && thread_sweeps);
    if (in_child) {
        atomic_store(&thread.running, 0);
        atomic_store(&thread_state, THREAD_NONE);
        thread_sweeps = false;
    }
    if (release)
        lock_release(&sweep_lock);
}
