#include "large.h"

#include "options.h"
#include "pagemap.h"

static size_t pages_for(size_t size)
{
    return (size + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

void *large_alloc(size_t size, size_t alignment, bool *zero)
{
    struct run run;
    if (!chunk_take_large(pages_for(size), max_size(alignment >> PAGE_SHIFT, 1), &run))
        return NULL;
    pagemap_set(run.start, 1, CLASS_LARGE);
    *zero = run.zero;
    return run.start;
}

size_t large_size(const void *block)
{
    struct chunk *chunk = pagemap_chunk(block);
    if (chunk == NULL || ((uintptr_t)block & (PAGE_SIZE - 1)) != 0)
        return 0;
    return chunk_large_pages(chunk, chunk_page(block)) * PAGE_SIZE;
}

bool large_free(void *block)
{
    if (large_size(block) == 0)
        return false;
    pagemap_set(block, 1, CLASS_NONE); /* before the page may be anyone's */
    if (options.harden == HARDEN_ON)
        chunk_detain_large(pagemap_chunk(block), chunk_page(block));
    else
        chunk_shorten_large(pagemap_chunk(block), chunk_page(block), 0);
    return true;
}

bool large_resize(void *block, size_t size)
{
    struct chunk *chunk = pagemap_chunk(block);
    size_t first = chunk_page(block), pages = chunk_large_pages(chunk, first);
    size_t wanted = pages_for(size);
    if (wanted > pages)
        return chunk_extend_large(chunk, first, wanted - pages);
    if (wanted < pages)
        chunk_shorten_large(chunk, first, wanted);
    return true;
}
