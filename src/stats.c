#include "stats.h"

#include "arenas.h"
#include "chunk.h"
#include "huge.h"
#include "lone.h"
#include "meta.h"
#include "os.h"
#include "purge.h"
#include "purger.h"
#include "takeover.h"

/* Arenas that may be made while the others are being counted. */
#define MORE_ARENAS 16

/* Spans' bytes that are no blocks, and blocks in mail, count as what they were taken from. */
struct sums {
    struct stats *stats;
    struct stats_detail *detail; /* or NULL */
    size_t span_bytes, large_span_bytes, free_bytes, hole_bytes, lazy_bytes, small_cached;
};

/* Subtraction of figures that were taken one after another. */
static size_t less(size_t whole, size_t part)
{
    return whole > part ? whole - part : 0;
}

static void add_classes(const struct arena *arena, bool owned, struct stats_detail *detail)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        const struct class_books *books = &arena->books[class];
        struct stats_class *sum = &detail->classes[class];
        sum->spans += books->spans;
        sum->free += books->free_blocks;
        sum->holes += books->hole_pages * os_page_size;
        sum->cached += owned ? cache_count(arena, class) : 0;
    }
}

static void add_detail(const struct arena *arena, bool owned, size_t cached,
                       struct stats_detail *detail)
{
    add_classes(arena, owned, detail);
    if (detail->arenas == detail->room)
        return;
    detail->arena[detail->arenas++] = (struct stats_arena){
        .thread_id = arena->thread_id,
        .orphan = arena->orphan,
        .owned = owned,
        .out = arena->span_bytes - arena->free_bytes,
        .cached = cached,
        .free = arena->free_bytes,
        .holes = arena->hole_bytes,
        .spans = arena->spans,
        .refills = arena->refills,
        .flushes = arena->flushes,
        .takeovers = arena->takeovers,
        .borrowed_spans = arena->borrowed_spans,
        .foreign_frees = arena->foreign_frees,
    };
}

static void count_blocks(const struct arena *arena, bool owned, struct stats *stats)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        stats->free_blocks += arena->books[class].free_blocks;
        stats->cached_blocks += owned ? cache_count(arena, class) : 0;
    }
}

static void add_arena(struct arena *arena, bool owned, void *context)
{
    struct sums *sums = context;
    struct stats *stats = sums->stats;
    sums->span_bytes += arena->span_bytes;
    sums->free_bytes += arena->free_bytes;
    sums->hole_bytes += arena->hole_bytes;
    sums->lazy_bytes += arena->lazy_bytes;
    struct cache_large large = {0, 0};
    size_t cached = owned ? cache_bytes(arena, &large) : 0;
    stats->cached += cached;
    sums->small_cached += cached - large.bytes;
    sums->large_span_bytes += arena->large_bytes;
    stats->large_live += less(arena->large_bytes, large.bytes);
    stats->large_blocks += less(arena->large_spans, large.blocks);
    stats->spans += arena->spans;
    stats->refills += arena->refills;
    stats->flushes += arena->flushes;
    stats->foreign_frees += arena->foreign_frees;
    stats->takeovers += arena->takeovers;
    stats->borrowed_spans += arena->borrowed_spans;
    count_blocks(arena, owned, stats);
    if (sums->detail != NULL)
        add_detail(arena, owned, cached, sums->detail);
}

static void count_live(struct stats_detail *detail, const struct chunk_totals *chunks,
                       const struct huge_totals *huge)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        struct stats_class *of = &detail->classes[class];
        of->live = less(of->spans * sizeclasses[class].capacity, of->free + of->cached);
    }
    detail->classes[CLASS_LARGE].live = chunks->large_blocks;
    detail->classes[CLASS_HUGE].live = huge->live_blocks;
}

/* What is not kept in one place but follows from what is. */
static void derive(const struct sums *sums, const struct chunk_totals *chunks,
                   const struct huge_totals *huge, size_t meta_mapped)
{
    struct stats *stats = sums->stats;
    stats->small_live =
        less(sums->span_bytes, sums->large_span_bytes + sums->free_bytes + sums->small_cached);
    stats->large_live += chunks->large_bytes;
    stats->large_blocks += chunks->large_blocks;
    stats->small_free =
        less(less(chunks->mapped_bytes, chunks->free_bytes),
             stats->small_live + stats->large_live + stats->cached + sums->hole_bytes);
    stats->holes = sums->hole_bytes - sums->lazy_bytes;
    stats->huge_live = huge->live_bytes;
    stats->huge_blocks = huge->live_blocks;
    stats->huge_kept = huge->kept_bytes;
    stats->pages_dirty = chunks->dirty_bytes;
    stats->pages_clean = less(chunks->free_bytes, chunks->dirty_bytes + chunks->lazy_bytes);
    stats->pages_lazy = chunks->lazy_bytes + sums->lazy_bytes;
    stats->metadata_spare = less(meta_mapped, stats->metadata);
    stats->mapped = chunks->mapped_bytes + huge->live_bytes + huge->kept_bytes + meta_mapped;
    stats->peak_huge = huge->peak_bytes;
}

static void ask_others(struct stats *stats)
{
    struct purger_work work = purger_work();
    stats->page_map = pagemap_bytes();
    stats->resident = os_resident_bytes();
    stats->peak_resident = max_size(os_peak_resident_bytes(), stats->resident);
    stats->peak_chunks = chunk_peak_bytes();
    stats->purged = purge_bytes();
    stats->purge_calls = purge_calls();
    stats->purge_us = purge_us();
    stats->sweeps = work.sweeps;
    stats->sweeps_us = work.all_us;
    stats->longest_sweep_us = work.longest_us;
}

static void collect(struct stats *stats, struct stats_detail *detail)
{
    *stats = (struct stats){.arenas = arenas_count()};
    struct sums sums = {.stats = stats, .detail = detail};
    struct chunk_totals chunks;
    struct huge_totals huge;
    takeover_visit_all(add_arena, &sums);
    chunk_count(&chunks);
    huge_count(&huge);
    stats->metadata = meta_used_bytes();
    derive(&sums, &chunks, &huge, meta_mapped_bytes());
    if (detail != NULL)
        count_live(detail, &chunks, &huge);
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
    struct stats_detail *detail = os_map(detail_size(room));
    if (detail != NULL)
        detail->room = room;
    return detail;
}

void stats_drop_detail(struct stats_detail *detail)
{
    if (detail != NULL)
        os_unmap(detail, detail_size(detail->room));
}
