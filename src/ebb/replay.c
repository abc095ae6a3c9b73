/* replay.c: `ebb replay FILE`: does what a trace holds again, on the malloc that is preloaded or
 * under several, checks every byte or takes the time, and shows memory beside what was live.
 *
 * Under several mallocs each run is a process of its own: this program again, with the script and
 * a place for the result handed over as descriptors (--play).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "chart.h"
#include "ebb.h"
#include "launch.h"
#include "play.h"

enum { MALLOCS_MOST = 16, ROUNDS_MOST = 99, ROUNDS = 3 };

struct request {
    const char *file;
    const char *page;
    const char *play;
    const char *mallocs[MALLOCS_MOST];
    size_t malloc_count;
    unsigned rounds;
    bool verify;
};

/* What one malloc did, in all rounds. */
struct contestant {
    char name[40];
    char library[PATH_MAX];
    struct play_result *results;
    unsigned runs; /* that were done */
    bool failed;
};

/* ---- Arguments ------------------------------------------------------------------------------- */

/* The value of an option; NULL after a complaint. */
static const char *value_of(int argc, char **argv, int *next)
{
    if (*next + 1 < argc)
        return argv[++*next];
    complain("replay: %s: its value is missing", argv[*next]);
    return NULL;
}

static bool read_rounds(const char *text, struct request *request)
{
    char *end;
    unsigned long rounds = text != NULL ? strtoul(text, &end, 10) : 0;
    if (text == NULL)
        return false;
    if (*text < '0' || *text > '9' || *end != '\0' || rounds < 1 || rounds > ROUNDS_MOST) {
        complain("replay: -n %s: from 1 to %d rounds", text, ROUNDS_MOST);
        return false;
    }
    request->rounds = (unsigned)rounds;
    return true;
}

static bool add_malloc(const char *name, struct request *request)
{
    if (name == NULL)
        return false;
    if (request->malloc_count == MALLOCS_MOST) {
        complain("replay: more than %d mallocs", MALLOCS_MOST);
        return false;
    }
    request->mallocs[request->malloc_count++] = name;
    return true;
}

static bool read_option(int argc, char **argv, int *next, struct request *request)
{
    const char *option = argv[*next];
    if (strcmp(option, "--verify") == 0)
        return request->verify = true;
    if (strcmp(option, "--time") == 0)
        return true;
    if (strcmp(option, "--vs") == 0)
        return add_malloc(value_of(argc, argv, next), request);
    if (strcmp(option, "-n") == 0)
        return read_rounds(value_of(argc, argv, next), request);
    if (strcmp(option, "-o") == 0)
        return (request->page = value_of(argc, argv, next)) != NULL;
    if (strcmp(option, "--play") == 0)
        return (request->play = value_of(argc, argv, next)) != NULL;
    complain("replay: %s: no such option; ebb help replay lists what there is", option);
    return false;
}

static bool read_arguments(int argc, char **argv, struct request *request)
{
    for (int next = 1; next < argc; next++) {
        if (argv[next][0] == '-' && argv[next][1] != '\0') {
            if (!read_option(argc, argv, &next, request))
                return false;
        } else if (request->file != NULL) {
            complain("replay: more than one file");
            return false;
        } else {
            request->file = argv[next];
        }
    }
    if (request->file == NULL && request->play == NULL) {
        complain("replay: no file given; try ebb replay FILE");
        return false;
    }
    if (request->verify && request->page != NULL) {
        complain("replay: --verify takes no time, and has nothing for a page: leave out -o");
        return false;
    }
    return true;
}

/* ---- Runs ------------------------------------------------------------------------------------ */

/* In the process of one run. */
static int play_for_parent(const struct request *request)
{
    int script = -1, result = -1;
    if (sscanf(request->play, "%d,%d", &script, &result) != 2) {
        complain("replay: --play is for ebb's own use");
        return EXIT_USAGE;
    }
    struct script_head *head = script_map(script);
    struct play_result *place =
        mmap(NULL, sizeof *place, PROT_READ | PROT_WRITE, MAP_SHARED, result, 0);
    if (head == NULL || place == MAP_FAILED)
        return EXIT_FAILED;
    const struct play_request play_request = {request->verify, isatty(STDERR_FILENO)};
    return play(head, &play_request, place) ? EXIT_DONE : EXIT_FAILED;
}

