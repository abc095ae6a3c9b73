#define _GNU_SOURCE
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "older.h"

/* ---- tasks of this process ------------------------------------------------------------------- */

/* opendir would allocate. */
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

unsigned list_tasks(int process, int *ids)
{
    char path[64], buffer[8192] __attribute__((aligned(8)));
    unsigned count = 0;
    snprintf(path, sizeof path, "/proc/%d/task", process);
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return 0;
    long length;
    while ((length = syscall(SYS_getdents64, directory, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < length;) {
            const struct entry *entry = (const struct entry *)(buffer + at);
            if (entry->name[0] != '.' && count < TASKS_MOST)
                ids[count++] = atoi(entry->name);
            at += entry->length;
        }
    }
    close(directory);
    return count;
}

bool task_field(int process, int task, const char *key, char *value, size_t capacity)
{
    char path[64], text[4096], pattern[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", process, task);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    if (length <= 0)
        return false;
    text[length] = '\0';
    snprintf(pattern, sizeof pattern, "%s\t", key);
    const char *found = strstr(text, pattern);
    if (found == NULL)
        fail("no %s in %s", key, path);
    found += strlen(pattern);
    snprintf(value, capacity, "%.*s", (int)strcspn(found, "\n"), found);
    return true;
}

int find_purger(int process)
{
    int ids[TASKS_MOST];
    unsigned count = list_tasks(process, ids);
    for (unsigned i = 0; i < count; i++) {
        char name[64];
        if (task_field(process, ids[i], "Name:", name, sizeof name) &&
            strcmp(name, PURGER_NAME) == 0)
            return ids[i];
    }
    return 0;
}

int wake_purger(void)
{
    for (double end = now_seconds() + 5; now_seconds() < end; sleep_seconds(0.01)) {
        rise_and_fall(32 * MiB);
        int purger = find_purger(getpid());
        if (purger != 0)
            return purger;
    }
    fail("there is no thread " PURGER_NAME " though there is something to give back");
}

bool purger_ends(double seconds)
{
    for (double end = now_seconds() + seconds; now_seconds() < end; sleep_seconds(0.02))
        if (find_purger(getpid()) == 0)
            return true;
    return find_purger(getpid()) == 0;
}

/* ---- loads ----------------------------------------------------------------------------------- */

void load_prepare(struct load *load)
{
    size_t size = (load->bytes / load->least / MiB + 1) * MiB * sizeof *load->blocks;
    load->blocks =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (load->blocks == MAP_FAILED)
        fail("no memory for the test's table: %s", strerror(errno));
}

void load_rise(struct load *load, uint64_t stream)
{
    struct rng rng = rng_stream(stream);
    load->count = 0;
    for (size_t total = 0; total < load->bytes;) {
        size_t size = load->least + rng_below(&rng, load->most - load->least + 1);
        char *block = malloc(size);
        if (block == NULL)
            fail("malloc(%zu) = NULL", size);
        memset(block, 0x5a, malloc_usable_size(block)); /* resident, all of it */
        load->blocks[load->count++] = block;
        total += size;
    }
}

void load_fall(struct load *load)
{
    load_fall_but(load, 0);
}

void load_fall_but(struct load *load, size_t one_in)
{
    for (size_t i = 0; i < load->count; i++)
        if (one_in == 0 || i % one_in != 0)
            free(load->blocks[i]);
}

void rise_and_fall(size_t bytes)
{
    char *blocks[RISE_MOST / (64 * KiB)];
    size_t count = bytes / (64 * KiB);
    if (bytes > RISE_MOST)
        fail("rise_and_fall(%zu): the test is wrong", bytes);
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(64 * KiB);
        if (blocks[i] == NULL)
            fail("malloc");
        memset(blocks[i], 1, 64 * KiB);
    }
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
}

void require_fall(const char *what, size_t start, size_t peak)
{
    require_fall_but(what, start, peak, 0);
}

void require_fall_but(const char *what, size_t start, size_t peak, size_t in_use)
{
    sleep_seconds(FALL_SECONDS);
    size_t end = resident_bytes();
    size_t stays = end > start ? end - start : 0;
    size_t rise = peak > start ? peak - start : 0;
    size_t may_stay = MAY_STAY(rise) + in_use;
    report("%s: %zu KiB over the start at the peak, %zu KiB %g s later", what, rise / KiB,
           stays / KiB, FALL_SECONDS);
    if (rise < 16 * MiB)
        fail("%s: the load did not rise", what);
    if (stays > may_stay)
        promise_broken("%s: %zu KiB stay resident, allowed are %zu", what, stays / KiB,
                       may_stay / KiB);
}

void touch_stack(void)
{
    volatile char stack[32 * KiB];
    for (size_t i = 0; i < sizeof stack; i += 1 * KiB)
        stack[i] = 1;
}

/* ---- books: the library's and the kernel's
 * -----------------------------------------------------------------------
 */

size_t rollup_bytes(const char *key)
{
    char text[4096], pattern[64];
    int file = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    if (length <= 0)
        fail("smaps_rollup cannot be read: %s", strerror(errno));
    text[length] = '\0';
    snprintf(pattern, sizeof pattern, "\n%s:", key);
    const char *found = strstr(text, pattern);
    if (found == NULL)
        fail("smaps_rollup has no %s", key);
    return strtoull(found + strlen(pattern), NULL, 10) * KiB;
}

uint64_t books_number(const char *element, const char *attribute)
{
    static char text[64 * KiB];
    char pattern[64];
    FILE *stream = fmemopen(text, sizeof text - 1, "w");
    if (stream == NULL || malloc_info(0, stream) != 0)
        fail("malloc_info");
    fclose(stream);
    snprintf(pattern, sizeof pattern, "<%s ", element);
    const char *found = strstr(text, pattern);
    snprintf(pattern, sizeof pattern, " %s=\"", attribute);
    found = found == NULL ? NULL : strstr(found, pattern);
    if (found == NULL)
        fail("malloc_info has no %s of <%s>", attribute, element);
    return strtoull(found + strlen(pattern), NULL, 10);
}

/* ---- figures ----------------------------------------------------------------------------------
 */

static int compare_figures(const void *first, const void *second)
{
    double a = *(const double *)first, b = *(const double *)second;
    return (a > b) - (a < b);
}

double median(double *figures, size_t count)
{
    qsort(figures, count, sizeof *figures, compare_figures);
    return count % 2 != 0 ? figures[count / 2] : (figures[count / 2 - 1] + figures[count / 2]) / 2;
}

/* ---- parts ----------------------------------------------------------------------------------- */

int run_part(const char *part, char *variable, double seconds)
{
    char seed[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)stress_seed);
    pid_t child = fork();
    if (child < 0)
        fail("fork: %s", strerror(errno));
    if (child == 0) {
        if (variable != NULL)
            putenv(variable);
        execl("/proc/self/exe", "part", part, seed, (char *)NULL);
        _exit(127);
    }
    return wait_for(child, seconds, part);
}

