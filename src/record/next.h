/* next.h: the next definition of each recorded call: ebbmalloc's, another allocator's, or the C
 * library's. And what is asked for before they are found.
 */
#ifndef EBB_RECORD_NEXT_H
#define EBB_RECORD_NEXT_H

#include "base.h"

extern hidden struct next {
    void *(*malloc)(size_t);
    void (*free)(void *);
    void (*free_sized)(void *, size_t); /* NULL: not in this C library; as the next one */
    void (*free_aligned_sized)(void *, size_t, size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*reallocarray)(void *, size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
} next;

/* What the loader asks for while it looks for them is served from here, and never taken back: the
 * size stands MIN_ALIGNMENT before the block. NULL, and errno, when there is no room. */
#define NEXT_EARLY ((size_t)64 * KiB)
extern hidden char next_early_room[NEXT_EARLY];
void *next_early(size_t size);

static inline bool next_is_early(const void *pointer)
{
    return unlikely((uintptr_t)pointer - (uintptr_t)next_early_room < NEXT_EARLY);
}

/* Looks for them; not while it does. */
void next_find(void);

static inline bool next_is_ready(void)
{
    if (likely(__atomic_load_n(&next.malloc, __ATOMIC_ACQUIRE) != NULL))
        return true;
    next_find();
    return next.malloc != NULL;
}

#endif
