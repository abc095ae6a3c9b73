/* cmocka.h: as much of cmocka as tests/unit and tests/api use, for where no package of it is. A
 * failure ends the program; a test that is skipped says so, or is among the names, each between
 * blanks, in the variable EBB_TESTS_LEFT_OUT.
 */
#ifndef EBB_TESTS_GROUNDS_CMOCKA_H
#define EBB_TESTS_GROUNDS_CMOCKA_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
    int (*set_up)(void **state);
    int (*tear_down)(void **state);
};

#define cmocka_unit_test(test) cmocka_unit_test_setup_teardown(test, NULL, NULL)
#define cmocka_unit_test_setup(test, set_up) cmocka_unit_test_setup_teardown(test, set_up, NULL)
#define cmocka_unit_test_setup_teardown(function, before, after)                                   \
    ((struct CMUnitTest){.name = #function, .test = function, .set_up = before, .tear_down = after})

static jmp_buf cmocka_end_of_test;

#define fail_msg(...)                                                                              \
    (fflush(stdout), fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), \
     fputc('\n', stderr), exit(1))
#define print_message printf
#define skip() longjmp(cmocka_end_of_test, 1)

#define cmocka_must(true_one, words) ((true_one) ? (void)0 : fail_msg("not so: %s", words))
#define assert_true(value) cmocka_must(value, #value)
#define assert_false(value) cmocka_must(!(value), "not " #value)
#define assert_null(value) cmocka_must((value) == NULL, #value " == NULL")
#define assert_non_null(value) cmocka_must((value) != NULL, #value " != NULL")
#define assert_int_equal(a, b) cmocka_must((uintmax_t)(a) == (uintmax_t)(b), #a " == " #b)
#define assert_int_not_equal(a, b) cmocka_must((uintmax_t)(a) != (uintmax_t)(b), #a " != " #b)
#define assert_ptr_equal(a, b) cmocka_must((const void *)(a) == (const void *)(b), #a " == " #b)
#define assert_ptr_not_equal(a, b) cmocka_must((const void *)(a) != (const void *)(b), #a " != " #b)
#define assert_string_equal(a, b)                                                                  \
    (strcmp(a, b) == 0 ? (void)0 : fail_msg("not so: %s == %s: \"%s\"", #a, #b, a))
#define assert_string_not_equal(a, b) cmocka_must(strcmp(a, b) != 0, #a " != " #b)
#define assert_memory_equal(a, b, size) cmocka_must(memcmp(a, b, size) == 0, #a " == " #b)
#define assert_in_range(value, least, most)                                                        \
    cmocka_must((uintmax_t)(value) >= (uintmax_t)(least) &&                                        \
                    (uintmax_t)(value) <= (uintmax_t)(most),                                       \
                #value " in " #least " to " #most)

static inline bool cmocka_is_left_out(const char *name)
{
    const char *names = getenv("EBB_TESTS_LEFT_OUT");
    char word[128];
    snprintf(word, sizeof word, " %s ", name);
    return names != NULL && strstr(names, word) != NULL;
}

static inline int cmocka_run(const struct CMUnitTest *tests, size_t count,
                             int (*set_up)(void **state), int (*tear_down)(void **state))
{
    void *state = NULL;
    if (set_up != NULL && set_up(&state) != 0)
        fail_msg("no set-up");
    for (size_t i = 0; i < count; i++) {
        if (tests[i].set_up != NULL && tests[i].set_up(&state) != 0)
            fail_msg("%s: no set-up", tests[i].name);
        const char *end = "SKIPPED";
        if (!cmocka_is_left_out(tests[i].name) && setjmp(cmocka_end_of_test) == 0) {
            tests[i].test(&state);
            end = "OK";
        }
        printf("%s: %s\n", end, tests[i].name);
        if (tests[i].tear_down != NULL && tests[i].tear_down(&state) != 0)
            fail_msg("%s: no tear-down", tests[i].name);
    }
    return tear_down != NULL ? tear_down(&state) : 0;
}

#define cmocka_run_group_tests(tests, set_up, tear_down)                                           \
    cmocka_run(tests, sizeof(tests) / sizeof(tests)[0], set_up, tear_down)
#define cmocka_run_group_tests_name(name, tests, set_up, tear_down)                                \
    cmocka_run_group_tests(tests, set_up, tear_down)

#endif
