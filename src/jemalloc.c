/* jemalloc.c: the front door: jemalloc's own calls, as jemalloc(3) has them under "Non-standard
 * API". A program that is linked against it (redis from version 8 on) uses them beside malloc and
 * free, and a block of the one must be known to the other.
 *
 * Each is made of standard calls, by their public names: who stands before us, as `ebb record`
 * does, sees them. What flags say of arenas and caches is for jemalloc alone; its mallctl is not
 * here, and where a program finds that it tells of a jemalloc that nobody uses.
 */
#ifndef EBB_PREFIXED

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"

/* Of a call's flags. */
#define FLAG_LG_ALIGNMENT 0x3f
#define FLAG_ZERO 0x40

void *mallocx(size_t size, int flags);
void *rallocx(void *pointer, size_t size, int flags);
size_t xallocx(void *pointer, size_t size, size_t extra, int flags);
size_t sallocx(const void *pointer, int flags);
void dallocx(void *pointer, int flags);
void sdallocx(void *pointer, size_t size, int flags);
size_t nallocx(size_t size, int flags);

static size_t alignment_of(int flags)
{
    return max_size((size_t)1 << (flags & FLAG_LG_ALIGNMENT), MIN_ALIGNMENT);
}

/* From `used` on to the end of what the program may use: that is what jemalloc calls a block. */
static void *clear_rest(char *block, size_t used)
{
    __asm__("" : "+r"(block)); /* the compiler knows of no more than what was asked for */
    size_t room = block != NULL ? malloc_usable_size(block) : 0;
    if (room > used)
        memset(block + used, 0, room - used);
    return block;
}

/* calloc knows what is zero without a look at it, and large blocks are aligned to a page. */
static void *alloc_zero(size_t size, size_t alignment)
{
    char *block = calloc(1, size);
    if (block == NULL || ((uintptr_t)block & (alignment - 1)) == 0)
        return clear_rest(block, size);
    free(block);
    return clear_rest(memalign(alignment, size), 0);
}

/* A block of at least size bytes; at its alignment, and zero, as flags say. NULL and ENOMEM when
 * there is no memory. */
EXPORT void *mallocx(size_t size, int flags)
{
    size_t alignment = alignment_of(flags);
    if (flags & FLAG_ZERO)
        return alloc_zero(size, alignment);
    return alignment > MIN_ALIGNMENT ? memalign(alignment, size) : malloc(size);
}

static void *move(void *pointer, size_t before, size_t size, int flags)
{
    void *block = mallocx(size, flags & ~FLAG_ZERO);
    if (block == NULL)
        return NULL;
    memcpy(block, pointer, min_size(before, size));
    free(pointer);
    return block;
}

/* realloc of a live block, which stays as it is when there is no memory: NULL and ENOMEM then. With
 * the flag what is beyond the bytes that it had, as malloc_usable_size tells, is zero. */
EXPORT void *rallocx(void *pointer, size_t size, int flags)
{
    size_t before = malloc_usable_size(pointer), alignment = alignment_of(flags);
    void *block = alignment > MIN_ALIGNMENT ? move(pointer, before, size, flags)
                                            : realloc(pointer, max_size(size, 1));
    return flags & FLAG_ZERO ? clear_rest(block, before) : block;
}

/* Would resize a block where it stands, if possible to size + extra bytes. It stays as it is here.
 * The bytes that it has. */
EXPORT size_t xallocx(void *pointer, size_t size, size_t extra, int flags)
{
    (void)size, (void)extra, (void)flags;
    return malloc_usable_size(pointer);
}

/* malloc_usable_size. */
EXPORT size_t sallocx(const void *pointer, int flags)
{
    (void)flags;
    return malloc_usable_size((void *)pointer);
}

/* free. */
EXPORT void dallocx(void *pointer, int flags)
{
    (void)flags;
    free(pointer);
}

/* free; the size, anything from what was asked for to what the block has, is not looked at. */
EXPORT void sdallocx(void *pointer, size_t size, int flags)
{
    (void)size, (void)flags;
    free(pointer);
}

/* The bytes that mallocx would give for the same arguments, at least; 0 where it would fail in any
 * case. */
EXPORT size_t nallocx(size_t size, int flags)
{
    return api_room(size, alignment_of(flags));
}

#endif
