#include "support.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

bool on_ebbmalloc(void)
{
    return dlsym(RTLD_DEFAULT, "ebb_version") != NULL;
}

void require_library(void)
{
    if (on_ebbmalloc() || getenv("EBB_TEST_ANY_MALLOC") != NULL)
        return;
    fprintf(stderr, "ebbmalloc is not preloaded: nothing would be tested "
                    "(EBB_TEST_ANY_MALLOC=1 runs the test on whatever malloc is there)\n");
    exit(1);
}

size_t opaque(size_t value)
{
    volatile size_t hidden = value;
    return hidden;
}

void *opaque_pointer(const void *pointer)
{
    return (void *)opaque((uintptr_t)pointer);
}

/* Eight bytes of the pattern. The multiplier is odd, so neighbours always differ. */
static uint64_t pattern_word(size_t index, uint64_t seed)
{
    return (seed + index) * 0x9e3779b97f4a7c15u ^ 0x5bd1e9955bd1e995u;
}

void fill(void *block, size_t size, uint64_t seed)
{
    char *bytes = block;
    for (size_t offset = 0; offset < size; offset += sizeof(uint64_t)) {
        const uint64_t word = pattern_word(offset / sizeof word, seed);
        const size_t left = size - offset;
        memcpy(bytes + offset, &word, left < sizeof word ? left : sizeof word);
    }
}

static size_t first_difference(const char *bytes, const void *expected, size_t size)
{
    size_t offset = 0;
    while (offset < size && bytes[offset] == ((const char *)expected)[offset])
        offset++;
    return offset;
}

size_t first_bad_byte(const void *block, size_t size, uint64_t seed)
{
    const char *bytes = block;
    for (size_t offset = 0; offset < size; offset += sizeof(uint64_t)) {
        const uint64_t word = pattern_word(offset / sizeof word, seed);
        const size_t left = size - offset;
        const size_t here = left < sizeof word ? left : sizeof word;
        if (memcmp(bytes + offset, &word, here) != 0)
            return offset + first_difference(bytes + offset, &word, here);
    }
    return size;
}

size_t first_nonzero_byte(const void *block, size_t size)
{
    static const char zeros[4096];
    const char *bytes = block;
    for (size_t offset = 0; offset < size; offset += sizeof zeros) {
        const size_t left = size - offset;
        const size_t here = left < sizeof zeros ? left : sizeof zeros;
        if (memcmp(bytes + offset, zeros, here) != 0)
            return offset + first_difference(bytes + offset, zeros, here);
    }
    return size;
}

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators"). */
uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

size_t random_size(uint64_t *state, size_t limit)
{
    const uint64_t number = next_random(state);
    return (number >> 6) % (limit + 1) >> (number & 63) % (65 - __builtin_clzll(limit | 1));
}

bool is_aligned(const void *pointer, size_t alignment)
{
    return ((uintptr_t)pointer & (alignment - 1)) == 0;
}

const size_t border_sizes[] = {
    1,
    7,
    8,
    15,
    16,
    17,
    24,
    31,
    32,
    33,
    48,
    63,
    64,
    65,
    100,
    127,
    128,
    129,
    255,
    256,
    257,
    500,
    1023,
    1024,
    1025,
    2047,
    2048,
    2049,
    4095,
    4096,
    4097,
    10000,
    16 * KIB - 1,
    16 * KIB,
    20000,
    32 * KIB - 1,
    32 * KIB,
    32769,
    64 * KIB,
    64 * KIB + 1,
    100000,
    128 * KIB - 1,
    128 * KIB + 1,
    200 * KIB,
    256 * KIB,
    MIB - 1,
    MIB + 1,
    2 * MIB,
    4 * MIB - 1,
    4 * MIB,
    4 * MIB + 1,
    8 * MIB + 1,
    16 * MIB,
    32 * MIB - 1,
    32 * MIB + 1,
    64 * MIB,
};
const size_t border_size_count = sizeof border_sizes / sizeof *border_sizes;

/* The number behind `key` in a file of /proc, which counts in KiB. Without stdio and malloc. */
static size_t proc_bytes(const char *path, const char *key)
{
    char text[4096];
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    text[length < 0 ? 0 : length] = '\0';
    const char *found = strstr(text, key);
    if (found == NULL) {
        dprintf(STDERR_FILENO, "no %s in %s\n", key, path);
        _exit(1);
    }
    return strtoul(found + strlen(key), NULL, 10) * KIB;
}

size_t resident_bytes(void)
{
    return proc_bytes("/proc/self/smaps_rollup", "\nRss:");
}

size_t data_bytes(void)
{
    return proc_bytes("/proc/self/status", "\nVmData:");
}

void limit_address_space(size_t more)
{
    const size_t limit = proc_bytes("/proc/self/status", "\nVmSize:") + more;
    child_check(setrlimit(RLIMIT_AS, &(struct rlimit){limit, limit}) == 0);
}

void child_fail(const char *file, int line, const char *condition)
{
    dprintf(STDERR_FILENO, "%s:%d: not so: %s (errno %d)\n", file, line, condition, errno);
    _exit(1);
}

/* cmocka catches these, to report a crash as a failed test; a child must really die of them. */
static void prepare_child(int words)
{
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGABRT, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        signal(signals[i], SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    dup2(words, STDERR_FILENO);
    alarm(120);
}

static void collect(struct child_end *end, pid_t child, int words)
{
    size_t length = 0;
    ssize_t got;
    while (length < sizeof end->words - 1 &&
           (got = read(words, end->words + length, sizeof end->words - 1 - length)) > 0)
        length += (size_t)got;
    end->words[length] = '\0';
    close(words);
    assert_int_equal(waitpid(child, &end->status, 0), child);
}

void run_child(struct child_end *end, void (*body)(void *), void *argument)
{
    int words[2];
    fflush(NULL);
    assert_int_equal(pipe2(words, O_CLOEXEC), 0);
    const pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) {
        prepare_child(words[1]);
        body(argument);
        _exit(0);
    }
    close(words[1]);
    collect(end, child, words[0]);
}

struct program {
    char *const *arguments;
    char *const *environment;
};

static void become_program(void *argument)
{
    const struct program *program = argument;
    const int nowhere = open("/dev/null", O_RDWR);
    child_check(nowhere >= 0);
    dup2(nowhere, STDIN_FILENO);
    dup2(nowhere, STDOUT_FILENO);
    execve(program->arguments[0], program->arguments, program->environment);
    child_check(!"execve came back");
}

void run_program(struct child_end *end, char *const arguments[], char *const environment[])
{
    run_child(end, become_program, &(struct program){arguments, environment});
}

void assert_child_passed(const struct child_end *end)
{
    if (WIFSIGNALED(end->status))
        fail_msg("the child died of signal %d (%s), having said: %s", WTERMSIG(end->status),
                 strsignal(WTERMSIG(end->status)), end->words);
    else if (end->status != 0)
        fail_msg("the child exited with %d: %s", WEXITSTATUS(end->status), end->words);
}

void eat_everything(void)
{
    const size_t sizes[] = {MIB, 30000, 10000, 3000, 100};
    child_check(setrlimit(RLIMIT_AS, &(struct rlimit){0, 0}) == 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        while (malloc(sizes[i]) != NULL)
            continue;
}
