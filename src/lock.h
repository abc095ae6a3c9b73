/* lock.h: the one lock of the library: a futex word of three states (free, held, held with
 * sleepers), after U. Drepper, "Futexes Are Tricky", mutex 3.
 *
 * A waiter looks a few times and then sleeps: with more threads than processors the holder may be
 * descheduled, and spinning would take the processor that it needs.
 *
 * Lock order, outermost first; who holds one waits only for those below it:
 *
 *   sweep lock (purger.c)         one sweep at a time
 *   visit lock (takeover.c)       one takeover of many arenas at a time
 *   arena list (arenas.c)
 *   arena mutexes                 several only under the visit lock, or, by who does not wait for
 *                                 the second one (lock_try), when blocks or a span change hands
 *   what is detained (guard.c)
 *   chunk list (chunk.c)
 *   one chunk
 *   huge list (huge.c)
 *   page map, metadata            leaves: nothing is taken under them
 */
#ifndef EBB_LOCK_H
#define EBB_LOCK_H

#include <stdatomic.h>

#include "os.h"

struct lock {
    _Atomic uint32_t state; /* LOCK_… */
};

enum { LOCK_FREE, LOCK_HELD, LOCK_AWAITED };

/* Looks before sleeping, some microseconds: about as long as the longest common critical section, a
 * batch of blocks brought back. Four times fewer made producers sleep over it. */
#define LOCK_LOOKS 256

static inline void lock_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static cold void lock_wait(struct lock *lock)
{
    count_one(COUNT_WAIT);
    for (int look = 0; look < LOCK_LOOKS; look++) {
        uint32_t expected = LOCK_FREE;
        if (atomic_load_explicit(&lock->state, memory_order_relaxed) == LOCK_FREE &&
            atomic_compare_exchange_strong_explicit(&lock->state, &expected, LOCK_HELD,
                                                    memory_order_acquire, memory_order_relaxed)) {
            count_one(COUNT_LOCK);
            return;
        }
        lock_pause();
    }
    while (atomic_exchange_explicit(&lock->state, LOCK_AWAITED, memory_order_acquire) !=
           LOCK_FREE) {
        count_one(COUNT_SLEEP);
        os_futex_wait(&lock->state, LOCK_AWAITED);
    }
    count_one(COUNT_LOCK);
}

/* Acquire when it fails, too: the purger's end depends on it (purger.c, may_end). */
static inline bool lock_try(struct lock *lock)
{
    uint32_t expected = LOCK_FREE;
    bool taken = atomic_compare_exchange_strong_explicit(
        &lock->state, &expected, LOCK_HELD, memory_order_acquire, memory_order_acquire);
    if (taken)
        count_one(COUNT_LOCK);
    return taken;
}

/* Looks as long as one who waits does before he sleeps. */
static inline bool lock_try_a_while(struct lock *lock)
{
    for (int look = 0; look < LOCK_LOOKS; look++) {
        if (atomic_load_explicit(&lock->state, memory_order_relaxed) == LOCK_FREE && lock_try(lock))
            return true;
        if (look == 0)
            count_one(COUNT_WAIT);
        lock_pause();
    }
    return false;
}

static inline void lock_acquire(struct lock *lock)
{
    if (unlikely(!lock_try(lock)))
        lock_wait(lock);
}

static inline void lock_release(struct lock *lock)
{
    if (unlikely(atomic_exchange_explicit(&lock->state, LOCK_FREE, memory_order_release) ==
                 LOCK_AWAITED))
        os_futex_wake(&lock->state);
}

/* For who holds it and will want it again at once: true when others wait, and should have it first.
 * Then, after its release, he gives way. */
static inline bool lock_is_awaited(const struct lock *lock)
{
    return atomic_load_explicit(&lock->state, memory_order_relaxed) == LOCK_AWAITED;
}

/* Longer than it takes to wake up, in microseconds. */
#define LOCK_WAY_US 50

static inline void lock_give_way(bool awaited)
{
    if (awaited)
        os_sleep_us(LOCK_WAY_US);
}

#endif
