#include "residency.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A range of OS pages that is the heap's. */
struct piece {
    size_t first, end;
    bool metadata;
};

struct pieces {
    struct piece *piece;
    size_t count;
    size_t left; /* bytes: the process has no more than that */
};

/* False when it cannot be one. */
static bool add_piece(const void *start, size_t size, bool metadata, struct pieces *pieces)
{
    if (size > pieces->left || (uintptr_t)start >> ADDRESS_BITS != 0)
        return false;
    pieces->left -= size;
    size_t first = (uintptr_t)start / os_page_size;
    pieces->piece[pieces->count++] = (struct piece){first, first + size / os_page_size, metadata};
    return true;
}

static bool find_pieces(struct heap *heap, struct pieces *pieces)
{
    size_t most = heap->chunk_count + heap->huge_count + heap->region_count;
    pieces->piece = calloc(most + 1, sizeof *pieces->piece);
    heap->starved |= pieces->piece == NULL;
    bool fine = !heap->starved;
    for (size_t i = 0; i < heap->chunk_count && fine; i++)
        fine =
            add_piece(heap->chunks[i].base, heap->chunks[i].committed * PAGE_SIZE, false, pieces);
    for (size_t i = 0; i < heap->huge_count && fine; i++)
        fine = add_piece(heap->huge[i].start, heap->huge[i].mapped, false, pieces);
    for (size_t i = 0; i < heap->region_count && fine; i++)
        fine = add_piece(heap->regions[i].start, heap->regions[i].size, true, pieces);
    return fine;
}

static int compare_pieces(const void *a, const void *b)
{
    const struct piece *first = a, *second = b;
    return (first->first > second->first) - (first->first < second->first);
}

/* What the kernel has told: of some pages, from one on. */
struct told {
    size_t first, count;
    bool resident[RESIDENT_MOST];
};

/* Asks it of a page that the first of some pieces has, and of all behind it that they have. */
static bool ask_from(int books, size_t page, const struct piece *pieces, size_t count,
                     struct told *told)
{
    size_t last = page + RESIDENT_MOST, end = page;
    for (size_t i = 0; i < count && pieces[i].first < last; i++)
        end = max_size(end, pieces[i].end);
    told->first = page;
    told->count = min_size(end, last) - page;
    return target_read_resident(books, page, told->resident, told->count);
}

static bool count_resident(int books, const struct pieces *pieces, struct heap *heap)
{
    struct told told = {.count = 0};
    for (size_t i = 0; i < pieces->count; i++) {
        const struct piece *piece = &pieces->piece[i];
        size_t before = heap->kernel_resident;
        for (size_t page = piece->first; page < piece->end; page++) {
            if (page - told.first >= told.count &&
                !ask_from(books, page, piece, pieces->count - i, &told))
                return false;
            heap->kernel_resident += told.resident[page - told.first] * os_page_size;
        }
        if (piece->metadata)
            heap->kernel_metadata += heap->kernel_resident - before;
    }
    return true;
}

void residency_ask(struct heap *heap, const struct target *target)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/pagemap", (int)target->pid);
    int books = open(path, O_RDONLY | O_CLOEXEC);
    struct pieces pieces = {.left = heap->address_space};
    bool known = books >= 0 && find_pieces(heap, &pieces);
    if (pieces.count != 0)
        qsort(pieces.piece, pieces.count, sizeof *pieces.piece, compare_pieces);
    heap->kernel_known = known && count_resident(books, &pieces, heap);
    free(pieces.piece);
    if (books >= 0)
        close(books);
}
