/* setuid: a program that gives its privileges up has given them all up within a second: the purger,
 * which libc does not know and so does not change, ends. So it is in a chroot, where there is no
 * /proc to look at. Then it comes back, as the new user, when there is something to do. A program
 * that sleeps from then on must not miss it: what was free is given back before it ends.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define SECONDS 1.0

static int go[2];   /* from the test to the child: one byte for the next step */
static int done[2]; /* and back */
static const char *jail;
static char empty[] = "/tmp/ebb-setuid-XXXXXX";

static void remove_directory(void)
{
    rmdir(empty);
}

static void say(const int *pipe_ends)
{
    if (write(pipe_ends[1], "x", 1) != 1)
        fail("write: %s", strerror(errno));
}

static void hear(const int *pipe_ends)
{
    char byte;
    if (read(pipe_ends[0], &byte, 1) != 1)
        fail("read: the other side has ended");
}

static void drop_privileges(void)
{
    if (jail != NULL && (chroot(jail) != 0 || chdir("/") != 0))
        fail("chroot %s: %s", jail, strerror(errno));
    if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
        fail("setuid: %s", strerror(errno));
}

static void *stay_busy(void *unused)
{
    for (;;) {
        rise_and_fall(16 * MiB);
        sleep_seconds(0.02);
    }
    return unused;
}

/* busy: a load that goes on all the time, so that the purger has no reason of its own to end. */
static _Noreturn void run_child(bool busy)
{
    pthread_t thread;
    struct load load = {.bytes = 16 * MiB, .least = 64, .most = 4 * KiB};
    wake_purger();
    if (busy && pthread_create(&thread, NULL, stay_busy, NULL) != 0)
        fail("pthread_create");
    load_prepare(&load);
    load_rise(&load, 0);
    drop_privileges();
    say(done);
    hear(go);
    load_fall(&load);
    rise_and_fall(32 * MiB);
    say(done);
    hear(go);
    _exit(0);
}

/* The first task of which one of the user or group ids is 0, or 0. */
static int privileged_task(int process)
{
    int ids[TASKS_MOST];
    unsigned count = list_tasks(process, ids);
    if (count == 0)
        fail("the child has no tasks");
    for (unsigned i = 0; i < count; i++) {
        char users[128], groups[128];
        if (!task_field(process, ids[i], "Uid:", users, sizeof users) ||
            !task_field(process, ids[i], "Gid:", groups, sizeof groups))
            continue;
        char padded[300];
        snprintf(padded, sizeof padded, "\t%s\t%s\t", users, groups);
        if (strstr(padded, "\t0\t") != NULL)
            return ids[i];
    }
    return 0;
}

static void check(const char *what, const char *directory, bool busy)
{
    if (pipe(go) != 0 || pipe(done) != 0)
        fail("pipe");
    jail = directory;
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        close(go[1]);
        close(done[0]);
        run_child(busy);
    }
    close(go[0]);
    close(done[1]);
    hear(done);
    double start = now_seconds();
    int task;
    while ((task = privileged_task(child)) != 0 && now_seconds() < start + SECONDS)
        sleep_seconds(0.01);
    if (task != 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        fail("%s: task %d is still root after %g s", what, task, SECONDS);
    }
    report("%s: nothing is root any more after %.0f ms", what, (now_seconds() - start) * 1000);
    say(go);
    hear(done);
    int purger = 0;
    for (double end = now_seconds() + SECONDS; purger == 0 && now_seconds() < end;)
        purger = find_purger(child);
    if (purger == 0)
        promise_broken("%s: no purger as the new user", what);
    if (privileged_task(child) != 0)
        fail("%s: a task is root again", what);
    say(go);
    require_success(wait_for(child, 10, what), what);
    close(go[1]);
    close(done[0]);
}

/* ---- A program that sleeps afterwards ---------------------------------------------------------
 */

static size_t resident_bytes_of(int process)
{
    char kib[32];
    if (!task_field(process, process, "VmRSS:", kib, sizeof kib))
        fail("process %d is gone", process);
    return strtoull(kib, NULL, 10) * KiB;
}

static void next_step(void)
{
    say(done);
    hear(go);
}

static _Noreturn void run_sleeper(void)
{
    struct load load = {.bytes = 64 * MiB, .least = 64, .most = 4 * KiB};
    touch_stack();
    load_prepare(&load);
    next_step();
    load_rise(&load, 0);
    next_step();
    load_fall(&load);
    drop_privileges();
    next_step(); /* asleep in read */
    _exit(0);
}

static void check_sleeper(const char *what, const char *directory)
{
    if (pipe(go) != 0 || pipe(done) != 0)
        fail("pipe");
    jail = directory;
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        close(go[1]);
        close(done[0]);
        run_sleeper();
    }
    close(go[0]);
    close(done[1]);
    hear(done);
    size_t start = resident_bytes_of(child);
    say(go);
    hear(done);
    size_t rise = resident_bytes_of(child) - start, stays;
    say(go);
    hear(done);
    int task;
    double begin = now_seconds();
    for (;; sleep_seconds(0.01)) {
        size_t now = resident_bytes_of(child);
        stays = now > start ? now - start : 0;
        task = privileged_task(child);
        if ((task == 0 && stays <= MAY_STAY(rise)) || now_seconds() > begin + SECONDS)
            break;
    }
    report("%s: %zu KiB over the start at the peak, %zu KiB and %s root %.0f ms later", what,
           rise / KiB, stays / KiB, task != 0 ? "still" : "no", (now_seconds() - begin) * 1000);
    if (task != 0 || stays > MAY_STAY(rise)) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    if (rise < 48 * MiB)
        fail("%s: the load did not rise", what);
    if (task != 0)
        fail("%s: task %d is still root after %g s", what, task, SECONDS);
    if (stays > MAY_STAY(rise))
        promise_broken("%s: %zu KiB stay resident, allowed are %zu", what, stays / KiB,
                       MAY_STAY(rise) / KiB);
    say(go);
    require_success(wait_for(child, 10, what), what);
    close(go[1]);
    close(done[0]);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "setuid", 60);
    if (geteuid() != 0) {
        report("only root has privileges to give up: skipped");
        return 77;
    }
    if (mkdtemp(empty) == NULL)
        fail("mkdtemp");
    fail_hook = remove_directory;
    check("setuid", NULL, false);
    check("setuid under load", NULL, true);
    check("setuid in a chroot", empty, false);
    check("setuid in a chroot under load", empty, true);
    check_sleeper("setuid, then asleep", NULL);
    check_sleeper("setuid in a chroot, then asleep", empty);
    remove_directory();
    return 0;
}
