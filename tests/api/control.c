/* mallopt, mallinfo, mallinfo2, malloc_info, malloc_stats: what tools and programs ask for. */
#include "support.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

#include "older.h"

/* Deprecated in favour of mallinfo2, and still what most programs call. */
static struct mallinfo call_mallinfo(void)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    return mallinfo();
#pragma GCC diagnostic pop
}

static void use_malloc(void)
{
    for (size_t i = 0; border_sizes[i] <= 8 * MIB; i++) {
        char *block = malloc(border_sizes[i]);
        assert_non_null(block);
        fill(block, border_sizes[i], i);
        block = realloc(block, border_sizes[i] + 1);
        assert_non_null(block);
        assert_int_equal(first_bad_byte(block, border_sizes[i], i), border_sizes[i]);
        free(block);
    }
}

static void mallopt_answers_0_or_1_and_breaks_nothing(void **state)
{
    (void)state;
    const int parameters[] = {M_MXFAST,   M_TRIM_THRESHOLD, M_TOP_PAD,    M_MMAP_THRESHOLD,
                              M_MMAP_MAX, M_CHECK_ACTION,   M_ARENA_TEST, M_ARENA_MAX,
                              M_NLBLKS,   M_GRAIN,          M_KEEP,       -100,
                              INT32_MIN,  INT32_MAX};
    const int values[] = {0, 1, 64, 4096, 1 << 20, INT32_MAX, -1};
    char *kept = malloc(5000);
    assert_non_null(kept);
    fill(kept, 5000, 11);
    for (size_t p = 0; p < sizeof parameters / sizeof *parameters; p++) {
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            const int answer = mallopt(parameters[p], values[v]);
            assert_true(answer == 0 || answer == 1);
            free(malloc(300000));
        }
        use_malloc();
    }
    assert_int_equal(first_bad_byte(kept, 5000, 11), 5000);
    free(kept);
}

static void mallopt_refuses_what_has_no_meaning_here(void **state)
{
    (void)state;
    skip_on_other_malloc();
    const int parameters[] = {M_MXFAST,  M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_TEST,
                              M_PERTURB, M_NLBLKS,  M_GRAIN,          M_KEEP,     M_ARENA_MAX,
                              0,         -100,      INT32_MIN,        INT32_MAX};
    const int values[] = {0, 1, 3, 4096, INT32_MAX, -1};
    for (size_t p = 0; p < sizeof parameters / sizeof *parameters; p++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++)
            if (mallopt(parameters[p], values[v]) != 0)
                fail_msg("mallopt(%d, %d) was accepted", parameters[p], values[v]);
    use_malloc();
}

/* A mistake is told, and ends the program: there is no other way. */
static void mallopt_accepts_the_one_check_action_there_is(void **state)
{
    (void)state;
    skip_on_other_malloc();
    assert_int_equal(mallopt(M_CHECK_ACTION, 3), 1);
    const int others[] = {0, 1, 2, 4, 5, 7, -1};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(mallopt(M_CHECK_ACTION, others[i]), 0);
}

