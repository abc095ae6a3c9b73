/* malloc.c: the front door: the C calls that hand out and take back blocks. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "arenas.h"
#include "ebbmalloc.h"
#include "guard.h"
#include "harden.h"
#include "huge.h"
#include "large.h"
#include "lone.h"
#include "options.h"
#include "os.h"
#include "pagemap.h"
#include "purger.h"
#include "sizeclass.h"
#include "text.h"

/* A block shrunk by realloc stays where it is while it fills this share of its size class. (What
 * becomes of a huge one is told in huge.c.) */
#define SHRINK_KEEPS(size, room) ((size) >= (room) / 4 * 3)

/* More than any address space holds: refused without a look at the memory there is. */
#define SIZE_MOST ((size_t)1 << ADDRESS_BITS)

/* A block that grows by less than this share of its room grows by so much, but not beyond the next
 * power of two, where such blocks often end: who adds a little will do it again, and each time a
 * block is copied, or locks are taken. Those of more than so many bytes only when their thread grew
 * them last, too: the share would be much in one that grows once. (Without the power of two redis'
 * lists, which grow to 8 KiB, took a fifth more memory.) */
#define GROW_SHARE 4
#define GROW_ONCE_MOST 1024

/* From so many bytes on a block that goes on growing gets pages of its own, out of so many times as
 * much room, if that is at hand: from there on it need not be copied. */
#define GROW_PAGES_LEAST (16 * KiB)
#define GROW_PAGES_ROOM 8
_Static_assert(GROW_PAGES_LEAST <= SMALL_MAX, "below, a block that grows is of a small class");

/* A multiple of this is beyond a chunk's ability to align a run without waste. */
#define RUN_ALIGNMENT_MAX (CHUNK_SIZE / 8)

/* ---- Slow paths ------------------------------------------------------------------------------ */

/* Over 4 MiB, or aligned to more than a page. *zero as in large.h. */
static void *alloc_pages(size_t size, size_t alignment, bool *zero)
{
    if (size <= LARGE_MAX && alignment <= RUN_ALIGNMENT_MAX)
        return large_alloc(size, alignment, zero);
    return huge_alloc(size, alignment, zero);
}

/* A class of a multiple of the alignment has all its blocks aligned (sizeclass.h). */
static void *alloc_plain(size_t size, size_t alignment, bool *zero)
{
    if (size > LARGE_MAX || alignment > PAGE_SIZE)
        return alloc_pages(size, alignment, zero);
    return arena_alloc(sizeclass_of(round_up(size, alignment)), zero);
}

size_t api_room(size_t size, size_t alignment)
{
    size = max_size(size, 1);
    if (size > SIZE_MOST || alignment > SIZE_MOST)
        return 0;
    arenas_prepare(); /* the options are read from here on */
    if (options.harden == HARDEN_ON)
        return size;
    if (size <= LARGE_MAX && alignment <= PAGE_SIZE)
        return sizeclasses[sizeclass_of(round_up(size, alignment))].size;
    if (size <= LARGE_MAX && alignment <= RUN_ALIGNMENT_MAX)
        return round_up(size, PAGE_SIZE);
    return huge_room(size);
}

/* True when a live block of a large class, which is that of its page, may begin there. */
static always_inline bool is_large(const void *pointer, unsigned class)
{
    return ((uintptr_t)pointer & (PAGE_SIZE - 1)) == 0 &&
           !cache_holds_large(&arena_self->cache, class * CODE_PER_CLASS, pointer);
}

/* Bytes of a live block, or 0 when pointer is none. */
static size_t room_of(const void *pointer)
{
    unsigned class = pagemap_class(pointer);
    if (likely(class <= CLASS_SMALL_LAST))
        return sizeclasses[class].size; /* 0 for CLASS_NONE */
    if (class <= CLASS_LAST)
        return is_large(pointer, class) ? sizeclasses[class].size : 0;
    bool entered = lone_enter();
    size_t size = class == CLASS_LARGE ? large_size(pointer) : huge_size(pointer);
    lone_leave(entered);
    return size;
}

