/* top.c: `ebb top`: all processes on the library that the user may look at, a line for each,
 * refreshed in place on a terminal.
 */
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "heap.h"

#define EVERY_MS 1000

struct row {
    pid_t pid;
    char name[17];
    size_t resident, live, returnable, given_back, threads;
    double rate; /* bytes given back a second, since the look before */
    int trend;   /* of resident: more than one part in 200 */
};

struct rows {
    struct row *row;
    size_t count;
    uint64_t at_us;
};

/* ---- What there is --------------------------------------------------------------------------- */

static const struct row *row_before(const struct rows *before, pid_t pid)
{
    for (size_t i = 0; i < before->count; i++)
        if (before->row[i].pid == pid)
            return &before->row[i];
    return NULL;
}

static int trend_of(size_t now, size_t before)
{
    size_t least = before / 200 + 64 * KiB;
    return now > before + least ? 1 : now + least < before ? -1 : 0;
}

static void add_row(struct rows *rows, const struct rows *before, const struct target *target,
                    const struct heap *heap)
{
    struct row *more = realloc(rows->row, (rows->count + 1) * sizeof *more);
    const struct stats *stats = &heap->stats;
    if (more == NULL)
        return;
    rows->row = more;
    struct row *row = &rows->row[rows->count++];
    *row = (struct row){
        .pid = target->pid,
        .resident = stats->resident,
        .live = stats->small_live + stats->large_live + stats->huge_live,
        .returnable = stats->cached + stats->pages_dirty + stats->pages_lazy + stats->huge_kept,
        .given_back = stats->purged,
        .threads = heap->threads,
    };
    snprintf(row->name, sizeof row->name, "%.16s", target->name);
    const struct row *old = row_before(before, row->pid);
    double seconds = (double)(rows->at_us - before->at_us) * 1e-6;
    if (old == NULL || seconds <= 0 || old->given_back > row->given_back)
        return;
    row->trend = trend_of(row->resident, old->resident);
    row->rate = (double)(row->given_back - old->given_back) / seconds;
}

static struct rows look(const struct rows *before)
{
    struct rows rows = {NULL, 0, os_now_us()};
    pid_t *pids;
    size_t count = target_list(&pids);
    for (size_t i = 0; i < count; i++) {
        struct target target;
        struct heap heap;
        if (target_open(&target, pids[i], true) != EXIT_DONE ||
            heap_read(&heap, &target, HEAP_TOTALS) != EXIT_DONE)
            continue;
        add_row(&rows, before, &target, &heap);
        heap_drop(&heap);
    }
    free(pids);
    return rows;
}

/* ---- Columns --------------------------------------------------------------------------------- */

enum sort {
    SORT_RESIDENT,
    SORT_LIVE,
    SORT_RETURNABLE,
    SORT_GIVEN,
    SORT_RATE,
    SORT_THREADS,
    SORT_PID
};

static const struct column {
    const char *name; /* of --sort */
    char key;
} columns[] = {
    [SORT_RESIDENT] = {"resident", 'r'},
    [SORT_LIVE] = {"live", 'l'},
    [SORT_RETURNABLE] = {"returnable", 'e'},
    [SORT_GIVEN] = {"given", 'g'},
    [SORT_RATE] = {"rate", 'p'},
    [SORT_THREADS] = {"threads", 't'},
    [SORT_PID] = {"pid", 'i'},
};

enum { COLUMNS = sizeof columns / sizeof *columns };

static enum sort sort_by; /* for qsort's function */

static double figure_of(const struct row *row)
{
    switch (sort_by) {
    case SORT_LIVE:
        return (double)row->live;
    case SORT_RETURNABLE:
        return (double)row->returnable;
    case SORT_GIVEN:
        return (double)row->given_back;
    case SORT_RATE:
        return row->rate;
    case SORT_THREADS:
        return (double)row->threads;
    case SORT_PID:
        return -(double)row->pid;
    default:
        return (double)row->resident;
    }
}

/* The largest first; process ids, the smallest. */
static int compare_rows(const void *a, const void *b)
{
    double first = figure_of(a), second = figure_of(b);
    return first < second ? 1 : first > second ? -1 : 0;
}

