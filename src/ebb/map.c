/* map.c: `ebb map PID -o FILE`: the picture of the heap, as a page for a browser (map.html, with
 * the data behind it) or as an SVG.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "heap.h"

/* What a cell shows, 4 KiB of addresses each, four bits: given back or never used; live, by tenths;
 * and the rest. The page's script has the same numbers. */
#define CELL_SIZE ((size_t)4096)
#define CELLS_PER_WORD 8
enum {
    CELL_EMPTY,
    CELL_LIVE = 1, /* … to 10 */
    CELL_FREE = 11,
    CELL_CACHED,
    CELL_METADATA,
    CELL_LAZY,
    CELL_UNTOUCHED, /* live and not resident */
};

enum area_kind { AREA_CHUNK, AREA_HUGE, AREA_KEPT, AREA_METADATA };

struct area {
    enum area_kind kind;
    uintptr_t base;
    size_t cells;
    size_t chunk;    /* an index, of AREA_CHUNK */
    uint64_t age_ms; /* of AREA_KEPT: since it was freed */
    size_t first;    /* its words in the picture */
};

struct picture {
    struct area *areas;
    size_t count;
    uint32_t *words;
    size_t word_count;
};

/* The largest picture, in cells: what a browser still takes with ease is twice as much. */
#define CELLS_MOST ((size_t)64 << 20)

static void *need(void *memory)
{
    if (memory == NULL) {
        complain("map: out of memory");
        exit(EXIT_FAILED);
    }
    return memory;
}

/* ---- The picture ----------------------------------------------------------------------------- */

static void set_cell(struct picture *picture, const struct area *area, size_t cell, unsigned state)
{
    if (cell < area->cells)
        picture->words[area->first + cell / CELLS_PER_WORD] |= (uint32_t)state
                                                               << cell % CELLS_PER_WORD * 4;
}

/* NULL when there is no room for it, or nothing to show of it. */
static struct area *add_area(struct picture *picture, enum area_kind kind, uintptr_t base,
                             size_t size)
{
    size_t cells = min_size(size / CELL_SIZE, CELLS_MOST - picture->word_count * CELLS_PER_WORD);
    if (cells == 0)
        return NULL;
    picture->areas = need(realloc(picture->areas, (picture->count + 1) * sizeof *picture->areas));
    picture->areas[picture->count++] =
        (struct area){.kind = kind, .base = base, .cells = cells, .first = picture->word_count};
    picture->word_count += (cells + CELLS_PER_WORD - 1) / CELLS_PER_WORD;
    return &picture->areas[picture->count - 1];
}

static int compare_areas(const void *a, const void *b)
{
    const struct area *first = a, *second = b;
    return (first->base > second->base) - (first->base < second->base);
}

/* Which cells are resident, by the kernel's books; all where it does not say. */
static void read_resident(int books, const struct area *area, bool *resident)
{
    size_t per_page = os_page_size / CELL_SIZE, pages = area->cells / per_page;
    uint64_t *entries = need(calloc(pages + 1, sizeof *entries));
    size_t bytes = pages * sizeof *entries;
    bool known =
        books >= 0 && pread(books, entries, bytes,
                            (off_t)(area->base / os_page_size * sizeof *entries)) == (ssize_t)bytes;
    for (size_t cell = 0; cell < area->cells; cell++)
        resident[cell] = !known || cell / per_page >= pages || entries[cell / per_page] >> 63;
    free(entries);
}

/* Adds what blocks [start, start + size) of a span hold to the bytes of each cell. */
static void spread(uint16_t *bytes, size_t start, size_t size)
{
    for (size_t at = start, end = start + size; at < end;) {
        size_t next = min_size((at / CELL_SIZE + 1) * CELL_SIZE, end);
        bytes[at / CELL_SIZE] += (uint16_t)(next - at);
        at = next;
    }
}

/* Cells of the largest span: LARGE_MAX. */
#define SPAN_CELLS (LARGE_MAX / CELL_SIZE)