static void *alloc_hardened(size_t size, size_t alignment, bool *zero)
{
    size_t room = harden_room(size, alignment);
    if (room <= SMALL_MAX && alignment <= PAGE_SIZE)
        return harden_alloc(sizeclass_of(room), size);
    void *block = alloc_plain(room, alignment, zero);
    if (block != NULL)
        harden_seal(block, room_of(block), size);
    return block;
}

static void *alloc_any(size_t size, size_t alignment, bool *zero)
{
    bool entered = lone_enter();
    arenas_join(); /* the options are read from here on */
    *zero = false;
    void *block = likely(options.harden == HARDEN_OFF) ? alloc_plain(size, alignment, zero)
                                                       : alloc_hardened(size, alignment, zero);
    lone_leave(entered);
    return block;
}

/* Guards take addresses that may be all that is missing: better none than no memory. A block that
 * is a mapping of its own would not find room in their places. */
static bool give_up_guards(size_t size)
{
    if (options.harden == HARDEN_OFF || size > LARGE_MAX)
        return false;
    bool entered = lone_enter();
    bool any = guard_allow_all();
    lone_leave(entered);
    return any;
}

static cold void *alloc_at_last(size_t size, size_t alignment, bool *zero)
{
    purger_reclaim();
    void *block = alloc_any(size, alignment, zero);
    if (block == NULL && give_up_guards(size))
        block = alloc_any(size, alignment, zero);
    return block;
}

/* size 0 counts as 1. Keeps errno unless it fails. */
static void *alloc_with_retry(size_t size, size_t alignment, bool *zero)
{
    int saved = errno;
    void *block = NULL;
    *zero = false;
    if (size == 0)
        size = 1;
    if (likely(size <= SIZE_MOST && alignment <= SIZE_MOST)) {
        block = alloc_any(size, alignment, zero);
        if (unlikely(block == NULL))
            block = alloc_at_last(size, alignment, zero);
        purger_tick();
    }
    errno = block != NULL ? saved : ENOMEM;
    return block;
}

void *api_alloc_large(size_t size)
{
    void *block;
    if (size != 0 && likely(size <= LARGE_MAX) &&
        likely(cache_pop(&arena_self->cache, sizeclass_large_code(size), &block)))
        return block;
    return api_alloc_slow(size);
}

cold void *api_alloc_slow(size_t size)
{
    bool zero;
    cache_leave(&arena_self->cache);
    return alloc_with_retry(size, MIN_ALIGNMENT, &zero);
}

/* What the cache has for an alignment that is a power of two; false when it has nothing, or is not
 * for such. */
static always_inline bool pop_aligned(size_t alignment, size_t size, void **block)
{
    struct cache *cache = &arena_self->cache;
    size_t rounded = round_up(size, alignment);
    if (unlikely((alignment | size) > SMALL_MAX) || unlikely(rounded - 1 >= SMALL_MAX))
        return false;
    if (likely(cache_pop(cache, cache->codes[(rounded - 1) >> 4], block)))
        return true;
    cache_leave(cache);
    return false;
}

/* What was asked for goes on as it is: at the first call of all the options are not read yet, and
 * the hardened mode remembers it. */
static cold void *alloc_aligned_slow(size_t alignment, size_t size)
{
    bool zero;
    return alloc_with_retry(size, alignment, &zero);
}

void *api_alloc_aligned(size_t alignment, size_t size)
{
    void *block;
    return likely(pop_aligned(alignment, size, &block)) ? block
                                                        : alloc_aligned_slow(alignment, size);
}

/* What an address that is no block looks like. */
static const char *describe(const void *pointer)
{
    if (huge_contains(pointer))
        return "points into a block, not at its start";
    unsigned class = pagemap_class((const void *)((uintptr_t)pointer & ~(MIN_ALIGNMENT - 1)));
    if (class >= CLASS_FIRST && class <= CLASS_LARGE)
        return "points into a block, not at its start";
    struct chunk *chunk = class == CLASS_NONE ? chunk_holding(pointer) : NULL;
    if (chunk == NULL)
        return "not a block of this allocator, or freed twice";
    return chunk_page_is_free(chunk, pointer) ? "freed twice, or never a block"
                                              : "points into a block, not at its start";
}

static cold _Noreturn void abort_on_foreign(const char *call, const void *pointer)
{
    text_abort(call, pointer, describe(pointer));
}

