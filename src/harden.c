#include "harden.h"

#include <string.h>

#include "arenas.h"
#include "meta.h"
#include "secret.h"
#include "text.h"

#define WORD sizeof(uint64_t)

/* More than any index that misses by a little skips; less than would make a block's untouched
 * memory resident. */
#define PAD_MOST ((size_t)256)

/* What is filled of a block from its start on; its last word is, in any case. */
#define FILL_MOST ((size_t)2048)

/* The oldest leave a full quarantine so many at a time. */
#define LEAVING 64

static const char freed_twice[] = "freed twice, or never a block";
static const char written_after_free[] = "was written to after it was freed";
static const char written_beyond_end[] = "was written beyond its end";
static const char written_before_start[] =
    "was written before its start, or the block there beyond its end";

static uint64_t last_word(const char *end)
{
    uint64_t word;
    memcpy(&word, end - WORD, WORD);
    return word;
}

static void set_last_word(char *end, uint64_t word)
{
    memcpy(end - WORD, &word, WORD);
}

/* ---- Seals ----------------------------------------------------------------------------------- */

/* From the low end: the byte of the pad, three bytes of what the block has beyond `size`, hidden,
 * and four that prove the rest. Where three bytes are too few, they say so, and a word before the
 * seal has it all: a huge block may be as long as it was when there is no memory to shorten it. */
#define BEYOND_TOLD ((size_t)0xffffff)

static uint64_t seal_of(const void *block, size_t beyond)
{
    uint64_t key = secret_mix((uintptr_t)block ^ secret.canary);
    uint64_t proof = secret_mix(key + beyond + secret.canary) >> 32;
    uint64_t told = min_size(beyond, BEYOND_TOLD) ^ (key >> 40 & BEYOND_TOLD);
    return proof << 32 | told << 8 | (key & 0x7f) | 0x80;
}

static size_t pad_of(size_t beyond)
{
    return min_size(beyond - WORD, PAD_MOST);
}

static void seal(char *block, size_t room, size_t size)
{
    size_t beyond = room - size;
    uint64_t word = seal_of(block, beyond);
    memset(block + size, (uint8_t)word, pad_of(beyond));
    set_last_word(block + room, word);
    if (beyond >= BEYOND_TOLD)
        set_last_word(block + room - WORD, beyond);
}

/* The size that was asked for; 0 when the seal is broken. */
static size_t size_by_seal(const char *block, size_t room)
{
    uint64_t word = last_word(block + room);
    uint64_t key = secret_mix((uintptr_t)block ^ secret.canary);
    size_t beyond = (word >> 8 ^ key >> 40) & BEYOND_TOLD;
    if (beyond == BEYOND_TOLD && room > BEYOND_TOLD)
        beyond = last_word(block + room - WORD);
    return beyond >= WORD && beyond < room && word == seal_of(block, beyond) ? room - beyond : 0;
}

/* The same; 0 also when the pad is not what it was. */
static size_t size_by_pad(const char *block, size_t room)
{
    size_t size = size_by_seal(block, room);
    uint8_t byte = (uint8_t)last_word(block + room);
    for (size_t i = 0; size != 0 && i < pad_of(room - size); i++)
        if ((uint8_t)block[size + i] != byte)
            return 0;
    return size;
}

/* ---- Filling --------------------------------------------------------------------------------- */

static uint64_t filling_of(const void *block)
{
    return secret_mix((uintptr_t)block ^ secret.filling);
}

static void fill(char *block, size_t room)
{
    uint64_t word = filling_of(block);
    for (size_t offset = 0; offset < min_size(room, FILL_MOST); offset += WORD)
        set_last_word(block + offset + WORD, word);
    set_last_word(block + room, word);
}

static bool is_filled(const char *block, size_t room)
{
    uint64_t word = filling_of(block), others = last_word(block + room) ^ word;
    for (size_t offset = 0; offset < min_size(room, FILL_MOST); offset += WORD)
        others |= last_word(block + offset + WORD) ^ word;
    return others == 0;
}

/* ---- Blocks in their spans, under the mutex of the owner ------------------------------------- */

static bool is_set(const uint64_t *bits, size_t index)
{
    return bits[index / 64] >> index % 64 & 1;
}

/* Locks the mutex of who owns the span of a block, and returns the span; NULL when there is none
 * (any more). */
