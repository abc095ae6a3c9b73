/* trace.c: `ebb trace FILE`: what a trace holds: sizes, lifetimes, live bytes over time, who frees
 * what, and the size classes that are used most. */
#include <stdlib.h>
#include <string.h>

#include "chart.h"
#include "ebb.h"
#include "sizeclass.h"
#include "trace_file.h"

enum { SIZE_ROWS = 24, LIFE_ROWS = 10, HOT_ROWS = 10, LIVE_ROWS = 16, BAR = 24 };

/* Blocks up to 16 bytes, up to 32 … and all above the last but one. */
struct size_row {
    uint64_t blocks, bytes;
};

struct class_use {
    unsigned class;
    uint64_t blocks; /* got */
    uint64_t live, most_live;
    uint64_t requested; /* bytes, of all that were got */
};

struct summary {
    uint64_t kinds[8];
    uint64_t own_frees, other_frees; /* reallocs that moved between threads among them */
    uint64_t live_blocks, live_bytes, most_blocks, most_bytes;
    uint64_t most_at_us;
    uint64_t threads; /* that did something */
    struct size_row sizes[SIZE_ROWS];
    uint64_t lives_by_operations[LIFE_ROWS], lives_by_time[LIFE_ROWS];
    struct class_use classes[CLASS_END];
    struct curve by_time, by_operations;
};

/* ---- Counting -------------------------------------------------------------------------------- */

static unsigned size_row(uint64_t size)
{
    unsigned row = size <= 16 ? 0 : 60 - (unsigned)__builtin_clzll(size - 1);
    return row < SIZE_ROWS ? row : SIZE_ROWS - 1;
}

/* Under 10, under 100, … */
static unsigned life_row(uint64_t value)
{
    unsigned row = 0;
    for (; value >= 10 && row < LIFE_ROWS - 1; row++)
        value /= 10;
    return row;
}

static struct class_use *class_use(struct summary *summary, uint64_t size)
{
    unsigned class = size > LARGE_MAX ? CLASS_HUGE : sizeclass_of(size == 0 ? 1 : (size_t)size);
    return &summary->classes[class];
}

static void count_got(struct summary *summary, const struct trace_event *event)
{
    summary->sizes[size_row(event->size)].blocks++;
    summary->sizes[size_row(event->size)].bytes += event->size;
    summary->live_blocks++;
    summary->live_bytes += event->size;
    struct class_use *use = class_use(summary, event->size);
    use->blocks++;
    use->requested += event->size;
    if (++use->live > use->most_live)
        use->most_live = use->live;
}

static void count_ended(struct summary *summary, const struct trace_event *event,
                        uint64_t operations)
{
    summary->live_blocks--;
    summary->live_bytes -= event->was.size;
    class_use(summary, event->was.size)->live--;
    summary->lives_by_operations[life_row(operations - event->was.operation)]++;
    summary->lives_by_time[life_row(event->time_us - event->was.time_us)]++;
    if (event->was.thread == event->thread)
        summary->own_frees++;
    else
        summary->other_frees++;
}

static void count(struct summary *summary, const struct trace_event *event, uint64_t operations)
{
    summary->kinds[event->kind]++;
    if (event->kind == TRACE_FREE || event->kind == TRACE_REALLOC)
        count_ended(summary, event, operations);
    if (event->kind != TRACE_FREE)
        count_got(summary, event);
    if (summary->live_blocks > summary->most_blocks)
        summary->most_blocks = summary->live_blocks;
    if (summary->live_bytes > summary->most_bytes) {
        summary->most_bytes = summary->live_bytes;
        summary->most_at_us = event->time_us;
    }
    curve_add(&summary->by_time, event->time_us, summary->live_bytes);
    curve_add(&summary->by_operations, operations, summary->live_bytes);
}

/* ---- Showing: every table once, to the terminal or to a page ----------------------------------
 */

struct output {
    FILE *page; /* NULL: the terminal */
};

enum { CELLS_MOST = 6 };

static void heading(struct output *output, const char *text)
{
    if (output->page != NULL)
        page_heading(output->page, text);
    else
        printf("\n%s\n", text);
}

