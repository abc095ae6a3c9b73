#include "span.h"

#include <string.h>

#include "meta.h"
#include "os.h"
#include "purge.h"

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

/* Where the whole OS pages of a span begin and how many there are; none where one is larger than
 * the span. */
static size_t os_pages(const struct span *span, size_t *offset)
{
    uintptr_t base = (uintptr_t)span->base;
    uintptr_t start = round_up(base, os_page_size);
    uintptr_t end = (base + span->pages * PAGE_SIZE) & ~(os_page_size - 1);
    *offset = start - base;
    return start < end ? (end - start) / os_page_size : 0;
}

/* Blocks between these offsets are handed out: their pages are resident from now on. */
static cold void mark_in_use(struct span *span, size_t from, size_t to)
{
    size_t offset, count = os_pages(span, &offset);
    for (size_t page = 0; page < count; page++) {
        size_t start = offset + page * os_page_size;
        if (start < to && start + os_page_size > from)
            span->purged &= ~((uint64_t)1 << page);
    }
}

/* True when no block that lies in the OS page, in part or whole, is out. */
static bool is_hole(const struct span *span, size_t start)
{
    size_t size = sizeclasses[span->class].size;
    size_t first = start / size, end = (start + os_page_size + size - 1) / size;
    end = min_size(end, span->capacity);
    return first >= end || bits_find(span->free, first, end, false) == end;
}

size_t span_purge_holes(struct span *span)
{
    size_t offset, count = os_pages(span, &offset), bytes = 0;
    uint64_t holes = 0;
    for (size_t page = 0; page < count; page++)
        if (is_hole(span, offset + page * os_page_size))
            holes |= (uint64_t)1 << page;
    holes &= ~span->purged;
    for (size_t page = 0, end; (page = bits_find(&holes, page, 64, true)) < 64; page = end) {
        end = bits_find(&holes, page, 64, false);
        size_t size = (end - page) * os_page_size;
        enum purge_result result = purge_range(span->base + offset + page * os_page_size, size);
        if (result != PURGE_REFUSED)
            span->purged |= bits_mask(0, page, end);
        bytes += result == PURGE_DONE ? size : 0;
        if (end == 64)
            break;
    }
    return bytes;
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
    if (unlikely(span->purged != 0) && count != 0)
        /* From the lowest to the highest, which was stored last. */
        mark_in_use(span, (size_t)((char *)end[count - 1] - span->base),
                    (size_t)((char *)end[0] - span->base) + size);
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
