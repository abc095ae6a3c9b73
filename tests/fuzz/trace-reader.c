/* The reader of traces from bytes, for libFuzzer and for tests/fuzz/mutate.c, which brings a loop
 * of its own: whatever the bytes are, all operations are told, or damage is, and nothing else
 * happens.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "ebb/trace_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

void complain(const char *format, ...)
{
    (void)format;
}

#define require(condition) ((condition) ? (void)0 : (fprintf(stderr, "%s\n", #condition), abort()))

/* Makes the check sums right, so that what lies behind them is reached. */
static void mend(unsigned char *bytes, size_t size)
{
    struct trace_header header;
    if (size < sizeof header)
        return;
    memcpy(&header, bytes, sizeof header);
    memcpy(header.magic, TRACE_MAGIC, 8);
    header.version = TRACE_VERSION;
    memcpy(bytes, &header, sizeof header);
    for (size_t at = header.size; at < size && size - at >= sizeof(struct trace_chunk);) {
        struct trace_chunk chunk;
        memcpy(&chunk, bytes + at, sizeof chunk);
        if (chunk.magic != TRACE_CHUNK_MAGIC || size - at - sizeof chunk < chunk.length)
            return;
        chunk.sum = trace_sum(chunk.thread, bytes + at + sizeof chunk, chunk.length);
        memcpy(bytes + at, &chunk, sizeof chunk);
        at += sizeof chunk + chunk.length;
    }
}

static void read_all(const unsigned char *bytes, size_t size)
{
    static struct trace_file file;
    struct trace_event event;
    char command[100];
    uint64_t operations = 0, live = 0, time_us = 0;
    if (trace_open_bytes(&file, bytes, size)) {
        while (trace_next(&file, &event)) {
            operations++;
            live += event.kind != TRACE_FREE;
            require(live >= (event.kind == TRACE_FREE || event.kind == TRACE_REALLOC));
            live -= event.kind == TRACE_FREE || event.kind == TRACE_REALLOC;
            require(event.thread < file.threads);
            require(event.block < file.blocks);
            require(event.time_us >= time_us);
            time_us = event.time_us;
        }
        require(operations == file.operations && operations <= size);
        trace_command(&file, command, sizeof command);
    } else {
        require(file.error[0] != '\0');
    }
    trace_close(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    unsigned char *copy = malloc(size + 1);
    if (copy == NULL)
        return 0;
    memcpy(copy, input, size);
    read_all(copy, size);
    mend(copy, size);
    read_all(copy, size);
    free(copy);
    return 0;
}
