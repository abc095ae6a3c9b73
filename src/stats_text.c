#include "stats_text.h"

#include <stdarg.h>

#include "text.h"

#define NAME_MOST 16 /* of a thread, as the kernel has it, with the zero */

static __attribute__((format(printf, 2, 3))) void say(struct stats_page *page, const char *format,
                                                      ...)
{
    char line[TEXT_LINE];
    va_list arguments;
    va_start(arguments, format);
    size_t length = text_format_list(line, sizeof line, format, arguments);
    va_end(arguments);
    while (length != 0 && line[length - 1] == ' ')
        line[--length] = '\0'; /* an empty note */
    page->line(page, line);
}

static void say_bytes(struct stats_page *page, const char *what, size_t bytes, const char *note)
{
    say(page, "  %-26s %12zu KiB  %s", what, bytes / KiB, note);
}

static void say_count(struct stats_page *page, const char *what, size_t count, const char *note)
{
    say(page, "  %-26s %12zu      %s", what, count, note);
}

/* In tenths of a millisecond. */
static void say_time(struct stats_page *page, const char *what, uint64_t us, const char *note)
{
    say(page, "  %-26s %10zu.%u ms   %s", what, (size_t)(us / 1000), (unsigned)(us / 100 % 10),
        note);
}

static void write_totals(struct stats_page *page)
{
    const struct stats *stats = page->stats;
    say(page, "totals");
    say_bytes(page, "live, small blocks", stats->small_live, "up to 32 KiB each");
    say_bytes(page, "live, large blocks", stats->large_live, "32 KiB to 4 MiB each");
    say_bytes(page, "live, huge blocks", stats->huge_live, "over 4 MiB each");
    say_bytes(page, "cached by threads", stats->cached, "free, ready for reuse");
    say_bytes(page, "free in spans", stats->small_free, "between live blocks");
    say_bytes(page, "holes in spans, given back", stats->holes, "addresses only");
    say_bytes(page, "free pages, resident", stats->pages_dirty, "given back if not reused soon");
    say_bytes(page, "free, left to the kernel", stats->pages_lazy, "resident until it wants them");
    say_bytes(page, "free pages, given back", stats->pages_clean, "addresses only");
    say_bytes(page, "huge mappings, kept", stats->huge_kept, "given back if not reused soon");
    say_bytes(page, "metadata", stats->metadata, "the library's own records");
    say_bytes(page, "metadata, spare", stats->metadata_spare, "for more of them");
    say_bytes(page, "mapped", stats->mapped, "address space: the sum of these");
    say_bytes(page, "page map", stats->page_map, "address space beside that");
    say_bytes(page, "resident, whole process", stats->resident, "as the kernel counts");
}

static void write_work(struct stats_page *page)
{
    const struct stats *stats = page->stats;
    say(page, "at the most");
    say_bytes(page, "resident, whole process", stats->peak_resident, "as the kernel counts");
    say_bytes(page, "live or cached", stats->peak_out, "as sweeps and growth saw it");
    say_bytes(page, "pages of chunks in use", stats->peak_chunks, "live, cached or free");
    say_bytes(page, "huge blocks", stats->peak_huge, "live or kept");
    say(page, "work since the start");
    say_bytes(page, "purged", stats->purged, "given back in all");
    say_count(page, "purge calls", stats->purge_calls, "to the kernel");
    say_time(page, "  what they took", stats->purge_us, "in all");
    say_count(page, "sweeps", stats->sweeps, "");
    say_time(page, "  what they took", stats->sweeps_us, "purge calls in them too");
    say_time(page, "  the longest of them", stats->longest_sweep_us, "");
    say_count(page, "takeovers", stats->takeovers, "of caches, by other threads");
    say_count(page, "cache refills", stats->refills, "");
    say_count(page, "cache flushes", stats->flushes, "");
    say_count(page, "blocks freed elsewhere", stats->foreign_frees, "by a thread not their owner");
    say_count(page, "spans taken over", stats->borrowed_spans, "by arenas that needed one");
}

static void write_arena(struct stats_page *page, const struct stats_arena *arena)
{
    char name[NAME_MOST] = "", shown[NAME_MOST + 8];
    if (arena->thread_id == 0)
        text_format(name, sizeof name, "(no thread's)");
    else if (arena->orphan)
        text_format(name, sizeof name, "(ended)");
    else
        page->thread_name(page, arena->thread_id, name, sizeof name);
    text_tame(shown, sizeof shown, name);
    say(page, "  %8d %-15s %9zu %c%8zu %9zu %8zu %11zu", arena->thread_id, shown, arena->live / KiB,
        arena->owned ? ' ' : '?', arena->cached / KiB, arena->free / KiB, arena->spans,
        (size_t)arena->foreign_frees);
}

static void write_arenas(struct stats_page *page)
{
    const struct stats_detail *detail = page->detail;
    say(page, "arenas: %zu, one per thread, reused; memory in KiB", page->stats->arenas);
    say(page, "  %8s %-15s %9s %9s %9s %8s %11s", "thread", "name", "live", "cached", "free",
        "spans", "elsewhere");
    for (size_t i = 0; i < detail->arenas; i++)
        write_arena(page, &detail->arena[i]);
    say(page, "  live: blocks of its spans, whoever got them; cached: in its own cache, of any");
    say(page, "  spans; elsewhere: blocks of its spans that other threads have brought back");
}

size_t stats_waste(const struct stats_class *of, unsigned class)
{
    size_t used = (of->live + of->cached) * sizeclasses[class].size + of->holes;
    size_t all = of->spans * sizeclasses[class].pages * PAGE_SIZE;
    return class <= CLASS_SMALL_LAST && all > used ? all - used : 0;
}

static void write_classes(struct stats_page *page)
{
    say(page, "size classes; memory in KiB");
    say(page, "  %8s %10s %9s %9s %8s %10s %10s", "bytes", "live", "cached", "free", "spans",
        "waste", "given back");
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        const struct stats_class *of = &page->detail->classes[class];
        if (of->spans != 0)
            say(page, "  %8u %10zu %9zu %9zu %8zu %10zu %10zu", sizeclasses[class].size, of->live,
                of->cached, of->free, of->spans, stats_waste(of, class) / KiB, of->holes / KiB);
    }
    say(page, "  waste: resident, and neither live nor in a cache");
    say_count(page, "spans", page->stats->spans, "");
    say_count(page, "large blocks", page->stats->large_blocks, "32 KiB to 4 MiB, live");
    say_count(page, "  of them, aligned ones", page->detail->classes[CLASS_LARGE].live,
              "in no class above");
    say_count(page, "huge blocks", page->stats->huge_blocks, "over 4 MiB, live");
}

static void write_option(struct stats_page *page, const struct option *option)
{
    char text[OPTION_PATH_MOST];
    bool initial = option_print_of(option, page->options, text, sizeof text);
    say(page, "  %-28s %10s%s", option->name, text, initial ? "  (default)" : "");
}

void stats_write(struct stats_page *page)
{
    page->line(page, page->title);
    write_totals(page);
    write_work(page);
    if (page->detail != NULL) {
        write_arenas(page);
        write_classes(page);
    }
    say(page, "options in force");
    for (size_t i = 0; i < option_count; i++)
        write_option(page, &option_table[i]);
}