static void draw_span(struct picture *picture, const struct area *area, const struct heap *heap,
                      const struct heap_span *span, const bool *resident)
{
    uint16_t live[SPAN_CELLS] = {0}, cached[SPAN_CELLS] = {0};
    const uint64_t *free = heap->bits + span->bits;
    const uint64_t *kept = free + sizeclasses[span->class].words;
    size_t size = sizeclasses[span->class].size, start = span->page * PAGE_SIZE;
    size_t first = start / CELL_SIZE, whole = round_up(start, os_page_size) - start;
    for (size_t block = 0; block < span->capacity; block++) {
        uint64_t bit = (uint64_t)1 << block % 64;
        if (!(free[block / 64] & bit))
            spread(kept[block / 64] & bit ? cached : live, block * size, size);
    }
    for (size_t cell = 0; cell < span->pages * PAGE_SIZE / CELL_SIZE; cell++) {
        size_t page = (cell * CELL_SIZE - whole) / os_page_size; /* beyond 64 before the first */
        uint64_t bit = page < 64 ? (uint64_t)1 << page : 0;
        bool here = first + cell < area->cells && resident[first + cell];
        unsigned state = CELL_FREE;
        if (live[cell] != 0)
            state = CELL_LIVE + min_size((live[cell] * 10 - 1) / CELL_SIZE, 9);
        else if (cached[cell] != 0)
            state = CELL_CACHED;
        else if (span->lazy & bit)
            state = CELL_LAZY;
        if (!here)
            state = live[cell] != 0 ? CELL_UNTOUCHED : CELL_EMPTY;
        set_cell(picture, area, first + cell, state);
    }
}

static void draw_pages(struct picture *picture, const struct area *area, size_t page, size_t pages,
                       unsigned state, const bool *resident)
{
    size_t per_page = PAGE_SIZE / CELL_SIZE;
    for (size_t cell = page * per_page; cell < (page + pages) * per_page; cell++) {
        bool here = cell < area->cells && resident[cell];
        bool is_live = state == CELL_LIVE + 9;
        set_cell(picture, area, cell, here ? state : is_live ? CELL_UNTOUCHED : CELL_EMPTY);
    }
}

static void draw_chunk(struct picture *picture, const struct area *area, const struct heap *heap,
                       const bool *resident)
{
    const struct heap_chunk *chunk = &heap->chunks[area->chunk];
    for (size_t page = 0, next; page < chunk->committed; page = next) {
        uint32_t span = chunk->span[page];
        next = page + 1;
        if (chunk->free[page / 64] >> page % 64 & 1) {
            bool lazy = chunk->free_state[PAGE_LAZY][page / 64] >> page % 64 & 1;
            draw_pages(picture, area, page, 1, lazy ? CELL_LAZY : CELL_FREE, resident);
        } else if (span != HEAP_NONE) {
            draw_span(picture, area, heap, &heap->spans[span], resident);
            next = page + heap->spans[span].pages;
        } else if (chunk->large[page] != 0) {
            next = page + chunk->large[page];
            draw_pages(picture, area, page, chunk->large[page], CELL_LIVE + 9, resident);
        }
    }
}

static void draw_area(struct picture *picture, const struct area *area, const struct heap *heap,
                      int books)
{
    static const unsigned states[] = {
        [AREA_HUGE] = CELL_LIVE + 9, [AREA_KEPT] = CELL_FREE, [AREA_METADATA] = CELL_METADATA};
    bool *resident = need(calloc(area->cells, sizeof *resident));
    read_resident(books, area, resident);
    if (area->kind == AREA_CHUNK)
        draw_chunk(picture, area, heap, resident);
    for (size_t cell = 0; cell < area->cells && area->kind != AREA_CHUNK; cell++) {
        unsigned absent = area->kind == AREA_HUGE ? CELL_UNTOUCHED : CELL_EMPTY;
        set_cell(picture, area, cell, resident[cell] ? states[area->kind] : absent);
    }
    free(resident);
}