static void mallopt_accepts_every_trim_threshold(void **state)
{
    (void)state;
    const int values[] = {-1, 0, 1 << 20, 1 << 30, INT32_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        assert_int_equal(mallopt(M_TRIM_THRESHOLD, values[i]), 1);
    use_malloc();
}

enum { held_count = 40000 };
static void *held[held_count];

/* Returns how many bytes it asked for: about 80 MiB of blocks from 256 to 4000 bytes. */
static size_t hold_small_blocks(void)
{
    size_t asked = 0;
    uint64_t random = 5;
    for (int i = 0; i < held_count; i++) {
        const size_t size = 256 + next_random(&random) % 3745;
        held[i] = malloc(size);
        assert_non_null(held[i]);
        asked += size;
    }
    return asked;
}

static void release_blocks(void)
{
    for (int i = 0; i < held_count; i++) {
        free(held[i]);
        held[i] = NULL;
    }
}

static void assert_within_13_percent(size_t value, size_t expected)
{
    assert_in_range(value, expected - expected * 13 / 100, expected + expected * 13 / 100);
}

/* ---- M_TRIM_THRESHOLD --------------------------------------------------------------------------
 */

/* More than the purge delay by far. */
#define ALONE_SECONDS 2

static size_t hold_large_blocks(void)
{
    for (int i = 0; i < 640; i++) {
        child_check((held[i] = malloc(100 * KIB)) != NULL);
        memset(held[i], 1, 100 * KIB);
    }
    return 640 * 100 * KIB;
}

static size_t hold_huge_blocks(void)
{
    for (int i = 0; i < 3; i++) {
        child_check((held[i] = malloc(20 * MIB)) != NULL);
        memset(held[i], 1, 20 * MIB);
    }
    return 60 * MIB;
}

static size_t hold_and_write_small_blocks(void)
{
    const size_t asked = hold_small_blocks();
    for (int i = 0; i < held_count; i++)
        memset(held[i], 1, 256);
    return asked;
}

/* A process of its own: whatever it frees is left alone below the threshold, and when that is
 * lowered, it is not. */
static int rise_and_fall_below(int threshold)
{
    size_t (*const holds[])(void) = {hold_and_write_small_blocks, hold_large_blocks,
                                     hold_huge_blocks};
    memset(held, 0, sizeof held);
    const size_t start = resident_bytes();
    child_check(mallopt(M_TRIM_THRESHOLD, threshold) == 1);
    for (size_t i = 0; i < sizeof holds / sizeof *holds; i++) {
        const size_t asked = holds[i]();
        const size_t peak = resident_bytes();
        child_check(peak >= start + 48 * MIB && asked >= 48 * MIB);
        release_blocks();
        sleep(ALONE_SECONDS);
        const size_t later = resident_bytes();
        if (later + MIB < peak) {
            dprintf(STDERR_FILENO, "load %zu, threshold %d: %zu KiB were given back", i, threshold,
                    (peak - later) / KIB);
            return 1;
        }
    }
    child_check(mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1);
    /* More than a thread's cache holds, so that the call comes to the library's notice. */
    for (int i = 0; i < 20; i++)
        held[i] = malloc(opaque(100 * KIB));
    for (int i = 0; i < 20; i++)
        free(held[i]);
    sleep(ALONE_SECONDS);
    child_check(resident_bytes() <= start + 8 * MIB);
    return 0;
}

/* As they do in the hardened mode. */
static void skip_if_large_blocks_go_at_once(void)
{
    if (is_hardened())
        skip();
}

static void assert_left_alone_below(const char *threshold)
{
    struct child_end end;
    char *const arguments[] = {"/proc/self/exe", "threshold", (char *)threshold, NULL};
    run_program(&end, arguments, environ);
    assert_child_passed(&end);
}

static void a_process_below_its_trim_threshold_is_left_alone(void **state)
{
    (void)state;
    skip_on_other_malloc();
    skip_if_large_blocks_go_at_once();
    assert_left_alone_below("1073741824");
}

static void a_process_without_a_trim_threshold_is_left_alone(void **state)
{
    (void)state;
    skip_on_other_malloc();
    skip_if_large_blocks_go_at_once();
    assert_left_alone_below("-1");
}

static void mallinfo2_uordblks_follows_small_blocks_within_13_percent(void **state)
{
    (void)state;
    const struct mallinfo2 before = mallinfo2();
    const size_t asked = hold_small_blocks();
    const struct mallinfo2 held_now = mallinfo2();
    assert_within_13_percent(held_now.uordblks - before.uordblks, asked);
    release_blocks();
    const struct mallinfo2 after = mallinfo2();
    assert_within_13_percent(held_now.uordblks - after.uordblks, asked);
}

/* glibc counts mappings of their own in hblkhd, not in uordblks. (Large blocks are whole pages of
 * 32 KiB: the sizes below are those that come out even enough.) */
static size_t used_bytes(void)
{
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void mallinfo2_follows_large_and_huge_blocks_within_13_percent(void **state)
{
    (void)state;
    const size_t sizes[] = {120000, 200 * KIB, 3 * MIB, 40 * MIB};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const size_t before = used_bytes();
        for (int i = 0; i < 10; i++)
            assert_non_null(held[i] = malloc(sizes[s]));
        const size_t full = used_bytes();
        assert_within_13_percent(full - before, 10 * sizes[s]);
        for (int i = 0; i < 10; i++)
            free(held[i]);
        assert_within_13_percent(full - used_bytes(), 10 * sizes[s]);
    }
}

enum { passed_count = 4 };
static void *passed[2][passed_count];

static void *take_blocks(void *unused)
{
    for (int i = 0; i < passed_count; i++) {
        passed[0][i] = malloc(1000000);
        passed[1][i] = malloc(200000);
    }
    return unused;
}

/* They lie in the cache of the one thread then, and their spans are the other one's. */
static void large_blocks_freed_by_another_thread_are_not_live(void **state)
{
    (void)state;
    skip_on_other_malloc();
    pthread_t taker;
    const size_t before = used_bytes();
    assert_int_equal(pthread_create(&taker, NULL, take_blocks, NULL), 0);
    assert_int_equal(pthread_join(taker, NULL), 0);
    for (int i = 0; i < passed_count; i++) {
        assert_true(passed[0][i] != NULL && passed[1][i] != NULL);
        free(passed[0][i]);
        free(passed[1][i]);
    }
    assert_in_range(used_bytes(), 0, before + 64 * KIB);
}

static void mallinfo2_parts_make_no_more_than_the_whole(void **state)
{
    (void)state;
    hold_small_blocks();
    for (int i = 0; i < held_count; i += 2) {
        free(held[i]);
        held[i] = NULL;
    }
    const struct mallinfo2 info = mallinfo2();
    release_blocks();
    assert_true(info.arena > 0);
    assert_true(info.uordblks > 0);
    assert_true(info.fordblks > 0);
    assert_true(info.uordblks + info.fordblks <= info.arena);
}

static void mallinfo_says_the_same_as_mallinfo2(void **state)
{
    (void)state;
    hold_small_blocks();
    const struct mallinfo small = call_mallinfo();
    const struct mallinfo2 large = mallinfo2();
    release_blocks();
    assert_int_equal((size_t)small.arena, large.arena);
    assert_int_equal((size_t)small.ordblks, large.ordblks);
    assert_int_equal((size_t)small.hblks, large.hblks);
    assert_int_equal((size_t)small.hblkhd, large.hblkhd);
    assert_int_equal((size_t)small.uordblks, large.uordblks);
    assert_int_equal((size_t)small.fordblks, large.fordblks);
}

static void malloc_info_refuses_options(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    assert_non_null(stream);
    assert_int_equal(malloc_info(1, stream), EINVAL);
    assert_int_equal(malloc_info(-1, stream), EINVAL);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(length, 0);
    free(text);
}

/* Into a stream that itself allocates while it is written to. */
static char *info_text(void)
{
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    assert_non_null(stream);
    assert_int_equal(malloc_info(0, stream), 0);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(strlen(text), length);
    return text;
}

static void malloc_info_writes_one_malloc_element(void **state)
{
    (void)state;
    char *text = info_text();
    assert_int_equal(strncmp(text, "<malloc version=\"", strlen("<malloc version=\"")), 0);
    assert_non_null(strstr(text, "</malloc>\n"));
    assert_string_equal(strstr(text, "</malloc>\n"), "</malloc>\n");
    free(text);
}

/* A real parser decides. python3 is there wherever the rest of the tests can run. */
static int parse_as_xml(const char *text)
{
    FILE *parser = popen("env -u LD_PRELOAD python3 -c '"
                         "import sys, xml.etree.ElementTree as tree\n"
                         "root = tree.fromstring(sys.stdin.read())\n"
                         "sys.exit(root.tag != \"malloc\" or len(root) == 0)' 2>/dev/null",
                         "w");
    assert_non_null(parser);
    fputs(text, parser);
    return pclose(parser);
}

static void malloc_info_is_well_formed_xml(void **state)
{
    (void)state;
    assert_int_equal(parse_as_xml("<malloc version=\"1\"><heap/></malloc>"), 0);
    assert_int_not_equal(parse_as_xml("<malloc version=\"1\"><heap></malloc>"), 0);
    char *text = info_text();
    assert_int_equal(parse_as_xml(text), 0);
    free(text);
}

struct capture {
    int descriptor, file, saved;
};

static struct capture begin_capture(int descriptor)
{
    fflush(NULL);
    struct capture capture = {descriptor, memfd_create("captured", MFD_CLOEXEC), dup(descriptor)};
    assert_true(capture.file >= 0 && capture.saved >= 0);
    dup2(capture.file, descriptor);
    return capture;
}

static size_t end_capture(const struct capture *capture, char *text, size_t size)
{
    fflush(NULL);
    dup2(capture->saved, capture->descriptor);
    const ssize_t length = pread(capture->file, text, size - 1, 0);
    close(capture->file);
    close(capture->saved);
    assert_true(length >= 0);
    text[length] = '\0';
    return (size_t)length;
}

static void malloc_stats_writes_whole_lines_to_stderr_alone(void **state)
{
    (void)state;
    static char on_stderr[1 << 16], on_stdout[100];
    const struct capture out = begin_capture(STDOUT_FILENO);
    const struct capture err = begin_capture(STDERR_FILENO);
    malloc_stats();
    const size_t length = end_capture(&err, on_stderr, sizeof on_stderr);
    assert_int_equal(end_capture(&out, on_stdout, sizeof on_stdout), 0);
    assert_true(length > 0);
    assert_int_equal(on_stderr[length - 1], '\n');
}

/* The number of bytes in use that malloc_stats() prints must be there and move with the load. */
static void malloc_stats_show_what_is_held(void **state)
{
    (void)state;
    static char idle[1 << 16], busy[1 << 16];
    struct capture err = begin_capture(STDERR_FILENO);
    malloc_stats();
    end_capture(&err, idle, sizeof idle);
    hold_small_blocks();
    err = begin_capture(STDERR_FILENO);
    malloc_stats();
    end_capture(&err, busy, sizeof busy);
    release_blocks();
    assert_string_not_equal(idle, busy);
}

static void errno_is_kept_by_those_that_cannot_fail(void **state)
{
    (void)state;
    struct capture err = begin_capture(STDERR_FILENO);
    static char words[1 << 16];
    errno = EDOM;
    malloc_stats();
    const int after_stats = errno;
    end_capture(&err, words, sizeof words);
    assert_int_equal(after_stats, EDOM);
    errno = EDOM;
    mallinfo2();
    call_mallinfo();
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    assert_int_equal(errno, EDOM);
}

int main(int argument_count, char **arguments)
{
    require_library();
    if (argument_count == 3 && strcmp(arguments[1], "threshold") == 0)
        return rise_and_fall_below(atoi(arguments[2]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mallinfo2_uordblks_follows_small_blocks_within_13_percent),
        cmocka_unit_test(mallinfo2_follows_large_and_huge_blocks_within_13_percent),
        cmocka_unit_test(large_blocks_freed_by_another_thread_are_not_live),
        cmocka_unit_test(mallinfo2_parts_make_no_more_than_the_whole),
        cmocka_unit_test(mallinfo_says_the_same_as_mallinfo2),
        cmocka_unit_test(malloc_info_refuses_options),
        cmocka_unit_test(malloc_info_writes_one_malloc_element),
        cmocka_unit_test(malloc_info_is_well_formed_xml),
        cmocka_unit_test(malloc_stats_writes_whole_lines_to_stderr_alone),
        cmocka_unit_test(malloc_stats_show_what_is_held),
        cmocka_unit_test(errno_is_kept_by_those_that_cannot_fail),
        /* Last, since on glibc they change what the numbers above mean. */
        cmocka_unit_test(a_process_below_its_trim_threshold_is_left_alone),
        cmocka_unit_test(a_process_without_a_trim_threshold_is_left_alone),
        cmocka_unit_test(mallopt_refuses_what_has_no_meaning_here),
        cmocka_unit_test(mallopt_accepts_the_one_check_action_there_is),
        cmocka_unit_test(mallopt_accepts_every_trim_threshold),
        cmocka_unit_test(mallopt_answers_0_or_1_and_breaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
