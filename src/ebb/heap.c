#include "heap.h"

#include <stdlib.h>
#include <string.h>

#include "residency.h"
#include "stats_sum.h"
#include "text.h"

/* What is read of an arena: all but its mail. */
#define ARENA_BYTES offsetof(struct arena, strays)

/* What lies so near to each other is read together, and so much at a time: records of spans, with a
 * chunk's between them; and stacks, but not across pages that nobody has touched: those would count
 * as resident once they are read. */
#define SPAN_GAP (16 * KiB)
#define STACK_GAP 4096
#define READ_MOST (512 * KiB)
_Static_assert(SPAN_GAP > sizeof(struct chunk), "a chunk's record fits between those of spans");

/* Words of the largest bitmap: 32 KiB of 16 bytes each. */
#define WORDS_MOST (PAGE_SIZE / 16 / 64)

/* A cache holds no more blocks of a class than this. */
#define CACHED_MOST 4096

/* Arenas, one a thread; a process that claims more is not believed. */
#define ARENAS_MOST 65536

/* The kernel's count of resident bytes may lag behind by some pages for each processor. */
#define RESIDENT_LAG (32 * MiB)

/* Memory for what is read, or NULL: then nothing more is kept, and heap_read says so. */
static void *get_memory(struct heap *heap, size_t size)
{
    void *memory = heap->starved ? NULL : calloc(1, size);
    heap->starved |= memory == NULL;
    return memory;
}

/* How many records there can be: each has been written to, and so has a page of its own or a part
 * of one that is resident or swapped out. (Address space says nothing: a process may reserve more
 * of it than there is memory.) */
static size_t most_records(const struct heap *heap, size_t size)
{
    return heap->resident_most / min_size(size, os_page_size);
}

/* A list that is followed, with no more records than there can be: true when `at` cannot be one of
 * its records, or was there before (R. P. Brent's way to find a circle: compare with one that is
 * moved on at each power of two). */
struct walk {
    uintptr_t mark;
    size_t steps;
};

static bool goes_astray(struct walk *walk, uintptr_t at, size_t most)
{
    if (at % sizeof(void *) != 0 || at == walk->mark || walk->steps == most)
        return true;
    if ((walk->steps & (walk->steps + 1)) == 0)
        walk->mark = at;
    walk->steps++;
    return false;
}

/* Makes room for one more in an array of so many, whose pointer is at `array`. It stays as it is
 * when there is no memory for that. */
static bool grow(struct heap *heap, void *array, size_t count, size_t size)
{
    void *memory;
    if (heap->starved || (count != 0 && (count < 64 || !is_power_of_two(count))))
        return !heap->starved;
    memcpy(&memory, array, sizeof memory);
    memory = realloc(memory, max_size(count * 2, 64) * size);
    heap->starved = memory == NULL;
    if (memory != NULL)
        memcpy(array, &memory, sizeof memory);
    return !heap->starved;
}

static int compare_places(const void *a, const void *b)
{
    const struct heap_place *first = a, *second = b;
    return (first->at > second->at) - (first->at < second->at);
}

static void sort_places(struct heap_place *places, size_t count)
{
    if (count != 0)
        qsort(places, count, sizeof *places, compare_places);
}

/* The index of what is at an address, or HEAP_NONE. */
static uint32_t find_place(const struct heap_place *places, size_t count, uintptr_t at)
{
    struct heap_place key = {.at = at}, *found = NULL;
    if (count != 0)
        found = bsearch(&key, places, count, sizeof key, compare_places);
    return found != NULL ? found->index : HEAP_NONE;
}

/* What was found on the way, to be read later: where spans are said to be, and bins with blocks. */
struct finds {
    struct found {
        uintptr_t at;
        uint32_t chunk;
        uint16_t page;
    } * found;
    struct filled {
        uintptr_t stack;
        size_t bytes;
        unsigned class;
    } * filled;
    size_t found_count, filled_count;
};

/* ---- Arenas ---------------------------------------------------------------------------------- */

