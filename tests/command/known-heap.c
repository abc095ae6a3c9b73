/* A program whose heap is known, for the tests of the statistics. libc and the loader allocate
 * nothing of these sizes. With an argument it says "ready" and waits, to be looked at; its second
 * thread has blocks of its own by then. With "large" it is another heap: 500 threads with 4 GiB of
 * small blocks, most of them never touched, so that any machine can hold it. With "forks" it forks
 * right after each of many SIGUSR2, and the children allocate. With "tide" it holds 64 MiB once, of
 * small blocks, aligned and huge ones, and then a sixteenth of that. With "family" it frees 39 MB,
 * forks when SIGUSR1 comes, and sleeps; the child allocates, says "ready" and its id, and sleeps.
 * With "forks on" it has a heap that does not change, and children, one after the other, for ever.
 * With "trades" four threads allocate for ever, and each frees what any of them has allocated.
 * With "maps" it has the heap of "large", and one thread more that maps and unmaps memory without a
 * pause; it tells for each line that it reads how often that thread has been held for longer than a
 * millisecond: the time that it waited for a processor is not counted.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *touched(void *block)
{
    return memset(block, 1, malloc_usable_size(block));
}

/* So many blocks, of which the first ones are freed again. Touched throughout. */
static void hold(size_t size, int count, int freed)
{
    char **blocks = malloc(count * sizeof *blocks);
    for (int i = 0; i < count; i++)
        blocks[i] = touched(malloc(size));
    for (int i = 0; i < freed; i++)
        free(blocks[i]);
}

static void *wait_to_be_looked_at(void *unused)
{
    prctl(PR_SET_NAME, "known thread");
    hold(1400, 2000, 0);
    if (write(STDOUT_FILENO, "ready\n", 6) != 6)
        abort();
    for (;;)
        pause();
    return unused;
}

#define LARGE_THREADS 500
#define LARGE_BYTES ((size_t)4 << 30)

static pthread_barrier_t all_hold;

static void *hold_a_part(void *unused)
{
    for (size_t left = LARGE_BYTES / LARGE_THREADS, size; left > 3000; left -= size) {
        size = 100 + left * 7919 % 2900;
        char *block = malloc(size);
        if (left % 8 == 0)
            *block = 1;
    }
    pthread_barrier_wait(&all_hold);
    for (;;)
        pause();
    return unused;
}

static bool hold_much(void)
{
    pthread_t thread;
    pthread_attr_t small;
    pthread_barrier_init(&all_hold, NULL, LARGE_THREADS + 1);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 * 1024);
    for (int i = 0; i < LARGE_THREADS; i++)
        if (pthread_create(&thread, &small, hold_a_part, NULL) != 0)
            return false;
    pthread_barrier_wait(&all_hold);
    return write(STDOUT_FILENO, "ready\n", 6) == 6;
}

static int hold_much_and_wait(void)
{
    if (!hold_much())
        return 1;
    for (;;)
        pause();
}

#define TIDE_BLOCKS 32768

static int rise_and_fall(void)
{
    static char *blocks[TIDE_BLOCKS];
    void *aligned[8];
    for (int i = 0; i < TIDE_BLOCKS; i++)
        blocks[i] = malloc(1024);
    for (int i = 0; i < 8; i++)
        if (posix_memalign(&aligned[i], 1 << 20, 2 << 20) != 0)
            return 1;
    char *huge = malloc(16 << 20);
    for (int i = 0; i < TIDE_BLOCKS; i++)
        if (i % 8 != 0)
            free(blocks[i]);
    for (int i = 0; i < 8; i++)
        free(aligned[i]);
    free(huge);
    return 0;
}

static int fork_for_ever(void)
{
    hold(3000, 1000, 0);
    hold(700, 5000, 3000);
    if (write(STDOUT_FILENO, "ready\n", 6) != 6)
        return 1;
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            hold(700, 20, 10);
            _exit(0);
        }
        if (child < 0 || waitpid(child, NULL, 0) != child)
            return 1;
    }
}