static struct span *lock_span_of(const void *block)
{
    for (;;) {
        struct span *span = span_of(block);
        struct arena *owner = span != NULL ? span_owner(span) : NULL;
        if (owner == NULL)
            return NULL;
        lock_acquire(&owner->mutex);
        if (span_of(block) == span && span_owner(span) == owner)
            return span;
        lock_release(&owner->mutex);
    }
}

static void unlock_span(struct span *span)
{
    lock_release(&span_owner(span)->mutex);
}

/* What is wrong with a pointer that the program takes for a live block; NULL: nothing. */
static const char *judge(struct span *span, const char *block)
{
    size_t index = span_index(span, block);
    if (index == SPAN_NO_BLOCK)
        return span_error_text(SPAN_MISALIGNED);
    if (is_set(span_filled(span), index))
        return span_error_text(SPAN_FREED_TWICE);
    if (is_set(span->free, index))
        return freed_twice;
    return size_by_pad(block, sizeclasses[span->class].size) == 0 ? written_beyond_end : NULL;
}

/* The same of the end of the block before it. */
static const char *judge_neighbour(struct span *span, const char *block)
{
    size_t index = span_index(span, block), room = sizeclasses[span->class].size;
    if (index == 0)
        return NULL;
    const char *before = block - room;
    if (is_set(span_filled(span), index - 1))
        return last_word(block) != filling_of(before) ? written_before_start : NULL;
    bool is_live = !is_set(span->free, index - 1);
    return is_live && size_by_seal(before, room) == 0 ? written_before_start : NULL;
}

static const char *retire(struct span *span, char *block)
{
    const char *wrong = judge(span, block);
    if (wrong == NULL)
        wrong = judge_neighbour(span, block);
    if (wrong != NULL)
        return wrong;
    size_t index = span_index(span, block);
    fill(block, sizeclasses[span->class].size);
    bits_set(span_filled(span), index, index + 1);
    return NULL;
}

/* ---- The quarantine, under its arena's mutex ------------------------------------------------- */

static void *take_oldest(struct arena *arena)
{
    struct quarantine *quarantine = arena->quarantine;
    void *block = quarantine->blocks[quarantine->first];
    unsigned class = pagemap_class(block);
    quarantine->first = (quarantine->first + 1) % QUARANTINE_BLOCKS;
    quarantine->count--;
    quarantine->bytes -= sizeclasses[class].size;
    arena->books[class].retired--;
    return block;
}

static void add_newest(struct arena *arena, void *block)
{
    struct quarantine *quarantine = arena->quarantine;
    unsigned class = pagemap_class(block);
    quarantine->blocks[(quarantine->first + quarantine->count++) % QUARANTINE_BLOCKS] = block;
    quarantine->bytes += sizeclasses[class].size;
    arena->books[class].retired++;
}

static bool is_full(const struct quarantine *quarantine)
{
    return quarantine->count == QUARANTINE_BLOCKS || quarantine->bytes > QUARANTINE_BYTES;
}

/* Takes out up to `most`. Those of the arena's own spans go back to these; the others are left in
 * foreign, which has room for LEAVING; returns how many. */
static size_t release(struct arena *arena, size_t most, void **foreign, struct mistake *mistake)
{
    size_t count = min_size(min_size(arena->quarantine->count, most), LEAVING);
    for (size_t i = 0; i < count; i++)
        foreign[i] = take_oldest(arena);
    return arena_put(arena, foreign, count, mistake);
}

/* Puts a retired block in; what leaves for other arenas is left in foreign, as by release. */
static size_t keep(struct arena *arena, void *block, void **foreign, struct mistake *mistake)
{
    arena->flushes++; /* this thread is not quiet */
    if (arena->quarantine == NULL)
        arena->quarantine = meta_alloc(sizeof *arena->quarantine);
    if (arena->quarantine == NULL) {
        foreign[0] = block;
        return 1;
    }
    size_t foreigners = 0;
    if (is_full(arena->quarantine))
        foreigners = release(arena, LEAVING, foreign, mistake);
    add_newest(arena, block);
    arena_drain(arena, mistake);
    return foreigners;
}

bool harden_flush(struct arena *arena, size_t most, struct mistake *mistake)
{
    void *blocks[LEAVING];
    size_t kept = 0;
    while (harden_holds_any(arena) && most != 0 && kept == 0) {
        size_t before = arena->quarantine->count;
        size_t foreigners = release(arena, most, blocks, mistake);
        most -= before - arena->quarantine->count;
        kept = arena_deliver(blocks, foreigners, false, mistake);
        for (size_t i = 0; i < kept; i++)
            add_newest(arena, blocks[i]);
    }
    return !harden_holds_any(arena);
}

