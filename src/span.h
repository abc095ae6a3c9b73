/* span.h: a run of pages cut into blocks of one size class. Which blocks are free is told by a
 * bitmap in the span's record, never by anything in the blocks.
 *
 * All of a span but its owner is touched under the mutex of the arena that owns it. Another arena
 * may become its owner, under the mutexes of both (arena.c). Who holds a block of the span may read
 * the owner without a lock, since the span lives as long as a block of it is out, and must look
 * again under the mutex.
 */
#ifndef EBB_SPAN_H
#define EBB_SPAN_H

#include "chunk.h"
#include "pagemap.h"
#include "purge.h"
#include "sizeclass.h"

struct arena;

struct span {
    struct span *next, *previous; /* in one of the owner's lists of spans with free blocks */
    struct arena *_Atomic owner; /* not first: it stays readable in a record that meta.c has back */
    char *base;
    struct chunk *chunk;
    struct span *newer, *older; /* in the owner's list of spans that were used lately, or of lazy
                                   ones (ageing.c) */
    uint64_t purged; /* bit i: the i-th whole OS page is given back, and no block in it is out … */
    uint64_t lazy;   /* … and of those, the kernel was left to take it when it wants it */
    uint32_t sweep;  /* the last sweep that looked at it */
    uint8_t age;     /* SPAN_… */
    uint8_t guard;   /* pages from the base to one that cannot be touched (harden.h), unless memory
                        was short since then; 0: none */
    uint16_t free_count;
    uint16_t capacity;
    uint8_t class;
    uint8_t pages;
    uint8_t words;      /* of the bitmap */
    uint8_t first_word; /* no block is free below this word */
    uint8_t list;       /* SPAN_IN_… */
    uint64_t free[];    /* bit i: block i is free; in the hardened mode followed by span_filled */
};

/* Which list of its owner's it is in, by its free blocks. It goes from dense to sparse when an
 * eighth of them is free, and back when less than a sixteenth is. */
enum { SPAN_IN_NONE, SPAN_IN_DENSE, SPAN_IN_SPARSE };

/* How long since blocks of a span were taken or brought back. */
enum {
    SPAN_SETTLED, /* two sweeps at least: its holes are purged, it is not in the list */
    SPAN_TOUCHED, /* not a sweep */
    SPAN_RESTING, /* one sweep */
    SPAN_LAZY     /* as SETTLED, but some of its holes are lazy: in a list of such */
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

/* A span of free blocks for owner, entered into the page map; NULL when there is no memory. *zero
 * tells whether it reads as zero throughout. *record: NULL, or one kept of that class, which it
 * takes. */
struct span *span_create(struct arena *owner, unsigned class, struct span **record, bool *zero);

/* Gives a large one, whose block is out, the length of another class, where it stands; false, and
 * nothing changed, when that cannot be. */
bool span_resize(struct span *span, unsigned class);

/* Makes the block of a large one, that is to have so many pages, a run without a span (large.h).
 * One with a guard, which a run has not, is as long as that then; false, and nothing changed, when
 * it cannot be. */
bool span_dissolve(struct span *span, size_t wanted);

/* Gives a span whose blocks are all free back to its chunk. rested: nobody has used them for a
 * while. Its record is kept in *record, unless there is one already, or record is NULL. */
void span_destroy(struct span *span, bool rested, struct span **record);

/* False for a record that was kept of a span that is no more. */
static inline bool span_is_whole(const struct span *span)
{
    return span->base != NULL;
}

/* Gives a record back that was kept. */
void span_drop_record(struct span *record);

/* Takes up to `wanted` free blocks, lowest first, and stores them downwards from end: the lowest
 * is end[-1]. Returns how many. In the hardened mode one, whichever. */
size_t span_take(struct span *span, void **end, size_t wanted);

/* Marks blocks free again, from the first one on as long as they lie in the span, after checking
 * of each that it is a block and not free already. Returns how many it looked at, at least one,
 * the first of which must lie in the span. A block with an error is left out and told as
 * a mistake. */
size_t span_put(struct span *span, void *const *blocks, size_t count, struct mistake *mistake);

#define SPAN_NO_BLOCK SIZE_MAX

/* The number of the block that begins at an address in the span, if one does. */
static always_inline size_t span_index(const struct span *span, const void *block)
{
    const struct sizeclass *info = &sizeclasses[span->class];
    size_t offset = (size_t)((const char *)block - span->base);
    size_t index = offset * (uint64_t)info->inverse >> 32;
    return likely(index * info->size == offset && index < info->capacity) ? index : SPAN_NO_BLOCK;
}

/* What is wrong with an address in the span as the start of a block that is out. */
static inline enum span_error span_error_of(const struct span *span, const void *block)
{
    size_t index = span_index(span, block);
    if (unlikely(index == SPAN_NO_BLOCK))
        return SPAN_MISALIGNED;
    bool is_free = (span->free[index / 64] >> index % 64 & 1) != 0;
    return unlikely(is_free) ? SPAN_FREED_TWICE : SPAN_FINE;
}

/* In the hardened mode alone: bit i: block i has been filled since it was live (harden.h). */
static inline uint64_t *span_filled(struct span *span)
{
    return span->free + span->words;
}

/* Spans whose holes are purged together, of up to 64 OS pages each: a short hold for the mutex. */
#define SPAN_PURGES 4

/* Gives back the OS pages in which no block is out, and returns their bytes. */
size_t span_purge_holes(struct span *const *spans, size_t count, enum sweep_kind kind);

/* True for a span of one block, which has no part that is free while it lives: it is in no list. */
static inline bool span_is_large(const struct span *span)
{
    return span->capacity == 1;
}

static inline struct arena *span_owner(const struct span *span)
{
    /* Acquire: pairs with the release that made it the owner; it may be a new arena. */
    return atomic_load_explicit(&span->owner, memory_order_acquire);
}

/* Seldom any, and counting them is a call into libgcc where not every processor can. */
static inline uint32_t span_count_pages(uint64_t pages)
{
    return likely(pages == 0) ? 0 : (uint32_t)__builtin_popcountll(pages);
}

/* OS pages that are given back, lazily or not, while the span lives; their bytes; of those, lazily.
 */
static inline uint32_t span_hole_pages(const struct span *span)
{
    return span_count_pages(span->purged);
}

static inline size_t span_hole_bytes(const struct span *span)
{
    return span_hole_pages(span) * os_page_size;
}

static inline size_t span_lazy_bytes(const struct span *span)
{
    return span_count_pages(span->lazy) * os_page_size;
}

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