/* In at most seven characters: 123K, 12.3M, 4.56G. */
static const char *size_text(double bytes, char text[16])
{
    static const char units[] = "KMGT";
    double value = bytes / (double)KiB;
    size_t unit = 0;
    for (; value >= 9999.5 && unit < 3; unit++)
        value /= 1024;
    snprintf(text, 16, value < 99.95 && unit != 0 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    return text;
}

struct look_and_feel {
    bool colours, utf8, in_place;
    size_t lines; /* of the terminal; 0: all */
};

static const char *arrow_of(int trend, const struct look_and_feel *feel)
{
    if (trend == 0)
        return " ";
    if (!feel->utf8)
        return trend > 0 ? "^" : "v";
    return trend > 0 ? "\xe2\x86\x91" : "\xe2\x86\x93";
}

static const char *colour_of(int trend, const struct look_and_feel *feel)
{
    return !feel->colours || trend == 0 ? "" : trend > 0 ? "\x1b[31m" : "\x1b[32m";
}

static void print_row(const struct row *row, const struct look_and_feel *feel)
{
    char resident[16], live[16], returnable[16], given[16], rate[16];
    const char *colour = colour_of(row->trend, feel);
    printf("%7d %-14.14s %s%8s%s%s %8s %10s %10s %8s %7zu", (int)row->pid, row->name, colour,
           size_text((double)row->resident, resident), arrow_of(row->trend, feel),
           *colour != '\0' ? "\x1b[0m" : "", size_text((double)row->live, live),
           size_text((double)row->returnable, returnable),
           size_text((double)row->given_back, given), size_text(row->rate, rate), row->threads);
}

static void print_rows(struct rows *rows, const struct look_and_feel *feel)
{
    /* A line is cleared before it is written: behind its 80th column some terminals take that. */
    const char *begin = feel->in_place ? "\x1b[K" : "";
    if (rows->count != 0)
        qsort(rows->row, rows->count, sizeof *rows->row, compare_rows);
    printf("%s%s%7s %-14s %8s  %8s %10s %10s %8s %7s%s\n", begin, feel->colours ? "\x1b[1m" : "",
           "PID", "NAME", "RESIDENT", "LIVE", "RETURNABLE", "GIVEN BACK", "BACK/S", "THREADS",
           feel->colours ? "\x1b[0m" : "");
    size_t shown = rows->count;
    if (feel->lines > 3)
        shown = min_size(shown, feel->lines - 3);
    for (size_t i = 0; i < shown; i++) {
        fputs(begin, stdout);
        print_row(&rows->row[i], feel);
        putchar('\n');
    }
    if (rows->count == 0)
        printf("%sno process here is on ebbmalloc, or none that you may look at\n", begin);
}

/* ---- The terminal -----------------------------------------------------------------------------
 */

static struct termios saved;
static bool taken;
static sigset_t outside; /* the signals that are blocked while it does not wait for a key */
static volatile sig_atomic_t ended, suspended, resumed;

/* Interrupts the wait for a key; a change of the terminal's size is no more than that. */
static void note_signal(int number)
{
    if (number == SIGTSTP)
        suspended = 1;
    else if (number == SIGCONT)
        resumed = 1;
    else if (number != SIGWINCH)
        ended = 1;
}

static void give_terminal_back(void)
{
    if (!taken)
        return;
    taken = false;
    fputs("\x1b[?25h\x1b[?1049l", stdout);
    fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSANOW, &saved);
}

/* Again, too, when somebody else may have had it meanwhile. */
static void take_terminal(void)
{
    if (!taken)
        tcgetattr(STDIN_FILENO, &saved);
    taken = true;
    struct termios raw = saved;
    raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    fputs("\x1b[?1049h\x1b[?25l", stdout); /* another screen, no cursor */
}

/* Whatever ends it gives the terminal back first. */
static void watch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGTSTP, SIGCONT, SIGWINCH};
    struct sigaction action = {.sa_handler = note_signal};
    sigset_t watched;
    sigemptyset(&watched);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        sigaddset(&watched, signals[i]);
        sigaction(signals[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &watched, &outside);
    atexit(give_terminal_back);
}

/* Stops as any program does, and comes back when it is continued. */
static void suspend(void)
{
    struct sigaction stop = {.sa_handler = SIG_DFL}, own;
    sigset_t before;
    give_terminal_back();
    sigaction(SIGTSTP, &stop, &own);
    raise(SIGTSTP);
    sigprocmask(SIG_SETMASK, &outside, &before); /* here */
    sigprocmask(SIG_SETMASK, &before, NULL);
    sigaction(SIGTSTP, &own, NULL);
    suspended = 0;
    resumed = 1;
}

