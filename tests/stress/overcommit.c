/* overcommit: strict accounting of committed memory (vm.overcommit_memory=2) ends in NULL and
 * ENOMEM and in a program that can go on; and the library has not more charged than the program
 * asked for.
 *
 * The setting is one of the whole machine, so nobody else may be hurt by it. Two things see to
 * that:
 *
 *  - Only this test's own child meets a limit. The kernel keeps vm.user_reserve_kbytes out of reach
 * of each process, but no more than a 32nd of the process's own address space. The child reserves
 * so much address space (not accessible, not charged) that the whole reserve counts for it, and the
 *    reserve is set to all but LIMIT_BYTES of what is uncommitted. Other processes are too small
 * for it to count.
 *  - A guard, a process of its own that ignores signals, holds the old settings and a pipe; it puts
 *    them back when the pipe is closed, however this program ended.
 *
 * Skipped without the right to write the settings, where more is committed already than strict
 * accounting would allow, and by EBB_TEST_KEEP_SYSCTLS=1.
 */
#define _GNU_SOURCE
#include "exhaust.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_BYTES (256 * MiB)
/* Left to the rest of the machine at the least. */
#define OTHERS_BYTES (2 * GiB)
#define PART_SECONDS 30
#define RESERVE_DIVISOR 32 /* mm/util.c: __vm_enough_memory */

#define MODE "/proc/sys/vm/overcommit_memory"
#define RESERVE "/proc/sys/vm/user_reserve_kbytes"

static bool read_setting(const char *path, char *text, size_t capacity)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, capacity - 1);
    if (file >= 0)
        close(file);
    if (length <= 0)
        return false;
    text[length] = '\0';
    return true;
}

static bool write_setting(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    bool written = write(file, text, strlen(text)) == (ssize_t)strlen(text);
    close(file);
    return written;
}

/* A line of /proc/meminfo, in bytes. */
static size_t meminfo(const char *key)
{
    char text[8192];
    if (!read_setting("/proc/meminfo", text, sizeof text))
        fail("/proc/meminfo cannot be read");
    const char *found = strstr(text, key);
    if (found == NULL)
        fail("/proc/meminfo has no %s", key);
    return strtoull(found + strlen(key), NULL, 10) * KiB;
}

/* ---- the guard
 * ------------------------------------------------------------------------------------ */

static char old_mode[32], old_reserve[32];
static int guard_pipe;
static pid_t guard;

static _Noreturn void run_guard(int pipe_end)
{
    char byte;
    setsid();
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    while (read(pipe_end, &byte, 1) < 0 && errno == EINTR)
        continue;
    bool mode = write_setting(MODE, old_mode), reserve = write_setting(RESERVE, old_reserve);
    if (!mode || !reserve)
        fail("the settings " MODE " and " RESERVE " could not be put back to %s and %s", old_mode,
             old_reserve);
    _exit(0);
}

static void start_guard(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        fail("pipe2: %s", strerror(errno));
    guard = fork();
    if (guard < 0)
        fail("fork: %s", strerror(errno));
    if (guard == 0) {
        close(ends[1]);
        run_guard(ends[0]);
    }
    close(ends[0]);
    guard_pipe = ends[1];
}

static void end_guard(void)
{
    close(guard_pipe);
    require_success(wait_for(guard, PART_SECONDS, "the guard of the settings"), "the guard");
    char mode[32], reserve[32];
    if (!read_setting(MODE, mode, sizeof mode) || !read_setting(RESERVE, reserve, sizeof reserve))
        fail("the settings cannot be read");
    if (strcmp(mode, old_mode) != 0 || strcmp(reserve, old_reserve) != 0)
        fail("the settings are not what they were");
}

/* ---- the child that meets the limit
 * -------------------------------------------------------------- */

static int ready_pipe[2], go_pipe[2];

static _Noreturn void run_child(void)
{
    char byte = 0;
    close(guard_pipe); /* the guard waits for the parent's end alone */
    alarm(PART_SECONDS);
    exhaust_prepare(LIMIT_BYTES);
    if (mmap(NULL, meminfo("CommitLimit:") * (RESERVE_DIVISOR + 1), PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        fail("no address space for the ballast: %s", strerror(errno));
    close(go_pipe[1]);
    if (write(ready_pipe[1], &byte, 1) != 1 || read(go_pipe[0], &byte, 1) != 1)
        fail("the parent has gone");
    exhaust("overcommit=2", LIMIT_OF_MACHINE);
    _exit(0);
}

static pid_t start_child(void)
{
    if (pipe2(ready_pipe, O_CLOEXEC) != 0 || pipe2(go_pipe, O_CLOEXEC) != 0)
        fail("pipe2: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        fail("fork: %s", strerror(errno));
    if (child == 0)
        run_child();
    close(ready_pipe[1]);
    return child;
}

/* Once all that is the test's own is charged. False when the kernel does not let us. */
static bool set_limit(void)
{
    char byte, text[32];
    if (read(ready_pipe[0], &byte, 1) != 1)
        fail("the child did not get ready");
    size_t reserve = meminfo("CommitLimit:") - meminfo("Committed_AS:") - LIMIT_BYTES;
    snprintf(text, sizeof text, "%zu", reserve / KiB);
    return write_setting(RESERVE, text) && write_setting(MODE, "2");
}

static const char *reason_to_skip(void)
{
    if (getenv("EBB_TEST_KEEP_SYSCTLS") != NULL)
        return "EBB_TEST_KEEP_SYSCTLS is set";
    if (access(MODE, W_OK) != 0 || access(RESERVE, W_OK) != 0 || geteuid() != 0)
        return "needs the right to write " MODE;
    if (!read_setting(MODE, old_mode, sizeof old_mode) ||
        !read_setting(RESERVE, old_reserve, sizeof old_reserve))
        return "the settings cannot be read";
    if (meminfo("CommitLimit:") < meminfo("Committed_AS:") + LIMIT_BYTES + OTHERS_BYTES)
        return "too much is committed already for strict accounting";
    return NULL;
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "overcommit", 90);
    const char *reason = reason_to_skip();
    if (reason != NULL) {
        report("SKIPPED: %s", reason);
        return 77;
    }
    start_guard();
    pid_t child = start_child();
    if (!set_limit()) {
        kill(child, SIGKILL);
        end_guard();
        report("SKIPPED: the kernel does not let this user change the settings");
        return 77;
    }
    char go = 0;
    int status = 0;
    if (write(go_pipe[1], &go, 1) != 1)
        fail("the child has gone");
    while (waitpid(child, &status, 0) != child)
        continue;
    end_guard();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        return 77;
    require_success(status, "strict accounting");
    return 0;
}
