/* The options: what is read as a value, what is not, and what the user is told. */
#include "support.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "options.h"

static const char *const colours[] = {"red", "green", "blue", NULL};

static const struct option choice = {"EBBMALLOC_COLOUR", OPTION_CHOICE, NULL, 0, 2, 1, colours, ""};
static const struct option bytes = {"EBBMALLOC_SIZE", OPTION_BYTES, NULL, 16,
                                    4 * MiB,          64,           NULL, ""};
static const struct option any = {"EBBMALLOC_ANY", OPTION_BYTES, NULL, 0, SIZE_MAX, 0, NULL, ""};
static const struct option delay = {
    "EBBMALLOC_WAIT", OPTION_MILLISECONDS, NULL, 5, 60000, 10, NULL, ""};

static void check_read(const struct option *option, const char *text, size_t expected)
{
    size_t value = 4711;
    if (!option_parse(option, text, &value) || value != expected)
        fail_msg("%s=\"%s\" gave %zu, not %zu", option->name, text, value, expected);
}

/* Refused, and the value left alone. */
static void check_refused(const struct option *option, const char *text)
{
    size_t value = 4711;
    if (option_parse(option, text, &value) || value != 4711)
        fail_msg("%s=\"%s\" was read as %zu", option->name, text, value);
}

