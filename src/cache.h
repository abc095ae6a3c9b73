/* cache.h: one thread's free blocks, ready to hand out: a stack of pointers per class, out of
 * band. malloc pops, free pushes, whichever arena the block came from.
 *
 * The biased lock. The owner's operations take no lock and make no atomic read-modify-write: each
 * brackets its few instructions with two plain stores, busy = 1 … busy = 0. Who else wants to work
 * on the cache (a visitor, who holds the arena's mutex throughout)
 *
 *   1. closes it: sets every bin's bounds so that each push and pop takes the slow path, where the
 *      owner waits for the mutex;
 *   2. makes all threads pass a memory barrier (membarrier, os_barrier_all);
 *   3. reads busy. If it is 0, the cache is the visitor's until he opens it again.
 *
 * Why that is enough: the owner's read of a bound comes either before the barrier that step 2 put
 * into its thread, and then its store of busy = 1, earlier still, is visible in step 3, until the
 * operation is over and its last store (release) says so; or after that barrier, and then it reads
 * a closed bound. The way back: the visitor opens with a release store, which the owner reads with
 * acquire; so it sees the stacks as they were left.
 *
 * The atomics with weak orders below compile to plain moves on x86-64. ThreadSanitizer does not
 * know membarrier; for it the same protocol runs with sequentially consistent ones.
 */
#ifndef EBB_CACHE_H
#define EBB_CACHE_H

#include <stdatomic.h>

#include "base.h"
#include "sizeclass.h"

/* Blocks that are fetched or brought back at a time: one lock for so many, the array of those that
 * go elsewhere, 4 KiB, fits on any thread's stack, and all of them into a mailbox. */
#define CACHE_BATCH 504

#ifdef EBB_THREAD_SANITIZER
#define CACHE_ENTER memory_order_seq_cst
#define CACHE_BOUND memory_order_seq_cst
#define CACHE_LEAVE memory_order_seq_cst
#define CACHE_CLOSE memory_order_seq_cst
#define CACHE_LOOK memory_order_seq_cst
#else
#define CACHE_ENTER memory_order_relaxed
#define CACHE_BOUND memory_order_acquire /* pairs with the release in cache_open */
#define CACHE_LEAVE memory_order_release /* pairs with the acquire in cache_is_busy */
#define CACHE_CLOSE memory_order_relaxed /* ordered by the barrier */
#define CACHE_LOOK memory_order_acquire
#endif

/* The bounds are the low halves of addresses: no cache straddles a multiple of 4 GiB (arenas.c sees
 * to it), so comparing them is comparing addresses. A bin of zeros is closed. */
struct bin {
    void **top;            /* where the next block goes */
    _Atomic uint32_t low;  /* pop while top is above */
    _Atomic uint32_t high; /* push while top is below */
};
_Static_assert(sizeof(struct bin) == CODE_PER_CLASS * sizeof(uint64_t), "codes are bin offsets");

/* The bins of CLASS_NONE, CLASS_LARGE and CLASS_HUGE stay closed for good, and those of large
 * classes for pushes: so the fast path of free sorts them out without a test of its own. */
struct cache {
    struct bin bins[CLASS_END];
    _Atomic uint8_t busy;
    uint8_t codes[SMALL_MAX / 16]; /* sizeclass_codes, where one address serves for both */
};

static always_inline struct bin *cache_bin(struct cache *cache, uint64_t code)
{
    return (struct bin *)((uint64_t *)cache->bins + code);
}

/* The same code, as far as the compiler knows another one: so it leaves the address of a bin to the
 * processor's addressing of memory, each time, and does not spend an instruction on it first. */
static always_inline uint64_t same_code(uint64_t code)
{
    __asm__("" : "+r"(code));
    return code;
}

static always_inline uint32_t low_half(void *const *slot)
{
    return (uint32_t)(uintptr_t)slot;
}

/* While the cache is closed a visitor may move a top that its owner is just reading. The owner
 * makes no use of it then (any top is beyond a closed bound), but both must be whole: relaxed. */
static always_inline void **cache_top(struct bin *bin)
{
    return __atomic_load_n(&bin->top, __ATOMIC_RELAXED);
}

static inline void cache_move_top(struct bin *bin, void **top)
{
    __atomic_store_n(&bin->top, top, __ATOMIC_RELAXED);
}

static always_inline void cache_enter(struct cache *cache)
{
    atomic_store_explicit(&cache->busy, 1, CACHE_ENTER);
    atomic_signal_fence(memory_order_seq_cst);
}

static always_inline void cache_leave(struct cache *cache)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&cache->busy, 0, CACHE_LEAVE);
}

/* Takes a block of the class that code stands for; false when there is none or the cache is
 * closed, and then the caller must call cache_leave. */