static void line(struct output *output, const char *text)
{
    if (output->page != NULL)
        page_text(output->page, text);
    else
        puts(text);
}

static void begin_table(struct output *output, const char *const *names, size_t count)
{
    if (output->page != NULL)
        page_table_begin(output->page);
    if (output->page != NULL)
        page_row(output->page, true, names, count);
    else
        for (size_t i = 0; i < count; i++)
            printf(i == 0 ? "  %-14s" : "%14s%s", names[i], i + 1 == count ? "\n" : "");
}

static void row(struct output *output, const char *const *cells, size_t count)
{
    if (output->page != NULL)
        page_row(output->page, false, cells, count);
    else
        for (size_t i = 0; i < count; i++)
            printf(i == 0 ? "  %-14s" : "%14s%s", cells[i], i + 1 == count ? "\n" : "");
}

static void end_table(struct output *output)
{
    if (output->page != NULL)
        page_table_end(output->page);
}

typedef char cell[32];

static const char *share(cell buffer, uint64_t part, uint64_t whole)
{
    snprintf(buffer, sizeof(cell), "%.1f %%",
             whole == 0 ? 0 : 100.0 * (double)part / (double)whole);
    return buffer;
}

static const char *bytes_cell(cell buffer, uint64_t bytes)
{
    return say_bytes(buffer, sizeof(cell), bytes);
}

static const char *count_cell(cell buffer, uint64_t count)
{
    return say_count(buffer, sizeof(cell), count);
}

static uint64_t blocks_got(const struct summary *summary)
{
    return summary->kinds[TRACE_MALLOC] + summary->kinds[TRACE_CALLOC] +
           summary->kinds[TRACE_REALLOC] + summary->kinds[TRACE_ALIGNED];
}

static void show_head(struct output *output, const struct trace_file *file,
                      const struct summary *summary)
{
    char text[256], command[60];
    cell a, b, c, d;
    snprintf(text, sizeof text, "%s (process %u)", trace_command(file, command, sizeof command),
             file->header.process);
    line(output, text);
    snprintf(text, sizeof text, "%s operations of %llu thread%s in %s; %.2f bytes each here",
             count_cell(a, file->operations), (unsigned long long)summary->threads,
             plural(summary->threads), say_time(b, sizeof b, file->time_us),
             file->operations == 0 ? 0 : (double)file->whole_bytes / (double)file->operations);
    line(output, text);
    if (!file->is_whole) {
        snprintf(text, sizeof text,
                 "The file has no end mark: it is cut at byte %zu, or the process was killed.",
                 file->whole_bytes);
        line(output, text);
    }
    if (file->left_out != 0) {
        snprintf(text, sizeof text, "%s operations that refer to what is lost are left out.",
                 count_cell(a, file->left_out));
        line(output, text);
    }
    snprintf(
        text, sizeof text, "malloc %s, calloc %s, realloc %s, aligned %s, free %s",
        count_cell(a, summary->kinds[TRACE_MALLOC]), count_cell(b, summary->kinds[TRACE_CALLOC]),
        count_cell(c, summary->kinds[TRACE_REALLOC]), count_cell(d, summary->kinds[TRACE_ALIGNED]),
        count_cell((cell){0}, summary->kinds[TRACE_FREE]));
    line(output, text);
    snprintf(text, sizeof text, "live at most: %s, after %s; %s blocks",
             bytes_cell(a, summary->most_bytes), say_time(b, sizeof b, summary->most_at_us),
             count_cell(c, summary->most_blocks));
    line(output, text);
    snprintf(text, sizeof text, "live at the end: %s, %s blocks",
             bytes_cell(a, summary->live_bytes), count_cell(b, summary->live_blocks));
    line(output, text);
    snprintf(text, sizeof text, "given back by another thread than got it: %s of %s",
             share(a, summary->other_frees, summary->own_frees + summary->other_frees),
             count_cell(b, summary->own_frees + summary->other_frees));
    line(output, text);
}

