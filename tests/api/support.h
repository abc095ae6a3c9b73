/*
 * What the tests of the API share. Every program here runs with the library preloaded and calls
 * nothing but the standard names, so the same program runs on any malloc: with
 * EBB_TEST_ANY_MALLOC=1 in the environment it does so, which is how its expectations are held
 * against glibc. What only ebbmalloc promises is skipped there, by skip_on_other_malloc().
 */
#ifndef EBB_TESTS_API_SUPPORT_H
#define EBB_TESTS_API_SUPPORT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <unistd.h>

#include "../hardened.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Debian 12's does not say extern "C" itself. */
#include <cmocka.h>

#define KIB ((size_t)1024)
#define MIB (KIB * 1024)

/* The alignment that x86-64 and aarch64 promise for every block. */
#define BLOCK_ALIGNMENT 16

/* Ends the program with a line and exit code 1 unless the library answers our calls. */
void require_library(void);

bool on_ebbmalloc(void);

#define skip_on_other_malloc()                                                                     \
    do {                                                                                           \
        if (!on_ebbmalloc())                                                                       \
            skip();                                                                                \
    } while (0)

/* The same value, but the compiler knows nothing about it: it neither warns nor reasons. */
size_t opaque(size_t value);
void *opaque_pointer(const void *pointer);

/* A repeatable pattern that depends on the seed and on the position. */
void fill(void *block, size_t size, uint64_t seed);

/* Offset of the first byte that is not what fill() wrote; `size` when all are. */
size_t first_bad_byte(const void *block, size_t size, uint64_t seed);

/* Offset of the first byte that is not zero; `size` when all are. */
size_t first_nonzero_byte(const void *block, size_t size);

uint64_t next_random(uint64_t *state);

/* A size from 0 to `limit`, small ones as likely as large ones (log-uniform). */
size_t random_size(uint64_t *state, size_t limit);

bool is_aligned(const void *pointer, size_t alignment);

/*
 * Sizes just below, at and above every border that a block can cross: of alignment, of size
 * classes, of pages, from small to large to huge. In rising order, 1 byte to 64 MiB.
 */
extern const size_t border_sizes[];
extern const size_t border_size_count;

/* Resident memory of this process in bytes, as the kernel counts it in smaps_rollup. */
size_t resident_bytes(void);

/* What RLIMIT_DATA limits, in bytes. */
size_t data_bytes(void);

/* Allows this process so many bytes of address space beyond what it has (for children only). */
void limit_address_space(size_t more);

/* How a child process ended, and all that it wrote to stderr. */
struct child_end {
    int status; /* as wait(2) gives it */
    char words[16384];
};

/*
 * Runs body(argument) in a forked child. The child has 120 seconds, default signal actions and no
 * core file. A body must not use cmocka: it says child_check(), and it may return.
 */
void run_child(struct child_end *end, void (*body)(void *), void *argument);

/* Starts a program, stdout to /dev/null. `environment` is all that it gets. */
void run_program(struct child_end *end, char *const arguments[], char *const environment[]);

/* Fails the test, with the words of the child, unless it exited with 0. */
void assert_child_passed(const struct child_end *end);

/* In a child: takes memory until none is to be had, and gives none of it back. */
void eat_everything(void);

#define child_check(condition)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            child_fail(__FILE__, __LINE__, #condition);                                            \
    } while (0)

void child_fail(const char *file, int line, const char *condition) __attribute__((noreturn));

/* Fails the test unless `call` is NULL with errno ENOMEM. */
#define assert_out_of_memory(call)                                                                 \
    do {                                                                                           \
        errno = 0;                                                                                 \
        void *const out_of_memory_result = (call);                                                 \
        const int out_of_memory_errno = errno;                                                     \
        assert_null(out_of_memory_result);                                                         \
        assert_int_equal(out_of_memory_errno, ENOMEM);                                             \
    } while (0)

#ifdef __cplusplus
}
#endif

#endif