/* A copy, with bins that are empty where their tops and stacks do not belong together. */
static bool read_arena(struct heap *heap, const struct target *target, uintptr_t at,
                       struct arena *arena)
{
    if (!target_read(target, at, arena, ARENA_BYTES))
        return false;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        uintptr_t stack = (uintptr_t)arena->stacks[class];
        uintptr_t top = (uintptr_t)arena->cache.bins[class].top;
        if (stack == 0)
            top = 0;
        if (top - stack > CACHED_MOST * sizeof(void *) || (top - stack) % sizeof(void *) != 0) {
            heap->damaged++;
            top = stack;
        }
        arena->stacks[class] = (void **)stack;
        arena->cache.bins[class].top = (void **)top;
    }
    return true;
}

/* Room in the detail for one arena more. */
static bool grow_detail(struct heap *heap, struct sums *sums)
{
    struct stats_detail *detail = heap->detail;
    if (detail->arenas < detail->room)
        return true;
    size_t room = max_size(2 * detail->room, 16);
    detail = realloc(detail, sizeof *detail + room * sizeof detail->arena[0]);
    heap->starved |= detail == NULL;
    if (detail == NULL)
        return false;
    memset(detail->arena + detail->room, 0, (room - detail->room) * sizeof detail->arena[0]);
    detail->room = room;
    sums->detail = heap->detail = detail;
    return true;
}

static void note_bins(struct heap *heap, struct finds *finds, const struct arena *arena)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        uintptr_t stack = (uintptr_t)arena->stacks[class];
        size_t bytes = (uintptr_t)arena->cache.bins[class].top - stack;
        if (bytes != 0 && grow(heap, &finds->filled, finds->filled_count, sizeof *finds->filled))
            finds->filled[finds->filled_count++] = (struct filled){stack, bytes, class};
    }
}

/* Into the sums one after the other; nothing is kept of them but where they are, and their bins. */
static void read_arenas(struct heap *heap, const struct target *target, enum heap_depth depth,
                        struct sums *sums, struct finds *finds)
{
    struct walk walk = {0, 0};
    struct arena *copy = get_memory(heap, sizeof *copy), *next;
    size_t most = min_size(most_records(heap, sizeof *copy), ARENAS_MOST);
    sums->detail = heap->detail = get_memory(heap, sizeof *heap->detail);
    if (!target_read(target, (uintptr_t)target->root.arenas, &next, sizeof next))
        next = NULL;
    while (next != NULL && !heap->starved) {
        uintptr_t at = (uintptr_t)next;
        if (goes_astray(&walk, at, most) || !read_arena(heap, target, at, copy)) {
            heap->damaged++;
            break;
        }
        if (!grow_detail(heap, sums) ||
            !grow(heap, &heap->arena_places, heap->arena_count, sizeof *heap->arena_places))
            break;
        heap->arena_places[heap->arena_count] =
            (struct heap_place){at, (uint32_t)heap->arena_count};
        heap->arena_count++;
        sum_arena(sums, copy, true, heap->arena_count - 1);
        if (depth >= HEAP_CACHES)
            note_bins(heap, finds, copy);
        next = copy->next;
    }
    heap->stats.arenas = heap->arena_count - (heap->arena_count != 0); /* the last: the commons */
    sort_places(heap->arena_places, heap->arena_count);
    free(copy);
}

/* ---- Chunks and spans ------------------------------------------------------------------------ */

static void note_spans(struct heap *heap, struct finds *finds, const struct chunk *chunk,
                       uint32_t index)
{
    uintptr_t last = 0;
    for (size_t page = 0; page < CHUNK_PAGES; page++) {
        uintptr_t at = (uintptr_t)chunk->spans[page];
        if (at != 0 && at != last &&
            grow(heap, &finds->found, finds->found_count, sizeof *finds->found))
            finds->found[finds->found_count++] = (struct found){at, index, (uint16_t)page};
        last = at;
    }
}

static void mark_free_pages(const struct buddy *buddy, uint64_t *free)
{
    size_t word = 0;
    for (unsigned order = 0; order < BUDDY_ORDERS; order++) {
        size_t blocks = BUDDY_PAGES >> order, words = max_size(blocks / 64, 1);
        for (size_t block = 0; block < blocks; block++)
            if (buddy->free[word + block / 64] >> block % 64 & 1)
                bits_set(free, block << order, (block + 1) << order);
        word += words;
    }
}