static struct picture draw(const struct heap *heap, const struct target *target)
{
    struct picture picture = {NULL, 0, NULL, 0};
    char path[64];
    uint64_t now = os_now_ms();
    for (size_t i = 0; i < heap->chunk_count; i++) {
        uintptr_t base = (uintptr_t)heap->chunks[i].base;
        struct area *area = add_area(&picture, AREA_CHUNK, base, CHUNK_SIZE);
        if (area != NULL)
            area->chunk = i;
    }
    for (size_t i = 0; i < heap->huge_count; i++) {
        const struct heap_huge *huge = &heap->huge[i];
        enum area_kind kind = huge->kept ? AREA_KEPT : AREA_HUGE;
        struct area *area = add_area(&picture, kind, (uintptr_t)huge->start, huge->mapped);
        if (area != NULL)
            area->age_ms = now - min_size(huge->freed_ms, now);
    }
    for (size_t i = 0; i < heap->region_count; i++)
        add_area(&picture, AREA_METADATA, (uintptr_t)heap->regions[i].start, heap->regions[i].size);
    if (picture.count != 0)
        qsort(picture.areas, picture.count, sizeof *picture.areas, compare_areas);
    picture.words = need(calloc(picture.word_count + 1, sizeof *picture.words));
    snprintf(path, sizeof path, "/proc/%d/pagemap", (int)target->pid);
    int books = open(path, O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < picture.count; i++)
        draw_area(&picture, &picture.areas[i], heap, books);
    if (books >= 0)
        close(books);
    return picture;
}

static void drop_picture(struct picture *picture)
{
    free(picture->areas);
    free(picture->words);
    *picture = (struct picture){NULL, 0, NULL, 0};
}

/* ---- As a page for a browser ------------------------------------------------------------------
 */

/* Bytes that are gathered, and written in base 64. */
struct bytes {
    uint8_t *byte;
    size_t count, room;
};

static void put_byte(struct bytes *bytes, unsigned value)
{
    if (bytes->count == bytes->room) {
        bytes->room = max_size(4096, bytes->room * 2);
        bytes->byte = need(realloc(bytes->byte, bytes->room));
    }
    bytes->byte[bytes->count++] = (uint8_t)value;
}

/* Seven bits a byte, the low ones first. */
static void put_number(struct bytes *bytes, uint64_t value)
{
    for (; value > 127; value >>= 7)
        put_byte(bytes, (value & 127) | 128);
    put_byte(bytes, (unsigned)value);
}

static void put_run(struct bytes *bytes, size_t length, uint32_t word)
{
    if (length == 0)
        return;
    put_number(bytes, length);
    for (int shift = 0; shift < 32; shift += 8)
        put_byte(bytes, word >> shift & 255);
}

static void write_base64(const struct bytes *bytes, FILE *file)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes->count; i += 3) {
        uint32_t three = (uint32_t)bytes->byte[i] << 16;
        size_t left = bytes->count - i;
        three |= left > 1 ? (uint32_t)bytes->byte[i + 1] << 8 : 0;
        three |= left > 2 ? bytes->byte[i + 2] : 0;
        putc(letters[three >> 18], file);
        putc(letters[three >> 12 & 63], file);
        putc(left > 1 ? letters[three >> 6 & 63] : '=', file);
        putc(left > 2 ? letters[three & 63] : '=', file);
    }
}

static const uint32_t *words_before(const struct picture *before, const struct area *area)
{
    for (size_t i = 0; i < before->count; i++)
        if (before->areas[i].base == area->base && before->areas[i].cells == area->cells)
            return before->words + before->areas[i].first;
    return NULL;
}

/* What has changed since the frame before, in runs of equal words. */
static void pack_cells(const struct picture *picture, const struct picture *before,
                       struct bytes *bytes)
{
    uint32_t last = 0;
    size_t run = 0;
    for (size_t i = 0; i < picture->count; i++) {
        const struct area *area = &picture->areas[i];
        const uint32_t *old = words_before(before, area);
        size_t words = (area->cells + CELLS_PER_WORD - 1) / CELLS_PER_WORD;
        for (size_t word = 0; word < words; word++) {
            uint32_t value = picture->words[area->first + word] ^ (old != NULL ? old[word] : 0);
            if (run != 0 && value != last) {
                put_run(bytes, run, last);
                run = 0;
            }
            last = value;
            run++;
        }
    }
    put_run(bytes, run, last);
}

