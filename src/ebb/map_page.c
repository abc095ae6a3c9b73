#include <stdlib.h>
#include <string.h>

#include "map_write.h"

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

static void pack_chunk(const struct heap_chunk *chunk, const struct heap *heap, struct bytes *bytes)
{
    size_t count = 0, last = 0;
    for (size_t page = 0; page < CHUNK_PAGES; page++)
        count += chunk->span[page] != HEAP_NONE;
    put_number(bytes, count + 1);
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

static struct packed_spans pack_spans(const struct picture *picture, const struct heap *heap)
{
    struct packed_spans spans = {{NULL, 0, 0}, NULL, 0};
    spans.chunks = need(calloc(picture->count + 1, sizeof *spans.chunks));
    for (size_t i = 0; i < picture->count; i++) {
        const struct area *area = &picture->areas[i];
        size_t start = spans.bytes.count;
        if (area->kind != AREA_CHUNK)
            continue;
        pack_chunk(&heap->chunks[area->chunk], heap, &spans.bytes);
        spans.chunks[spans.count++] = (struct packed_chunk){area->base, start, spans.bytes.count};
    }
    return spans;
}

void packed_spans_drop(struct packed_spans *spans)
{
    free(spans->bytes.byte);
    free(spans->chunks);
}

static bool is_same(const struct packed_spans *spans, const struct packed_chunk *chunk,
                    const struct packed_spans *before, const struct packed_chunk *old)
{
    size_t size = chunk->end - chunk->start;
    return size == old->end - old->start &&
           memcmp(spans->bytes.byte + chunk->start, before->bytes.byte + old->start, size) == 0;
}

/* Of the chunks that are as they were in the frame before, a zero alone. */
static void leave_out_same(const struct packed_spans *spans, const struct packed_spans *before,
                           struct bytes *bytes)
{
    size_t old = 0;
    for (size_t i = 0; i < spans->count; i++) {
        const struct packed_chunk *chunk = &spans->chunks[i];
        while (old < before->count && before->chunks[old].base < chunk->base)
            old++;
        if (old < before->count && before->chunks[old].base == chunk->base &&
            is_same(spans, chunk, before, &before->chunks[old]))
            put_byte(bytes, 0);
        else
            for (size_t at = chunk->start; at < chunk->end; at++)
                put_byte(bytes, spans->bytes.byte[at]);
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

void map_write_begin(const struct target *target, FILE *file)
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

void map_write_frame(const struct picture *picture, const struct picture *before,
                     const struct heap *heap, struct packed_spans *spans, uint64_t ms, FILE *file)
{
    struct bytes cells = {NULL, 0, 0}, changed = {NULL, 0, 0};
    struct packed_spans now = pack_spans(picture, heap);
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
    leave_out_same(&now, spans, &changed);
    fputs("],\n\"cells\": \"", file);
    write_base64(&cells, file);
    fputs("\",\n\"spans\": \"", file);
    write_base64(&changed, file);
    fputs("\"}", file);
    free(cells.byte);
    free(changed.byte);
    packed_spans_drop(spans);
    *spans = now;
}

void map_write_end(const struct target *target, const struct heap *heap, FILE *file)
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
