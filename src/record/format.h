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
 * All numbers are little-endian. An operation is a kind and a number, in two forms: a short one for
 * the kinds that programs live on, written without a branch, and a long one for the rest.
 */
#ifndef EBB_RECORD_FORMAT_H
#define EBB_RECORD_FORMAT_H

#include <string.h>

#include "base.h"

#define TRACE_MAGIC "EBBTRACE"
#define TRACE_VERSION 2

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

/* Short: one to four bytes, of which the lowest two bits are the kind plus 1, the next two how many
 * bytes follow the first, and the rest is the number. */
#define TRACE_SHORT_KINDS 3
#define TRACE_SHORT_NUMBERS ((uint64_t)1 << 28)

/* Long: two bits 0, three of the kind, and three of a field: under TRACE_FIELD_INLINE it is the
 * number, or else the number follows. */
#define TRACE_FIELD_INLINE 7

static inline bool trace_is_short(enum trace_kind kind, uint64_t number)
{
    return kind < TRACE_SHORT_KINDS && number < TRACE_SHORT_NUMBERS;
}

/* Small for what is near zero on either side. */
static inline uint64_t trace_zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static inline int64_t trace_unzigzag(uint64_t value)
{
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
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

/* These say where they stand by *at, and return false when the bytes end too soon. */

static inline bool trace_get_number(const unsigned char **at, const unsigned char *end,
                                    uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (*at == end)
            return false;
        unsigned char byte = *(*at)++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* Writes four bytes, whatever it returns. Without a branch: there is no telling which length comes
 * next. */
static always_inline unsigned char *trace_put_short(unsigned char *at, enum trace_kind kind,
                                                    uint64_t number)
{
    uint32_t bytes = (uint32_t)number << 4 | (kind + 1);
    size_t more = (31 ^ (unsigned)__builtin_clz(bytes)) / 8;
    bytes += (uint32_t)more * 4;
    memcpy(at, &bytes, sizeof bytes);
    return at + more + 1;
}

static inline unsigned char *trace_put_long(unsigned char *at, enum trace_kind kind,
                                            uint64_t number)
{
    unsigned field = number < TRACE_FIELD_INLINE ? (unsigned)number : TRACE_FIELD_INLINE;
    *at++ = (unsigned char)(field << 5 | kind << 2);
    return field < TRACE_FIELD_INLINE ? at : trace_put_number(at, number);
}

static inline unsigned char *trace_put(unsigned char *at, enum trace_kind kind, uint64_t number)
{
    return trace_is_short(kind, number) ? trace_put_short(at, kind, number)
                                        : trace_put_long(at, kind, number);
}

/* There is at least one byte. */
static inline bool trace_get(const unsigned char **at, const unsigned char *end,
                             enum trace_kind *kind, uint64_t *number)
{
    unsigned first = *(*at)++;
    if ((first & 3) == 0) {
        *kind = (enum trace_kind)(first >> 2 & 7);
        *number = first >> 5;
        return *number < TRACE_FIELD_INLINE || trace_get_number(at, end, number);
    }
    *kind = (enum trace_kind)((first & 3) - 1);
    size_t more = first >> 2 & 3;
    if ((size_t)(end - *at) < more)
        return false;
    uint32_t rest = 0;
    memcpy(&rest, *at, more);
    *at += more;
    *number = (uint64_t)rest << 4 | first >> 4;
    return true;
}

/* ---- The check sum --------------------------------------------------------------------------- */

/* Of a chunk; against damage, not against anybody. A chain of multiplications, each of which waits
 * for the one before: four chains take no longer than one. */
#define TRACE_SUM_CHAINS 4

static inline uint64_t trace_sum_word(uint64_t sum, uint64_t word)
{
    sum = (sum ^ word) * TRACE_SUM_FACTOR;
    return sum ^ sum >> 29;
}

static inline uint32_t trace_sum(uint32_t thread, const unsigned char *bytes, size_t length)
{
    uint64_t sum = (thread + length + 1) * TRACE_SUM_FACTOR;
    uint64_t chain[TRACE_SUM_CHAINS] = {sum, sum, sum, sum}, word[TRACE_SUM_CHAINS];
    for (; length >= sizeof word; bytes += sizeof word, length -= sizeof word) {
        memcpy(word, bytes, sizeof word);
        for (size_t i = 0; i < TRACE_SUM_CHAINS; i++)
            chain[i] = trace_sum_word(chain[i], word[i]);
    }
    for (size_t i = 0; i < TRACE_SUM_CHAINS; i++)
        sum = trace_sum_word(sum, chain[i]);
    for (; length > 0; bytes++, length--)
        sum = trace_sum_word(sum, *bytes);
    return (uint32_t)(sum ^ sum >> 32);
}

#endif