static void pack_spans(const struct picture *picture, const struct heap *heap, struct bytes *bytes)
{
    for (size_t i = 0; i < picture->count; i++) {
        if (picture->areas[i].kind != AREA_CHUNK)
            continue;
        const struct heap_chunk *chunk = &heap->chunks[picture->areas[i].chunk];
        size_t count = 0, last = 0;
        for (size_t page = 0; page < CHUNK_PAGES; page++)
            count += chunk->span[page] != HEAP_NONE;
        put_number(bytes, count);
        for (size_t page = 0; page < CHUNK_PAGES; page++) {
            if (chunk->span[page] == HEAP_NONE)
                continue;
            const struct heap_span *span = &heap->spans[chunk->span[page]];
            size_t out = span->capacity - span->free_count;
            put_number(bytes, page - last);
            put_number(bytes, span->class);
            put_number(bytes, span->arena == HEAP_NONE ? 0 : span->arena + 1);
            put_number(bytes, out - min_size(span->cached, out));
            put_number(bytes, min_size(span->cached, out));
            put_number(bytes, span->age & 3);
            last = page;
        }
    }
}

/* A tame name, in a script within a page. */
static void write_string(const char *text, FILE *file)
{
    putc('"', file);
    for (; *text != '\0'; text++)
        if (strchr("\"\\<>&", *text) != NULL)
            fprintf(file, "\\u%04x", *text);
        else
            putc(*text, file);
    putc('"', file);
}

static void write_begin(const struct target *target, FILE *file)
{
    static const char page[] =
#include "map_page.inc"
        ;
    fputs(page, file);
    fputs("const data = {\"name\": ", file);
    write_string(target->name, file);
    fprintf(file, ", \"pid\": %d, \"classes\": [[0,0,0]", (int)target->pid);
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++)
        fprintf(file, ",[%u,%u,%u]", sizeclasses[class].size, sizeclasses[class].pages,
                sizeclasses[class].capacity);
    fputs("],\n\"frames\": [", file);
}

static void write_frame(const struct picture *picture, const struct picture *before,
                        const struct heap *heap, struct bytes *last_spans, uint64_t ms, FILE *file)
{
    struct bytes cells = {NULL, 0, 0}, spans = {NULL, 0, 0};
    const struct stats *stats = &heap->stats;
    fprintf(file,
            "%s\n{\"ms\": %lu, \"stats\": {\"resident\": %zu, \"live\": %zu, \"cached\": %zu, "
            "\"spans\": %zu, \"dirty\": %zu, \"lazy\": %zu, \"kept\": %zu, \"metadata\": %zu, "
            "\"back\": %zu},\n\"areas\": [",
            before->words != NULL ? "," : "", ms, stats->resident,
            stats->small_live + stats->large_live + stats->huge_live, stats->cached,
            stats->small_free, stats->pages_dirty, stats->pages_lazy, stats->huge_kept,
            heap->kernel_metadata, stats->holes + stats->pages_clean);
    for (size_t i = 0; i < picture->count; i++) {
        const struct area *area = &picture->areas[i];
        fprintf(file, "%s[%d,\"0x%lx\",%zu,%lu]", i == 0 ? "" : ",", area->kind, area->base,
                area->cells, area->kind == AREA_KEPT ? area->age_ms : 0);
    }
    pack_cells(picture, before, &cells);
    pack_spans(picture, heap, &spans);
    fputs("],\n\"cells\": \"", file);
    write_base64(&cells, file);
    fputs("\",\n\"spans\": \"", file);
    bool same = last_spans->byte != NULL && spans.count == last_spans->count &&
                memcmp(spans.byte, last_spans->byte, spans.count) == 0;
    if (same)
        putc('=', file);
    else
        write_base64(&spans, file);
    fputs("\"}", file);
    free(cells.byte);
    free(last_spans->byte);
    *last_spans = spans;
}

static void write_end(const struct target *target, const struct heap *heap, FILE *file)
{
    fputs("],\n\"arenas\": [", file);
    for (size_t i = 0; i < heap->detail->arenas; i++) {
        const struct stats_arena *arena = &heap->detail->arena[i];
        char name[32] = "", text[64];
        if (arena->thread_id != 0 && !arena->orphan)
            target_thread_name(target, arena->thread_id, name, sizeof name);
        snprintf(text, sizeof text,
                 arena->thread_id == 0 ? "no thread"
                 : arena->orphan       ? "a thread that has ended"
                                       : "thread %d, %s",
                 arena->thread_id, name);
        fputs(i == 0 ? "" : ",", file);
        write_string(text, file);
    }
    fputs("]};\nbegin();\n</script>\n</html>\n", file);
}

