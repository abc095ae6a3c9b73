/* large.h: blocks that are aligned to more than a page, that go on growing by realloc, or that grew
 * to more than 4 MiB where they stood: runs of pages, straight from a chunk. The chunk notes the
 * length at the first page; the page map marks the first page only, so that a pointer to anywhere
 * else reads as not ours. (Others of up to 4 MiB are spans of one block.)
 */
#ifndef EBB_LARGE_H
#define EBB_LARGE_H

#include "chunk.h"
#include "pagemap.h"
#include "sizeclass.h"

/* size in bytes (over 0, up to LARGE_MAX), alignment a power of two up to the chunk's size. *zero
 * tells whether the block reads as zero. NULL when there is no memory. */
void *large_alloc(size_t size, size_t alignment, bool *zero);

/* The same for one that is likely to grow: with so many bytes (a power of two, and no less) from
 * its start on free to grow into, if they are at hand. */
void *large_alloc_to_grow(size_t size, size_t room);

/* False when block is not the start of a large block (any more); nothing is done then. */
bool large_free(void *block);

/* Bytes of the block, or 0 when it is none. No lock. */
static inline size_t large_size(const void *block)
{
    struct chunk *chunk = pagemap_chunk(block);
    if (chunk == NULL || ((uintptr_t)block & (PAGE_SIZE - 1)) != 0)
        return 0;
    return chunk_large_pages(chunk, chunk_page(block)) * PAGE_SIZE;
}

/* Makes the block size bytes where it stands; false, and nothing changed, when that cannot be. */
bool large_resize_in_place(void *block, size_t size);

/* Makes the block size bytes, where it stands or as a huge one (over LARGE_MAX) of what it holds;
 * NULL, and nothing changed, when that cannot be. */
void *large_resize(void *block, size_t size);

#endif
