#include "report.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "arenas.h"
#include "options.h"
#include "os.h"
#include "os_thread.h"
#include "purger.h"
#include "stats.h"
#include "stats_text.h"
#include "text.h"

/* Written at a time: few calls, each with whole lines. */
#define PAGE_BUFFER 4096

struct output {
    struct stats_page page; /* first: what stats_write is given */
    int descriptor;
    size_t length;
    char buffer[PAGE_BUFFER];
};

/* ---- A page ---------------------------------------------------------------------------------- */

static void write_out(struct output *output)
{
    os_write(output->descriptor, output->buffer, output->length);
    output->length = 0;
}

static void add_line(struct stats_page *page, const char *text)
{
    struct output *output = (struct output *)page;
    size_t length = strlen(text);
    if (output->length + length + 1 > sizeof output->buffer)
        write_out(output);
    memcpy(output->buffer + output->length, text, length);
    output->length += length;
    output->buffer[output->length++] = '\n';
}

/* A file of one line. */
static void read_name(const char *path, char *name, size_t capacity)
{
    *name = '\0';
    size_t length = os_read_file(path, name, capacity);
    if (length != 0 && name[length - 1] == '\n')
        name[length - 1] = '\0';
}

static void find_thread_name(struct stats_page *page, int id, char *name, size_t capacity)
{
    char path[64];
    (void)page;
    text_format(path, sizeof path, "/proc/self/task/%d/comm", id);
    read_name(path, name, capacity);
}

static int open_place(enum report_place place)
{
    const char *path = (const char *)(uintptr_t)options.stats_file;
    if (place == REPORT_STDERR || path == NULL)
        return 2;
    int descriptor = os_open_to_append(path);
    if (descriptor < 0)
        text_warn("EBBMALLOC_STATS_FILE=%s: cannot be written", path);
    return descriptor;
}

static void write_page(const struct stats *stats, const struct stats_detail *detail,
                       enum report_place place)
{
    struct output output = {
        .page = {.stats = stats,
                 .detail = detail,
                 .options = &options,
                 .line = add_line,
                 .thread_name = find_thread_name},
        .descriptor = open_place(place),
    };
    char name[32], tame[32], title[96];
    if (output.descriptor < 0)
        return;
    read_name("/proc/self/comm", name, sizeof name);
    text_format(title, sizeof title, "ebbmalloc " EBB_VERSION ", process %d (%s)", os_process_id(),
                text_tame(tame, sizeof tame, name));
    output.page.title = title;
    stats_write(&output.page);
    write_out(&output);
    if (output.descriptor != 2)
        os_close(output.descriptor);
}

void report_write(enum report_place place)
{
    struct stats stats;
    arenas_prepare(); /* it may be the program's first call */
    struct stats_detail *detail = stats_new_detail();
    stats_collect(&stats, detail);
    write_page(&stats, detail, place);
    stats_drop_detail(detail);
}

/* ---- When a signal comes --------------------------------------------------------------------- */

static struct os_thread writers[2]; /* one may be in its last few instructions, for long */
static _Atomic bool wanted, about;  /* a page; the thread */

struct visit {
    struct stats stats;
    struct stats_detail *detail;
};

static void collect_in_visit(void *context)
{
    struct visit *visit = context;
    stats_collect_as_visitor(&visit->stats, visit->detail);
}

static bool become_writer(void)
{
    bool none = false;
    return atomic_compare_exchange_strong(&about, &none, true);
}

/* A signal that comes when the last page is written but the thread is still there counts on it: so
 * it says that it is leaving, and then looks once again. */
static int write_wanted(void *unused)
{
    (void)unused;
    do {
        while (atomic_exchange(&wanted, false)) {
            if (purger_answer()) /* it is `ebb trim` who sent the signal */
                continue;
            struct visit visit = {.detail = stats_new_detail()};
            purger_visit(collect_in_visit, &visit);
            write_page(&visit.stats, visit.detail, REPORT_CHOSEN);
            stats_drop_detail(visit.detail);
        }
        atomic_store(&about, false);
    } while (atomic_load(&wanted) && become_writer());
    return 0;
}

/* It writes where the program would. */
static struct os_thread *idle_writer(void)
{
    struct os_thread *writer = &writers[atomic_load(&writers[0].running) != 0];
    writer->plain = true;
    return writer;
}

void report_on_signal(int number)
{
    int saved = errno;
    uint64_t signals;
    (void)number;
    atomic_store(&wanted, true);
    os_block_signals(&signals);
    if (os_is_home() && become_writer() &&
        !os_thread_start(idle_writer(), write_wanted, "ebb-stats", &arena_self)) {
        atomic_store(&about, false);
        text_warn("EBBMALLOC_STATS_SIGNAL: the kernel refuses a thread to write the page");
    }
    os_restore_signals(signals);
    errno = saved;
}

void report_enter_child(void)
{
    for (int i = 0; i < 2; i++) {
        atomic_store(&writers[i].running, 0);
        atomic_store(&writers[i].id, 0);
    }
    atomic_store(&wanted, false);
    atomic_store(&about, false);
}

#ifndef EBB_PREFIXED

/* Without any of our variables nothing is done, so that short commands start as soon as ever. */
static bool asks_for_pages(void)
{
    static const char begin[] = "EBBMALLOC_STATS";
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++)
        if (strncmp(*variable, begin, sizeof begin - 1) == 0)
            return true;
    return false;
}

/* So early that glibc has not stored its environment yet; but it tells every constructor. (musl
 * tells none, and has stored it.) */
static __attribute__((constructor)) void begin(int argc, char **argv, char **variables)
{
#ifdef __GLIBC__
    if (environ == NULL)
        environ = variables;
#endif
    (void)argc, (void)argv, (void)variables;
    if (!asks_for_pages())
        return;
    arenas_prepare();
    int number = option_signal(options.stats_signal);
    if (number != 0)
        os_handle_signal(number, report_on_signal);
}

/* The last of all libraries' destructors, as the constructor is the first. */
static __attribute__((destructor)) void end(void)
{
    if (options.stats == STATS_EXIT)
        report_write(REPORT_CHOSEN);
}

#endif
