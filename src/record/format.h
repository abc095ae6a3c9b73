/* format.h: the trace file, as the recorder writes it and `ebb` reads it. ebb-trace(5) tells the
 * same to others.
 *
 *   file    header, then chunks in any order across threads, in order within one, then an end mark
 *   chunk   some operations of one thread, with a check sum
 *   block   named by the thread that got it and by how many that thread had got before: neither
 *           the recorder nor the file needs an address, and getting a block names it
 *   tick    a clock of the whole process that advances every thousand operations or so, and when a
 *           thread starts or ends: what two threads did in different ticks has an order
 *
 * All numbers are little-endian. An operation is a byte with its kind in the upper three bits and a
 * field in the lower five, which begins the number that the kind has most use for.
 */
#ifndef EBB_RECORD_FORMAT_H
#define EBB_RECORD_FORMAT_H

#include <string.h>

#include "base.h"

#define TRACE_MAGIC "EBBTRACE"
#define TRACE_VERSION 1

struct trace_header {
    char magic[8];
    uint32_t version;
    uint32_t size;       /* bytes of the header, with the words of the command that follow it */
    uint64_t started_us; /* when, since 1970 */
    uint32_t process;    /* its id */
    uint32_t os_page;    /* bytes */
};

#define TRACE_COMMAND_MOST 4096 /* bytes of the command's words, each ended by a zero */

#define TRACE_CHUNK_MAGIC 0x43626245u /* "EbbC" */
#define TRACE_CHUNK_MOST (128 * 1024) /* bytes of operations */
#define TRACE_THREADS_MOST (1u << 20)
#define TRACE_THREAD_END UINT32_MAX /* the end mark: the process ended, and all is here */
#define TRACE_INDEX_BITS 40         /* of a block's number within its thread */
#define TRACE_SUM_FACTOR 0x9e3779b97f4a7c15u

struct trace_chunk {
    uint32_t magic;
    uint32_t thread; /* from 1; 0: what threads did after their stream had ended */
    uint32_t length; /* bytes that follow */
    uint32_t sum;    /* trace_sum of thread and of those bytes */
};

/* size: the difference to the size before, in this thread. distance: how many blocks this thread
 * has got since that one; 0 is its latest. */
enum trace_kind {
    TRACE_MALLOC,     /* size */
    TRACE_FREE,       /* distance: a block of this thread's own */
    TRACE_CALLOC,     /* size */
    TRACE_REALLOC,    /* size; then a reference to the old block. It gets a new number */
    TRACE_ALIGNED,    /* size; then a byte: the binary logarithm of the alignment */
    TRACE_FREE_OTHER, /* thread; then the difference of the index to the last such one */
    TRACE_TICK,       /* ticks since the last one in this thread, at first since 0 */
    TRACE_TIME,       /* microseconds likewise, at first since the recorder started */
};

/* ---- Numbers --------------------------------------------------------------------------------- */

/* The longest operation, with a tick and a time before it. */
#define TRACE_OPERATION_MOST 64

/* A field under this is the number; from it on, the field says how many bytes follow that are. */
#define TRACE_FIELD_INLINE 28
static const unsigned char trace_field_bytes[4] = {1, 2, 3, 8};

/* Small for what is near zero on either side. */
static inline uint64_t trace_zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static inline int64_t trace_unzigzag(uint64_t value)
{
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

/* Writes eight bytes beyond what it returns, at most. Without a branch: there is no telling which
 * length comes next. */
static always_inline unsigned char *trace_put_field(unsigned char *at, enum trace_kind kind,
                                                    uint64_t value)
{
    static const unsigned char lengths[5] = {1, 2, 3, 4, 9}; /* 1 + trace_field_bytes */
    unsigned row =
        (value > TRACE_FIELD_INLINE - 1) + (value > 0xff) + (value > 0xffff) + (value > 0xffffff);
    unsigned field = TRACE_FIELD_INLINE - 1 + row;
    field = row == 0 ? (unsigned)value : field;
    *at = (unsigned char)(kind << 5 | field);
    memcpy(at + 1, &value, sizeof value);
    return at + lengths[row];
}

/* LEB128: seven bits a byte, the lowest first. */
static inline unsigned char *trace_put_number(unsigned char *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    *at = (unsigned char)value;
    return at + 1;
}

/* ---- The check sum --------------------------------------------------------------------------- */

/* Of a chunk; against damage, not against anybody. In three steps: before its bytes, for each eight
 * of them, and for what is left. */
static inline uint64_t trace_sum_first(uint32_t thread, size_t length)
{
    return (thread + length + 1) * TRACE_SUM_FACTOR;
}

static inline uint64_t trace_sum_word(uint64_t sum, const unsigned char *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    sum = (sum ^ word) * TRACE_SUM_FACTOR;
    return sum ^ sum >> 29;
}

static inline uint32_t trace_sum_rest(uint64_t sum, const unsigned char *bytes, size_t length)
{
    for (; length >= sizeof sum; bytes += sizeof sum, length -= sizeof sum)
        sum = trace_sum_word(sum, bytes);
    for (; length > 0; bytes++, length--)
        sum = (sum ^ *bytes) * TRACE_SUM_FACTOR;
    return (uint32_t)(sum ^ sum >> 32);
}

static inline uint32_t trace_sum(uint32_t thread, const unsigned char *bytes, size_t length)
{
    return trace_sum_rest(trace_sum_first(thread, length), bytes, length);
}

#endif
