/* oom-limits: RLIMIT_AS, RLIMIT_DATA, vm.max_map_count and a full memory cgroup each end in NULL
 * and ENOMEM and in a program that can go on. (Strict overcommit, which is a setting of the whole
 * machine, has a test of its own: overcommit.c.)
 *
 * A cgroup is the odd one: it refuses nothing when memory is asked for; it kills when more of it is
 * touched than the limit allows. So what can be promised, and is tested, is
 *  - memory that is not touched does not count: malloc and calloc of four times the limit work,
 *  - a program whose live memory stays under the limit is not killed, however much flows through
 * and however the sizes change: freed memory is reused, or given back, before the limit is reached,
 *  - one that really goes over it is killed: the limit was in force all the time,
 *  - where the kernel can be told to stop the program instead of killing it (cgroup v1), it goes on
 *    with its data intact when the limit is raised.
 * It runs where the environment's EBB_TEST_CGROUP names a directory of the memory controller in
 * which this user may make a child, or when this process is in the root of the hierarchy. It stays
 * out of cgroups that some manager of services has made for its own ends.
 *
 * Each part is a child process, so a limit is only its own.
 */
#define _GNU_SOURCE
#include "exhaust.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PART_SECONDS 60
#define LIMIT_BYTES (256 * MiB) /* over what the process has at the start of a part */

static void *volatile seen; /* keeps the compiler from dropping allocations */

/* ---- resource limits
 * ----------------------------------------------------------------------------- */

static void set_limit(int resource, size_t bytes)
{
    struct rlimit limit = {bytes, bytes};
    if (setrlimit(resource, &limit) != 0)
        fail("setrlimit: %s", strerror(errno));
}

static void part_address_space(void)
{
    exhaust_prepare(LIMIT_BYTES);
    set_limit(RLIMIT_AS, address_bytes() + LIMIT_BYTES);
    exhaust("RLIMIT_AS", LIMIT_OF_PROCESS);
}

static void part_data(void)
{
    exhaust_prepare(LIMIT_BYTES);
    set_limit(RLIMIT_DATA, data_bytes() + LIMIT_BYTES);
    exhaust("RLIMIT_DATA", LIMIT_OF_PROCESS);
}

/* ---- mappings
 * ------------------------------------------------------------------------------------- */

#define HEAP_BLOCKS 400
/* What may stay resident after all is freed and trimmed, though the kernel had refused to split
 * mappings while it was freed. */
#define LEFT_BYTES (16 * MiB)

static struct parcel *heap[HEAP_BLOCKS];
static char *ballast;
static size_t ballast_bytes, page_bytes;

static size_t pick_size(struct rng *rng)
{
    static const size_t most[] = {1000, 30 * KiB, MiB, 12 * MiB};
    return rng_size(rng, PARCEL_LEAST, most[rng_below(rng, 4)]);
}

static size_t most_mappings(void)
{
    char text[32] = "";
    int file = open("/proc/sys/vm/max_map_count", O_RDONLY);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0)
        fail("vm.max_map_count cannot be read");
    close(file);
    return strtoul(text, NULL, 10);
}

/* Takes every mapping that the process may have: pages of one reservation, every second one made
 * readable; then the odd one left over. */
