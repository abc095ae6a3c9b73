#include "span.h"

#include <string.h>

#include "guard.h"
#include "meta.h"
#include "options.h"
#include "os.h"
#include "secret.h"

/* Up to META_SMALL_MAX: 32 words are the most. */
static size_t record_size(unsigned words)
{
    size_t bitmaps = options.harden == HARDEN_ON ? 2 : 1;
    return sizeof(struct span) + bitmaps * words * sizeof(uint64_t);
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

/* Enters the span, or NULL, for its pages, of which a large one has only the first: a pointer into
 * it reads as not ours. */
static void enter_pages(const struct span *span, struct span *value)
{
    size_t first = chunk_page(span->base), pages = span_is_large(span) ? 1 : span->pages;
    for (size_t page = first; page < first + pages; page++)
        span->chunk->spans[page] = value;
    pagemap_set(span->base, pages, value != NULL ? span->class : CLASS_NONE);
}

/* Zeroed, but for the bitmap. */
static struct span *take_record(struct span **record, unsigned words)
{
    struct span *span = *record;
    if (span == NULL)
        return meta_alloc(record_size(words));
    *record = NULL;
    memset(span, 0, record_size(words));
    return span;
}

/* A run for a span, in the hardened mode with a page behind it that cannot be touched, if that can
 * be had. */
static bool take_run(size_t pages, struct run *run, size_t *guard)
{
    *guard = 0;
    if (options.harden == HARDEN_OFF || !guard_is_possible() || !chunk_take(pages + 1, 1, run))
        return chunk_take(pages, 1, run);
    if (guard_page(run->chunk, run->first + pages))
        *guard = pages;
    else
        chunk_give(run->chunk, run->first + pages, 1);
    return true;
}

struct span *span_create(struct arena *owner, unsigned class, struct span **record, bool *zero)
{
    const struct sizeclass *info = &sizeclasses[class];
    struct span *span = take_record(record, info->words);
    if (span == NULL)
        return NULL;
    struct run run;
    size_t guard;
    if (!take_run(info->pages, &run, &guard)) {
        meta_free(span, record_size(info->words));
        return NULL;
    }
    atomic_store_explicit(&span->owner, owner, memory_order_release);
    span->list = SPAN_IN_NONE;
    span->base = run.start;
    span->chunk = run.chunk;
    span->capacity = info->capacity;
    span->class = (uint8_t) class;
    span->pages = info->pages;
    span->words = info->words;
    span->guard = (uint8_t)guard;
    set_all_free(span);
    enter_pages(span, span);
    *zero = run.zero;
    return span;
}

void span_drop_record(struct span *record)
{
    meta_free(record, record_size(record->words));
}

void span_destroy(struct span *span, bool rested, struct span **record)
{
    struct chunk *chunk = span->chunk;
    size_t first = chunk_page(span->base), pages = span->pages, guard = span->guard;
    bool detains = options.harden == HARDEN_ON && span_is_large(span);
    enter_pages(span, NULL);
    purge_note_use(span_hole_bytes(span)); /* they count as dirty from now on */
    span->base = NULL;
    if (record != NULL && *record == NULL)
        *record = span;
    else
        span_drop_record(span);
    if (guard != 0)
        guard_allow(chunk, first + guard, 1);
    if (detains)
        guard_detain(chunk, first, pages);
    else if (rested)
        chunk_give_rested(chunk, first, pages);
    else
        chunk_give(chunk, first, pages);
}

/* Behind what a large span has kept of its pages: a guard, as take_run has one, in place of the one
 * further on. Returns how many pages that takes. */
static size_t move_guard(struct span *span)
{
    size_t first = chunk_page(span->base), guard = span->guard;
    if (options.harden == HARDEN_OFF || !guard_is_possible() ||
        !guard_page(span->chunk, first + span->pages))
        return 0;
    span->guard = span->pages;
    if (guard != 0)
        guard_allow(span->chunk, first + guard, 1);
    return 1;
}

bool span_resize(struct span *span, unsigned class)
{
    size_t first = chunk_page(span->base), pages = span->pages, wanted = sizeclasses[class].pages;
    if (wanted > pages && !chunk_extend(span->chunk, first, pages, wanted - pages))
        return false;
    span->class = (uint8_t) class;
    span->pages = (uint8_t)wanted;
    pagemap_set(span->base, 1, class);
    if (wanted < pages) {
        wanted += move_guard(span);
        chunk_give(span->chunk, first + wanted, pages - wanted);
    }
    return true;
}

/* Takes the pages behind a large span that has a guard, up to `wanted` with its own. The guard,
 * which is one of them unless all were given up, goes last: whoever is refused has it still. */
static bool take_behind(const struct span *span, size_t wanted)
{
    struct chunk *chunk = span->chunk;
    size_t first = chunk_page(span->base), pages = span->pages, behind = span->guard + 1;
    if (chunk_extend(chunk, first, pages, wanted - pages))
        return true;
    if (span->guard != pages ||
        (wanted > behind && !chunk_extend(chunk, first, behind, wanted - behind)))
        return false;
    bool taken = guard_take(chunk, first + pages);
    if (!taken && wanted > behind)
        chunk_give(chunk, first + behind, wanted - behind);
    return taken;
}

bool span_dissolve(struct span *span, size_t wanted)
{
    size_t first = chunk_page(span->base), pages = span->guard != 0 ? wanted : span->pages;
    if (span->guard != 0 && !take_behind(span, wanted))
        return false;
    chunk_make_large(span->chunk, first, pages);
    span->chunk->spans[first] = NULL;
    pagemap_set(span->base, 1, CLASS_LARGE);
    span_drop_record(span);
    return true;
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
    size_t offset, count = os_pages(span, &offset), before = span_hole_bytes(span);
    for (size_t page = 0; page < count; page++) {
        size_t start = offset + page * os_page_size;
        if (start < to && start + os_page_size > from)
            span->purged &= ~((uint64_t)1 << page);
    }
    span->lazy &= span->purged;
    purge_note_use(before - span_hole_bytes(span));
}

/* True when no block that lies in the OS page, in part or whole, is out. */
static bool is_hole(const struct span *span, size_t start)
{
    size_t size = sizeclasses[span->class].size;
    size_t first = start / size, end = (start + os_page_size + size - 1) / size;
    end = min_size(end, span->capacity);
    return first >= end || bits_find(span->free, first, end, false) == end;
}

/* OS pages in which no block is out and that this kind of sweep can give back. */
static uint64_t find_holes(const struct span *span, enum sweep_kind kind)
{
    size_t offset, count = os_pages(span, &offset);
    uint64_t holes = 0;
    for (size_t page = 0; page < count; page++)
        if (is_hole(span, offset + page * os_page_size))
            holes |= (uint64_t)1 << page;
    return holes & ~(kind == SWEEP_NOW ? span->purged & ~span->lazy : span->purged);
}

/* Holes of several spans, neighbours together. */
struct holes {
    size_t count;
    struct os_range ranges[SPAN_PURGES * 32];
    struct {
        struct span *span;
        uint64_t pages;
    } places[SPAN_PURGES * 32];
};

static void add_holes(struct holes *holes, struct span *span, enum sweep_kind kind)
{
    size_t offset;
    os_pages(span, &offset);
    uint64_t pages = find_holes(span, kind);
    for (size_t page = 0, end; (page = bits_find(&pages, page, 64, true)) < 64; page = end) {
        end = bits_find(&pages, page, 64, false);
        char *start = span->base + offset + page * os_page_size;
        holes->ranges[holes->count] = (struct os_range){start, (end - page) * os_page_size};
        holes->places[holes->count].span = span;
        holes->places[holes->count].pages = bits_mask(0, page, end);
        holes->count++;
        if (end == 64)
            break;
    }
}

/* What is given back does not keep its filling. */
static void forget_filled(struct span *span, uint64_t pages)
{
    size_t offset, size = sizeclasses[span->class].size;
    os_pages(span, &offset);
    for (; pages != 0; pages &= pages - 1) {
        size_t start = offset + (size_t)__builtin_ctzll(pages) * os_page_size;
        size_t end = (start + os_page_size + size - 1) / size;
        bits_clear(span_filled(span), start / size, min_size(end, span->capacity));
    }
}

size_t span_purge_holes(struct span *const *spans, size_t count, enum sweep_kind kind)
{
    struct holes holes = {.count = 0};
    enum purge_result results[SPAN_PURGES * 32];
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        add_holes(&holes, spans[i], kind);
    purge_ranges(holes.ranges, holes.count, kind, results, &bytes);
    for (size_t i = 0; i < holes.count; i++) {
        struct span *span = holes.places[i].span;
        if (results[i] == PURGE_REFUSED)
            continue;
        if (options.harden == HARDEN_ON)
            forget_filled(span, holes.places[i].pages);
        span->purged |= holes.places[i].pages;
        span->lazy &= ~holes.places[i].pages;
        if (results[i] == PURGE_LAZY)
            span->lazy |= holes.places[i].pages;
    }
    return bytes;
}

/* Any of the free blocks: from some word on, and in the first with a free one from some bit on. */
static size_t take_any(struct span *span, void **end)
{
    uint64_t choice = secret_choice();
    size_t word = (uint32_t)choice % span->words, size = sizeclasses[span->class].size;
    unsigned turn = choice >> 58;
    if (span->free_count == 0)
        return 0;
    while (span->free[word] == 0)
        word = (word + 1) % span->words;
    uint64_t bits = span->free[word];
    unsigned bit = ((unsigned)__builtin_ctzll(bits >> turn | bits << (64 - turn) % 64) + turn) % 64;
    span->free[word] &= ~((uint64_t)1 << bit);
    span->free_count--;
    size_t offset = (word * 64 + bit) * size;
    if (span->purged != 0)
        mark_in_use(span, offset, offset + size);
    end[-1] = span->base + offset;
    return 1;
}

size_t span_take(struct span *span, void **end, size_t wanted)
{
    if (unlikely(options.harden == HARDEN_ON))
        return take_any(span, end);
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
static always_inline bool find_place(const struct span *span, void *block, struct place *place,
                                     struct mistake *mistake)
{
    size_t index = span_index(span, block);
    if (unlikely(index == SPAN_NO_BLOCK)) {
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
    uint64_t bits = span->free[0];
    size_t put = 0, i = 0;
    struct place place;
    do
        put += find_place(span, blocks[i], &place, mistake) &&
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
    size_t lowest = span->first_word, put = 0, i = 0;
    struct place place;
    do {
        if (find_place(span, blocks[i], &place, mistake) &&
            set_free(&span->free[place.word], place.bit, blocks[i], mistake)) {
            lowest = min_size(lowest, place.word);
            put++;
        }
    } while (++i < count && span_holds(span, blocks[i]));
    span->first_word = (uint8_t)lowest;
    span->free_count += (uint16_t)put;
    return i;
}
