#include "cache.h"

#include <string.h>

#include "arena.h"
#include "meta.h"
#include "options.h"
#include "os.h"

_Static_assert(CACHE_BATCH <= MAILBOX_SLOTS, "a batch goes by mail when its owner is busy");

/* ---- Shape of the cache's stacks ------------------------------------------------------------ */

/* A bin holds at most so many bytes and so many blocks, but STACK_LEAST in any case. */
#define STACK_BYTES (1 * MiB)
#define STACK_MOST 4096
#define STACK_LEAST 4

/* Every bin begins in a small stack of one cache line, moves to a medium one when its limit grows
 * beyond, and then to its full one. The small ones stand side by side, and so do the medium ones,
 * so that a thread that keeps little touches little: the full ones begin on an OS page of their
 * own. The slot below each stack stays NULL for cache_push to compare with. */
#define STACK_SMALL (CACHE_LINE / sizeof(void *) - 1)
#define STACK_MEDIUM (9 * CACHE_LINE / sizeof(void *) - 1)

/* The stacks begin at a page of their own, of 4 KiB at least, so that they can be given back whole.
 */
#define ARENA_HEAD ((sizeof(struct arena) + 4095) & ~(size_t)4095)

/* What a bin may hold at first, when its class is used for the first time, in bytes. */
#define FIRST_LIMIT_BYTES (4 * KiB)

/* What a refill brings at most, in bytes, and half of what a bin holds that blocks only pass
 * through: blocks that nobody asked for yet count at the peak, and so do those that nobody will. */
#define BATCH_BYTES (64 * KiB)

/* All threads' bins together may hold so much; each at most so much of it, and no more than twice
 * what is out of its spans, but the least in any case: a thread that only frees what others made
 * has nothing out. (Half of that least cost producer and consumer a fifth of their speed, and saved
 * 5 % of their memory. Beyond 2 MiB a processor's own cache no longer holds what comes out of
 * ours.) */
#define BUDGET_ALL (16 * MiB)
#define BUDGET_LEAST (512 * KiB)
#define BUDGET_MOST (2 * MiB)

/* … or this share of what is out, if that is more. */
#define BUDGET_SHARE 16

/* So much goes for large blocks, of which a bin holds no more than its small stack does. */
#define LARGE_BUDGET_ALL (32 * MiB)
#define LARGE_BUDGET_LEAST (512 * KiB)
#define LARGE_BUDGET_MOST (8 * MiB)

/* In place of a large block, one that is up to two classes larger serves, and by a quarter at most:
 * the lowest classes are a page apart. */
#define LARGER_CLASSES 2
#define LARGER_MOST(size) ((size) / 4 * 5)

/* A block in a bin keeps its span from becoming empty and from serving other classes: 2 MiB of them
 * held 7 of the 64 MiB of a server of Lua states. So an arena with so much in spans empties its
 * bins before it makes another span, and again whenever it has grown by so much, or by this share.
 * One that shrinks and grows again by less than the other share is left alone. Of larger blocks a
 * span holds few: it would be dropped and made again. */
#define RECLAIM_LEAST (8 * MiB)
#define RECLAIM_GROWTH (256 * KiB)
#define RECLAIM_GROWTH_SHARE 256
#define RECLAIM_SWING_SHARE 8
#define RECLAIM_BLOCK_MOST (4 * KiB)

/* How large an arena is with its stacks, and where in it each class's full stack begins, in bytes.
 */
static size_t arena_size;
static size_t full_stack[CLASS_END];

/* How many are in use. */
static _Atomic size_t caches;

void cache_count(bool more)
{
    if (more)
        atomic_fetch_add_explicit(&caches, 1, memory_order_relaxed);
    else
        atomic_fetch_sub_explicit(&caches, 1, memory_order_relaxed);
}

static bool is_large(unsigned class)
{
    return class > CLASS_SMALL_LAST;
}

