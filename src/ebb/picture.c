#include "picture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *need(void *memory)
{
    if (memory == NULL) {
        complain("map: out of memory");
        exit(EXIT_FAILED);
    }
    return memory;
}

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
    bool *known = need(calloc(pages + 1, sizeof *known));
    target_hurry(true);
    bool told = books >= 0 && target_read_resident(books, area->base / os_page_size, known, pages);
    target_hurry(false);
    for (size_t cell = 0; cell < area->cells; cell++)
        resident[cell] = !told || cell / per_page >= pages || known[cell / per_page];
    free(known);
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

struct picture picture_draw(const struct heap *heap, const struct target *target)
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

void picture_drop(struct picture *picture)
{
    free(picture->areas);
    free(picture->words);
    *picture = (struct picture){NULL, 0, NULL, 0};
}
