/*
 * The environment: a value or a name that is not understood gives one clear line, then the program
 * runs on with the default. A child is this program again, with "child" as its argument.
 */
#include "support.h"

#include <dlfcn.h>
#include <malloc.h>
#include <signal.h>

static char self[4096], preload[4096 + 20];

static int find_paths(void **state)
{
    (void)state;
    Dl_info library;
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    void *version = dlsym(RTLD_DEFAULT, "ebb_version");
    if (length <= 0 || version == NULL || dladdr(version, &library) == 0)
        return -1;
    self[length] = '\0';
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", library.dli_fname);
    return 0;
}

/* The child: uses the allocator and says nothing itself. */
static int work(void)
{
    for (size_t i = 0; border_sizes[i] <= 256 * KIB; i++) {
        char *block = malloc(border_sizes[i]);
        if (block == NULL)
            return 1;
        fill(block, border_sizes[i], i);
        block = realloc(block, border_sizes[i] + 1);
        if (block == NULL || first_bad_byte(block, border_sizes[i], i) != border_sizes[i])
            return 2;
        free(block);
    }
    malloc_trim(0);
    return 0;
}

/* Prints what the kernel was told about transparent huge pages where this address is. */
static void print_huge_page_flags(const char *what, const void *address)
{
    char line[4096], flags[4096] = "";
    FILE *maps = fopen("/proc/self/smaps", "r");
    for (bool here = false; maps != NULL && fgets(line, sizeof line, maps) != NULL;) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            here = (uintptr_t)address >= start && (uintptr_t)address < end;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            strcpy(flags, line);
    }
    if (maps != NULL)
        fclose(maps);
    fprintf(stderr, "%s:%s%s%s\n", what, flags[0] == '\0' ? " no flags" : "",
            strstr(flags, " nh") != NULL ? " nh" : "", strstr(flags, " hg") != NULL ? " hg" : "");
}

/* Another child: 100,000 bytes are in a chunk, 20 MiB have a mapping of their own. */
static int show_huge_pages(void)
{
    char *large = malloc(100000), *huge = malloc(20 * MIB);
    if (large == NULL || huge == NULL)
        return 1;
    print_huge_page_flags("chunk", large);
    print_huge_page_flags("huge block", huge);
    huge = realloc(huge, 200 * MIB);
    if (huge == NULL)
        return 1;
    print_huge_page_flags("larger", huge);
    free(large);
    free(huge);
    return 0;
}

static void run_with(struct child_end *end, const char *variable)
{
    char *const arguments[] = {self, "child", NULL};
    char *const environment[] = {preload, (char *)variable, NULL};
    run_program(end, arguments, environment);
    assert_child_passed(end);
}

static void assert_accepted(const char *variable)
{
    struct child_end end;
    run_with(&end, variable);
    assert_string_equal(end.words, "");
}

static void assert_one_line_with(const char *words, const char *begin, const char *said)
{
    if (strncmp(words, begin, strlen(begin)) != 0)
        fail_msg("expected a line that begins with \"%s\", got: \"%s\"", begin, words);
    if (strstr(words, said) == NULL)
        fail_msg("expected \"%s\" in: \"%s\"", said, words);
    const char *end = strchr(words, '\n');
    if (end == NULL || end[1] != '\0')
        fail_msg("expected exactly one line, got: \"%s\"", words);
}

static void assert_refused(const char *name, const char *value)
{
    struct child_end end;
    char variable[4000], begin[4100];
    snprintf(variable, sizeof variable, "%s=%s", name, value);
    run_with(&end, variable);
    snprintf(begin, sizeof begin, "ebbmalloc: %s: expected ", variable);
    assert_one_line_with(end.words, begin, ", using default ");
}

