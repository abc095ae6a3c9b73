#include "options.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os.h"
#include "text.h"

#define PREFIX "EBBMALLOC_"

/* How much of what the user wrote is repeated to him. */
#define TEXT_GIVEN 64

struct options options;

static const char *const advice_names[] = {"dontneed", "free", NULL};
static const char *const schedule_names[] = {"idle", "periodic", "immediate", "manual", NULL};
static const char *const thread_names[] = {"auto", "off", NULL};
static const char *const huge_pages_names[] = {"off", "kernel", "on", NULL};
static const char *const harden_names[] = {"0", "1", NULL};
static const char *const stats_names[] = {"off", "exit", NULL};

/* Signals that a program can do without. */
static const char *const signal_names[] = {"off",   "HUP", "USR1", "USR2", "PROF",
                                           "WINCH", "IO",  "PWR",  NULL};
static const uint8_t signals[] = {0, SIGHUP, SIGUSR1, SIGUSR2, SIGPROF, SIGWINCH, SIGIO, SIGPWR};
#define SIGNAL_LAST (sizeof signals - 1)

const struct option option_table[] = {
    {PREFIX "PURGE_SCHEDULE", OPTION_CHOICE, &options.schedule, 0, SCHEDULE_MANUAL, SCHEDULE_IDLE,
     schedule_names, "when free memory is given back: after a delay, or as the word says"},
    {PREFIX "PURGE_ADVICE", OPTION_CHOICE, &options.advice, 0, ADVICE_FREE, ADVICE_DONTNEED,
     advice_names, "how memory is given back: at once, or when the kernel wants it"},
    {PREFIX "PURGE_DELAY", OPTION_MILLISECONDS, &options.purge_delay_ms, 0, 3600000, 400, NULL,
     "freed pages stay so long for reuse, and go back before twice that"},
    {PREFIX "PURGE_PERIOD", OPTION_MILLISECONDS, &options.purge_period_ms, 1, 3600000, 1000, NULL,
     "from one trim to the next, on the schedule periodic"},
    {PREFIX "BACKGROUND_THREAD", OPTION_CHOICE, &options.background_thread, 0, THREAD_OFF,
     THREAD_AUTO, thread_names, "a thread that gives memory back while the program sleeps"},
    {PREFIX "THREAD_CACHE", OPTION_BYTES, &options.thread_cache, 0, 64 * MiB, 4 * MiB, NULL,
     "free blocks that one thread keeps for itself, at most"},
    {PREFIX "SOFT_LIMIT", OPTION_BYTES, &options.soft_limit, 0, (size_t)1 << 47, 0, NULL,
     "resident above this, all that is free is given back at once; 0: no limit"},
    {PREFIX "HUGE_PAGES", OPTION_CHOICE, &options.huge_pages, 0, HUGE_PAGES_ON, HUGE_PAGES_OFF,
     huge_pages_names, "transparent huge pages: faster, but they keep free memory"},
    {PREFIX "HARDEN", OPTION_CHOICE, &options.harden, 0, HARDEN_ON, HARDEN_OFF, harden_names,
     "stop more of what a program must not do with memory; slower, and no caches"},
    {PREFIX "STATS", OPTION_CHOICE, &options.stats, 0, STATS_EXIT, STATS_OFF, stats_names,
     "write the page of malloc_stats when the program exits"},
    {PREFIX "STATS_SIGNAL", OPTION_CHOICE, &options.stats_signal, 0, SIGNAL_LAST, 0, signal_names,
     "write that page when the process gets this signal"},
    {PREFIX "STATS_FILE", OPTION_PATH, &options.stats_file, 0, 0, 0, NULL,
     "the file for these pages, to which they are added; - is stderr"},
};

const size_t option_count = sizeof option_table / sizeof *option_table;

/* Digits and an optional unit; false on anything else and on overflow. */
static bool parse_number(const char *text, enum option_kind kind, size_t *value)
{
    size_t number = 0;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (size_t)(*text - '0'), &number))
            return false;
    if (kind == OPTION_BYTES && *text != '\0') {
        static const char units[] = "KMG";
        const char *unit = memchr(units, *text & ~0x20, sizeof units - 1);
        if (unit == NULL ||
            __builtin_mul_overflow(number, (size_t)1 << 10 * (unit - units + 1), &number))
            return false;
        text++;
        if (*text == 'i')
            text++;
        if (*text == 'B')
            text++;
    }
    if (kind == OPTION_MILLISECONDS && strcmp(text, " ms") == 0)
        text++; /* as option_print writes it */
    if (kind == OPTION_MILLISECONDS && strcmp(text, "ms") == 0)
        text += 2;
    *value = number;
    return *text == '\0';
}

int option_signal(size_t value)
{
    return value <= SIGNAL_LAST ? signals[value] : 0;
}

/* An absolute one: the program may change its directory. */
static bool parse_path(const char *text, size_t *value)
{
    bool is_none = strcmp(text, "-") == 0;
    *value = is_none ? 0 : (size_t)(uintptr_t)text;
    return is_none || (*text == '/' && strlen(text) < OPTION_PATH_MOST);
}

