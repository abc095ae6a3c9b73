#include "stats.h"

#include "arenas.h"
#include "chunk.h"
#include "huge.h"
#include "lone.h"
#include "meta.h"
#include "os.h"
#include "purge.h"
#include "purger.h"
#include "stats_sum.h"
#include "takeover.h"

/* Arenas that may be made while the others are being counted. */
#define MORE_ARENAS 16

struct collection {
    struct sums sums;
    size_t newest; /* the number of the arena that comes first */
};

/* A block in a cache is out of its span, which stays for that long. */
static void add_cache(struct collection *collection, const struct arena *arena)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++)
        for (void **block = arena->stacks[class]; block < arena->cache.bins[class].top; block++) {
            const struct span *span = span_of(*block);
            if (span != NULL)
                sum_cached_block(&collection->sums, collection->newest - span_owner(span)->number,
                                 class);
        }
}

static void add_arena(struct arena *arena, bool owned, void *context)
{
    struct collection *collection = context;
    sum_arena(&collection->sums, arena, owned, collection->newest - arena->number);
    if (owned && collection->sums.detail != NULL)
        add_cache(collection, arena);
}

static void ask_others(struct stats *stats)
{
    struct purger_work work = purger_work();
    stats->page_map = atomic_load_explicit(&pagemap_books.leaf_bytes, memory_order_relaxed);
    stats->peak_chunks = chunk_peak_bytes();
    purger_note_out(sum_out(stats));
    stats->peak_out = atomic_load_explicit(&purger_books.peak_out, memory_order_relaxed);
    stats->purged = purge_bytes();
    stats->purge_calls = purge_calls();
    stats->purge_us = purge_us();
    stats->sweeps = work.sweeps;
    stats->sweeps_us = work.all_us;
    stats->longest_sweep_us = work.longest_us;
}

void stats_ask_kernel(struct stats *stats)
{
    stats->resident = os_resident_bytes();
    stats->peak_resident = max_size(os_peak_resident_bytes(), stats->resident);
}

static void collect(struct stats *stats, struct stats_detail *detail)
{
    *stats = (struct stats){.arenas = arenas_count()};
    struct collection collection = {{.stats = stats, .detail = detail}, arenas_first()->number};
    struct sums *sums = &collection.sums;
    takeover_visit_all(add_arena, &collection);
    chunk_count(&sums->chunks);
    huge_count(&sums->huge);
    sums->meta_used = meta_used_bytes();
    sums->meta_mapped = meta_mapped_bytes();
    sum_up(sums);
}

void stats_collect(struct stats *stats, struct stats_detail *detail)
{
    arenas_prepare(); /* it may be the program's first call */
    bool entered = lone_enter();
    collect(stats, detail);
    lone_leave(entered);
    ask_others(stats);
}

void stats_collect_as_visitor(struct stats *stats, struct stats_detail *detail)
{
    lone_visit_begin();
    collect(stats, detail);
    lone_visit_end();
    ask_others(stats);
}

static size_t detail_size(size_t arenas)
{
    return sizeof(struct stats_detail) + arenas * sizeof(struct stats_arena);
}

struct stats_detail *stats_new_detail(void)
{
    size_t room = arenas_count() + MORE_ARENAS; /* and the commons */
    struct stats_detail *detail = os_map_apart(detail_size(room));
    if (detail != NULL)
        detail->room = room;
    return detail;
}

void stats_drop_detail(struct stats_detail *detail)
{
    if (detail != NULL)
        os_unmap(detail, detail_size(detail->room));
}