static void use_up_mappings(void)
{
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    ballast_bytes = (most_mappings() + 1000) * page_bytes;
    ballast =
        mmap(NULL, ballast_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ballast == MAP_FAILED)
        fail("no address space: %s", strerror(errno));
    size_t offset = page_bytes;
    while (offset < ballast_bytes && mprotect(ballast + offset, page_bytes, PROT_READ) == 0)
        offset += 2 * page_bytes;
    if (offset >= ballast_bytes || errno != ENOMEM)
        fail("vm.max_map_count was not reached: %s", strerror(errno));
    /* A split needs two at most, so one may be left: a mapping that merges with no other. */
    while (mmap(NULL, page_bytes, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED)
        continue;
    if (errno != ENOMEM)
        fail("mmap at vm.max_map_count: %s", strerror(errno));
}

/* Replaces, resizes or frees one block. The kernel may refuse what needs a new mapping and grant
 * what merges with an old one, so both are right; anything but NULL with ENOMEM is not. */
static bool change_one(struct rng *rng)
{
    struct parcel **slot = &heap[rng_below(rng, HEAP_BLOCKS)];
    size_t size = pick_size(rng);
    errno = 0;
    if (*slot != NULL && rng_below(rng, 3) == 0) {
        parcel_check(*slot, 0, "before realloc without mappings");
        struct parcel *moved = realloc(*slot, size);
        if (moved != NULL)
            parcel_write(*slot = moved, size, 0);
        else if (errno != ENOMEM)
            fail("realloc to %zu bytes returned NULL with errno %d", size, errno);
        else
            parcel_check(*slot, 0, "after realloc refused without mappings");
        return moved != NULL;
    }
    if (*slot != NULL)
        parcel_end(*slot, 0, "without mappings");
    errno = 0;
    *slot = rng_below(rng, 2) == 0 ? parcel_try(size, 0) : calloc(1, size);
    if (*slot == NULL && errno != ENOMEM)
        fail("%zu bytes refused with errno %d", size, errno);
    if (*slot != NULL) /* calloc's is written here, malloc's once more */
        parcel_write(*slot, size, 0);
    return *slot != NULL;
}

static void change_many(struct rng *rng, size_t changes)
{
    size_t refused = 0;
    for (size_t i = 0; i < changes; i++)
        refused += !change_one(rng);
    report("%-15s %zu of %zu allocations refused", "max_map_count", refused, changes);
}

static void free_heap(size_t step, const char *when)
{
    for (size_t i = 0; i < HEAP_BLOCKS; i += step) {
        if (heap[i] != NULL)
            parcel_end(heap[i], 0, when);
        heap[i] = NULL;
    }
}

static void fill_heap(struct rng *rng, const char *when)
{
    for (size_t i = 0; i < HEAP_BLOCKS; i++) {
        size_t size = pick_size(rng);
        if (heap[i] == NULL && (heap[i] = parcel_try(size, 0)) == NULL)
            fail("%s: malloc(%zu) = NULL, errno %d", when, size, errno);
    }
}

static void part_mappings(void)
{
    struct rng rng = rng_stream(3);
    malloc_trim(0);
    size_t start = resident_bytes();
    fill_heap(&rng, "before the limit");
    use_up_mappings();
    free_heap(2, "where the kernel cannot split mappings");
    change_many(&rng, 1500);
    malloc_trim(0);
    change_many(&rng, 1500);
    if (munmap(ballast, ballast_bytes) != 0)
        fail("munmap: %s", strerror(errno));
    fill_heap(&rng, "after the mappings came back");
    free_heap(1, "after the mappings came back");
    malloc_trim(0);
    size_t end = resident_bytes(), over = end > start ? end - start : 0;
    report("%-15s resident at the end: %.1f MiB over the start, bound %.0f MiB", "max_map_count",
           (double)over / (double)MiB, (double)LEFT_BYTES / (double)MiB);
    if (over > LEFT_BYTES)
        promise_broken("max_map_count: %zu bytes stay resident after all is freed, bound %zu", over,
                       LEFT_BYTES);
}

/* ---- cgroup
 * ---------------------------------------------------------------------------------------- */

#define CGROUP_BYTES (64 * MiB)

static char cgroup[PATH_MAX];
static bool cgroup_v2;

static bool write_file(const char *directory, const char *name, const char *text)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    bool written = write(file, text, strlen(text)) == (ssize_t)strlen(text);
    close(file);
    return written;
}

static bool set_cgroup_limit(size_t bytes)
{
    char text[32];
    snprintf(text, sizeof text, "%zu", bytes);
    if (!write_file(cgroup, cgroup_v2 ? "memory.max" : "memory.limit_in_bytes", text))
        return false;
    /* Swap, where there is any, would let it go over; not every kernel counts it. */
    write_file(cgroup, cgroup_v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes",
               cgroup_v2 ? "0" : text);
    return true;
}

/* True when the only cgroup that this process is in, for the memory controller, is the root. */
static bool in_root_cgroup(void)
{
    char line[PATH_MAX];
    bool root = false;
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        bool memory = strstr(line, ":memory:") != NULL;
        if (memory || strncmp(line, "0::", 3) == 0)
            root = strcmp(strrchr(line, ':'), ":/\n") == 0;
        if (memory)
            break;
    }
    if (file != NULL)
        fclose(file);
    return root;
}

static const char *cgroup_parent(void)
{
    const char *given = getenv("EBB_TEST_CGROUP");
    if (given != NULL || !in_root_cgroup())
        return given;
    if (access("/sys/fs/cgroup/memory/memory.limit_in_bytes", F_OK) == 0)
        return "/sys/fs/cgroup/memory";
    return access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0 ? "/sys/fs/cgroup" : NULL;
}

/* Says why not, or makes the cgroup and returns NULL. */
static const char *make_cgroup(void)
{
    const char *parent = cgroup_parent();
    if (parent == NULL)
        return "set EBB_TEST_CGROUP to a directory of the memory controller that it may use";
    snprintf(cgroup, sizeof cgroup, "%s/ebb-stress-%d", parent, (int)getpid());
    if (mkdir(cgroup, 0755) != 0)
        return "no cgroup can be made there (this needs root, or a delegated directory)";
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/memory.max", cgroup);
    cgroup_v2 = access(path, F_OK) == 0;
    if (set_cgroup_limit(CGROUP_BYTES))
        return NULL;
    rmdir(cgroup);
    return "the memory controller is not enabled there";
}

static void enter_cgroup(void)
{
    char text[16];
    snprintf(text, sizeof text, "%d", (int)getpid());
    if (!write_file(cgroup, "cgroup.procs", text))
        fail("cgroup: the process cannot be moved into %s: %s", cgroup, strerror(errno));
}

