/* A load that rises, falls and goes quiet, for bench/tide to watch from outside: which allocator
 * gives memory back, and when? It calls malloc and free, and nothing else of any allocator.
 *
 * Its own books are a few hundred bytes: the blocks of a load are chained through their own first
 * words, so what the process holds is what the allocator holds.
 *
 * It writes a line to standard output at the start of each phase:
 *
 *     PHASE SECONDS pid=PID [KEY=VALUE...]
 *
 * with SECONDS on CLOCK_MONOTONIC. PHASE is rise (blocks are being made), peak (all are there),
 * fall (they are being freed), fallen (all threads sleep now, but for one in `churn`) and end. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "common.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MOST_THREADS = 256,
    CHAINS = 64, /* per worker; see allocate_share */
    SURVIVOR_EVERY = 64,
    CHURN_LIVE = 100, /* blocks that the thread of `churn` keeps alive */
    CHURN_STEPS = 10, /* replaced by it every millisecond */
};
#define MINIMUM_HOLD_SECONDS 0.3 /* a sampler must be able to see the peak */

/* Every block begins with this; no size below is smaller. */
typedef struct Block {
    struct Block *next;
    size_t size;
} Block;

typedef struct Worker Worker;
typedef void Work(Worker *worker);

/* One thread of the load, and the blocks that it made. */
struct Worker {
    pthread_t thread;
    uint64_t random;
    size_t share_bytes;
    Block *chains[CHAINS];
    Block *survivors;
    Work *order; /* what to do next; NULL: sleep. Under `mutex`. */
};

typedef enum { SKEWED, EVEN, LARGE } Sizes;

/* A load: who makes the blocks and who frees them. */
typedef struct {
    const char *name;
    const char *what;
    Sizes sizes;
    void (*rise)(void);
    void (*fall)(void);
    bool in_child; /* the whole load runs in a forked child */
    bool goes_on;  /* one thread works on at a low rate in the quiet */
    int rounds;
    double on_seconds;
    double quiet_seconds;
} Load;

static struct {
    size_t mib;
    size_t threads;
    Sizes sizes;
    int rounds;
    double on_seconds;
    double quiet_seconds;
} wanted;

static Worker workers[MOST_THREADS];
static bool workers_run;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t order_given = PTHREAD_COND_INITIALIZER;
static pthread_cond_t order_done = PTHREAD_COND_INITIALIZER;
static atomic_bool churn_goes_on;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "tide-load: %s\n", what);
    exit(1);
}

/* Says that a phase begins. Without stdio, whose buffer would be a block of the allocator. */
__attribute__((format(printf, 2, 3))) static void say(const char *phase, const char *format, ...)
{
    char line[256];
    int length = snprintf(line, sizeof line, "%s %.3f pid=%d", phase, bench_now(), (int)getpid());
    va_list arguments;
    va_start(arguments, format);
    length += vsnprintf(line + length, sizeof line - (size_t)length, format, arguments);
    va_end(arguments);
    line[length++] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        exit(1); /* nobody watches any more */
}

/* ---- blocks ---- */

static size_t next_size(uint64_t *random)
{
    switch (wanted.sizes) {
    case SKEWED:
        return bench_mixed_size(random);
    case EVEN:
        return bench_between(random, 16, 4096);
    default:
        return bench_log_between(random, 64 << 10, 4 << 20);
    }
}

static Block *make_block(uint64_t *random)
{
    size_t size = next_size(random);
    Block *block = malloc(size);
    if (block == NULL)
        fail("out of memory");
    memset(block, 0x5a, size);
    block->size = size;
    return block;
}

/* Makes a worker's share. The blocks go to random chains, so that freeing chain after chain takes
 * them neither in the order of their making nor backwards. */
static void allocate_share(Worker *worker)
{
    for (size_t made = 0; made < worker->share_bytes;) {
        Block *block = make_block(&worker->random);
        Block **chain = &worker->chains[bench_random(&worker->random) % CHAINS];
        block->next = *chain;
        *chain = block;
        made += block->size;
    }
}

static void free_chain(Block **chain)
{
    while (*chain != NULL) {
        Block *next = (*chain)->next;
        free(*chain);
        *chain = next;
    }
}

static void free_share(Worker *worker)
{
    for (size_t i = 0; i < CHAINS; i++)
        free_chain(&worker->chains[i]);
}

