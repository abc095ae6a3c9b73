/* stream.h: what one thread does, as bytes on their way to the file.
 *
 * A thread writes into its own stream without a lock. At times it looks up: what has gathered goes
 * to the file, as a chunk, before the buffer is full and every second; the tick is advanced and the
 * time noted. A stream outlives its thread and serves the next one, under another number. What a
 * thread does after its stream has ended goes to the shared one, under a lock.
 *
 * The file is opened anew where the program has closed the descriptor or put another file there.
 * After a fork the child begins a file of its own: FILE.PID.
 */
#ifndef EBB_RECORD_STREAM_H
#define EBB_RECORD_STREAM_H

#include <pthread.h>
#include <stdatomic.h>

#include "format.h"

/* A thread looks up after so many operations; a tick lasts at most so many of one thread. */
#define OPERATIONS_PER_LOOK 64
#define OPERATIONS_PER_TICK 1024

#define STREAM_BYTES (64 * KiB)
#define STREAM_SLACK (OPERATIONS_PER_LOOK * TRACE_OPERATION_MOST)

struct stream {
    unsigned char *_Atomic at; /* the next byte to write; up to it, operations are whole */
    uint64_t next_block;       /* the number of the next one that is got (stream_number) */
    uint64_t size;             /* the last one's … */
    uint64_t other_index;      /* … and the index of the last block of another thread's */
    uint32_t number;
    uint32_t tick;
    uint32_t until_look, until_tick; /* operations; looks */
    uint64_t time_us;                /* the last one written */
    uint64_t saved_us;               /* when a chunk was */
    bool is_free;                    /* no thread has it; under the list's lock */
    pthread_mutex_t mutex;           /* saving; for the shared one: all of it */
    unsigned char *saved;            /* up to here it is in the file; under the mutex */
    struct stream *next;             /* in the list of all; written once */
    unsigned char buffer[STREAM_BYTES];
};

/* A block's number: never 0. */
static inline uint64_t stream_number(uint32_t thread, uint64_t index)
{
    return (uint64_t)(thread + 1) << TRACE_INDEX_BITS | index;
}

/* The calling thread's. */
struct recorder {
    struct stream *stream; /* NULL: not joined yet, or ended */
    bool inside;           /* in a call that is recorded: what that calls is not */
    bool has_ended;        /* writes to the shared stream */
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
    if (unlikely(state == STREAMS_NOT_READY))
        state = streams_start();
    return likely(state == STREAMS_ON);
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

extern hidden _Atomic uint32_t stream_tick;

/* Before an operation, which the caller writes at the place returned; stream_wrote tells where it
 * ends. */
void stream_look(struct stream *stream);
unsigned char *stream_put_tick(struct stream *stream, uint32_t tick);

static inline unsigned char *stream_place(struct stream *stream)
{
    if (unlikely(--stream->until_look == 0))
        stream_look(stream);
    uint32_t tick = atomic_load_explicit(&stream_tick, memory_order_relaxed);
    if (unlikely(tick != stream->tick))
        return stream_put_tick(stream, tick);
    return atomic_load_explicit(&stream->at, memory_order_relaxed);
}

static inline void stream_wrote(struct stream *stream, unsigned char *end)
{
    /* Release: whoever ends the process saves what is whole. */
    atomic_store_explicit(&stream->at, end, memory_order_release);
}

#endif
