/* support.h: what all stress programs share: start-up and arguments, failing, random numbers,
 * byte patterns, self-describing blocks, and the kernel's figures about this process.
 *
 * Nothing here allocates with malloc, so a broken malloc cannot hide behind the test's own use.
 */
#ifndef EBB_TESTS_STRESS_SUPPORT_H
#define EBB_TESTS_STRESS_SUPPORT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../hardened.h"

#ifdef __cplusplus
extern "C" {
#undef _Noreturn /* what glibc before 2.34 makes of it there is not for clang */
#define _Noreturn [[noreturn]]
#endif

#define KiB ((size_t)1024)
#define MiB (1024 * KiB)
#define GiB (1024 * MiB)

/* ---- start and failure ---------------------------------------------------------------------- */

extern uint64_t stress_seed;   /* the same seed gives every thread the same choices */
extern double stress_scale;    /* 1 in `make check`; a soak run says 100 */
extern bool stress_any_malloc; /* EBB_TEST_ANY_MALLOC=1: bounds that only ebbmalloc keeps are off */

/* Reads the arguments [SCALE [SEED]], prints them, fails unless ebbmalloc is loaded, and starts a
 * watchdog that ends the process as failed after limit_seconds (times the scale): a deadlock
 * must not hang the suite. */
void stress_begin(int argc, char **argv, const char *name, unsigned limit_seconds);

/* The same for a part that is a process of its own, without a watchdog: its starter watches it. */
void stress_begin_part(const char *name, const char *seed);

/* Prints one line to stderr, with the program's name and seed, and ends the process at once (no
 * exit handlers, from any thread) with status 1. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Called by fail() before the end, in whatever process and thread it is; to leave nothing running.
 */
extern void (*fail_hook)(void);

/* fail(), for a promise that only ebbmalloc makes: on other mallocs it is printed, no more. */
void promise_broken(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Where fail() writes: stderr, or the copy of it that a test kept when it silenced that. */
extern int fail_descriptor;

/* Prints one line to stdout with the program's name. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A count or a duration for this run's scale. */
uint64_t scaled(uint64_t count);
double scaled_seconds(double seconds);

double now_seconds(void);
void sleep_seconds(double seconds);

/* ---- random numbers ------------------------------------------------------------------------- */

struct rng {
    uint64_t state;
};

/* A stream of its own for each number of a thread, task or part. */
struct rng rng_stream(uint64_t stream);
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t bound);
/* Between least and most (both included), each power of two equally likely. */
size_t rng_size(struct rng *rng, size_t least, size_t most);

/* ---- patterns ------------------------------------------------------------------------------- */

#define PATTERN_GOOD SIZE_MAX

/* Writes and compares bytes that depend on tag and on their offset. The check returns the offset
 * of the first bad byte or PATTERN_GOOD. */
void pattern_fill(void *start, size_t size, uint64_t tag);
size_t pattern_check(const void *start, size_t size, uint64_t tag);
unsigned char pattern_byte(size_t offset, uint64_t tag);
uint64_t mix(uint64_t value);

/* The offset of the first byte that is not zero, or PATTERN_GOOD. */
size_t zero_check(const void *start, size_t size);

/* What malloc(size) has to be aligned to: 16, or what other mallocs make of it for tiny sizes. */
size_t malloc_alignment(size_t size);

/* ---- parcels: blocks that describe themselves, so that one pointer passes all ---------------- */

struct parcel {
    uint64_t check; /* of the other fields and of where it lies */
    uint64_t serial;
    size_t size; /* of the whole block in bytes */
    uint32_t maker;
    uint32_t spare;
    unsigned char bytes[]; /* the pattern */
};

#define PARCEL_LEAST sizeof(struct parcel)

/* Allocates a block of size bytes (at least PARCEL_LEAST) and fills it; NULL when malloc does. */
struct parcel *parcel_try(size_t size, uint32_t maker);
/* The same; fails the test when malloc returns NULL. */
struct parcel *parcel_make(size_t size, uint32_t maker);
/* Makes a parcel of memory at hand. */
void parcel_write(struct parcel *parcel, size_t size, uint32_t maker);
/* Fails the test when a byte is wrong; when names the place in the test. */
void parcel_check(const struct parcel *parcel, unsigned thread, const char *when);
/* Checks, spoils and frees it, so that a second check of it fails. */
void parcel_end(struct parcel *parcel, unsigned thread, const char *when);

/* ---- this process, as the kernel counts it --------------------------------------------------- */

size_t resident_bytes(void); /* Rss of smaps_rollup */
size_t address_bytes(void);  /* VmSize */
size_t data_bytes(void);     /* VmData: what RLIMIT_DATA limits */

/* Waits for a child with a limit; fails the test (and kills the child) when it is still running
 * then. Returns the wait status. */
int wait_for(pid_t child, double seconds, const char *what);

/* Fails unless status says "exited with 0". */
void require_success(int status, const char *what);

#ifdef __cplusplus
#undef _Noreturn
}
#endif

#endif
