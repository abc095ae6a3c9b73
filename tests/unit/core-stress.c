/* A load for the sanitizers: core-stress SECONDS WORKERS [no-fork]
 *
 * Workers allocate, stamp, resize and pass blocks on through a table that all share, so that most
 * are freed by another thread; the first thread trims, counts, starts threads that come and go, and
 * forks children that work on. At the end nothing may be in use.
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

void *ebb_malloc(size_t size);
void *ebb_calloc(size_t count, size_t size);
void *ebb_realloc(void *pointer, size_t size);
void *ebb_memalign(size_t alignment, size_t size);
void ebb_free(void *pointer);
int ebb_malloc_trim(size_t pad);
struct mallinfo2 ebb_mallinfo2(void);

enum { WORKERS_MOST = 16, TABLE_SLOTS = 200, CHURN_STEPS = 300, CHILD_STEPS = 300 };

/* Stands at the start of every block; the last byte of the block repeats the serial's. */
struct parcel {
    size_t size;
    uint64_t serial;
};

static struct parcel *_Atomic table[TABLE_SLOTS];
static _Atomic bool stop;
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

static void *work(void *argument)
{
    uint64_t state = (uintptr_t)argument * 0x9e3779b97f4a7c15 + 1;
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        step(&state);
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

int main(int argc, char **argv)
{
    require(argc >= 3, "arguments are SECONDS WORKERS [no-fork]");
    time_t end = time(NULL) + atoi(argv[1]) + 1;
    size_t workers = (size_t)atoi(argv[2]);
    bool may_fork = argc < 4 || strcmp(argv[3], "no-fork") != 0;
    pthread_t threads[WORKERS_MOST];
    require(workers <= WORKERS_MOST, "no more than 16 workers");
    for (size_t i = 0; i < workers; i++)
        require(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0, "threads");
    uint64_t turn = 0;
    for (; time(NULL) < end; turn++)
        disturb(turn, may_fork);
    atomic_store(&stop, true);
    for (size_t i = 0; i < workers; i++)
        pthread_join(threads[i], NULL);
    require_nothing_in_use();
    printf("%llu turns, %llu blocks\n", (unsigned long long)turn,
           (unsigned long long)atomic_load(&next_serial));
    return 0;
}