static size_t hardened_size(void *pointer, size_t room, const char *call)
{
    bool entered = lone_enter();
    size_t size = harden_size(pointer, room, call);
    lone_leave(entered);
    return size;
}

/* True when that was all: a small block. */
static bool free_hardened(void *pointer, const char *call)
{
    unsigned class = pagemap_class(pointer);
    bool is_small = class >= CLASS_FIRST && class <= CLASS_SMALL_LAST;
    size_t room = is_small ? 0 : room_of(pointer);
    if (is_small)
        harden_free(pointer, call);
    else if (room != 0)
        harden_size(pointer, room, call);
    return is_small;
}

/* False when pointer is no block. */
static bool free_any(void *pointer, const char *call)
{
    if (unlikely(options.harden == HARDEN_ON) && free_hardened(pointer, call))
        return true;
    unsigned class = pagemap_class(pointer);
    if (unlikely(class < CLASS_FIRST || class > CLASS_LAST))
        return (class == CLASS_LARGE && large_free(pointer)) ||
               (class == CLASS_HUGE && huge_free(pointer));
    arena_free(class, pointer);
    return true;
}

/* Keeps a large block in the cache; false when there is no room. */
static bool keep_large(void *pointer, unsigned class, const char *call)
{
    struct cache *cache = &arena_self->cache;
    unsigned code = class * CODE_PER_CLASS;
    if (unlikely(((uintptr_t)pointer & (PAGE_SIZE - 1)) != 0))
        abort_on_foreign(call, pointer);
    if (unlikely(cache_holds_large(cache, code, pointer)))
        text_abort(call, pointer, span_error_text(SPAN_FREED_TWICE));
    return cache_push_large(cache, code, pointer, &arena_self->limits[class]);
}

static cold void free_slow(void *pointer, const char *call)
{
    int saved = errno;
    if (pointer == NULL)
        return;
    bool entered = lone_enter();
    bool freed = free_any(pointer, call);
    lone_leave(entered);
    if (unlikely(!freed))
        abort_on_foreign(call, pointer);
    purger_tick();
    errno = saved;
}

__attribute__((noinline)) void api_free_slow(void *pointer, const char *call)
{
    cache_leave(&arena_self->cache);
    unsigned class = pagemap_class(pointer);
    bool is_large = class > CLASS_SMALL_LAST && class <= CLASS_LAST;
    if (!is_large || !keep_large(pointer, class, call))
        free_slow(pointer, call);
}

void api_free_sized_slow(void *pointer, size_t size, const char *call)
{
    size_t room;
    cache_leave(&arena_self->cache);
    if (unlikely(options.harden == HARDEN_ON) && pointer != NULL &&
        (room = room_of(pointer)) != 0 && hardened_size(pointer, room, call) != max_size(size, 1))
        text_abort(call, pointer, "freed with a size that it was not asked for with");
    api_free_slow(pointer, call);
}

/* ---- malloc, free ---------------------------------------------------------------------------- */

EXPORT hot_from_mid_line void *API(malloc)(size_t size)
{
    return api_alloc(size);
}

EXPORT hot void API(free)(void *pointer)
{
    api_free(pointer);
}

EXPORT void API(free_sized)(void *pointer, size_t size)
{
    api_free_sized(pointer, size, "free_sized");
}

EXPORT void API(free_aligned_sized)(void *pointer, size_t alignment, size_t size)
{
    (void)alignment;
    api_free_sized(pointer, size, "free_aligned_sized");
}

/* ---- calloc ---------------------------------------------------------------------------------- */

EXPORT hot void *API(calloc)(size_t count, size_t size)
{
    size_t bytes;
    if (unlikely(__builtin_mul_overflow(count, size, &bytes))) {
        errno = ENOMEM;
        return NULL;
    }
    if (bytes > SMALL_MAX) {
        bool zero;
        void *block = alloc_with_retry(bytes, MIN_ALIGNMENT, &zero);
        return block != NULL && !zero ? memset(block, 0, bytes) : block;
    }
    void *block = api_alloc(bytes);
    return likely(block != NULL) ? memset(block, 0, bytes) : NULL;
}

/* ---- realloc --------------------------------------------------------------------------------- */