/* ---- As an SVG --------------------------------------------------------------------------------
 */

/* A cell of this picture is one of our pages, 32 KiB; a chunk is 32 by 32 of them. */
#define SVG_ROW 32
#define SVG_COLUMNS 32

static const char *const svg_colours[] = {
    "#fff",    "#f2babb", "#e7a6a0", "#dc928b", "#d27f79", "#c86c66", "#bd5854", "#b34542",
    "#a8312f", "#9e1e1d", "#930a0a", "#969696", "#4285d6", "#8c5faf", "#c8cd96", "#ffe8e4"};

/* One state for eight cells: the live ones' mean, or else what there is most to see of. */
static unsigned state_of_word(uint32_t word)
{
    static const uint8_t order[] = {CELL_CACHED, CELL_FREE, CELL_METADATA, CELL_LAZY,
                                    CELL_UNTOUCHED};
    unsigned live = 0, seen = 0;
    for (int cell = 0; cell < CELLS_PER_WORD; cell++) {
        unsigned state = word >> cell * 4 & 15;
        live += state >= CELL_LIVE && state < CELL_FREE ? state : 0;
        seen |= 1u << state;
    }
    if (live != 0)
        return max_size(live / CELLS_PER_WORD, 1);
    for (size_t i = 0; i < sizeof order; i++)
        if (seen >> order[i] & 1)
            return order[i];
    return CELL_EMPTY;
}

struct svg_place {
    size_t rows; /* that were laid out, in blocks of 32 */
};

static void write_svg_state(const struct picture *picture, unsigned state, FILE *file)
{
    size_t row = 0;
    fprintf(file, "<path fill=\"%s\" d=\"", svg_colours[state]);
    for (size_t i = 0; i < picture->count; i++) {
        const struct area *area = &picture->areas[i];
        size_t words = (area->cells + CELLS_PER_WORD - 1) / CELLS_PER_WORD;
        for (size_t word = 0, run; word < words; word += run) {
            run = 1;
            if (state_of_word(picture->words[area->first + word]) != state)
                continue;
            while (word % SVG_ROW + run < SVG_ROW && word + run < words &&
                   state_of_word(picture->words[area->first + word + run]) == state)
                run++;
            size_t line = row + word / SVG_ROW;
            size_t x = line / SVG_ROW % SVG_COLUMNS * (SVG_ROW + 1) + word % SVG_ROW;
            size_t y = line / SVG_ROW / SVG_COLUMNS * (SVG_ROW + 1) + line % SVG_ROW;
            fprintf(file, "M%zu %zuh%zuv1h-%zuz", x, y, run, run);
        }
        row += (words + SVG_ROW - 1) / SVG_ROW;
    }
    fputs("\"/>\n", file);
}

static void write_svg_frame(size_t rows, size_t columns, FILE *file)
{
    fputs("<path fill=\"#fff\" d=\"", file);
    for (size_t block = 0; block * SVG_ROW < rows; block++)
        fprintf(file, "M%zu %zuh%dv%zuh-%dz", block % columns * (SVG_ROW + 1),
                block / columns * (SVG_ROW + 1), SVG_ROW, min_size(rows - block * SVG_ROW, SVG_ROW),
                SVG_ROW);
    fputs("\"/>\n", file);
}

static void write_escaped(const char *text, FILE *file)
{
    for (; *text != '\0'; text++)
        if (strchr("<>&\"", *text) != NULL)
            fprintf(file, "&#%d;", *text);
        else
            putc(*text, file);
}

