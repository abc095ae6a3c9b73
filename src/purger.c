#include "purger.h"

#include "arenas.h"
#include "chunk.h"
#include "guard.h"
#include "huge.h"
#include "lock.h"
#include "lone.h"
#include "options.h"
#include "os.h"
#include "os_thread.h"
#include "pressure.h"
#include "purge.h"
#include "takeover.h"

/* Chunks that are free throughout and stay mapped. */
#define SPARE_CHUNKS 1

/* A process that never used more pages than this is left alone: what could be given back is less
 * than a thread is worth, and short commands pay nothing. */
#define SMALL_PROCESS (8 * MiB)

/* Sweeps in a purge delay. The cache of a thread that goes quiet is emptied two or three sweeps
 * later (takeover.c). Once in a delay a sweep looks at pages and holes as well, and those that were
 * free at its last look go back; what came out of the cache of a quiet thread goes at the first. So
 * a load that comes back within half a delay finds its caches as they were, and within a whole one
 * its pages, also those that it did not need the last time. */
#define SWEEPS_PER_DELAY 4

/* How often to look whether memory is short, between sweeps that are further apart, and how long
 * to wait at least between two sweeps for that reason, in milliseconds. */
#define PRESSURE_LOOK_MS 250
#define PRESSURE_PERIOD_MS 100

/* How long to wait for the thread's first look at most. */
#define FIRST_LOOK_MS 200

/* See make_room; a fraction of what pressure.c calls near to a limit. */
#define ROOM_STEP ((int64_t)(2 * MiB))

/* How long a request from outside waits at most for the purger, who is there, in milliseconds. */
#define REQUEST_LOOK_MS 1000

/* Memory that grows by one part in so many of the most that was live is a reason to look again. */
#define LOOKS_PER_PEAK 32

/* How long to go without a thread when the kernel refused one. */
#define REFUSED_MS 1000

/* The program has dropped privileges: how often to look whether all is done before the thread ends
 * in any case. */
#define LAST_LOOKS 3

/* How long to wait for the thread to end, and from look to look. */
#define STOP_LOOKS 10000
#define STOP_LOOK_US 100

/* One sweep at a time, of whoever. The outermost lock. */
static struct lock sweep_lock;

/* ENDING: it has found nothing left, and looks once more. */
enum { THREAD_NONE, THREAD_RUNNING, THREAD_ENDING };
static _Atomic uint32_t thread_state;
static struct os_thread threads[2];    /* one may be in its last few instructions, for long */
static _Atomic uint32_t stop;          /* a futex: the thread is to end */
static _Atomic uint64_t next_start_ms; /* after a refusal */

static _Atomic uint64_t next_look_ms; /* without a thread */
struct purger_books purger_books;
static _Atomic size_t threshold = SMALL_PROCESS;

/* ---- What a sweep does ------------------------------------------------------------------------
 */

static uint64_t period_ms(void)
{
    if (options.schedule == SCHEDULE_PERIODIC)
        return options.purge_period_ms;
    return max_size(options.purge_delay_ms / SWEEPS_PER_DELAY, 1);
}

static enum sweep_kind kind_of_sweep(void)
{
    bool rests = options.schedule == SCHEDULE_IDLE && options.purge_delay_ms != 0;
    return rests ? SWEEP_OLD : SWEEP_ALL;
}

/* Under the sweep lock. Returns the bytes given back. */
static size_t sweep_uncounted(enum sweep_kind kind)
{
    static uint64_t next_ageing_ms; /* under the lock */
    uint64_t now = os_now_ms();
    /* Those who trim at times want all of it; else threads that are busy keep their caches. */
    bool all = kind == SWEEP_NOW || options.schedule == SCHEDULE_PERIODIC;
    takeover_flush(all);
    if (all)
        takeover_drain();
    if (kind == SWEEP_NOW)
        guard_release();
    size_t bytes = huge_sweep(kind == SWEEP_OLD ? options.purge_delay_ms : 0);
    if (kind == SWEEP_OLD && now < next_ageing_ms)
        return bytes;
    /* Half a sweep less than a delay, since sweeps are not on time. */
    next_ageing_ms = now + options.purge_delay_ms - period_ms() / 2;
    return bytes + takeover_purge_holes(kind) + chunk_sweep(kind, SPARE_CHUNKS);
}

