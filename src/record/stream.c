#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"
#include "older.h"
#include "text.h"

/* Out of the way of programs that count on their descriptors' numbers, where that can be had. */
static const int descriptor_floors[] = {900, 200, 0};

#define SAVE_EVERY_US 1000000
#define TIME_STEP_US 1000 /* finer ones are not written */

static char base_path[4000]; /* of the first process's file */
static char path[4032];      /* of this one's */
static int descriptor = -1;  /* under file_mutex, as all of the file */
static dev_t file_device;
static ino_t file_node;
static pthread_mutex_t file_mutex = PTHREAD_MUTEX_INITIALIZER;

static pthread_mutex_t list_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct stream *streams; /* all but the shared one; those that are here stay */
static struct stream *free_streams;
static struct stream shared;
static uint32_t last_number = 1;
static pid_t home;
static bool *is_at_home; /* false in a child of which nobody told us; NULL where that is unknown */
static uint64_t begun_us;

struct stream stream_none;
__thread struct recorder recorder_self = {.stream = &stream_none};
_Atomic int stream_state = STREAMS_NOT_READY;
uint32_t stream_first = 1;
_Atomic uint64_t stream_tick = 1;

static uint64_t now_us(clockid_t clock)
{
    struct timespec now = {0, 0};
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* What is in the streams is this process's: also in a child of vfork, which is another process, but
 * whose operations are the parent's, in its memory. */
static bool is_ours_to_write(void)
{
    return is_at_home != NULL ? *is_at_home : getpid() == home;
}

/* ---- Locks ----------------------------------------------------------------------------------- */

/* A fork takes none of them: handlers of pthread_atfork that the program has may wait for another
 * thread, which waits for one of these. So in the child, until all are new, anybody may hold them
 * who is not there; and nobody else runs. */

static void lock(pthread_mutex_t *mutex)
{
    if (is_ours_to_write())
        pthread_mutex_lock(mutex);
}

static void unlock(pthread_mutex_t *mutex)
{
    if (is_ours_to_write())
        pthread_mutex_unlock(mutex);
}

/* ---- Quiet ----------------------------------------------------------------------------------- */

/* The C library's sigset_t is wider than the kernel's, and its functions leave the signals out that
 * it cancels threads with. */
typedef uint64_t signals;

static bool has_signal(signals set, int number)
{
    return (set >> (number - 1) & 1) != 0;
}

/* While a lock of this file is held, no handler runs in this thread, which may fork or end the
 * process and would wait for that lock; and opening and writing do not cancel the thread. */
struct quiet {
    signals mask;
    int cancel_state;
};

static struct quiet be_quiet(void)
{
    const signals all = ~(signals)0;
    struct quiet before = {0, 0};
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before.mask, sizeof all);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before.cancel_state);
    return before;
}

static void be_as_before(struct quiet before)
{
    pthread_setcancelstate(before.cancel_state, NULL);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before.mask, NULL, sizeof before.mask);
}

static signals pending_signals(void)
{
    signals pending = 0;
    syscall(SYS_rt_sigpending, &pending, sizeof pending);
    return pending;
}

/* What a write of the recorder's raised is not for the program. */
static void swallow(int number, signals pending_before)
{
    const signals only = (signals)1 << (number - 1);
    const struct timespec at_once = {0, 0};
    if (!has_signal(pending_before, number))
        syscall(SYS_rt_sigtimedwait, &only, NULL, &at_once, sizeof only);
}

/* ---- The file -------------------------------------------------------------------------------- */

/* Writing takes some microseconds, and to be woken up after a sleep may take longer. */
#define LOOKS_BEFORE_SLEEP 2000

static void lock_file(void)
{
    for (unsigned i = 0; i < LOOKS_BEFORE_SLEEP && is_ours_to_write(); i++) {
        if (pthread_mutex_trylock(&file_mutex) == 0)
            return;
        lock_pause();
    }
    lock(&file_mutex);
}

