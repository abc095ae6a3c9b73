/* A load for the sanitizers: core-stress SECONDS WORKERS [no-fork | no-remap]
 *
 * Workers allocate, stamp, resize and pass blocks on through a table that all share, so that most
 * are freed by another thread; the first thread trims, counts, starts threads that come and go, and
 * forks children that work on. At the end nothing may be in use.
 *
 * Beside them the purger sweeps each millisecond, and two more threads see to it that it has to do
 * with owners who are at work: one lives on its cache alone, so that it looks quiet though it never
 * pauses, and one works in bursts that leave holes. Now and then all rest, and the purger has to
 * empty all caches and to end; that shows that there is one.
 *
 * An ordinary program: the library is compiled with it, under its prefixed names. It says what is
 * wrong and aborts, or exits with 0.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "older.h"
#include "os.h"
#include "purger.h"

void *ebb_malloc(size_t size);
void *ebb_calloc(size_t count, size_t size);
void *ebb_realloc(void *pointer, size_t size);
void *ebb_memalign(size_t alignment, size_t size);
void ebb_free(void *pointer);
int ebb_malloc_trim(size_t pad);
struct mallinfo2 ebb_mallinfo2(void);

enum { WORKERS_MOST = 16, TABLE_SLOTS = 200, CHURN_STEPS = 300, CHILD_STEPS = 300 };
enum { HAMMER_BLOCKS = 6, BURST_BLOCKS = 1500, BURST_SURVIVORS = 16, TURNS_PER_REST = 8 };

/* For the purger to empty all caches, once every thread rests: both have to be over. Under clang's
 * ThreadSanitizer one look at all arenas, or one sweep, takes seconds at times: its run time finds
 * that an access is in order only after it has gone through the history of a thread. */
#define REST_SWEEPS 500
#define REST_SECONDS 20
#define REST_SECONDS_MOST 200

/* A process that never used more pages than this has no purger. */
#define SMALL_PROCESS (8 * 1024 * 1024)

/* Stands at the start of every block; the last byte of the block repeats the serial's. */
struct parcel {
    size_t size;
    uint64_t serial;
};

static struct parcel *_Atomic table[TABLE_SLOTS];
static _Atomic bool stop;
static pthread_barrier_t rest_begins, rest_ends; /* all but those that come and go */
static _Atomic bool resting;
static _Atomic uint64_t next_serial;

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "core-stress: not so: %s\n", what);
    abort();
}

/* xorshift64 (G. Marsaglia, "Xorshift RNGs"). */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static size_t random_size(uint64_t *state)
{
    uint64_t choice = next_random(state) % 2000;
    if (choice == 0)
        return 4 * 1024 * 1024 + next_random(state) % (4 * 1024 * 1024);
    if (choice < 20)
        return 32 * 1024 + next_random(state) % (256 * 1024);
    return sizeof(struct parcel) + 1 + next_random(state) % (choice < 400 ? 8000 : 300);
}

static void stamp(struct parcel *parcel, size_t size)
{
    parcel->size = size;
    parcel->serial = atomic_fetch_add_explicit(&next_serial, 1, memory_order_relaxed);
    ((unsigned char *)parcel)[size - 1] = (unsigned char)parcel->serial;
}

static struct parcel *check(struct parcel *parcel)
{
    require(((unsigned char *)parcel)[parcel->size - 1] == (unsigned char)parcel->serial,
            "a block holds what was written");
    return parcel;
}

static struct parcel *make(uint64_t *state)
{
    size_t size = random_size(state);
    struct parcel *parcel;
    switch (next_random(state) % 8) {
    case 0:
        parcel = ebb_calloc(1, size);
        for (size_t i = 0; parcel != NULL && i < size; i += 97)
            require(((char *)parcel)[i] == 0, "calloc's memory is zero");
        break;
    case 1:
        parcel = ebb_memalign((size_t)32 << next_random(state) % 12, size);
        break;
    default:
        parcel = ebb_malloc(size);
    }
    require(parcel != NULL, "there is memory");
    stamp(parcel, size);
    return parcel;
}