/* Until the next look is due; a key may change the order, which shows at once, or end it all. */
static bool wait_for_key(uint64_t milliseconds)
{
    struct pollfd keys = {STDIN_FILENO, POLLIN, 0};
    struct timespec limit = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000};
    char key;
    int ready = ppoll(&keys, 1, &limit, &outside);
    if (suspended)
        suspend();
    if (resumed) {
        resumed = 0;
        take_terminal();
    }
    if (ready <= 0)
        return true;
    if (read(STDIN_FILENO, &key, 1) != 1) /* a terminal that is no more */
        return false;
    for (int i = 0; i < COLUMNS; i++)
        if (columns[i].key == key)
            sort_by = (enum sort)i;
    return key != 'q' && key != 'Q';
}

static size_t terminal_lines(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_row : 0;
}

static void refresh(uint64_t every_ms, unsigned long count, struct look_and_feel *feel)
{
    struct rows before = {NULL, 0, 0}, rows;
    bool goes_on = true;
    watch_signals();
    take_terminal();
    for (unsigned long i = 0; goes_on && !ended && (count == 0 || i < count); i++) {
        rows = look(&before);
        free(before.row);
        before = rows;
        for (uint64_t due = rows.at_us / 1000 + every_ms, now; goes_on && !ended;) {
            feel->lines = terminal_lines();
            fputs("\x1b[H", stdout);
            print_rows(&before, feel);
            printf("\x1b[K\nsort: (r)esident (l)ive r(e)turnable (g)iven (p)er s (t)hreads "
                   "p(i)d; (q)uit\x1b[K\x1b[J");
            fflush(stdout);
            now = os_now_us() / 1000;
            if (now >= due)
                break;
            goes_on = wait_for_key(due - now);
        }
    }
    give_terminal_back();
    free(before.row);
}

/* For pipes and files: one look after the other, plain. */
static void print_looks(uint64_t every_ms, unsigned long count, const struct look_and_feel *feel)
{
    struct rows before = {NULL, 0, 0};
    for (unsigned long i = 0; i < count; i++) {
        if (i != 0) {
            usleep((useconds_t)every_ms * 1000);
            putchar('\n');
        }
        struct rows rows = look(&before);
        print_rows(&rows, feel);
        fflush(stdout);
        free(before.row);
        before = rows;
    }
    free(before.row);
}

static bool parse_count(const char *text, unsigned long most, unsigned long *value)
{
    char *stop;
    *value = strtoul(text, &stop, 10);
    return *text >= '0' && *text <= '9' && *stop == '\0' && *value != 0 && *value <= most;
}

static bool parse_sort(const char *text)
{
    for (int i = 0; i < COLUMNS; i++)
        if (strcmp(columns[i].name, text) == 0) {
            sort_by = (enum sort)i;
            return true;
        }
    return false;
}

static int top(int argc, char **argv)
{
    unsigned long seconds = EVERY_MS / 1000, count = 0;
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        bool known = strcmp(argv[i], "-d") == 0       ? parse_count(value, 3600, &seconds)
                     : strcmp(argv[i], "-n") == 0     ? parse_count(value, 1000000, &count)
                     : strcmp(argv[i], "--sort") == 0 ? parse_sort(value)
                                                      : false;
        if (known)
            continue;
        complain("top: %s %s: not understood; see ebb help top", argv[i], value);
        return EXIT_USAGE;
    }
    const char *no_color = getenv("NO_COLOR"), *locale = setlocale(LC_CTYPE, "");
    bool terminal = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO);
    struct look_and_feel feel = {
        .colours = isatty(STDOUT_FILENO) && (no_color == NULL || *no_color == '\0'),
        .utf8 =
            locale != NULL && (strstr(locale, "UTF-8") != NULL || strstr(locale, "utf8") != NULL),
        .in_place = terminal,
    };
    if (terminal)
        refresh(seconds * 1000, count, &feel);
    else
        print_looks(seconds * 1000, count == 0 ? 1 : count, &feel);
    return EXIT_DONE;
}

const struct command top_command = {
    "top",
    "[-d SECONDS] [-n COUNT] [--sort COLUMN]",
    "list the processes on the library, refreshed in place",
    "A line for each process that you may look at: what is resident, with an arrow\n"
    "when it rises or falls; what is live; what ebb trim would give back; what was\n"
    "given back since the start, and now, a second; and its threads. Into a pipe or a\n"
    "file it writes one list.\n\n"
    "  -d SECONDS     from look to look; 1 if not given\n"
    "  -n COUNT       end after so many looks\n"
    "  --sort COLUMN  resident, live, returnable, given, rate, threads or pid; on a\n"
    "                 terminal also by the keys that the last line names; q ends it\n",
    top,
};
