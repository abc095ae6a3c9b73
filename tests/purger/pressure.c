/* pressure: with a purge delay of an hour, what was freed stays resident while memory is not short,
 * and is given back within a second when it is: over the soft limit, with and without the purger's
 * thread, and near the limit of the process's cgroup. The first part of that, that it stays, is
 * checked as well: else nothing would be shown.
 *
 * The cgroup is made of files, in a mount namespace of the part's own, in the place where the
 * kernel's groups are mounted: so no limit is put on anyone. With EBB_TEST_CGROUP=DIRECTORY, a
 * group in which groups with a limit of memory may be made, there is a part with the kernel's own
 * account too.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOAD (64 * MiB)

/* With the load it is not reached, with what is taken elsewhere it is. */
#define SOFT_LIMIT "EBBMALLOC_SOFT_LIMIT=128M"
#define NO_THREAD "EBBMALLOC_BACKGROUND_THREAD=off"

/* While memory is not short: longer than a second, and than some looks of the purger. */
#define STAY_SECONDS 1.5

/* What a part ends with when it cannot run here. */
#define SKIPPED 77

static struct load load = {.bytes = LOAD, .least = 16, .most = 4 * KiB};
static size_t start, peak, elsewhere; /* resident bytes; elsewhere: not from malloc */

static void rise(void)
{
    touch_stack();
    load_prepare(&load);
    start = resident_bytes();
    load_rise(&load, 0);
    peak = resident_bytes();
    if (peak - start < LOAD)
        fail("the load did not rise");
}

static size_t stays(void)
{
    size_t now = resident_bytes() - elsewhere;
    return now > start ? now - start : 0;
}

/* Frees the load: with such a delay nothing of it is given back. */
static void fall_in_peace(const char *what)
{
    load_fall(&load);
    sleep_seconds(STAY_SECONDS);
    size_t stay = stays();
    report("%s: %zu KiB over the start at the peak, %zu KiB %g s after the fall", what,
           (peak - start) / KiB, stay / KiB, STAY_SECONDS);
    if (stay < (peak - start) / 10 * 9)
        fail("%s: given back though memory is not short, unless this machine is so: see "
             "/proc/pressure/memory and the limits of this group",
             what);
}

static void require_given_back(const char *what)
{
    size_t stay = stays();
    report("%s: %zu KiB %g s after memory was short", what, stay / KiB, FALL_SECONDS);
    if (stay > MAY_STAY(peak - start))
        promise_broken("%s: %zu KiB stay resident, allowed are %zu", what, stay / KiB,
                       MAY_STAY(peak - start) / KiB);
}

/* Memory that malloc has nothing to do with. */
static void take_elsewhere(size_t bytes)
{
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap: %s", strerror(errno));
    memset(memory, 1, bytes);
    elsewhere += bytes;
}

/* ---- soft limit ------------------------------------------------------------------------------ */

static void soft_limit(void)
{
    rise();
    fall_in_peace("soft limit");
    take_elsewhere(96 * MiB);
    sleep_seconds(FALL_SECONDS);
    require_given_back("soft limit");
}

/* Blocks of pages, since nobody looks into caches then. */
static void soft_limit_without_thread(void)
{
    load.least = 64 * KiB;
    load.most = 256 * KiB;
    rise();
    fall_in_peace("soft limit, no thread");
    take_elsewhere(96 * MiB);
    for (double end = now_seconds() + FALL_SECONDS; now_seconds() < end; sleep_seconds(0.01))
        rise_and_fall(64 * KiB);
    if (find_purger(getpid()) != 0)
        fail("there is a purger");
    require_given_back("soft limit, no thread");
}

/* ---- a group made of files ------------------------------------------------------------------- */

static void write_file(const char *directory, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t length = strlen(text);
    if (file < 0 || write(file, text, length) != (ssize_t)length)
        fail("%s: %s", path, strerror(errno));
    close(file);
}

static void write_bytes(const char *directory, const char *name, size_t bytes)
{
    char text[32];
    snprintf(text, sizeof text, "%zu\n", bytes);
    write_file(directory, name, text);
}

/* The first line of a file that contains both texts. */
static bool find_line(const char *path, const char *text, const char *other, char *line,
                      size_t capacity)
{
    FILE *file = fopen(path, "re");
    bool found = false;
    while (file != NULL && !found && fgets(line, (int)capacity, file) != NULL)
        found = strstr(line, text) != NULL && strstr(line, other) != NULL;
    if (file != NULL)
        fclose(file);
    line[strcspn(line, "\n")] = '\0';
    return found;
}

/* Leaves the part for good when it cannot have mounts of its own. */
static void have_own_mounts(void)
{
    char map[64];
    uid_t user = getuid();
    gid_t group = getgid();
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
            report("no mount namespace of its own: %s: skipped", strerror(errno));
            exit(SKIPPED);
        }
        write_file("/proc/self", "setgroups", "deny");
        snprintf(map, sizeof map, "0 %u 1\n", (unsigned)user);
        write_file("/proc/self", "uid_map", map);
        snprintf(map, sizeof map, "0 %u 1\n", (unsigned)group);
        write_file("/proc/self", "gid_map", map);
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        report("mounts cannot be made private: %s: skipped", strerror(errno));
        exit(SKIPPED);
    }
}

/* Puts an empty directory where the process's group is to be seen, and above it. Leaves the part
 * for good where there is no such group. */
