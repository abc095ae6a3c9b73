/* purge.h: giving physical memory back by the advice that the user chose, and counting it. The
 * addresses stay. No locks.
 */
#ifndef EBB_PURGE_H
#define EBB_PURGE_H

#include "base.h"

enum purge_result {
    PURGE_DONE,   /* not resident any more, reads as zero */
    PURGE_LAZY,   /* the kernel takes it when it wants it; content unknown */
    PURGE_REFUSED /* unchanged */
};

/* Whole OS pages that hold nothing and that nobody else can reach. */
enum purge_result purge_range(char *start, size_t size);

/* Since the start: bytes that were given back at once, and calls to the kernel for it. */
size_t purge_bytes(void);
size_t purge_calls(void);

#endif
