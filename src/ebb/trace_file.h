/* trace_file.h: reads a trace (src/record/format.h) and puts its threads' operations into one
 * order that could have been: that of the ticks, and, within a tick, every block is got before it
 * is given back.
 *
 * A file that is cut short is read up to the cut; what refers to blocks that were got beyond it is
 * left out and counted. Any other damage ends the reading with a line that says at which byte.
 * Nothing in a file can make this crash, loop, or take memory out of proportion to it.
 */
#ifndef EBB_TRACE_FILE_H
#define EBB_TRACE_FILE_H

#include "record/format.h"
#include "table.h"

struct trace_block {
    uint64_t size;      /* bytes, as asked for */
    uint64_t operation; /* which got it, counted from 0 over all threads */
    uint64_t time_us;   /* when */
    uint32_t thread;    /* that got it */
};

/* An operation. Of the kinds, those that get, change or give back a block: TRACE_FREE_OTHER is told
 * as TRACE_FREE. Blocks are numbered so that numbers of blocks that are gone are used again. */
struct trace_event {
    enum trace_kind kind;
    uint32_t thread;
    uint32_t tick;
    uint32_t block;         /* its number; of a free, the block's that it gives back */
    uint32_t old;           /* of TRACE_REALLOC, the number of the block that it ends */
    struct trace_block was; /* of TRACE_REALLOC and TRACE_FREE: the block that it ends */
    uint64_t size;          /* bytes */
    unsigned alignment_log; /* of TRACE_ALIGNED: 2^this bytes */
    uint64_t time_us;       /* since the recorder started; never falls */
};

struct trace_thread;
struct trace_chunk_place;

struct trace_file {
    unsigned char *bytes;
    size_t size, capacity;
    struct trace_header header;
    const char *command; /* words, each ended by a zero … */
    size_t command_size; /* … in so many bytes */
    bool is_whole;       /* it has its end mark: the process ended by itself */
    size_t whole_bytes;  /* up to where the file is whole */
    uint64_t left_out;   /* operations that refer to blocks beyond the cut */
    uint64_t operations; /* told so far */
    uint64_t time_us;    /* of the last one */
    uint32_t threads;    /* one more than the last one's number */
    uint32_t blocks;     /* numbers in use so far: all are under this */
    char error[160];     /* empty, or what is wrong, and where */

    /* The reader's own. */
    struct trace_thread *thread;
    struct trace_chunk_place *chunk;
    uint32_t chunks;
    struct trace_order *order;
    size_t waiting;               /* threads in the order */
    uint32_t parked, last_parked; /* threads that wait for a block, plus 1 */
    uint64_t turn;
    struct trace_live *live;
    size_t live_capacity, live_count;
    struct trace_block *block;
    uint32_t *free_numbers;
    size_t free_count, block_capacity;
};

/* Reads a file; "-" is the standard input. False with error set. trace_close in any case. */
bool trace_open(struct trace_file *file, const char *path);

/* The same for bytes in memory, which it copies. */
bool trace_open_bytes(struct trace_file *file, const void *bytes, size_t size);

/* The next operation; false at the end, and with error set when it is damaged. */
bool trace_next(struct trace_file *file, struct trace_event *event);

/* From the start again. */
void trace_rewind(struct trace_file *file);

void trace_close(struct trace_file *file);

/* The command, with spaces between its words and without what cannot be printed. Returns buffer. */
const char *trace_command(const struct trace_file *file, char *buffer, size_t capacity);

#endif
