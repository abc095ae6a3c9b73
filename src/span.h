/* span.h: a run of pages cut into blocks of one size class. Which blocks are free is told by a
 * bitmap in the span's record, never by anything in the blocks.
 *
 * All of a span but its owner is touched under the mutex of the arena that owns it. The owner is
 * set once; who holds a block of the span may read it without a lock, since the span lives as long
 * as a block of it is out.
 */
#ifndef EBB_SPAN_H
#define EBB_SPAN_H

#include "chunk.h"
#include "pagemap.h"
#include "sizeclass.h"

struct arena;

struct span {
    struct span *next, *previous; /* in the owner's list of spans with free blocks (arena.c) */
    struct arena *owner; /* not first: it stays readable in a record that meta.c has back */
    char *base;
    struct chunk *chunk;
    struct span *next_recent, *previous_recent; /* in the owner's list of spans that were used
                                                   lately; see age (arena.c) */
    uint64_t purged; /* bit i: the i-th whole OS page is given back, and no block in it is out */
    uint32_t sweep;  /* the last sweep that looked at it */
    uint8_t age;     /* SPAN_… */
    uint16_t free_count;
    uint16_t capacity;
    uint8_t class;
    uint8_t pages;
    uint8_t words;      /* of the bitmap */
    uint8_t first_word; /* no block is free below this word */
    uint64_t free[];    /* bit i: block i is free */
};

/* How long since blocks of a span were taken or brought back. */
enum {
    SPAN_SETTLED, /* two sweeps at least: its holes are purged, it is not in the list */
    SPAN_TOUCHED, /* not a sweep */
    SPAN_RESTING  /* one sweep */
};

/* What span_put can find wrong with a block. */
enum span_error { SPAN_FINE, SPAN_MISALIGNED, SPAN_FREED_TWICE, SPAN_OTHER_CLASS };

/* A block that should not have been freed, kept until no lock is held: the program may handle
 * SIGABRT, and allocate there. */
struct mistake {
    enum span_error error;
    void *block;
};

/* What to tell the user about it (text.h). */
const char *span_error_text(enum span_error error);

/* A span of free blocks for owner, entered into the page map; NULL when there is no memory. */
struct span *span_create(struct arena *owner, unsigned class, struct chunk **home);

/* Gives a span whose blocks are all free back to its chunk. */
void span_destroy(struct span *span);

/* Takes up to `wanted` free blocks, lowest first, and stores them downwards from end: the lowest
 * is end[-1]. Returns how many. */
size_t span_take(struct span *span, void **end, size_t wanted);

/* Marks blocks free again, from the first one on as long as they lie in the span, after checking
 * of each that it is a block and not free already. Returns how many it looked at, at least one,
 * the first of which must lie in the span. A block with an error is left out and told as
 * a mistake. */
size_t span_put(struct span *span, void *const *blocks, size_t count, struct mistake *mistake);

/* Gives back the OS pages in which no block is out, and returns their bytes. At most 64 pages: a
 * short hold for the mutex. */
size_t span_purge_holes(struct span *span);

static inline bool span_holds(const struct span *span, const void *block)
{
    return (uintptr_t)block - (uintptr_t)span->base < span->pages * PAGE_SIZE;
}

/* The span that holds a block, or NULL when none does (any more): any address with a small class
 * in the page map may be asked for. */
static inline struct span *span_of(const void *block)
{
    struct chunk *chunk = pagemap_chunk(block);
    return likely(chunk != NULL) ? chunk->spans[chunk_page(block)] : NULL;
}

#endif
