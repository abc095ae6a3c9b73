#include "large.h"

#include "guard.h"
#include "huge.h"
#include "options.h"
#include "pagemap.h"

/* Less is copied in the time that two system calls take. */
#define MOVE_LEAST (256 * KiB)

static size_t pages_for(size_t size)
{
    return (size + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

static void *begin(const struct run *run)
{
    pagemap_set(run->start, 1, CLASS_LARGE);
    return run->start;
}

void *large_alloc(size_t size, size_t alignment, bool *zero)
{
    struct run run;
    if (!chunk_take_large(pages_for(size), max_size(alignment >> PAGE_SHIFT, 1), &run))
        return NULL;
    *zero = run.zero;
    return begin(&run);
}

void *large_alloc_to_grow(size_t size, size_t room)
{
    struct run run;
    size_t room_pages = min_size(room >> PAGE_SHIFT, CHUNK_PAGES);
    bool taken = chunk_take_large_at_hand(pages_for(size), room_pages, &run) ||
                 chunk_take_large(pages_for(size), 1, &run);
    return taken ? begin(&run) : NULL;
}

bool large_free(void *block)
{
    if (large_size(block) == 0)
        return false;
    struct chunk *chunk = pagemap_chunk(block);
    size_t first = chunk_page(block);
    pagemap_set(block, 1, CLASS_NONE); /* before the page may be anyone's */
    if (options.harden == HARDEN_ON)
        guard_detain(chunk, first, chunk_unmake_large(chunk, first));
    else
        chunk_shorten_large(chunk, first, 0);
    return true;
}

bool large_resize_in_place(void *block, size_t size)
{
    struct chunk *chunk = pagemap_chunk(block);
    size_t first = chunk_page(block), before = chunk_large_pages(chunk, first);
    size_t pages = pages_for(size);
    if (pages > CHUNK_PAGES)
        return false;
    if (pages > before)
        return chunk_extend_large(chunk, first, pages - before);
    if (pages < before)
        chunk_shorten_large(chunk, first, pages);
    return true;
}

/* Makes a huge block of what the block holds, which is moved, so that its pages are clean. In the
 * hardened mode they would be used again too soon. */
static void *move_out(char *block, size_t size)
{
    struct chunk *chunk = pagemap_chunk(block);
    size_t first = chunk_page(block), bytes = large_size(block), os_page = os_page_size - 1;
    bool may_move = bytes >= MOVE_LEAST && (((uintptr_t)block | bytes) & os_page) == 0;
    void *moved =
        may_move && options.harden == HARDEN_OFF ? huge_move_in(block, bytes, size) : NULL;
    if (moved != NULL) {
        pagemap_set(block, 1, CLASS_NONE);
        chunk_give_clean(chunk, first, chunk_unmake_large(chunk, first));
    }
    return moved;
}

void *large_resize(void *block, size_t size)
{
    if (large_resize_in_place(block, size))
        return block;
    return size > LARGE_MAX ? move_out(block, size) : NULL;
}
