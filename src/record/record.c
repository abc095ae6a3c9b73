/* record.c: the calls of malloc and its family, and of operator new and delete, in front of the
 * next definition of each: ebbmalloc's, another allocator's, or the C library's. Each is passed on
 * as it came, and what it did is noted in the thread's stream.
 *
 * Getting a block is noted after the call, giving one back before it: while a block is named in
 * the map, its address is nobody else's. And what gives one back goes on to the next definition
 * with a jump, that returns to the program: blocks that it asked for itself would be recorded.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "blocks.h"
#include "next.h"
#include "stream.h"
#include "text.h"

#define EXPORT __attribute__((visibility("default")))

typedef const void *nothrow; /* how the C++ ABI passes std::nothrow: by reference */

/* ---- A thread's part ------------------------------------------------------------------------- */

static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

/* Rounds of destructors that glibc and musl run: what they free is the thread's own doing. */
#define ROUNDS 4

/* NULL: none. */
static inline struct stream *own_stream(void)
{
    struct stream *stream = recorder_self.stream;
    return stream != &stream_none ? stream : NULL;
}

static void end_thread(void *value)
{
    uintptr_t round = (uintptr_t)value;
    if (round < ROUNDS && pthread_setspecific(key, (void *)(round + 1)) == 0)
        return;
    struct stream *stream = own_stream();
    recorder_self.stream = &stream_none;
    recorder_self.has_ended = true;
    if (stream != NULL)
        stream_leave(stream);
}

static void make_key(void)
{
    pthread_key_create(&key, end_thread);
}

static cold struct stream *join(void)
{
    int saved = errno;
    if (!recorder_self.has_ended) {
        pthread_once(&key_once, make_key);
        struct stream *stream = stream_join();
        if (stream != NULL) {
            recorder_self.stream = stream; /* its limit says from here on that it is in a call */
            recorder_self.is_inside = false;
            pthread_setspecific(key, (void *)1);
        }
    }
    errno = saved;
    return own_stream();
}

/* An operation may end by that stream alone, when it had got so far before the fork. */
static bool is_inside(void)
{
    const struct stream *begun_in = recorder_self.begun_in;
    return recorder_self.is_inside && (begun_in == NULL || begun_in->limit == NULL);
}

static bool enter_without_stream(void)
{
    if (is_inside() || !next_is_ready() || !streams_are_on())
        return false;
    recorder_self.is_inside = true;
    recorder_self.begun_in = NULL;
    struct stream *stream = join();
    if (stream != NULL)
        stream_look(stream);
    return true;
}

/* Without a stream, in a call already, or when it is time to look up. */
static __attribute__((noinline)) bool enter_anyhow(void)
{
    struct stream *stream = recorder_self.stream;
    if (stream == &stream_none)
        return enter_without_stream();
    if (stream->limit == NULL)
        return false;
    stream_enter(stream);
    stream_look(stream);
    return true;
}

/* True when the call is to be recorded; leave() must follow. Not what a recorded call or a signal
 * in it calls: operator new that calls malloc is one operation. */
static always_inline bool enter(void)
{
    struct stream *stream = recorder_self.stream;
    if (!stream_can_enter(stream))
        return enter_anyhow();
    stream_enter(stream);
    return true;
}

static always_inline void leave(void)
{
    struct stream *stream = recorder_self.stream;
    if (likely(stream != &stream_none))
        stream_exit(stream);
    else
        recorder_self.is_inside = false;
}

/* The stream to note in, of a thread that has none: in its first operation and its last ones; and
 * afterwards. */
static cold struct stream *open_first(void)
{
    struct stream *stream = join();
    return stream != NULL ? stream : stream_lock_shared();
}

static cold void close_first(struct stream *stream)
{
    if (stream->number == stream_first)
        stream_unlock_shared();
}

/* ---- Noting operations ----------------------------------------------------------------------- */

