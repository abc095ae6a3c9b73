#include "words.h"

cold uint32_t *word_put_large(uint32_t *at, enum trace_kind kind, uint64_t number)
{
    return literal_end(at, trace_put_field(literal_bytes(at), kind, number));
}

/* Words as they lie in the file: up to four bytes each, the first of them lowest, and how many. */
struct packed {
    uint32_t bytes[GROUP_WORDS];
    uint32_t lengths[GROUP_WORDS];
    bool has_literals; /* of them, and of what is in them, the above means nothing */
};

/* As trace_put_field does. A loop of its own, so that compilers do several at a time. */
static inline void pack_all(const uint32_t *words, struct packed *packed)
{
    uint32_t any = 0;
    for (size_t i = 0; i < GROUP_WORDS; i++) {
        int32_t number = words[i] & (WORD_NUMBERS - 1);
        int32_t more = (number > TRACE_FIELD_INLINE - 1) + (number > 0xff) + (number > 0xffff);
        int32_t field = more == 0 ? number : TRACE_FIELD_INLINE - 1 + more;
        packed->bytes[i] = (uint32_t)(number << 8 | field) | words[i] >> WORD_KIND_SHIFT << 5;
        packed->lengths[i] = (uint32_t)(1 + more);
        any |= words[i];
    }
    packed->has_literals = (any & WORD_LITERAL) != 0;
}

static inline unsigned char *put_packed(unsigned char *at, const struct packed *packed, size_t i)
{
    memcpy(at, &packed->bytes[i], sizeof packed->bytes[i]);
    return at + packed->lengths[i];
}

static inline unsigned char *put_group(unsigned char *at, const struct packed *packed)
{
    for (size_t i = 0; i < GROUP_WORDS; i += 4) {
        at = put_packed(at, packed, i);
        at = put_packed(at, packed, i + 1);
        at = put_packed(at, packed, i + 2);
        at = put_packed(at, packed, i + 3);
    }
    return at;
}

const uint32_t *words_pack(const uint32_t *words, const uint32_t *end, unsigned char **out)
{
    uint32_t rest[GROUP_WORDS + OPERATION_WORDS];
    const uint32_t *group = words;
    size_t count = min_size((size_t)(end - words), GROUP_WORDS);
    if (count < GROUP_WORDS) {
        memset(rest, 0, sizeof rest);
        group = memcpy(rest, words, count * sizeof *words);
    }
    struct packed packed;
    pack_all(group, &packed);
    if (count == GROUP_WORDS && !packed.has_literals) {
        *out = put_group(*out, &packed);
        return words + GROUP_WORDS;
    }
    unsigned char *at = *out;
    size_t i = 0;
    while (i < count) {
        if ((group[i] & WORD_LITERAL) == 0) {
            at = put_packed(at, &packed, i++);
            continue;
        }
        size_t length = group[i] & ~WORD_LITERAL;
        memcpy(at, &group[i + 1], LITERAL_BYTES);
        at += length;
        i += 1 + (length + sizeof *group - 1) / sizeof *group;
    }
    *out = at;
    return words + i;
}
