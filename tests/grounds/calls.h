/* calls.h: what the library gives and musl does not declare, included before each test. */
#ifndef EBB_TESTS_GROUNDS_CALLS_H
#define EBB_TESTS_GROUNDS_CALLS_H

#include <stddef.h>

int malloc_trim(size_t pad);
void *pvalloc(size_t size);

#endif
