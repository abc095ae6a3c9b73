#define _GNU_SOURCE
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t stress_seed = 1;
double stress_scale = 1;
bool stress_any_malloc;
int fail_descriptor = STDERR_FILENO;
void (*fail_hook)(void);

static const char *program_name = "stress";

/* ---- start and failure ---------------------------------------------------------------------- */

/* One write per line, so that lines of several threads and processes do not mix. The line is
 * formatted on the stack: glibc's vsnprintf allocates for none of the formats used here. */
static void write_line(int descriptor, const char *format, va_list arguments)
{
    char line[512];
    int length = snprintf(line, sizeof line, "%s: ", program_name);
    length += vsnprintf(line + length, sizeof line - (size_t)length - 1, format, arguments);
    if (length > (int)sizeof line - 2)
        length = (int)sizeof line - 2;
    line[length++] = '\n';
    ssize_t written = write(descriptor, line, (size_t)length);
    (void)written;
}

void fail(const char *format, ...)
{
    char message[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    char line[512];
    int length = snprintf(line, sizeof line, "%s: FAILED (seed %" PRIu64 ", scale %g): %s\n",
                          program_name, stress_seed, stress_scale, message);
    ssize_t written = write(fail_descriptor, line, (size_t)length);
    (void)written;
    if (fail_hook != NULL)
        fail_hook();
    _exit(1);
}

void promise_broken(const char *format, ...)
{
    char message[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (!stress_any_malloc)
        fail("%s", message);
    report("(not promised by this malloc) %s", message);
}

void report(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line(STDOUT_FILENO, format, arguments);
    va_end(arguments);
}

static void require_library(void)
{
    stress_any_malloc = getenv("EBB_TEST_ANY_MALLOC") != NULL;
    if (!stress_any_malloc && dlsym(RTLD_DEFAULT, "ebb_version") == NULL)
        fail("libebbmalloc.so is not loaded: start this with LD_PRELOAD");
}

/* A real-time signal: the tests use SIGALRM and its kin for themselves. */
#define WATCHDOG_SIGNAL (SIGRTMIN + 5)

static void watchdog(int signal)
{
    (void)signal;
    fail("still running at its time limit: a deadlock, or a machine that is much too slow");
}

static void start_watchdog(double seconds)
{
    struct sigaction action = {.sa_handler = watchdog};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = WATCHDOG_SIGNAL};
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)seconds}};
    timer_t timer;
    if (sigaction(WATCHDOG_SIGNAL, &action, NULL) != 0 ||
        timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 ||
        timer_settime(timer, 0, &when, NULL) != 0)
        fail("no watchdog: %s", strerror(errno));
}

void stress_begin(int argc, char **argv, const char *name, unsigned limit_seconds)
{
    program_name = name;
    if (argc > 1)
        stress_scale = strtod(argv[1], NULL);
    if (argc > 2)
        stress_seed = strtoull(argv[2], NULL, 0);
    if (argc > 3 || !(stress_scale > 0)) {
        fprintf(stderr, "usage: %s [SCALE [SEED]]\n", name);
        exit(2);
    }
    require_library();
    report("seed %" PRIu64 ", scale %g", stress_seed, stress_scale);
    start_watchdog(limit_seconds * (stress_scale > 1 ? stress_scale : 1));
}

void stress_begin_part(const char *name, const char *seed)
{
    program_name = name;
    stress_seed = strtoull(seed, NULL, 0);
    require_library();
}

uint64_t scaled(uint64_t count)
{
    double value = (double)count * stress_scale;
    return value < 1 ? 1 : (uint64_t)value;
}

double scaled_seconds(double seconds)
{
    return seconds * stress_scale;
}

double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void sleep_seconds(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds};
    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

/* ---- random numbers ------------------------------------------------------------------------- */

/* The output function of splitmix64 (Steele, Lea, Flood 2014). */
uint64_t mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

struct rng rng_stream(uint64_t stream)
{
    return (struct rng){mix(stress_seed) ^ mix(stream + 0x5851f42d4c957f2du)};
}

uint64_t rng_next(struct rng *rng)
{
    return mix(rng->state += 0x9e3779b97f4a7c15u);
}

uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)rng_next(rng) * bound) >> 64);
}

static unsigned log2_of(size_t value)
{
    return 63u - (unsigned)__builtin_clzll(value);
}

size_t rng_size(struct rng *rng, size_t least, size_t most)
{
    unsigned low = log2_of(least), high = log2_of(most);
    size_t power = (size_t)1 << (low + rng_below(rng, high - low + 1));
    size_t size = power + rng_below(rng, power);
    if (size < least)
        return least;
    return size > most ? most : size;
}

/* ---- patterns ------------------------------------------------------------------------------- */

#define PATTERN_STEP 0x9e3779b97f4a7c15u

static uint64_t pattern_word(size_t word, uint64_t tag)
{
    return tag + word * PATTERN_STEP;
}

unsigned char pattern_byte(size_t offset, uint64_t tag)
{
    uint64_t word = pattern_word(offset / 8, tag);
    unsigned char bytes[8];
    memcpy(bytes, &word, 8);
    return bytes[offset % 8];
}

void pattern_fill(void *start, size_t size, uint64_t tag)
{
    unsigned char *bytes = start;
    size_t words = size / 8;
    uint64_t value = tag;
    for (size_t i = 0; i < words; i++, value += PATTERN_STEP)
        memcpy(bytes + i * 8, &value, 8);
    for (size_t i = words * 8; i < size; i++)
        bytes[i] = pattern_byte(i, tag);
}

static size_t first_bad_byte(const unsigned char *bytes, size_t from, size_t to, uint64_t tag)
{
    for (size_t i = from; i < to; i++)
        if (bytes[i] != pattern_byte(i, tag))
            return i;
    return PATTERN_GOOD;
}