/* Values that are good, and values that are not, of every option there is. */
static const struct option {
    const char *name;
    const char *good[8];
    const char *bad[16];
} options[] = {
    {"EBBMALLOC_PURGE_SCHEDULE",
     {"idle", "periodic", "immediate", "manual"},
     {"", "never", "IDLE", "idle ", " idle", "idl", "idles", "idle,manual", "0", "3"}},
    {"EBBMALLOC_PURGE_ADVICE",
     {"dontneed", "free"},
     {"", "never", "DONTNEED", "dontneed ", " free", "freedom", "fre", "0", "1"}},
    {"EBBMALLOC_PURGE_DELAY",
     {"0", "1", "500", "500ms", "3600000"},
     {"", "soon", "-1", "+1", " 1", "1 ", "0x10", "1.5", "5 s", "5K", "ms", "3600001",
      "18446744073709551616", "99999999999999999999999"}},
    {"EBBMALLOC_PURGE_PERIOD",
     {"1", "1000", "300ms", "1000 ms", "3600000"},
     {"", "0", "0ms", "often", "-1", "+1", " 1", "1 ", "1.5", "5 s", "3600001",
      "18446744073709551616", "99999999999999999999999"}},
    {"EBBMALLOC_BACKGROUND_THREAD",
     {"auto", "off"},
     {"", "on", "AUTO", "auto ", " off", "offf", "0", "1"}},
    {"EBBMALLOC_THREAD_CACHE",
     {"0", "65536", "64K", "64k", "1M", "1MiB", "8MB", "64M"},
     {"", "much", "-1", "+1", " 1", "0 ", "1 K", "K", "1T", "1KK", "1.5M", "65M", "64Mi!",
      "16777216G", "18446744073709551616", "99999999999999999999999"}},
    {"EBBMALLOC_SOFT_LIMIT",
     {"0", "1", "64K", "512M", "2G", "131072G", "140737488355328"},
     {"", "none", "-1", "+1", " 1", "0 ", "1 G", "G", "1T", "1.5G", "140737488355329", "131073G",
      "18446744073709551616", "99999999999999999999999"}},
    {"EBBMALLOC_HUGE_PAGES",
     {"off", "kernel", "on"},
     {"", "ON", "auto", "on ", " off", "offf", "kernels", "always", "0", "1"}},
    {"EBBMALLOC_HARDEN", {"0", "1"}, {"", "on", "off", "2", "01", "1 ", " 0", "-1", "yes", "10"}},
    /* "exit" is not silent: tests/command/stats.sh. */
    {"EBBMALLOC_STATS", {"off"}, {"", "on", "EXIT", "exit ", " off", "exits", "0", "1"}},
    {"EBBMALLOC_STATS_SIGNAL",
     {"off", "HUP", "USR1", "USR2", "PROF", "WINCH", "IO", "PWR"},
     {"", "on", "KILL", "SEGV", "usr1", "SIGUSR1", "USR", "USR1 ", " HUP", "10", "0"}},
    {"EBBMALLOC_STATS_FILE",
     {"-", "/nowhere/at all"},
     {"", "page", "./page", "--", "~/page", " /page"}},
};
enum { option_count = sizeof options / sizeof *options };

static void every_good_value_is_taken_in_silence(void **state)
{
    (void)state;
    for (int i = 0; i < option_count; i++) {
        for (int j = 0; j < 8 && options[i].good[j] != NULL; j++) {
            char variable[100];
            snprintf(variable, sizeof variable, "%s=%s", options[i].name, options[i].good[j]);
            assert_accepted(variable);
        }
    }
}

static void every_bad_value_gives_one_line_and_the_default(void **state)
{
    (void)state;
    for (int i = 0; i < option_count; i++)
        for (int j = 0; j < 16 && options[i].bad[j] != NULL; j++)
            assert_refused(options[i].name, options[i].bad[j]);
}

static void a_value_as_long_as_a_page_gives_one_line_too(void **state)
{
    (void)state;
    static char variable[5000];
    for (int i = 0; i < option_count; i++) {
        struct child_end end;
        memset(variable, '7', sizeof variable - 1);
        memcpy(variable, options[i].name, strlen(options[i].name));
        variable[strlen(options[i].name)] = '=';
        run_with(&end, variable);
        assert_one_line_with(end.words, "ebbmalloc: EBBMALLOC_", options[i].name);
    }
}

static void a_value_with_line_breaks_gives_one_line_too(void **state)
{
    (void)state;
    for (int i = 0; i < option_count; i++) {
        struct child_end end;
        char variable[100];
        snprintf(variable, sizeof variable, "%s=1\nebbmalloc: 2\n\033[31m3", options[i].name);
        run_with(&end, variable);
        assert_one_line_with(end.words, "ebbmalloc: EBBMALLOC_", ", using default ");
        assert_null(strchr(end.words, '\033'));
    }
}

static void a_name_that_is_no_option_is_named_in_one_line(void **state)
{
    (void)state;
    const char *const names[] = {"EBBMALLOC_NO_SUCH_OPTION", "EBBMALLOC_", "EBBMALLOC_PURGE_DELA",
                                 "EBBMALLOC_PURGE_DELAYS", "EBBMALLOC_purge_delay"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct child_end end;
        char variable[100], begin[120];
        snprintf(variable, sizeof variable, "%s=1", names[i]);
        run_with(&end, variable);
        snprintf(begin, sizeof begin, "ebbmalloc: %s", names[i]);
        assert_one_line_with(end.words, begin, "EBBMALLOC_PURGE_DELAY");
    }
}

