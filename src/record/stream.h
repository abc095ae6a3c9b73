/* stream.h: what one thread does, on its way to the file.
 *
 * A thread notes words in its own stream without a lock. At times it looks up: the tick is advanced
 * and the time noted; when there is no more room for words, they become bytes of a chunk; when
 * there is no more room for chunks, and every second, they go to the file. A stream outlives its
 * thread and serves the next one, under another number. What a thread does after its stream has
 * ended goes to the shared one, under a lock.
 *
 * The file is opened anew where the program has closed the descriptor or put another file there.
 * After a fork the child begins a file of its own: FILE.PID.
 */
#ifndef EBB_RECORD_STREAM_H
#define EBB_RECORD_STREAM_H

#include <pthread.h>
#include <stdatomic.h>

#include "words.h"

/* A thread looks up after so many words; a tick lasts at most so many of one thread. */
#define WORDS_PER_LOOK 64
#define WORDS_PER_TICK 1024

#define STREAM_WORDS 8192
#define STREAM_CHUNKS 4 /* their sums are made side by side */
#define STREAM_BYTES (128 * KiB)

struct stream {
    uint32_t *_Atomic at; /* the next word to note; up to it, operations are whole */
    uint32_t *look_at;    /* from here on, its thread looks up first */
    uint64_t last_block;  /* the number of the last one that was got (stream_number) */
    uint64_t size;        /* the last one's … */
    uint64_t other_index; /* … and the index of the last block of another thread's */
    uint64_t tick;
    uint32_t number;
    uint32_t until_tick; /* looks */
    uint64_t time_us;    /* the last one noted */
    uint64_t saved_us;   /* when chunks were */
    bool is_free;        /* no thread has it; under the list's lock */
    struct stream *next; /* in the list of all; written once */

    pthread_mutex_t mutex;               /* of what follows; of the shared one: all of it */
    const uint32_t *packed;              /* up to here words are bytes, in chunks */
    unsigned char *chunk[STREAM_CHUNKS]; /* where they begin, one behind the other */
    unsigned last_chunk;                 /* is being filled … */
    unsigned char *end;                  /* … up to here */

    uint32_t words[STREAM_WORDS + WORDS_PER_LOOK + 2 * OPERATION_WORDS];
    unsigned char bytes[STREAM_BYTES];
};

/* A block's number: never 0. The blocks of two threads are so far apart that the difference is no
 * word's. */
static inline uint64_t stream_number(uint32_t thread, uint64_t index)
{
    return (uint64_t)(thread + 1) << TRACE_INDEX_BITS | index;
}

enum recorder_state {
    RECORDER_UNSURE, /* whether anything is recorded */
    RECORDER_READY,
    RECORDER_INSIDE, /* a call that is recorded: what that calls is not */
};

/* The calling thread's. */
struct recorder {
    struct stream *stream; /* NULL: not joined yet, or ended */
    unsigned char state;   /* enum recorder_state */
    bool has_ended;        /* notes in the shared stream */
};
extern hidden __thread struct recorder recorder_self __attribute__((tls_model("initial-exec")));

enum stream_state {
    STREAMS_NOT_READY,
    STREAMS_ON,
    STREAMS_ENDING, /* nobody begins an operation any more; what is there is being saved */
    STREAMS_OFF,
};
extern hidden _Atomic int stream_state;

/* Reads the environment, if it is there already, and returns the state then. */
int streams_start(void);

/* False before the program has an environment, without a file to write, and after the end. */
static inline bool streams_are_on(void)
{
    /* Acquire: pairs with the release in streams_start. */
    int state = atomic_load_explicit(&stream_state, memory_order_acquire);
    return (state == STREAMS_NOT_READY ? streams_start() : state) == STREAMS_ON;
}

/* A stream for the calling thread; NULL when there is none to be had. */
struct stream *stream_join(void);

/* After its last round of destructors. */
void stream_leave(struct stream *stream);

/* For a thread whose stream has ended. Between the two it may write to it. */
struct stream *stream_lock_shared(void);
void stream_unlock_shared(void);

/* The process ends: all that was written goes to the file, and an end mark. */
void streams_end(void);

/* The number of the shared one; those of the threads follow. Under it are those of the process that
 * this one was forked from. */
extern hidden uint32_t stream_first;

/* With STREAM_ENDED once nothing is noted any more. */
extern hidden _Atomic uint64_t stream_tick;
#define STREAM_ENDED ((uint64_t)1 << 63)

uint32_t *stream_look(struct stream *stream);
uint32_t *stream_put_tick(struct stream *stream, uint32_t *at, uint64_t tick);

/* Before an operation, which the caller notes at *at; stream_noted tells where it ends. False when
 * it is not to. */
static inline bool stream_place(struct stream *stream, uint32_t **at)
{
    *at = atomic_load_explicit(&stream->at, memory_order_relaxed);
    if (unlikely(*at >= stream->look_at))
        *at = stream_look(stream);
    uint64_t tick = atomic_load_explicit(&stream_tick, memory_order_relaxed);
    if (likely(tick == stream->tick))
        return true;
    *at = stream_put_tick(stream, *at, tick);
    return *at != NULL;
}

/* Whether stream_place would do nothing but tell where. */
static always_inline bool stream_is_ready(const struct stream *stream)
{
    return atomic_load_explicit(&stream->at, memory_order_relaxed) < stream->look_at &&
           atomic_load_explicit(&stream_tick, memory_order_relaxed) == stream->tick;
}

static inline void stream_noted(struct stream *stream, uint32_t *end)
{
    /* Release: whoever ends the process saves what is whole. */
    atomic_store_explicit(&stream->at, end, memory_order_release);
}

#endif