/* The write end of the pipe, in a part. */
#define RESULT_DESCRIPTOR 9

struct measuring start_measuring(const char *part, char *const *variables)
{
    int ends[2];
    char seed[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)stress_seed);
    if (pipe2(ends, O_CLOEXEC) != 0)
        fail("pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        fail("fork: %s", strerror(errno));
    if (child == 0) {
        for (; *variables != NULL; variables++)
            putenv(*variables);
        if (dup2(ends[1], RESULT_DESCRIPTOR) == RESULT_DESCRIPTOR)
            execl("/proc/self/exe", "part", part, seed, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    return (struct measuring){part, child, ends[0]};
}

void finish_measuring(const struct measuring *measuring, double seconds, void *result, size_t size)
{
    require_success(wait_for(measuring->process, seconds, measuring->part), measuring->part);
    if (read(measuring->descriptor, result, size) != (ssize_t)size)
        fail("%s gave no result", measuring->part);
    close(measuring->descriptor);
}

void give_result(const void *result, size_t size)
{
    if (write(RESULT_DESCRIPTOR, result, size) != (ssize_t)size)
        fail("the result: %s", strerror(errno));
}

static long add_clone_filter(unsigned action, unsigned flags)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

bool filter_clone(unsigned action)
{
    return add_clone_filter(action, SECCOMP_FILTER_FLAG_TSYNC) == 0;
}

int watch_clone(void)
{
    return (int)add_clone_filter(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

bool refuse_clone(int watcher, void (*held)(void))
{
    union {
        struct seccomp_notif seen;
        char room[1024]; /* a kernel may have more to tell than the headers know */
    } call = {0};
    union {
        struct seccomp_notif_resp given;
        char room[1024];
    } answer = {0};
    if (ioctl(watcher, SECCOMP_IOCTL_NOTIF_RECV, &call.seen) != 0)
        return false;
    held();
    answer.given.id = call.seen.id;
    answer.given.error = -EPERM;
    return ioctl(watcher, SECCOMP_IOCTL_NOTIF_SEND, &answer.given) == 0;
}