static void cover_group(const char *type, const char *option, const char *member, char *directory,
                        size_t capacity)
{
    char mount_line[1024], member_line[1024], root[256], point[256];
    bool found = find_line("/proc/self/mountinfo", type, option, mount_line, sizeof mount_line) &&
                 sscanf(mount_line, "%*s %*s %*s %255s %255s", root, point) == 2 &&
                 find_line("/proc/self/cgroup", member, "", member_line, sizeof member_line);
    const char *path = found ? strstr(member_line, member) + strlen(member) : "";
    if (!found || strcmp(root, "/") != 0 || strchr(point, '\\') != NULL ||
        strstr(path, "/..") != NULL) {
        report("the process is in no group \"%s\" whose mount it sees: skipped", member);
        exit(SKIPPED);
    }
    have_own_mounts();
    if (mount("none", point, "tmpfs", 0, "size=1m") != 0) {
        report("no tmpfs can be mounted: %s: skipped", strerror(errno));
        exit(SKIPPED);
    }
    size_t length = (size_t)snprintf(directory, capacity, "%s", point);
    for (char *copy = strdup(path), *name = strtok(copy, "/"); name != NULL;
         name = strtok(NULL, "/")) {
        length += (size_t)snprintf(directory + length, capacity - length, "/%s", name);
        if (length >= capacity || mkdir(directory, 0755) != 0)
            fail("mkdir %s: %s", directory, strerror(errno));
    }
}

static void group_of_files(const char *what, const char *directory, const char *used)
{
    rise();
    write_bytes(directory, used, 800 * MiB);
    fall_in_peace(what);
    write_bytes(directory, used, 1000 * MiB);
    sleep_seconds(FALL_SECONDS);
    require_given_back(what);
}

static void version_2(void)
{
    char directory[512];
    cover_group(" - cgroup2 ", "", "0::", directory, sizeof directory);
    write_file(directory, "memory.max", "max\n");
    write_bytes(directory, "memory.high", 1024 * MiB);
    write_file(directory, "memory.stat", "inactive_file 4096\nactive_file 4096\n");
    group_of_files("cgroup, version 2", directory, "memory.current");
}

static void version_1(void)
{
    char directory[512];
    cover_group(" - cgroup ", "rw,memory", ":memory:", directory, sizeof directory);
    write_bytes(directory, "memory.limit_in_bytes", 1024 * MiB);
    write_file(directory, "memory.stat", "total_inactive_file 4096\ntotal_active_file 4096\n");
    group_of_files("cgroup, version 1", directory, "memory.usage_in_bytes");
}

/* ---- a group of the kernel ------------------------------------------------------------------- */

#define LIMIT (256 * MiB)

static char group[512];

static void remove_group(void)
{
    for (double end = now_seconds() + 2; rmdir(group) != 0 && now_seconds() < end;)
        sleep_seconds(0.01);
}

static void join_group(void)
{
    const char *directory = getenv("EBB_TEST_CGROUP_MADE");
    if (directory == NULL)
        fail("not told which group");
    write_bytes(directory, "cgroup.procs", (size_t)getpid());
    rise();
    fall_in_peace("cgroup of the kernel");
    take_elsewhere(LIMIT - peak - 8 * MiB); /* the margin is of 16 MiB */
    sleep_seconds(FALL_SECONDS);
    require_given_back("cgroup of the kernel");
}

/* Makes the group, for a part to join. */
static void make_group(const char *above)
{
    char limit[600];
    snprintf(group, sizeof group, "%s/ebbmalloc-test-%d", above, (int)getpid());
    if (mkdir(group, 0755) != 0)
        fail("EBB_TEST_CGROUP: mkdir %s: %s", group, strerror(errno));
    fail_hook = remove_group;
    snprintf(limit, sizeof limit, "%s/memory.max", group);
    write_bytes(group, access(limit, F_OK) == 0 ? "memory.max" : "memory.limit_in_bytes", LIMIT);
    setenv("EBB_TEST_CGROUP_MADE", group, 1);
}

/* ---------------------------------------------------------------------------------------------- */

static const struct part {
    const char *name;
    void (*run)(void);
    char *variable; /* besides the delay */
    bool needs_group;
} parts[] = {
    {"soft-limit", soft_limit, SOFT_LIMIT, false},
    {"soft-limit-without-thread", soft_limit_without_thread, NO_THREAD, false},
    {"version-2", version_2, NULL, true},
    {"version-1", version_1, NULL, true},
};
enum { PARTS = sizeof parts / sizeof *parts };

static int run_all(void)
{
    unsigned failed = 0, skipped = 0, groups = 0;
    for (unsigned i = 0; i < PARTS; i++) {
        if (parts[i].needs_group)
            unsetenv("EBBMALLOC_SOFT_LIMIT");
        else
            putenv(SOFT_LIMIT);
        int status = run_part(parts[i].name, parts[i].variable, 30);
        if (parts[i].needs_group && WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
            skipped++;
        else if (status != 0)
            failed++;
        else
            groups += parts[i].needs_group;
    }
    const char *above = getenv("EBB_TEST_CGROUP");
    if (above != NULL) {
        make_group(above);
        failed += run_part("join-group", NULL, 30) != 0;
        remove_group();
    }
    if (failed != 0)
        fail("%u parts", failed);
    /* One version is enough: few machines have both. */
    if (groups == 0)
        report("the soft limit is kept, but %u parts with groups were skipped", skipped);
    return groups == 0 ? SKIPPED : 0;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[0], "part") == 0) {
        stress_begin_part("pressure", argv[2]);
        for (unsigned i = 0; i < PARTS; i++)
            if (strcmp(parts[i].name, argv[1]) == 0)
                parts[i].run();
        if (strcmp(argv[1], "join-group") == 0)
            join_group();
        return 0;
    }
    stress_begin(argc, argv, "pressure", 150);
    putenv("EBBMALLOC_PURGE_DELAY=3600000");
    return run_all();
}
