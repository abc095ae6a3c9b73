#include "lone.h"

/* How long a visitor stays away who found the thread inside: from 50 µs on, twice as long each
 * time, since a handler may keep the thread inside for as long as it likes. */
#define AWAY_LEAST_US 50
#define AWAY_MOST_US 100000

/* How often to look whether somebody else's sweep is over, in microseconds. */
#define SWEEP_LOOK_US 500

/* How long to wait for a visitor before asking whether this is the process that he came to. */
#define CHILD_LOOK_MS 100

struct lone lone;

static bool purger_sweeps; /* under the sweep lock, and changed in a visit */

/* One visitor at a time: the thread that writes statistics (report.c) comes as the purger does. */
static struct lock turn;
static bool visiting; /* under it */

cold void lone_wait(void)
{
    for (uint32_t state = LOCK_HELD; state != LOCK_FREE;) {
        if (state == LOCK_AWAITED &&
            !os_futex_wait_ms(&lone.visitor, LOCK_AWAITED, CHILD_LOOK_MS) && !os_is_home())
            lone_enter_child(); /* one that was made without libc's fork: the visitor is not here */
        /* Acquire: pairs with the release in leave. */
        state = atomic_load_explicit(&lone.visitor, memory_order_acquire);
        if (state == LOCK_HELD &&
            atomic_compare_exchange_strong_explicit(&lone.visitor, &state, LOCK_AWAITED,
                                                    memory_order_acquire, memory_order_acquire))
            state = LOCK_AWAITED;
    }
}

static void leave(void)
{
    if (atomic_exchange_explicit(&lone.visitor, LOCK_FREE, memory_order_release) == LOCK_AWAITED)
        os_futex_wake(&lone.visitor);
}

/* Until the lone thread is outside, and kept there. */
static void come(void)
{
    unsigned away_us = AWAY_LEAST_US;
    lock_acquire(&turn);
    visiting = lone_process();
    while (visiting) {
        atomic_store_explicit(&lone.visitor, LOCK_HELD, memory_order_relaxed);
        /* Without membarrier there is no telling: then a fork in a handler is as unsafe as it is
         * in a process of several threads. */
        os_barrier_all();
        /* Acquire: pairs with the release in lone_leave. */
        if (atomic_load_explicit(&lone.inside, memory_order_acquire) == 0)
            return;
        leave();
        os_sleep_us(away_us);
        away_us = away_us < AWAY_MOST_US ? away_us * 2 : AWAY_MOST_US;
        visiting = lone_process();
    }
}

static void go(void)
{
    if (visiting)
        leave();
    visiting = false;
    lock_release(&turn);
}

void lone_sweep_begin(struct lock *sweep_lock)
{
    come();
    while (!lock_try(sweep_lock)) {
        go();
        os_sleep_us(SWEEP_LOOK_US);
        come();
    }
    purger_sweeps = true;
    go();
}

void lone_sweep_end(struct lock *sweep_lock)
{
    come();
    purger_sweeps = false;
    lock_release(sweep_lock);
    go();
}

void lone_visit_begin(void)
{
    if (purger_sweeps)
        come();
}

void lone_visit_end(void)
{
    if (purger_sweeps)
        go();
}

bool lone_purger_swept(void)
{
    return purger_sweeps;
}

void lone_enter_child(void)
{
    /* A visitor who was just looking whether he may be here is not waited for by a fork. */
    atomic_store_explicit(&lone.visitor, LOCK_FREE, memory_order_relaxed);
    atomic_store(&turn.state, LOCK_FREE);
    purger_sweeps = visiting = false;
}

bool lone_is_inside(void)
{
    return atomic_load_explicit(&lone.inside, memory_order_relaxed) != 0;
}