static void show_sizes(struct output *output, const struct summary *summary)
{
    uint64_t blocks = blocks_got(summary), bytes = 0;
    for (size_t i = 0; i < SIZE_ROWS; i++)
        bytes += summary->sizes[i].bytes;
    heading(output, "Sizes, of all blocks got");
    begin_table(output, (const char *[]){"up to", "blocks", "share", "bytes", "share"}, 5);
    for (size_t i = 0; i < SIZE_ROWS; i++) {
        const struct size_row *size = &summary->sizes[i];
        cell a, b, c, d, e;
        if (size->blocks == 0)
            continue;
        row(output,
            (const char *[]){i + 1 == SIZE_ROWS ? "more" : bytes_cell(a, (uint64_t)16 << i),
                             count_cell(b, size->blocks), share(c, size->blocks, blocks),
                             bytes_cell(d, size->bytes), share(e, size->bytes, bytes)},
            5);
    }
    end_table(output);
}

static void show_lives(struct output *output, const struct summary *summary)
{
    /* The clock is the kernel's coarse one: what is under its step is one row. */
    enum { FIRST_TIME = 3 };
    static const char *const times[LIFE_ROWS] = {"",    "",     "",      "10 ms",   "100 ms",
                                                 "1 s", "10 s", "100 s", "1,000 s", "more"};
    uint64_t ended = summary->own_frees + summary->other_frees;
    uint64_t all = ended + summary->live_blocks, limit = 10, in_time = 0;
    heading(output, "Lifetimes, of all blocks got: in operations of all threads, and in time");
    begin_table(output, (const char *[]){"under", "blocks", "share", "under", "share"}, 5);
    for (size_t i = 0; i < LIFE_ROWS; i++, limit *= 10) {
        cell a, b, c, d;
        uint64_t blocks = summary->lives_by_operations[i];
        bool has_time = i >= FIRST_TIME;
        in_time += summary->lives_by_time[i];
        row(output,
            (const char *[]){i + 1 == LIFE_ROWS ? "more" : count_cell(a, limit),
                             count_cell(b, blocks), share(c, blocks, all), times[i],
                             has_time ? share(d, in_time, all) : ""},
            5);
        in_time = has_time ? 0 : in_time;
    }
    cell a, b, c;
    row(output,
        (const char *[]){"never ended", count_cell(a, summary->live_blocks),
                         share(b, summary->live_blocks, all), "",
                         share(c, summary->live_blocks, all)},
        5);
    end_table(output);
}

static int by_blocks(const void *a, const void *b)
{
    uint64_t first = ((const struct class_use *)a)->blocks;
    uint64_t second = ((const struct class_use *)b)->blocks;
    return (first < second) - (first > second);
}

static void show_classes(struct output *output, const struct summary *summary)
{
    struct class_use uses[CLASS_END];
    memcpy(uses, summary->classes, sizeof uses);
    qsort(uses, CLASS_END, sizeof *uses, by_blocks);
    heading(output, "Size classes of ebbmalloc that are used most");
    begin_table(output, (const char *[]){"bytes", "blocks", "share", "live at most", "unused"}, 5);
    for (size_t i = 0; i < HOT_ROWS && uses[i].blocks > 0; i++) {
        const struct class_use *use = &uses[i];
        uint64_t size = sizeclasses[use->class].size, room = use->blocks * size;
        bool is_huge = use->class == CLASS_HUGE;
        cell a, b, c, d, e;
        row(output,
            (const char *[]){is_huge ? "over 4 MiB" : count_cell(a, size),
                             count_cell(b, use->blocks), share(c, use->blocks, blocks_got(summary)),
                             count_cell(d, use->most_live),
                             is_huge ? "" : share(e, room - use->requested, room)},
            5);
    }
    end_table(output);
}

/* ---- Live bytes over time -------------------------------------------------------------------- */

/* By time, unless all happened within a few steps of the clock. */
static bool is_by_time(const struct summary *summary)
{
    return summary->by_time.end >= 200000;
}

