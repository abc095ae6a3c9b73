/* stats_sum.h: how the figures are made of the records. Pure: the records may be copies, as `ebb`
 * has them, and whatever their numbers are, nothing but numbers comes of it. (Of bins, the tops and
 * stacks must belong together.)
 */
#ifndef EBB_STATS_SUM_H
#define EBB_STATS_SUM_H

#include "arena.h"
#include "chunk.h"
#include "huge.h"
#include "stats.h"

/* Spans' bytes that are no blocks, and blocks in mail, count as what they were taken from. */
struct sums {
    struct stats *stats;         /* zero at first, but for the count of arenas */
    struct stats_detail *detail; /* or NULL; of arenas, as many as there is room for */
    size_t span_bytes, large_span_bytes, free_bytes, hole_bytes, lazy_bytes, small_cached;
    size_t large_spans, large_cached, large_cached_blocks; /* counts, but for the second: bytes */
    /* Of these the caller sees to: */
    struct chunk_totals chunks;
    struct huge_totals huge;
    size_t meta_used, meta_mapped;
};

/* Adds one. owned: its cache counts. place: where in the detail; one without room has none. */
void sum_arena(struct sums *sums, const struct arena *arena, bool owned, size_t place);

/* For the detail: a block lies in some cache, and in a span of the arena at that place. */
void sum_cached_block(struct sums *sums, size_t place, unsigned class);

/* When all are added: all of the figures that follow from the records. */
void sum_up(struct sums *sums);

/* Bytes of blocks that are live or in caches. */
static inline size_t sum_out(const struct stats *stats)
{
    return stats->small_live + stats->large_live + stats->huge_live + stats->cached;
}

#endif
