/* words.h: operations as a thread notes them, before they are the bytes of a trace.
 *
 *   word     the kind in the upper three bits, the number in the lower 24
 *   literal  WORD_LITERAL and a count, then so many bytes as they are to lie in the file: an
 *            operation with a larger number, or with more to it than one
 *
 * To note a word takes few instructions, and nothing waits for the number: it may still be on its
 * way from memory. They become bytes many at a time.
 */
#ifndef EBB_RECORD_WORDS_H
#define EBB_RECORD_WORDS_H

#include "format.h"

#define WORD_KIND_SHIFT 29
#define WORD_LITERAL ((uint32_t)1 << 28)
#define WORD_NUMBERS ((uint64_t)1 << 24)

/* An operation's most bytes; and its most words, with what is written behind it in passing. */
#define LITERAL_BYTES 32
#define OPERATION_WORDS 16

/* A literal at a word: its bytes go here, and end there. */
static inline unsigned char *literal_bytes(uint32_t *at)
{
    return (unsigned char *)(at + 1);
}

static inline uint32_t *literal_end(uint32_t *at, const unsigned char *end)
{
    size_t length = (size_t)(end - literal_bytes(at));
    *at = WORD_LITERAL | (uint32_t)length;
    return at + 1 + (length + sizeof *at - 1) / sizeof *at;
}

/* An operation that is a kind and a number. Returns where the next one goes. */
uint32_t *word_put_large(uint32_t *at, enum trace_kind kind, uint64_t number);

static always_inline uint32_t *word_put_small(uint32_t *at, enum trace_kind kind, uint64_t number)
{
    *at = (uint32_t)kind << WORD_KIND_SHIFT | (uint32_t)number;
    return at + 1;
}

static inline uint32_t *word_put(uint32_t *at, enum trace_kind kind, uint64_t number)
{
    return number < WORD_NUMBERS ? word_put_small(at, kind, number)
                                 : word_put_large(at, kind, number);
}

/* Turns words into bytes: a group, or up to `end`. Returns the first word that is not done. *out
 * moves on by PACKED_BYTES at most; so many bytes must be there to write to. */
#define GROUP_WORDS 64
#define PACKED_BYTES (GROUP_WORDS * sizeof(uint32_t) + LITERAL_BYTES)
const uint32_t *words_pack(const uint32_t *words, const uint32_t *end, unsigned char **out);

#endif
