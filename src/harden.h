/* harden.h: the hardened mode, EBBMALLOC_HARDEN=1: what malloc and free do to stop a program that
 * writes where it must not, or frees what it must not. Off by default, and then nothing of it is on
 * any fast path: a hardened process keeps no caches (options.c), so every call falls through to the
 * slow paths of malloc.c, and these come here.
 *
 *   live      [ what was asked for   | pad | seal ]     up to the size of its class
 *   retired   [ filling              | …   | filling ]  after free
 *
 * Seal. Every block, of whatever kind, ends in a word of 8 bytes that is made of a secret, the
 * block's address and the size that was asked for, which can be told from it. Between the two lie
 * bytes of one value, PAD_MOST at most, with the highest bit set, as the first byte of the seal has
 * it: so one byte too many, be it a zero or a letter, is seen. Checked at free, realloc and
 * malloc_usable_size, which tells what was asked for. Of small blocks, the word before the block is
 * looked at as well, the end of its neighbour: what is written before a block's start comes to lie
 * there.
 *
 * State. The blocks of a small class are told apart by two bitmaps in the span's record, out of
 * band and under the mutex of the span's owner:
 *
 *   free  filled
 *    0      0     live: the program has it, and it is sealed
 *    0      1     retired: freed, filled, waiting in a quarantine
 *    1      1     free, and nobody may have written to it since it was filled
 *    1      0     free, content unknown: never used, or its memory was given back (span.c)
 *
 * So a free of anything but the start of a live block is seen at once, whoever freed it and however
 * long ago, unless it has been handed out again; and what was written to a block after free is seen
 * when it is handed out again, or, at its end, when its neighbour is freed.
 *
 * Quarantine. Each arena has a ring of the blocks that its thread freed last, of QUARANTINE_BYTES
 * at most; the oldest go back to their spans, whoever owns those. A sweep empties the rings of
 * threads that are quiet, as it does with caches, and so do malloc_trim and a malloc that finds no
 * memory: resident memory follows the load down as ever. What is in it counts as cached.
 *
 * Order. Which of a span's free blocks comes next is chosen at random (span.c).
 *
 * Guards. Behind each span and each large block of a size class lies a page that cannot be touched
 * (chunk.h): 32 KiB of addresses, but no memory. Where the kernel can mark pages, behind all; else
 * each takes up to two of the mappings that it allows a process, and there are GUARDS_MOST at most.
 * A malloc that would fail has them all given up first (malloc.c).
 *
 * Blocks over 32 KiB are neither filled nor retired: nobody can touch them once they are free, for
 * as long as they are detained (chunk.h), or kept (huge.h), or their addresses are nobody's. A
 * second free of one is seen by the page map, unless another block begins there by then.
 *
 * Invariants. A small block that is live has its seal before the mutex is let go of under which it
 * was taken, and seals of small blocks change under the mutex of the span's owner alone: so who
 * holds that can judge the neighbour's. A block's own seal changes only in calls for that block: so
 * who asks for its size needs no lock. Nobody of ours writes to a filled block until it is taken.
 */
#ifndef EBB_HARDEN_H
#define EBB_HARDEN_H

#include "arena.h"

/* What waits in one thread's quarantine at most. */
#define QUARANTINE_BYTES (256 * KiB)
#define QUARANTINE_BLOCKS 1024

/* A ring, under the arena's mutex. */
struct quarantine {
    size_t first, count, bytes;
    void *blocks[QUARANTINE_BLOCKS];
};

/* Bytes to take for a block of size bytes with its seal. */
size_t harden_room(size_t size, size_t alignment);

/* A sealed block of a class up to SMALL_MAX; NULL without memory. Ends the program when it finds
 * that the block was written to after it was freed. */
void *harden_alloc(unsigned class, size_t size);

/* Seals a block of another kind, of so much room. */
void harden_seal(void *block, size_t room, size_t size);

/* The size that a block of so much room was asked for with. Ends the program, in the name of call,
 * when it is a small one that is not live, or was written beyond its end. */
size_t harden_size(void *block, size_t room, const char *call);

/* Seals a live block again, of so much room now, that realloc made larger or smaller where it
 * stands, or moved as it is: it had `was` bytes of room_was. Ends the program when it is a small
 * one that is not live. */
void harden_reseal(void *block, size_t room, size_t size, size_t room_was, size_t was);

/* free of what has a small class in the page map: retires it. Ends the program, in the name of
 * call, when it must not be freed, or somebody wrote beyond its ends. */
void harden_free(void *block, const char *call);

/* Takes up to `most` blocks out of an arena's quarantine, back to their spans; those for which it
 * would have to wait for another arena stay. Under the arena's mutex. False when there was more. */
bool harden_flush(struct arena *arena, size_t most, struct mistake *mistake);

static inline bool harden_holds_any(const struct arena *arena)
{
    return arena->quarantine != NULL && arena->quarantine->count != 0;
}

#endif