static void keep_chunk(struct heap *heap, const struct chunk *copy)
{
    if (!grow(heap, &heap->chunks, heap->chunk_count, sizeof *heap->chunks) ||
        !grow(heap, &heap->chunk_places, heap->chunk_count, sizeof *heap->chunk_places))
        return;
    heap->chunk_places[heap->chunk_count] =
        (struct heap_place){(uintptr_t)copy->base, (uint32_t)heap->chunk_count};
    struct heap_chunk *chunk = &heap->chunks[heap->chunk_count++];
    memset(chunk, 0, sizeof *chunk);
    chunk->base = copy->base;
    chunk->committed = min_size(copy->committed, CHUNK_PAGES);
    memcpy(chunk->free_state, copy->free_state, sizeof chunk->free_state);
    mark_free_pages(&copy->buddy, chunk->free);
    for (size_t page = 0; page < CHUNK_PAGES; page++) {
        chunk->large[page] = (uint16_t)min_size(copy->large[page], CHUNK_PAGES - page);
        chunk->span[page] = HEAP_NONE;
    }
}

static bool is_chunk_base(const char *base)
{
    uintptr_t address = (uintptr_t)base;
    return address % CHUNK_SIZE == 0 && address >> ADDRESS_BITS == 0;
}

static void read_chunks(struct heap *heap, const struct target *target, enum heap_depth depth,
                        struct sums *sums, struct finds *finds)
{
    size_t seen = 0;
    size_t bytes = depth >= HEAP_SPANS ? sizeof(struct chunk) : offsetof(struct chunk, spans);
    size_t records_most = most_records(heap, sizeof(struct chunk));
    struct walk walk = {0, 0};
    struct chunk *next, *copy = get_memory(heap, sizeof *copy);
    if (!target_read(target, (uintptr_t)target->root.chunks, &next, sizeof next))
        next = NULL;
    for (; next != NULL && !heap->starved; next = copy->next) {
        if (goes_astray(&walk, (uintptr_t)next, records_most) ||
            !target_read(target, (uintptr_t)next, copy, bytes)) {
            heap->damaged++;
            break;
        }
        if (copy->base == NULL)
            continue;
        if (!is_chunk_base(copy->base) || ++seen > heap->address_space / CHUNK_SIZE ||
            copy->committed > CHUNK_PAGES || copy->buddy.free_pages > CHUNK_PAGES) {
            heap->damaged++;
            continue;
        }
        chunk_add(copy, &sums->chunks);
        if (depth < HEAP_SPANS)
            continue;
        note_spans(heap, finds, copy, (uint32_t)heap->chunk_count);
        keep_chunk(heap, copy);
    }
    sort_places(heap->chunk_places, heap->chunk_count);
    free(copy);
}

static int compare_found(const void *a, const void *b)
{
    const struct found *first = a, *second = b;
    return (first->at > second->at) - (first->at < second->at);
}

static int compare_filled(const void *a, const void *b)
{
    const struct filled *first = a, *second = b;
    return (first->stack > second->stack) - (first->stack < second->stack);
}

static bool keep_bits(struct heap *heap, struct heap_span *span, const char *free, size_t words)
{
    if (heap->word_count + 2 * words > heap->word_room) {
        size_t room = 2 * heap->word_room + 2 * WORDS_MOST;
        uint64_t *bits = realloc(heap->bits, room * sizeof *bits);
        heap->starved |= bits == NULL;
        if (bits == NULL)
            return false;
        heap->word_room = room;
        heap->bits = bits;
    }
    span->bits = heap->word_count;
    memcpy(heap->bits + span->bits, free, words * sizeof *heap->bits);
    memset(heap->bits + span->bits + words, 0, words * sizeof *heap->bits);
    heap->word_count += 2 * words;
    return true;
}

