/* bits.h: ranges in an array of 64-bit words. Pure. */
#ifndef EBB_BITS_H
#define EBB_BITS_H

#include "base.h"

/* The bits of word `word` that belong to [first, end). */
static inline uint64_t bits_mask(size_t word, size_t first, size_t end)
{
    size_t low = word * 64, high = low + 64;
    uint64_t mask = ~(uint64_t)0;
    if (first > low)
        mask &= ~(uint64_t)0 << (first - low);
    if (end < high)
        mask &= ~(uint64_t)0 >> (high - end);
    return mask;
}

/* All of these: 0 <= first < end <= 64 * words in the array. */

static inline void bits_set(uint64_t *words, size_t first, size_t end)
{
    for (size_t word = first / 64; word * 64 < end; word++)
        words[word] |= bits_mask(word, first, end);
}

static inline void bits_clear(uint64_t *words, size_t first, size_t end)
{
    for (size_t word = first / 64; word * 64 < end; word++)
        words[word] &= ~bits_mask(word, first, end);
}

static inline bool bits_any(const uint64_t *words, size_t first, size_t end)
{
    for (size_t word = first / 64; word * 64 < end; word++)
        if (words[word] & bits_mask(word, first, end))
            return true;
    return false;
}

static inline size_t bits_count(const uint64_t *words, size_t first, size_t end)
{
    size_t count = 0;
    for (size_t word = first / 64; word * 64 < end; word++)
        count += (size_t)__builtin_popcountll(words[word] & bits_mask(word, first, end));
    return count;
}

/* The first bit in [first, end) that is `value`, or end. */
static inline size_t bits_find(const uint64_t *words, size_t first, size_t end, bool value)
{
    for (size_t word = first / 64; word * 64 < end; word++) {
        uint64_t hits = (value ? words[word] : ~words[word]) & bits_mask(word, first, end);
        if (hits != 0)
            return word * 64 + (size_t)__builtin_ctzll(hits);
    }
    return end;
}

#endif