static always_inline bool cache_pop(struct cache *cache, uint64_t code, void **block)
{
    cache_enter(cache);
    uint32_t low = atomic_load_explicit(&cache_bin(cache, code)->low, CACHE_BOUND);
    code = same_code(code);
    void **top = cache_top(cache_bin(cache, code));
    if (unlikely(low_half(top) <= low))
        return false;
    code = same_code(code);
    cache_bin(cache, code)->top--;
    *block = top[-1];
    cache_leave(cache);
    return true;
}

/* Keeps a block; false when there is no room, the cache is closed, or the block is the one that was
 * kept last (freed twice in a row), and then the caller must call cache_leave. */
static always_inline bool cache_push(struct cache *cache, uint64_t code, void *block)
{
    cache_enter(cache);
    uint32_t high = atomic_load_explicit(&cache_bin(cache, code)->high, CACHE_BOUND);
    code = same_code(code);
    void **top = cache_top(cache_bin(cache, code));
    if (unlikely(low_half(top) >= high) || unlikely(top[-1] == block))
        return false;
    code = same_code(code);
    cache_bin(cache, code)->top++;
    *top = block;
    cache_leave(cache);
    return true;
}

/* The same for a large block, whose bin has no bound for pushes; limit: blocks that it may hold,
 * not read before the bound is. False when there is no room or the cache is closed. */
static inline bool cache_push_large(struct cache *cache, unsigned code, void *block,
                                    const uint16_t *limit)
{
    struct bin *bin = cache_bin(cache, code);
    cache_enter(cache);
    uint32_t low = atomic_load_explicit(&bin->low, CACHE_BOUND);
    void **top = cache_top(bin);
    bool has_room = low != UINT32_MAX && low_half(top) - low < *limit * sizeof *top;
    if (has_room) {
        *top = block;
        bin->top++;
    }
    cache_leave(cache);
    return has_room;
}

/* True when a large block lies in the bin of its class, of a few slots: it is free. For the owner,
 * who has not entered. */
static inline bool cache_holds_large(struct cache *cache, unsigned code, const void *block)
{
    struct bin *bin = cache_bin(cache, code);
    bool held = false;
    cache_enter(cache);
    uint32_t low = atomic_load_explicit(&bin->low, CACHE_BOUND);
    for (void **slot = cache_top(bin); low_half(slot) > low && !held; slot--)
        held = slot[-1] == block;
    cache_leave(cache);
    return held;
}

/* How a bin ends: nothing to pop, or no room for a push. */
enum bin_end { BIN_DRY, BIN_OVER };

/* ---- The slow path's part, under the arena's mutex (cache.c) -----------------------------------
 */

struct arena;
struct mistake;

static inline void cache_close_bin(struct bin *bin)
{
    atomic_store_explicit(&bin->low, UINT32_MAX, CACHE_CLOSE);
    atomic_store_explicit(&bin->high, 0, CACHE_CLOSE);
}

static inline bool cache_is_busy(struct cache *cache)
{
    return atomic_load_explicit(&cache->busy, CACHE_LOOK) != 0;
}

/* Computes where an arena's stacks lie; returns the size in bytes of an arena with its stacks.
 * Once, before the first arena. */
size_t cache_lay_out(void);

/* One more is in use, by a thread that was given its arena, or one fewer: what all may hold is
 * shared among them. */
void cache_count(bool more);

/* A new arena's cache: no bin has room yet. Returns the bytes of the arena that are not touched
 * until bins grow. */
size_t cache_begin(struct arena *arena);

/* True when the thread has long taken blocks of the class, a small one, and brought none back:
 * others free what it makes, and it will want those blocks again. */
bool cache_only_takes(const struct arena *arena, unsigned class);

/* Fills an empty bin and returns one block more, the lowest; NULL without memory. */
void *cache_refill(struct arena *arena, unsigned class, struct mistake *mistake);

/* Keeps a block for which cache_push found no room; older ones go back to their spans. Blocks of
 * other arenas are left in foreign, which has room for CACHE_BATCH, to be delivered; returns how
 * many. The block itself goes back too when the bin has no room at all, or when it is the first of
 * its class and the class shares cache lines: it may lie between blocks of the thread that made it,
 * and is not to be handed out here. */
size_t cache_keep(struct arena *arena, unsigned class, void *block, void **foreign,
                  struct mistake *mistake);

/* Takes up to `most` blocks out of the cache, and empties the mailbox; with may_wait the mutex is
 * let go of in between. Without, blocks of other arenas may stay. By the owner at his end, or by a
 * visitor. False when there was more than that. */
bool cache_flush(struct arena *arena, size_t most, bool may_wait, struct mistake *mistake);

/* After the last cache_flush, and before cache_open: no bin has room again; what did not leave the
 * cache stays where it is. True when no bin is in its full stack any more. */
bool cache_reset(struct arena *arena);

/* The same, and gives the memory of full stacks back. */
void cache_shrink(struct arena *arena);

/* A visitor's door: cache_is_busy tells when what is closed is his. */
void cache_close(struct arena *arena);
void cache_open(struct arena *arena);

/* Forgets what is in it, in the child of a fork: those blocks are lost. */
void cache_forget(struct arena *arena);

#endif