static void names_of_others_are_none_of_its_business(void **state)
{
    (void)state;
    const char *const foreign[] = {"MALLOC_CONF=x", "EBBMALLO_C=1", "ebbmalloc_purge_delay=x",
                                   "EBBMALLOC=1", "NOT_EBBMALLOC_PURGE_DELAY=x"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        assert_accepted(foreign[i]);
}

static void a_process_with_no_environment_but_the_preload_works(void **state)
{
    (void)state;
    assert_accepted(NULL);
}

static void two_bad_values_give_two_lines(void **state)
{
    (void)state;
    struct child_end end;
    char *const arguments[] = {self, "child", NULL};
    char *const environment[] = {preload, "EBBMALLOC_PURGE_DELAY=x", "EBBMALLOC_THREAD_CACHE=y",
                                 NULL};
    run_program(&end, arguments, environment);
    assert_child_passed(&end);
    const char *second = strchr(end.words, '\n');
    assert_non_null(second);
    assert_one_line_with(second + 1, "ebbmalloc: EBBMALLOC_", ", using default ");
    assert_non_null(strstr(end.words, "EBBMALLOC_PURGE_DELAY=x"));
    assert_non_null(strstr(end.words, "EBBMALLOC_THREAD_CACHE=y"));
}

static void assert_huge_pages(const char *variable, const char *expected)
{
    struct child_end end;
    char *const arguments[] = {self, "huge pages", NULL};
    char *const environment[] = {preload, (char *)variable, NULL};
    run_program(&end, arguments, environment);
    assert_child_passed(&end);
    assert_string_equal(end.words, expected);
}

static void huge_pages_are_kept_out_of_chunks_or_asked_for(void **state)
{
    (void)state;
    if (access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0) {
        print_message("this kernel has no transparent huge pages\n");
        skip();
    }
    const char *const off = "chunk: nh\nhuge block:\nlarger:\n";
    assert_huge_pages(NULL, off);
    assert_huge_pages("EBBMALLOC_HUGE_PAGES=off", off);
    assert_huge_pages("EBBMALLOC_HUGE_PAGES=kernel", "chunk:\nhuge block:\nlarger:\n");
    assert_huge_pages("EBBMALLOC_HUGE_PAGES=on", "chunk: hg\nhuge block: hg\nlarger: hg\n");
}

static bool is_known(const char *name, size_t length)
{
    for (int i = 0; i < option_count; i++)
        if (strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0)
            return true;
    return false;
}

/* The library itself lists them, when asked for one that is not there. */
static void the_options_tested_here_are_all_there_are(void **state)
{
    (void)state;
    struct child_end end;
    int found = 0;
    run_with(&end, "EBBMALLOC_NO_SUCH_OPTION=1");
    const char *name = strstr(end.words, "expected one of ");
    assert_non_null(name);
    while ((name = strstr(name, "EBBMALLOC_")) != NULL) {
        const size_t length = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
        if (!is_known(name, length))
            fail_msg("no test for the option %.*s", (int)length, name);
        name += length;
        found++;
    }
    assert_int_equal(found, option_count);
}

int main(int argument_count, char **arguments)
{
    if (argument_count == 2 && strcmp(arguments[1], "child") == 0)
        return work();
    if (argument_count == 2 && strcmp(arguments[1], "huge pages") == 0)
        return show_huge_pages();
    require_library();
    if (!on_ebbmalloc()) {
        puts("the options are ebbmalloc's own: nothing to test here");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_good_value_is_taken_in_silence),
        cmocka_unit_test(every_bad_value_gives_one_line_and_the_default),
        cmocka_unit_test(a_value_as_long_as_a_page_gives_one_line_too),
        cmocka_unit_test(a_value_with_line_breaks_gives_one_line_too),
        cmocka_unit_test(a_name_that_is_no_option_is_named_in_one_line),
        cmocka_unit_test(names_of_others_are_none_of_its_business),
        cmocka_unit_test(a_process_with_no_environment_but_the_preload_works),
        cmocka_unit_test(two_bad_values_give_two_lines),
        cmocka_unit_test(huge_pages_are_kept_out_of_chunks_or_asked_for),
        cmocka_unit_test(the_options_tested_here_are_all_there_are),
    };
    return cmocka_run_group_tests(tests, find_paths, NULL);
}