void purger_note_out(size_t bytes)
{
    raise_to(&purger_books.peak_out, bytes);
}

/* Under the sweep lock. */
static void look_for_peak(void)
{
    struct huge_totals huge;
    lone_visit_begin();
    size_t bytes = takeover_out_bytes() + chunk_large_bytes();
    huge_count(&huge);
    lone_visit_end();
    purger_note_out(bytes + huge.live_bytes);
}

static size_t sweep_all(enum sweep_kind kind)
{
    uint64_t begin_us = os_now_us();
    look_for_peak();
    size_t bytes = sweep_uncounted(kind);
    uint64_t took_us = os_now_us() - begin_us;
    atomic_fetch_add_explicit(&purger_books.sweeps, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&purger_books.sweeps_us, took_us, memory_order_relaxed);
    if (took_us > atomic_load_explicit(&purger_books.longest_us, memory_order_relaxed))
        atomic_store_explicit(&purger_books.longest_us, took_us, memory_order_relaxed);
    return bytes;
}

/* Under the sweep lock, by the thread: true when there is something for another sweep to do, or to
 * look at. */
static bool anything_left(void)
{
    lone_visit_begin();
    bool left = takeover_any_unswept() || chunk_any_dirty() || huge_any_kept();
    lone_visit_end();
    return left;
}

/* ---- What is asked for from outside -----------------------------------------------------------
 */

struct purger_request purger_request;

static bool is_asked(void)
{
    return unlikely(atomic_load_explicit(&purger_request.wanted, memory_order_relaxed) !=
                    atomic_load_explicit(&purger_request.done, memory_order_relaxed));
}

/* The request that was there before the sweep began. */
static void answer(uint32_t wanted, size_t bytes)
{
    atomic_store_explicit(&purger_request.bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&purger_request.done, wanted, memory_order_release);
}

bool purger_answer(void)
{
    uint32_t wanted = atomic_load_explicit(&purger_request.wanted, memory_order_relaxed);
    if (!is_asked())
        return false;
    lone_sweep_begin(&sweep_lock);
    size_t bytes = sweep_all(SWEEP_NOW);
    lone_sweep_end(&sweep_lock);
    answer(wanted, bytes);
    return true;
}

static cold void answer_in_slow_path(void)
{
    uint32_t wanted = atomic_load_explicit(&purger_request.wanted, memory_order_relaxed);
    answer(wanted, purger_trim());
}

/* ---- The thread ------------------------------------------------------------------------------ */

