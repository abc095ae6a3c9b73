/* fork: a child that is forked while other threads are in the middle of malloc, free and realloc
 * works on: it frees what those threads had allocated, allocates, trims, starts threads and forks
 * again. So do vfork with exec, posix_spawn and daemon, and handlers of pthread_atfork may
 * allocate.
 *
 * A child that hangs is ended by its own alarm; the parent takes that for a failure.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HAMMERS 3
#define FORKERS 2 /* threads that fork, besides the main thread */
#define SECONDS 10
#define LEAST_FORKS 200
#define LEAST_FORKS_HARDENED 50 /* each waits for arenas that are in use nearly all the time */
#define CHILD_SECONDS 20        /* a child needs a few milliseconds */
#define SLOTS 1024

/* Blocks of all threads. Who exchanges a pointer out owns the block until it puts one back, so a
 * pointer that is found here, in a child too, always leads to a whole block. */
static _Atomic(struct parcel *) slots[SLOTS];
static atomic_bool stop;
static double end;
static _Atomic uint64_t forks, replaced;

extern char **environ;

/* ---- the load -------------------------------------------------------------------------------- */

static size_t pick_size(struct rng *rng)
{
    return rng_size(rng, PARCEL_LEAST, rng_below(rng, 128) == 0 ? 512 * KiB : 4 * KiB);
}

static struct parcel *resize(struct parcel *parcel, struct rng *rng, unsigned thread)
{
    size_t size = pick_size(rng), kept = parcel->size < size ? parcel->size : size;
    uint64_t tag = parcel->check;
    parcel_check(parcel, thread, "before realloc");
    struct parcel *moved = realloc(parcel, size);
    if (moved == NULL)
        fail("thread %u: realloc to %zu bytes returned NULL with errno %d", thread, size, errno);
    size_t bad = pattern_check(moved->bytes, kept - PARCEL_LEAST, tag);
    if (bad != PATTERN_GOOD)
        fail("thread %u: block %p of %zu bytes after realloc: byte at offset %zu is %#x, was %#x",
             thread, (void *)moved, size, bad + PARCEL_LEAST, moved->bytes[bad],
             pattern_byte(bad, tag));
    parcel_write(moved, size, thread);
    return moved;
}

static void replace_one(struct rng *rng, unsigned thread)
{
    _Atomic(struct parcel *) *slot = &slots[rng_below(rng, SLOTS)];
    struct parcel *parcel = atomic_exchange(slot, NULL);
    if (parcel != NULL && rng_below(rng, 3) == 0) {
        parcel = resize(parcel, rng, thread);
    } else {
        if (parcel != NULL)
            parcel_end(parcel, thread, "replaced");
        parcel = parcel_make(pick_size(rng), thread);
    }
    parcel = atomic_exchange(slot, parcel);
    if (parcel != NULL)
        parcel_end(parcel, thread, "replaced by two at once");
    atomic_fetch_add_explicit(&replaced, 1, memory_order_relaxed);
}

static void *hammer(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;
    struct rng rng = rng_stream(thread);
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        replace_one(&rng, thread);
    return NULL;
}

/* ---- handlers of pthread_atfork ---------------------------------------------------------------
 */

/* Registered by a constructor, as libraries do; each allocates in its own way. The block that
 * prepare makes is freed by the parent and by the child. */
static _Thread_local struct parcel *atfork_block;

static void atfork_prepare(void)
{
    atfork_block = parcel_make(200, 0);
}

static void atfork_parent(void)
{
    parcel_end(atfork_block, 0, "in the parent's atfork handler");
}

static void atfork_child(void)
{
    alarm(CHILD_SECONDS); /* this early, since the next line may hang */
    parcel_end(atfork_block, 0, "in the child's atfork handler");
    parcel_end(parcel_make(3000, 0), 0, "in the child's atfork handler, new");
}

__attribute__((constructor)) static void register_atfork(void)
{
    if (pthread_atfork(atfork_prepare, atfork_parent, atfork_child) != 0)
        fail("pthread_atfork");
}

/* ---- what a child does ------------------------------------------------------------------------
 */

static void *child_thread(void *argument)
{
    unsigned thread = 100 + (unsigned)(uintptr_t)argument;
    struct rng rng = rng_stream(thread);
    for (unsigned i = 0; i < 200; i++)
        replace_one(&rng, thread);
    return NULL;
}

/* Every block that other threads had made in the parent: whole, and free can be called on it. */
static void child_frees(struct rng *rng)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        struct parcel *parcel = atomic_exchange(&slots[i], NULL);
        if (parcel == NULL)
            continue;
        if (rng_below(rng, 4) == 0)
            parcel = resize(parcel, rng, 90);
        parcel_end(parcel, 90, "in the child");
    }
}

static void child_threads(void)
{
    pthread_t threads[2];
    for (uintptr_t i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, child_thread, (void *)i) != 0)
            fail("pthread_create in the child");
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

static void grandchild(struct rng *rng)
{
    pid_t child = fork();
    if (child < 0)
        fail("fork in the child: %s", strerror(errno));
    if (child == 0) {
        alarm(CHILD_SECONDS);
        child_frees(rng);
        for (unsigned i = 0; i < 100; i++)
            replace_one(rng, 91);
        _exit(0);
    }
    require_success(wait_for(child, CHILD_SECONDS, "a grandchild"), "a grandchild");
}