static size_t stack_most(unsigned class)
{
    size_t blocks = STACK_BYTES / sizeclasses[class].size;
    if (is_large(class))
        return STACK_SMALL; /* it is the budget that limits them */
    return blocks < STACK_LEAST ? STACK_LEAST : min_size(blocks, STACK_MOST);
}

static size_t small_stack(unsigned class)
{
    return ARENA_HEAD + (class - CLASS_FIRST) * CACHE_LINE + sizeof(void *);
}

static size_t medium_stack(unsigned class)
{
    return small_stack(CLASS_LAST + 1) + (class - CLASS_FIRST) * 9 * CACHE_LINE;
}

static size_t full_stack_bytes(unsigned class)
{
    return round_up(stack_most(class) * sizeof(void *), CACHE_LINE) + CACHE_LINE;
}

static void **stack_at(struct arena *arena, size_t offset)
{
    return (void **)((char *)arena + offset);
}

/* One cache line more than each stack needs, for the NULL below it, and since equal strides of
 * 4 KiB would put the tops of all stacks into one set of the processor's cache. */
size_t cache_lay_out(void)
{
    size_t offset = round_up(medium_stack(CLASS_SMALL_LAST + 1), 4096);
    for (unsigned class = CLASS_FIRST; class <= CLASS_SMALL_LAST; class ++) {
        full_stack[class] = offset + sizeof(void *);
        offset += full_stack_bytes(class);
    }
    arena_size = round_up(offset, 4096);
    return arena_size;
}

/* Large classes have no other than the small one. */
static bool is_full_stack(struct arena *arena, unsigned class)
{
    return !is_large(class) && arena->stacks[class] == stack_at(arena, full_stack[class]);
}

static void **stack_for(struct arena *arena, unsigned class, size_t limit)
{
    return stack_at(arena, limit <= STACK_SMALL    ? small_stack(class)
                           : limit <= STACK_MEDIUM ? medium_stack(class)
                                                   : full_stack[class]);
}

static size_t first_limit(unsigned class)
{
    return min_size(max_size(FIRST_LIMIT_BYTES / sizeclasses[class].size, 1), STACK_SMALL);
}

static size_t batch_most(unsigned class)
{
    return min_size(max_size(BATCH_BYTES / sizeclasses[class].size, 1), CACHE_BATCH);
}

/* ---- Limits ---------------------------------------------------------------------------------- */

static size_t bin_count(const struct arena *arena, unsigned class)
{
    return (size_t)(arena->cache.bins[class].top - arena->stacks[class]);
}

static void open_bin(struct arena *arena, unsigned class)
{
    struct bin *bin = &arena->cache.bins[class];
    void **start = arena->stacks[class];
    uint32_t room = (uint32_t)(arena->limits[class] * sizeof *start);
    /* Release: the owner reads a bound, then the stack, or the limit of a large class. */
    atomic_store_explicit(&bin->low, low_half(start), memory_order_release);
    if (!is_large(class))
        atomic_store_explicit(&bin->high, low_half(start) + room, memory_order_release);
}

static void set_limit(struct arena *arena, unsigned class, size_t limit)
{
    size_t *bytes = is_large(class) ? &arena->large_limit_bytes : &arena->limit_bytes;
    *bytes += (limit - arena->limits[class]) * sizeclasses[class].size;
    arena->limits[class] = (uint16_t)limit;
}

/* Makes room in the budget: halves the limit of a class that does not use its half. */
static void shrink_another(struct arena *arena, unsigned class)
{
    for (unsigned tries = 0; tries < 8; tries++) {
        arena->victim = arena->victim % CLASS_SMALL_LAST + 1;
        unsigned victim = arena->victim;
        size_t half = arena->limits[victim] / 2;
        if (victim == class || half < STACK_SMALL || bin_count(arena, victim) > half)
            continue;
        set_limit(arena, victim, half);
        open_bin(arena, victim);
        return;
    }
}

