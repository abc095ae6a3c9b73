/* stat.c: `ebb stat PID`: the page of malloc_stats of a process, from outside; as JSON; as
 * Prometheus text; or why memory is resident that is not live (why.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"
#include "stats_text.h"
#include "why.h"

/* ---- As text --------------------------------------------------------------------------------- */

static const struct target *shown; /* the page's */

static void print_line(struct stats_page *page, const char *text)
{
    (void)page;
    puts(text);
}

static void name_thread(struct stats_page *page, int id, char *name, size_t capacity)
{
    (void)page;
    target_thread_name(shown, id, name, capacity);
}

static void print_page(const struct target *target, const struct heap *heap)
{
    char title[128];
    snprintf(title, sizeof title, "ebbmalloc %s, process %d (%s)", target->version,
             (int)target->pid, target->name);
    struct stats_page page = {.title = title,
                              .stats = &heap->stats,
                              .detail = heap->detail,
                              .options = &heap->options,
                              .line = print_line,
                              .thread_name = name_thread};
    shown = target;
    stats_write(&page);
    if (heap->kernel_known)
        printf("the kernel's books\n  %-26s %12zu KiB  chunks, huge blocks and metadata\n"
               "  %-26s %12zu KiB  of that\n",
               "resident of what is mapped", heap->kernel_resident / KiB, "resident of metadata",
               heap->kernel_metadata / KiB);
    if (heap->damaged != 0)
        printf("%zu records were changing, or damaged, and are not counted\n", heap->damaged);
}

/* ---- For programs ---------------------------------------------------------------------------- */

/* What there is to say of the whole. The names are for good: alarms are set by them. */
static const struct figure {
    const char *name;
    size_t place; /* in struct stats */
    bool is_counter;
    double unit; /* of what is stored, in what is shown: bytes, seconds or counts */
    const char *what;
} figures[] = {
#define GAUGE(name, field, what)                                                                   \
    {                                                                                              \
        name, offsetof(struct stats, field), false, 1, what                                        \
    }
#define COUNTER(name, field, unit, what)                                                           \
    {                                                                                              \
        name, offsetof(struct stats, field), true, unit, what                                      \
    }
    GAUGE("live_small_bytes", small_live, "live blocks of up to 32 KiB"),
    GAUGE("live_large_bytes", large_live, "live blocks of 32 KiB to 4 MiB"),
    GAUGE("live_huge_bytes", huge_live, "live blocks of over 4 MiB"),
    GAUGE("cached_bytes", cached, "free blocks in the caches of threads"),
    GAUGE("free_span_bytes", small_free, "free between live blocks"),
    GAUGE("hole_bytes", holes, "given back between live blocks"),
    GAUGE("dirty_bytes", pages_dirty, "free pages that are resident"),
    GAUGE("lazy_bytes", pages_lazy, "free and left to the kernel, resident until it wants them"),
    GAUGE("clean_bytes", pages_clean, "free pages that cost no memory"),
    GAUGE("kept_huge_bytes", huge_kept, "freed mappings kept for reuse"),
    GAUGE("metadata_bytes", metadata, "the library's own records"),
    GAUGE("metadata_spare_bytes", metadata_spare, "mapped for more of them"),
    GAUGE("mapped_bytes", mapped, "address space: the sum of these"),
    GAUGE("page_map_bytes", page_map, "address space beside that, hardly resident"),
    GAUGE("resident_bytes", resident, "of the whole process, as the kernel counts"),
    GAUGE("peak_resident_bytes", peak_resident, "the same at the most"),
    GAUGE("peak_out_bytes", peak_out,
          "live or cached, the most that was seen at sweeps and growth"),
    GAUGE("peak_chunk_bytes", peak_chunks, "pages of chunks in use at the most"),
    GAUGE("peak_huge_bytes", peak_huge, "huge blocks at the most"),
    GAUGE("arenas", arenas, "arenas, one per thread, reused"),
    GAUGE("spans", spans, "spans"),
    GAUGE("large_blocks", large_blocks, "live blocks of 32 KiB to 4 MiB"),
    GAUGE("huge_blocks", huge_blocks, "live blocks of over 4 MiB"),
    GAUGE("free_blocks", free_blocks, "free blocks in spans"),
    GAUGE("cached_blocks", cached_blocks, "free blocks in caches"),
    COUNTER("purged_bytes_total", purged, 1, "given back since the start"),
    COUNTER("purge_calls_total", purge_calls, 1, "calls to the kernel for it"),
    COUNTER("purge_seconds_total", purge_us, 1e-6, "what those took"),
    COUNTER("sweeps_total", sweeps, 1, "sweeps since the start"),
    COUNTER("sweep_seconds_total", sweeps_us, 1e-6, "what those took"),
    {"longest_sweep_seconds", offsetof(struct stats, longest_sweep_us), false, 1e-6,
     "the longest of them"},
    COUNTER("takeovers_total", takeovers, 1, "visits to caches by other threads"),
    COUNTER("refills_total", refills, 1, "refills of caches"),
    COUNTER("flushes_total", flushes, 1, "flushes of caches"),
    COUNTER("foreign_frees_total", foreign_frees, 1,
            "blocks brought back by a thread not their owner"),
    COUNTER("borrowed_spans_total", borrowed_spans, 1, "spans that changed hands"),
#undef GAUGE
#undef COUNTER
};

