/* api.h: how the front door's functions are named and exported, and what its files share.
 *
 * With EBB_PREFIXED, for tests that link the library into an ordinary program, malloc is called
 * ebb_malloc and so on, and nothing of the C library is replaced.
 */
#ifndef EBB_API_H
#define EBB_API_H

#include "arenas.h"
#include "base.h"
#include "cache.h"
#include "pagemap.h"
#include "sizeclass.h"

#ifdef EBB_PREFIXED
#define API(name) ebb_##name
#else
#define API(name) name
#endif

#define EXPORT __attribute__((visibility("default")))

/* malloc of more than SMALL_MAX bytes, or none. */
void *api_alloc_large(size_t size);

/* malloc for what the fast path leaves. Sets errno to ENOMEM and returns NULL when there is no
 * memory. */
void *api_alloc_slow(size_t size);

/* What memalign does, for an alignment that is a power of two of at least 16. */
void *api_alloc_aligned(size_t alignment, size_t size);

/* Bytes that malloc_usable_size tells at least of a block of that size and alignment (a power of
 * two of at least 16); 0 when there can be none. */
size_t api_room(size_t size, size_t alignment);

/* free for what the fast path leaves, large blocks among it: pointer of any kind; the cache may be
 * entered and not left. Aborts in the name of `call` when pointer is no block. */
void api_free_slow(void *pointer, const char *call);

/* The same when the caller said what size it has, which the hardened mode holds him to. */
void api_free_sized_slow(void *pointer, size_t size, const char *call);

/* malloc: a block from the cache, in the common case; large and slow find one in the others. */
static always_inline void *api_alloc_or(size_t size, void *(*large)(size_t), void *(*slow)(size_t))
{
    struct cache *cache = &arena_self->cache;
    void *block;
    if (unlikely(size - 1 >= SMALL_MAX))
        return large(size);
    if (likely(cache_pop(cache, cache->codes[(size - 1) >> 4], &block)))
        return block;
    return slow(size);
}

static always_inline void *api_alloc(size_t size)
{
    return api_alloc_or(size, api_alloc_large, api_alloc_slow);
}

/* free, in the name of `call`. */
static always_inline void api_free_as(void *pointer, const char *call)
{
    unsigned code;
    if (unlikely(!pagemap_find(pointer, &code)) ||
        unlikely(!cache_push(&arena_self->cache, code, pointer)))
        api_free_slow(pointer, call);
}

static always_inline void api_free(void *pointer)
{
    api_free_as(pointer, "free");
}

/* free of a block that the caller says has so many bytes. Only the hardened mode holds him to it:
 * the page map is asked all the same, which costs no time, and knows what is no block. */
static always_inline void api_free_sized(void *pointer, size_t size, const char *call)
{
    unsigned code;
    if (unlikely(!pagemap_find(pointer, &code)) ||
        unlikely(!cache_push(&arena_self->cache, code, pointer)))
        api_free_sized_slow(pointer, size, call);
}

#endif
