/* A program whose operations can be counted: `calls N [HOW]` makes each call of malloc's family N
 * times. Twice as many N must show twice as many operations in a trace, to the last one.
 *
 * HOW: a letter for each thing to do beside it:
 *   f  in a child made by fork, which leaves by _exit
 *   c  all of it; then close all descriptors, open a file called "bystander" many times, and again
 *   k  and then kill itself
 *   e  and return from main while 64 threads pass blocks to each other
 *   t  in eight threads at once, each of which frees what another one got
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
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

static void give_back(struct part *part)
{
    for (long i = 0; i < part->count; i++)
        free(part->blocks[i]);
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

/* For some 20 ms, and they do not stop. */
static void leave_threads_running(void)
{
    pthread_t thread;
    for (size_t i = 0; i < 8 * THREADS; i++)
        if (pthread_create(&thread, NULL, pass, (void *)i) != 0)
            _exit(1);
    usleep(20000);
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

int main(int argc, char **argv)
{
    const char *how = argc > 2 ? argv[2] : "";
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
        pid_t child = fork();
        if (child != 0)
            return waitpid(child, &status, 0) != child || status != 0;
    }
    if (strchr(how, 't') != NULL) {
        work_in_threads();
    } else {
        get(&parts[0]);
        give_back(&parts[0]);
    }
    if (strchr(how, 'e') != NULL)
        leave_threads_running();
    if (strchr(how, 'k') != NULL)
        kill(getpid(), SIGKILL);
    if (strchr(how, 'f') != NULL)
        _exit(0);
    return 0;
}