/* A thread's share of what all may hold. */
static size_t share_of(size_t all, size_t most, size_t least)
{
    size_t share = all / (atomic_load_explicit(&caches, memory_order_relaxed) + 1);
    return max_size(min_size(share, most), least);
}

static size_t large_budget(void)
{
    if (options.schedule == SCHEDULE_IMMEDIATE)
        return 0;
    return min_size(2 * options.thread_cache,
                    share_of(LARGE_BUDGET_ALL, LARGE_BUDGET_MOST, LARGE_BUDGET_LEAST));
}

static size_t budget(const struct arena *arena)
{
    size_t out = arena->span_bytes - arena->free_bytes;
    size_t share = share_of(BUDGET_ALL, min_size(2 * out, BUDGET_MOST), BUDGET_LEAST);
    return min_size(options.thread_cache, max_size(share, out / BUDGET_SHARE));
}

/* A bin that ran dry or over was too small for what the thread does. Its limit doubles, up to
 * `most` blocks, as long as the budget lasts; with steal at the cost of another. */
static void grow(struct arena *arena, unsigned class, size_t most, bool steal)
{
    size_t limit = arena->limits[class];
    size_t target = limit == 0 ? first_limit(class) : min_size(limit * 2, most);
    if (target <= limit || arena->stacks[class] == NULL || options.thread_cache == 0)
        return;
    size_t extra = (target - limit) * sizeclasses[class].size;
    if (is_large(class) && arena->large_limit_bytes + extra > large_budget())
        return;
    if (!is_large(class) && limit != 0 && arena->limit_bytes + extra > budget(arena)) {
        if (steal)
            shrink_another(arena, class);
        if (arena->limit_bytes + extra > budget(arena))
            return;
    }
    void **stack = stack_for(arena, class, target);
    if (stack > arena->stacks[class]) { /* the larger ones lie behind */
        size_t count = bin_count(arena, class);
        memcpy(stack, arena->stacks[class], count * sizeof *stack);
        arena->stacks[class] = stack;
        arena->cache.bins[class].top = stack + count;
        arena->stacks_touched = true;
        if (is_full_stack(arena, class) && !arena->full_touched[class]) {
            arena->full_touched[class] = true;
            meta_note(full_stack_bytes(class), 0);
        }
    }
    set_limit(arena, class, target);
    open_bin(arena, class);
}

/* Once in so many calls of the slow path it looks how long they took. */
#define CALM_CALLS 64
#define CALM_US (CALM_CALLS * 20)

/* Bins that seldom meet their ends are large enough: at one slow path in 20 us a larger cache would
 * save a percent, and holds what others may need. */
static bool is_calm(struct arena *arena)
{
    if (arena->calls++ % CALM_CALLS == 0) {
        uint64_t now = os_now_us();
        arena->calm = arena->calls_us != 0 && now - arena->calls_us > CALM_US;
        arena->calls_us = now;
    }
    return arena->calm;
}

/* In last_end: an end, and so much more for each time that the bin has met it again. */
#define END_AGAIN 2

/* True when the bin meets this end again, not having met the other: blocks pass through it, made
 * here and freed elsewhere or the other way round. A larger bin saves nothing then but locks. */
static bool is_passed(const struct arena *arena, unsigned class, enum bin_end end)
{
    return !is_large(class) && arena->last_end[class] % END_AGAIN == end;
}

/* A bin that ran dry so often, and never over, is that of a thread that makes what others free. */
#define ONLY_TAKES 32

bool cache_only_takes(const struct arena *arena, unsigned class)
{
    return is_passed(arena, class, BIN_DRY) && arena->limits[class] != 0 &&
           arena->last_end[class] / END_AGAIN >= ONLY_TAKES;
}

/* At an end of the bin. One that runs dry and over by turns is too small for what the thread does:
 * a larger one saves both ways. */
