#include "span.h"

#include <string.h>

#include "meta.h"

static size_t record_size(unsigned words)
{
    return sizeof(struct span) + words * sizeof(uint64_t);
}

const char *span_error_text(enum span_error error)
{
    if (error == SPAN_MISALIGNED)
        return "points into a block, not at its start";
    return error == SPAN_FREED_TWICE ? "freed twice" : "freed twice, or deleted with a wrong size";
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
    span->class = (uint8_t) class;
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

/* Where a block is in its span's bitmap. */
struct place {
    size_t word;
    uint64_t bit;
};

/* False, and told, when no block of the span begins at this address. */
static always_inline bool find_place(const struct span *span, const struct sizeclass *info,
                                     void *block, struct place *place, struct mistake *mistake)
{
    size_t offset = (size_t)((char *)block - span->base);
    size_t index = offset * (uint64_t)info->inverse >> 32;
    if (unlikely(index * info->size != offset || index >= info->capacity)) {
        *mistake = (struct mistake){SPAN_MISALIGNED, block};
        return false;
    }
    *place = (struct place){index / 64, (uint64_t)1 << (index % 64)};
    return true;
}

/* False, and told, when the block is free already. */
static always_inline bool set_free(uint64_t *bits, uint64_t bit, void *block,
                                   struct mistake *mistake)
{
    if (unlikely(*bits & bit)) {
        *mistake = (struct mistake){SPAN_FREED_TWICE, block};
        return false;
    }
    *bits |= bit;
    return true;
}

/* Up to 64 blocks in the span: the bitmap stays in a register. Blocks of 512 bytes and more are
 * brought back most often, since few of them fit into a cache. */
static size_t put_in_word(struct span *span, void *const *blocks, size_t count,
                          struct mistake *mistake)
{
    const struct sizeclass *info = &sizeclasses[span->class];
    uint64_t bits = span->free[0];
    size_t put = 0, i = 0;
    struct place place;
    do
        put += find_place(span, info, blocks[i], &place, mistake) &&
               set_free(&bits, place.bit, blocks[i], mistake);
    while (++i < count && span_holds(span, blocks[i]));
    span->free[0] = bits;
    span->first_word = 0;
    span->free_count += (uint16_t)put;
    return i;
}

size_t span_put(struct span *span, void *const *blocks, size_t count, struct mistake *mistake)
{
    if (span->words == 1)
        return put_in_word(span, blocks, count, mistake);
    const struct sizeclass *info = &sizeclasses[span->class];
    size_t lowest = span->first_word, put = 0, i = 0;
    struct place place;
    do {
        if (find_place(span, info, blocks[i], &place, mistake) &&
            set_free(&span->free[place.word], place.bit, blocks[i], mistake)) {
            lowest = min_size(lowest, place.word);
            put++;
        }
    } while (++i < count && span_holds(span, blocks[i]));
    span->first_word = (uint8_t)lowest;
    span->free_count += (uint16_t)put;
    return i;
}
