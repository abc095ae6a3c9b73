/* double-use: no byte is in two live blocks at once. Every 16 bytes of a block carry a word that
 * says who owns them; it is claimed by compare-and-exchange right after malloc, which fails when
 * someone else's claim still stands there, and is given up by compare-and-exchange right before
 * free, which fails when someone else took it in between.
 *
 * A claim is mixed with its own address, so old data of the program or the allocator's own words
 * are not taken for one. Blocks move between threads through shared slots.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define WORKERS 6
#define SECONDS 6
#define SLOTS 4096
#define GRAIN 16

/* What is known of a block that lies in a slot: a pointer to this, itself from malloc. */
struct note {
    unsigned char *start;
    size_t size;
    unsigned maker;
};

static _Atomic(struct note *) slots[SLOTS];
static double end;
static _Atomic uint64_t total;

static uint64_t claim_of(const void *address, unsigned owner)
{
    return (mix((uint64_t)(uintptr_t)address) & ~(uint64_t)0xff) | (owner + 1);
}

/* The owner that a word names, or -1 when it is no claim for this address. */
static int claimed_by(const void *address, uint64_t word)
{
    unsigned owner = (unsigned)(word & 0xff) - 1;
    return owner < WORKERS && word == claim_of(address, owner) ? (int)owner : -1;
}

static void claim(unsigned owner, unsigned char *start, size_t size)
{
    for (size_t offset = 0; offset + 8 <= size; offset += GRAIN) {
        _Atomic uint64_t *word = (_Atomic uint64_t *)(start + offset);
        uint64_t found = atomic_load_explicit(word, memory_order_acquire);
        int other = claimed_by(word, found);
        if (other >= 0)
            fail("thread %u: malloc(%zu) = %p: offset %zu already belongs to thread %d", owner,
                 size, (void *)start, offset, other);
        uint64_t expected = found;
        if (!atomic_compare_exchange_strong(word, &expected, claim_of(word, owner)))
            fail("thread %u: malloc(%zu) = %p: offset %zu changed from %#" PRIx64 " to %#" PRIx64
                 " while it was claimed: given to another thread, or written by the allocator",
                 owner, size, (void *)start, offset, found, expected);
    }
}

static void disclaim(unsigned thread, unsigned owner, unsigned char *start, size_t size)
{
    for (size_t offset = 0; offset + 8 <= size; offset += GRAIN) {
        _Atomic uint64_t *word = (_Atomic uint64_t *)(start + offset);
        uint64_t expected = claim_of(word, owner);
        if (!atomic_compare_exchange_strong(word, &expected, 0))
            fail("thread %u, before free: block %p of %zu bytes of thread %u: word at offset %zu "
                 "is %#" PRIx64 ", expected %#" PRIx64,
                 thread, (void *)start, size, owner, offset, expected, claim_of(word, owner));
    }
}

static void *take(unsigned thread, size_t size)
{
    unsigned char *start = malloc(size);
    if (start == NULL)
        fail("thread %u: malloc(%zu) = NULL, errno %d", thread, size, errno);
    claim(thread, start, size);
    return start;
}

static void give_back(unsigned thread, unsigned maker, void *start, size_t size)
{
    disclaim(thread, maker, start, size);
    free(start);
}

static struct note *make(unsigned thread, struct rng *rng)
{
    /* Mostly sizes of the same few classes: the more two blocks could be mistaken. */
    size_t most = rng_below(rng, 256) == 0 ? 256 * KiB : 512;
    size_t size = rng_size(rng, 16, most);
    unsigned char *start = take(thread, size);
    /* The note is claimed at its tail alone: its fields are the head. */
    struct note *note = malloc(sizeof *note + 16);
    if (note == NULL)
        fail("thread %u: malloc(%zu) = NULL, errno %d", thread, sizeof *note + 16, errno);
    claim(thread, (unsigned char *)(note + 1), 16);
    *note = (struct note){start, size, thread};
    return note;
}

static void end_note(unsigned thread, struct note *note)
{
    give_back(thread, note->maker, note->start, note->size);
    disclaim(thread, note->maker, (unsigned char *)(note + 1), 16);
    free(note);
}

static void *work(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;
    struct rng rng = rng_stream(thread);
    uint64_t blocks = 0;
    while (now_seconds() < end) {
        for (unsigned i = 0; i < 64; i++, blocks++) {
            struct note *made = rng_below(&rng, 8) == 0 ? NULL : make(thread, &rng);
            struct note *old = atomic_exchange(&slots[rng_below(&rng, SLOTS)], made);
            if (old != NULL)
                end_note(thread, old);
        }
    }
    atomic_fetch_add(&total, blocks);
    return NULL;
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "double-use", 90);
    end = now_seconds() + scaled_seconds(SECONDS);
    pthread_t threads[WORKERS];
    for (uintptr_t i = 0; i < WORKERS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i) != 0)
            fail("pthread_create");
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < SLOTS; i++) {
        struct note *note = atomic_exchange(&slots[i], NULL);
        if (note != NULL)
            end_note(0, note);
    }
    report("%" PRIu64 " blocks were claimed and given up", total);
    if (total < scaled(50000))
        fail("too few blocks (%" PRIu64 ") to show anything", total);
    return 0;
}