/* A span's record as it was read, if it can be one and is where it was said to be. */
static bool keep_span(struct heap *heap, const struct found *found, const char *record, size_t size)
{
    struct span copy;
    memcpy(&copy, record, sizeof copy);
    struct heap_chunk *chunk = &heap->chunks[found->chunk];
    if (copy.class < CLASS_FIRST || copy.class > CLASS_LAST)
        return false;
    const struct sizeclass *class = &sizeclasses[copy.class];
    size_t bitmap = class->words * sizeof(uint64_t);
    if (copy.base != chunk->base + found->page * PAGE_SIZE || copy.capacity != class->capacity ||
        copy.free_count > copy.capacity || sizeof copy + bitmap > size ||
        found->page + class->pages > CHUNK_PAGES)
        return false;
    if (!grow(heap, &heap->spans, heap->span_count, sizeof *heap->spans))
        return false;
    struct heap_span *span = &heap->spans[heap->span_count];
    *span = (struct heap_span){
        .at = found->at,
        .arena = find_place(heap->arena_places, heap->arena_count, (uintptr_t)copy.owner),
        .chunk = found->chunk,
        .page = found->page,
        .pages = class->pages,
        .capacity = copy.capacity,
        .free_count = copy.free_count,
        .class = copy.class,
        .age = copy.age,
        .purged = copy.purged,
        .lazy = copy.lazy & copy.purged};
    if (heap->wants_blocks &&
        !keep_bits(heap, span, record + offsetof(struct span, free), class->words))
        return false;
    chunk->span[found->page] = (uint32_t)heap->span_count++;
    return true;
}

static void sort_finds(struct finds *finds)
{
    if (finds->found_count != 0)
        qsort(finds->found, finds->found_count, sizeof *finds->found, compare_found);
    if (finds->filled_count != 0)
        qsort(finds->filled, finds->filled_count, sizeof *finds->filled, compare_filled);
}

/* In the order of addresses, neighbours with one call. */
static void read_spans(struct heap *heap, const struct target *target, const struct finds *finds)
{
    size_t most = sizeof(struct span) + WORDS_MOST * sizeof(uint64_t);
    char *buffer = get_memory(heap, READ_MOST + most);
    for (size_t first = 0, end; first < finds->found_count && !heap->starved; first = end) {
        uintptr_t start = finds->found[first].at;
        for (end = first + 1; end < finds->found_count; end++)
            if (finds->found[end].at - finds->found[end - 1].at > SPAN_GAP ||
                finds->found[end].at - start >= READ_MOST)
                break;
        uintptr_t last = finds->found[end - 1].at;
        size_t size = last - start + most;
        bool whole = start + size > start && target_read(target, start, buffer, size);
        /* Its bitmap may be shorter, and nothing be mapped behind its OS page. */
        size_t least = round_up(last + sizeof(struct span), os_page_size) - start;
        if (!whole && least < size) {
            size = least;
            whole = target_read(target, start, buffer, size);
        }
        for (size_t i = first; i < end; i++) {
            size_t place = finds->found[i].at - start;
            if (!whole || finds->found[i].at % sizeof(void *) != 0 ||
                !keep_span(heap, &finds->found[i], buffer + place, size - place))
                heap->damaged++;
        }
    }
    free(buffer);
}

/* ---- What lies in caches --------------------------------------------------------------------- */

static struct heap_span *span_at(struct heap *heap, uintptr_t address)
{
    uint32_t place = find_place(heap->chunk_places, heap->chunk_count, address & ~(CHUNK_SIZE - 1));
    if (place == HEAP_NONE)
        return NULL;
    const struct heap_chunk *chunk = &heap->chunks[place];
    size_t page = address / PAGE_SIZE % CHUNK_PAGES;
    for (size_t back = 0; back < 8 && back <= page; back++) {
        uint32_t index = chunk->span[page - back];
        if (index != HEAP_NONE)
            return back < heap->spans[index].pages ? &heap->spans[index] : NULL;
    }
    return NULL;
}

static void mark_cached(struct heap *heap, struct heap_span *span, unsigned class, uintptr_t block)
{
    uintptr_t base = (uintptr_t)heap->chunks[span->chunk].base + span->page * PAGE_SIZE;
    size_t index = (block - base) / sizeclasses[class].size;
    uint64_t *free = heap->bits + span->bits, *cached = free + sizeclasses[class].words;
    uint64_t bit = (uint64_t)1 << index % 64;
    if (index >= span->capacity || (free[index / 64] & bit))
        return;
    span->cached += !(cached[index / 64] & bit);
    cached[index / 64] |= bit;
}