/* Frees a share but for every 64th block. */
static void free_most(Worker *worker)
{
    unsigned count = 0;
    for (size_t i = 0; i < CHAINS; i++)
        while (worker->chains[i] != NULL) {
            Block *block = worker->chains[i];
            worker->chains[i] = block->next;
            if (++count % SURVIVOR_EVERY == 0) {
                block->next = worker->survivors;
                worker->survivors = block;
            } else {
                free(block);
            }
        }
}

static void free_survivors(Worker *worker)
{
    free_chain(&worker->survivors);
}

/* Replaces a few blocks every millisecond, until it is told to stop. */
static void churn(Worker *worker)
{
    Block *live[CHURN_LIVE] = {NULL};
    size_t position = 0;
    while (atomic_load(&churn_goes_on)) {
        for (unsigned i = 0; i < CHURN_STEPS; i++) {
            free(live[position]);
            live[position] = make_block(&worker->random);
            position = (position + 1) % CHURN_LIVE;
        }
        bench_sleep(0.001);
    }
    for (size_t i = 0; i < CHURN_LIVE; i++)
        free(live[i]);
}

/* ---- threads ---- */

/* The order to end. By return, since pthread_exit loads a library to unwind with. */
static void leave(Worker *worker)
{
    (void)worker;
}

static void *work(void *argument)
{
    Worker *worker = argument;
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (worker->order == NULL)
            pthread_cond_wait(&order_given, &mutex);
        Work *order = worker->order;
        pthread_mutex_unlock(&mutex);
        if (order == leave)
            return NULL;
        order(worker);
        pthread_mutex_lock(&mutex);
        worker->order = NULL;
        pthread_cond_signal(&order_done);
        pthread_mutex_unlock(&mutex);
    }
}

static void start_workers(void)
{
    if (workers_run)
        return;
    for (size_t i = 0; i < wanted.threads; i++) {
        workers[i].order = NULL;
        int error = pthread_create(&workers[i].thread, NULL, work, &workers[i]);
        if (error != 0)
            fail(strerror(error));
    }
    workers_run = true;
}

static void give_order(size_t first, size_t count, Work *order)
{
    pthread_mutex_lock(&mutex);
    for (size_t i = first; i < first + count; i++)
        workers[i].order = order;
    pthread_cond_broadcast(&order_given);
    pthread_mutex_unlock(&mutex);
}

static void await(size_t first, size_t count)
{
    pthread_mutex_lock(&mutex);
    for (size_t i = first; i < first + count; i++)
        while (workers[i].order != NULL)
            pthread_cond_wait(&order_done, &mutex);
    pthread_mutex_unlock(&mutex);
}

static void all(Work *order)
{
    give_order(0, wanted.threads, order);
    await(0, wanted.threads);
}

/* ---- loads ---- */

static void divide_load(size_t shares)
{
    for (size_t i = 0; i < shares; i++) {
        workers[i].random = bench_seed(i);
        workers[i].share_bytes = (wanted.mib << 20) / shares;
    }
}

static void rise_in_threads(void)
{
    divide_load(wanted.threads);
    start_workers();
    all(free_survivors); /* of the round before */
    all(allocate_share);
}

static void rise_in_main(void)
{
    divide_load(1);
    allocate_share(&workers[0]);
}

static void fall_own(void)
{
    all(free_share);
}

static void fall_survive(void)
{
    all(free_most);
}

static void fall_in_main(void)
{
    for (size_t i = 0; i < wanted.threads; i++)
        free_share(&workers[i]);
}

static void fall_and_exit(void)
{
    all(free_share);
    give_order(0, wanted.threads, leave);
    for (size_t i = 0; i < wanted.threads; i++)
        pthread_join(workers[i].thread, NULL);
    workers_run = false;
}

