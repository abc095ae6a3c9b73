#include "pieces.h"

/* ---- Records --------------------------------------------------------------------------------- */

struct huge *pieces_take_record(void)
{
    struct huge *record = huge_lists.unused;
    if (record != NULL)
        huge_lists.unused = record->next;
    return record;
}

static void put_record(struct huge *record)
{
    record->behind = NULL;
    record->next = huge_lists.unused;
    huge_lists.unused = record;
}

void pieces_drop(struct huge *row)
{
    for (struct huge *piece = row, *behind; piece != NULL; piece = behind) {
        behind = piece->behind;
        put_record(piece);
    }
}

/* ---- Rows ------------------------------------------------------------------------------------ */

size_t pieces_own(const struct huge *piece)
{
    return piece->behind != NULL ? (size_t)(piece->behind->start - piece->start) : piece->size;
}

struct huge *pieces_last(struct huge *row)
{
    while (row->behind != NULL)
        row = row->behind;
    return row;
}

struct huge *pieces_cut(struct huge *row, size_t size)
{
    char *end = row->start + size;
    struct huge *piece = row;
    while (piece->behind != NULL && piece->behind->start < end)
        piece = piece->behind;
    struct huge *rest = piece->behind;
    if (rest == NULL || rest->start != end) {
        struct huge *behind = rest;
        rest = pieces_take_record();
        if (rest == NULL)
            return NULL;
        *rest = (struct huge){.start = end, .mapping = piece->mapping, .behind = behind};
    }
    rest->size = row->size - size;
    rest->freed_ms = row->freed_ms;
    piece->behind = NULL;
    if (piece != row)
        piece->size = (size_t)(end - piece->start);
    row->size = size;
    return rest;
}

/* ---- Lists ----------------------------------------------------------------------------------- */

/* Behind a member of the list, or, behind NULL, at the front. */
static void add_behind(struct huge_list *list, struct huge *before, struct huge *block)
{
    struct huge *after = before != NULL ? before->next : list->first;
    block->previous = before;
    block->next = after;
    if (before != NULL)
        before->next = block;
    else
        list->first = block;
    if (after != NULL)
        after->previous = block;
    list->count++;
    list->bytes += block->size;
}

void pieces_add(struct huge_list *list, struct huge *block)
{
    add_behind(list, NULL, block);
}

void pieces_remove(struct huge_list *list, struct huge *block)
{
    if (block->previous != NULL)
        block->previous->next = block->next;
    else
        list->first = block->next;
    if (block->next != NULL)
        block->next->previous = block->previous;
    list->count--;
    list->bytes -= block->size;
}

static bool stand_together(const struct huge *first, const struct huge *second)
{
    return second != NULL && first->start + first->size == second->start;
}

static uint64_t ms_apart(uint64_t one, uint64_t other)
{
    return one > other ? one - other : other - one;
}

/* Makes one piece of two members of the list. It is as old as the older, so that what is used does
 * not keep its neighbour from growing old. */
static void join(struct huge_list *list, struct huge *first, struct huge *second)
{
    if (!stand_together(first, second) || first->mapping != second->mapping ||
        ms_apart(first->freed_ms, second->freed_ms) > PIECES_JOIN_MS)
        return;
    pieces_remove(list, second);
    first->size += second->size;
    list->bytes += second->size;
    if (second->freed_ms < first->freed_ms)
        first->freed_ms = second->freed_ms;
    put_record(second);
}

static void insert(struct huge_list *list, struct huge *piece)
{
    struct huge *before = NULL;
    for (struct huge *look = list->first; look != NULL && look->start < piece->start;
         look = look->next)
        before = look;
    add_behind(list, before, piece);
    join(list, piece, piece->next);
    if (before != NULL)
        join(list, before, piece);
}

void pieces_insert(struct huge_list *list, struct huge *row)
{
    uint64_t freed_ms = row->freed_ms;
    for (struct huge *piece = row, *behind; piece != NULL; piece = behind) {
        behind = piece->behind;
        piece->size = pieces_own(piece);
        piece->behind = NULL;
        piece->freed_ms = freed_ms;
        insert(list, piece);
    }
}

/* Makes a row longer by the piece that stands behind it. */
static void swallow(struct huge_list *list, struct huge *row, struct huge *piece)
{
    struct huge *last = pieces_last(row);
    pieces_remove(list, piece);
    row->size += piece->size;
    row->freed_ms = piece->freed_ms;
    if (piece->mapping != last->mapping) {
        last->behind = piece;
        return;
    }
    if (last != row)
        last->size += piece->size;
    put_record(piece);
}

/* Bytes of the pieces that stand side by side from this one on, at least `enough` if there are. */
static size_t bytes_from(const struct huge *piece, size_t enough)
{
    size_t bytes = piece->size;
    for (; bytes < enough && stand_together(piece, piece->next); piece = piece->next)
        bytes += piece->next->size;
    return bytes;
}

/* Makes a row at least size bytes long by pieces of the list from `piece` on, which stand behind it
 * and suffice. What it then has too much goes back. */
static void grow_into(struct huge_list *list, struct huge *row, struct huge *piece, size_t size)
{
    for (struct huge *next; row->size < size; piece = next) {
        next = piece->next;
        swallow(list, row, piece);
    }
    struct huge *rest = row->size > size ? pieces_cut(row, size) : NULL;
    if (rest != NULL)
        pieces_insert(list, rest);
}

struct huge *pieces_take_fitting(struct huge_list *list, size_t size, size_t alignment)
{
    struct huge *best = NULL;
    size_t best_bytes = SIZE_MAX;
    for (struct huge *piece = list->first; piece != NULL && best_bytes != size;
         piece = piece->next) {
        size_t bytes = bytes_from(piece, size);
        if (bytes < size || bytes >= best_bytes || ((uintptr_t)piece->start & (alignment - 1)) != 0)
            continue;
        best = piece;
        best_bytes = bytes;
    }
    if (best != NULL) {
        struct huge *next = best->next;
        pieces_remove(list, best);
        grow_into(list, best, next, size);
    }
    return best;
}

bool pieces_grow(struct huge_list *list, struct huge *block, size_t size)
{
    struct huge *piece = list->first;
    while (piece != NULL && piece->start < block->start)
        piece = piece->next;
    if (!stand_together(block, piece) || bytes_from(piece, size - block->size) < size - block->size)
        return false;
    grow_into(list, block, piece, size);
    return true;
}

/* The smallest that suffices, or else the largest; NULL when that has less than `least`. */
static struct huge *choose(const struct huge_list *list, size_t size, size_t least)
{
    struct huge *best = NULL;
    for (struct huge *piece = list->first; piece != NULL; piece = piece->next)
        if (best == NULL || (best->size < size ? piece->size > best->size
                                               : piece->size >= size && piece->size < best->size))
            best = piece;
    return best != NULL && best->size >= least ? best : NULL;
}

struct huge *pieces_gather(struct huge_list *list, size_t size, size_t least, unsigned most)
{
    struct huge *row = NULL, **end = &row, *piece;
    for (size_t left = size; left >= least && most != 0; most--) {
        if ((piece = choose(list, left, least)) == NULL)
            break;
        pieces_remove(list, piece);
        struct huge *rest =
            piece->size - min_size(left, piece->size) >= least ? pieces_cut(piece, left) : NULL;
        if (rest != NULL)
            pieces_insert(list, rest);
        left -= min_size(left, piece->size);
        *end = piece;
        end = &piece->behind;
    }
    return row;
}