static void add_cached(struct heap *heap, unsigned class, uintptr_t block, struct sums *sums)
{
    struct heap_span *span = span_at(heap, block);
    if (span == NULL || span->class != class) {
        heap->damaged++;
        return;
    }
    sum_cached_block(sums, span->arena, class);
    if (heap->wants_blocks)
        mark_cached(heap, span, class, block);
}

static void add_bin(struct heap *heap, const struct filled *bin, const char *stack,
                    struct sums *sums)
{
    for (size_t at = 0; at < bin->bytes; at += sizeof(void *)) {
        uintptr_t block;
        memcpy(&block, stack + at, sizeof block);
        add_cached(heap, bin->class, block, sums);
    }
}

/* In the order of addresses, neighbours with one call; as many blocks as there were when the arenas
 * were read, which is what their other figures go with. */
static void read_caches(struct heap *heap, const struct target *target, const struct finds *finds,
                        struct sums *sums)
{
    const struct filled *bins = finds->filled;
    char *buffer = get_memory(heap, READ_MOST + CACHED_MOST * sizeof(void *));
    for (size_t first = 0, end; first < finds->filled_count && !heap->starved; first = end) {
        uintptr_t start = bins[first].stack;
        size_t size = bins[first].bytes;
        for (end = first + 1; end < finds->filled_count; end++) {
            size_t place = bins[end].stack - start;
            if (place > size + STACK_GAP || place >= READ_MOST)
                break;
            size = max_size(size, place + bins[end].bytes);
        }
        if (!target_read(target, start, buffer, size))
            continue;
        for (size_t i = first; i < end; i++)
            add_bin(heap, &bins[i], buffer + (bins[i].stack - start), sums);
    }
    free(buffer);
}

/* ---- The rest -------------------------------------------------------------------------------- */

static void read_huge_list(struct heap *heap, const struct target *target,
                           const struct huge_list *list, bool kept)
{
    struct walk walk = {0, 0};
    struct huge copy;
    for (struct huge *next = list->first; next != NULL; next = copy.next) {
        if (goes_astray(&walk, (uintptr_t)next, most_records(heap, sizeof copy)) ||
            !target_read(target, (uintptr_t)next, &copy, sizeof copy)) {
            heap->damaged++;
            return;
        }
        if ((uintptr_t)copy.start >> ADDRESS_BITS != 0 || copy.size >> ADDRESS_BITS != 0) {
            heap->damaged++;
            continue;
        }
        if (!grow(heap, &heap->huge, heap->huge_count, sizeof *heap->huge))
            return;
        heap->huge[heap->huge_count++] =
            (struct heap_huge){copy.start, copy.size, kept, copy.freed_ms};
    }
}

static void read_huge(struct heap *heap, const struct target *target, enum heap_depth depth,
                      struct sums *sums)
{
    struct huge_lists lists;
    if (!target_read(target, (uintptr_t)target->root.huge, &lists, sizeof lists))
        return;
    sums->huge = (struct huge_totals){.live_bytes = lists.live.bytes,
                                      .live_blocks = lists.live.count,
                                      .kept_bytes = lists.kept.bytes + lists.leaving.bytes,
                                      .peak_bytes = lists.peak_bytes};
    if (depth < HEAP_SPANS)
        return;
    read_huge_list(heap, target, &lists.live, false);
    read_huge_list(heap, target, &lists.kept, true);
    read_huge_list(heap, target, &lists.leaving, true);
}

static void read_meta(struct heap *heap, const struct target *target, struct sums *sums)
{
    struct meta_books *books = get_memory(heap, sizeof *books);
    if (books != NULL && target_read(target, (uintptr_t)target->root.meta, books, sizeof *books)) {
        sums->meta_used = books->used_bytes;
        sums->meta_mapped = books->mapped_bytes;
        size_t count = min_size(books->region_count, META_REGIONS);
        heap->regions = get_memory(heap, (count + 1) * sizeof *heap->regions);
        heap->region_count = heap->regions != NULL ? count : 0;
        if (heap->regions != NULL)
            memcpy(heap->regions, books->regions, count * sizeof *heap->regions);
    }
    free(books);
}