static _Noreturn void become_player(const struct contestant *contestant, bool verify,
                                    const char *descriptors)
{
    if (contestant->library[0] != '\0' && !launch_set_preload(contestant->library))
        _exit(EXIT_FAILED);
    execl("/proc/self/exe", "ebb", "replay", verify ? "--verify" : "--time", "--play", descriptors,
          (char *)NULL);
    complain("replay: starting ebb again: %s", strerror(errno));
    _exit(EXIT_FAILED);
}

/* One run; false when it failed, of which it has told why. */
static bool run_once(const struct contestant *contestant, bool verify, int script,
                     struct play_result *result)
{
    char descriptors[32];
    int place = memfd_create("ebb-result", 0);
    if (place < 0 || ftruncate(place, sizeof *result) != 0) {
        complain("replay: a place for the result: %s", strerror(errno));
        return false;
    }
    snprintf(descriptors, sizeof descriptors, "%d,%d", script, place);
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        become_player(contestant, verify, descriptors);
    bool done = child > 0 && waitpid(child, &status, 0) == child && status == 0 &&
                pread(place, result, sizeof *result, 0) == (ssize_t)sizeof *result &&
                result->is_done;
    if (WIFSIGNALED(status))
        complain("replay: %s: ended by signal %d", contestant->name, WTERMSIG(status));
    close(place);
    return done;
}

/* In turns, each round beginning with another one. */
static bool run_all(struct contestant *contestants, size_t count, const struct request *request,
                    int script)
{
    bool all_done = true;
    for (unsigned round = 0; round < request->rounds; round++) {
        for (size_t turn = 0; turn < count; turn++) {
            struct contestant *contestant = &contestants[(turn + round) % count];
            if (contestant->failed)
                continue;
            if (run_once(contestant, request->verify, script,
                         &contestant->results[contestant->runs]))
                contestant->runs++;
            else
                contestant->failed = true;
            all_done = all_done && !contestant->failed;
        }
    }
    return all_done;
}

/* ---- Results --------------------------------------------------------------------------------- */

typedef double figure(const struct play_result *result);

static double seconds(const struct play_result *result)
{
    return (double)result->elapsed_ns / 1e9;
}

static double peak_mib(const struct play_result *result)
{
    return (double)result->most_resident / (double)MiB;
}

static double final_mib(const struct play_result *result)
{
    return (double)result->final_resident / (double)MiB;
}

static double later_mib(const struct play_result *result)
{
    return (double)result->later_resident / (double)MiB;
}

static double mean_ratio(const struct play_result *result)
{
    return result->mean_ratio;
}

static int compare_doubles(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;
    return (first > second) - (first < second);
}