static const Load loads[] = {
    {.name = "own",
     .what = "threads make small blocks, each frees its own, all sleep",
     .rise = rise_in_threads,
     .fall = fall_own},
    {.name = "remote",
     .what = "one thread frees what the sleeping others made",
     .rise = rise_in_threads,
     .fall = fall_in_main},
    /* Larger blocks than the others': of blocks of some 100 bytes, one in 64 lies on every third OS
     * page, and no allocator could give those pages back. Of these the pages with a survivor
     * are about 5 % of the peak; the phase `end` says how many they are. */
    {.name = "survive",
     .what = "as own, but one block in 64 stays; sizes even over 16 to 4096 bytes",
     .sizes = EVEN,
     .rise = rise_in_threads,
     .fall = fall_survive},
    {.name = "single",
     .what = "one thread only, the program's first",
     .rise = rise_in_main,
     .fall = fall_in_main},
    {.name = "large",
     .what = "as own, with blocks of 64 KiB to 4 MiB",
     .sizes = LARGE,
     .rise = rise_in_threads,
     .fall = fall_own},
    {.name = "churn",
     .what = "as own, but one thread goes on at a low rate",
     .rise = rise_in_threads,
     .fall = fall_own,
     .goes_on = true},
    {.name = "exit",
     .what = "as own, but the threads end",
     .rise = rise_in_threads,
     .fall = fall_and_exit},
    {.name = "fork",
     .what = "as own, in a forked child",
     .rise = rise_in_threads,
     .fall = fall_own,
     .in_child = true},
    {.name = "waves",
     .what = "as own, on and off every 2 s, five times",
     .rise = rise_in_threads,
     .fall = fall_own,
     .rounds = 5,
     .on_seconds = 2,
     .quiet_seconds = 2},
};
enum { LOADS = sizeof loads / sizeof loads[0] };

/* ---- what the survivors hold ---- */

static void sort(uintptr_t *values, size_t count)
{
    /* Shell's sort: libc's qsort may allocate. */
    for (size_t gap = count / 2; gap > 0; gap /= 2)
        for (size_t i = gap; i < count; i++) {
            uintptr_t value = values[i];
            size_t j = i;
            for (; j >= gap && values[j - gap] > value; j -= gap)
                values[j] = values[j - gap];
            values[j] = value;
        }
}

/* The memory that the survivors take and that of the OS pages that they lie on, in bytes: no
 * allocator can hold less than the latter. */
static void survivors_hold(size_t *bytes, size_t *page_bytes)
{
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    size_t most = 1;
    *bytes = *page_bytes = 0;
    for (size_t i = 0; i < wanted.threads; i++)
        for (Block *block = workers[i].survivors; block != NULL; block = block->next) {
            *bytes += block->size;
            most += block->size / page_size + 2;
        }
    uintptr_t *pages = mmap(NULL, most * sizeof *pages, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        fail("no memory for a table");
    size_t count = 0;
    for (size_t i = 0; i < wanted.threads; i++)
        for (Block *block = workers[i].survivors; block != NULL; block = block->next) {
            uintptr_t last = ((uintptr_t)block + block->size - 1) / page_size;
            for (uintptr_t page = (uintptr_t)block / page_size; page <= last; page++)
                pages[count++] = page;
        }
    sort(pages, count);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || pages[i] != pages[i - 1])
            *page_bytes += page_size;
    munmap(pages, most * sizeof *pages);
}

/* ---- a run ---- */

static void be_quiet(const Load *load, double until)
{
    if (load->goes_on) {
        atomic_store(&churn_goes_on, true);
        give_order(0, 1, churn);
    }
    bench_sleep(until - bench_now());
    if (load->goes_on) {
        atomic_store(&churn_goes_on, false);
        await(0, 1);
    }
}

static double later(double a, double b)
{
    return a > b ? a : b;
}

/* The rounds keep to a timetable, so that two allocators that run side by side rise and fall
 * together; only the last quiet is counted from the end of the fall. */
static void run(const Load *load)
{
    double start = bench_now();
    for (int round = 0; round < wanted.rounds; round++) {
        double rises_at = start + round * (wanted.on_seconds + wanted.quiet_seconds);
        bench_sleep(rises_at - bench_now());
        say("rise", " load=%s round=%d", load->name, round + 1);
        load->rise();
        say("peak", " mib=%zu", wanted.mib);
        bench_sleep(later(rises_at + wanted.on_seconds - bench_now(), MINIMUM_HOLD_SECONDS));
        say("fall", "%s", "");
        load->fall();
        say("fallen", "%s", "");
        bool last = round + 1 == wanted.rounds;
        be_quiet(load, last ? bench_now() + wanted.quiet_seconds
                            : rises_at + wanted.on_seconds + wanted.quiet_seconds);
    }
    size_t bytes, page_bytes;
    survivors_hold(&bytes, &page_bytes);
    say("end", " live_mib=%.1f live_pages_mib=%.1f", (double)bytes / (1 << 20),
        (double)page_bytes / (1 << 20));
}

