/* processes: whatever a program does with processes works while the purger is alive, and gives the
 * purger no reason to stay away later: fork, vfork and exec, posix_spawn, daemon, exec, a vfork
 * child that allocates, and a main thread that ends before the others. And libc's word for a
 * program with one thread stays true with the purger beside it.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/single_threaded.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char *const true_arguments[] = {"true", NULL};

/* One that shows that the purger works: it comes, and memory falls. */
static struct load load = {.bytes = 64 * MiB, .least = 16, .most = 4 * KiB};
static size_t start; /* resident bytes */

static void measure_start(void)
{
    touch_stack();
    load_prepare(&load);
    start = resident_bytes();
}

static void require_purger_works(const char *what)
{
    load_rise(&load, 1);
    size_t peak = resident_bytes();
    load_fall(&load);
    require_fall(what, start, peak);
}

static void require_alive(void)
{
    if (find_purger(getpid()) == 0)
        fail("the purger was not alive when it mattered");
}

static void single_threaded(void)
{
    if (!__libc_single_threaded)
        fail("libc takes the program for one with threads before there is a purger");
    wake_purger();
    if (!__libc_single_threaded)
        fail("libc takes the program for one with threads because of the purger");
}

static void forked(void)
{
    wake_purger();
    for (unsigned i = 0; i < 20; i++) {
        rise_and_fall(16 * MiB);
        require_alive();
        pid_t child = fork();
        if (child == 0) {
            if (find_purger(getpid()) != 0)
                fail("a child of fork has a purger at once");
            rise_and_fall(32 * MiB);
            _exit(0);
        }
        require_success(wait_for(child, 10, "fork"), "fork");
    }
    require_purger_works("after forks");
}

static void vforked(void)
{
    wake_purger();
    for (unsigned i = 0; i < 20; i++) {
        rise_and_fall(16 * MiB);
        require_alive();
        pid_t child = vfork();
        if (child == 0) {
            execvp("true", true_arguments);
            _exit(127);
        }
        require_success(wait_for(child, 10, "vfork and exec"), "vfork and exec");
    }
    require_purger_works("after vforks");
}

/* Not allowed, and done all the same (by shells and by posix_spawn's file actions of old). The
 * purger had better not be the child's: it would end with it, unseen by the parent. */
static void vforked_and_allocating(void)
{
    rise_and_fall(4 * MiB);
    if (find_purger(getpid()) != 0)
        fail("the purger is there already: the child cannot be the one to start it");
    pid_t child = vfork();
    if (child == 0) {
        rise_and_fall(64 * MiB);
        _exit(0);
    }
    require_success(wait_for(child, 10, "vfork and malloc"), "vfork and malloc");
    require_purger_works("after a child of vfork that allocates");
}

static void spawned(void)
{
    wake_purger();
    for (unsigned i = 0; i < 20; i++) {
        pid_t child;
        rise_and_fall(16 * MiB);
        require_alive();
        int error = posix_spawnp(&child, "true", NULL, NULL, true_arguments, environ);
        if (error != 0)
            fail("posix_spawnp: %s", strerror(error));
        require_success(wait_for(child, 10, "posix_spawn"), "posix_spawn");
    }
    require_purger_works("after posix_spawns");
}

/* What is left of this process afterwards says by a pipe how it went. */
static void daemonized(void)
{
    int pipe_ends[2];
    char word = 0;
    if (pipe(pipe_ends) != 0)
        fail("pipe");
    pid_t child = fork();
    if (child == 0) {
        close(pipe_ends[0]);
        wake_purger();
        if (daemon(0, 1) != 0)
            fail("daemon: %s", strerror(errno));
        require_purger_works("a daemon");
        word = 'g';
        _exit(write(pipe_ends[1], &word, 1) == 1 ? 0 : 1);
    }
    close(pipe_ends[1]);
    require_success(wait_for(child, 10, "the starter of a daemon"), "the starter of a daemon");
    if (read(pipe_ends[0], &word, 1) != 1 || word != 'g')
        fail("the daemon ended too early");
}

static void execed(void)
{
    wake_purger();
    require_alive();
    execvp("true", true_arguments);
    fail("exec: %s", strerror(errno));
}

/* The kernel tells no memory figures of a process whose first thread has ended. The purger ends
 * when it has given all back. */
static void *outlive_main(void *main_thread)
{
    pthread_join(*(pthread_t *)main_thread, NULL);
    load_rise(&load, 1);
    load_fall(&load);
    require_alive();
    if (!purger_ends(2))
        fail("the purger does not get done when the main thread has ended");
    wake_purger(); /* it is alive when the last thread ends */
    return NULL;
}

static void main_ends_first(void)
{
    static pthread_t main_thread;
    pthread_t thread;
    main_thread = pthread_self();
    wake_purger();
    if (pthread_create(&thread, NULL, outlive_main, &main_thread) != 0)
        fail("pthread_create");
    pthread_exit(NULL);
}

/* The kernel lets only processes with one task enter a user namespace: an open point, told here and
 * not judged. */
static void namespaces(void)
{
    wake_purger();
    int error = unshare(CLONE_NEWUSER) == 0 ? 0 : errno;
    report("unshare(CLONE_NEWUSER) with the purger: %s", error == 0 ? "works" : strerror(error));
    int own = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
    error = setns(own, CLONE_NEWUSER) == 0 ? 0 : errno;
    report("setns to its own user namespace with the purger (never allowed): %s", strerror(error));
    own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    error = setns(own, CLONE_NEWNS) == 0 ? 0 : errno;
    report("setns to a mount namespace with the purger: %s",
           error == 0 ? "works" : strerror(error));
    if (!purger_ends(2))
        fail("the purger does not end");
    error = unshare(CLONE_NEWUSER) == 0 ? 0 : errno;
    report("unshare(CLONE_NEWUSER) without it: %s", error == 0 ? "works" : strerror(error));
}

static const struct {
    const char *name;
    void (*run)(void);
} parts[] = {
    {"single-threaded", single_threaded},
    {"fork", forked},
    {"vfork and exec", vforked},
    {"vfork and malloc", vforked_and_allocating},
    {"posix_spawn", spawned},
    {"daemon", daemonized},
    {"exec", execed},
    {"main ends first", main_ends_first},
    {"namespaces", namespaces},
};
enum { PARTS = sizeof parts / sizeof *parts };

static void run_measured(void (*part)(void))
{
    measure_start();
    part();
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[0], "part") == 0) {
        stress_begin_part("processes", argv[2]);
        for (unsigned i = 0; i < PARTS; i++)
            if (strcmp(parts[i].name, argv[1]) == 0)
                run_measured(parts[i].run);
        return 0;
    }
    stress_begin(argc, argv, "processes", 100);
    unsigned failed = 0;
    for (unsigned i = 0; i < PARTS; i++) {
        int status = run_part(parts[i].name, NULL, 20);
        if (status != 0)
            report("%s: wait status %#x", parts[i].name, status);
        failed += status != 0;
    }
    if (failed != 0)
        fail("%u of %u parts", failed, (unsigned)PARTS);
    return 0;
}