bool option_parse(const struct option *option, const char *text, size_t *value)
{
    size_t read = 0;
    if (option->kind == OPTION_CHOICE) {
        while (option->choices[read] != NULL && strcmp(option->choices[read], text) != 0)
            read++;
        if (option->choices[read] == NULL)
            return false;
    } else if (option->kind == OPTION_PATH) {
        if (!parse_path(text, &read))
            return false;
    } else if (!parse_number(text, option->kind, &read) || read < option->least ||
               read > option->most) {
        return false;
    }
    *value = read;
    return true;
}

void option_print(const struct option *option, size_t value, char *buffer, size_t capacity)
{
    if (option->kind == OPTION_CHOICE)
        text_format(buffer, capacity, "%s", option->choices[value]);
    else if (option->kind == OPTION_PATH)
        text_format(buffer, capacity, "%s", value == 0 ? "-" : (const char *)(uintptr_t)value);
    else if (option->kind == OPTION_MILLISECONDS)
        text_format(buffer, capacity, "%zu ms", value);
    else if (value != 0 && value % (1024 * MiB) == 0)
        text_format(buffer, capacity, "%zuG", value / (1024 * MiB));
    else if (value != 0 && value % MiB == 0)
        text_format(buffer, capacity, "%zuM", value / MiB);
    else if (value != 0 && value % KiB == 0)
        text_format(buffer, capacity, "%zuK", value / KiB);
    else
        text_format(buffer, capacity, "%zu", value);
}

bool option_print_of(const struct option *option, const struct options *in_force, char *buffer,
                     size_t capacity)
{
    size_t place = (size_t)((const char *)option->value - (const char *)&options);
    size_t value = *(const size_t *)((const char *)in_force + place);
    if (option->kind == OPTION_CHOICE && value > option->most)
        text_format(buffer, capacity, "?");
    else
        option_print(option, value, buffer, capacity);
    return value == option->initial;
}

static void complain(const struct option *option, const char *text)
{
    char least[32], most[32], initial[32], expected[128], given[TEXT_GIVEN];
    option_print(option, option->initial, initial, sizeof initial);
    if (option->kind == OPTION_CHOICE) {
        size_t length = text_format(expected, sizeof expected, "%s", option->choices[0]);
        for (size_t i = 1; option->choices[i] != NULL; i++)
            length += text_format(expected + length, sizeof expected - length, " or %s",
                                  option->choices[i]);
    } else if (option->kind == OPTION_PATH) {
        text_format(expected, sizeof expected, "an absolute path of less than %u characters, or -",
                    OPTION_PATH_MOST);
    } else {
        option_print(option, option->least, least, sizeof least);
        option_print(option, option->most, most, sizeof most);
        text_format(expected, sizeof expected, "%s from %s to %s",
                    option->kind == OPTION_BYTES ? "bytes (K, M, G allowed)" : "milliseconds",
                    least, most);
    }
    text_warn("%s=%s: expected %s, using default %s", option->name,
              text_tame(given, sizeof given, text), expected, initial);
}

/* The environment may change: programs write their titles there. One option has a path. */
static void keep_path(const struct option *option)
{
    static char path[OPTION_PATH_MOST];
    if (option->kind != OPTION_PATH || *option->value == 0)
        return;
    text_format(path, sizeof path, "%s", (const char *)(uintptr_t)*option->value);
    *option->value = (size_t)(uintptr_t)path;
}

/* One NAME=VALUE of the environment, NAME known to begin with the prefix. */
static void read_variable(const char *variable)
{
    const char *equals = strchr(variable, '=');
    if (equals == NULL)
        return;
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        size_t length = strlen(option->name);
        if (length != (size_t)(equals - variable) || memcmp(option->name, variable, length) != 0)
            continue;
        if (option->kind == OPTION_PATH && os_is_secure())
            return; /* the caller might write where only the program may */
        if (!option_parse(option, equals + 1, option->value))
            complain(option, equals + 1);
        keep_path(option);
        return;
    }
    char known[512], given[TEXT_GIVEN];
    size_t length = 0;
    for (size_t i = 0; i < option_count; i++)
        length += text_format(known + length, sizeof known - length, "%s%s", i == 0 ? "" : ", ",
                              option_table[i].name);
    text_warn("%s: no such option, ignored; expected one of %s",
              text_tame(given, sizeof given, variable), known);
}

void options_init(void)
{
    for (size_t i = 0; i < option_count; i++)
        *option_table[i].value = option_table[i].initial;
    if (environ == NULL)
        return;
    for (char **variable = environ; *variable != NULL; variable++)
        if (strncmp(*variable, PREFIX, sizeof PREFIX - 1) == 0)
            read_variable(*variable);
    if (options.harden == HARDEN_ON)
        options.thread_cache = 0; /* so every call takes a slow path, where it is looked at */
}