/* Bytes of a live block that the program may use. Aborts in the name of `call` when pointer is no
 * block. */
static size_t size_of(void *pointer, const char *call)
{
    size_t room = room_of(pointer);
    if (unlikely(room == 0))
        abort_on_foreign(call, pointer);
    return likely(options.harden == HARDEN_OFF) ? room : hardened_size(pointer, room, call);
}

/* Whether it was this block that the thread grew last; if others share the arena, perhaps not. */
static always_inline bool grew_last(const void *pointer)
{
    return atomic_load_explicit(&arena_self->grown.block, memory_order_relaxed) == pointer;
}

static always_inline void note_grown(void *block, size_t size)
{
    struct arena *arena = arena_self;
    atomic_store_explicit(&arena->grown.block, block, memory_order_relaxed);
    atomic_store_explicit(&arena->grown.size, size, memory_order_relaxed);
}

/* True for a block that is growing, and finds the room that it took the last time. */
static bool grows_within(const void *pointer, size_t size)
{
    struct arena *arena = arena_self;
    if (!grew_last(pointer) ||
        size <= atomic_load_explicit(&arena->grown.size, memory_order_relaxed))
        return false;
    atomic_store_explicit(&arena->grown.size, size, memory_order_relaxed);
    return true;
}

static always_inline size_t next_power_of_two(size_t size)
{
    return (size_t)1 << (64 - __builtin_clzl(size - 1));
}

/* What to take for a block of `room` bytes that grows to size. */
static always_inline size_t size_to_grow(size_t room, size_t size, bool again)
{
    size_t more = room + room / GROW_SHARE;
    if ((room > GROW_ONCE_MOST && !again) || size >= more)
        return size;
    return min_size(more, next_power_of_two(size));
}

/* For a block that grows to size, with more room if there is memory for `wanted`. */
static __attribute__((noinline)) void *alloc_to_grow(size_t size, size_t wanted, bool again)
{
    int saved = errno;
    void *block = NULL;
    if (again && wanted > GROW_PAGES_LEAST && wanted <= LARGE_MAX) {
        bool entered = lone_enter();
        block = large_alloc_to_grow(wanted, next_power_of_two(wanted * GROW_PAGES_ROOM));
        lone_leave(entered);
        purger_tick();
    } else if (wanted != size && wanted <= LARGE_MAX) { /* huge ones grow without being copied */
        block = api_alloc(wanted);
    }
    if (block != NULL || (block = api_alloc(size)) != NULL)
        errno = saved;
    return block;
}

/* To a new place of its own. */
static void *move_block(void *pointer, void *block, size_t bytes)
{
    memcpy(block, pointer, bytes);
    api_free_as(pointer, "realloc");
    return block;
}

/* To a place that may be smaller, or, in the hardened mode, larger. */
static void *copy_block(void *pointer, size_t room, size_t size)
{
    int saved = errno;
    void *block = api_alloc(size);
    if (block == NULL && size <= room) {
        errno = saved; /* no program expects that shrinking fails */
        return pointer;
    }
    return block != NULL ? move_block(pointer, block, min_size(room, size)) : NULL;
}

/* A live block of a small class, which is known: what api_free would ask the page map for. */
static __attribute__((noinline)) void *grow_small(void *pointer, size_t size, unsigned class)
{
    struct cache *cache = &arena_self->cache;
    size_t room = sizeclasses[class].size;
    bool again = grew_last(pointer);
    size_t wanted = size_to_grow(room, size, again);
    void *block;
    if (unlikely(wanted > (again ? GROW_PAGES_LEAST : SMALL_MAX)) ||
        unlikely(!cache_pop(cache, cache->codes[(wanted - 1) >> 4], &block))) {
        cache_leave(cache);
        if ((block = alloc_to_grow(size, wanted, again)) == NULL)
            return NULL;
    }
    note_grown(block, size);
    memcpy(block, pointer, room);
    if (unlikely(!cache_push(&arena_self->cache, class * CODE_PER_CLASS, pointer)))
        api_free_slow(pointer, "realloc");
    return block;
}

/* For blocks that are runs or mappings, to more than SMALL_MAX bytes: where they stand, with more
 * room if `wanted` can be had, or as a mapping that moves. NULL when that cannot be, and then the
 * block is as it was, but perhaps without a class (large.h). */
