/* support.h: what the unit tests share: the prefixed API, requirements that hold in any thread,
 * random numbers, patterns, looks at residency and addresses, and the kernel's refusals.
 *
 * The tests run on libc's malloc; the library under test is linked in as ebb_malloc and so on.
 */
#ifndef EBB_TESTS_UNIT_SUPPORT_H
#define EBB_TESTS_UNIT_SUPPORT_H

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "older.h"
#include "os.h"

/* ---- The API as libebbcore names it --------------------------------------------------------- */

void *ebb_malloc(size_t size);
void *ebb_calloc(size_t count, size_t size);
void *ebb_realloc(void *pointer, size_t size);
void *ebb_memalign(size_t alignment, size_t size);
void ebb_free(void *pointer);
size_t ebb_malloc_usable_size(void *pointer);
int ebb_malloc_trim(size_t pad);
struct mallinfo2 ebb_mallinfo2(void);

/* ---- Set-up of tests that call the rooms themselves -------------------------------------------
 */

/* For a whole group: what the first call of malloc would do. */
int start_library(void **state);

struct chunk_totals; /* chunk.h */
struct chunk_totals chunk_totals(void);

/* Before and after a test: the options are as at first, and no chunk is there, else it fails. */
int no_chunks(void **state);

/* ---- Requirements ---------------------------------------------------------------------------- */

/* Like assert_true, but allowed in threads other than the first, in child processes, and in loops
 * of millions: says where and what on stderr and aborts. */
#define require(condition) ((condition) ? (void)0 : require_failed(__FILE__, __LINE__, #condition))
_Noreturn void require_failed(const char *file, int line, const char *what);

/* ---- Random numbers: the same in every run ----------------------------------------------------
 */

struct random {
    uint64_t state;
};

uint64_t random_next(struct random *random);
size_t random_below(struct random *random, size_t bound);

/* ---- Patterns -------------------------------------------------------------------------------- */

/* Fills memory with what depends on the tag and on the offset; tells whether it still holds. */
void pattern_write(void *start, size_t size, uint64_t tag);
bool pattern_holds(const void *start, size_t size, uint64_t tag);

bool reads_zero(const void *start, size_t size);

/* Bytes of [start, start + size) that are resident; start at an OS page. */
size_t resident_in(const void *start, size_t size);

/* Bytes of addresses that the process has mapped. */
size_t address_space(void);

double seconds_now(void);

/* ---- The kernel's refusals ------------------------------------------------------------------- */

#define KIND(call) (1u << (call))
#define ALL_KINDS                                                                                  \
    (KIND(OS_CALL_MAP) | KIND(OS_CALL_COMMIT) | KIND(OS_CALL_UNMAP) | KIND(OS_CALL_REMAP) |        \
     KIND(OS_CALL_PURGE) | KIND(OS_CALL_BARRIER))

/* From now on refuses those calls of these kinds whose number, counted from 1, is from `first` to
 * `last`. Replaces what was asked for before; refuse_none ends it. */
void refuse(unsigned kinds, size_t first, size_t last);
void refuse_none(void);

/* How many were refused since the last call of refuse. */
size_t refused_count(void);

/* Whether memory can be read, found out by the kernel and not by a fault. */
bool is_accessible(const void *address);

/* ---- A child's last words -------------------------------------------------------------------- */

/* Runs function in a child process and returns its wait status; what it wrote to stderr is in text,
 * ended by a zero. */
int run_in_child(void (*function)(void *), void *argument, char *text, size_t capacity);

#endif