enum { FIGURES = sizeof figures / sizeof *figures };

static void print_figure(const struct figure *figure, const struct stats *stats)
{
    uint64_t value;
    memcpy(&value, (const char *)stats + figure->place, sizeof value);
    if (figure->unit == 1)
        printf("%lu", value);
    else
        printf("%.6f", (double)value * figure->unit);
}

_Static_assert(sizeof(size_t) == sizeof(uint64_t), "figures are all of one size");

/* A name is tame (text.h), but may hold what a string must not. */
static void print_string(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
    putchar('"');
}

static void print_json_class(const struct stats_class *of, unsigned class, const char *before)
{
    printf("%s\n    {\"bytes\": %u, \"live\": %zu, \"cached\": %zu, \"free\": %zu, \"spans\": %zu, "
           "\"waste_bytes\": %zu, \"hole_bytes\": %zu}",
           before, sizeclasses[class].size, of->live, of->cached, of->free, of->spans,
           stats_waste(of, class), of->holes);
}

static void print_json_arena(const struct target *target, const struct stats_arena *arena,
                             const char *before)
{
    char name[32] = "";
    if (arena->thread_id != 0 && !arena->orphan)
        target_thread_name(target, arena->thread_id, name, sizeof name);
    printf("%s\n    {\"thread\": %d, \"name\": ", before, arena->thread_id);
    print_string(name);
    printf(", \"ended\": %s, \"live_bytes\": %zu, \"out_bytes\": %zu, \"cached_bytes\": %zu, "
           "\"free_bytes\": %zu, "
           "\"hole_bytes\": %zu, \"spans\": %zu, \"foreign_frees\": %lu}",
           arena->orphan ? "true" : "false", arena->live, arena->out, arena->cached, arena->free,
           arena->holes, arena->spans, arena->foreign_frees);
}

static void print_json_options(const struct heap *heap)
{
    for (size_t i = 0; i < option_count; i++) {
        char value[OPTION_PATH_MOST];
        option_print_of(&option_table[i], &heap->options, value, sizeof value);
        printf("%s\n    \"%s\": ", i == 0 ? "" : ",", option_table[i].name);
        print_string(value);
    }
}