/* Who got a block, and as its how manieth. */
static inline uint32_t thread_of(uint64_t number)
{
    return (uint32_t)(number >> TRACE_INDEX_BITS) - 1;
}

static inline uint64_t index_of(uint64_t number)
{
    return number & (((uint64_t)1 << TRACE_INDEX_BITS) - 1);
}

/* 0, or a block from before a fork: of neither is there anything to say. */
static inline bool is_unknown(uint64_t number)
{
    return number == 0 || thread_of(number) < stream_first;
}

static inline uint64_t take_known(const void *block)
{
    uint64_t number = blocks_take(block);
    return is_unknown(number) ? 0 : number;
}

/* The difference to the size before. */
static inline uint64_t size_step(struct stream *stream, size_t size)
{
    uint64_t step = trace_zigzag((int64_t)(size - stream->size));
    stream->size = size;
    return step;
}

/* In the file, threads count from the shared one, 0. */
static inline uint32_t thread_in_file(uint32_t thread)
{
    return thread - stream_first;
}

static inline unsigned char *put_index_step(struct stream *stream, unsigned char *at,
                                            uint64_t number)
{
    int64_t step = (int64_t)(index_of(number) - stream->other_index);
    stream->other_index = index_of(number);
    return trace_put_number(at, trace_zigzag(step));
}

/* The number of the next block, which begins there. False where that cannot be told. */
static inline bool note_block(struct stream *stream, const void *block)
{
    if (unlikely(!blocks_note(block, stream->last_block + 1)))
        return false;
    stream->last_block++;
    blocks_come_near(&stream->near, block);
    return true;
}

/* This and note_free_simply are most of what recording costs: part of the calls that they serve,
 * few instructions, and false when there is more to it than that. Here the block gets its number,
 * and the caller notes the operation at *at. */
static always_inline bool name_simply(struct stream *stream, const void *block, unsigned char **at)
{
    size_t place = blocks_near_place(&stream->near, block);
    if (unlikely(place >= BLOCKS_PER_LEAF) || !stream_is_ready(stream))
        return false;
    uint64_t number = ++stream->last_block;
    atomic_store_explicit(blocks_at(stream->near.leaf, place), number, memory_order_relaxed);
    *at = atomic_load_explicit(&stream->at, memory_order_relaxed);
    return true;
}

static always_inline bool note_alloc_simply(struct stream *stream, enum trace_kind kind,
                                            size_t size, const void *block)
{
    uint64_t step = trace_zigzag((int64_t)(size - stream->size));
    unsigned char *at;
    if (unlikely(step >= TRACE_SHORT_NUMBERS) || !name_simply(stream, block, &at))
        return false;
    stream->size = size;
    stream_noted(stream, trace_put_short(at, kind, step));
    return true;
}

static __attribute__((noinline)) void note_alloc_anyhow(enum trace_kind kind, size_t size,
                                                        const void *block)
{
    struct stream *own = own_stream(), *stream = own != NULL ? own : open_first();
    unsigned char *at;
    if (stream_place(stream, &at) && note_block(stream, block))
        stream_noted(stream, trace_put(at, kind, size_step(stream, size)));
    if (own == NULL)
        close_first(stream);
}

static always_inline void note_alloc(enum trace_kind kind, size_t size, const void *block)
{
    if (!note_alloc_simply(recorder_self.stream, kind, size, block))
        note_alloc_anyhow(kind, size, block);
}

static inline void put_aligned(struct stream *stream, unsigned char *at, size_t alignment,
                               size_t size)
{
    unsigned char *end = trace_put_long(at, TRACE_ALIGNED, size_step(stream, size));
    *end++ = (unsigned char)(alignment > 1 ? 63 - __builtin_clzll(alignment) : 0);
    stream_noted(stream, end);
}

static __attribute__((noinline)) void note_aligned_anyhow(size_t alignment, size_t size,
                                                          const void *block)
{
    struct stream *own = own_stream(), *stream = own != NULL ? own : open_first();
    unsigned char *at;
    if (stream_place(stream, &at) && note_block(stream, block))
        put_aligned(stream, at, alignment, size);
    if (own == NULL)
        close_first(stream);
}