static double median(const struct contestant *contestant, figure *of)
{
    double values[ROUNDS_MOST];
    for (unsigned i = 0; i < contestant->runs; i++)
        values[i] = of(&contestant->results[i]);
    qsort(values, contestant->runs, sizeof *values, compare_doubles);
    unsigned middle = contestant->runs / 2;
    return contestant->runs % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

enum { COLUMNS = 8 };
static const char *const column_names[COLUMNS] = {
    "malloc", "time s", "ns/op", "peak MiB", "final MiB", "1 s later", "peak/live", "mean/live"};
typedef char cells[COLUMNS][40];

static void fill_cells(cells row, const struct contestant *contestant,
                       const struct script_head *script)
{
    double time = median(contestant, seconds), peak = median(contestant, peak_mib);
    double live = (double)script->most_live / (double)MiB;
    uint64_t operations = script->operations != 0 ? script->operations : 1;
    const double values[COLUMNS] = {0,
                                    time,
                                    time * 1e9 / (double)operations,
                                    peak,
                                    median(contestant, final_mib),
                                    median(contestant, later_mib),
                                    live > 0 ? peak / live : 0,
                                    median(contestant, mean_ratio)};
    snprintf(row[0], sizeof row[0], "%s", contestant->name);
    for (size_t i = 1; i < COLUMNS; i++)
        snprintf(row[i], sizeof row[i], "%.*f", i == 1 ? 3 : i == 2 ? 1 : 2, values[i]);
}

static void print_row(cells row)
{
    printf("%-15.15s %7s %6s %8s %9s %9s %9s %9s\n", row[0], row[1], row[2], row[3], row[4], row[5],
           row[6], row[7]);
}

static void print_results(const struct contestant *contestants, size_t count,
                          const struct script_head *script, unsigned rounds)
{
    cells row;
    char live[32];
    for (size_t i = 0; i < COLUMNS; i++)
        snprintf(row[i], sizeof row[i], "%s", column_names[i]);
    print_row(row);
    for (size_t i = 0; i < count; i++) {
        if (contestants[i].failed) {
            printf("%-15.15s  failed\n", contestants[i].name);
            continue;
        }
        fill_cells(row, &contestants[i], script);
        print_row(row);
    }
    printf("\n%llu operations of %u thread%s; live at most %s.\n",
           (unsigned long long)script->operations, script->threads, plural(script->threads),
           say_bytes(live, sizeof live, script->most_live));
    if (rounds > 1)
        printf("Medians of %u rounds in turns. ", rounds);
    puts("Resident memory is what the malloc added;\n"
         "peak/live is beside the most that lives, mean/live over the whole run.");
}

/* Resident beside live memory in the course of a run, as text. */
static void print_course(const struct play_result *result)
{
    enum { ROWS = 10 };
    size_t points =
        result->resident.count < result->live.count ? result->resident.count : result->live.count;
    if (points < ROWS || points > result->resident.count || points > result->live.count)
        return;
    printf("\n%-12s%14s%14s%16s\n", "after", "live", "resident", "resident/live");
    for (size_t i = 0; i < ROWS; i++) {
        size_t point = i * (points - 1) / (ROWS - 1);
        uint64_t live = result->live.top[point], resident = result->resident.top[point];
        char a[32], b[32], c[32];
        printf("%-12s%14s%14s", say_time(a, sizeof a, point * result->resident.step),
               say_bytes(b, sizeof b, live), say_bytes(c, sizeof c, resident));
        if (live > 0)
            printf("%16.2f\n", (double)resident / (double)live);
        else
            puts("               -");
    }
}

static size_t course(const struct curve *curve, double *x, double *y)
{
    for (size_t i = 0; i < curve->count; i++) {
        x[i] = (double)(i * curve->step) / 1e6;
        y[i] = (double)curve->top[i] / (double)MiB;
    }
    return curve->count;
}

/* How resident memory relates to live, where anything lives. */
static size_t course_of_ratio(const struct play_result *result, double *x, double *y)
{
    const struct curve *live = &result->live, *resident = &result->resident;
    size_t points = 0;
    for (size_t i = 0; i < live->count && i < resident->count; i++) {
        if (live->top[i] == 0)
            continue;
        x[points] = (double)(i * live->step) / 1e6;
        y[points++] = (double)resident->top[i] / (double)live->top[i];
    }
    return points;
}

static void draw_courses(FILE *page, const struct contestant *contestants, size_t count)
{
    static double x[MALLOCS_MOST + 1][CURVE_POINTS], y[MALLOCS_MOST + 1][CURVE_POINTS];
    struct series series[MALLOCS_MOST + 1];
    const struct play_result *drawn[MALLOCS_MOST];
    size_t lines = 0;
    for (size_t i = 0; i < count; i++) {
        if (contestants[i].runs == 0)
            continue;
        drawn[lines] = &contestants[i].results[0];
        series[lines] = (struct series){contestants[i].name, x[lines], y[lines],
                                        course(&drawn[lines]->resident, x[lines], y[lines])};
        lines++;
    }
    if (lines == 0)
        return;
    series[lines] = (struct series){"live (of the first)", x[lines], y[lines],
                                    course(&drawn[0]->live, x[lines], y[lines])};
    page_heading(page, "Resident memory, of the first round");
    page_chart(page, "seconds", "MiB", series, lines + 1);
    for (size_t i = 0; i < lines; i++)
        series[i].count = course_of_ratio(drawn[i], x[i], y[i]);
    page_heading(page, "Fragmentation: resident / live, of the first round");
    page_chart(page, "seconds", "times", series, lines);
}

static bool write_page(const struct request *request, const struct contestant *contestants,
                       size_t count, const struct script_head *script)
{
    FILE *page = page_open("replay", request->page);
    if (page == NULL)
        return false;
    page_begin(page, "A trace replayed");
    page_table_begin(page);
    page_row(page, true, column_names, COLUMNS);
    for (size_t i = 0; i < count; i++) {
        cells row;
        const char *texts[COLUMNS];
        if (contestants[i].failed)
            continue;
        fill_cells(row, &contestants[i], script);
        for (size_t j = 0; j < COLUMNS; j++)
            texts[j] = row[j];
        page_row(page, false, texts, COLUMNS);
    }
    page_table_end(page);
    draw_courses(page, contestants, count);
    page_end(page);
    return page_close("replay", request->page, page);
}

/* ---- The command ----------------------------------------------------------------------------- */

/* The name by which a malloc is shown: what is not a path as it is, of a path the last part. */
static void name_contestant(struct contestant *contestant, const char *name)
{
    const char *slash = strrchr(name, '/');
    snprintf(contestant->name, sizeof contestant->name, "%.39s", slash != NULL ? slash + 1 : name);
}

static bool prepare(struct contestant *contestants, const struct request *request)
{
    for (size_t i = 0; i < request->malloc_count; i++) {
        if (!launch_find_malloc(request->mallocs[i], contestants[i].library))
            return false;
        name_contestant(&contestants[i], request->mallocs[i]);
        contestants[i].results = table_map(request->rounds * sizeof(struct play_result));
    }
    return true;
}

/* A script of the file; negative after a complaint. */
static int read_script(const struct request *request)
{
    static struct trace_file file;
    int script = trace_open(&file, request->file) ? script_make(&file) : -1;
    if (file.error[0] != '\0')
        complain("replay: %s: %s", request->file, file.error);
    else if (script >= 0 && !file.is_whole)
        complain("replay: warning: %s is cut at byte %zu: replayed up to there, but for %llu "
                 "operations",
                 request->file, file.whole_bytes, (unsigned long long)file.left_out);
    trace_close(&file);
    return script;
}

static bool run_here(struct contestant *contestant, const struct request *request,
                     struct script_head *head)
{
    const char *preloaded = getenv("LD_PRELOAD");
    name_contestant(contestant, preloaded != NULL && *preloaded != '\0' ? preloaded : "system");
    contestant->results = table_map(sizeof *contestant->results);
    const struct play_request play_request = {request->verify, isatty(STDERR_FILENO)};
    contestant->runs = play(head, &play_request, contestant->results);
    return contestant->runs == 1;
}

static int replay(int argc, char **argv)
{
    static struct contestant contestants[MALLOCS_MOST];
    struct request request = {.rounds = ROUNDS};
    if (!read_arguments(argc, argv, &request))
        return EXIT_USAGE;
    if (request.play != NULL)
        return play_for_parent(&request);
    if (!prepare(contestants, &request))
        return EXIT_FAILED;
    int script = read_script(&request);
    struct script_head *head = script < 0 ? NULL : script_map(script);
    if (head == NULL)
        return EXIT_FAILED;
    bool is_here = request.malloc_count == 0;
    size_t count = is_here ? 1 : request.malloc_count;
    bool done = is_here ? run_here(contestants, &request, head)
                        : run_all(contestants, count, &request, script);
    if (request.verify) {
        if (done)
            printf("%llu operations of %u thread%s: every byte was what it should be\n",
                   (unsigned long long)head->operations, head->threads, plural(head->threads));
        return done ? EXIT_DONE : EXIT_FAILED;
    }
    print_results(contestants, count, head, is_here ? 1 : request.rounds);
    if (is_here)
        print_course(contestants[0].results);
    if (request.page != NULL && !write_page(&request, contestants, count, head))
        return EXIT_FAILED;
    return done ? EXIT_DONE : EXIT_FAILED;
}

const struct command replay_command = {
    "replay",
    "[--verify | --time] [--vs LIB]... [-n N] [-o PAGE.html] FILE",
    "do again what a trace holds, on the malloc in use or on several",
    "Does what ebb record wrote to FILE again: the same operations, by as many\n"
    "threads, in the recorded order as far as it matters; without pauses. It runs on\n"
    "the malloc that ebb itself runs on: `ebb run ebb replay FILE` is on ebbmalloc.\n"
    "FILE may be - for the standard input.\n"
    "\n"
    "  --time        take the time, and look at resident memory (the default). A byte\n"
    "                in each page of a block is written, but of calloc\n"
    "  --verify      fill each block with a pattern of its own, and check every byte\n"
    "                before realloc and free, and that alignment, size and calloc's\n"
    "                zeros are as they should be\n"
    "  --vs LIB      run on LIB: ebbmalloc, system (the C library's own) or the path\n"
    "                of a library to preload. Several take turns\n"
    "  -n N          so many rounds of them (default 3); figures are medians. Without\n"
    "                --vs there is one\n"
    "  -o PAGE.html  write a page with charts of memory over time as well; not with\n"
    "                --verify\n"
    "\n"
    "The exit status is 1 when the file is damaged, or a byte was not what it should\n"
    "be.\n"
    "\n"
    "Example:\n"
    "  ebb replay --vs ebbmalloc --vs system -o redis.html redis.trace\n",
    replay,
};