static void choices_are_read_by_their_exact_names(void **state)
{
    (void)state;
    check_read(&choice, "red", 0);
    check_read(&choice, "green", 1);
    check_read(&choice, "blue", 2);
    const char *const wrong[] = {"", "re", "reds", "Red", " red", "red ", "0", "1", "red,green"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check_refused(&choice, wrong[i]);
}

static void bytes_are_read_with_every_unit(void **state)
{
    (void)state;
    check_read(&bytes, "4096", 4096);
    check_read(&bytes, "0004096", 4096);
    check_read(&bytes, "4K", 4096);
    check_read(&bytes, "4k", 4096);
    check_read(&bytes, "4KB", 4096);
    check_read(&bytes, "4KiB", 4096);
    check_read(&bytes, "3M", 3 * MiB);
    check_read(&bytes, "3m", 3 * MiB);
    check_read(&bytes, "3MiB", 3 * MiB);
    check_read(&any, "5G", 5 * 1024 * MiB);
    check_read(&any, "0", 0);
    check_read(&any, "0K", 0);
}

static void bytes_that_are_garbage_are_refused(void **state)
{
    (void)state;
    const char *const wrong[] = {"",      " ",    "K",     "KiB", "-1",   "+64",  " 64",  "64 ",
                                 "64x",   "64KK", "64Ki ", "64T", "6.5K", "0x40", "64Kx", "64KiBB",
                                 "64KBi", "64iB", "64B",   "1e3", "64,0", "\xff", "64\n", "6 4"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check_refused(&bytes, wrong[i]);
}

static void borders_belong_to_the_range_and_their_neighbours_do_not(void **state)
{
    (void)state;
    check_read(&bytes, "16", 16);
    check_refused(&bytes, "15");
    check_read(&bytes, "4M", 4 * MiB);
    check_read(&bytes, "4194304", 4 * MiB);
    check_refused(&bytes, "4194305");
    check_refused(&bytes, "5M");
    check_read(&delay, "5", 5);
    check_refused(&delay, "4");
    check_read(&delay, "60000", 60000);
    check_refused(&delay, "60001");
}

static void numbers_that_overflow_are_refused(void **state)
{
    (void)state;
    check_read(&any, "18446744073709551615", SIZE_MAX);
    check_refused(&any, "18446744073709551616");
    check_refused(&any, "18446744073709551620");
    check_refused(&any, "184467440737095516150");
    check_refused(&any, "99999999999999999999999999999999999999999");
    check_read(&any, "18014398509481983K", SIZE_MAX - 1023);
    check_refused(&any, "18014398509481984K");
    check_refused(&any, "17592186044416M");
    check_refused(&any, "17179869184G");
}

static void milliseconds_are_read_with_and_without_their_unit(void **state)
{
    (void)state;
    check_read(&delay, "500", 500);
    check_read(&delay, "500ms", 500);
    check_read(&delay, "500 ms", 500);
    const char *const wrong[] = {"",     "ms",    "500s",   "500m", "500K",  "-5",
                                 "500 ", "500 s", "500msx", " 500", "5.0ms", "500MS"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check_refused(&delay, wrong[i]);
}

static const struct option path = {"EBBMALLOC_PLACE", OPTION_PATH, NULL, 0, 0, 0, NULL, ""};

static void paths_are_absolute_or_none(void **state)
{
    (void)state;
    static const char absolute[] = "/var/log/a b";
    check_read(&path, absolute, (size_t)(uintptr_t)absolute);
    check_read(&path, "-", 0);
    check_refused(&path, "");
    check_refused(&path, "log");
    check_refused(&path, "./log");
    check_refused(&path, "--");
    char longest[OPTION_PATH_MOST + 1] = "/";
    memset(longest + 1, 'x', OPTION_PATH_MOST - 1);
    check_refused(&path, longest);
    longest[OPTION_PATH_MOST - 1] = '\0';
    check_read(&path, longest, (size_t)(uintptr_t)longest);
}

static void signals_have_the_kernels_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        size_t value;
        if (option->value != &options.stats_signal)
            continue;
        assert_true(option_parse(option, "USR2", &value));
        assert_int_equal(option_signal(value), SIGUSR2);
        assert_true(option_parse(option, "PWR", &value));
        assert_int_equal(option_signal(value), SIGPWR);
        assert_int_equal(option_signal(option->most + 1), 0);
        assert_int_equal(option_signal(0), 0);
        return;
    }
    fail_msg("there is no option for the signal");
}

static void check_round_trip(const struct option *option, size_t value)
{
    char text[64];
    size_t read = ~value;
    option_print(option, value, text, sizeof text);
    if (!option_parse(option, text, &read) || read != value)
        fail_msg("%s: %zu is printed as \"%s\", which reads as %zu", option->name, value, text,
                 read);
}

static void what_is_printed_can_be_written_back(void **state)
{
    (void)state;
    for (size_t value = 0; value <= 2; value++)
        check_round_trip(&choice, value);
    const size_t sizes[] = {0,       1,   1023,    1024,       1025,       1536,
                            MiB - 1, MiB, MiB + 1, MiB + 1024, 1024 * MiB, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check_round_trip(&any, sizes[i]);
    for (size_t value = delay.least; value <= delay.most; value += 7)
        check_round_trip(&delay, value);
}

static void every_default_in_the_table_is_in_its_range_and_round_trips(void **state)
{
    (void)state;
    assert_true(option_count > 0);
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        assert_memory_equal(option->name, "EBBMALLOC_", 10);
        assert_true(option->least <= option->initial && option->initial <= option->most);
        check_round_trip(option, option->least);
        check_round_trip(option, option->initial);
        check_round_trip(option, option->most);
    }
}

/* ---- options_init: in a child of its own, since it reads the environment once -----------------
 */

/* What a process has without any variable. */
static const struct options usual = {
    .schedule = SCHEDULE_IDLE,
    .advice = ADVICE_DONTNEED,
    .purge_delay_ms = 400,
    .purge_period_ms = 1000,
    .soft_limit = 0,
    .huge_pages = HUGE_PAGES_OFF,
    .harden = HARDEN_OFF,
    .background_thread = THREAD_AUTO,
    .thread_cache = 4 * MiB,
    .stats = STATS_OFF,
    .stats_file = 0,
    .stats_signal = 0,
};

struct environment {
    const char *name, *value; /* one variable more; NULL for none */
    struct options expected;
};

static void init_and_compare(void *argument)
{
    const struct environment *given = argument;
    for (size_t i = 0; i < option_count; i++)
        unsetenv(option_table[i].name);
    if (given->name != NULL)
        setenv(given->name, given->value, 1);
    options_init();
    if (memcmp(&options, &given->expected, sizeof options) != 0)
        _exit(1);
}

static void check_init(const char *name, const char *value, struct options expected)
{
    char said[2048];
    struct environment given = {name, value, expected};
    int status = run_in_child(init_and_compare, &given, said, sizeof said);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s=%s did not set what it should, or not that alone", name, value);
    assert_string_equal(said, "");
}

#define CHECK_SETS(name, value, member, expected_value)                                            \
    do {                                                                                           \
        struct options expected = usual;                                                           \
        expected.member = (expected_value);                                                        \
        check_init(name, value, expected);                                                         \
    } while (0)

static void the_environment_sets_options_and_the_rest_keep_their_defaults(void **state)
{
    (void)state;
    check_init(NULL, NULL, usual);
    check_init("EBBMALLOCX", "1", usual);
    CHECK_SETS("EBBMALLOC_PURGE_SCHEDULE", "periodic", schedule, SCHEDULE_PERIODIC);
    CHECK_SETS("EBBMALLOC_PURGE_SCHEDULE", "immediate", schedule, SCHEDULE_IMMEDIATE);
    CHECK_SETS("EBBMALLOC_PURGE_SCHEDULE", "manual", schedule, SCHEDULE_MANUAL);
    CHECK_SETS("EBBMALLOC_PURGE_ADVICE", "free", advice, ADVICE_FREE);
    CHECK_SETS("EBBMALLOC_PURGE_DELAY", "20ms", purge_delay_ms, 20);
    CHECK_SETS("EBBMALLOC_PURGE_PERIOD", "300", purge_period_ms, 300);
    CHECK_SETS("EBBMALLOC_BACKGROUND_THREAD", "off", background_thread, THREAD_OFF);
    CHECK_SETS("EBBMALLOC_THREAD_CACHE", "64k", thread_cache, 65536);
    CHECK_SETS("EBBMALLOC_SOFT_LIMIT", "3G", soft_limit, 3072 * MiB);
    CHECK_SETS("EBBMALLOC_HUGE_PAGES", "kernel", huge_pages, HUGE_PAGES_KERNEL);
    CHECK_SETS("EBBMALLOC_HUGE_PAGES", "on", huge_pages, HUGE_PAGES_ON);
    CHECK_SETS("EBBMALLOC_HARDEN", "0", harden, HARDEN_OFF);
    struct options hardened = usual;
    hardened.harden = HARDEN_ON;
    hardened.thread_cache = 0;
    check_init("EBBMALLOC_HARDEN", "1", hardened);
    CHECK_SETS("EBBMALLOC_STATS", "exit", stats, STATS_EXIT);
    CHECK_SETS("EBBMALLOC_STATS_SIGNAL", "HUP", stats_signal, 1);
}

static void change_the_environment(void *unused)
{
    (void)unused;
    static char variable[] = "EBBMALLOC_STATS_FILE=/var/log/page";
    putenv(variable);
    options_init();
    memset(variable, 'x', sizeof variable - 1);
    if (strcmp((const char *)(uintptr_t)options.stats_file, "/var/log/page") != 0)
        _exit(1);
}

/* Servers write their titles where their environment was. */
static void a_path_outlives_the_environment_that_named_it(void **state)
{
    (void)state;
    char said[2048];
    int status = run_in_child(change_the_environment, NULL, said, sizeof said);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* One line on stderr that begins like this, and the defaults. */
static void check_complaint(const char *name, const char *value, const char *begin, const char *end)
{
    char said[2048];
    struct environment given = {name, value, usual};
    int status = run_in_child(init_and_compare, &given, said, sizeof said);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_memory_equal(said, begin, strlen(begin));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    assert_non_null(strstr(said, end));
}

static void a_bad_value_is_named_in_one_line_and_the_default_stays(void **state)
{
    (void)state;
    check_complaint("EBBMALLOC_PURGE_ADVICE", "never",
                    "ebbmalloc: EBBMALLOC_PURGE_ADVICE=never: expected dontneed or free",
                    "using default dontneed\n");
    check_complaint("EBBMALLOC_PURGE_SCHEDULE", "never",
                    "ebbmalloc: EBBMALLOC_PURGE_SCHEDULE=never: expected idle or periodic or "
                    "immediate or manual, ",
                    "using default idle\n");
    check_complaint("EBBMALLOC_PURGE_PERIOD", "0",
                    "ebbmalloc: EBBMALLOC_PURGE_PERIOD=0: expected milliseconds from 1 ms to ",
                    "using default 1000 ms\n");
    check_complaint("EBBMALLOC_PURGE_DELAY", "soon",
                    "ebbmalloc: EBBMALLOC_PURGE_DELAY=soon: expected milliseconds from 0",
                    "using default 400 ms\n");
    check_complaint("EBBMALLOC_THREAD_CACHE", "65M",
                    "ebbmalloc: EBBMALLOC_THREAD_CACHE=65M: expected bytes", "using default 4M\n");
    check_complaint("EBBMALLOC_STATS_FILE", "log",
                    "ebbmalloc: EBBMALLOC_STATS_FILE=log: expected an absolute path of less than "
                    "512 characters, or -, ",
                    "using default -\n");
    check_complaint("EBBMALLOC_PURGE_DELAY", "two\nlines\x1b[31m",
                    "ebbmalloc: EBBMALLOC_PURGE_DELAY=two?lines?[31m: expected ", "default");
}

static void an_unknown_name_is_told_with_those_that_are_known(void **state)
{
    (void)state;
    check_complaint("EBBMALLOC_PURGE_DELY", "5",
                    "ebbmalloc: EBBMALLOC_PURGE_DELY=5: no such option, ignored; expected one of ",
                    "EBBMALLOC_PURGE_DELAY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_are_read_by_their_exact_names),
        cmocka_unit_test(bytes_are_read_with_every_unit),
        cmocka_unit_test(bytes_that_are_garbage_are_refused),
        cmocka_unit_test(borders_belong_to_the_range_and_their_neighbours_do_not),
        cmocka_unit_test(numbers_that_overflow_are_refused),
        cmocka_unit_test(milliseconds_are_read_with_and_without_their_unit),
        cmocka_unit_test(paths_are_absolute_or_none),
        cmocka_unit_test(signals_have_the_kernels_numbers),
        cmocka_unit_test(what_is_printed_can_be_written_back),
        cmocka_unit_test(every_default_in_the_table_is_in_its_range_and_round_trips),
        cmocka_unit_test(the_environment_sets_options_and_the_rest_keep_their_defaults),
        cmocka_unit_test(a_path_outlives_the_environment_that_named_it),
        cmocka_unit_test(a_bad_value_is_named_in_one_line_and_the_default_stays),
        cmocka_unit_test(an_unknown_name_is_told_with_those_that_are_known),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
