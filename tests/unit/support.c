#include "support.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "chunk.h"
#include "options.h"

int start_library(void **state)
{
    (void)state;
    os_init();
    options_init();
    return 0;
}

struct chunk_totals chunk_totals(void)
{
    struct chunk_totals totals;
    chunk_count(&totals);
    return totals;
}

int no_chunks(void **state)
{
    (void)state;
    options.advice = ADVICE_DONTNEED;
    options.schedule = SCHEDULE_IDLE;
    chunk_sweep(SWEEP_ALL, 0);
    return chunk_totals().mapped_bytes == 0 ? 0 : -1;
}

void require_failed(const char *file, int line, const char *what)
{
    dprintf(2, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

/* SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators"). */
static uint64_t mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

uint64_t random_next(struct random *random)
{
    return mix(random->state += 0x9e3779b97f4a7c15);
}

size_t random_below(struct random *random, size_t bound)
{
    return (size_t)(random_next(random) % bound);
}

static uint64_t pattern_word(size_t index, uint64_t tag)
{
    return (index + 1) * 0x9e3779b97f4a7c15 ^ mix(tag + 1);
}

void pattern_write(void *start, size_t size, uint64_t tag)
{
    char *bytes = start;
    for (size_t offset = 0; offset < size; offset += sizeof(uint64_t)) {
        uint64_t word = pattern_word(offset, tag);
        memcpy(bytes + offset, &word, size - offset < sizeof word ? size - offset : sizeof word);
    }
}

bool pattern_holds(const void *start, size_t size, uint64_t tag)
{
    const char *bytes = start;
    for (size_t offset = 0; offset < size; offset += sizeof(uint64_t)) {
        uint64_t word = pattern_word(offset, tag);
        size_t length = size - offset < sizeof word ? size - offset : sizeof word;
        if (memcmp(bytes + offset, &word, length) != 0)
            return false;
    }
    return true;
}

bool reads_zero(const void *start, size_t size)
{
    const char *bytes = start;
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

size_t resident_in(const void *start, size_t size)
{
    static unsigned char pages[64 * 1024];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (size + page - 1) / page, resident = 0;
    require(count <= sizeof pages);
    require(mincore((void *)start, size, pages) == 0);
    for (size_t i = 0; i < count; i++)
        resident += pages[i] & 1;
    return resident * page;
}

size_t address_space(void)
{
    size_t kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    require(file != NULL);
    while (fscanf(file, "VmSize: %zu", &kib) != 1)
        require(fscanf(file, "%*[^\n]\n") == 0);
    fclose(file);
    return kib * KiB;
}

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static unsigned refused_kinds;
static size_t refuse_first, refuse_last;
static _Atomic size_t calls, refusals;

static bool is_refused(enum os_call call)
{
    if ((refused_kinds & KIND(call)) == 0)
        return false;
    size_t number = atomic_fetch_add(&calls, 1) + 1;
    bool refused = number >= refuse_first && number <= refuse_last;
    if (refused)
        atomic_fetch_add(&refusals, 1);
    return refused;
}

void refuse(unsigned kinds, size_t first, size_t last)
{
    refused_kinds = kinds;
    refuse_first = first;
    refuse_last = last;
    atomic_store(&calls, 0);
    atomic_store(&refusals, 0);
    os_refuse = is_refused;
}

void refuse_none(void)
{
    os_refuse = NULL;
}

size_t refused_count(void)
{
    return atomic_load(&refusals);
}

int run_in_child(void (*function)(void *), void *argument, char *text, size_t capacity)
{
    int ends[2], status;
    require(pipe(ends) == 0);
    pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        /* cmocka's handlers would go on with the tests in the child. */
        static const int caught[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS};
        for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
            signal(caught[i], SIG_DFL);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        function(argument);
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t got; (got = read(ends[0], text + length, capacity - 1 - length)) > 0;)
        length += (size_t)got;
    text[length] = '\0';
    close(ends[0]);
    require(waitpid(child, &status, 0) == child);
    return status;
}

bool is_accessible(const void *address)
{
    int ends[2];
    require(pipe(ends) == 0);
    bool readable = write(ends[1], address, 1) == 1;
    close(ends[0]);
    close(ends[1]);
    return readable;
}