static void grow_at(struct arena *arena, unsigned class, enum bin_end end)
{
    bool passed = is_passed(arena, class, end);
    size_t most = passed ? min_size(stack_most(class), 2 * batch_most(class)) : stack_most(class);
    if (!passed)
        arena->last_end[class] = (uint8_t)end;
    else if (arena->last_end[class] / END_AGAIN < ONLY_TAKES)
        arena->last_end[class] += END_AGAIN;
    if (!is_calm(arena) || arena->limits[class] == 0)
        grow(arena, class, most, !passed);
}

/* ---- Blocks in and out -------------------------------------------------------------------------
 */

/* The small classes in a circle. (Not by a remainder: who looks at all of them waits for each.) */
static unsigned next_small(unsigned class)
{
    return class < CLASS_SMALL_LAST ? class + 1 : CLASS_FIRST;
}

/* A large block of a class that is a little larger, which saves giving one back and taking another
 * one; NULL when none of those bins has any. */
static void *larger_block(struct arena *arena, unsigned class)
{
    size_t most = LARGER_MOST(sizeclasses[class].size);
    unsigned last = min_size(class + LARGER_CLASSES, CLASS_LAST);
    for (unsigned larger = class + 1;
         is_large(class) && larger <= last && sizeclasses[larger].size <= most; larger++)
        if (bin_count(arena, larger) != 0)
            return *--arena->cache.bins[larger].top;
    return NULL;
}

/* Puts up to `wanted` blocks more into a bin; from spans that are there, unless it must have some.
 */
static size_t fill_bin(struct arena *arena, unsigned class, size_t wanted, bool must)
{
    struct bin *bin = &arena->cache.bins[class];
    void **top = bin->top;
    size_t taken = arena_take(arena, class, top + wanted, wanted, must);
    if (taken < wanted)
        memmove(top, top + wanted - taken, taken * sizeof *top);
    cache_move_top(bin, top + taken);
    return taken;
}

static size_t filling_of(const struct arena *arena, unsigned class)
{
    return min_size(max_size(arena->limits[class] / 2, 1), batch_most(class));
}

/* Fills other bins that blocks of the thread only pass out of, and that are nearly empty: one lock
 * for several. */
static void fill_passed(struct arena *arena, unsigned class)
{
    size_t left = CACHE_BATCH;
    for (unsigned look = 1; look < CLASS_SMALL_LAST && left != 0; look++) {
        class = next_small(class);
        if (!is_passed(arena, class, BIN_DRY) || arena->limits[class] <= STACK_SMALL)
            continue;
        size_t wanted = min_size(filling_of(arena, class), left);
        if (bin_count(arena, class) < wanted / 2)
            left -= fill_bin(arena, class, wanted, false);
    }
}

/* Takes the `count` oldest blocks out of a bin. Those of the arena itself go back to their spans;
 * the others are left in foreign, which has room for count; returns how many those are. */
static size_t flush_bin(struct arena *arena, unsigned class, size_t count, void **foreign,
                        struct mistake *mistake)
{
    struct bin *bin = &arena->cache.bins[class];
    void **stack = arena->stacks[class];
    size_t held = bin_count(arena, class), foreigners = 0;
    for (size_t i = 0; i < count;) {
        struct span *span = span_of(stack[i]);
        if (unlikely(span == NULL || span->class != class)) {
            *mistake = (struct mistake){SPAN_OTHER_CLASS, stack[i++]};
        } else if (span_owner(span) == arena) {
            i += arena_put_into(arena, span, stack + i, count - i, mistake);
        } else {
            do
                foreign[foreigners++] = stack[i++];
            while (i < count && span_holds(span, stack[i]));
        }
    }
    memmove(stack, stack + count, (held - count) * sizeof *stack);
    cache_move_top(bin, bin->top - count);
    return foreigners;
}

/* Empties this bin and others that blocks of the thread only pass into, as far as one batch goes:
 * one lock for several. */
