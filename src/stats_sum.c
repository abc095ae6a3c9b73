#include "stats_sum.h"

/* In the cache and the quarantine, of which one is empty. Bins without a stack are empty. */
static size_t cached_blocks(const struct arena *arena, unsigned class)
{
    return (size_t)(arena->cache.bins[class].top - arena->stacks[class]) +
           arena->books[class].retired;
}

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
        sum->cached += owned ? cached_blocks(arena, class) : 0;
    }
}

static void add_detail(const struct arena *arena, bool owned, size_t cached, size_t place,
                       struct stats_detail *detail)
{
    add_classes(arena, owned, detail);
    if (place >= detail->room)
        return;
    detail->arenas = max_size(detail->arenas, place + 1);
    detail->arena[place] = (struct stats_arena){
        .thread_id = arena->thread_id,
        .orphan = arena->orphan,
        .owned = owned,
        .out = less(arena->span_bytes, arena->free_bytes),
        .cached = cached,
        .cached_anywhere = detail->arena[place].cached_anywhere,
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

struct cached {
    size_t blocks, bytes;
};

void sum_arena(struct sums *sums, const struct arena *arena, bool owned, size_t place)
{
    struct stats *stats = sums->stats;
    sums->span_bytes += arena->span_bytes;
    sums->free_bytes += arena->free_bytes;
    sums->hole_bytes += arena->hole_bytes;
    sums->lazy_bytes += arena->lazy_bytes;
    struct cached large = {0, 0}, small = {0, 0};
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST && owned; class ++) {
        struct cached *of = class <= CLASS_SMALL_LAST ? &small : &large;
        of->blocks += cached_blocks(arena, class);
        of->bytes += cached_blocks(arena, class) * sizeclasses[class].size;
    }
    size_t cached = small.bytes + large.bytes;
    stats->cached += cached;
    sums->small_cached += small.bytes;
    sums->large_span_bytes += arena->large_bytes;
    sums->large_spans += arena->large_spans;
    sums->large_cached += large.bytes;
    sums->large_cached_blocks += large.blocks;
    stats->spans += arena->spans;
    stats->refills += arena->refills;
    stats->flushes += arena->flushes;
    stats->foreign_frees += arena->foreign_frees;
    stats->takeovers += arena->takeovers;
    stats->borrowed_spans += arena->borrowed_spans;
    stats->cached_blocks += small.blocks + large.blocks;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++)
        stats->free_blocks += arena->books[class].free_blocks;
    if (sums->detail != NULL)
        add_detail(arena, owned, cached, place, sums->detail);
}

void sum_cached_block(struct sums *sums, size_t place, unsigned class)
{
    struct stats_detail *detail = sums->detail;
    if (place < detail->room)
        detail->arena[place].cached_anywhere += sizeclasses[class].size;
}

static void count_live(const struct sums *sums)
{
    struct stats_detail *detail = sums->detail;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        struct stats_class *of = &detail->classes[class];
        of->live = less(of->spans * sizeclasses[class].capacity, of->free + of->cached);
    }
    detail->classes[CLASS_LARGE].live = sums->chunks.large_blocks;
    detail->classes[CLASS_HUGE].live = sums->huge.live_blocks;
    for (size_t i = 0; i < detail->arenas; i++)
        detail->arena[i].live = less(detail->arena[i].out, detail->arena[i].cached_anywhere);
}

void sum_up(struct sums *sums)
{
    struct stats *stats = sums->stats;
    const struct chunk_totals *chunks = &sums->chunks;
    const struct huge_totals *huge = &sums->huge;
    stats->metadata = sums->meta_used;
    stats->metadata_spare = less(sums->meta_mapped, sums->meta_used);
    stats->small_live =
        less(sums->span_bytes, sums->large_span_bytes + sums->free_bytes + sums->small_cached);
    /* Of the whole alone: a block may lie in another arena's cache than its span belongs to. */
    stats->large_live = chunks->large_bytes + less(sums->large_span_bytes, sums->large_cached);
    stats->large_blocks = chunks->large_blocks + less(sums->large_spans, sums->large_cached_blocks);
    stats->small_free =
        less(less(chunks->mapped_bytes, chunks->free_bytes),
             stats->small_live + stats->large_live + stats->cached + sums->hole_bytes);
    stats->holes = less(sums->hole_bytes, sums->lazy_bytes);
    stats->huge_live = huge->live_bytes;
    stats->huge_blocks = huge->live_blocks;
    stats->huge_kept = huge->kept_bytes;
    stats->pages_dirty = chunks->dirty_bytes;
    stats->pages_clean = less(chunks->free_bytes, chunks->dirty_bytes + chunks->lazy_bytes);
    stats->pages_lazy = chunks->lazy_bytes + sums->lazy_bytes;
    stats->mapped = chunks->mapped_bytes + huge->live_bytes + huge->kept_bytes + sums->meta_mapped;
    stats->peak_huge = huge->peak_bytes;
    if (sums->detail != NULL)
        count_live(sums);
}