/* Parts in changing order and company, by the child's own dice. */
static _Noreturn void child(uint64_t number)
{
    alarm(CHILD_SECONDS);
    struct rng rng = rng_stream(1000 + number);
    for (unsigned i = 0; i < 50; i++)
        replace_one(&rng, 92);
    if (rng_below(&rng, 2) == 0)
        malloc_trim(0);
    if (rng_below(&rng, 2) == 0)
        child_threads();
    if (rng_below(&rng, 4) != 0)
        child_frees(&rng);
    if (rng_below(&rng, 4) == 0)
        grandchild(&rng);
    for (unsigned i = 0; i < 200; i++)
        replace_one(&rng, 93);
    if (rng_below(&rng, 2) == 0)
        malloc_trim(0);
    child_frees(&rng);
    /* Every fourth runs the exit handlers and ELF destructors too. */
    if (number % 4 == 0)
        exit(0);
    _exit(0);
}

/* The children that run now, one per forking thread: when the test fails, those that hang do not
 * stay behind. A child that hangs in a handler of the library has not set its alarm yet. */
static _Atomic pid_t running[HAMMERS + FORKERS + 1];
static pid_t first_process;

static void kill_children(void)
{
    if (getpid() != first_process)
        return;
    for (unsigned i = 0; i < HAMMERS + FORKERS + 1; i++)
        if (running[i] > 0)
            kill(running[i], SIGKILL);
}

static void fork_once(unsigned thread)
{
    uint64_t number = atomic_fetch_add(&forks, 1);
    pid_t pid = fork();
    if (pid < 0)
        fail("fork: %s", strerror(errno));
    if (pid == 0)
        child(number);
    running[thread] = pid;
    int status = wait_for(pid, 1.5 * CHILD_SECONDS, "a child");
    running[thread] = 0;
    require_success(status, "a child");
}

static void *forker(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;
    struct rng rng = rng_stream(thread);
    while (now_seconds() < end) {
        for (unsigned i = 0; i < 20; i++)
            replace_one(&rng, thread);
        fork_once(thread);
    }
    return NULL;
}

/* ---- other ways to a new process ---------------------------------------------------------------
 */

/* This program again, which then ends at once: whatever libc it is built for. */
static char *const end_arguments[] = {(char *)"fork", (char *)"end", NULL};

static void vfork_once(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        execve("/proc/self/exe", end_arguments, environ);
        _exit(127);
    }
    require_success(wait_for(pid, CHILD_SECONDS, "vfork and exec"), "vfork and exec");
}

static void spawn_once(void)
{
    pid_t pid;
    int error = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, end_arguments, environ);
    if (error != 0)
        fail("posix_spawn: %s", strerror(error));
    require_success(wait_for(pid, CHILD_SECONDS, "posix_spawn"), "posix_spawn");
}

/* A process with threads goes into the background, as servers do: the daemon is the child's child,
 * orphaned; what it finds comes back through a pipe. */
static void daemon_once(void)
{
    int ends[2];
    if (pipe(ends) != 0)
        fail("pipe");
    pid_t pid = fork();
    if (pid == 0) {
        alarm(CHILD_SECONDS);
        struct rng rng = rng_stream(95);
        child_threads();
        if (daemon(1, 1) != 0)
            fail("daemon: %s", strerror(errno));
        alarm(CHILD_SECONDS); /* of the daemon: alarms are not inherited */
        child_threads();
        child_frees(&rng);
        malloc_trim(0);
        if (write(ends[1], "y", 1) != 1)
            fail("write");
        exit(0);
    }
    require_success(wait_for(pid, CHILD_SECONDS, "the parent of a daemon"), "daemon's parent");
    close(ends[1]);
    char answer = 0;
    if (read(ends[0], &answer, 1) != 1 || answer != 'y')
        fail("the daemon did not end its work");
    close(ends[0]);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], end_arguments[1]) == 0)
        return 0;
    stress_begin(argc, argv, "fork", 120);
    first_process = getpid();
    fail_hook = kill_children;
    end = now_seconds() + scaled_seconds(SECONDS);
    pthread_t threads[HAMMERS + FORKERS];
    for (uintptr_t i = 0; i < HAMMERS + FORKERS; i++)
        if (pthread_create(&threads[i], NULL, i < HAMMERS ? hammer : forker, (void *)i) != 0)
            fail("pthread_create");
    uint64_t others = 0;
    while (now_seconds() < end) {
        fork_once(HAMMERS + FORKERS);
        vfork_once();
        spawn_once();
        if (others++ % 8 == 0)
            daemon_once();
    }
    for (unsigned i = HAMMERS; i < HAMMERS + FORKERS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < HAMMERS; i++)
        pthread_join(threads[i], NULL);
    struct rng rng = rng_stream(99);
    child_frees(&rng);
    report("%" PRIu64 " forks, %" PRIu64 " each of vfork and posix_spawn, %" PRIu64
           " daemons, among %" PRIu64 " replaced blocks",
           forks, others, (others + 7) / 8, replaced);
    if (forks < scaled(is_hardened() ? LEAST_FORKS_HARDENED : LEAST_FORKS))
        fail("only %" PRIu64 " forks: too few to show anything", forks);
    return 0;
}
