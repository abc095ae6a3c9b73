/* Starts a program under a preloaded library and says what it cost. bench/compare uses this small
 * program and not python's own wait4: the kernel counts the memory of whoever started a process
 * into that process's peak, and python alone has more than many a measured program.
 *
 *     measure FD once LIBRARY COMMAND [ARGUMENT...]
 *     measure FD start ROUNDS LIBRARIES COMMAND [ARGUMENT...]
 *     measure FD pause
 *
 * `once` runs COMMAND one time. `start` runs it ROUNDS times under each of the LIBRARIES (separated
 * by ':'), taking turns. A library called '-' stands for none. Both write to descriptor FD one line
 * per run:
 *
 *     LIBRARY-NUMBER STATUS WALL-ns USER-us SYSTEM-us PEAK-KiB MINOR-FAULTS MAJOR-FAULTS
 *
 * STATUS is the exit status, or 128 and the number of the signal. PEAK says little after `start`,
 * where it has this program's own memory for a floor. `pause` writes a line when it runs and then
 * does nothing until it is killed: its memory is what an idle process has. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "common.h"

#include <spawn.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_LIBRARIES = 16 };

extern char **environ;

static void fail(const char *what, const char *detail)
{
    fprintf(stderr, "measure: %s: %s\n", what, detail);
    exit(125);
}

/* The environment of the measured program: ours, with LD_PRELOAD as wanted. */
static char **environment_with(const char *library)
{
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    char **result = calloc(count + 2, sizeof *result);
    if (result == NULL)
        fail("environment", strerror(errno));
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], "LD_PRELOAD=", strlen("LD_PRELOAD=")) != 0)
            result[used++] = environ[i];
    if (strcmp(library, "-") != 0 && asprintf(&result[used], "LD_PRELOAD=%s", library) < 0)
        fail("environment", strerror(errno));
    return result;
}

static long microseconds(struct timeval time)
{
    return time.tv_sec * 1000000L + time.tv_usec;
}

/* By fork, since the kernel counts the memory of the process that exec replaced into the peak of
 * the new one. A fork of this small program has a few hundred KiB, less than any program to be
 * measured; under posix_spawn it would be all that we have. */
static pid_t start_forked(char **environment, char **command)
{
    pid_t pid = fork();
    if (pid < 0)
        fail("fork", strerror(errno));
    if (pid == 0) {
        execvpe(command[0], command, environment);
        fail(command[0], strerror(errno));
    }
    return pid;
}

/* The quick way, for many starts of a program that does nothing. */
static pid_t start_spawned(char **environment, char **command)
{
    pid_t pid;
    int error = posix_spawnp(&pid, command[0], NULL, NULL, command, environment);
    if (error != 0)
        fail(command[0], strerror(error));
    return pid;
}

typedef pid_t Start(char **environment, char **command);

static void run_once(int out, unsigned number, Start *start, char **environment, char **command)
{
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    pid_t pid = start(environment, command);
    int status;
    struct rusage used;
    while (wait4(pid, &status, 0, &used) < 0)
        if (errno != EINTR)
            fail("wait4", strerror(errno));
    clock_gettime(CLOCK_MONOTONIC, &after);
    long long wall =
        (after.tv_sec - before.tv_sec) * 1000000000LL + (after.tv_nsec - before.tv_nsec);
    dprintf(out, "%u %d %lld %ld %ld %ld %ld %ld\n", number,
            WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), wall,
            microseconds(used.ru_utime), microseconds(used.ru_stime), used.ru_maxrss,
            used.ru_minflt, used.ru_majflt);
}

static void run_in_turns(int out, long rounds, char *libraries, char **command)
{
    char **environments[MOST_LIBRARIES];
    unsigned count = 0;
    for (char *name = strtok(libraries, ":"); name != NULL; name = strtok(NULL, ":")) {
        if (count == MOST_LIBRARIES)
            fail("too many libraries", name);
        environments[count++] = environment_with(name);
    }
    /* Each round begins with another library, so that none always follows the same one. */
    for (long round = 0; round < rounds; round++)
        for (unsigned i = 0; i < count; i++) {
            unsigned number = (unsigned)((round + i) % count);
            run_once(out, number, start_spawned, environments[number], command);
        }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        fail("usage", "measure FD once|start|pause ... (see bench/measure.c)");
    int out = atoi(argv[1]);
    const char *what = argv[2];
    if (strcmp(what, "once") == 0 && argc >= 5) {
        run_once(out, 0, start_forked, environment_with(argv[3]), argv + 4);
    } else if (strcmp(what, "start") == 0 && argc >= 6 && atol(argv[3]) > 0) {
        run_in_turns(out, atol(argv[3]), argv[4], argv + 5);
    } else if (strcmp(what, "pause") == 0) {
        if (write(out, "ready\n", 6) != 6)
            return 1;
        for (;;)
            pause();
    } else {
        fail("not understood", what);
    }
    return 0;
}