size_t pattern_check(const void *start, size_t size, uint64_t tag)
{
    const unsigned char *bytes = start;
    size_t words = size / 8;
    uint64_t expected = tag;
    for (size_t i = 0; i < words; i++, expected += PATTERN_STEP) {
        uint64_t actual;
        memcpy(&actual, bytes + i * 8, 8);
        if (actual != expected)
            return first_bad_byte(bytes, i * 8, size, tag);
    }
    return first_bad_byte(bytes, words * 8, size, tag);
}

size_t zero_check(const void *start, size_t size)
{
    const unsigned char *bytes = start;
    size_t i = 0;
    for (uint64_t word = 0; i + 8 <= size && word == 0; i += 8) {
        memcpy(&word, bytes + i, 8);
        if (word != 0)
            break;
    }
    for (; i < size; i++)
        if (bytes[i] != 0)
            return i;
    return PATTERN_GOOD;
}

size_t malloc_alignment(size_t size)
{
    if (!stress_any_malloc || size >= 16)
        return 16;
    return size < 8 ? 1 : 8;
}

/* ---- parcels -------------------------------------------------------------------------------- */

static uint64_t parcel_sum(const struct parcel *parcel)
{
    return mix((uint64_t)(uintptr_t)parcel ^ mix(parcel->serial) ^ mix(parcel->size + 1) ^
               parcel->maker);
}

void parcel_write(struct parcel *parcel, size_t size, uint32_t maker)
{
    static _Atomic uint64_t serials;
    parcel->serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed);
    parcel->size = size;
    parcel->maker = maker;
    parcel->spare = 0;
    parcel->check = parcel_sum(parcel);
    pattern_fill(parcel->bytes, size - PARCEL_LEAST, parcel->check);
}

struct parcel *parcel_try(size_t size, uint32_t maker)
{
    if (size < PARCEL_LEAST)
        fail("a parcel of %zu bytes: the test is wrong", size);
    struct parcel *parcel = malloc(size);
    if (parcel == NULL)
        return NULL;
    if ((uintptr_t)parcel % malloc_alignment(size) != 0)
        fail("thread %u: malloc(%zu) = %p is not aligned to 16 bytes", maker, size, (void *)parcel);
    parcel_write(parcel, size, maker);
    return parcel;
}

struct parcel *parcel_make(size_t size, uint32_t maker)
{
    struct parcel *parcel = parcel_try(size, maker);
    if (parcel == NULL)
        fail("thread %u: malloc(%zu) = NULL, errno %d", maker, size, errno);
    return parcel;
}

void parcel_check(const struct parcel *parcel, unsigned thread, const char *when)
{
    uint64_t sum = parcel_sum(parcel);
    if (parcel->check != sum)
        fail("thread %u, %s: block %p: its head is damaged: bytes 0..7 are %#" PRIx64
             ", expected %#" PRIx64 " (size %zu, serial %" PRIu64 ", made by thread %u)",
             thread, when, (const void *)parcel, parcel->check, sum, parcel->size, parcel->serial,
             parcel->maker);
    size_t bad = pattern_check(parcel->bytes, parcel->size - PARCEL_LEAST, parcel->check);
    if (bad != PATTERN_GOOD)
        fail("thread %u, %s: block %p of %zu bytes, serial %" PRIu64
             ", made by thread %u: byte at offset %zu is %#x, expected %#x",
             thread, when, (const void *)parcel, parcel->size, parcel->serial, parcel->maker,
             bad + PARCEL_LEAST, parcel->bytes[bad], pattern_byte(bad, parcel->check));
}

void parcel_end(struct parcel *parcel, unsigned thread, const char *when)
{
    parcel_check(parcel, thread, when);
    /* Volatile: the compiler may drop stores to memory that is freed next. */
    *(volatile uint64_t *)&parcel->check = ~parcel->check;
    free(parcel);
}

/* ---- this process, as the kernel counts it --------------------------------------------------- */

/* The number after key in a small file of /proc, in KiB, as bytes. */
static size_t proc_bytes(const char *path, const char *key)
{
    char text[4096];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    if (length <= 0)
        fail("%s cannot be read: %s", path, strerror(errno));
    text[length] = '\0';
    const char *found = strstr(text, key);
    if (found == NULL)
        fail("%s has no %s", path, key);
    return strtoull(found + strlen(key), NULL, 10) * KiB;
}

size_t resident_bytes(void)
{
    return proc_bytes("/proc/self/smaps_rollup", "\nRss:");
}

size_t address_bytes(void)
{
    return proc_bytes("/proc/self/status", "\nVmSize:");
}

size_t data_bytes(void)
{
    return proc_bytes("/proc/self/status", "\nVmData:");
}

int wait_for(pid_t child, double seconds, const char *what)
{
    double end = now_seconds() + seconds;
    for (;;) {
        int status;
        pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child)
            return status;
        if (ended < 0 && errno != EINTR)
            fail("%s: waitpid: %s", what, strerror(errno));
        if (now_seconds() > end) {
            kill(child, SIGKILL);
            fail("%s: process %d still runs after %g s", what, (int)child, seconds);
        }
        sleep_seconds(0.0005);
    }
}

void require_success(int status, const char *what)
{
    if (WIFSIGNALED(status))
        fail("%s: killed by signal %d (%s)%s", what, WTERMSIG(status), strsignal(WTERMSIG(status)),
             WTERMSIG(status) == SIGALRM ? ": it hung until its alarm" : "");
    if (WEXITSTATUS(status) != 0)
        fail("%s: exit status %d", what, WEXITSTATUS(status));
}
