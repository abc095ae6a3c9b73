/* trace_reader.h: what the two parts of the reader of traces share: trace_file.c has the file and
 * its chunks, trace_order.c what the threads did, in one order.
 */
#ifndef EBB_TRACE_READER_H
#define EBB_TRACE_READER_H

#include "trace_file.h"

#define NONE 0 /* chunks count from 1 */

struct trace_chunk_place {
    size_t start, length; /* of its operations, in the file */
    uint32_t next;        /* of the same thread; NONE */
};

struct trace_thread {
    uint32_t first, last;          /* chunks; NONE */
    uint32_t chunk;                /* the one being read … */
    const unsigned char *at, *end; /* … and its rest */
    uint64_t count, size;          /* blocks got; the last one's size */
    uint64_t other_index;          /* as in the recorder */
    uint64_t time_us;
    uint32_t tick;
    /* While it waits for a block, and so is not in the order: */
    uint64_t awaits;                /* the block's key */
    uint32_t next_for_block;        /* who else waits for the same one, plus 1 */
    uint32_t next_parked, previous; /* in the list of all who wait, the longest first; plus 1 */
    bool is_stuck;                  /* the block it waits for does not come */
};

/* A thread that has more to tell, in a heap: the lowest tick first, then the longest waiting. */
struct trace_order {
    uint64_t turn;
    uint32_t tick;
    uint32_t thread;
};

/* A block that lives, or that threads wait for: in an open-addressed table by key. */
struct trace_live {
    uint64_t key;     /* thread and index, plus 1; 0: none */
    uint32_t block;   /* NO_BLOCK: it is not there yet */
    uint32_t waiting; /* a thread that waits for it, plus 1; the rest by ->next_for_block */
};

#define NO_BLOCK UINT32_MAX

/* Says what is wrong at a byte of the file; false. */
bool damaged(struct trace_file *file, const unsigned char *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
