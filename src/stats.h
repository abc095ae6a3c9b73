/* stats.h: what the heap holds, counted under a takeover of every arena, one after another: each
 * arena's figures are exact at its moment. All in bytes unless the name says otherwise.
 *
 * A page of them can be written by malloc_stats, at exit, or when a signal comes (report.h). `ebb`
 * fills the same records from outside (ebb/heap.h), and writes the same page (stats_text.h).
 */
#ifndef EBB_STATS_H
#define EBB_STATS_H

#include "base.h"
#include "sizeclass.h"

/* What is mapped is the sum of: small_live, large_live, huge_live, cached, small_free, holes,
 * pages_dirty, pages_lazy, pages_clean, huge_kept, metadata and metadata_spare. What of it may be
 * resident is the same without holes, pages_clean and metadata_spare. */
struct stats {
    size_t free_blocks;   /* that lie in spans, a count; and in caches … */
    size_t cached_blocks; /* … likewise */
    size_t arenas;        /* count */
    size_t small_live;    /* blocks of size classes that the program holds */
    size_t cached;        /* blocks that lie in thread caches, large ones too */
    size_t small_free; /* … that are free in their spans, and the ends of spans, where resident */
    size_t holes;      /* … the same where given back */
    size_t spans;      /* count */
    size_t large_live; /* blocks over 32 KiB, in whole pages */
    size_t large_blocks;   /* count */
    size_t huge_live;      /* blocks over 4 MiB, in whole OS pages */
    size_t huge_blocks;    /* count */
    size_t huge_kept;      /* freed, kept for reuse */
    size_t pages_dirty;    /* free pages that are still resident */
    size_t pages_lazy;     /* free pages and holes that the kernel may take when it wants them */
    size_t pages_clean;    /* free pages that cost no memory */
    size_t metadata;       /* the library's own records, in use */
    size_t metadata_spare; /* mapped for more of them: never touched, or free for the next */
    size_t mapped;         /* address space of all of it */
    size_t page_map;       /* address space beside that, of which little is resident */
    size_t resident;       /* of the whole process, as the kernel counts; 0 if unknown */
    size_t peak_resident;  /* the same at the most */
    size_t peak_chunks;    /* pages in use in chunks, or used and free, at the most */
    size_t peak_huge;      /* huge blocks, live and kept, at the most */
    size_t peak_out;       /* blocks, live or in caches, at the most that was seen (purger.h) */
    size_t purged;         /* given back by purging, since the start */
    size_t purge_calls;    /* count */
    size_t sweeps;         /* count */
    uint64_t purge_us, sweeps_us, longest_sweep_us; /* what those took, in microseconds */
    uint64_t refills, flushes, foreign_frees, takeovers, borrowed_spans; /* counts */
};

/* Of a size class, CLASS_LARGE (aligned large blocks) and CLASS_HUGE among them; counts, except
 * for holes. */
struct stats_class {
    size_t spans;
    size_t live;   /* blocks that the program holds */
    size_t cached; /* blocks in thread caches */
    size_t free;   /* blocks free in their spans */
    size_t holes;  /* bytes of those spans that are given back */
};

struct stats_arena {
    int thread_id; /* of its owner, or of the last one; 0: the commons */
    bool orphan;   /* its thread has ended */
    bool owned;    /* false: its owner could not be kept out, and its cache was not counted */
    size_t out;    /* blocks of its spans that are not free: live, or in whosever cache … */
    size_t live;   /* … of these, live */
    size_t cached; /* blocks in its own cache, whosever spans they are of */
    size_t cached_anywhere; /* blocks of its spans, in whosever cache */
    size_t free;            /* blocks free in its spans */
    size_t holes;           /* of its spans, given back */
    size_t spans;           /* count */
    uint64_t refills, flushes, takeovers, borrowed_spans; /* counts */
    uint64_t foreign_frees; /* blocks of its spans that other threads brought back, a count */
};

struct stats_detail {
    struct stats_class classes[CLASS_END];
    size_t arenas, room; /* counts: below, the newest first; and for how many there is room */
    struct stats_arena arena[];
};

/* All but what the kernel counts. detail: its room set and the rest zero; or NULL. */
void stats_collect(struct stats *stats, struct stats_detail *detail);

/* The same by a thread of the library's own, which holds the sweep lock (purger_visit). */
void stats_collect_as_visitor(struct stats *stats, struct stats_detail *detail);

/* What the kernel counts, resident and peak_resident, for which files are read. */
void stats_ask_kernel(struct stats *stats);

/* Memory for the detail of all arenas there are and some more: mapped, not allocated. NULL when
 * refused. */
struct stats_detail *stats_new_detail(void);
void stats_drop_detail(struct stats_detail *detail);

#endif