static void write_svg_bar(const struct heap *heap, size_t width, FILE *file)
{
    const struct stats *stats = &heap->stats;
    const struct {
        const char *name, *colour;
        size_t bytes;
    } parts[] = {{"live", svg_colours[8], stats->small_live + stats->large_live + stats->huge_live},
                 {"in caches", svg_colours[CELL_CACHED], stats->cached},
                 {"free, resident", svg_colours[CELL_FREE],
                  stats->small_free + stats->pages_dirty + stats->huge_kept},
                 {"left to the kernel", svg_colours[CELL_LAZY], stats->pages_lazy},
                 {"metadata", svg_colours[CELL_METADATA], heap->kernel_metadata},
                 {"given back", svg_colours[CELL_EMPTY], stats->holes + stats->pages_clean}};
    double sum = 1, x = 0;
    size_t count = sizeof parts / sizeof *parts;
    for (size_t i = 0; i < count; i++)
        sum += (double)parts[i].bytes;
    for (size_t i = 0; i < count; i++) {
        double share = (double)parts[i].bytes / sum * (double)width;
        fprintf(file, "<rect x=\"%.2f\" y=\"40\" width=\"%.2f\" height=\"14\" fill=\"%s\"/>\n", x,
                share, parts[i].colour);
        x += share;
    }
    fprintf(file,
            "<rect x=\"0\" y=\"40\" width=\"%zu\" height=\"14\" fill=\"none\" "
            "stroke=\"#888\"/>\n",
            width);
    for (size_t i = 0; i < count; i++)
        fprintf(file,
                "<rect x=\"%zu\" y=\"%zu\" width=\"10\" height=\"10\" fill=\"%s\" stroke=\"#888\"/>"
                "<text x=\"%zu\" y=\"%zu\">%s %.1f MiB</text>\n",
                i % 3 * width / 3, 62 + i / 3 * 16, parts[i].colour, i % 3 * width / 3 + 15,
                71 + i / 3 * 16, parts[i].name, (double)parts[i].bytes / (double)MiB);
}

static void write_svg(const struct picture *picture, const struct heap *heap,
                      const struct target *target, FILE *file)
{
    size_t rows = 0;
    for (size_t i = 0; i < picture->count; i++) {
        size_t words = (picture->areas[i].cells + CELLS_PER_WORD - 1) / CELLS_PER_WORD;
        rows += (words + SVG_ROW - 1) / SVG_ROW;
    }
    size_t blocks = (rows + SVG_ROW - 1) / SVG_ROW, columns = min_size(max_size(blocks, 1), 32);
    size_t high = (blocks + SVG_COLUMNS - 1) / SVG_COLUMNS * (SVG_ROW + 1);
    size_t wide = columns * (SVG_ROW + 1), width = 720;
    double scale = min_size(width * 8 / wide, 64) / 8.0;
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%zu\" height=\"%.0f\" "
            "font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#f4f4f2\"/>\n<g "
            "transform=\"translate(10 0)\">\n<text x=\"0\" y=\"26\" font-size=\"15\">",
            width + 20, (double)high * scale + 120);
    write_escaped(target->name, file);
    fprintf(file, ", process %d: %.1f MiB resident. A dot is 32 KiB, a block 32 MiB.</text>\n",
            (int)target->pid, (double)heap->stats.resident / (double)MiB);
    write_svg_bar(heap, width, file);
    fprintf(file, "<g transform=\"translate(0 106) scale(%.3f)\" shape-rendering=\"crispEdges\">\n",
            scale);
    write_svg_frame(rows, SVG_COLUMNS, file);
    for (unsigned state = CELL_LIVE; state <= CELL_UNTOUCHED; state++)
        write_svg_state(picture, state, file);
    fputs("</g>\n</g>\n</svg>\n", file);
}

/* ---- The subcommand ---------------------------------------------------------------------------
 */

struct request {
    pid_t pid;
    const char *path;
    bool svg;
    uint64_t every_ms, for_ms; /* 0: once */
};

static void sleep_until(uint64_t ms)
{
    struct timespec at = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        continue;
}

/* One look after the other; a process that ends in between ends the film. */
static enum exit_status film(const struct request *request, const struct target *target, FILE *file)
{
    struct picture before = {NULL, 0, NULL, 0};
    struct bytes spans = {NULL, 0, 0};
    struct heap heap;
    uint64_t begin_ms = os_now_us() / 1000, taken = 0;
    enum exit_status status = heap_read(&heap, target, HEAP_BLOCKS);
    if (status != EXIT_DONE)
        return status;
    if (!request->svg)
        write_begin(target, file);
    for (;;) {
        struct picture picture = draw(&heap, target);
        if (request->svg)
            write_svg(&picture, &heap, target, file);
        else
            write_frame(&picture, &before, &heap, &spans, os_now_us() / 1000 - begin_ms, file);
        drop_picture(&before);
        before = picture;
        taken++;
        if (request->every_ms == 0 || taken * request->every_ms > request->for_ms)
            break;
        struct heap next;
        sleep_until(begin_ms + taken * request->every_ms);
        if (heap_read(&next, target, HEAP_BLOCKS) != EXIT_DONE)
            break;
        heap_drop(&heap);
        heap = next;
    }
    if (!request->svg)
        write_end(target, &heap, file);
    drop_picture(&before);
    free(spans.byte);
    heap_drop(&heap);
    return EXIT_DONE;
}