static bool is_ours(int candidate)
{
    struct stat status;
    return candidate >= 0 && fstat(candidate, &status) == 0 && status.st_dev == file_device &&
           status.st_ino == file_node;
}

static int open_high(int flags)
{
    int low = open(path, flags | O_WRONLY | O_APPEND | O_CLOEXEC, 0666);
    if (low < 0)
        return -1;
    for (size_t i = 0; i < sizeof descriptor_floors / sizeof *descriptor_floors; i++) {
        int high = fcntl(low, F_DUPFD_CLOEXEC, descriptor_floors[i]);
        if (high >= 0) {
            close(low);
            return high;
        }
    }
    return low;
}

static bool write_all(const void *bytes, size_t length)
{
    const char *next = bytes;
    while (length > 0) {
        ssize_t written = write(descriptor, next, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        next += written;
        length -= (size_t)written;
    }
    return true;
}

static bool write_header(void)
{
    struct {
        struct trace_header header;
        char command[TRACE_COMMAND_MOST];
    } start = {.header = {.magic = TRACE_MAGIC, .version = TRACE_VERSION}};
    int words = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = words < 0 ? 0 : read(words, start.command, sizeof start.command - 1);
    if (words >= 0)
        close(words);
    if (length < 0)
        length = 0;
    start.header.size = (uint32_t)(sizeof start.header + (size_t)length);
    start.header.started_us = now_us(CLOCK_REALTIME) - (now_us(CLOCK_MONOTONIC) - begun_us);
    start.header.process = (uint32_t)home;
    start.header.os_page = (uint32_t)sysconf(_SC_PAGESIZE);
    return write_all(&start, start.header.size);
}

static bool begin_file(void)
{
    struct stat status;
    descriptor = open_high(O_CREAT | O_TRUNC);
    if (descriptor < 0 || fstat(descriptor, &status) != 0)
        return false;
    file_device = status.st_dev;
    file_node = status.st_ino;
    return write_header();
}

/* A page of its own, which the kernel clears when it copies this memory for a child. */
static void make_home_page(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return;
    if (madvise(page, size, MADV_WIPEONFORK) == 0)
        is_at_home = page;
    else
        munmap(page, size);
}

static void come_home(void)
{
    home = getpid();
    if (is_at_home != NULL)
        *is_at_home = true;
}

static bool write_to_file(const void *chunks, size_t length)
{
    int before = descriptor;
    if (!is_ours(descriptor))
        descriptor = open_high(0);
    bool done = is_ours(descriptor) && write_all(chunks, length);
    if (descriptor != before && getpid() != home) { /* the parent does not have it */
        close(descriptor);
        descriptor = before;
    }
    return done;
}

/* Nobody begins an operation any more. */
static void end_noting(void)
{
    atomic_fetch_or(&stream_tick, STREAM_ENDED);
}

/* The signals that a failed write raised are not for the program. */
static void give_up(const char *what_is_lost, signals pending_before)
{
    text_warn("record: %s: cannot be written%s", path, what_is_lost);
    end_noting();
    swallow(SIGXFSZ, pending_before);
    swallow(SIGPIPE, pending_before);
}

/* Chunks. Quiet, under file_mutex. When they cannot be written, nothing more is: the file ends
 * here.
 */
static void write_chunks(const void *chunks, size_t length)
{
    int state = atomic_load_explicit(&stream_state, memory_order_relaxed);
    if ((state != STREAMS_ON && state != STREAMS_ENDING) || !is_ours_to_write())
        return;
    signals pending = pending_signals();
    if (!write_to_file(chunks, length)) {
        atomic_store_explicit(&stream_state, STREAMS_OFF, memory_order_relaxed);
        give_up(" any more; the trace ends here", pending);
    }
}

/* At once: a server may soon give up its rights or its root. What an earlier program of the same
 * process wrote, or an earlier process of that number, is gone then. Quiet. Returns the state. */
static int begin(void)
{
    int saved_errno = errno;
    signals pending = pending_signals();
    bool is_begun = begin_file();
    if (!is_begun)
        give_up("; this process leaves no trace", pending);
    errno = saved_errno;
    return is_begun ? STREAMS_ON : STREAMS_OFF;
}

/* ---- The chunks of a stream ------------------------------------------------------------------ */

/* All of it quiet, under the stream's mutex. */

static unsigned char *operations_of(unsigned char *chunk)
{
    return chunk + sizeof(struct trace_chunk);
}

/* Acquire: pairs with stream_noted; the caller may be another thread. */
static unsigned char *noted_end(const struct stream *stream)
{
    return atomic_load_explicit(&stream->at, memory_order_acquire);
}

static void begin_chunk(struct stream *stream, unsigned char *chunk)
{
    stream->chunk = chunk;
    stream_noted(stream, operations_of(chunk));
}

/* What the last chunk holds so far is whole. Changes nothing else: its thread may go on. */
static void end_chunk(const struct stream *stream, const unsigned char *end)
{
    const unsigned char *operations = operations_of(stream->chunk);
    struct trace_chunk header = {TRACE_CHUNK_MAGIC, stream->number - stream_first,
                                 (uint32_t)(end - operations), 0};
    header.sum = trace_sum(header.thread, operations, header.length);
    memcpy(stream->chunk, &header, sizeof header);
}

/* All that was noted goes to the file. */
static void save(struct stream *stream)
{
    unsigned char *end = noted_end(stream);
    if (end > operations_of(stream->chunk))
        end_chunk(stream, end);
    else
        end = stream->chunk;
    if (end == stream->bytes)
        return;
    lock_file();
    write_chunks(stream->bytes, (size_t)(end - stream->bytes));
    unlock(&file_mutex);
}

static void save_and_empty(struct stream *stream)
{
    save(stream);
    begin_chunk(stream, stream->bytes);
}

#define CHUNK_ROOM                                                                                 \
    (STREAM_CHUNK - sizeof(struct trace_chunk) - BYTES_PER_LOOK - TRACE_OPERATION_MOST)

static bool is_full(const struct stream *stream, const unsigned char *at)
{
    return at > operations_of(stream->chunk) + CHUNK_ROOM;
}

/* Another chunk after a full one, in the same buffer or, when that is full, at its beginning. */
static void go_on(struct stream *stream)
{
    unsigned char *end = noted_end(stream);
    if (stream->bytes + STREAM_BYTES - end < (ptrdiff_t)STREAM_CHUNK) {
        save_and_empty(stream);
        return;
    }
    end_chunk(stream, end);
    begin_chunk(stream, end);
}

/* ---- One stream ------------------------------------------------------------------------------ */

/* By its owner. Not while the process ends: what is in the stream is saved there, once. */
static void quietly(struct stream *stream, void (*what)(struct stream *))
{
    bool is_shared = stream == &shared; /* its mutex is held already */
    int saved_errno = errno;
    struct quiet before = be_quiet();
    if (!is_shared)
        lock(&stream->mutex);
    /* Relaxed: who ends the process says so before it takes the mutex. */
    if (atomic_load_explicit(&stream_state, memory_order_relaxed) == STREAMS_ON)
        what(stream);
    if (!is_shared)
        unlock(&stream->mutex);
    be_as_before(before);
    errno = saved_errno;
}

/* Its thread is in its first operation. */
static void reset(struct stream *stream, uint32_t number)
{
    stream->last_block = stream_number(number, 0) - 1;
    stream->size = stream->other_index = 0;
    stream->tick = 0;
    stream->number = number;
    stream->until_tick = BYTES_PER_TICK / BYTES_PER_LOOK;
    stream->time_us = 0;
    stream->saved_us = now_us(CLOCK_MONOTONIC_COARSE) - begun_us;
    stream->is_free = false;
    stream->limit = NULL;
    stream->look_at = stream->bytes;
    stream->near.start = BLOCKS_NOWHERE;
    begin_chunk(stream, stream->bytes);
}

cold unsigned char *stream_put_tick(struct stream *stream, unsigned char *at, uint64_t tick)
{
    if ((tick & STREAM_ENDED) != 0)
        return NULL;
    at = trace_put(at, TRACE_TICK, tick - stream->tick);
    stream->tick = tick;
    stream_noted(stream, at);
    return at;
}

static void advance_tick(void)
{
    atomic_fetch_add_explicit(&stream_tick, 1, memory_order_relaxed);
}

unsigned char *stream_look(struct stream *stream)
{
    uint64_t time_us = now_us(CLOCK_MONOTONIC_COARSE) - begun_us;
    unsigned char *at = atomic_load_explicit(&stream->at, memory_order_relaxed);
    bool is_time = time_us - stream->saved_us > SAVE_EVERY_US;
    if (is_time || is_full(stream, at)) {
        quietly(stream, is_time ? save_and_empty : go_on);
        at = atomic_load_explicit(&stream->at, memory_order_relaxed);
    }
    if (is_time)
        stream->saved_us = time_us;
    if (time_us - stream->time_us >= TIME_STEP_US) {
        at = trace_put(at, TRACE_TIME, time_us - stream->time_us);
        stream->time_us = time_us;
        stream_noted(stream, at);
    }
    if (--stream->until_tick == 0) {
        stream->until_tick = BYTES_PER_TICK / BYTES_PER_LOOK;
        advance_tick();
    }
    stream->look_at = at + BYTES_PER_LOOK;
    return at;
}

/* ---- All streams ----------------------------------------------------------------------------- */

static void add_free(struct stream *stream)
{
    stream->is_free = true;
    stream->next_free = free_streams;
    free_streams = stream;
}

static struct stream *take_free(void)
{
    struct stream *stream = free_streams;
    if (stream != NULL)
        free_streams = stream->next_free;
    return stream;
}

static struct stream *make_stream(void)
{
    struct stream *stream =
        mmap(NULL, sizeof *stream, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stream == MAP_FAILED)
        return NULL;
    pthread_mutex_init(&stream->mutex, NULL);
    stream->next = streams;
    streams = stream;
    return stream;
}

struct stream *stream_join(void)
{
    struct stream *stream = NULL;
    struct quiet before = be_quiet();
    lock(&list_mutex);
    if (last_number < stream_first + TRACE_THREADS_MOST - 1) {
        stream = take_free();
        if (stream == NULL)
            stream = make_stream();
    }
    if (stream != NULL) {
        advance_tick();
        reset(stream, ++last_number);
    }
    unlock(&list_mutex);
    be_as_before(before);
    return stream;
}

void stream_leave(struct stream *stream)
{
    quietly(stream, save_and_empty);
    advance_tick();
    struct quiet before = be_quiet();
    lock(&list_mutex);
    add_free(stream);
    unlock(&list_mutex);
    be_as_before(before);
}

static struct quiet before_shared; /* under its mutex */

struct stream *stream_lock_shared(void)
{
    struct quiet before = be_quiet();
    lock(&shared.mutex);
    before_shared = before;
    return &shared;
}

void stream_unlock_shared(void)
{
    struct quiet before = before_shared;
    unlock(&shared.mutex);
    be_as_before(before);
}

/* Other threads may be running. Once the tick is seen by all, they note no more; what is noted in
 * the streams then holds every block that one of them gives back, whatever is saved first. */
void streams_end(void)
{
    streams_are_on(); /* one that has done nothing yet writes an empty trace */
    int state = atomic_load(&stream_state);
    if (state == STREAMS_OFF || state == STREAMS_NOT_READY || getpid() != home)
        return;
    /* Fails when another thread ends the process: wait until it is done. Sequentially consistent:
     * no stream is looked at before. */
    struct quiet before = be_quiet();
    int expected = STREAMS_ON;
    atomic_compare_exchange_strong(&stream_state, &expected, STREAMS_ENDING);
    end_noting();
    atomic_thread_fence(memory_order_seq_cst);
    lock(&shared.mutex);
    lock(&list_mutex);
    save(&shared);
    for (struct stream *stream = streams; stream != NULL; stream = stream->next) {
        pthread_mutex_lock(&stream->mutex);
        if (!stream->is_free)
            save(stream);
        pthread_mutex_unlock(&stream->mutex);
    }
    lock(&file_mutex);
    const struct trace_chunk end_mark = {TRACE_CHUNK_MAGIC, TRACE_THREAD_END, 0,
                                         trace_sum(TRACE_THREAD_END, NULL, 0)};
    write_chunks(&end_mark, sizeof end_mark);
    atomic_store_explicit(&stream_state, STREAMS_OFF, memory_order_relaxed);
    unlock(&file_mutex);
    unlock(&list_mutex);
    unlock(&shared.mutex);
    be_as_before(before);
}

/* ---- Start and fork -------------------------------------------------------------------------- */

static void name_file(bool is_first)
{
    if (is_first)
        text_format(path, sizeof path, "%s", base_path);
    else
        text_format(path, sizeof path, "%s.%d", base_path, (int)home);
}

/* What the parent has not saved yet is the parent's. Its blocks are not followed here: every
 * stream begins again, under a number that is not the parent's. */
static void in_child(void)
{
    struct quiet before = be_quiet();
    pthread_mutex_init(&file_mutex, NULL);
    pthread_mutex_init(&list_mutex, NULL);
    pthread_mutex_init(&shared.mutex, NULL);
    come_home();
    begun_us = now_us(CLOCK_MONOTONIC_COARSE);
    if (descriptor >= 0 && is_ours(descriptor))
        close(descriptor);
    descriptor = -1;
    name_file(false);
    stream_first = ++last_number;
    free_streams = NULL;
    for (struct stream *stream = streams; stream != NULL; stream = stream->next) {
        pthread_mutex_init(&stream->mutex, NULL);
        add_free(stream);
    }
    reset(&shared, stream_first);
    if (recorder_self.stream != &stream_none && recorder_self.stream->limit == NULL) {
        recorder_self.is_inside = true; /* a handler forked */
        recorder_self.begun_in = recorder_self.stream;
    }
    recorder_self.stream = &stream_none;
    bool is_on = atomic_load_explicit(&stream_state, memory_order_relaxed) == STREAMS_ON;
    atomic_store_explicit(&stream_state, is_on ? begin() : STREAMS_OFF, memory_order_relaxed);
    be_as_before(before);
}

int streams_start(void)
{
    if (environ == NULL)
        return STREAMS_NOT_READY;
    struct quiet before = be_quiet();
    recorder_self.is_inside = true; /* pthread_atfork may allocate */
    pthread_mutex_lock(&list_mutex);
    const char *file = getenv("EBB_RECORD_FILE"), *first = getenv("EBB_RECORD_PROCESS");
    bool is_wanted = file != NULL && *file == '/' && strlen(file) < sizeof base_path;
    bool is_first = atomic_load_explicit(&stream_state, memory_order_relaxed) == STREAMS_NOT_READY;
    if (is_first && is_wanted) {
        make_home_page();
        come_home();
        begun_us = now_us(CLOCK_MONOTONIC_COARSE);
        strcpy(base_path, file);
        name_file(first != NULL && strtol(first, NULL, 10) == home);
        pthread_mutex_init(&shared.mutex, NULL);
        reset(&shared, stream_first);
        pthread_atfork(NULL, NULL, in_child);
    }
    /* Release: all of the above is there for who sees it. */
    if (is_first)
        atomic_store_explicit(&stream_state, is_wanted ? begin() : STREAMS_OFF,
                              memory_order_release);
    pthread_mutex_unlock(&list_mutex);
    recorder_self.is_inside = false;
    be_as_before(before);
    return atomic_load_explicit(&stream_state, memory_order_acquire);
}