static void cgroup_untouched(void)
{
    for (unsigned i = 0; i < 4; i++) {
        char *block = seen = i % 2 == 0 ? malloc(CGROUP_BYTES) : calloc(1, CGROUP_BYTES);
        if (block == NULL)
            fail("cgroup: %zu untouched bytes refused with errno %d", CGROUP_BYTES, errno);
        block[i * MiB] = 1;
    }
    parcel_end(parcel_make(1000, 0), 0, "beside four times the limit, untouched");
}

/* Half of the limit is live at a time; each round is of another size. */
static void cgroup_under_limit(void)
{
    static const size_t sizes[] = {64, 65000, 1000, 3 * MiB, 5000, 16 * MiB, 200, MiB};
    static struct parcel *parcels[CGROUP_BYTES / 2 / 64];
    for (unsigned round = 0; round < 24; round++) {
        size_t size = sizes[round % 8], count = CGROUP_BYTES / 8 * 3 / size;
        /* The table is the test's own and counts too: an eighth of the limit at most. */
        for (size_t i = 0; i < count; i++)
            parcels[i] = parcel_make(size, 0);
        for (size_t i = 0; i < count; i++)
            parcel_end(parcels[i], 0, "under the limit of a cgroup");
    }
}

static void touch_twice_the_limit(void)
{
    for (size_t i = 0; i < 2 * CGROUP_BYTES / MiB; i++)
        seen = parcel_make(MiB, 0);
}

/* Stops at the limit until it is raised; all data is as it was then. */
static void cgroup_stopped(void)
{
    struct parcel *parcels[2 * CGROUP_BYTES / MiB];
    for (size_t i = 0; i < 2 * CGROUP_BYTES / MiB; i++)
        parcels[i] = parcel_make(MiB, 0);
    for (size_t i = 0; i < 2 * CGROUP_BYTES / MiB; i++)
        parcel_end(parcels[i], 0, "after the program was stopped at the limit");
}

static pid_t start_in_cgroup(void (*run)(void))
{
    pid_t child = fork();
    if (child < 0)
        fail("fork: %s", strerror(errno));
    if (child == 0) {
        alarm(PART_SECONDS);
        enter_cgroup();
        run();
        _exit(0);
    }
    return child;
}

static void cgroup_stop_and_go(void)
{
    if (cgroup_v2 || !write_file(cgroup, "memory.oom_control", "1")) {
        report("%-15s SKIPPED stopping at the limit: this kernel only kills", "cgroup");
        return;
    }
    pid_t child = start_in_cgroup(cgroup_stopped);
    sleep_seconds(0.5);
    if (waitpid(child, NULL, WNOHANG) != 0)
        fail("cgroup: a program at twice the limit was not stopped");
    if (!set_cgroup_limit(8 * CGROUP_BYTES))
        fail("cgroup: the limit cannot be raised");
    require_success(wait_for(child, PART_SECONDS, "cgroup, stopped and let go"),
                    "cgroup, stopped and let go");
    report("%-15s stopped at the limit, went on with its data", "cgroup");
}

static void cgroup_parts(void)
{
    require_success(wait_for(start_in_cgroup(cgroup_untouched), PART_SECONDS, "cgroup, untouched"),
                    "cgroup, four times the limit untouched");
    require_success(wait_for(start_in_cgroup(cgroup_under_limit), PART_SECONDS, "cgroup, under it"),
                    "cgroup, a program that stays under the limit");
    int status = wait_for(start_in_cgroup(touch_twice_the_limit), PART_SECONDS, "cgroup, over it");
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail("cgroup: twice the limit could be touched: it was not in force (status %#x)", status);
    report("%-15s not killed below %zu MiB touched, killed over it", "cgroup", CGROUP_BYTES / MiB);
    cgroup_stop_and_go();
}

/* Not a child as the others: what it made has to be removed whatever becomes of it. */
static void run_cgroup(void)
{
    const char *reason = make_cgroup();
    if (reason != NULL) {
        report("%-15s SKIPPED: %s", "cgroup", reason);
        return;
    }
    pid_t child = fork();
    if (child < 0)
        fail("fork: %s", strerror(errno));
    if (child == 0) {
        cgroup_parts();
        _exit(0);
    }
    int status;
    while (waitpid(child, &status, 0) != child)
        continue;
    if (rmdir(cgroup) != 0)
        report("%-15s %s is left: %s", "cgroup", cgroup, strerror(errno));
    require_success(status, "cgroup");
}

/* ---- all parts
 * --------------------------------------------------------------------------------------- */

static void run_part(const char *name, void (*part)(void))
{
    double began = now_seconds();
    pid_t child = fork();
    if (child < 0)
        fail("fork: %s", strerror(errno));
    if (child == 0) {
        alarm(PART_SECONDS);
        part();
        _exit(0);
    }
    require_success(wait_for(child, PART_SECONDS + 5, name), name);
    report("%-15s %.2f s", name, now_seconds() - began);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "oom-limits", 240);
    for (uint64_t turn = 0; turn < scaled(1); turn++) {
        run_part("RLIMIT_AS", part_address_space);
        run_part("RLIMIT_DATA", part_data);
        run_part("max_map_count", part_mappings);
        run_cgroup();
    }
    return 0;
}