/* Returns what is left for the next one. */
static bool sweep(enum sweep_kind kind)
{
    lone_sweep_begin(&sweep_lock);
    sweep_all(kind);
    bool again = anything_left();
    lone_sweep_end(&sweep_lock);
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
 * us go on. Mail alone comes without a lock: its sender failed to get one (an acquire load,
 * lock_try) after the mail was there (tests/model/ending.pml). */
static bool may_end(void)
{
    atomic_store(&thread_state, THREAD_ENDING);
    lone_sweep_begin(&sweep_lock);
    bool left = anything_left();
    lone_sweep_end(&sweep_lock);
    if (!left && change_state(THREAD_ENDING, THREAD_NONE))
        return true;
    atomic_store(&thread_state, THREAD_RUNNING);
    return false;
}

/* What is free and not given back must not make the process run into its limit before the next
 * look: so that is told to those who take memory. */
static bool look_for_pressure(struct pressure *pressure)
{
    int64_t before = purge_room();
    bool high = pressure_is_high(pressure, options.soft_limit);
    purge_correct_room(pressure->room, before);
    return high;
}

/* Sleeps until the next sweep is due; true when that is because memory is short. */
static bool wait_for_sweep(struct pressure *pressure, uint64_t wait_ms)
{
    bool looks =
        os_thread_has_own_descriptors() && pressure_is_watched(pressure, options.soft_limit);
    static uint64_t unlooked_ms; /* the thread's */
    while (wait_ms != 0 && atomic_load(&stop) == 0) {
        uint64_t part_ms = min_size(wait_ms, looks ? PRESSURE_LOOK_MS : REQUEST_LOOK_MS);
        os_futex_wait_ms(&stop, 0, part_ms);
        wait_ms -= part_ms;
        unlooked_ms += part_ms;
        if (is_asked())
            break;
        if (!looks || (unlooked_ms < PRESSURE_LOOK_MS && !pressure->is_high))
            continue;
        unlooked_ms = 0;
        if (look_for_pressure(pressure))
            return true;
    }
    return false;
}

/* 1 once the thread has looked for the first time; a futex. */
static _Atomic uint32_t has_looked;

/* Wakes one, who calls it in his turn. */
static void end_wait_for_first_look(void)
{
    atomic_store(&has_looked, 1);
    os_futex_wake(&has_looked);
}

/* As long as nobody has looked, the program may run into a limit that nobody knows of: it waits for
 * the first look, once, some tenths of a millisecond; not for long if the thread does not come to
 * run. */
static cold void await_first_look(void)
{
    uint64_t end = os_now_ms() + FIRST_LOOK_MS;
    for (uint64_t now; atomic_load(&has_looked) == 0 && (now = os_now_ms()) < end;)
        os_futex_wait_ms(&has_looked, 0, end - now);
    end_wait_for_first_look(); /* once */
}

static int purge(void *unused)
{
    struct pressure pressure;
    (void)unused;
    pressure_begin(&pressure, os_thread_has_own_descriptors());
    if (os_thread_has_own_descriptors())
        look_for_pressure(&pressure);
    end_wait_for_first_look();
    uint64_t wait_ms = period_ms();
    for (unsigned last_looks = 0;;) {
        bool high = wait_for_sweep(&pressure, wait_ms);
        bool dropped = os_thread_watch_ids();
        if (atomic_load(&stop) != 0 || atomic_load(&threshold) == SIZE_MAX)
            break;
        purger_answer();
        bool again = sweep(high || dropped ? SWEEP_NOW : kind_of_sweep());
        os_allow_vectors(false); /* what filters there will be is not known once it has ended */
        if ((!again || dropped) && may_end())
            return 0;
        /* The next slow path starts one with the new ids. */
        if (dropped && ++last_looks == LAST_LOOKS)
            break;
        wait_ms = high ? min_size(period_ms(), PRESSURE_PERIOD_MS) : period_ms();
    }
    os_allow_vectors(false);
    atomic_store(&thread_state, THREAD_NONE);
    return 0;
}

static bool is_in_use(struct os_thread *thread)
{
    return atomic_load(&thread->running) != 0;
}

static struct os_thread *idle_record(void)
{
    return is_in_use(&threads[0]) ? &threads[1] : &threads[0];
}

/* With all signals blocked: a handler that forks must not come between the state and the thread. */
static bool start_blocked(void)
{
    if (change_state(THREAD_ENDING, THREAD_RUNNING))
        return true;
    if (!os_is_home())
        return false;
    if (!change_state(THREAD_NONE, THREAD_RUNNING))
        return true; /* somebody else just did it */
    if (os_thread_start(idle_record(), purge, "ebb-purger", &arena_self))
        return true;
    atomic_store_explicit(&next_start_ms, os_now_ms() + REFUSED_MS, memory_order_relaxed);
    atomic_store(&thread_state, THREAD_NONE);
    end_wait_for_first_look(); /* of others, who saw it running: it does not come */
    return false;
}

/* False when the slow path has to do without a thread. */
static bool start_thread(void)
{
    uint64_t signals;
    if (os_now_ms() < atomic_load_explicit(&next_start_ms, memory_order_relaxed))
        return false; /* before any system call */
    os_block_signals(&signals);
    bool started = start_blocked();
    os_restore_signals(signals);
    return started;
}

void purger_stop(void)
{
    if (!os_is_home())
        return; /* a child of vfork: it is its parent's */
    atomic_store(&stop, 1);
    os_futex_wake(&stop);
    for (int look = 0; look < STOP_LOOKS; look++) {
        bool gone = os_thread_is_gone(&threads[0]) && os_thread_is_gone(&threads[1]);
        /* Once more when it is gone: the kernel counts it some instructions longer. */
        os_sleep_us(STOP_LOOK_US);
        if (gone)
            break;
    }
    atomic_store(&stop, 0);
}

void purger_enter_child(bool was_lone)
{
    bool had_thread = atomic_load(&thread_state) != THREAD_NONE;
    for (int i = 0; i < 2; i++) {
        atomic_store(&threads[i].running, 0);
        atomic_store(&threads[i].id, 0);
    }
    atomic_store(&thread_state, THREAD_NONE);
    atomic_store(&stop, 0);
    atomic_store(&purger_request.done, atomic_load(&purger_request.wanted)); /* it was the parent */
    /* The lone thread may hold the lock itself, further down its stack; other threads are no more.
     */
    if (!was_lone || lone_purger_swept())
        atomic_store(&sweep_lock.state, LOCK_FREE);
    lone_enter_child();
    if (!lone_is_inside())
        chunk_put_back();
    /* A daemon may sleep from now on, and what its parent has freed is its own now. */
    if (had_thread && !lone_is_inside() && chunk_dirty_bytes() + huge_kept_bytes() >= SMALL_PROCESS)
        start_thread();
}

/* ---- Everybody else -------------------------------------------------------------------------- */

/* Sweeps by others than the purger are slow paths, too (lone.h), from here on. */
static bool begin_own(bool *entered)
{
    arenas_prepare(); /* it may be the program's first call */
    if (!lone_is_inside())
        lock_acquire(&sweep_lock);
    else if (!lock_try(&sweep_lock))
        return false; /* in libc's first call, made by a slow path: no waiting for the purger */
    *entered = lone_enter();
    return true;
}

static void end_own(bool entered)
{
    lone_leave(entered);
    lock_release(&sweep_lock);
}

/* In place of the thread. */
static void sweep_if_due(void)
{
    static struct pressure pressure; /* these two under the sweep lock */
    static uint64_t next_sweep_ms;
    uint64_t now = os_now_ms(), period = period_ms();
    uint64_t due = atomic_load_explicit(&next_look_ms, memory_order_relaxed);
    /* Whoever moves the clock on does the sweep. */
    if (now < due ||
        !atomic_compare_exchange_strong_explicit(&next_look_ms, &due,
                                                 now + min_size(period, PRESSURE_LOOK_MS),
                                                 memory_order_relaxed, memory_order_relaxed) ||
        !lock_try(&sweep_lock))
        return;
    bool entered = lone_enter();
    /* Only where it was asked for: what confines a program that gets no thread may not like that
     * files are opened either. */
    bool high = options.background_thread == THREAD_OFF && look_for_pressure(&pressure);
    if (high || now >= next_sweep_ms) {
        next_sweep_ms = now + period;
        sweep_all(high ? SWEEP_NOW : kind_of_sweep());
    }
    end_own(entered);
}

/* A kept mapping alone is worth a thread, unless the program has said what is. */
static bool is_left_alone(void)
{
    size_t least = atomic_load_explicit(&threshold, memory_order_relaxed);
    size_t kept = huge_kept_bytes();
    return least == SIZE_MAX ||
           (chunk_committed_bytes() + kept <= least && (kept == 0 || least != SMALL_PROCESS));
}

/* A heap that grows to a size is looked at a number of times that goes by the logarithm of that. */
static cold void look_at_growth(size_t bytes)
{
    static size_t growth; /* under the sweep lock */
    if (!lock_try(&sweep_lock))
        return; /* whoever sweeps, looks */
    bool entered = lone_enter();
    growth += bytes;
    if (growth >=
        atomic_load_explicit(&purger_books.peak_out, memory_order_relaxed) / LOOKS_PER_PEAK) {
        growth = 0;
        look_for_peak();
    }
    end_own(entered);
}

/* Memory that grows although some of it is free (in runs that are too short, or in mappings of the
 * wrong kind) makes up for what is new with what is free, before the program has touched it: so the
 * peak is that of the load. A load that finds its memory where it left it never comes here. */
static cold void make_up_for(size_t bytes)
{
    if (options.schedule == SCHEDULE_MANUAL || is_left_alone() || !lock_try(&sweep_lock))
        return;
    bool entered = lone_enter();
    size_t given_back = chunk_make_up(bytes);
    if (given_back < bytes && huge_kept_bytes() != 0)
        huge_make_up(bytes - given_back);
    end_own(entered);
}

/* Memory is about to be short, as far as is known: all that is free goes, of all threads. Where
 * that does not help, the next one to try is who has taken ROOM_STEP more. */
static cold void make_room(void)
{
    bool entered;
    if (options.schedule == SCHEDULE_MANUAL || !begin_own(&entered))
        return;
    if (purge_room() < 0) {
        sweep_all(SWEEP_NOW);
        purge_allow(ROOM_STEP);
    }
    end_own(entered);
}

void purger_tick(void)
{
    size_t growth = purge_take_growth();
    if (unlikely(growth != 0)) {
        look_at_growth(growth);
        make_up_for(growth);
    }
    if (unlikely(purge_room() < 0))
        make_room();

    if (likely(atomic_load_explicit(&thread_state, memory_order_relaxed) == THREAD_RUNNING)) {
        if (unlikely(atomic_load_explicit(&has_looked, memory_order_relaxed) == 0))
            await_first_look();
        return;
    }
    if (is_asked())
        answer_in_slow_path();
    if (options.schedule == SCHEDULE_MANUAL)
        return;
    if (is_left_alone())
        return;
    if (options.background_thread == THREAD_OFF || !start_thread())
        sweep_if_due();
    else if (unlikely(atomic_load_explicit(&has_looked, memory_order_relaxed) == 0))
        await_first_look();
}

size_t purger_trim(void)
{
    bool entered;
    if (!begin_own(&entered))
        return 0;
    size_t bytes = sweep_all(SWEEP_NOW);
    end_own(entered);
    return bytes;
}

void purger_reclaim(void)
{
    bool entered;
    if (!begin_own(&entered))
        return;
    sweep_all(SWEEP_NOW);
    chunk_sweep(SWEEP_NOW, 0); /* and now address space too */
    end_own(entered);
}

void purger_visit(void (*visit)(void *context), void *context)
{
    lone_sweep_begin(&sweep_lock);
    visit(context);
    lone_sweep_end(&sweep_lock);
}

void purger_set_threshold(size_t bytes)
{
    atomic_store_explicit(&threshold, bytes, memory_order_relaxed);
}

size_t purger_sweeps(void)
{
    return atomic_load_explicit(&purger_books.sweeps, memory_order_relaxed);
}

struct purger_work purger_work(void)
{
    return (struct purger_work){
        .sweeps = purger_sweeps(),
        .all_us = atomic_load_explicit(&purger_books.sweeps_us, memory_order_relaxed),
        .longest_us = atomic_load_explicit(&purger_books.longest_us, memory_order_relaxed),
    };
}
