/* meta.h: memory for the library's own records (span and chunk descriptors, arenas), apart from
 * every block, so that no overflow of a block reaches it. Never returned to the kernel; a record
 * that is freed serves the next of its size, and stays readable as a record of that size for good.
 */
#ifndef EBB_META_H
#define EBB_META_H

#include "base.h"

/* Sizes are multiples of this: most records are of 96 bytes, and there are as many as spans. */
#define META_GRAIN ((size_t)32)

/* The largest record kept on a free list, in bytes; larger ones (chunks, arenas) are recycled by
 * their own rooms. */
#define META_SMALL_MAX (19 * META_GRAIN)

/* Regions that are noted for who draws a map; there may be more. */
#define META_REGIONS 4096

/* Written under the lock of this room. */
extern hidden struct meta_books {
    size_t used_bytes, mapped_bytes;
    size_t region_count;
    struct meta_region {
        char *start;
        size_t size; /* bytes */
    } regions[META_REGIONS];
} meta_books;

/* Zeroed memory, or NULL; at a cache line when it is larger than META_SMALL_MAX. Sizes up to
 * META_SMALL_MAX may be freed again. */
void *meta_alloc(size_t size);
void meta_free(void *record, size_t size);

/* For a record of which parts are not touched yet, or no longer resident: what counts as handed out
 * grows or shrinks. */
void meta_note(size_t more, size_t fewer);

/* Bytes handed out and not freed, and bytes of address space taken from the kernel for them. */
size_t meta_used_bytes(void);
size_t meta_mapped_bytes(void);

/* For fork: no record is half written while this is held. */
void meta_lock(void);
void meta_unlock(void);

#endif
