/* exhaust.h: uses up all the memory that a limit of the kernel leaves to this process, and proves
 * the promise: NULL and ENOMEM, nothing lost, and a program that can go on.
 *
 * The tables and helper threads that the proof needs are made by exhaust_prepare, before the limit
 * is set: nothing of the test's own is refused afterwards.
 */
#ifndef EBB_TESTS_STRESS_EXHAUST_H
#define EBB_TESTS_STRESS_EXHAUST_H

#include "support.h"

void exhaust_prepare(size_t limit_bytes);

enum limit_kind {
    LIMIT_OF_PROCESS, /* what is left of it is ours alone: amounts can be promised */
    LIMIT_OF_MACHINE, /* others take from it and give to it at any moment: amounts are printed only,
                         and held against what the kernel charges this process for */
};

/* With the limit in force: for blocks of each of several sizes, from 48 bytes to 40 MiB, allocates
 * until malloc refuses and
 *  - all of the limit, but for what exhaust.c says, was handed out before that,
 *  - malloc, calloc, realloc, aligned_alloc and posix_memalign refuse with ENOMEM (or still work),
 *    and the block that realloc could not grow is as it was,
 *  - a thread that never allocated can free a block,
 *  - after some blocks are freed, a thread can be started and gets one, and as many as were freed
 *    can be allocated anew,
 *  - all bytes of all blocks are as they were,
 *  - after all is freed, the next size finds as much of the limit again: nothing is lost to
 *    the size before; and after malloc_trim(0) the kernel has room for a thread's stack. */
void exhaust(const char *limit_name, enum limit_kind kind);

#endif
