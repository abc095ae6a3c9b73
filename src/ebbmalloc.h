/* ebbmalloc.h: what a program may include. The library replaces the calls of <stdlib.h> and
 * <malloc.h>; this header adds what those do not declare.
 */
#ifndef EBBMALLOC_H
#define EBBMALLOC_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library's version, "MAJOR.MINOR.PATCH". Never NULL. Thread-safe. To find out whether a
 * process runs on the library: dlsym(RTLD_DEFAULT, "ebb_version") is not NULL. */
const char *ebb_version(void);

/* C23, 7.24.3: free with the size that was asked for. pointer is NULL or a live block of malloc,
 * calloc or realloc with that size in bytes. Keeps errno. Thread-safe. */
void free_sized(void *pointer, size_t size);

/* C23: the same for a block of aligned_alloc with that alignment and size. */
void free_aligned_sized(void *pointer, size_t alignment, size_t size);

#ifdef __cplusplus
}
#endif

#endif
