/* heap.h: what a process holds, read from outside (target.h) into records of our own. Pointers in
 * them are the process's: addresses, nothing to follow. What could not be true is left out and
 * counted: the process goes on while it is read.
 */
#ifndef EBB_HEAP_H
#define EBB_HEAP_H

#include "stats.h"
#include "target.h"

struct heap_chunk {
    char *base;
    size_t committed;                /* pages, at most CHUNK_PAGES */
    uint64_t free[CHUNK_PAGES / 64]; /* in the buddy */
    uint64_t free_state[PAGE_STATES][CHUNK_PAGES / 64];
    uint16_t large[CHUNK_PAGES]; /* pages of the large block that begins here, or 0 */
    uint32_t span[CHUNK_PAGES];  /* which span begins here, or HEAP_NONE */
};

#define HEAP_NONE UINT32_MAX

/* A span that was seen, with what is free in it: all within the bounds that its class sets. */
struct heap_span {
    uintptr_t at;                                 /* its record */
    uint32_t arena;                               /* its owner, an index, or HEAP_NONE */
    uint32_t chunk;                               /* an index */
    uint16_t page;                                /* in the chunk */
    uint16_t pages, capacity, free_count, cached; /* cached: blocks that lie in caches */
    uint8_t class, age;
    uint64_t purged, lazy; /* bits of OS pages, as in span.h */
    size_t bits;           /* HEAP_BLOCKS: where in heap->bits its two bitmaps begin */
};

struct heap_huge {
    char *start;
    size_t mapped;
    bool kept;
    uint64_t freed_ms;
};

struct heap {
    struct stats stats;
    struct stats_detail *detail;
    struct options options; /* any value of the target's, but the path points at our memory */
    char stats_file[OPTION_PATH_MOST];
    size_t threads;         /* as the kernel counts */
    size_t kernel_resident; /* bytes of chunks, huge blocks and metadata, by /proc/PID/pagemap … */
    size_t kernel_metadata; /* … of these, metadata … */
    bool kernel_known;      /* … if that could be read */
    size_t damaged;         /* pointers and counts that could not be true */

    struct heap_chunk *chunks;
    size_t chunk_count;
    struct heap_huge *huge;
    size_t huge_count;
    struct meta_region *regions; /* of metadata */
    size_t region_count;
    struct heap_span *spans;
    size_t span_count;
    /* Of each span: which blocks are free, and which lie in caches, a bit each, in so many words as
     * its class has. */
    uint64_t *bits;
    size_t word_count, word_room;
    bool wants_blocks;

    struct heap_place {
        uintptr_t at;
        uint32_t index;
    } * arena_places, *chunk_places; /* by address: arenas' records, chunks' bases */
    size_t arena_count;
    size_t address_space; /* bytes that the process has mapped, as the kernel says, */
    size_t resident_most; /* … and has in memory or swapped out, at the most */
    bool starved;         /* there was no memory for what was to be kept */
};

enum heap_depth {
    HEAP_TOTALS, /* stats, options, and detail but for what is live by arena */
    HEAP_SPANS,  /* and chunks, spans, huge blocks and regions, and what is resident */
    HEAP_CACHES, /* and what is live by arena */
    HEAP_BLOCKS, /* and which blocks of spans are free or lie in caches */
};

/* EXIT_DONE, or what ebb should end with, after a complaint if the target is not a silent one: the
 * process has ended, or holds more than there is memory to keep the records of. Then there is
 * nothing to drop. */
enum exit_status heap_read(struct heap *heap, const struct target *target, enum heap_depth depth);

void heap_drop(struct heap *heap);

#endif