static struct parcel *resize(struct parcel *parcel, uint64_t *state)
{
    size_t size = random_size(state);
    uint64_t serial = check(parcel)->serial;
    parcel = ebb_realloc(parcel, size);
    require(parcel != NULL && parcel->serial == serial, "realloc keeps what was written");
    stamp(parcel, size);
    return parcel;
}

/* Puts a block into the table and frees the one that was there, whoever made it. */
static void step(uint64_t *state)
{
    struct parcel *parcel = make(state);
    if (next_random(state) % 8 == 0)
        parcel = resize(parcel, state);
    parcel = atomic_exchange_explicit(&table[next_random(state) % TABLE_SLOTS], parcel,
                                      memory_order_acq_rel);
    if (parcel != NULL)
        ebb_free(check(parcel));
}

static void sleep_ms(unsigned milliseconds)
{
    struct timespec time = {.tv_nsec = (long)milliseconds * 1000000};
    nanosleep(&time, NULL);
}

static bool goes_on(void)
{
    if (atomic_load_explicit(&resting, memory_order_relaxed)) {
        pthread_barrier_wait(&rest_begins);
        pthread_barrier_wait(&rest_ends);
    }
    return !atomic_load_explicit(&stop, memory_order_relaxed);
}

static void *work(void *argument)
{
    uint64_t state = (uintptr_t)argument * 0x9e3779b97f4a7c15 + 1;
    while (goes_on())
        step(&state);
    return NULL;
}

/* No more blocks of a size than the least that a cache holds: there is no slow path for a sweep to
 * see. */
static void *hammer(void *argument)
{
    static const size_t sizes[] = {24, 40, 100};
    for (uint64_t round = 0; goes_on(); round++) {
        struct parcel *parcels[HAMMER_BLOCKS];
        for (size_t i = 0; i < HAMMER_BLOCKS; i++) {
            parcels[i] = ebb_malloc(sizes[round % 3]);
            require(parcels[i] != NULL, "there is memory");
            stamp(parcels[i], sizes[round % 3]);
        }
        for (size_t i = 0; i < HAMMER_BLOCKS; i++)
            ebb_free(check(parcels[i]));
    }
    return argument;
}

static void thin(struct parcel **parcels, size_t one_in)
{
    for (size_t i = 0; i < BURST_BLOCKS; i++) {
        if (parcels[i] == NULL || (one_in != 0 && i % one_in == 0))
            continue;
        ebb_free(check(parcels[i]));
        parcels[i] = NULL;
    }
}

static void *work_in_bursts(void *argument)
{
    static struct parcel *parcels[2][BURST_BLOCKS];
    uint64_t state = (uintptr_t)argument * 0x9e3779b97f4a7c15 + 1;
    for (size_t burst = 0; goes_on(); burst++) {
        struct parcel **made = parcels[burst % 2];
        thin(made, 0); /* those that have seen two sleeps */
        for (size_t i = 0; i < BURST_BLOCKS; i++) {
            size_t size = sizeof(struct parcel) + 1 + next_random(&state) % 1000;
            made[i] = ebb_malloc(size);
            require(made[i] != NULL, "there is memory");
            stamp(made[i], size);
        }
        thin(made, BURST_SURVIVORS);
        sleep_ms((unsigned)(next_random(&state) % 12));
    }
    thin(parcels[0], 0);
    thin(parcels[1], 0);
    return NULL;
}

static void *come_and_go(void *argument)
{
    uint64_t state = (uintptr_t)argument * 0x9e3779b97f4a7c15 + 1;
    for (int i = 0; i < CHURN_STEPS; i++)
        step(&state);
    return NULL;
}

/* The other threads stopped anywhere: their blocks in the table may be half made, and stay. */
static void work_in_child(uint64_t state)
{
    memset(table, 0, sizeof table);
    for (int i = 0; i < CHILD_STEPS; i++)
        step(&state);
    ebb_malloc_trim(0);
    _exit(0);
}

