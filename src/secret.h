/* secret.h: numbers that nobody outside of the process knows, for the hardened mode (harden.h). No
 * locks.
 */
#ifndef EBB_SECRET_H
#define EBB_SECRET_H

#include <stdatomic.h>

#include "base.h"

extern hidden struct secret {
    uint64_t canary, filling; /* one for each use: a program may see what it has read of one */
    _Atomic uint64_t choices; /* a state that everybody moves on */
} secret;

/* Asks the kernel for them. Once, before the first block. */
void secret_init(void);

/* The finalizer of MurmurHash3: every bit of the result depends on every bit of the value. */
static inline uint64_t secret_mix(uint64_t value)
{
    value = (value ^ value >> 33) * UINT64_C(0xff51afd7ed558ccd);
    value = (value ^ value >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return value ^ value >> 33;
}

/* The next choice (SplitMix64). Two threads at once may get the same one, which does no harm. */
static inline uint64_t secret_choice(void)
{
    uint64_t state = atomic_load_explicit(&secret.choices, memory_order_relaxed);
    state += UINT64_C(0x9e3779b97f4a7c15);
    atomic_store_explicit(&secret.choices, state, memory_order_relaxed);
    return secret_mix(state);
}

#endif
