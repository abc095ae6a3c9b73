#include "trace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace_reader.h"

/* A thread's number costs memory: without any chunk of theirs there are no more threads than could
 * be cut off at once, or some for each chunk. */
#define THREADS_FOR(chunks) (65536 + 64 * (uint64_t)(chunks))

bool damaged(struct trace_file *file, const unsigned char *at, const char *format, ...)
{
    int length = snprintf(file->error, sizeof file->error,
                          "damaged at byte %zu: ", (size_t)(at - file->bytes));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(file->error + length, sizeof file->error - (size_t)length, format, arguments);
    va_end(arguments);
    return false;
}

static bool read_all(struct trace_file *file, int descriptor)
{
    for (;;) {
        if (file->size == file->capacity) {
            size_t capacity = file->capacity == 0 ? MiB : 2 * file->capacity;
            file->bytes = table_grow(file->bytes, file->capacity, capacity);
            file->capacity = capacity;
        }
        ssize_t length = read(descriptor, file->bytes + file->size, file->capacity - file->size);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0) {
            snprintf(file->error, sizeof file->error, "%s", strerror(errno));
            return false;
        }
        if (length == 0)
            return true;
        file->size += (size_t)length;
    }
}

static bool read_header(struct trace_file *file)
{
    struct trace_header *header = &file->header;
    if (file->size < sizeof *header || memcmp(file->bytes, TRACE_MAGIC, 8) != 0) {
        snprintf(file->error, sizeof file->error, "not a trace of ebb record%s",
                 file->size == 0 ? ": the file is empty" : "");
        return false;
    }
    memcpy(header, file->bytes, sizeof *header);
    if (header->version != TRACE_VERSION) {
        snprintf(file->error, sizeof file->error,
                 "a trace of version %u, and this ebb reads version %u: %s", header->version,
                 TRACE_VERSION,
                 header->version < TRACE_VERSION ? "record the program again"
                                                 : "it takes a newer ebb");
        return false;
    }
    if (header->size < sizeof *header || header->size > sizeof *header + TRACE_COMMAND_MOST)
        return damaged(file, file->bytes + offsetof(struct trace_header, size),
                       "a header of %u bytes", header->size);
    if (header->size > file->size)
        return damaged(file, file->bytes + file->size, "the header is cut");
    file->command = (const char *)file->bytes + sizeof *header;
    file->command_size = header->size - sizeof *header;
    return true;
}

/* Calls visit for every whole chunk. False when the file is damaged, or visit says so. */
static bool walk_chunks(struct trace_file *file,
                        bool (*visit)(struct trace_file *, const struct trace_chunk *, size_t))
{
    size_t at = file->header.size;
    file->whole_bytes = at;
    while (file->size - at >= sizeof(struct trace_chunk)) {
        struct trace_chunk chunk;
        memcpy(&chunk, file->bytes + at, sizeof chunk);
        if (file->is_whole)
            return damaged(file, file->bytes + at, "something behind the end mark");
        if (chunk.magic != TRACE_CHUNK_MAGIC)
            return damaged(file, file->bytes + at, "no chunk begins here");
        if (chunk.length > TRACE_CHUNK_MOST)
            return damaged(file, file->bytes + at, "a chunk of %u bytes", chunk.length);
        if (chunk.thread >= TRACE_THREADS_MOST && chunk.thread != TRACE_THREAD_END)
            return damaged(file, file->bytes + at, "a thread of number %u", chunk.thread);
        at += sizeof chunk;
        if (file->size - at < chunk.length)
            return true;
        if (trace_sum(chunk.thread, file->bytes + at, chunk.length) != chunk.sum)
            return damaged(file, file->bytes + at, "a chunk whose check sum is wrong");
        if (chunk.thread == TRACE_THREAD_END)
            file->is_whole = true;
        else if (!visit(file, &chunk, at))
            return false;
        at += chunk.length;
        file->whole_bytes = at;
    }
    if (file->is_whole && at != file->size)
        return damaged(file, file->bytes + at, "something behind the end mark");
    return true;
}

static bool count_chunk(struct trace_file *file, const struct trace_chunk *chunk, size_t at)
{
    (void)at;
    file->chunks++;
    if (chunk->thread >= file->threads)
        file->threads = chunk->thread + 1;
    return true;
}

/* file->chunks counts again. */
static bool place_chunk(struct trace_file *file, const struct trace_chunk *chunk, size_t at)
{
    struct trace_thread *thread = &file->thread[chunk->thread];
    uint32_t number = ++file->chunks;
    file->chunk[number] = (struct trace_chunk_place){at, chunk->length, NONE};
    if (thread->first == NONE)
        thread->first = number;
    else
        file->chunk[thread->last].next = number;
    thread->last = number;
    return true;
}

static bool find_chunks(struct trace_file *file)
{
    if (!walk_chunks(file, count_chunk))
        return false;
    if (file->threads > THREADS_FOR(file->chunks))
        return damaged(file, file->bytes + file->header.size, "%u threads in %u chunks",
                       file->threads, file->chunks);
    file->thread = table_map((file->threads + 1) * sizeof *file->thread);
    file->chunk = table_map((file->chunks + 1) * sizeof *file->chunk);
    file->order = table_map((file->threads + 1) * sizeof *file->order);
    file->chunks = 0;
    file->is_whole = false;
    return walk_chunks(file, place_chunk);
}

static bool open_read(struct trace_file *file)
{
    if (!read_header(file) || !find_chunks(file))
        return false;
    trace_rewind(file);
    return true;
}

bool trace_open(struct trace_file *file, const char *path)
{
    memset(file, 0, sizeof *file);
    bool is_stdin = strcmp(path, "-") == 0;
    int descriptor = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        snprintf(file->error, sizeof file->error, "%s", strerror(errno));
        return false;
    }
    bool done = read_all(file, descriptor);
    if (!is_stdin)
        close(descriptor);
    return done && open_read(file);
}

bool trace_open_bytes(struct trace_file *file, const void *bytes, size_t size)
{
    memset(file, 0, sizeof *file);
    file->capacity = file->size = size;
    file->bytes = table_map(size + 1);
    memcpy(file->bytes, bytes, size);
    return open_read(file);
}

void trace_close(struct trace_file *file)
{
    table_unmap(file->bytes, file->capacity);
    table_unmap(file->thread, (file->threads + 1) * sizeof *file->thread);
    table_unmap(file->chunk, (file->chunks + 1) * sizeof *file->chunk);
    table_unmap(file->order, (file->threads + 1) * sizeof *file->order);
    table_unmap(file->live, file->live_capacity * sizeof *file->live);
    table_unmap(file->block, file->block_capacity * sizeof *file->block);
    table_unmap(file->free_numbers, file->block_capacity * sizeof *file->free_numbers);
    file->bytes = NULL;
    file->thread = NULL;
    file->chunk = NULL;
    file->order = NULL;
    file->live = NULL;
    file->block = NULL;
    file->free_numbers = NULL;
}

const char *trace_command(const struct trace_file *file, char *buffer, size_t capacity)
{
    size_t used = 0;
    for (size_t i = 0; i < file->command_size && used + 1 < capacity; i++) {
        char byte = file->command[i];
        if (byte == '\0' && i + 1 == file->command_size)
            break;
        buffer[used++] = byte == '\0' ? ' ' : byte < ' ' || byte > '~' ? '?' : byte;
    }
    buffer[used] = '\0';
    return buffer;
}
