/* A program whose operations can be counted: `calls N [HOW]` makes each call of malloc's family N
 * times. Twice as many N must show twice as many operations in a trace, to the last one.
 *
 * HOW: a letter for each thing to do beside it:
 *   f  in a child made by fork, which leaves by _exit
 *   c  all of it; then close all descriptors, open a file called "bystander" many times, and again
 *   h  in each of 16 children that a signal's handler makes by fork, mostly in the middle of a call
 *   k  and then kill itself
 *   e  and return from main while 64 threads pass blocks to each other
 *   g  and return from main while 64 threads end, one after the other
 *   l  under a limit of the size of files, 100,000 bytes
 *   q  and leave by quick_exit
 *   s  and get blocks until a signal comes, whose handler leaves by _exit
 *   t  in eight threads at once, each of which frees what another one got
 *   v  all of it in a child made by vfork that has closed all descriptors; and again
 *   x  in a thread that is cancelled, and ends where it says so itself; with f, before the fork
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, CALLS = 9 };

struct part {
    void **blocks; /* got by this thread */
    long count;
};

static long times;
static struct part parts[THREADS];
static pthread_barrier_t meeting;

static void get(struct part *part)
{
    void *block = NULL;
    for (long i = 0; i < times; i++) {
        void **next = part->blocks + part->count;
        size_t size = 1 + (size_t)i % 5000;
        *next++ = malloc(size);
        *next++ = calloc(3, size);
        *next++ = realloc(malloc(size), 2 * size);
        *next++ = reallocarray(NULL, 2, size);
        *next++ = aligned_alloc(64, (size + 63) / 64 * 64);
        if (posix_memalign(&block, 4096, size) == 0)
            *next++ = block;
        *next++ = memalign(32, size);
        *next++ = valloc(size);
        *next++ = pvalloc(size);
        part->count = next - part->blocks;
    }
}

/* Those of C23: free where nothing defines them. */
static void (*sized)(void *, size_t);
static void (*aligned_sized)(void *, size_t, size_t);

static void give_back(struct part *part)
{
    for (long i = 0; i < part->count; i++) {
        size_t size = 1 + (size_t)(i / CALLS) % 5000;
        if (i % CALLS == 0 && sized != NULL)
            sized(part->blocks[i], size);
        else if (i % CALLS == 4 && aligned_sized != NULL)
            aligned_sized(part->blocks[i], 64, (size + 63) / 64 * 64);
        else
            free(part->blocks[i]);
    }
    part->count = 0;
}

static void *work(void *argument)
{
    struct part *part = argument;
    get(part);
    pthread_barrier_wait(&meeting);
    give_back(&parts[(part - parts + 1) % THREADS]);
    return NULL;
}

