/* Whether memory is short: looks at a machine made of files in a temporary folder, with a clock
 * that the test moves on.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pressure.h"

#define GiB (1024 * MiB)

/* ---- a machine of files -----------------------------------------------------------------------
 */

static char machine[64];
static uint64_t clock_ms;

static uint64_t read_clock(void)
{
    return clock_ms;
}

/* Writes a file of the machine, and the directories above it. */
static void put(const char *path, const char *text)
{
    char whole[4400];
    snprintf(whole, sizeof whole, "%s%s", machine, path);
    for (char *slash = strchr(whole + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(whole, 0700) != 0 && errno != EEXIST)
            fail_msg("mkdir %s: %s", whole, strerror(errno));
        *slash = '/';
    }
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void put_number(const char *directory, const char *name, size_t value)
{
    char path[4200], text[32];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    snprintf(text, sizeof text, "%zu\n", value);
    put(path, text);
}

static void drop(const char *path)
{
    char whole[4400];
    snprintf(whole, sizeof whole, "%s%s", machine, path);
    assert_int_equal(remove(whole), 0);
}

static int remove_one(const char *path, const struct stat *unused_status, int unused_kind,
                      struct FTW *unused_walk)
{
    (void)unused_status;
    (void)unused_kind;
    (void)unused_walk;
    return remove(path);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(machine, "/tmp/ebb-pressure-XXXXXX");
    if (mkdtemp(machine) == NULL)
        return 1;
    pressure_root = machine;
    pressure_clock = read_clock;
    clock_ms = 1000000;
    os_page_size = 4096;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pressure_root = "";
    pressure_clock = NULL;
    return nftw(machine, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#define SLICE "/cg/slice"
#define GROUP "/cg/slice/group"

/* Version 2, two groups below the one that is mounted, with room to spare everywhere. */
static void make_version_2(void)
{
    put("/proc/thread-self/cgroup", "1:name=systemd:/elsewhere\n0::/slice/group\n");
    put("/proc/thread-self/mountinfo", "1 0 0:1 / / rw - ext4 /dev/root rw\n"
                                       "2 1 0:2 / /proc rw - proc proc rw\n"
                                       "3 1 0:3 / /cg rw shared:4 - cgroup2 none rw,nsdelegate\n");
    put("/proc/thread-self/statm", "100000 50000 10000 1 0 1 0\n");
    put("/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"
                                 "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n");
    put(GROUP "/memory.max", "max\n");
    put(GROUP "/memory.high", "max\n");
    put_number(GROUP, "memory.current", 800 * MiB);
    put(GROUP "/memory.stat", "anon 1\nfile 2\ninactive_anon 0\nactive_anon 0\n"
                              "inactive_file 0\nactive_file 0\nslab_reclaimable 0\n");
    put_number(SLICE, "memory.max", 2 * GiB);
    put(SLICE "/memory.high", "max\n");
    put_number(SLICE, "memory.current", 1 * GiB);
    put(SLICE "/memory.stat", "inactive_file 0\nactive_file 0\nslab_reclaimable 0\n");
}

/* A look by someone who keeps nothing open. */
static bool is_high(size_t soft_limit)
{
    struct pressure pressure = {.keeps_open = false};
    return pressure_is_high(&pressure, soft_limit);
}

static void without_a_sign_memory_is_not_short(void **state)
{
    (void)state;
    make_version_2();
    assert_false(is_high(0));
}

static void where_nothing_is_known_memory_is_not_short(void **state)
{
    (void)state;
    assert_false(is_high(1));
    put("/proc/thread-self/cgroup", "0::/slice/group\n");
    assert_false(is_high(1));
    put("/proc/thread-self/mountinfo", "3 1 0:3 / /cg rw - cgroup2 none rw\n");
    assert_false(is_high(1));
    put(GROUP "/memory.max", "1\n");
    assert_false(is_high(1));
    put(GROUP "/memory.current", "nonsense\n");
    assert_false(is_high(1));
}

static void a_group_near_its_limit_is_short(void **state)
{
    (void)state;
    make_version_2();
    put_number(GROUP, "memory.max", 1 * GiB);
    put_number(GROUP, "memory.current", 960 * MiB - 1);
    assert_false(is_high(0));
    put_number(GROUP, "memory.current", 960 * MiB);
    assert_true(is_high(0));
    put_number(GROUP, "memory.current", 1100 * MiB);
    assert_true(is_high(0));
    put(GROUP "/memory.max", "max\n");
    assert_false(is_high(0));
    put_number(GROUP, "memory.high", 1 * GiB);
    assert_true(is_high(0));
    drop(GROUP "/memory.high");
    assert_false(is_high(0));
}

static void a_group_above_near_its_limit_is_short(void **state)
{
    (void)state;
    make_version_2();
    put_number(SLICE, "memory.current", 2 * GiB - 100 * MiB);
    assert_true(is_high(0));
    put_number(SLICE, "memory.current", 2 * GiB - 200 * MiB);
    assert_false(is_high(0));
    put_number("/cg", "memory.max", 4 * GiB);
    put_number("/cg", "memory.current", 4 * GiB);
    put("/cg/memory.stat", "active_file 0\n");
    assert_true(is_high(0));
}

static void what_the_kernel_can_drop_is_not_counted(void **state)
{
    (void)state;
    make_version_2();
    put_number(GROUP, "memory.max", 1 * GiB);
    put_number(GROUP, "memory.current", 1 * GiB);
    put(GROUP "/memory.stat", "total_inactive_file 999999999\nfile 999999999\ninactive_file 0\n");
    assert_true(is_high(0));
    put(GROUP "/memory.stat", "inactive_file 67108865\n");
    assert_false(is_high(0));
    put(GROUP "/memory.stat", "anon 1\nactive_file 67108865\nunevictable 0\n");
    assert_false(is_high(0));
    put(GROUP "/memory.stat", "slab_reclaimable 67108865\n");
    assert_false(is_high(0));
    put(GROUP "/memory.stat", "inactive_file 22369622\nactive_file 22369622\n"
                              "slab_reclaimable 22369621\n");
    assert_false(is_high(0));
    put(GROUP "/memory.stat", "inactive_file 22369621\nactive_file 22369621\n"
                              "slab_reclaimable 22369620\n");
    assert_true(is_high(0));
    /* Unknown, or in contradiction to use: no sign. */
    put(GROUP "/memory.stat", "inactive_file 99999999999999999999999\n");
    assert_false(is_high(0));
    put(GROUP "/memory.stat", "inactive_file 2147483648\n");
    assert_false(is_high(0));
    drop(GROUP "/memory.stat");
    assert_false(is_high(0));
}

static void make_version_1(void)
{
    make_version_2();
    put("/proc/thread-self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/1/slice/group\n0::/\n");
    put("/proc/thread-self/mountinfo", "3 1 0:3 / /unified rw - cgroup2 none rw\n"
                                       "4 1 0:4 /docker/1 /cpu rw - cgroup none rw,cpu,cpuacct\n"
                                       "5 1 0:5 /docker/1 /cg rw - cgroup none rw,memory\n");
    put(GROUP "/memory.limit_in_bytes", "9223372036854771712\n");
    put_number(GROUP, "memory.usage_in_bytes", 1 * GiB);
    put(GROUP "/memory.stat", "inactive_file 999999999\nhierarchical_memory_limit 1073741824\n"
                              "total_inactive_file 0\ntotal_active_file 0\n");
}

static void version_1_is_read_as_well(void **state)
{
    (void)state;
    make_version_1();
    assert_false(is_high(0));
    put_number(GROUP, "memory.limit_in_bytes", 1 * GiB);
    assert_true(is_high(0));
    put(GROUP "/memory.stat", "total_inactive_file 67108864\ntotal_active_file 67108864\n");
    assert_false(is_high(0));
    put_number(SLICE, "memory.limit_in_bytes", 2 * GiB);
    put_number(SLICE, "memory.usage_in_bytes", 2 * GiB);
    put(SLICE "/memory.stat", "total_inactive_file 0\n");
    assert_true(is_high(0));
}

static void groups_out_of_sight_are_not_looked_at(void **state)
{
    (void)state;
    make_version_2();
    put_number(GROUP, "memory.max", 1 * MiB);
    assert_true(is_high(0));
    put("/proc/thread-self/cgroup", "0::/../slice/group\n");
    assert_false(is_high(0));
    put("/proc/thread-self/cgroup", "0::/slice/group\n");
    put("/proc/thread-self/mountinfo", "3 1 0:3 /.. /cg rw - cgroup2 none rw\n");
    assert_false(is_high(0));
    put("/proc/thread-self/cgroup", "0::/../slice/group\n");
    assert_true(is_high(0));
}

static void a_mount_where_the_group_is_not_to_be_seen_gives_way_to_the_next(void **state)
{
    (void)state;
    make_version_2();
    put_number(GROUP, "memory.max", 1 * MiB);
    put("/proc/thread-self/mountinfo", "3 1 0:3 / /nowhere rw - cgroup2 none rw\n"
                                       "3 1 0:3 /other /cg rw - cgroup2 none rw\n");
    assert_false(is_high(0));
    put("/proc/thread-self/mountinfo", "3 1 0:3 / /nowhere rw - cgroup2 none rw\n"
                                       "3 1 0:3 /other /cg rw - cgroup2 none rw\n"
                                       "3 1 0:3 / /cg rw - cgroup2 none rw\n");
    assert_true(is_high(0));
}

static void names_with_spaces_are_found(void **state)
{
    (void)state;
    put("/proc/thread-self/cgroup", "0::/my slice/a group\n");
    put("/proc/thread-self/mountinfo", "3 1 0:3 / /my\\040groups rw - cgroup2 none rw\n");
    put_number("/my groups/my slice", "memory.max", 1 * GiB);
    put_number("/my groups/my slice", "memory.current", 1 * GiB);
    put("/my groups/my slice/memory.stat", "active_file 0\n");
    put("/my groups/my slice/a group/memory.max", "max\n");
    assert_true(is_high(0));
}

/* Longer lines than are read, and more of them than are read at once. */
static void long_texts_are_read_to_the_end(void **state)
{
    (void)state;
    static char text[64 * KiB];
    make_version_2();
    put_number(GROUP, "memory.max", 1 * MiB);
    memset(text, '3', 20000);
    strcpy(text + 20000, " 1 0:3 / /cg rw - cgroup2 none rw\n");
    put("/proc/thread-self/mountinfo", text);
    assert_false(is_high(0)); /* the end of a line is not a line */
    char *end = text;
    for (int i = 0; i < 100; i++)
        end += sprintf(end, "%d 1 0:9 / /mnt/%d rw,relatime shared:1 - overlay overlay rw\n", i, i);
    end += sprintf(end, "8 1 0:9 / /mnt/long rw - overlay overlay rw,lowerdir=");
    memset(end, 'l', 20000);
    end += 20000;
    end += sprintf(end, "\n");
    for (int i = 0; i < 100; i++)
        end += sprintf(end, "%d 1 0:9 / /mnt/%d rw,relatime shared:1 - overlay overlay rw\n", i, i);
    sprintf(end, "3 1 0:3 / /cg rw - cgroup2 none rw\n");
    put("/proc/thread-self/mountinfo", text);
    assert_true(is_high(0));
    end = text;
    for (int i = 0; i < 500; i++)
        end += sprintf(end, "something_%d 12345\n", i);
    sprintf(end, "active_file 999999999\n");
    put(GROUP "/memory.stat", text);
    assert_false(is_high(0));
}

/* What ends in the middle of a line may end in the middle of a number. */
static void texts_that_are_cut_off_are_no_sign(void **state)
{
    (void)state;
    make_version_2();
    put_number(GROUP, "memory.max", 1 * GiB);
    put_number(GROUP, "memory.current", 1 * GiB);
    assert_true(is_high(0));
    put(GROUP "/memory.max", "1073741824");
    assert_false(is_high(0));
    put(GROUP "/memory.max", "");
    assert_false(is_high(0));
    put_number(GROUP, "memory.max", 1 * GiB);
    put("/proc/thread-self/mountinfo", "3 1 0:3 / /cg rw - cgroup2 none rw");
    assert_false(is_high(0));
}

/* A path of exactly so many characters, in names that are not too long. */
static void long_path(char *path, size_t length)
{
    for (size_t i = 0; i < length; i++)
        path[i] = i % 200 == 0 ? '/' : 'g';
    path[length] = '\0';
}

/* What is left of a path when it is cut off is another group. */
static void a_path_too_long_is_no_sign(void **state)
{
    (void)state;
    char path[2048], text[4096], directory[4096];
    make_version_2();
    for (size_t length = 900; length < 1100; length++) {
        long_path(path, length);
        snprintf(text, sizeof text, "0::%s\n", path);
        put("/proc/thread-self/cgroup", text);
        if (length == 900 || strlen(machine) + 3 + length == PRESSURE_PATH - 1) {
            snprintf(directory, sizeof directory, "/cg%s", path);
            put_number(directory, "memory.max", 1 * MiB);
            put_number(directory, "memory.current", 1 * MiB);
            snprintf(directory, sizeof directory, "/cg%s/memory.stat", path);
            put(directory, "active_file 0\n");
        }
        assert_int_equal(is_high(0), length == 900);
    }
    /* A mount of the long path itself, of which nothing is left to append. */
    long_path(path, PRESSURE_PATH - 1);
    snprintf(text, sizeof text, "3 1 0:3 %s /cg/slice/group rw - cgroup2 none rw\n", path);
    put("/proc/thread-self/mountinfo", text);
    put_number(GROUP, "memory.max", 1 * MiB);
    snprintf(text, sizeof text, "0::%s\n", path);
    put("/proc/thread-self/cgroup", text);
    assert_true(is_high(0));
    long_path(path, PRESSURE_PATH);
    snprintf(text, sizeof text, "0::%s\n", path);
    put("/proc/thread-self/cgroup", text);
    assert_false(is_high(0));
}

/* The own group is what counts when there are more above it than are looked at. */
static void of_very_many_levels_the_lowest_are_looked_at(void **state)
{
    (void)state;
    put("/proc/thread-self/cgroup", "0::/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20\n");
    put("/proc/thread-self/mountinfo", "3 1 0:3 / /cg rw - cgroup2 none rw\n");
    const char *own = "/cg/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20";
    put_number(own, "memory.max", 1 * GiB);
    put_number(own, "memory.current", 1 * MiB);
    assert_false(is_high(0));
    struct pressure pressure;
    pressure_begin(&pressure, true);
    assert_int_equal(pressure.level_count, PRESSURE_LEVELS);
    put_number(own, "memory.current", 1 * GiB);
    put("/cg/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/memory.stat", "active_file 0\n");
    assert_true(is_high(0));
}

/* ---- soft limit --------------------------------------------------------------------------------
 */

static void the_soft_limit_is_for_resident_memory_without_files(void **state)
{
    (void)state;
    make_version_2();
    put("/proc/thread-self/statm", "100000 50000 10000 1 0 1 0\n");
    assert_true(is_high((size_t)40000 * 4096));
    assert_false(is_high((size_t)40000 * 4096 + 1));
    assert_false(is_high(0));
    os_page_size = 65536;
    assert_true(is_high((size_t)40000 * 65536));
    const char *const bad[] = {
        "100000\n",      "100000 50000\n",         "100000 50000 60000 1\n",
        "x 50000 1 1\n", "100000 50000 10000 1 0", "1 99999999999999999999 0 1\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put("/proc/thread-self/statm", bad[i]);
        if (is_high(1))
            fail_msg("a sign in %s", bad[i]);
    }
}

/* ---- stalls ------------------------------------------------------------------------------------
 */

static void put_stalls(const char *path, const char *average, unsigned total)
{
    char text[128];
    snprintf(text, sizeof text, "some avg10=%s avg60=0.00 avg300=0.00 total=%u\nfull x\n", average,
             total);
    put(path, text);
}

/* With every path of the account, and for both kinds of callers. */
static void check_stalls(const char *path, bool keeps_open)
{
    struct pressure pressure;
    pressure_begin(&pressure, keeps_open);
    put_stalls(path, "10.00", 1000);
    assert_false(pressure_is_high(&pressure, 0)); /* nothing to compare with */
    clock_ms += 500;
    assert_false(pressure_is_high(&pressure, 0)); /* over: the sum stays */
    clock_ms += 500;
    put_stalls(path, "10.00", 1001);
    assert_true(pressure_is_high(&pressure, 0));
    clock_ms += 2500;
    assert_true(pressure_is_high(&pressure, 0)); /* the kernel adds up every two seconds */
    clock_ms += 500;
    assert_false(pressure_is_high(&pressure, 0));
    clock_ms += 500;
    put_stalls(path, "9.99", 2000);
    assert_false(pressure_is_high(&pressure, 0));
    clock_ms += 500;
    put_stalls(path, "99.99", 3000);
    assert_true(pressure_is_high(&pressure, 0));
    clock_ms += 500;
    put(path, "full avg10=99.99 total=9999\n");
    assert_false(pressure_is_high(&pressure, 0));
}

static void stalls_of_the_machine_are_a_sign_while_they_go_on(void **state)
{
    (void)state;
    make_version_2();
    check_stalls("/proc/pressure/memory", false);
    check_stalls("/proc/pressure/memory", true);
    drop("/proc/thread-self/cgroup");
    check_stalls("/proc/pressure/memory", false);
    check_stalls("/proc/pressure/memory", true);
}

static void stalls_of_the_own_group_come_before_those_of_the_machine(void **state)
{
    (void)state;
    make_version_2();
    put_stalls(GROUP "/memory.pressure", "0.00", 1);
    struct pressure pressure = {.keeps_open = false};
    for (unsigned i = 1; i < 5; i++, clock_ms += 500) {
        put_stalls("/proc/pressure/memory", "50.00", i * 1000);
        assert_false(pressure_is_high(&pressure, 0));
    }
    check_stalls(GROUP "/memory.pressure", false);
    put_stalls(GROUP "/memory.pressure", "0.00", 1);
    check_stalls(GROUP "/memory.pressure", true);
}

/* ---- looks -------------------------------------------------------------------------------------
 */

static void looks_have_a_distance(void **state)
{
    (void)state;
    make_version_2();
    for (int keeps_open = 0; keeps_open < 2; keeps_open++) {
        struct pressure pressure;
        put("/proc/thread-self/statm", "100000 50000 10000 1 0 1 0\n");
        pressure_begin(&pressure, keeps_open);
        size_t limit = (size_t)45000 * 4096;
        assert_false(pressure_is_high(&pressure, limit));
        put("/proc/thread-self/statm", "100000 60000 10000 1 0 1 0\n");
        clock_ms += keeps_open ? 49 : 249;
        assert_false(pressure_is_high(&pressure, limit));
        clock_ms += 1;
        assert_true(pressure_is_high(&pressure, limit));
        put("/proc/thread-self/statm", "100000 50000 10000 1 0 1 0\n");
        clock_ms += keeps_open ? 49 : 249;
        assert_true(pressure_is_high(&pressure, limit));
        clock_ms += 1;
        assert_false(pressure_is_high(&pressure, limit));
    }
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    for (int i = 0; i < 1024; i++)
        count += fcntl(i, F_GETFD) != -1;
    return count;
}

static void who_keeps_nothing_open_leaves_nothing_open(void **state)
{
    (void)state;
    make_version_1();
    unsigned before = open_descriptors();
    struct pressure pressure = {.keeps_open = false};
    for (int i = 0; i < 3; i++, clock_ms += 1000) {
        pressure_is_high(&pressure, 1 * MiB);
        assert_int_equal(open_descriptors(), before);
    }
    drop("/proc/thread-self/mountinfo");
    pressure_is_high(&pressure, 1 * MiB);
    drop("/proc/thread-self/cgroup");
    pressure_is_high(&pressure, 1 * MiB);
    assert_int_equal(open_descriptors(), before);
}

/* The program may change its root: then no path leads anywhere. */
static void what_is_kept_open_needs_no_path(void **state)
{
    (void)state;
    struct pressure pressure;
    make_version_2();
    put_number(GROUP, "memory.max", 1 * GiB);
    pressure_begin(&pressure, true);
    assert_false(pressure_is_high(&pressure, 0));
    pressure_root = "/nowhere";
    put_number(GROUP, "memory.current", 1 * GiB);
    unsigned before = open_descriptors();
    for (int i = 0; i < 10; i++) {
        clock_ms += 1000;
        assert_true(pressure_is_high(&pressure, 0));
    }
    assert_true(pressure_is_high(&pressure, 0));
    assert_int_equal(open_descriptors(), before);
    put_number(GROUP, "memory.current", 1 * MiB);
    clock_ms += 1000;
    assert_false(pressure_is_high(&pressure, 0));
    clock_ms += 1000;
    assert_true(pressure_is_high(&pressure, 1 * MiB)); /* statm too */
}

static void a_process_that_moves_is_followed(void **state)
{
    (void)state;
    struct pressure pressure;
    make_version_2();
    put_number("/cg/other", "memory.max", 1 * GiB);
    put_number("/cg/other", "memory.current", 1 * GiB);
    put("/cg/other/memory.stat", "active_file 0\n");
    pressure_begin(&pressure, true);
    unsigned before = open_descriptors();
    assert_false(pressure_is_high(&pressure, 0));
    put("/proc/thread-self/cgroup", "0::/other\n");
    clock_ms += 2000;
    assert_true(pressure_is_high(&pressure, 0));
    assert_int_equal(open_descriptors(), before - 1); /* a level less */
    put("/proc/thread-self/cgroup", "0::/slice/group\n");
    clock_ms += 2000;
    assert_false(pressure_is_high(&pressure, 0));
    assert_int_equal(open_descriptors(), before);
}

/* A group's directory may go, and what is mounted later is found. */
static void groups_that_come_and_go_are_followed(void **state)
{
    (void)state;
    struct pressure pressure;
    make_version_2();
    put_number(GROUP, "memory.max", 1 * MiB);
    put("/proc/thread-self/mountinfo", "1 0 0:1 / / rw - ext4 /dev/root rw\n");
    pressure_begin(&pressure, true);
    assert_false(pressure_is_high(&pressure, 0));
    put("/proc/thread-self/mountinfo", "3 1 0:3 / /cg rw - cgroup2 none rw\n");
    clock_ms += 2000;
    assert_true(pressure_is_high(&pressure, 0));
    drop(GROUP "/memory.max");
    drop(GROUP "/memory.high");
    drop(GROUP "/memory.current");
    drop(GROUP "/memory.stat");
    drop(GROUP);
    clock_ms += 2000;
    assert_false(pressure_is_high(&pressure, 0));
}

static void what_cannot_be_looked_at_is_not_watched(void **state)
{
    (void)state;
    struct pressure pressure;
    pressure_begin(&pressure, true);
    assert_false(pressure_is_watched(&pressure, 0));
    assert_true(pressure_is_watched(&pressure, 1));
    put("/proc/pressure/memory", "\n");
    pressure_begin(&pressure, true);
    assert_true(pressure_is_watched(&pressure, 0));
    drop("/proc/pressure/memory");
    make_version_2();
    drop("/proc/pressure/memory");
    pressure_begin(&pressure, true);
    assert_true(pressure_is_watched(&pressure, 0));
    pressure_begin(&pressure, false);
    assert_true(pressure_is_watched(&pressure, 0));
}

static void errno_is_kept(void **state)
{
    (void)state;
    struct pressure pressure = {.keeps_open = false};
    errno = 4711;
    pressure_is_high(&pressure, 1); /* nothing is there */
    assert_int_equal(errno, 4711);
    make_version_2();
    drop(SLICE "/memory.max");
    drop("/proc/thread-self/statm");
    put("/proc/thread-self/statm/x", ""); /* a directory cannot be read */
    errno = 4711;
    clock_ms += 1000;
    pressure_is_high(&pressure, 1);
    assert_int_equal(errno, 4711);
}

/* This machine, whatever it is: a look ends, and a soft limit of one byte is a sign. */
static void this_machine_can_be_looked_at(void **state)
{
    (void)state;
    struct pressure pressure;
    pressure_begin(&pressure, true);
    pressure_is_high(&pressure, 0);
    assert_true(is_high(1));
}

#define on_machine(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_machine(without_a_sign_memory_is_not_short),
        on_machine(where_nothing_is_known_memory_is_not_short),
        on_machine(a_group_near_its_limit_is_short),
        on_machine(a_group_above_near_its_limit_is_short),
        on_machine(what_the_kernel_can_drop_is_not_counted),
        on_machine(version_1_is_read_as_well),
        on_machine(groups_out_of_sight_are_not_looked_at),
        on_machine(a_mount_where_the_group_is_not_to_be_seen_gives_way_to_the_next),
        on_machine(names_with_spaces_are_found),
        on_machine(long_texts_are_read_to_the_end),
        on_machine(texts_that_are_cut_off_are_no_sign),
        on_machine(a_path_too_long_is_no_sign),
        on_machine(of_very_many_levels_the_lowest_are_looked_at),
        on_machine(the_soft_limit_is_for_resident_memory_without_files),
        on_machine(stalls_of_the_machine_are_a_sign_while_they_go_on),
        on_machine(stalls_of_the_own_group_come_before_those_of_the_machine),
        on_machine(looks_have_a_distance),
        on_machine(who_keeps_nothing_open_leaves_nothing_open),
        on_machine(what_is_kept_open_needs_no_path),
        on_machine(a_process_that_moves_is_followed),
        on_machine(groups_that_come_and_go_are_followed),
        on_machine(what_cannot_be_looked_at_is_not_watched),
        on_machine(errno_is_kept),
        cmocka_unit_test(this_machine_can_be_looked_at),
    };
    return cmocka_run_group_tests_name("pressure", tests, NULL, NULL);
}