static size_t flush_passed(struct arena *arena, unsigned class, void **foreign,
                           struct mistake *mistake)
{
    size_t left = CACHE_BATCH, foreigners = 0;
    for (unsigned look = 0; look < CLASS_SMALL_LAST && left != 0; look++) {
        if (is_passed(arena, class, BIN_OVER)) {
            size_t count = min_size(bin_count(arena, class), left);
            foreigners += flush_bin(arena, class, count, foreign + foreigners, mistake);
            left -= count;
        }
        class = next_small(class);
    }
    return foreigners;
}

/* A block that is not kept: 1 when it is left in foreign, 0 when it was the arena's own. */
static size_t bring_home(struct arena *arena, void *block, void **foreign, struct mistake *mistake)
{
    struct span *span = span_of(block);
    if (span == NULL || span_owner(span) != arena) {
        *foreign = block;
        return 1;
    }
    arena_put_into(arena, span, &block, 1, mistake);
    arena_drain(arena, mistake);
    return 0;
}

size_t cache_keep(struct arena *arena, unsigned class, void *block, void **foreign,
                  struct mistake *mistake)
{
    struct bin *bin = &arena->cache.bins[class];
    size_t foreigners = 0, held = bin_count(arena, class);
    bool passed = is_passed(arena, class, BIN_OVER), is_first = arena->limits[class] == 0;
    if (held >= arena->limits[class]) {
        arena->flushes++;
        grow_at(arena, class, BIN_OVER);
    }
    if (arena->limits[class] == 0 || (is_first && sizeclass_shares_lines(class)))
        return bring_home(arena, block, foreign, mistake);
    if (held >= arena->limits[class])
        foreigners = passed ? flush_passed(arena, class, foreign, mistake)
                            : flush_bin(arena, class, min_size(max_size(held / 2, 1), CACHE_BATCH),
                                        foreign, mistake);
    *bin->top++ = block;
    arena_drain(arena, mistake);
    return foreigners;
}

/* Flushes one bin as far as it goes without waiting for another arena, or may_wait. */
static void empty_bin(struct arena *arena, unsigned class, size_t *most, bool may_wait,
                      struct mistake *mistake)
{
    struct bin *bin = &arena->cache.bins[class];
    void *foreign[CACHE_BATCH];
    size_t kept = 0;
    for (size_t left; kept == 0 && *most != 0 && (left = bin_count(arena, class)) != 0;) {
        size_t flushed = min_size(min_size(left, CACHE_BATCH), *most);
        size_t count = flush_bin(arena, class, flushed, foreign, mistake);
        if (may_wait)
            lock_release(&arena->mutex);
        kept = arena_deliver(foreign, count, may_wait, mistake);
        if (may_wait)
            lock_acquire(&arena->mutex);
        *most -= flushed - kept;
        memcpy(bin->top, foreign, kept * sizeof *foreign);
        cache_move_top(bin, bin->top + kept);
    }
}

/* True before a span is made that makes the arena larger than it was when it last reclaimed. */
static bool must_reclaim(struct arena *arena, unsigned class)
{
    size_t bytes = arena->span_bytes;
    if (bytes < RECLAIM_LEAST || is_large(class) || arena_has_free(arena, class))
        return false;
    arena->reclaim_at = min_size(arena->reclaim_at, bytes + bytes / RECLAIM_SWING_SHARE);
    return bytes >= arena->reclaim_at;
}

static void reclaim(struct arena *arena, struct mistake *mistake)
{
    size_t bytes = arena->span_bytes; /* what goes now may come back before it grows */
    arena->reclaim_at = bytes + max_size(bytes / RECLAIM_GROWTH_SHARE, RECLAIM_GROWTH);
    for (unsigned class = CLASS_FIRST; class <= CLASS_SMALL_LAST; class ++) {
        size_t most = sizeclasses[class].size <= RECLAIM_BLOCK_MOST ? CACHE_BATCH : 0;
        empty_bin(arena, class, &most, false, mistake);
    }
}