static void *resize_pages(void *pointer, size_t size, size_t wanted)
{
    int saved = errno;
    unsigned class = pagemap_class(pointer);
    bool more = wanted != size;
    void *block = NULL;
    if (size > SIZE_MOST)
        return NULL;
    bool entered = lone_enter();
    if (class <= CLASS_LAST && size > LARGE_MAX && arena_let_go(pointer, size))
        class = CLASS_LARGE;
    if (class == CLASS_LARGE)
        block =
            more && large_resize_in_place(pointer, wanted) ? pointer : large_resize(pointer, size);
    else if (class == CLASS_HUGE)
        block = size > LARGE_MAX ? huge_resize(pointer, size) : NULL;
    else if (size <= LARGE_MAX && ((more && arena_resize_large(pointer, sizeclass_of(wanted))) ||
                                   arena_resize_large(pointer, sizeclass_of(size))))
        block = pointer;
    lone_leave(entered);
    purger_tick(); /* while it is the growth that is new, and what is free was so before */
    errno = saved;
    return block;
}

/* Once more, when there was no memory for a new place: whatever was free has been given back for
 * that, and the old place needs less. saved is errno before all of it. */
static void *resize_at_last(void *pointer, size_t size, int saved)
{
    void *block = resize_pages(pointer, size, size);
    if (block != NULL)
        errno = saved;
    return block;
}

/* A block of `was` bytes. */
static cold void *realloc_hardened(void *pointer, size_t was, size_t size)
{
    int saved = errno;
    size_t room = room_of(pointer), wanted = harden_room(size, MIN_ALIGNMENT);
    bool may_resize = room > SMALL_MAX && wanted > SMALL_MAX;
    void *block = NULL;
    if (size > SIZE_MOST)
        return copy_block(pointer, was, size);
    if (wanted <= room && room <= LARGE_MAX && SHRINK_KEEPS(wanted, room))
        block = pointer;
    else if (may_resize)
        block = resize_pages(pointer, wanted, wanted);
    if (block == NULL) {
        block = copy_block(pointer, was, size);
        if (block == NULL && may_resize)
            block = resize_at_last(pointer, wanted, saved);
        else if (block != pointer)
            return block;
        if (block == NULL)
            return NULL;
    }
    bool entered = lone_enter();
    harden_reseal(block, room_of(block), size, room, was);
    lone_leave(entered);
    return block;
}

/* A block of pages, of `room` bytes. */
static void *grow_pages(void *pointer, size_t room, size_t size)
{
    int saved = errno;
    bool again = grew_last(pointer);
    size_t wanted = size_to_grow(room, size, again);
    void *block = resize_pages(pointer, size, wanted);
    if (block == NULL) {
        block = alloc_to_grow(size, wanted, again);
        block =
            block != NULL ? move_block(pointer, block, room) : resize_at_last(pointer, size, saved);
    }
    if (block != NULL)
        note_grown(block, size);
    return block;
}

static __attribute__((noinline)) void *realloc_slow(void *pointer, size_t size)
{
    if (pointer == NULL)
        return api_alloc(size);
    size_t room = size_of(pointer, "realloc");
    if (unlikely(size == 0)) { /* as glibc does it */
        api_free_as(pointer, "realloc");
        return NULL;
    }
    if (unlikely(options.harden == HARDEN_ON))
        return realloc_hardened(pointer, room, size);
    if (size <= room && room <= LARGE_MAX &&
        (SHRINK_KEEPS(size, room) || sizeclasses[sizeclass_of(size)].size == room ||
         grows_within(pointer, size)))
        return pointer;
    if (size <= room) {
        void *block = size > SMALL_MAX ? resize_pages(pointer, size, size) : NULL;
        return block != NULL ? block : copy_block(pointer, room, size);
    }
    return grow_pages(pointer, room, size);
}

/* A block of pages stays where it is as others do, but for those over LARGE_MAX: of them all that
 * is not needed is given back, unless they are growing. */
