/* What every program under bench/ shares: a clock, a cheap random generator, the mixture of sizes,
 * and the reading of arguments. Nothing here allocates memory. C and C++ both include it. */
#ifndef EBB_BENCH_COMMON_H
#define EBB_BENCH_COMMON_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* CLOCK_MONOTONIC in seconds: the same clock as python's time.monotonic(), so that a sampler
 * outside the process can put our times and its own on one axis. */
static inline double bench_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline void bench_sleep(double seconds)
{
    if (seconds <= 0)
        return;
    struct timespec left;
    left.tv_sec = (time_t)seconds;
    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

/* xorshift64*: a few instructions, so that the generator does not hide the allocator. The state
 * must not be zero. */
static inline uint32_t bench_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (uint32_t)((x * UINT64_C(0x2545F4914F6CDD1D)) >> 32);
}

/* A start for bench_random: different and never zero for each number. */
static inline uint64_t bench_seed(uint64_t number)
{
    return (number + 1) * UINT64_C(0x9E3779B97F4A7C15) | 1;
}

/* Even over low..high, both included; the span must be below 2^32. */
static inline size_t bench_between(uint64_t *state, size_t low, size_t high)
{
    uint64_t span = (uint64_t)(high - low) + 1;
    return low + (size_t)((bench_random(state) * span) >> 32);
}

/* Skewed over low..high: even in the logarithm, so that half of all blocks lie below the geometric
 * mean and each doubling of the size is as frequent as the one before. */
static inline size_t bench_log_between(uint64_t *state, size_t low, size_t high)
{
    size_t ceiling = low;
    unsigned doublings = 0;
    while (ceiling < high) {
        ceiling *= 2;
        doublings++;
    }
    size_t floor = low << (doublings == 0 ? 0 : bench_random(state) % doublings);
    size_t size = bench_between(state, floor, floor * 2);
    return size > high ? high : size;
}

/* The mixture that stands for a server's small objects: 16 to 1024 bytes, most of them small. In
 * 100 blocks: 30 up to 32 bytes, 30 up to 64, 20 up to 128, 10 up to 256, 6 up to 512 and 4 up to
 * 1024; on average about 114 bytes. */
enum { BENCH_MIXED_MIN = 16, BENCH_MIXED_MAX = 1024 };

static inline size_t bench_mixed_size(uint64_t *state)
{
    static const unsigned char up_to[] = {30, 60, 80, 90, 96, 100};
    uint32_t percent = (uint32_t)(((uint64_t)bench_random(state) * 100) >> 32);
    size_t low = BENCH_MIXED_MIN;
    for (unsigned i = 0; percent >= up_to[i]; i++)
        low *= 2;
    return bench_between(state, low, low * 2);
}

/* Puts the number in `text` into `value` and returns 1, or returns 0 if it is not a number within
 * least..most. */
static inline int bench_parse(const char *text, double least, double most, double *value)
{
    char *end;
    errno = 0;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !(number >= least && number <= most))
        return 0;
    *value = number;
    return 1;
}

#endif
