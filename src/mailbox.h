/* mailbox.h: blocks on their way back to an arena whose mutex was held when somebody brought them.
 * Many may put at once, without a lock; one takes, under the arena's mutex. Bounded: what does not
 * fit stays with who brought it.
 *
 *   reserved ── counts slots given to writers, by compare-and-swap
 *   slots[]  ── NULL until the writer of the slot has stored its block
 *   taken    ── slots already emptied, in order; at taken == reserved both return to 0
 *
 * A writer that sleeps between reserving and storing delays the slots behind its own, nothing else.
 */
#ifndef EBB_MAILBOX_H
#define EBB_MAILBOX_H

#include <stdatomic.h>

#include "base.h"

#define MAILBOX_SLOTS 510 /* with the counters one OS page of 4 KiB; a batch at least (cache.h) */

struct mailbox {
    _Atomic uint32_t reserved;
    uint32_t taken; /* under the arena's mutex */
    void *_Atomic slots[MAILBOX_SLOTS];
};

/* Leaves all of the blocks, or none and returns false. */
bool mailbox_put(struct mailbox *mailbox, void *const *blocks, size_t count);

/* Takes up to `room` blocks; under the arena's mutex. */
size_t mailbox_take(struct mailbox *mailbox, void **blocks, size_t room);

/* In the child of a fork, where writers in the middle of putting do not exist: what they had not
 * stored yet is lost (it is live in the child), and nothing waits for them. */
void mailbox_repair(struct mailbox *mailbox);

/* A hint without the mutex, exact with it and with no writer about. */
static inline bool mailbox_is_empty(const struct mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->reserved, memory_order_relaxed) == 0;
}

#endif