/* Fills an empty bin to half its limit and returns one block more, the lowest. */
void *cache_refill(struct arena *arena, unsigned class, struct mistake *mistake)
{
    arena_drain(arena, mistake);
    arena->refills++;
    void *larger = larger_block(arena, class);
    if (larger != NULL)
        return larger;
    bool passed = is_passed(arena, class, BIN_DRY);
    grow_at(arena, class, BIN_DRY);
    if (arena->limits[class] == 0) { /* the commons, or a user who wants no caches */
        void *block;
        return arena_take(arena, class, &block + 1, 1, true) != 0 ? block : NULL;
    }
    if (unlikely(must_reclaim(arena, class)))
        reclaim(arena, mistake);
    if (fill_bin(arena, class, filling_of(arena, class), true) == 0)
        return NULL;
    if (passed && arena->limits[class] > STACK_SMALL)
        fill_passed(arena, class);
    struct bin *bin = &arena->cache.bins[class];
    cache_move_top(bin, bin->top - 1);
    return *bin->top;
}

bool cache_flush(struct arena *arena, size_t most, bool may_wait, struct mistake *mistake)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST && most != 0; class ++)
        empty_bin(arena, class, &most, may_wait, mistake);
    arena_drain(arena, mistake);
    return most != 0;
}

/* ---- As a whole --------------------------------------------------------------------------------
 */

size_t cache_begin(struct arena *arena)
{
    memcpy(arena->cache.codes, sizeclass_codes, sizeof arena->cache.codes);
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        struct bin *bin = &arena->cache.bins[class];
        arena->stacks[class] = bin->top = stack_at(arena, small_stack(class));
        open_bin(arena, class); /* with no room, until the class is used */
    }
    return arena_size - full_stack[CLASS_FIRST];
}

void cache_close(struct arena *arena)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++)
        cache_close_bin(&arena->cache.bins[class]);
}

void cache_open(struct arena *arena)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++)
        open_bin(arena, class);
}

bool cache_reset(struct arena *arena)
{
    bool all_small = true;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        if (bin_count(arena, class) == 0 && arena->stacks[class] != NULL) {
            arena->stacks[class] = stack_at(arena, small_stack(class));
            cache_move_top(&arena->cache.bins[class], arena->stacks[class]);
            set_limit(arena, class, 0);
            arena->last_end[class] %= END_AGAIN;
        }
        all_small = all_small && !is_full_stack(arena, class);
    }
    return all_small;
}

/* The commons have no stacks. */
void cache_shrink(struct arena *arena)
{
    bool all_small = cache_reset(arena);
    /* Whole OS pages inside; all that is read there again, the NULL below each stack, is zero. */
    bool empty = arena->limit_bytes == 0 && arena->large_limit_bytes == 0;
    uintptr_t stacks = (uintptr_t)arena + (empty ? small_stack(CLASS_FIRST) - sizeof(void *)
                                                 : full_stack[CLASS_FIRST] - sizeof(void *));
    char *start = (char *)round_up(stacks, os_page_size);
    char *end = (char *)(((uintptr_t)arena + arena_size) & ~(os_page_size - 1));
    if (!all_small || arena->stacks[CLASS_FIRST] == NULL || start >= end)
        return;
    os_purge(start, (size_t)(end - start));
    for (unsigned class = CLASS_FIRST; class <= CLASS_SMALL_LAST; class ++) {
        if (arena->full_touched[class])
            meta_note(0, full_stack_bytes(class));
        arena->full_touched[class] = false;
    }
    arena->stacks_touched = arena->stacks_touched && !empty;
}

void cache_forget(struct arena *arena)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++)
        arena->cache.bins[class].top = arena->stacks[class];
    atomic_store_explicit(&arena->cache.busy, 0, memory_order_relaxed);
}