static void print_json(const struct target *target, const struct heap *heap)
{
    const char *before = "";
    printf("{\n  \"pid\": %d,\n  \"name\": ", (int)target->pid);
    print_string(target->name);
    printf(",\n  \"version\": ");
    print_string(target->version);
    printf(",\n  \"threads\": %zu,\n  \"damaged_records\": %zu", heap->threads, heap->damaged);
    for (size_t i = 0; i < FIGURES; i++) {
        printf(",\n  \"%s\": ", figures[i].name);
        print_figure(&figures[i], &heap->stats);
    }
    if (heap->kernel_known)
        printf(",\n  \"kernel_resident_bytes\": %zu,\n  \"kernel_metadata_bytes\": %zu",
               heap->kernel_resident, heap->kernel_metadata);
    printf(",\n  \"classes\": [");
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        if (heap->detail->classes[class].spans == 0)
            continue;
        print_json_class(&heap->detail->classes[class], class, before);
        before = ",";
    }
    printf("\n  ],\n  \"arena_list\": [");
    for (size_t i = 0; i < heap->detail->arenas; i++)
        print_json_arena(target, &heap->detail->arena[i], i == 0 ? "" : ",");
    printf("\n  ],\n  \"options\": {");
    print_json_options(heap);
    printf("\n  }\n}\n");
}

/* All that is kept of each process. */
struct total {
    pid_t pid;
    char name[32];
    struct stats stats;
    struct stats_class classes[CLASS_END];
};

static void print_head(const char *name, const char *what, bool is_counter)
{
    printf("# HELP ebbmalloc_%s %s\n# TYPE ebbmalloc_%s %s\n", name, what, name,
           is_counter ? "counter" : "gauge");
}

static void print_labels(const char *name, const struct total *total)
{
    printf("ebbmalloc_%s{pid=\"%d\",name=", name, (int)total->pid);
    print_string(total->name);
}

/* The same of each size class, under labels. */
static const struct class_figure {
    const char *name;
    size_t place; /* in struct stats_class */
    const char *what;
} class_figures[] = {
    {"class_live_blocks", offsetof(struct stats_class, live), "live blocks of a size class"},
    {"class_cached_blocks", offsetof(struct stats_class, cached), "free ones in caches"},
    {"class_free_blocks", offsetof(struct stats_class, free), "free ones in spans"},
    {"class_spans", offsetof(struct stats_class, spans), "spans of a size class"},
    {"class_hole_bytes", offsetof(struct stats_class, holes), "given back between its live blocks"},
};

enum { CLASS_FIGURES = sizeof class_figures / sizeof *class_figures };

static void print_class_figure(const struct class_figure *figure, const struct total *total)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        const struct stats_class *of = &total->classes[class];
        size_t value;
        if (of->spans == 0)
            continue;
        memcpy(&value, (const char *)of + figure->place, sizeof value);
        print_labels(figure->name, total);
        printf(",bytes=\"%u\"} %zu\n", sizeclasses[class].size, value);
    }
}

/* The format of text files that node_exporter collects, all processes by figure:
 * https://prometheus.io/docs/instrumenting/exposition_formats */
static void print_prometheus(const struct total *totals, size_t count)
{
    for (size_t i = 0; i < FIGURES && count != 0; i++) {
        print_head(figures[i].name, figures[i].what, figures[i].is_counter);
        for (size_t process = 0; process < count; process++) {
            print_labels(figures[i].name, &totals[process]);
            printf("} ");
            print_figure(&figures[i], &totals[process].stats);
            putchar('\n');
        }
    }
    for (size_t i = 0; i < CLASS_FIGURES && count != 0; i++) {
        print_head(class_figures[i].name, class_figures[i].what, false);
        for (size_t process = 0; process < count; process++)
            print_class_figure(&class_figures[i], &totals[process]);
    }
}

/* ---- The subcommand -------------------------------------------------------------------------- */

enum form { FORM_PAGE, FORM_JSON, FORM_PROMETHEUS, FORM_WHY };

static enum exit_status show(pid_t pid, enum form form)
{
    struct target target;
    struct heap heap;
    enum exit_status status = target_open(&target, pid, false);
    if (status != EXIT_DONE)
        return status;
    status = heap_read(&heap, &target, form == FORM_WHY ? HEAP_SPANS : HEAP_CACHES);
    if (status != EXIT_DONE)
        return status;
    if (form == FORM_JSON)
        print_json(&target, &heap);
    else if (form == FORM_WHY)
        print_why(&target, &heap);
    else
        print_page(&target, &heap);
    heap_drop(&heap);
    return EXIT_DONE;
}

