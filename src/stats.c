#include "stats.h"

#include "arenas.h"
#include "chunk.h"
#include "huge.h"
#include "lone.h"
#include "meta.h"
#include "options.h"
#include "os.h"
#include "purge.h"
#include "purger.h"
#include "takeover.h"
#include "text.h"

/* Spans' bytes that are no blocks, and blocks in mail, count as what they were taken from. */
struct sums {
    struct stats *stats;
    size_t span_bytes, large_span_bytes, free_bytes, hole_bytes, lazy_bytes, small_cached;
};

/* Subtraction of figures that were taken one after another. */
static size_t less(size_t whole, size_t part)
{
    return whole > part ? whole - part : 0;
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
}

void stats_collect(struct stats *stats)
{
    *stats = (struct stats){.arenas = arenas_count()};
    struct sums sums = {.stats = stats};
    struct chunk_totals chunks;
    struct huge_totals huge;
    bool entered = lone_enter();
    takeover_visit_all(add_arena, &sums);
    chunk_count(&chunks);
    huge_count(&huge);
    stats->metadata = meta_used_bytes();
    size_t meta_mapped = meta_mapped_bytes();
    lone_leave(entered);
    stats->small_live =
        less(sums.span_bytes, sums.large_span_bytes + sums.free_bytes + sums.small_cached);
    stats->large_live += chunks.large_bytes;
    stats->large_blocks += chunks.large_blocks;
    stats->small_free =
        less(less(chunks.mapped_bytes, chunks.free_bytes),
             stats->small_live + stats->large_live + stats->cached + sums.hole_bytes);
    stats->holes = sums.hole_bytes - sums.lazy_bytes;
    stats->huge_live = huge.live_bytes;
    stats->huge_blocks = huge.live_blocks;
    stats->huge_kept = huge.kept_bytes;
    stats->pages_dirty = chunks.dirty_bytes;
    stats->pages_clean = less(chunks.free_bytes, chunks.dirty_bytes + chunks.lazy_bytes);
    stats->pages_lazy = chunks.lazy_bytes + sums.lazy_bytes;
    stats->mapped = chunks.mapped_bytes + huge.live_bytes + huge.kept_bytes + meta_mapped;
    stats->resident = os_resident_bytes();
    stats->purged = purge_bytes();
    stats->purge_calls = purge_calls();
    stats->sweeps = purger_sweeps();
}

static void print_bytes(const char *what, size_t bytes, const char *note)
{
    text_line("%-28s %11zu KiB  %s", what, bytes / KiB, note);
}

static void print_count(const char *what, size_t count, const char *note)
{
    text_line("%-28s %11zu      %s", what, count, note);
}

static void print_options(void)
{
    text_line("options in force");
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        char value[64];
        option_print(option, *option->value, value, sizeof value);
        text_line("  %-26s %11s      %s", option->name, value,
                  *option->value == option->initial ? "(default)" : "");
    }
}

void stats_print(void)
{
    struct stats stats;
    stats_collect(&stats);
    text_line("ebbmalloc " EBB_VERSION);
    print_bytes("live, small blocks", stats.small_live, "up to 32 KiB each");
    print_bytes("live, large blocks", stats.large_live, "32 KiB to 4 MiB each");
    print_bytes("live, huge blocks", stats.huge_live, "over 4 MiB each");
    print_bytes("cached by threads", stats.cached, "free, ready for reuse");
    print_bytes("free in spans", stats.small_free, "between live blocks");
    print_bytes("holes in spans, given back", stats.holes, "addresses only");
    print_bytes("free pages, resident", stats.pages_dirty, "given back if not reused soon");
    print_bytes("free pages, left to kernel", stats.pages_lazy, "resident until it wants them");
    print_bytes("free pages, given back", stats.pages_clean, "addresses only");
    print_bytes("huge mappings, kept", stats.huge_kept, "given back if not reused soon");
    print_bytes("metadata", stats.metadata, "the library's own records");
    print_bytes("mapped", stats.mapped, "address space of all of these");
    print_bytes("resident, whole process", stats.resident, "as the kernel counts");
    print_bytes("purged so far", stats.purged, "given back in all");
    print_count("purge calls", stats.purge_calls, "to the kernel");
    print_count("sweeps", stats.sweeps, "");
    print_count("arenas", stats.arenas, "one per thread, reused");
    print_count("spans", stats.spans, "");
    print_count("large blocks", stats.large_blocks, "");
    print_count("huge blocks", stats.huge_blocks, "");
    print_count("cache refills", stats.refills, "");
    print_count("cache flushes", stats.flushes, "");
    print_count("blocks freed elsewhere", stats.foreign_frees, "by a thread not their owner");
    print_count("spans taken over", stats.borrowed_spans, "by arenas that needed one");
    print_count("takeovers", stats.takeovers, "of caches");
    print_options();
}
