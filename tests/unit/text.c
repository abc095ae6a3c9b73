/* Words without malloc or stdio: the format against snprintf, and what reaches the descriptor. */
#include "support.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "text.h"

/* Formats with both and compares, in a buffer that holds all. */
#define check_format(...)                                                                          \
    do {                                                                                           \
        char ours[256], theirs[256];                                                               \
        size_t length = text_format(ours, sizeof ours, __VA_ARGS__);                               \
        assert_int_equal(length, snprintf(theirs, sizeof theirs, __VA_ARGS__));                    \
        assert_string_equal(ours, theirs);                                                         \
    } while (0)

static void every_conversion_reads_as_printf_writes_it(void **state)
{
    (void)state;
    check_format("plain words");
    check_format("100 %%");
    check_format("%s and %s", "one", "another");
    check_format("%c%c", 'x', 'y');
    check_format("%d %d %d %d", 0, -1, INT_MAX, INT_MIN);
    check_format("%u %u", 0u, UINT_MAX);
    check_format("%zu %zu", (size_t)0, SIZE_MAX);
    check_format("%p", (void *)0x7f0012345670);
    check_format("%p", (void *)UINTPTR_MAX);
    check_format("a%sb%dc%zud%ce%uf", "S", 1, (size_t)2, 'C', 3u);
}

static void widths_pad_on_the_side_that_was_asked_for(void **state)
{
    (void)state;
    check_format("[%5s][%-5s][%1s]", "abc", "abc", "abc");
    check_format("[%12d][%-12d]", -42, -42);
    check_format("[%4u][%-4u][%2u]", 7u, 7u, 12345u);
    check_format("[%20zu][%-20zu]", SIZE_MAX, (size_t)1);
    check_format("%-28s %11zu KiB  %s", "live, small blocks", (size_t)12345, "note");
}

static void a_null_pointer_is_written_as_a_number(void **state)
{
    (void)state;
    char text[16];
    assert_int_equal(text_format(text, sizeof text, "%p", NULL), 3);
    assert_string_equal(text, "0x0");
}

static void what_is_too_long_is_cut_and_ended(void **state)
{
    (void)state;
    const char *all = "value 123456 end";
    for (size_t capacity = 1; capacity <= strlen(all) + 4; capacity++) {
        char buffer[64];
        memset(buffer, 'X', sizeof buffer);
        size_t length = text_format(buffer, capacity, "value %d %s", 123456, "end");
        size_t expected = capacity - 1 < strlen(all) ? capacity - 1 : strlen(all);
        assert_int_equal(length, expected);
        assert_memory_equal(buffer, all, expected);
        assert_int_equal(buffer[expected], '\0');
        assert_int_equal(buffer[capacity], 'X');
    }
}

static void text_from_outside_is_made_printable_and_short(void **state)
{
    (void)state;
    char buffer[16];
    assert_string_equal(text_tame(buffer, sizeof buffer, "fine"), "fine");
    assert_string_equal(text_tame(buffer, sizeof buffer, ""), "");
    assert_string_equal(text_tame(buffer, sizeof buffer, "a\nb\x1b\x7f\xc3"), "a?b???");
    assert_string_equal(text_tame(buffer, sizeof buffer, "123456789012345"), "123456789012345");
    assert_string_equal(text_tame(buffer, sizeof buffer, "1234567890123456"), "123456789012...");
    for (int character = 1; character < 256; character++) {
        char text[] = {(char)character, '\0'};
        text_tame(buffer, sizeof buffer, text);
        assert_int_equal(buffer[0], character >= ' ' && character <= '~' ? character : '?');
    }
}

/* Calls function with stderr at a socket that keeps each write apart; returns the number of writes
 * and the text of the first. */
static int writes_of(void (*function)(void), char *text, size_t capacity)
{
    int ends[2], saved = dup(2), count = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    dup2(ends[1], 2);
    function();
    dup2(saved, 2);
    close(saved);
    close(ends[1]);
    char rest[2048];
    for (ssize_t got; (got = read(ends[0], count == 0 ? text : rest,
                                  count == 0 ? capacity - 1 : sizeof rest)) > 0;
         count++)
        if (count == 0)
            text[got] = '\0';
    close(ends[0]);
    return count;
}

static void warn_short(void)
{
    text_warn("%s=%d", "answer", 42);
}

static void print_short(void)
{
    text_line("as given %zu", (size_t)7);
}

static void warn_long(void)
{
    char words[2 * TEXT_LINE];
    memset(words, 'w', sizeof words - 1);
    words[sizeof words - 1] = '\0';
    text_warn("%s", words);
}

static void a_line_is_one_write(void **state)
{
    (void)state;
    char text[2048];
    assert_int_equal(writes_of(warn_short, text, sizeof text), 1);
    assert_string_equal(text, "ebbmalloc: answer=42\n");
    assert_int_equal(writes_of(print_short, text, sizeof text), 1);
    assert_string_equal(text, "as given 7\n");
}

static void a_line_that_is_too_long_is_cut_and_still_one_line(void **state)
{
    (void)state;
    char text[2048];
    assert_int_equal(writes_of(warn_long, text, sizeof text), 1);
    assert_true(strlen(text) <= TEXT_LINE);
    assert_memory_equal(text, "ebbmalloc: www", 14);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void give_up(void *address)
{
    text_abort("free", address, "freed twice");
}

static void a_mistake_is_one_line_and_an_abort(void **state)
{
    (void)state;
    char said[256];
    int status = run_in_child(give_up, (void *)0x7f0012345670, said, sizeof said);
    assert_string_equal(said, "ebbmalloc: free(0x7f0012345670): freed twice\n");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_conversion_reads_as_printf_writes_it),
        cmocka_unit_test(widths_pad_on_the_side_that_was_asked_for),
        cmocka_unit_test(a_null_pointer_is_written_as_a_number),
        cmocka_unit_test(what_is_too_long_is_cut_and_ended),
        cmocka_unit_test(text_from_outside_is_made_printable_and_short),
        cmocka_unit_test(a_line_is_one_write),
        cmocka_unit_test(a_line_that_is_too_long_is_cut_and_still_one_line),
        cmocka_unit_test(a_mistake_is_one_line_and_an_abort),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