static void print_curve(const struct summary *summary)
{
    bool by_time = is_by_time(summary);
    const struct curve *curve = by_time ? &summary->by_time : &summary->by_operations;
    uint64_t most = curve_most(curve);
    printf("\nLive bytes, the most in each part of the %s\n", by_time ? "time" : "operations");
    for (size_t i = 0; i < LIVE_ROWS && curve->count > 0; i++) {
        size_t first = i * curve->count / LIVE_ROWS, end = (i + 1) * curve->count / LIVE_ROWS;
        uint64_t top = 0;
        for (size_t j = first; j < end; j++)
            top = curve->top[j] > top ? curve->top[j] : top;
        cell from, size;
        char bar[BAR * 2 + 1];
        size_t length = most == 0 ? 0 : (size_t)((double)top / (double)most * (BAR * 2) + 0.5);
        memset(bar, '#', length);
        bar[length] = '\0';
        if (first < end)
            printf("  %-14s%12s  %s\n",
                   by_time ? say_time(from, sizeof from, first * curve->step)
                           : count_cell(from, first * curve->step),
                   bytes_cell(size, top), bar);
    }
}

static void draw_curve(FILE *page, const struct summary *summary)
{
    bool by_time = is_by_time(summary);
    const struct curve *curve = by_time ? &summary->by_time : &summary->by_operations;
    double x[CURVE_POINTS], y[CURVE_POINTS];
    for (size_t i = 0; i < curve->count; i++) {
        x[i] = (double)(i * curve->step) * (by_time ? 1e-6 : 1);
        y[i] = (double)curve->top[i] / (double)MiB;
    }
    page_heading(page, "Live bytes");
    page_chart(page, by_time ? "seconds" : "operations", "MiB live",
               &(struct series){"live", x, y, curve->count}, 1);
}

/* ---- The command ----------------------------------------------------------------------------- */

static void show(struct output *output, const struct trace_file *file,
                 const struct summary *summary)
{
    show_head(output, file, summary);
    if (output->page != NULL)
        draw_curve(output->page, summary);
    else
        print_curve(summary);
    show_sizes(output, summary);
    show_lives(output, summary);
    show_classes(output, summary);
}

static int write_page(const char *path, const struct trace_file *file,
                      const struct summary *summary)
{
    struct output output = {page_open("trace", path)};
    if (output.page == NULL)
        return EXIT_FAILED;
    page_begin(output.page, "What a program did with memory");
    show(&output, file, summary);
    page_end(output.page);
    return page_close("trace", path, output.page) ? EXIT_DONE : EXIT_FAILED;
}

static int summarise(const char *path, const char *page)
{
    static struct summary summary;
    static struct trace_file file;
    struct trace_event event;
    for (unsigned class = 0; class < CLASS_END; class ++)
        summary.classes[class].class = class;
    bool *seen = NULL;
    if (trace_open(&file, path)) {
        seen = table_map(file.threads + 1);
        while (trace_next(&file, &event)) {
            count(&summary, &event, file.operations - 1);
            summary.threads += !seen[event.thread];
            seen[event.thread] = true;
        }
    }
    if (file.error[0] != '\0') {
        complain("trace: %s: %s", path, file.error);
        return EXIT_FAILED;
    }
    if (page != NULL)
        return write_page(page, &file, &summary);
    show(&(struct output){NULL}, &file, &summary);
    return EXIT_DONE;
}

static int trace(int argc, char **argv)
{
    const char *path = NULL, *page = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-o") == 0 && i + 1 < argc) {
            page = argv[++i];
        } else if (argv[i][0] == '-' && argv[i][1] != '\0') {
            complain("trace: %s: no such option, or its value is missing; see ebb help trace",
                     argv[i]);
            return EXIT_USAGE;
        } else if (path != NULL) {
            complain("trace: more than one file");
            return EXIT_USAGE;
        } else {
            path = argv[i];
        }
    }
    if (path == NULL) {
        complain("trace: no file given; try ebb trace FILE");
        return EXIT_USAGE;
    }
    return summarise(path, page);
}

const struct command trace_subcommand = {
    "trace",
    "[-o PAGE.html] FILE",
    "say what a trace of ebb record holds",
    "Operations by kind, live bytes over time, sizes, lifetimes, the share of blocks\n"
    "that another thread gave back than got them, and the size classes of ebbmalloc\n"
    "that are used most. FILE may be - for the standard input.\n"
    "\n"
    "  -o PAGE.html  write that as a page with a chart, and nothing to the terminal\n"
    "\n"
    "A file that is cut short is read up to the cut. Another damage is told with its\n"
    "byte, and the exit status is 1.\n",
    trace,
};
