#include "why.h"

#include <stdio.h>
#include <stdlib.h>

/* The places that are named. */
#define PLACES 3

/* Lines of the explanation are at most so wide. */
#define WORDS 400

struct reason {
    size_t bytes;
    char where[80], words[WORDS];
};

/* One for each class and the others. */
struct reasons {
    struct reason reason[CLASS_END + 8];
    size_t count;
};

static struct reason *add(struct reasons *reasons, size_t bytes, const char *where)
{
    struct reason *reason = &reasons->reason[reasons->count++];
    reason->bytes = bytes;
    snprintf(reason->where, sizeof reason->where, "%s", where);
    return reason;
}

#define EXPLAIN(reason, ...) snprintf((reason)->words, sizeof(reason)->words, __VA_ARGS__)

/* Of a class's spans: free bytes that are resident, in spans where blocks came or went lately, and
 * in those at rest, whose OS pages are held by the blocks in them. */
struct pinned {
    size_t recent, rested, spans, live;
};

static void add_span(const struct heap_span *span, struct pinned *pinned)
{
    size_t out = span->capacity - span->free_count;
    size_t used = out * sizeclasses[span->class].size +
                  (size_t)__builtin_popcountll(span->purged) * os_page_size;
    size_t all = span->pages * PAGE_SIZE;
    size_t free = all > used ? all - used : 0;
    if (span->age == SPAN_TOUCHED || span->age == SPAN_RESTING) {
        pinned->recent += free;
        return;
    }
    pinned->rested += free;
    pinned->spans++;
    pinned->live += out;
}

static const char *when_given_back(const struct heap *heap)
{
    static char words[160];
    const struct options *in_force = &heap->options;
    if (in_force->schedule == SCHEDULE_MANUAL)
        return "The schedule is manual: only malloc_trim or ebb trim gives it back.";
    if (in_force->schedule == SCHEDULE_PERIODIC)
        snprintf(words, sizeof words, "It goes back at the next trim, within %zu ms.",
                 in_force->purge_period_ms);
    else
        snprintf(
            words, sizeof words,
            "It goes back by itself if nobody uses it for %zu to %zu ms; ebb trim does it now.",
            in_force->purge_delay_ms, 2 * in_force->purge_delay_ms);
    return words;
}

static void add_classes(const struct heap *heap, struct reasons *reasons)
{
    struct pinned pinned[CLASS_END] = {{0}};
    size_t recent = 0;
    for (size_t i = 0; i < heap->span_count; i++)
        if (heap->spans[i].capacity > 1)
            add_span(&heap->spans[i], &pinned[heap->spans[i].class]);
    for (unsigned class = CLASS_FIRST; class <= CLASS_SMALL_LAST; class ++) {
        recent += pinned[class].recent;
        if (pinned[class].rested == 0)
            continue;
        char where[80];
        snprintf(where, sizeof where, "free between blocks of %u bytes", sizeclasses[class].size);
        EXPLAIN(add(reasons, pinned[class].rested, where),
                "%zu blocks that are in use, or in caches, hold %zu spans that are at rest. An OS "
                "page goes back when the last block in it is freed.",
                pinned[class].live, pinned[class].spans);
    }
    EXPLAIN(add(reasons, recent, "free between blocks, in spans that were used lately"),
            "What lies in whole OS pages without a block goes back when the span is at rest. %s",
            when_given_back(heap));
}

static void add_others(const struct heap *heap, pid_t pid, struct reasons *reasons)
{
    const struct stats *stats = &heap->stats;
    EXPLAIN(add(reasons, stats->cached, "free blocks in the caches of threads"),
            "Each thread keeps up to %zu KiB, all together a share of what is live; a thread that "
            "goes quiet gives its cache up%s. EBBMALLOC_THREAD_CACHE sets the limit; ebb trim "
            "empties all.",
            heap->options.thread_cache / KiB,
            heap->options.schedule == SCHEDULE_MANUAL ? " when the program trims" : " by itself");
    EXPLAIN(add(reasons, stats->pages_dirty, "free pages, not given back yet"), "%s",
            when_given_back(heap));
    EXPLAIN(add(reasons, stats->huge_kept, "freed blocks over 4 MiB, kept for reuse"), "%s",
            when_given_back(heap));
    EXPLAIN(
        add(reasons, stats->pages_lazy, "free, and left to the kernel"),
        "The kernel takes it when it wants it, and counts it as resident until then%s. ebb trim "
        "gives it back now.",
        heap->options.advice == ADVICE_FREE ? ", as EBBMALLOC_PURGE_ADVICE=free asks"
                                            : "; or it is locked in memory");
    EXPLAIN(add(reasons, heap->kernel_metadata, "the library's own records"),
            "They grow with the most that was ever in use, and are reused, not given back.");
    if (heap->kernel_known && stats->resident > heap->kernel_resident)
        EXPLAIN(add(reasons, stats->resident - heap->kernel_resident, "not of the heap"),
                "Code, stacks, files, and what the program maps itself. See /proc/%d/smaps.",
                (int)pid);
}

static int compare(const void *a, const void *b)
{
    const struct reason *first = a, *second = b;
    return (first->bytes < second->bytes) - (first->bytes > second->bytes);
}

/* In lines of at most 72 columns, behind an indent. */
static void print_words(const char *words)
{
    size_t column = 0;
    while (*words != '\0') {
        size_t length = 0;
        while (words[length] != '\0' && words[length] != ' ')
            length++;
        if (column != 0 && column + 1 + length > 66)
            column = 0, putchar('\n');
        printf("%s%.*s", column == 0 ? "             " : " ", (int)length, words);
        column += length + (column != 0);
        words += length + (words[length] == ' ');
    }
    putchar('\n');
}

void print_why(const struct target *target, const struct heap *heap)
{
    struct reasons reasons = {.count = 0};
    const struct stats *stats = &heap->stats;
    size_t live = stats->small_live + stats->large_live + stats->huge_live;
    add_classes(heap, &reasons);
    add_others(heap, target->pid, &reasons);
    qsort(reasons.reason, reasons.count, sizeof *reasons.reason, compare);
    printf("process %d (%s): %zu KiB resident, %zu KiB in live blocks\n", (int)target->pid,
           target->name, stats->resident / KiB, live / KiB);
    for (size_t i = 0; i < PLACES && i < reasons.count && reasons.reason[i].bytes != 0; i++) {
        printf("%7zu KiB  %s\n", reasons.reason[i].bytes / KiB, reasons.reason[i].where);
        print_words(reasons.reason[i].words);
    }
}