static always_inline void note_aligned(size_t alignment, size_t size, const void *block)
{
    struct stream *stream = recorder_self.stream;
    unsigned char *at;
    if (name_simply(stream, block, &at))
        put_aligned(stream, at, alignment, size);
    else
        note_aligned_anyhow(alignment, size, block);
}

static unsigned char *put_free(struct stream *stream, unsigned char *at, uint64_t number)
{
    if (is_unknown(number))
        return at;
    if (thread_of(number) == stream->number)
        return trace_put(at, TRACE_FREE, stream->last_block - number);
    at = trace_put(at, TRACE_FREE_OTHER, thread_in_file(thread_of(number)));
    return put_index_step(stream, at, number);
}

/* number: of the block that is given back. */
static __attribute__((noinline)) void note_free_of(uint64_t number)
{
    struct stream *own = own_stream(), *stream = own != NULL ? own : open_first();
    unsigned char *at;
    if (stream_place(stream, &at))
        stream_noted(stream, put_free(stream, at, number));
    if (own == NULL)
        close_first(stream);
}

static always_inline bool note_free_simply(struct stream *stream, const void *block)
{
    size_t place = blocks_near_place(&stream->near, block);
    if (unlikely(place >= BLOCKS_PER_LEAF) || !stream_is_ready(stream))
        return false;
    block_entry *entry = blocks_at(stream->near.leaf, place);
    uint64_t number = atomic_load_explicit(entry, memory_order_relaxed);
    uint64_t distance = stream->last_block - number;
    /* Another thread's; or noted already, by a delete whose next one calls free through here. */
    if (unlikely(distance >= TRACE_SHORT_NUMBERS))
        return number == 0 && !next_is_early(block);
    atomic_store_explicit(entry, 0, memory_order_relaxed);
    unsigned char *at = atomic_load_explicit(&stream->at, memory_order_relaxed);
    stream_noted(stream, trace_put_short(at, TRACE_FREE, distance));
    return true;
}

static unsigned char *put_realloc(struct stream *stream, unsigned char *at, uint64_t number,
                                  uint64_t distance, size_t size)
{
    at = trace_put(at, TRACE_REALLOC, size_step(stream, size));
    if (thread_of(number) == stream->number)
        return trace_put_number(at, distance << 1);
    at = trace_put_number(at, (uint64_t)thread_in_file(thread_of(number)) << 1 | 1);
    return put_index_step(stream, at, number);
}

/* number: the old block's, known unless a signal's handler has forked since. */
static void note_realloc(uint64_t number, size_t size, const void *block)
{
    struct stream *own = own_stream(), *stream = own != NULL ? own : open_first();
    unsigned char *at;
    if (stream_place(stream, &at)) {
        uint64_t distance = stream->last_block - number;
        if (note_block(stream, block))
            at = is_unknown(number) ? trace_put(at, TRACE_MALLOC, size_step(stream, size))
                                    : put_realloc(stream, at, number, distance, size);
        stream_noted(stream, at);
    }
    if (own == NULL)
        close_first(stream);
}

/* ---- malloc and its family ------------------------------------------------------------------- */

static __attribute__((noinline)) void *got_anyhow(enum trace_kind kind, size_t size, void *block)
{
    if (block != NULL)
        note_alloc_anyhow(kind, size, block);
    leave();
    return block;
}

/* What there is to do after a call that may have got a block. What is seldom done is called at the
 * very end, so that the rest has no register to save for it; in free and malloc likewise. */
static always_inline void *got(enum trace_kind kind, size_t size, void *block)
{
    struct stream *stream = recorder_self.stream; /* after a fork, not that before the call */
    if (unlikely(block == NULL) || !note_alloc_simply(stream, kind, size, block))
        return got_anyhow(kind, size, block);
    stream_exit(stream);
    return block;
}

