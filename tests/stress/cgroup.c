/* cgroup: in a group of processes with a limit of memory, a program of several threads whose live
 * blocks fit into it is not killed, although what it has freed would not fit beside them: the
 * library gives that back in time. The threads take blocks of all kinds, in turns (one holds most
 * of the limit, frees it, and another one takes as much in blocks of another kind at once) and all
 * at the same time; with the usual delay, and with one of an hour, when nothing goes back but
 * because memory is short.
 *
 * The group is the kernel's, of version 1 or 2, made below the test's own; skipped where none can
 * be made. When the limit is reached for want of memory that could have been given back, the kernel
 * ends the process (SIGKILL): that is what fails.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What is live with what comes to it (classes, spans in part, tables of the test) must fit below
 * the margin of pressure.c, 8 MiB here. */
#define LIMIT (128 * MiB)
#define LIVE (LIMIT / 2)
#define THREADS 4
#define SECONDS 3.0
#define BLOCKS_MOST (LIVE / 64)
#define SKIPPED 77

static char group[600];

static bool write_text(const char *directory, const char *name, const char *text)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    bool written = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);
    if (file >= 0)
        close(file);
    return written;
}

static bool write_number(const char *name, size_t number)
{
    char text[32];
    snprintf(text, sizeof text, "%zu", number);
    return write_text(group, name, text);
}

static void remove_group(void)
{
    for (double end = now_seconds() + 2; rmdir(group) != 0 && now_seconds() < end;)
        sleep_seconds(0.01);
}

/* Below the group that this process is in, as the line of /proc/self/cgroup with that mark says. */
static bool make_group(const char *mark, const char *mount, const char *limit)
{
    char line[400], *path = NULL;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && path == NULL && fgets(line, sizeof line, file) != NULL)
        if ((path = strstr(line, mark)) != NULL)
            path += strlen(mark);
    if (file != NULL)
        fclose(file);
    if (path == NULL)
        return false;
    path[strcspn(path, "\n")] = '\0';
    /* The mount may show a part of the tree alone: then the group is below its root. */
    snprintf(group, sizeof group, "%s%s", mount, path);
    if (access(group, W_OK) != 0)
        snprintf(group, sizeof group, "%s", mount);
    size_t length = strlen(group);
    snprintf(group + length, sizeof group - length, "/ebbmalloc-test-%d", (int)getpid());
    if (mkdir(group, 0755) != 0)
        return false;
    if (write_number(limit, LIMIT))
        return true;
    remove_group();
    return false;
}

/* ---- What runs in the group ------------------------------------------------------------------ */

static const struct kind {
    size_t least, most;
} kinds[] = {{64, 1 * KiB}, {1 * KiB, 32 * KiB}, {33 * KiB, 1 * MiB}, {4 * MiB + 1, 10 * MiB}};
enum { KINDS = sizeof kinds / sizeof *kinds };

struct worker {
    pthread_t thread;
    unsigned number;
    struct rng rng;
    char **blocks;
    size_t count;
};

static struct worker workers[THREADS];
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t rounds, refused;
static bool in_turns;
static double end;

static void rise_and_fall(struct worker *worker, size_t bytes)
{
    const struct kind *kind = &kinds[rng_below(&worker->rng, KINDS)];
    worker->count = 0;
    for (size_t live = 0; worker->count < BLOCKS_MOST / THREADS;) {
        size_t size = rng_size(&worker->rng, kind->least, kind->most);
        if (live + size > bytes)
            break;
        char *block = malloc(size);
        if (block == NULL) { /* as it should be, if the limit were one of ours */
            refused++;
            break;
        }
        memset(block, (int)size, size);
        worker->blocks[worker->count++] = block;
        live += size;
    }
    for (size_t i = 0; i < worker->count; i++)
        free(worker->blocks[i]);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    while (now_seconds() < end) {
        if (in_turns)
            pthread_mutex_lock(&turn);
        rise_and_fall(worker, in_turns ? LIVE : LIVE / THREADS);
        rounds++;
        if (in_turns)
            pthread_mutex_unlock(&turn);
    }
    return NULL;
}

static void run_part(bool turns)
{
    in_turns = turns;
    end = now_seconds() + scaled_seconds(SECONDS);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].number = i;
        workers[i].rng = rng_stream(i + (turns ? 100 : 0));
        workers[i].blocks = calloc(BLOCKS_MOST / THREADS, sizeof *workers[i].blocks);
        if (workers[i].blocks == NULL)
            fail("calloc");
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            fail("pthread_create");
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        free(workers[i].blocks);
    }
    report("%s: %llu rounds, %llu refused", turns ? "in turns" : "all at once",
           (unsigned long long)rounds, (unsigned long long)refused);
    if (rounds < 2 * THREADS)
        fail("too few rounds to show anything");
}

/* ---- The parts ------------------------------------------------------------------------------- */

static void require_survival(const char *delay, const char *how, const char *seed)
{
    pid_t child = fork();
    if (child == 0) {
        if (!write_number("cgroup.procs", (size_t)getpid()))
            _exit(SKIPPED);
        setenv("EBBMALLOC_PURGE_DELAY", delay, 1);
        execl("/proc/self/exe", "part", how, seed, (char *)NULL);
        _exit(1);
    }
    int status = wait_for(child, 60, "a part");
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        fail("%s, delay %s ms: killed for want of memory", how, delay);
    require_success(status, how);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[0], "part") == 0) {
        stress_begin_part("cgroup", argv[2]);
        run_part(strcmp(argv[1], "turns") == 0);
        return 0;
    }
    stress_begin(argc, argv, "cgroup", 200);
    if (!make_group(":memory:", "/sys/fs/cgroup/memory", "memory.limit_in_bytes") &&
        !make_group("0::", "/sys/fs/cgroup", "memory.max") &&
        !make_group("0::", "/sys/fs/cgroup/unified", "memory.max")) {
        report("no group with a limit of memory can be made here");
        return SKIPPED;
    }
    fail_hook = remove_group;
    char seed[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)stress_seed);
    for (int hour = 0; hour < 2; hour++) {
        require_survival(hour ? "3600000" : "400", "turns", seed);
        require_survival(hour ? "3600000" : "400", "at once", seed);
    }
    remove_group();
    return 0;
}