static __attribute__((noinline)) void *realloc_pages(void *pointer, size_t size, unsigned class)
{
    size_t room = 0;
    if (class == CLASS_LARGE)
        room = large_size(pointer);
    else if (class <= CLASS_LAST && is_large(pointer, class))
        room = sizeclasses[class].size;
    if (size - 1 < room &&
        ((room <= LARGE_MAX && SHRINK_KEEPS(size, room)) || grows_within(pointer, size)))
        return pointer;
    return room != 0 && size > room ? grow_pages(pointer, room, size) : realloc_slow(pointer, size);
}

EXPORT hot void *API(realloc)(void *pointer, size_t size)
{
    unsigned class = pagemap_class(pointer);
    size_t room = sizeclasses[class].size; /* 0 for CLASS_NONE */
    if (unlikely(options.harden == HARDEN_ON))
        return realloc_slow(pointer, size);
    if (unlikely(class > CLASS_SMALL_LAST))
        return realloc_pages(pointer, size, class);
    if (likely(size - 1 < room && SHRINK_KEEPS(size, room)))
        return pointer;
    return likely(room != 0 && size > room) ? grow_small(pointer, size, class)
                                            : realloc_slow(pointer, size);
}

EXPORT void *API(reallocarray)(void *pointer, size_t count, size_t size)
{
    size_t bytes;
    if (unlikely(__builtin_mul_overflow(count, size, &bytes))) {
        errno = ENOMEM;
        return NULL;
    }
    return API(realloc)(pointer, bytes);
}

/* ---- Aligned blocks ---------------------------------------------------------------------------
 */

/* Does not touch errno. */
static cold int posix_memalign_slow(void **pointer, size_t alignment, size_t size)
{
    int saved = errno;
    void *block = alloc_aligned_slow(alignment, size);
    errno = saved;
    if (block == NULL)
        return ENOMEM;
    *pointer = block;
    return 0;
}

EXPORT hot int API(posix_memalign)(void **pointer, size_t alignment, size_t size)
{
    if (unlikely(!is_power_of_two(alignment)) || unlikely(alignment % sizeof(void *) != 0))
        return EINVAL;
    alignment = max_size(alignment, MIN_ALIGNMENT);
    if (unlikely(!pop_aligned(alignment, size, pointer)))
        return posix_memalign_slow(pointer, alignment, size);
    return 0;
}

/* An alignment that is no power of two counts as the next one, as in glibc. */
static cold void *memalign_odd(size_t alignment, size_t size)
{
    if (alignment > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t power = MIN_ALIGNMENT;
    while (power < alignment)
        power *= 2;
    return api_alloc_aligned(power, size);
}

EXPORT hot void *API(memalign)(size_t alignment, size_t size)
{
    if (unlikely(!is_power_of_two(alignment)) || unlikely(alignment < MIN_ALIGNMENT))
        return memalign_odd(alignment, size);
    return api_alloc_aligned(alignment, size);
}

EXPORT hot void *API(aligned_alloc)(size_t alignment, size_t size)
{
    return API(memalign)(alignment, size);
}

/* The size of an OS page; whoever asks may be the first to call anything. */
static size_t page_size(void)
{
    arenas_prepare();
    return os_page_size;
}

EXPORT void *API(valloc)(size_t size)
{
    return api_alloc_aligned(page_size(), size);
}

EXPORT void *API(pvalloc)(size_t size)
{
    size_t page = page_size();
    if (size > PTRDIFF_MAX - page) {
        errno = ENOMEM;
        return NULL;
    }
    return api_alloc_aligned(page, round_up(size, page));
}

/* ---- Questions --------------------------------------------------------------------------------
 */

static cold size_t usable_size_slow(void *pointer)
{
    if (pointer == NULL)
        return 0;
    return size_of(pointer, "malloc_usable_size");
}

EXPORT hot_from_mid_line size_t API(malloc_usable_size)(void *pointer)
{
    unsigned class = pagemap_class(pointer);
    bool is_block = class <= CLASS_SMALL_LAST || (class <= CLASS_LAST && is_large(pointer, class));
    size_t size = likely(is_block) ? sizeclasses[class].size : 0;
    return likely(size != 0) && likely(options.harden == HARDEN_OFF) ? size
                                                                     : usable_size_slow(pointer);
}

EXPORT const char *ebb_version(void)
{
    return EBB_VERSION;
}
