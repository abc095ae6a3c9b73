#include "large.h"

#include "pagemap.h"

static size_t pages_for(size_t size)
{
    return (size + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

void *large_alloc(struct chunk **home, size_t size, size_t alignment, bool *zero)
{
    struct run run;
    if (!chunk_take(home, pages_for(size), max_size(alignment >> PAGE_SHIFT, 1), &run))
        return NULL;
    lock_acquire(&run.chunk->lock);
    run.chunk->large[run.first] = (uint16_t)run.pages;
    run.chunk->large_pages += run.pages;
    lock_release(&run.chunk->lock);
    pagemap_set(run.start, 1, CLASS_LARGE);
    *zero = run.zero;
    return run.start;
}

/* Pages of the block, or 0; under the chunk's lock. */
static size_t pages_of(const struct chunk *chunk, const void *block)
{
    return ((uintptr_t)block & (PAGE_SIZE - 1)) == 0 ? chunk->large[chunk_page(block)] : 0;
}

bool large_free(void *block)
{
    struct chunk *chunk = pagemap_chunk(block);
    size_t first = chunk_page(block);
    if (chunk == NULL)
        return false;
    lock_acquire(&chunk->lock);
    size_t pages = pages_of(chunk, block);
    if (pages != 0) {
        chunk->large[first] = 0;
        chunk->large_pages -= pages;
    }
    lock_release(&chunk->lock);
    if (pages == 0)
        return false;
    pagemap_set(block, 1, CLASS_NONE);
    chunk_give(chunk, first, pages);
    return true;
}

size_t large_size(const void *block)
{
    struct chunk *chunk = pagemap_chunk(block);
    if (chunk == NULL)
        return 0;
    lock_acquire(&chunk->lock);
    size_t pages = pages_of(chunk, block);
    lock_release(&chunk->lock);
    return pages * PAGE_SIZE;
}

bool large_resize(void *block, size_t size)
{
    struct chunk *chunk = pagemap_chunk(block);
    size_t first = chunk_page(block), wanted = pages_for(size);
    size_t pages = large_size(block) / PAGE_SIZE;
    if (wanted > pages &&
        (first + wanted > CHUNK_PAGES || !chunk_extend(chunk, first, pages, wanted - pages)))
        return false;
    lock_acquire(&chunk->lock);
    chunk->large[first] = (uint16_t)wanted;
    chunk->large_pages += wanted - pages;
    lock_release(&chunk->lock);
    if (wanted < pages)
        chunk_give(chunk, first + wanted, pages - wanted);
    return true;
}
