/* Whether memory is short: the kernel's texts, read and misread. */
#include "support.h"

#include <stdio.h>

#include "pressure.h"

#define GiB (1024 * MiB)

static void numbers_are_read_whole_or_not_at_all(void **state)
{
    (void)state;
    const struct {
        const char *text;
        uint64_t value;
    } good[] = {
        {"0", 0},
        {"1048576", 1048576},
        {"9223372036854771712", 9223372036854771712u},
        {"18446744073709551615", UINT64_MAX},
        {"max", UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t value = 4711;
        assert_true(pressure_parse_number(good[i].text, &value));
        assert_int_equal(value, good[i].value);
    }
    const char *const bad[] = {"",     "-1",   " 1",  "1 ",
                               "1x",   "maxi", "ma",  "18446744073709551616",
                               "0x10", "1.5",  "MAX", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t value;
        if (pressure_parse_number(bad[i], &value))
            fail_msg("\"%s\" was read as %zu", bad[i], (size_t)value);
    }
}

static void check_membership(const char *line, enum pressure_version version, const char *path)
{
    enum pressure_version read_version;
    const char *read_path;
    if (!pressure_parse_membership(line, &read_version, &read_path))
        fail_msg("not understood: %s", line);
    assert_int_equal(read_version, version);
    assert_string_equal(read_path, path);
}

static void memberships_are_those_that_count_memory(void **state)
{
    (void)state;
    check_membership("0::/", GROUPS_V2, "/");
    check_membership("0::/user.slice/a b", GROUPS_V2, "/user.slice/a b");
    check_membership("0::/../x", GROUPS_V2, "/../x");
    check_membership("4:memory:/docker/1", GROUPS_V1, "/docker/1");
    check_membership("11:cpuset,memory:/a:b", GROUPS_V1, "/a:b");
    check_membership("11:memory,hugetlb:/", GROUPS_V1, "/");
    const char *const others[] = {"",
                                  "0::",
                                  "0:",
                                  "0",
                                  "::/",
                                  ":memory:/",
                                  "1:cpu:/",
                                  "4:memory",
                                  "4:memory:",
                                  "4:memory:x",
                                  "x:memory:/",
                                  "3::/",
                                  "2:memoryx:/",
                                  "2:xmemory:/a",
                                  "9:name=memory:/",
                                  "5:memory"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        enum pressure_version version;
        const char *path;
        if (pressure_parse_membership(others[i], &version, &path))
            fail_msg("read as a membership: %s", others[i]);
    }
}

static void check_mount(const char *line, enum pressure_version version, const char *root,
                        const char *point)
{
    char copy[512];
    struct pressure_mount mount;
    strcpy(copy, line);
    if (!pressure_parse_mount(copy, &mount))
        fail_msg("not understood: %s", line);
    assert_int_equal(mount.version, version);
    assert_string_equal(mount.root, root);
    assert_string_equal(mount.point, point);
}

static void mounts_are_those_that_show_memory(void **state)
{
    (void)state;
    check_mount("41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw", GROUPS_V2,
                "/", "/sys/fs/cgroup");
    check_mount("41 31 0:38 /.. /x rw - cgroup2 none rw,nsdelegate", GROUPS_V2, "/..", "/x");
    check_mount("41 31 0:38 / /x rw shared:1 master:2 - cgroup2  rw", GROUPS_V2, "/", "/x");
    check_mount("35 31 0:32 /docker/1 /m rw - cgroup cgroup rw,memory", GROUPS_V1, "/docker/1",
                "/m");
    check_mount("35 31 0:32 / /m rw - cgroup cgroup rw,cpu,memory,xattr", GROUPS_V1, "/", "/m");
    check_mount("1 2 0:3 /a\\040b /c\\011d\\134e\\012 rw - cgroup2 none rw", GROUPS_V2, "/a b",
                "/c\td\\e\n");
    check_mount("1 2 0:3 /a\\04 /\\400\\x rw - cgroup2 none rw", GROUPS_V2, "/a\\04", "/\\400\\x");
    const char *const others[] = {
        "",
        "1",
        "1 2 3",
        "1 2 0:3 / /x rw",
        "1 2 0:3 / /x rw -",
        "1 2 0:3 / /x rw - cgroup2",
        "1 2 0:3 / /x rw - cgroup2 none",
        "1 2 0:3 / /x rw - cgroup cgroup rw,cpu",
        "1 2 0:3 / /x rw - cgroup memory rw",
        "1 2 0:3 / /x rw - cgroup cgroup rw,memoryless",
        "1 2 0:3 / /x rw - tmpfs memory rw,memory",
        "1 2 0:3 x /x rw - cgroup2 none rw",
        "1 2 0:3 / x rw - cgroup2 none rw",
        "1 2 0:3 /  rw - cgroup2 none rw",
        "1 2 0:3 / /x rw cgroup2 none rw",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char copy[128];
        struct pressure_mount mount;
        strcpy(copy, others[i]);
        if (pressure_parse_mount(copy, &mount))
            fail_msg("read as a mount: %s", others[i]);
    }
}

static void a_group_is_found_below_its_mount_and_nowhere_else(void **state)
{
    (void)state;
    assert_string_equal(pressure_path_below("/", "/"), "");
    assert_string_equal(pressure_path_below("/", "/a/b"), "/a/b");
    assert_string_equal(pressure_path_below("/a", "/a"), "");
    assert_string_equal(pressure_path_below("/a", "/a/b"), "/b");
    assert_string_equal(pressure_path_below("/..", "/../x"), "/x");
    assert_string_equal(pressure_path_below("/", "/..a/b../..."), "/..a/b../...");
    assert_null(pressure_path_below("/a", "/ab"));
    assert_null(pressure_path_below("/a/b", "/a"));
    assert_null(pressure_path_below("/a", "/"));
    assert_null(pressure_path_below("/", "/.."));
    assert_null(pressure_path_below("/", "/../x"));
    assert_null(pressure_path_below("/", "/a/../../x"));
    assert_null(pressure_path_below("/..", "/../../x"));
    assert_null(pressure_path_below("/..", "/"));
}

static void stalls_are_read(void **state)
{
    (void)state;
    uint64_t average, sum;
    assert_true(pressure_parse_stalls("some avg10=12.34 avg60=1.00 avg300=0.00 total=56789",
                                      &average, &sum));
    assert_int_equal(average, 1234);
    assert_int_equal(sum, 56789);
    assert_true(pressure_parse_stalls("some avg10=100.00 total=0", &average, &sum));
    assert_int_equal(average, 10000);
    assert_true(pressure_parse_stalls("some avg10=0.07 total=1", &average, &sum));
    assert_int_equal(average, 7);
    const char *const bad[] = {
        "",
        "some",
        "full avg10=12.34 total=1",
        "some avg10=12 total=1",
        "some avg10=.34 total=1",
        "some avg10=12.3 total=1",
        "some avg10=12.345 total=1",
        "some avg10=-1.00 total=1",
        "some avg10=101.00 total=1",
        "some avg10=99999999999999999999.00 total=1",
        "some avg10=12.34",
        "some avg10=12.34 total=",
        "some avg10=12.34 total=1x",
        "some avg10=12.34 total=99999999999999999999",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (pressure_parse_stalls(bad[i], &average, &sum))
            fail_msg("read as stalls: %s", bad[i]);
}

static void the_margin_has_a_share_a_least_and_a_most(void **state)
{
    (void)state;
    assert_int_equal(pressure_margin(0), 0);
    assert_int_equal(pressure_margin(4 * MiB), 2 * MiB);
    assert_int_equal(pressure_margin(8 * MiB), 4 * MiB);
    assert_int_equal(pressure_margin(64 * MiB), 4 * MiB);
    assert_int_equal(pressure_margin(160 * MiB), 10 * MiB);
    assert_int_equal(pressure_margin(16 * GiB), 1 * GiB);
    assert_int_equal(pressure_margin(17 * GiB), 1 * GiB);
    assert_int_equal(pressure_margin(UINT64_MAX), 1 * GiB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read_whole_or_not_at_all),
        cmocka_unit_test(memberships_are_those_that_count_memory),
        cmocka_unit_test(mounts_are_those_that_show_memory),
        cmocka_unit_test(a_group_is_found_below_its_mount_and_nowhere_else),
        cmocka_unit_test(stalls_are_read),
        cmocka_unit_test(the_margin_has_a_share_a_least_and_a_most),
    };
    return cmocka_run_group_tests_name("pressure-texts", tests, NULL, NULL);
}
