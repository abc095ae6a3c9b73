/* script.h: a trace made ready to be replayed: the operations of each thread as words that cost
 * next to nothing to read, in memory that another process can map.
 *
 *   script   head, threads, ticks, words
 *   slot     where the address of a block is kept while it lives. A slot is used again by the
 *            thread that emptied it, or by any when SCRIPT_DRIFT ticks have passed: then all
 *            threads are done with what was before
 *   word     kind (4 bits), slot (28), value (32)
 *
 * Ticks are numbered from 0 without gaps. A thread may do what belongs to tick t when all others
 * are done with the ticks under t - SCRIPT_DRIFT: close to the recorded order, and threads need not
 * wait for each other all the time.
 */
#ifndef EBB_SCRIPT_H
#define EBB_SCRIPT_H

#include "trace_file.h"

#define SCRIPT_DRIFT 8 /* ticks */

enum script_kind {
    SCRIPT_END,     /* of the thread */
    SCRIPT_LINK,    /* value, with the slot's bits: the index of the word to go on at */
    SCRIPT_TICK,    /* value: the tick of what follows */
    SCRIPT_MALLOC,  /* value: bytes; so for calloc and realloc */
    SCRIPT_CALLOC,  /* … */
    SCRIPT_REALLOC, /* the block moves within its slot */
    SCRIPT_FREE,    /* … */
    SCRIPT_WAIT,    /* until the slot was filled value times: by another thread */
    SCRIPT_WIDE,    /* value: kind, and the alignment's logarithm << 8. The next word: bytes */
};

/* Of the kinds that fill a slot, or in the value of SCRIPT_WIDE: a SCRIPT_WAIT waits for it. */
#define SCRIPT_AWAITED 8u
#define SCRIPT_WIDE_AWAITED (1u << 31)

/* Words behind the last one that may be read: none of them is an operation. */
#define SCRIPT_AHEAD 16

#define SCRIPT_ALIGNED 15 /* of SCRIPT_WIDE only */
#define SCRIPT_SLOTS_MOST (1u << 28)

static inline uint64_t script_word(unsigned kind, uint32_t slot, uint32_t value)
{
    return (uint64_t)kind << 60 | (uint64_t)slot << 32 | value;
}

struct script_thread {
    uint64_t first;  /* index of its first word */
    uint32_t tick;   /* of its first operation; threads are in the order of these */
    uint32_t number; /* in the trace */
};

struct script_head {
    uint64_t size;                  /* bytes of the whole */
    uint64_t operations, most_live; /* count; bytes */
    uint64_t recorded_us;           /* how long it took */
    uint32_t threads, ticks, slots;
    size_t thread_offset, tick_offset, live_offset, word_offset; /* bytes */
};

/* The parts of a script that is mapped at head: */
const struct script_thread *script_threads(const struct script_head *head);
uint32_t *
script_ticks(struct script_head *head); /* for each, how many threads do something in it */
const uint64_t *script_live(const struct script_head *head); /* … bytes live at its end */
const uint64_t *script_words(const struct script_head *head);

/* Makes the script of a trace in a file without a name. Its descriptor; negative after an error
 * that the trace tells, or after a complaint. */
int script_make(struct trace_file *file);

/* Maps one for a run of its own: what the run writes nobody else sees. NULL after a complaint. */
struct script_head *script_map(int descriptor);

#endif
