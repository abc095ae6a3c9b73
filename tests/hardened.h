/* hardened.h: whether this program runs in the hardened mode, told from the environment as the
 * library reads it (options.c): any value but 1 leaves it off.
 */
#ifndef EBB_TESTS_HARDENED_H
#define EBB_TESTS_HARDENED_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool is_hardened(void)
{
    const char *value = getenv("EBBMALLOC_HARDEN");
    return value != NULL && strcmp(value, "1") == 0;
}

#endif