static __attribute__((noinline)) void *malloc_anyhow(size_t size)
{
    if (!enter())
        return next_is_ready() ? next.malloc(size) : next_early(size);
    return got_anyhow(TRACE_MALLOC, size, next.malloc(size));
}

EXPORT void *malloc(size_t size)
{
    struct stream *stream = recorder_self.stream;
    if (!stream_can_enter(stream))
        return malloc_anyhow(size);
    stream_enter(stream);
    return got(TRACE_MALLOC, size, next.malloc(size));
}

/* False when it has to be tried anyhow. */
static always_inline bool note_given(const void *pointer)
{
    struct stream *stream = recorder_self.stream;
    if (!stream_can_enter(stream))
        return false;
    stream_enter(stream);
    bool is_noted = note_free_simply(stream, pointer);
    stream_exit(stream);
    return is_noted;
}

static __attribute__((noinline)) void note_given_anyhow(const void *pointer)
{
    uint64_t number = take_known(pointer);
    if (number == 0 || !enter())
        return;
    note_free_of(number);
    leave();
}

static __attribute__((noinline)) void free_anyhow(void *pointer)
{
    if (pointer == NULL || next_is_early(pointer) || !next_is_ready())
        return;
    note_given_anyhow(pointer);
    next.free(pointer);
}

EXPORT void free(void *pointer)
{
    if (note_given(pointer))
        next.free(pointer);
    else
        free_anyhow(pointer);
}

void free_sized(void *pointer, size_t size);
void free_aligned_sized(void *pointer, size_t alignment, size_t size);

EXPORT void free_sized(void *pointer, size_t size)
{
    if (!next_is_ready() || next.free_sized == NULL || next_is_early(pointer)) {
        free(pointer);
        return;
    }
    if (!note_given(pointer))
        note_given_anyhow(pointer);
    next.free_sized(pointer, size);
}

EXPORT void free_aligned_sized(void *pointer, size_t alignment, size_t size)
{
    if (!next_is_ready() || next.free_aligned_sized == NULL || next_is_early(pointer)) {
        free(pointer);
        return;
    }
    if (!note_given(pointer))
        note_given_anyhow(pointer);
    next.free_aligned_sized(pointer, alignment, size);
}

EXPORT void *calloc(size_t count, size_t size)
{
    if (unlikely(!next_is_ready()))
        return size != 0 && count > NEXT_EARLY / size ? NULL : next_early(count * size);
    if (unlikely(!enter()))
        return next.calloc(count, size);
    return got(TRACE_CALLOC, count * size, next.calloc(count, size));
}

static void *realloc_early(void *pointer, size_t size)
{
    size_t old_size;
    memcpy(&old_size, (char *)pointer - MIN_ALIGNMENT, sizeof old_size);
    void *block = malloc(size);
    return block != NULL ? memcpy(block, pointer, min_size(old_size, size)) : NULL;
}

/* What the next realloc or reallocarray made of it. number: the old block's, 0 where it has none.
 */
static void note_result(uint64_t number, void *pointer, size_t size, void *block)
{
    if (block != NULL && number != 0) {
        note_realloc(number, size, block);
    } else if (block != NULL) {
        note_alloc(TRACE_MALLOC, size, block);
    } else if (number != 0 && size == 0) {
        note_free_of(number); /* its address may be another thread's already */
    } else if (number != 0) {
        blocks_note(pointer, number); /* as it was */
    }
}

EXPORT void *realloc(void *pointer, size_t size)
{
    if (next_is_early(pointer))
        return realloc_early(pointer, size);
    if (unlikely(!next_is_ready()))
        return next_early(size);
    if (unlikely(!enter()))
        return next.realloc(pointer, size);
    uint64_t number = pointer != NULL ? take_known(pointer) : 0;
    void *block = next.realloc(pointer, size);
    note_result(number, pointer, size, block);
    leave();
    return block;
}