static enum exit_status read_total(pid_t pid, bool silent, struct total *total)
{
    struct target target;
    struct heap heap;
    enum exit_status status = target_open(&target, pid, silent);
    if (status == EXIT_DONE)
        status = heap_read(&heap, &target, HEAP_TOTALS);
    if (status != EXIT_DONE)
        return status;
    total->pid = pid;
    memcpy(total->name, target.name, sizeof total->name);
    total->stats = heap.stats;
    memcpy(total->classes, heap.detail->classes, sizeof total->classes);
    heap_drop(&heap);
    return EXIT_DONE;
}

/* Those of the list, into an array for free(3); NULL after a complaint. */
static pid_t *parse_pids(char **pids, size_t count)
{
    pid_t *all = calloc(count, sizeof *all);
    if (all == NULL)
        complain("out of memory");
    for (size_t i = 0; i < count && all != NULL; i++) {
        all[i] = target_parse("stat", pids[i]);
        if (all[i] == 0) {
            free(all);
            return NULL;
        }
    }
    return all;
}

/* Those of the list that are there; all that are on the library when it is empty. */
static enum exit_status show_prometheus(char **pids)
{
    pid_t *all;
    size_t count = 0, shown_count = 0;
    bool listed = *pids != NULL;
    enum exit_status worst = EXIT_DONE;
    while (pids[count] != NULL)
        count++;
    if (!listed)
        count = target_list(&all);
    else if ((all = parse_pids(pids, count)) == NULL)
        return EXIT_USAGE;
    struct total *totals = calloc(count + 1, sizeof *totals);
    if (totals == NULL) {
        complain("out of memory");
        count = 0;
        worst = EXIT_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        enum exit_status status = read_total(all[i], !listed, &totals[shown_count]);
        shown_count += status == EXIT_DONE;
        if (status != EXIT_DONE && listed)
            worst = status;
    }
    print_prometheus(totals, shown_count);
    free(totals);
    free(all);
    return worst;
}

static int stat(int argc, char **argv)
{
    static const struct {
        const char *name;
        enum form form;
    } forms[] = {{"--json", FORM_JSON}, {"--prometheus", FORM_PROMETHEUS}, {"--why", FORM_WHY}};
    enum form form = FORM_PAGE;
    int count = 0; /* of process ids, which are moved to the front */
    for (int next = 1; next < argc; next++) {
        size_t i = 0;
        if (argv[next][0] != '-') {
            argv[count++] = argv[next];
            continue;
        }
        while (i < sizeof forms / sizeof *forms && strcmp(forms[i].name, argv[next]) != 0)
            i++;
        if (i == sizeof forms / sizeof *forms) {
            complain("stat: %s: no such option; see ebb help stat", argv[next]);
            return EXIT_USAGE;
        }
        form = forms[i].form;
    }
    argv[count] = NULL;
    if (form == FORM_PROMETHEUS)
        return show_prometheus(argv);
    if (count != 1) {
        complain("stat: one process id is expected; ebb top lists processes");
        return EXIT_USAGE;
    }
    pid_t pid = target_parse("stat", argv[0]);
    return pid == 0 ? EXIT_USAGE : show(pid, form);
}

const struct command stat_command = {
    "stat",
    "[--json | --prometheus | --why] PID",
    "show what a running process holds, and what it cost",
    "Reads the process's memory from outside; nothing in it is stopped or asked.\n"
    "Without an option: the page of malloc_stats, with every arena and size class.\n\n"
    "  --json        the same for programs\n"
    "  --prometheus  the totals, and the size classes, for node_exporter's textfile\n"
    "                collector, of all the processes named, or of all there are when\n"
    "                none is\n"
    "  --why         where resident memory sits that is not live, the three largest\n"
    "                places first, and what would release it\n",
    stat,
};