/* The parent has used malloc before it forks, as any server has. */
static int run_in_child(const Load *load)
{
    size_t mib = wanted.mib;
    wanted.mib = 1;
    rise_in_main();
    free_share(&workers[0]);
    wanted.mib = mib;
    pid_t child = fork();
    if (child < 0)
        fail(strerror(errno));
    if (child == 0) {
        run(load);
        return 0;
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            fail(strerror(errno));
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    fail("the forked child was killed");
}

/* ---- arguments ---- */

static void usage(FILE *out)
{
    fprintf(out, "usage: tide-load LOAD [--mib N] [--threads N] [--quiet-seconds N]\n"
                 "                 [--on-seconds N] [--rounds N] [--sizes skewed|even]\n"
                 "Makes and frees blocks, and writes a line for each phase (see bench/tide).\n"
                 "  --mib N            the blocks' sizes together, in MiB (256)\n"
                 "  --threads N        threads that make them (8)\n"
                 "  --quiet-seconds N  the quiet after the fall (5; waves 2)\n"
                 "  --on-seconds N     from the start of a rise to the fall (1; waves 2)\n"
                 "  --rounds N         rises and falls (1; waves 5)\n"
                 "  --sizes KIND       of small blocks: skewed (16 to 1024 bytes, most of them\n"
                 "                     small) or even (16 to 4096)\n"
                 "loads:\n");
    for (size_t i = 0; i < LOADS; i++)
        fprintf(out, "  %-8s %s\n", loads[i].name, loads[i].what);
}

static _Noreturn void misused(const char *what, const char *which)
{
    fprintf(stderr, "tide-load: %s '%s' (--help shows what there is)\n", what, which);
    exit(2);
}

static const Load *find_load(const char *name)
{
    for (size_t i = 0; i < LOADS; i++)
        if (strcmp(loads[i].name, name) == 0)
            return &loads[i];
    misused("no such load:", name);
}

static double number_argument(const char *option, const char *text, double least, double most)
{
    double value;
    if (text == NULL || !bench_parse(text, least, most, &value)) {
        fprintf(stderr, "tide-load: %s %s: expected a number from %.10g to %.10g\n", option,
                text == NULL ? "" : text, least, most);
        exit(2);
    }
    return value;
}

static void set_defaults(const Load *load)
{
    wanted.mib = 256;
    wanted.threads = 8;
    wanted.sizes = load->sizes;
    wanted.rounds = load->rounds ? load->rounds : 1;
    wanted.on_seconds = load->on_seconds > 0 ? load->on_seconds : 1;
    wanted.quiet_seconds = load->quiet_seconds > 0 ? load->quiet_seconds : 5;
}

static void read_option(const char *option, const char *text)
{
    if (strcmp(option, "--mib") == 0)
        wanted.mib = (size_t)number_argument(option, text, 1, 1 << 20);
    else if (strcmp(option, "--threads") == 0)
        wanted.threads = (size_t)number_argument(option, text, 1, MOST_THREADS);
    else if (strcmp(option, "--quiet-seconds") == 0)
        wanted.quiet_seconds = number_argument(option, text, 0, 86400);
    else if (strcmp(option, "--on-seconds") == 0)
        wanted.on_seconds = number_argument(option, text, 0, 86400);
    else if (strcmp(option, "--rounds") == 0)
        wanted.rounds = (int)number_argument(option, text, 1, 100000);
    else if (strcmp(option, "--sizes") == 0 && text != NULL && strcmp(text, "skewed") == 0)
        wanted.sizes = SKEWED;
    else if (strcmp(option, "--sizes") == 0 && text != NULL && strcmp(text, "even") == 0)
        wanted.sizes = EVEN;
    else if (strcmp(option, "--sizes") == 0)
        misused("--sizes takes skewed or even, not", text == NULL ? "" : text);
    else
        misused("no such option:", option);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0) {
        usage(stdout);
        return 0;
    }
    const Load *load = find_load(argv[1]);
    set_defaults(load);
    for (int i = 2; i < argc; i += 2)
        read_option(argv[i], argv[i + 1]); /* argv ends in NULL */
    if (load->in_child)
        return run_in_child(load);
    run(load);
    return 0;
}