/* A time like 1s, 500ms or 2m. */
static bool parse_time(const char *text, uint64_t *ms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"", 1000}};
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (*text >= '0' && *text <= '9' && number <= 1000000 && strcmp(end, units[i].name) == 0) {
            *ms = number * units[i].ms;
            return *ms != 0;
        }
    return false;
}

static bool ends_in(const char *text, const char *end)
{
    size_t length = strlen(text), part = strlen(end);
    return length > part && strcmp(text + length - part, end) == 0;
}

static bool usage(const char *what, const char *value)
{
    complain("map: %s%s", value, what);
    return false;
}

static bool parse(int argc, char **argv, struct request *request)
{
    const char *pid = NULL;
    for (int i = 1; i < argc; i++) {
        const char *value = argv[i][0] == '-' && i + 1 < argc ? argv[i + 1] : NULL;
        if (argv[i][0] != '-' && pid == NULL)
            pid = argv[i];
        else if (argv[i][0] != '-')
            return usage(": one process id is expected, not two", argv[i]);
        else if (value != NULL && strcmp(argv[i], "-o") == 0)
            request->path = value, i++;
        else if (value != NULL && strcmp(argv[i], "--every") == 0 &&
                 parse_time(value, &request->every_ms))
            i++;
        else if (value != NULL && strcmp(argv[i], "--for") == 0 &&
                 parse_time(value, &request->for_ms))
            i++;
        else if (value != NULL &&
                 (strcmp(argv[i], "--every") == 0 || strcmp(argv[i], "--for") == 0))
            return usage(": a time like 500ms, 1s or 2m is expected", value);
        else
            return usage(": no such option, or it lacks its value; see ebb help map", argv[i]);
    }
    if (pid == NULL)
        return usage("a process id is expected; ebb top lists processes", "");
    if (request->path == NULL ||
        !(ends_in(request->path, ".html") || ends_in(request->path, ".svg")))
        return usage("-o FILE.html or -o FILE.svg is expected", "");
    request->svg = ends_in(request->path, ".svg");
    if ((request->every_ms == 0) != (request->for_ms == 0))
        return usage("--every and --for belong together", "");
    if (request->svg && request->every_ms != 0)
        return usage("an SVG shows one moment; --every is for -o FILE.html", "");
    request->pid = target_parse("map", pid);
    return request->pid != 0;
}

static int map(int argc, char **argv)
{
    struct request request = {0};
    struct target target;
    if (!parse(argc, argv, &request))
        return EXIT_USAGE;
    enum exit_status status = target_open(&target, request.pid, false);
    if (status != EXIT_DONE)
        return status;
    FILE *file = fopen(request.path, "we");
    if (file == NULL) {
        complain("%s: %s", request.path, strerror(errno));
        return EXIT_FAILED;
    }
    status = film(&request, &target, file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) {
        complain("%s: %s", request.path, strerror(errno));
        return EXIT_FAILED;
    }
    return status;
}

const struct command map_command = {
    "map",
    "PID -o FILE.html | FILE.svg",
    "draw the heap of a running process",
    "An HTML page shows each 4 KiB as a dot: red for live, the darker the more of\n"
    "it is; grey for free and resident; white for given back; blue for blocks in\n"
    "caches; violet for the library's own records. It can be zoomed and moved; what\n"
    "is under the pointer is told. It needs nothing but a browser. An SVG shows\n"
    "32 KiB as a dot.\n\n"
    "  -o FILE       where to; its ending says what\n"
    "  --every TIME  for a film with a slider: how often to look,\n"
    "  --for TIME    and how long: 500ms, 30s, 2m\n",
    map,
};