static void read_counters(struct heap *heap, const struct target *target)
{
    struct stats *stats = &heap->stats;
    struct purge_books purge = {0};
    struct purger_books purger = {0};
    struct chunk_books chunks = {0};
    struct pagemap_books page_map = {0};
    const struct root *root = &target->root;
    target_read(target, (uintptr_t)root->purge, &purge, sizeof purge);
    target_read(target, (uintptr_t)root->purger, &purger, sizeof purger);
    target_read(target, (uintptr_t)root->chunk_books, &chunks, sizeof chunks);
    stats->purged = purge.bytes;
    stats->purge_calls = purge.calls;
    stats->purge_us = purge.spent_us;
    stats->sweeps = purger.sweeps;
    stats->sweeps_us = purger.sweeps_us;
    stats->longest_sweep_us = purger.longest_us;
    stats->peak_chunks = chunks.peak_pages * PAGE_SIZE;
    stats->peak_out = purger.peak_out;
    target_read(target, (uintptr_t)root->page_map, &page_map, sizeof page_map);
    stats->page_map = page_map.leaf_bytes;
    stats->resident = target_status_bytes(target, "VmRSS");
    stats->peak_resident = max_size(target_status_bytes(target, "VmHWM"), stats->resident);
    heap->threads = target_status(target, "Threads", 10);
}

static void read_options(struct heap *heap, const struct target *target)
{
    heap->options = (struct options){0};
    target_read(target, (uintptr_t)target->root.options, &heap->options, sizeof heap->options);
    size_t *path = &heap->options.stats_file;
    char raw[OPTION_PATH_MOST] = "";
    if (*path != 0 && target_read(target, *path, raw, sizeof raw)) {
        raw[sizeof raw - 1] = '\0';
        text_tame(heap->stats_file, sizeof heap->stats_file, raw);
    }
    if (*path != 0)
        *path = (size_t)(uintptr_t)heap->stats_file;
}

/* ---- The whole ---------------------------------------------------------------------------------
 */

static enum exit_status give_up(struct heap *heap, const struct target *target,
                                enum exit_status status, const char *why)
{
    if (!target->silent)
        complain("%d: %s", (int)target->pid, why);
    heap_drop(heap);
    return status;
}

enum exit_status heap_read(struct heap *heap, const struct target *target, enum heap_depth depth)
{
    *heap = (struct heap){.wants_blocks = depth >= HEAP_BLOCKS};
    struct sums sums = {.stats = &heap->stats};
    struct finds finds = {0};
    os_init();
    heap->address_space = target_status_bytes(target, "VmSize");
    heap->resident_most =
        target_status_bytes(target, "VmRSS") + target_status_bytes(target, "VmSwap") + RESIDENT_LAG;
    target_hurry(true);
    read_arenas(heap, target, depth, &sums, &finds);
    read_chunks(heap, target, depth, &sums, &finds);
    read_huge(heap, target, depth, &sums);
    read_meta(heap, target, &sums);
    read_counters(heap, target);
    read_options(heap, target);
    target_hurry(false);
    if (depth >= HEAP_SPANS) {
        sort_finds(&finds);
        target_hurry(true);
        read_spans(heap, target, &finds);
        read_caches(heap, target, &finds, &sums);
        residency_ask(heap, target);
        target_hurry(false);
    }
    free(finds.found);
    free(finds.filled);
    if (heap->starved)
        return give_up(heap, target, EXIT_FAILED, "out of memory for what it holds");
    sum_up(&sums);
    heap->stats.peak_out = max_size(heap->stats.peak_out, sum_out(&heap->stats));
    if (heap->detail->arenas == 0 && heap->stats.resident == 0)
        return give_up(heap, target, EXIT_NO_PROCESS, "the process has ended");
    return EXIT_DONE;
}

void heap_drop(struct heap *heap)
{
    free(heap->detail);
    free(heap->chunks);
    free(heap->huge);
    free(heap->regions);
    free(heap->spans);
    free(heap->bits);
    free(heap->arena_places);
    free(heap->chunk_places);
    *heap = (struct heap){0};
}
