#include "mailbox.h"

bool mailbox_put(struct mailbox *mailbox, void *const *blocks, size_t count)
{
    uint32_t first = atomic_load_explicit(&mailbox->reserved, memory_order_relaxed);
    do {
        if (first + count > MAILBOX_SLOTS)
            return false;
        /* Acquire: pairs with the release in mailbox_take; the slots are empty again. */
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->reserved, &first,
                                                    first + (uint32_t)count, memory_order_acquire,
                                                    memory_order_relaxed));
    for (size_t i = 0; i < count; i++)
        atomic_store_explicit(&mailbox->slots[first + i], blocks[i], memory_order_release);
    return true;
}

size_t mailbox_take(struct mailbox *mailbox, void **blocks, size_t room)
{
    size_t count = 0;
    uint32_t reserved = atomic_load_explicit(&mailbox->reserved, memory_order_relaxed);
    while (count < room && mailbox->taken < reserved) {
        void *block = atomic_load_explicit(&mailbox->slots[mailbox->taken], memory_order_acquire);
        if (block == NULL)
            break; /* its writer has not got there yet */
        atomic_store_explicit(&mailbox->slots[mailbox->taken], NULL, memory_order_relaxed);
        mailbox->taken++;
        blocks[count++] = block;
    }
    /* All that was reserved is taken: begin anew, unless more came meanwhile. The order of the two
     * stores does not matter: only who holds the mutex reads taken. */
    if (mailbox->taken == reserved && reserved != 0 &&
        atomic_compare_exchange_strong_explicit(&mailbox->reserved, &reserved, 0,
                                                memory_order_release, memory_order_relaxed))
        mailbox->taken = 0;
    return count;
}

void mailbox_repair(struct mailbox *mailbox)
{
    uint32_t kept = 0;
    for (uint32_t i = mailbox->taken; i < MAILBOX_SLOTS; i++) {
        void *block = atomic_load_explicit(&mailbox->slots[i], memory_order_relaxed);
        atomic_store_explicit(&mailbox->slots[i], NULL, memory_order_relaxed);
        if (block != NULL)
            atomic_store_explicit(&mailbox->slots[kept++], block, memory_order_relaxed);
    }
    mailbox->taken = 0;
    atomic_store_explicit(&mailbox->reserved, kept, memory_order_relaxed);
}