static int fork_when_told(void)
{
    char line[32];
    int number;
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGUSR1);
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    hold(3000, 13000, 13000);
    if (write(STDOUT_FILENO, "ready\n", 6) != 6 || sigwait(&awaited, &number) != 0)
        return 1;
    if (fork() == 0) {
        hold(500, 5000, 0);
        int length = snprintf(line, sizeof line, "ready %d\n", (int)getpid());
        if (write(STDOUT_FILENO, line, (size_t)length) != length)
            return 1;
    }
    for (;;)
        pause();
}

#define FORKS 8000

/* A child that finds a lock held by a thread that it does not have waits for ever. */
static int fork_after_signals(void)
{
    int status = 0;
    for (unsigned turn = 0; turn < FORKS && status == 0; turn++) {
        for (int i = 0; i < 20; i++)
            free(malloc(100 << i % 10));
        kill(getpid(), SIGUSR2);
        for (volatile unsigned spin = turn % 128 * 200; spin != 0; spin--)
            ;
        pid_t child = fork();
        if (child == 0) {
            alarm(5);
            for (int i = 0; i < 24; i++)
                hold(16 << i % 12, 10, 5);
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child)
            return 1;
    }
    return status != 0;
}

#define TRADERS 4
#define TRADED 50000

static void *_Atomic traded[TRADED];

static void *trade_for_ever(void *number)
{
    uint64_t random = 1 + (uintptr_t)number;
    for (;;) {
        random = random * 6364136223846793005 + 1442695040888963407;
        size_t size = 16 + (random >> 33) % 3000;
        free(atomic_exchange(&traded[(random >> 45) % TRADED], malloc(size)));
    }
    return NULL;
}

static int trade_and_wait(void)
{
    pthread_t thread;
    for (uintptr_t i = 0; i < TRADERS; i++)
        if (pthread_create(&thread, NULL, trade_for_ever, (void *)i) != 0)
            return 1;
    sleep(1);
    if (write(STDOUT_FILENO, "ready\n", 6) != 6)
        return 1;
    for (;;)
        pause();
}

static _Atomic long held_count;

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* How long the thread that opened the file has waited for a processor: the second number in
 * /proc/thread-self/schedstat; 0 where there is no such file. */
static double delayed_ms(int file)
{
    char text[128];
    ssize_t length = pread(file, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    const char *second = strchr(text, ' ');
    return second != NULL ? strtod(second, NULL) / 1e6 : 0;
}

static void *map_for_ever(void *unused)
{
    int file = open("/proc/thread-self/schedstat", O_RDONLY);
    double delayed = delayed_ms(file);
    for (;;) {
        double before = now_ms();
        munmap(mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536);
        double took = now_ms() - before;
        if (took < 0.1)
            continue;
        double delayed_before = delayed;
        delayed = delayed_ms(file);
        held_count += took - (delayed - delayed_before) > 1;
    }
    return unused;
}

static int map_and_tell(void)
{
    pthread_t thread;
    if (!hold_much() || pthread_create(&thread, NULL, map_for_ever, NULL) != 0)
        return 1;
    while (fflush(stdout) == 0 && getchar() != EOF)
        printf("%ld\n", held_count);
    return 0;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    void *aligned;
    if (argc > 1 && strcmp(argv[1], "large") == 0)
        return hold_much_and_wait();
    if (argc > 1 && strcmp(argv[1], "forks") == 0)
        return fork_after_signals();
    if (argc > 1 && strcmp(argv[1], "forks on") == 0)
        return fork_for_ever();
    if (argc > 1 && strcmp(argv[1], "family") == 0)
        return fork_when_told();
    if (argc > 1 && strcmp(argv[1], "tide") == 0)
        return rise_and_fall();
    if (argc > 1 && strcmp(argv[1], "trades") == 0)
        return trade_and_wait();
    if (argc > 1 && strcmp(argv[1], "maps") == 0)
        return map_and_tell();
    hold(3000, 1000, 0);
    hold(700, 5000, 3000);
    hold(100 * 1024, 30, 0);
    hold(5 << 20, 3, 0);
    hold(2000, 64, 64); /* for the cache */
    if (posix_memalign(&aligned, 1 << 20, 200 * 1024) != 0)
        return 1;
    touched(aligned);
    if (argc > 1 && pthread_create(&thread, NULL, wait_to_be_looked_at, NULL) == 0)
        pthread_join(thread, NULL);
    return 0;
}
