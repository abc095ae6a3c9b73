/* huge.h: blocks of more than 4 MiB, mappings of their own or parts of one.
 *
 * The page map marks the page of the start, and lists the huge blocks that begin in each 32 MiB.
 * Freed ones are kept for a while: a program that frees and allocates 20 MiB in a loop should not
 * pay the kernel each time. A block is cut from those kept, be it from several that stand side by
 * side, and grows into what stands behind it; else the kernel is told to make several of them stand
 * side by side, which takes a small part of the time that fresh pages take. Each piece keeps its
 * age, so that what nobody uses goes, whatever its neighbours do. In the hardened mode they are
 * kept out of everybody's reach, and for that alone. One lock guards the lists; it is not held
 * during system calls.
 */
#ifndef EBB_HUGE_H
#define EBB_HUGE_H

#include "lock.h"

struct huge {
    char *start;
    size_t size;         /* bytes, in whole OS pages: of a block with all its pieces */
    uint64_t mapping;    /* the number of the mapping that it lies in */
    struct huge *behind; /* of the same block, the piece that stands right behind (pieces.h) */
    struct huge *next, *previous; /* in a list: kept and empty by address, else the newest first */
    uint64_t freed_ms;
    char *_Atomic entered;          /* live: the start, else NULL … */
    struct huge *_Atomic next_here; /* … and the next that begins in the same 32 MiB */
};

struct huge_list {
    struct huge *first;
    size_t count, bytes;
};

extern hidden struct huge_lists {
    struct lock lock;
    struct huge_list live, kept, leaving; /* leaving: in the hands of the sweep that is under way;
                                        in the child of a fork perhaps left of one that is not */
    struct huge_list empty;               /* without memory, but the kernel would not unmap them */
    size_t peak_bytes;                    /* of live, kept and leaving */
    struct huge *unused;                  /* records, never used for anything else */
} huge_lists;

/* What a block of so many bytes takes: at least one of our pages, so that no two blocks begin in
 * the same one, since the page map has one code for it. */
size_t huge_room(size_t size);

/* size in bytes, up to PTRDIFF_MAX; alignment a power of two. *zero tells whether the block reads
 * as zero. NULL when there is no memory. */
void *huge_alloc(size_t size, size_t alignment, bool *zero);

/* False when block is not the start of a huge block; nothing is done then. */
bool huge_free(void *block);

/* Bytes of the block, or 0 when it is none. No lock: a handler that came upon who asks may want
 * it. */
size_t huge_size(const void *block);

/* Makes the block size bytes (over LARGE_MAX), moving it if need be; NULL, and nothing changed,
 * when there is no memory, or the kernel would not move it. */
void *huge_resize(void *block, size_t size);

/* A new block of size bytes (over LARGE_MAX) that begins with what `bytes` bytes at start hold,
 * which are moved there and not copied: they read as zero from then on. NULL, and nothing changed,
 * when there is no memory, or the kernel cannot do that. */
void *huge_move_in(char *start, size_t bytes, size_t size);

/* True when address lies inside a live huge block. For error messages: slow. */
bool huge_contains(const void *address);

/* Lets go of kept mappings that were freed at least age_ms ago. One caller at a time, under the
 * sweep lock (purger.c). Returns the bytes that were resident in them. */
size_t huge_sweep(uint64_t age_ms);

/* Lets go of kept mappings, so many bytes or more, the oldest first. As huge_sweep. */
size_t huge_make_up(size_t bytes);

/* Bytes of kept mappings, read without the lock. */
size_t huge_kept_bytes(void);

/* True when there are any, under the lock: for who must not miss what came before. */
bool huge_any_kept(void);

struct huge_totals {
    size_t live_bytes, live_blocks;
    size_t kept_bytes, kept_pieces; /* a block may be kept in several */
    size_t peak_bytes;              /* live and kept, at the most */
};
void huge_count(struct huge_totals *totals);

/* For fork. */
void huge_lock(void);
void huge_unlock(void);

#endif