static void work_in_threads(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, &parts[i]) != 0)
            _exit(1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void *_Atomic passed[4];

static void *pass(void *argument)
{
    for (size_t i = (size_t)argument;; i++) {
        free(atomic_exchange(&passed[i % 4], malloc(1 + i % 100)));
        if (i % 4 == 0)
            sched_yield();
    }
    return NULL;
}

enum { GOING = 64 };
static pthread_barrier_t going;

static void *go(void *argument)
{
    void *first = malloc(1);
    for (size_t i = 0; i < 80000; i++)
        free(malloc(1 + i % 5000));
    free(first); /* by now, what was noted of the first one has been written */
    pthread_barrier_wait(&going);
    usleep(100 * (GOING - (unsigned)(size_t)argument)); /* the youngest first */
    return NULL;
}

static void leave_threads_ending(void)
{
    pthread_t thread;
    pthread_barrier_init(&going, NULL, GOING + 1);
    for (size_t i = 0; i < GOING; i++)
        if (pthread_create(&thread, NULL, go, (void *)i) != 0)
            _exit(1);
    pthread_barrier_wait(&going);
}

/* For some 20 ms, and they do not stop. */
static void leave_threads_running(void)
{
    pthread_t thread;
    for (size_t i = 0; i < 8 * THREADS; i++)
        if (pthread_create(&thread, NULL, pass, (void *)i) != 0)
            _exit(1);
    usleep(20000);
}

static void leave_at_once(int number)
{
    _exit(number == SIGALRM ? 0 : 1);
}

/* What it interrupts is mostly the recorder's writing. */
static void get_until_a_signal(void)
{
    const struct itimerval soon = {.it_value.tv_usec = 20000};
    signal(SIGALRM, leave_at_once);
    setitimer(ITIMER_REAL, &soon, NULL);
    for (;;)
        free(malloc(100));
}

static volatile sig_atomic_t forked;

static void fork_here(int number)
{
    (void)number;
    forked = fork() == 0 ? 1 : -1;
}

/* True in the children. What the signal interrupts is mostly the kernel's work for the C library's
 * malloc and free, or realloc. */
static bool fork_in_handlers(void)
{
    const struct itimerval soon = {.it_value.tv_usec = 2000};
    signal(SIGALRM, fork_here);
    for (int i = 0; i < 16; i++) {
        int status = 1;
        forked = 0;
        setitimer(ITIMER_REAL, &soon, NULL);
        void *block = NULL;
        for (size_t size = 20 << 20; forked == 0; size ^= 4 << 20) {
            if (i % 2 == 0)
                free(malloc(size));
            else if ((block = realloc(block, size)) == NULL)
                _exit(1);
        }
        free(block);
        if (forked == 1)
            return true;
        if (wait(&status) < 0 || status != 0)
            _exit(1);
    }
    return false;
}

static void *be_cancelled(void *argument)
{
    pthread_cancel(pthread_self());
    get(argument);
    give_back(argument);
    pthread_testcancel();
    return argument;
}

static void work_in_cancelled_thread(void)
{
    pthread_t thread;
    void *end = NULL;
    if (pthread_create(&thread, NULL, be_cancelled, &parts[0]) != 0 ||
        pthread_join(thread, &end) != 0 || end != PTHREAD_CANCELED || parts[0].count != 0)
        _exit(1);
}

/* Whatever descriptor had been another's is the bystander's now. */
static void close_all(void)
{
    for (int i = 0; i < 1024; i++)
        close(i);
    for (int i = 0; i < 1000; i++)
        if (open("bystander", O_RDWR | O_CREAT | O_APPEND, 0600) < 0)
            _exit(1);
}

/* The child has descriptors of its own, and the parent's memory. */
static void work_in_vfork(void)
{
    int status = 1;
    pid_t child = vfork();
    if (child == 0) {
        for (int i = 3; i < 1024; i++)
            close(i);
        get(&parts[0]);
        give_back(&parts[0]);
        _exit(0);
    }
    if (waitpid(child, &status, 0) != child || status != 0)
        _exit(1);
}

int main(int argc, char **argv)
{
    const char *how = argc > 2 ? argv[2] : "";
    sized = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    aligned_sized = (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    times = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    pthread_barrier_init(&meeting, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        parts[i].blocks = malloc((size_t)times * CALLS * sizeof(void *) + 1);
    if (strchr(how, 'c') != NULL) {
        get(&parts[0]);
        give_back(&parts[0]);
        close_all();
    }
    if (strchr(how, 'f') != NULL) {
        int status = 1;
        if (strchr(how, 'x') != NULL)
            work_in_cancelled_thread();
        pid_t child = fork();
        if (child != 0)
            return waitpid(child, &status, 0) != child || status != 0;
    }
    if (strchr(how, 'h') != NULL && !fork_in_handlers())
        return 0;
    if (strchr(how, 'v') != NULL)
        work_in_vfork();
    const struct rlimit limit = {100000, 100000};
    if (strchr(how, 'l') != NULL && setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 1;
    if (strchr(how, 't') != NULL) {
        work_in_threads();
    } else if (strchr(how, 'x') != NULL) {
        work_in_cancelled_thread();
    } else {
        get(&parts[0]);
        give_back(&parts[0]);
    }
    if (strchr(how, 'e') != NULL)
        leave_threads_running();
    if (strchr(how, 'g') != NULL)
        leave_threads_ending();
    if (strchr(how, 's') != NULL)
        get_until_a_signal();
    if (strchr(how, 'k') != NULL)
        kill(getpid(), SIGKILL);
    if (strchr(how, 'q') != NULL)
        quick_exit(0);
    if (strchr(how, 'f') != NULL)
        _exit(0);
    return 0;
}