/* ---- Calls ----------------------------------------------------------------------------------- */

size_t harden_room(size_t size, size_t alignment)
{
    size_t room = size + WORD;
    /* A class of a multiple of the alignment has all its blocks aligned (sizeclass.h). */
    return alignment <= PAGE_SIZE ? round_up(room, alignment) : room;
}

/* Under the arena's mutex, which is that of the block's span. False when the block is not as it was
 * left. */
static bool begin_life(void *block, size_t size)
{
    struct span *span = span_of(block);
    size_t room = sizeclasses[span->class].size, index = span_index(span, block);
    bool good = !is_set(span_filled(span), index) || is_filled(block, room);
    bits_clear(span_filled(span), index, index + 1);
    seal(block, room, size);
    return good;
}

static bool is_small(const void *block)
{
    return pagemap_class(block) <= CLASS_SMALL_LAST;
}

void *harden_alloc(unsigned class, size_t size)
{
    struct arena *arena = arenas_join();
    struct mistake mistake = {SPAN_FINE, NULL};
    void *block = NULL;
    lock_acquire(&arena->mutex);
    arena_drain(arena, &mistake);
    arena->refills++; /* this thread is not quiet */
    bool good = arena_take(arena, class, &block + 1, 1, true) == 0 || begin_life(block, size);
    lock_release(&arena->mutex);
    arena_abort_on(&mistake);
    if (unlikely(!good))
        text_abort("malloc", block, written_after_free);
    return block;
}

void harden_seal(void *block, size_t room, size_t size)
{
    seal(block, room, size);
}

/* Why a block that has no good seal is none that the program may use. */
static const char *find_mistake(const void *block)
{
    if (!is_small(block))
        return written_beyond_end;
    struct span *span = lock_span_of(block);
    if (span == NULL)
        return freed_twice;
    const char *wrong = judge(span, block);
    unlock_span(span);
    return wrong != NULL ? wrong : written_beyond_end;
}

/* A live block's span stays, and its seal is its user's alone to change: no lock is needed. A
 * handler may have come upon the program here, and allocate. */
size_t harden_size(void *block, size_t room, const char *call)
{
    const struct span *span = is_small(block) ? span_of(block) : NULL;
    bool may_begin = !is_small(block) || (span != NULL && span_index(span, block) != SPAN_NO_BLOCK);
    size_t size = may_begin ? size_by_pad(block, room) : 0;
    if (unlikely(size == 0))
        text_abort(call, block, find_mistake(block));
    return size;
}

/* Nothing of the old seal is left for the program to read. */
static void wipe(char *block, size_t from, size_t to, size_t size)
{
    if (from < size)
        memset(block + from, 0, min_size(to, size) - from);
}

/* Locks as lock_span_of does. A seal alone does not show that the block is live: the program may
 * have put it back after free. */
static struct span *lock_live(void *block, const char *call)
{
    struct span *span = lock_span_of(block);
    const char *wrong = span != NULL ? judge(span, block) : freed_twice;
    if (likely(wrong == NULL))
        return span;
    if (span != NULL)
        unlock_span(span);
    text_abort(call, block, wrong);
}

void harden_reseal(void *block, size_t room, size_t size, size_t room_was, size_t was)
{
    struct span *span = is_small(block) ? lock_live(block, "realloc") : NULL;
    wipe(block, was, was + pad_of(room_was - was), size);
    wipe(block, room_was - WORD, room_was, size);
    seal(block, room, size);
    if (span != NULL)
        unlock_span(span);
}

void harden_free(void *block, const char *call)
{
    struct arena *arena = arenas_join();
    struct mistake mistake = {SPAN_FINE, NULL};
    void *foreign[LEAVING];
    struct span *span = lock_span_of(block);
    const char *wrong = span != NULL ? retire(span, block) : freed_twice;
    if (span != NULL)
        unlock_span(span);
    if (unlikely(wrong != NULL))
        text_abort(call, block, wrong);
    lock_acquire(&arena->mutex);
    size_t foreigners = keep(arena, block, foreign, &mistake);
    lock_release(&arena->mutex);
    if (foreigners != 0)
        arena_deliver(foreign, foreigners, true, &mistake);
    arena_abort_on(&mistake);
}