static void fork_once(uint64_t state)
{
    int status;
    pid_t child = fork();
    require(child >= 0, "there are processes");
    if (child == 0)
        work_in_child(state);
    require(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0,
            "the child ends well");
}

/* All caches are emptied by a thread that owns none of them; this one calls for no block, either.
 */
static void rest(void)
{
    time_t start = time(NULL);
    size_t sweeps = purger_sweeps();
    atomic_store(&resting, true);
    pthread_barrier_wait(&rest_begins);
    atomic_store(&resting, false);
    while (ebb_mallinfo2().fsmblks != 0) {
        time_t seconds = time(NULL) - start;
        bool was_enough = seconds > REST_SECONDS && purger_sweeps() - sweeps > REST_SWEEPS;
        require(!was_enough && seconds < REST_SECONDS_MOST,
                "the purger empties the caches of threads at rest");
        sleep_ms(1);
    }
    pthread_barrier_wait(&rest_ends);
}

/* One turn of the first thread. */
static void disturb(uint64_t turn, bool may_fork)
{
    pthread_t threads[3];
    if (turn % 4 == 0)
        ebb_malloc_trim(0);
    ebb_mallinfo2();
    for (uint64_t i = 0; i < 3; i++)
        require(pthread_create(&threads[i], NULL, come_and_go, (void *)(turn * 3 + i + 100)) == 0,
                "there are threads");
    if (may_fork && turn % 4 == 2)
        fork_once(turn + 1);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static void require_nothing_in_use(void)
{
    for (size_t i = 0; i < TABLE_SLOTS; i++)
        if (table[i] != NULL)
            ebb_free(check(table[i]));
    ebb_malloc_trim(0);
    struct mallinfo2 info = ebb_mallinfo2();
    require(info.uordblks == 0 && info.hblks == 0 && info.fsmblks == 0 && info.keepcost == 0,
            "nothing is in use, cached or kept in the end");
}

static void outgrow_small_process(void)
{
    void *blocks[SMALL_PROCESS / (1024 * 1024) + 1];
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        blocks[i] = ebb_malloc(1024 * 1024);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ebb_free(blocks[i]);
}

static bool is_remap(enum os_call call)
{
    return call == OS_CALL_REMAP;
}

int main(int argc, char **argv)
{
    setenv("EBBMALLOC_PURGE_DELAY", "3", 1);
    require(argc >= 3, "arguments are SECONDS WORKERS [no-fork | no-remap]");
    time_t end = time(NULL) + atoi(argv[1]) + 1;
    size_t workers = (size_t)atoi(argv[2]);
    bool may_fork = argc < 4 || strcmp(argv[3], "no-fork") != 0;
    if (argc == 4 && strcmp(argv[3], "no-remap") == 0)
        os_refuse = is_remap;
    pthread_t threads[WORKERS_MOST + 2];
    require(workers <= WORKERS_MOST, "no more than 16 workers");
    pthread_barrier_init(&rest_begins, NULL, (unsigned)workers + 3);
    pthread_barrier_init(&rest_ends, NULL, (unsigned)workers + 3);
    outgrow_small_process();
    for (size_t i = 0; i < workers + 2; i++) {
        void *(*run)(void *) = i < workers ? work : i == workers ? hammer : work_in_bursts;
        require(pthread_create(&threads[i], NULL, run, (void *)(i + 1)) == 0, "threads");
    }
    uint64_t turn = 0;
    for (; time(NULL) < end; turn++) {
        disturb(turn, may_fork);
        if (turn % TURNS_PER_REST == TURNS_PER_REST - 1)
            rest();
    }
    rest();
    atomic_store(&stop, true);
    for (size_t i = 0; i < workers + 2; i++)
        pthread_join(threads[i], NULL);
    require_nothing_in_use();
    printf("%llu turns, %llu blocks\n", (unsigned long long)turn,
           (unsigned long long)atomic_load(&next_serial));
    return 0;
}
