/* processes: whatever a program does with processes works while the purger is alive, and gives the
 * purger no reason to stay away later: fork, vfork and exec, posix_spawn, daemon, exec, a vfork
 * child that allocates, a main thread that ends before the others, and the calls that the kernel
 * allows to processes of one thread alone. A child that never calls gives back what it inherits.
 * And libc's word for a program with one thread stays true with the purger beside it.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "older.h"

extern char **environ;

/* The option that keeps the purger away. */
#define WITHOUT "EBBMALLOC_BACKGROUND_THREAD"

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
    if (&__libc_single_threaded == NULL) {
        report("libc does not say whether there are other threads: skipped");
        return;
    }
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

/* ---- Children that call nothing ----------------------------------------------------------------
 */

static void huge_rise_and_fall(void)
{
    char *blocks[3];
    for (size_t i = 0; i < 3; i++) {
        if ((blocks[i] = malloc(20 * MiB)) == NULL)
            fail("malloc");
        memset(blocks[i], 1, 20 * MiB);
    }
    for (size_t i = 0; i < 3; i++)
        free(blocks[i]);
}

static void small_rise_and_fall(void)
{
    load_rise(&load, 2);
    load_fall(&load);
}

static void large_rise_and_fall(void)
{
    rise_and_fall(64 * MiB);
}

static void check_silent_child(const char *what, void (*run_load)(void))
{
    run_load();
    pid_t child = fork(); /* before the purger has done anything */
    if (child == 0) {
        require_fall(what, start, resident_bytes());
        _exit(0);
    }
    require_success(wait_for(child, 10, what), what);
    if (!purger_ends(2))
        fail("%s: the purger of the parent does not end", what);
}

static void silent_small(void)
{
    check_silent_child("a silent child, small blocks", small_rise_and_fall);
}

static void silent_large(void)
{
    check_silent_child("a silent child, large blocks", large_rise_and_fall);
}

static void silent_huge(void)
{
    check_silent_child("a silent child, huge blocks", huge_rise_and_fall);
}

static pthread_barrier_t meeting;

static void *sleep_for_good(void *unused)
{
    small_rise_and_fall(); /* some stays in its cache */
    pthread_barrier_wait(&meeting);
    for (;;)
        pause();
    return unused;
}

static void silent_of_threads(void)
{
    pthread_t thread;
    pthread_barrier_init(&meeting, NULL, 2);
    if (pthread_create(&thread, NULL, sleep_for_good, NULL) != 0)
        fail("pthread_create");
    pthread_barrier_wait(&meeting);
    check_silent_child("a silent child of a process of two threads", large_rise_and_fall);
}

/* ---- Namespaces --------------------------------------------------------------------------------
 */

/* A child in a user namespace of its own; it ends when the pipe is closed. */
static pid_t start_child_in_namespace(int *pipe_ends)
{
    int ready[2];
    char word = 0;
    if (pipe(pipe_ends) != 0 || pipe(ready) != 0)
        fail("pipe");
    pid_t child = fork();
    if (child == 0) {
        close(pipe_ends[1]);
        word = unshare(CLONE_NEWUSER) == 0 ? 'g' : 'b';
        if (write(ready[1], &word, 1) != 1 || read(pipe_ends[0], &word, 1) != 0)
            _exit(1);
        _exit(0);
    }
    close(pipe_ends[0]);
    if (child < 0 || read(ready[0], &word, 1) != 1 || word != 'g')
        fail("a child in another user namespace");
    return child;
}

static void enter_namespace_of_child(void)
{
    int pipe_ends[2];
    char path[64];
    pid_t child = start_child_in_namespace(pipe_ends);
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)child);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        fail("%s: %s", path, strerror(errno));
    rise_and_fall(64 * MiB);
    if (getenv(WITHOUT) == NULL)
        require_alive();
    int error = setns(descriptor, CLONE_NEWUSER) == 0 ? 0 : errno;
    close(descriptor);
    close(pipe_ends[1]);
    require_success(wait_for(child, 10, "a child in a namespace"), "a child in a namespace");
    if (error != 0)
        fail("setns(CLONE_NEWUSER): %s", strerror(error));
}

/* Once each, without a purger: whether the kernel allows it at all. */
static void namespaces_without(void)
{
    pid_t child = fork();
    if (child == 0) {
        enter_namespace_of_child();
        _exit(0);
    }
    require_success(wait_for(child, 10, "setns"), "setns");
    if (unshare(CLONE_NEWUSER) != 0)
        fail("unshare(CLONE_NEWUSER): %s", strerror(errno));
}

/* One process can do it once: from then on its ids are unknown to the kernel. */
static void unshared(void)
{
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        if (child == 0) {
            wake_purger();
            rise_and_fall(64 * MiB);
            require_alive();
            if (unshare(CLONE_NEWUSER) != 0)
                fail("unshare(CLONE_NEWUSER): %s", strerror(errno));
            _exit(0);
        }
        require_success(wait_for(child, 10, "unshare"), "unshare");
    }
    wake_purger();
    if (unshare(CLONE_NEWUSER) != 0)
        fail("unshare(CLONE_NEWUSER): %s", strerror(errno));
    require_purger_works("after unshare");
}

static void entered(void)
{
    wake_purger();
    enter_namespace_of_child();
    require_purger_works("after setns");
}

static void expect_error(const char *call, int result, int expected)
{
    int error = result == 0 ? 0 : errno;
    if (error != expected)
        fail("%s: %s, not %s", call, strerror(error), strerror(expected));
}

/* What the kernel refuses, it refuses with the purger as without. */
static void refused(void)
{
    int own = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
    wake_purger();
    expect_error("unshare(0)", unshare(0), 0);
    expect_error("unshare(1)", unshare(1), EINVAL);
    expect_error("unshare(CLONE_SIGHAND)", unshare(CLONE_SIGHAND), 0);
    expect_error("setns(-1, 0)", setns(-1, 0), EBADF);
    expect_error("setns(its own)", setns(own, CLONE_NEWUSER), EINVAL);
    expect_error("setns(of the wrong kind)", setns(own, CLONE_NEWNS), EINVAL);
    require_purger_works("after refusals");
}

#define BEFORE_ALL "namespaces without a purger"

static const struct {
    const char *name;
    void (*run)(void);
    bool needs_namespaces;
} parts[] = {
    {"single-threaded", single_threaded, false},
    {"fork", forked, false},
    {"silent child, small", silent_small, false},
    {"silent child, large", silent_large, false},
    {"silent child, huge", silent_huge, false},
    {"silent child of threads", silent_of_threads, false},
    {"vfork and exec", vforked, false},
    {"vfork and malloc", vforked_and_allocating, false},
    {"posix_spawn", spawned, false},
    {"daemon", daemonized, false},
    {"exec", execed, false},
    {"main ends first", main_ends_first, false},
    {"unshare", unshared, true},
    {"setns", entered, true},
    {"unshare and setns refused", refused, false},
    {BEFORE_ALL, namespaces_without, true},
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
    static char without[] = WITHOUT "=off";
    bool has_namespaces = run_part(BEFORE_ALL, without, 20) == 0;
    if (!has_namespaces)
        report("no user namespaces for this user on this kernel: parts that need them left out");
    for (unsigned i = 0; i < PARTS - 1; i++) {
        if (parts[i].needs_namespaces && !has_namespaces)
            continue;
        int status = run_part(parts[i].name, NULL, 20);
        if (status != 0)
            report("%s: wait status %#x", parts[i].name, status);
        failed += status != 0;
    }
    if (failed != 0)
        fail("%u of %u parts", failed, (unsigned)PARTS);
    return 0;
}