EXPORT void *reallocarray(void *pointer, size_t count, size_t size)
{
    if (next_is_early(pointer) || unlikely(!next_is_ready()) || next.reallocarray == NULL) {
        if (!__builtin_mul_overflow(count, size, &size))
            return realloc(pointer, size);
        errno = ENOMEM;
        return NULL;
    }
    if (unlikely(!enter()))
        return next.reallocarray(pointer, count, size);
    uint64_t number = pointer != NULL ? take_known(pointer) : 0;
    void *block = next.reallocarray(pointer, count, size);
    size_t bytes; /* one that wraps failed, and freed nothing */
    note_result(number, pointer, __builtin_mul_overflow(count, size, &bytes) ? 1 : bytes, block);
    leave();
    return block;
}

/* ---- Aligned blocks -------------------------------------------------------------------------- */

static always_inline void *got_aligned(size_t alignment, size_t size, void *block)
{
    if (block != NULL)
        note_aligned(alignment, size, block);
    leave();
    return block;
}

EXPORT int posix_memalign(void **pointer, size_t alignment, size_t size)
{
    if (unlikely(!next_is_ready()))
        return ENOMEM;
    if (unlikely(!enter()))
        return next.posix_memalign(pointer, alignment, size);
    int error = next.posix_memalign(pointer, alignment, size);
    got_aligned(alignment, size, error == 0 ? *pointer : NULL);
    return error;
}

static void *aligned(void *(*call)(size_t, size_t), size_t alignment, size_t size)
{
    if (unlikely(!enter()))
        return call(alignment, size);
    return got_aligned(alignment, size, call(alignment, size));
}

static void *page_aligned(void *(*call)(size_t), size_t size)
{
    if (unlikely(!enter()))
        return call(size);
    return got_aligned((size_t)sysconf(_SC_PAGESIZE), size, call(size));
}

static void *nothing(void)
{
    errno = ENOMEM;
    return NULL;
}

EXPORT void *memalign(size_t alignment, size_t size)
{
    return next_is_ready() ? aligned(next.memalign, alignment, size) : nothing();
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    return next_is_ready() ? aligned(next.aligned_alloc, alignment, size) : nothing();
}

EXPORT void *valloc(size_t size)
{
    return next_is_ready() ? page_aligned(next.valloc, size) : nothing();
}

EXPORT void *pvalloc(size_t size)
{
    return next_is_ready() ? page_aligned(next.pvalloc, size) : nothing();
}

/* ---- operator new and delete ------------------------------------------------------------------
 */

/* The next definition of a form. C++ may have come with a plugin that is loaded for itself alone;
 * where there is none at all, nobody calls these. */
static __attribute__((noinline)) void *find_operator(void *_Atomic *place, const char *name)
{
    bool entered = enter(); /* what this asks for is not the program's doing */
    void *found = dlsym(RTLD_NEXT, name);
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++.so.1"};
    for (size_t i = 0; i < sizeof runtimes / sizeof *runtimes && found == NULL; i++) {
        void *runtime = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
        if (runtime != NULL)
            found = dlsym(runtime, name);
    }
    if (found == NULL) {
        text_warn("record: %s: no C++ runtime to pass it on to", name);
        abort();
    }
    if (entered)
        leave();
    /* Release: pairs with the acquire in known_operator; for what dlsym may have loaded. */
    atomic_store_explicit(place, found, memory_order_release);
    return found;
}

/* NULL: not looked for yet. */
static always_inline void *known_operator(void *_Atomic *place)
{
    return atomic_load_explicit(place, memory_order_acquire);
}

static always_inline void *next_operator(void *_Atomic *place, const char *name)
{
    void *found = known_operator(place);
    return likely(found != NULL) ? found : find_operator(place, name);
}

#define NEXT(name) ((__typeof__(&name))next_operator(&name##_next, #name))

static inline void leave_if(const bool *throws)
{
    if (*throws)
        leave();
}

