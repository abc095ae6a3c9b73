#define _GNU_SOURCE
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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
    size_t size = (load->bytes / load->least + 1) * sizeof *load->blocks;
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
        memset(block, 0x5a, size);
        load->blocks[load->count++] = block;
        total += size;
    }
}

void load_fall(struct load *load)
{
    for (size_t i = 0; i < load->count; i++)
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
    sleep_seconds(FALL_SECONDS);
    size_t end = resident_bytes();
    size_t stays = end > start ? end - start : 0;
    size_t rise = peak > start ? peak - start : 0;
    report("%s: %zu KiB over the start at the peak, %zu KiB %g s later", what, rise / KiB,
           stays / KiB, FALL_SECONDS);
    if (rise < 16 * MiB)
        fail("%s: the load did not rise", what);
    if (stays > MAY_STAY(rise))
        promise_broken("%s: %zu KiB stay resident, allowed are %zu", what, stays / KiB,
                       MAY_STAY(rise) / KiB);
}

void touch_stack(void)
{
    volatile char stack[32 * KiB];
    for (size_t i = 0; i < sizeof stack; i += 1 * KiB)
        stack[i] = 1;
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

bool filter_clone(unsigned action)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}
