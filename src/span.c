#include "span.h"

#include <string.h>

#include "meta.h"

static size_t record_size(unsigned words)
{
    return sizeof(struct span) + words * sizeof(uint64_t);
}

const char *span_error_text(enum span_error error)
{
    switch (error) {
    case SPAN_MISALIGNED:
        return "points into a block, not at its start";
    case SPAN_FREED_TWICE:
        return "freed twice";
    default:
        return "not a block of this allocator";
    }
}

static void set_all_free(struct span *span)
{
    memset(span->free, 0xff, span->words * sizeof(uint64_t));
    if (span->capacity % 64 != 0)
        span->free[span->words - 1] = ((uint64_t)1 << (span->capacity % 64)) - 1;
    span->free_count = span->capacity;
    span->first_word = 0;
}

struct span *span_create(struct arena *owner, unsigned class, struct chunk **home)
{
    const struct sizeclass *info = &sizeclasses[class];
    struct span *span = meta_alloc(record_size(info->words));
    if (span == NULL)
        return NULL;
    struct run run;
    if (!chunk_take(home, info->pages, 1, &run)) {
        meta_free(span, record_size(info->words));
        return NULL;
    }
    span->owner = owner;
    span->base = run.start;
    span->chunk = run.chunk;
    span->capacity = info->capacity;
    span->class = (uint8_t)class;
    span->pages = info->pages;
    span->words = info->words;
    set_all_free(span);
    for (size_t page = 0; page < run.pages; page++)
        run.chunk->spans[run.first + page] = span;
    pagemap_set(run.start, run.pages, class);
    return span;
}

void span_destroy(struct span *span)
{
    struct chunk *chunk = span->chunk;
    size_t first = chunk_page(span->base), pages = span->pages;
    pagemap_set(span->base, pages, CLASS_NONE);
    for (size_t page = first; page < first + pages; page++)
        chunk->spans[page] = NULL;
    meta_free(span, record_size(span->words));
    chunk_give(chunk, first, pages);
}

size_t span_take(struct span *span, void **end, size_t wanted)
{
    size_t size = sizeclasses[span->class].size;
    size_t count = min_size(wanted, span->free_count);
    unsigned word = span->first_word;
    for (size_t left = count; left != 0;) {
        uint64_t bits = span->free[word];
        char *base = span->base + word * 64 * size;
        for (; bits != 0 && left != 0; left--) {
            *--end = base + (unsigned)__builtin_ctzll(bits) * size;
            bits &= bits - 1;
        }
        span->free[word] = bits;
        if (bits == 0)
            word++;
    }
    span->first_word = (uint8_t)word;
    span->free_count -= (uint16_t)count;
    return count;
}

enum span_error span_put(struct span *span, void *block)
{
    const struct sizeclass *info = &sizeclasses[span->class];
    size_t offset = (size_t)((char *)block - span->base);
    size_t index = offset * (uint64_t)info->inverse >> 32;
    if (unlikely(index * info->size != offset || index >= span->capacity))
        return SPAN_MISALIGNED;
    size_t word = index / 64;
    uint64_t bit = (uint64_t)1 << (index % 64);
    if (unlikely(span->free[word] & bit))
        return SPAN_FREED_TWICE;
    span->free[word] |= bit;
    if (word < span->first_word)
        span->first_word = (uint8_t)word;
    span->free_count++;
    return SPAN_FINE;
}