#define NEW(name, size, alignment, parameters, arguments)                                          \
    void *name parameters;                                                                         \
    static void *_Atomic name##_next;                                                              \
    EXPORT void *name parameters                                                                   \
    {                                                                                              \
        if (!enter())                                                                              \
            return NEXT(name) arguments;                                                           \
        bool throws __attribute__((cleanup(leave_if))) = true;                                     \
        void *block = NEXT(name) arguments;                                                        \
        throws = false;                                                                            \
        return (alignment) == 0 ? got(TRACE_MALLOC, size, block)                                   \
                                : got_aligned(alignment, size, block);                             \
    }

#define DELETE(name, parameters, arguments)                                                        \
    void name parameters;                                                                          \
    static void *_Atomic name##_next;                                                              \
    static __attribute__((noinline)) void name##_anyhow parameters                                 \
    {                                                                                              \
        note_given_anyhow(pointer);                                                                \
        NEXT(name) arguments;                                                                      \
    }                                                                                              \
    EXPORT void name parameters                                                                    \
    {                                                                                              \
        void *found = known_operator(&name##_next);                                                \
        if (likely(found != NULL) && note_given(pointer))                                          \
            ((__typeof__(&name))found) arguments;                                                  \
        else                                                                                       \
            name##_anyhow arguments;                                                               \
    }

NEW(_Znwm, size, 0, (size_t size), (size))
NEW(_Znam, size, 0, (size_t size), (size))
NEW(_ZnwmRKSt9nothrow_t, size, 0, (size_t size, nothrow tag), (size, tag))
NEW(_ZnamRKSt9nothrow_t, size, 0, (size_t size, nothrow tag), (size, tag))
NEW(_ZnwmSt11align_val_t, size, alignment, (size_t size, size_t alignment), (size, alignment))
NEW(_ZnamSt11align_val_t, size, alignment, (size_t size, size_t alignment), (size, alignment))
NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, size, alignment,
    (size_t size, size_t alignment, nothrow tag), (size, alignment, tag))
NEW(_ZnamSt11align_val_tRKSt9nothrow_t, size, alignment,
    (size_t size, size_t alignment, nothrow tag), (size, alignment, tag))

DELETE(_ZdlPv, (void *pointer), (pointer))
DELETE(_ZdaPv, (void *pointer), (pointer))
DELETE(_ZdlPvm, (void *pointer, size_t size), (pointer, size))
DELETE(_ZdaPvm, (void *pointer, size_t size), (pointer, size))
DELETE(_ZdlPvRKSt9nothrow_t, (void *pointer, nothrow tag), (pointer, tag))
DELETE(_ZdaPvRKSt9nothrow_t, (void *pointer, nothrow tag), (pointer, tag))
DELETE(_ZdlPvSt11align_val_t, (void *pointer, size_t alignment), (pointer, alignment))
DELETE(_ZdaPvSt11align_val_t, (void *pointer, size_t alignment), (pointer, alignment))
DELETE(_ZdlPvmSt11align_val_t, (void *pointer, size_t size, size_t alignment),
       (pointer, size, alignment))
DELETE(_ZdaPvmSt11align_val_t, (void *pointer, size_t size, size_t alignment),
       (pointer, size, alignment))
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *pointer, size_t alignment, nothrow tag),
       (pointer, alignment, tag))
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *pointer, size_t alignment, nothrow tag),
       (pointer, alignment, tag))

/* ---- The end --------------------------------------------------------------------------------- */

static __attribute__((destructor)) void end_process(void)
{
    streams_end();
}

/* The ends that run no destructors. quick_exit leaves by the C library's own _exit; what is asked
 * for first is done last. */
static __attribute__((constructor)) void begin_process(void)
{
    at_quick_exit(end_process);
}

EXPORT _Noreturn void _exit(int status)
{
    streams_end();
    for (;;)
        syscall(SYS_exit_group, status);
}

EXPORT _Noreturn void _Exit(int status)
{
    _exit(status);
}
