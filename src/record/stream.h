/* stream.h: what one thread does, on its way to the file.
 *
 * A thread notes operations in its own stream without a lock, as they are to lie in the file. At
 * times it looks up: the tick is advanced and the time noted; a full chunk gets its sum; when there
 * is no more room for chunks, and every second, they go to the file. A stream outlives its thread
 * and serves the next one, under another number. What a thread does after its stream has ended goes
 * to the shared one, under a lock.
 *
 * The file is opened anew where the program has closed the descriptor or put another file there.
 * After a fork the child begins a file of its own: FILE.PID.
 */
#ifndef EBB_RECORD_STREAM_H
#define EBB_RECORD_STREAM_H

#include <pthread.h>
#include <stdatomic.h>

#include "blocks.h"
#include "format.h"

/* A thread looks up after so many bytes; a tick lasts at most so many of one thread. */
#define BYTES_PER_LOOK 256
#define BYTES_PER_TICK 2048

#define STREAM_CHUNK (32 * KiB) /* it ends where its thread looks up next */
#define STREAM_BYTES (128 * KiB)

/* A stream begins an OS page, as do spans, whose first blocks are taken first, and what allocators
 * know of themselves. Processors tell a load from earlier stores by twelve bits of its address:
 * what every operation loads lies where few others store. */
#define STREAM_APART 0x740

struct stream {
    char apart[STREAM_APART];
    unsigned char *_Atomic at; /* the next operation to note; up to it, they are whole */
    unsigned char *limit;      /* look_at; NULL: the thread is in an operation */
    unsigned char *look_at;    /* from here on, its thread looks up first */
    uint64_t last_block;       /* the number of the last one that was got (stream_number) */
    uint64_t size;             /* the last one's … */
    uint64_t tick;
    struct blocks_near near;
    uint64_t other_index; /* … and the index of the last block of another thread's */
    uint32_t number;
    uint32_t until_tick;      /* looks */
    uint64_t time_us;         /* the last one noted */
    uint64_t saved_us;        /* when chunks were */
    bool is_free;             /* no thread has it; under the list's lock */
    struct stream *next_free; /* likewise */
    struct stream *next;      /* in the list of all; written once */

    pthread_mutex_t mutex; /* of what follows; of the shared one: all of it */
    unsigned char *chunk;  /* the one that is being filled; those before it are whole */
    unsigned char bytes[STREAM_BYTES];
};

/* A block's number: never 0. The blocks of two threads are so far apart that no short operation
 * has the difference. */
static inline uint64_t stream_number(uint32_t thread, uint64_t index)
{
    return (uint64_t)(thread + 1) << TRACE_INDEX_BITS | index;
}

/* What threads have that have none: nothing can be noted in it. */
extern hidden struct stream stream_none;

/* The calling thread's. */
struct recorder {
    struct stream *stream;         /* stream_none: not joined yet, or ended */
    bool has_ended;                /* notes in the shared stream */
    bool is_inside;                /* without a stream of its own: in an operation … */
    const struct stream *begun_in; /* … that a handler's fork found in this stream; or NULL */
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

unsigned char *stream_look(struct stream *stream);
unsigned char *stream_put_tick(struct stream *stream, unsigned char *at, uint64_t tick);

/* Before an operation, which the caller notes at *at; stream_noted tells where it ends. False when
 * it is not to. */
static inline bool stream_place(struct stream *stream, unsigned char **at)
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

/* Whether stream_place would do nothing but tell where, in a stream that its thread has entered. */
static always_inline bool stream_is_ready(const struct stream *stream)
{
    return likely(atomic_load_explicit(&stream_tick, memory_order_relaxed) == stream->tick);
}

static inline void stream_noted(struct stream *stream, unsigned char *end)
{
    /* Release: whoever ends the process saves what is whole. */
    atomic_store_explicit(&stream->at, end, memory_order_release);
}

/* Whether an operation can begin, with room for it. If not: not before the thread has looked up, or
 * not now. */
static always_inline bool stream_can_enter(const struct stream *stream)
{
    return likely(atomic_load_explicit(&stream->at, memory_order_relaxed) < stream->limit);
}

/* The fences are for the thread's own signal handlers. */
static always_inline void stream_enter(struct stream *stream)
{
    stream->limit = NULL;
    atomic_signal_fence(memory_order_seq_cst);
}

static always_inline void stream_exit(struct stream *stream)
{
    atomic_signal_fence(memory_order_seq_cst);
    stream->limit = stream->look_at;
}

#endif
