/* stats.h: what the heap holds, counted under a takeover of every arena, one after another: each
 * arena's figures are exact at its moment. All in bytes unless the name says otherwise.
 */
#ifndef EBB_STATS_H
#define EBB_STATS_H

#include "base.h"

struct stats {
    size_t arenas;     /* count */
    size_t small_live; /* blocks of size classes that the program holds */
    size_t cached;     /* blocks that lie in thread caches, large ones too */
    size_t small_free; /* … that are free in their spans, and the ends of spans, where resident */
    size_t holes;      /* … the same where given back */
    size_t spans;      /* count */
    size_t large_live; /* blocks over 32 KiB, in whole pages */
    size_t large_blocks; /* count */
    size_t huge_live;    /* blocks over 4 MiB, in whole OS pages */
    size_t huge_blocks;  /* count */
    size_t huge_kept;    /* freed, kept for reuse */
    size_t pages_dirty;  /* free pages that are still resident */
    size_t pages_lazy;   /* free pages and holes that the kernel may take when it wants them */
    size_t pages_clean;  /* free pages that cost no memory */
    size_t metadata;     /* the library's own records, in use */
    size_t mapped;       /* address space of all of it */
    size_t resident;     /* of the whole process, as the kernel counts; 0 if unknown */
    size_t purged;       /* given back by purging, since the start */
    size_t purge_calls;  /* count */
    size_t sweeps;       /* count */
    uint64_t refills, flushes, foreign_frees, takeovers, borrowed_spans; /* counts */
};

void stats_collect(struct stats *stats);

/* Writes the page of malloc_stats to stderr. */
void stats_print(void);

#endif
