#include "arena.h"

#include <pthread.h>
#include <string.h>

#include "meta.h"
#include "options.h"
#include "text.h"

/* ---- Shape of the cache's stacks ------------------------------------------------------------ */

/* A bin holds at most so many bytes and so many blocks, but STACK_LEAST in any case. */
#define STACK_BYTES (512 * KiB)
#define STACK_MOST 2048
#define STACK_LEAST 4

/* Every bin begins in a small stack of one cache line, all of them side by side, so that a thread
 * that allocates little touches little; it moves to its full one when its limit grows beyond.
 * The slot below each stack stays NULL for cache_push to compare with. */
#define STACK_SMALL (CACHE_LINE / sizeof(void *) - 1)

/* What a bin may hold at first, when its class is used for the first time, in bytes. */
#define FIRST_LIMIT_BYTES (8 * KiB)

/* What a refill takes at most, in bytes: blocks that nobody asked for yet count at the peak. */
#define REFILL_BYTES (16 * KiB)

/* All threads' bins together may hold so much, whatever is live; each at least and at most so much
 * of it. A thread that only frees what others made has nothing live of its own. */
#define BUDGET_ALL (32 * MiB)
#define BUDGET_LEAST (256 * KiB)
#define BUDGET_MOST (4 * MiB)

/* … or this share of the bytes that are out of its spans, if that is more. */
#define BUDGET_SHARE 4

/* Blocks that are fetched or brought back at a time: one lock for so many, and the array of those
 * that go elsewhere, 2 KiB, fits on any thread's stack. */
#define BATCH_MOST 256

/* Arenas taken over with one membarrier. */
#define VISIT_BATCH 16

/* Spans whose holes are purged while a mutex is held: some 50 µs. */
#define HOLES_PER_HOLD 8

/* How long a visitor waits for an owner in the middle of its few instructions, who must have been
 * descheduled there: yields first, then sleeps of 50 µs. */
#define WAIT_YIELDS 64
#define WAIT_SLEEPS_VISIT 400  /* 20 ms */
#define WAIT_SLEEPS_FORK 20000 /* 1 s */
#define WAIT_SLEEP_US 50

/* Arenas before the first look for threads that ended without a word. */
#define FIRST_LOOK_FOR_DEAD 16

/* Stands in for the arena of a thread that has none yet; only its closed cache is ever used. */
static struct arena unborn;

/* For threads that have none any more. It has no stacks and no limits, so its cache is closed even
 * when it is open; it ends the list of all arenas, and is nobody's to adopt. */
static struct arena commons;

__thread struct arena *arena_self = &unborn;

static struct {
    struct lock lock;
    struct arena *_Atomic first; /* of all, the newest first, the commons last */
    struct arena *orphans;
    size_t next_count;            /* of arenas, when to look for dead threads again */
    _Atomic size_t count;         /* without the commons; written under the lock */
    size_t arena_size;            /* with its stacks, in bytes */
    size_t full_stack[CLASS_END]; /* offset of each class's full stack in an arena */
} arenas;

/* One takeover of several arenas at a time. */
static struct lock visit_lock;

static size_t stack_most(unsigned class)
{
    size_t blocks = STACK_BYTES / sizeclasses[class].size;
    return blocks < STACK_LEAST ? STACK_LEAST : min_size(blocks, STACK_MOST);
}

static size_t small_stack(unsigned class)
{
    return sizeof(struct arena) + (class - CLASS_FIRST) * CACHE_LINE + sizeof(void *);
}

static void **stack_at(struct arena *arena, size_t offset)
{
    return (void **)((char *)arena + offset);
}

/* One cache line more than each stack needs, for the NULL below it, and since equal strides of
 * 4 KiB would put the tops of all stacks into one set of the processor's cache. */
static void lay_out_stacks(void)
{
    size_t offset = round_up(small_stack(CLASS_LAST + 1), 4096);
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        arenas.full_stack[class] = offset + sizeof(void *);
        offset += round_up(stack_most(class) * sizeof(void *), CACHE_LINE) + CACHE_LINE;
    }
    arenas.arena_size = round_up(offset, 4096);
}

static size_t first_limit(unsigned class)
{
    return min_size(max_size(FIRST_LIMIT_BYTES / sizeclasses[class].size, 1), STACK_SMALL);
}

static size_t refill_most(unsigned class)
{
    return min_size(max_size(REFILL_BYTES / sizeclasses[class].size, 1), BATCH_MOST);
}

static struct arena *first_arena(void)
{
    return atomic_load_explicit(&arenas.first, memory_order_acquire);
}

static struct arena *next_arena(const struct arena *arena)
{
    return atomic_load_explicit(&arena->next, memory_order_relaxed);
}

/* ---- Lists of spans ------------------------------------------------------------------------- */

static void link_span(struct arena *arena, struct span *span)
{
    struct span *head = arena->partial[span->class];
    span->previous = NULL;
    span->next = head;
    if (head != NULL)
        head->previous = span;
    arena->partial[span->class] = span;
}

static void unlink_span(struct arena *arena, struct span *span)
{
    if (span->previous != NULL)
        span->previous->next = span->next;
    else
        arena->partial[span->class] = span->next;
    if (span->next != NULL)
        span->next->previous = span->previous;
}

/* ---- Spans that were used lately: the newest last -----------------------------------------------
 */

static void unlink_recent(struct arena *arena, struct span *span)
{
    if (span->previous_recent != NULL)
        span->previous_recent->next_recent = span->next_recent;
    else
        arena->oldest_recent = span->next_recent;
    if (span->next_recent != NULL)
        span->next_recent->previous_recent = span->previous_recent;
    else
        arena->newest_recent = span->previous_recent;
}

static void link_recent(struct arena *arena, struct span *span)
{
    span->next_recent = NULL;
    span->previous_recent = arena->newest_recent;
    if (arena->newest_recent != NULL)
        arena->newest_recent->next_recent = span;
    else
        arena->oldest_recent = span;
    arena->newest_recent = span;
}

static inline void touch(struct arena *arena, struct span *span)
{
    if (span->age == SPAN_SETTLED)
        link_recent(arena, span);
    span->age = SPAN_TOUCHED;
}

/* ---- Blocks out of spans and back, under the mutex of their owner ---------------------------- */

static struct span *add_span(struct arena *arena, unsigned class)
{
    struct span *span = span_create(arena, class, &arena->home);
    if (span == NULL)
        return NULL;
    size_t bytes = span->capacity * (size_t)sizeclasses[class].size;
    arena->span_bytes += bytes;
    arena->free_bytes += bytes;
    arena->spans++;
    link_span(arena, span);
    return span;
}

static void drop_span(struct arena *arena, struct span *span)
{
    size_t bytes = span->capacity * (size_t)sizeclasses[span->class].size;
    arena->span_bytes -= bytes;
    arena->free_bytes -= bytes;
    arena->spans--;
    unlink_span(arena, span);
    if (span->age != SPAN_SETTLED)
        unlink_recent(arena, span);
    span_destroy(span);
}

/* Takes up to `wanted` blocks, from a new span only if there is no other; see span_take for end. */
static size_t take_blocks(struct arena *arena, unsigned class, void **end, size_t wanted)
{
    size_t taken = 0;
    while (taken < wanted) {
        struct span *span = arena->partial[class];
        if (span == NULL && (taken != 0 || (span = add_span(arena, class)) == NULL))
            break;
        taken += span_take(span, end - taken, wanted - taken);
        touch(arena, span);
        if (span->free_count == 0)
            unlink_span(arena, span);
    }
    arena->free_bytes -= taken * sizeclasses[class].size;
    return taken;
}

/* Brings back blocks that lie in one span of the arena, from the first one on; returns how many. */
static size_t put_into(struct arena *arena, struct span *span, void *const *blocks, size_t count,
                       struct mistake *mistake)
{
    size_t before = span->free_count;
    size_t looked_at = span_put(span, blocks, count, mistake);
    size_t put = span->free_count - before;
    arena->free_bytes += put * sizeclasses[span->class].size;
    touch(arena, span);
    if (before == 0 && put != 0)
        link_span(arena, span);
    if (span->free_count == span->capacity && put != 0)
        drop_span(arena, span);
    return looked_at;
}

/* Brings back blocks that all belong to the arena, as far as one can tell. */
static void put_blocks(struct arena *arena, void *const *blocks, size_t count,
                       struct mistake *mistake)
{
    for (size_t i = 0; i < count;) {
        struct span *span = span_of(blocks[i]);
        if (likely(span != NULL && span->owner == arena))
            i += put_into(arena, span, blocks + i, count - i, mistake);
        else /* its span has gone since it was first freed */
            *mistake = (struct mistake){SPAN_FREED_TWICE, blocks[i++]};
    }
}

static void drain_mailbox(struct arena *arena, struct mistake *mistake)
{
    void *blocks[64];
    size_t count;
    while (!mailbox_is_empty(&arena->mailbox) &&
           (count = mailbox_take(&arena->mailbox, blocks, 64)) != 0)
        put_blocks(arena, blocks, count, mistake);
}

static void abort_on(const struct mistake *mistake)
{
    if (unlikely(mistake->error != SPAN_FINE))
        text_abort("free", mistake->block, span_error_text(mistake->error));
}

/* ---- Blocks to other arenas, no mutex of which may be held by the caller if may_wait ----------
 */

static struct arena *owner_of(void *block, struct mistake *mistake)
{
    struct span *span = span_of(block);
    struct arena *owner = likely(span != NULL) ? span->owner : NULL;
    if (unlikely(owner == NULL))
        *mistake = (struct mistake){SPAN_FREED_TWICE, block};
    return owner;
}

/* Moves the blocks of one owner to the end of the array and returns how many stay before them. */
static size_t set_apart(void **blocks, size_t count, const struct arena *owner,
                        struct mistake *mistake)
{
    size_t i = 0;
    while (i < count) {
        if (owner_of(blocks[i], mistake) == owner) {
            void *block = blocks[i];
            blocks[i] = blocks[--count];
            blocks[count] = block;
        } else {
            i++;
        }
    }
    return count;
}

/* Brings blocks of one owner back. Whoever holds the mutex of the owner may be descheduled: then
 * the blocks go into the mailbox, and only if that is full we wait. */
static bool deliver(struct arena *owner, void **blocks, size_t count, bool may_wait,
                    struct mistake *mistake)
{
    bool locked = lock_try(&owner->mutex);
    if (!locked && mailbox_put(&owner->mailbox, blocks, count)) {
        count = 0;
        /* The holder may have left before the mail came, and not look again for long. */
        locked = lock_try(&owner->mutex);
        if (!locked)
            return true;
    }
    if (!locked && !may_wait)
        return false;
    if (!locked)
        lock_acquire(&owner->mutex);
    owner->foreign_frees += count;
    put_blocks(owner, blocks, count, mistake);
    drain_mailbox(owner, mistake);
    lock_release(&owner->mutex);
    return true;
}

/* Brings blocks back, whoever owns them. Those that could not be brought without waiting stay at
 * the start of the array; returns how many. */
static size_t deliver_all(void **blocks, size_t count, bool may_wait, struct mistake *mistake)
{
    size_t kept = 0;
    while (count > kept) {
        struct arena *owner = owner_of(blocks[kept], mistake);
        size_t rest = kept + set_apart(blocks + kept, count - kept, owner, mistake);
        if (owner != NULL && !deliver(owner, blocks + rest, count - rest, may_wait, mistake)) {
            /* Keep these: to the front, behind the others that are kept. */
            for (; rest < count; rest++) {
                void *block = blocks[rest];
                blocks[rest] = blocks[kept];
                blocks[kept++] = block;
            }
        } else {
            count = rest;
        }
    }
    return kept;
}

/* ---- The cache, under the mutex -------------------------------------------------------------- */

static size_t bin_count(const struct arena *arena, unsigned class)
{
    return (size_t)(arena->cache.bins[class].top - arena->stacks[class]);
}

static void open_bin(struct arena *arena, unsigned class)
{
    struct bin *bin = &arena->cache.bins[class];
    void **start = arena->stacks[class];
    uint32_t room = (uint32_t)(arena->limits[class] * sizeof *start);
    /* Release: the owner reads a bound, then the stack. */
    atomic_store_explicit(&bin->low, low_half(start), memory_order_release);
    atomic_store_explicit(&bin->high, low_half(start) + room, memory_order_release);
}

static void set_limit(struct arena *arena, unsigned class, size_t limit)
{
    arena->limit_bytes += (limit - arena->limits[class]) * sizeclasses[class].size;
    arena->limits[class] = (uint16_t)limit;
}

/* Makes room in the budget: halves the limit of a class that does not use its half. */
static void shrink_another(struct arena *arena, unsigned class)
{
    for (unsigned tries = 0; tries < 8; tries++) {
        arena->victim = arena->victim % CLASS_LAST + 1;
        unsigned victim = arena->victim;
        size_t half = arena->limits[victim] / 2;
        if (victim == class || half < STACK_SMALL || bin_count(arena, victim) > half)
            continue;
        set_limit(arena, victim, half);
        open_bin(arena, victim);
        return;
    }
}

static size_t budget(const struct arena *arena)
{
    size_t part = BUDGET_ALL / (atomic_load_explicit(&arenas.count, memory_order_relaxed) + 1);
    size_t share = (arena->span_bytes - arena->free_bytes) / BUDGET_SHARE;
    part = max_size(min_size(part, BUDGET_MOST), BUDGET_LEAST);
    return min_size(options.thread_cache, max_size(part, share));
}

/* A bin that ran dry or over was too small for what the thread does. Its limit doubles, up to
 * `most` blocks, as long as the budget lasts. */
static void grow(struct arena *arena, unsigned class, size_t most)
{
    size_t limit = arena->limits[class];
    size_t target = limit == 0 ? first_limit(class) : min_size(limit * 2, most);
    if (target <= limit || arena->stacks[class] == NULL || options.thread_cache == 0)
        return;
    size_t extra = (target - limit) * sizeclasses[class].size;
    if (limit != 0 && arena->limit_bytes + extra > budget(arena)) {
        shrink_another(arena, class);
        if (arena->limit_bytes + extra > budget(arena))
            return;
    }
    void **full = stack_at(arena, arenas.full_stack[class]);
    if (target > STACK_SMALL && arena->stacks[class] != full) {
        size_t count = bin_count(arena, class);
        memcpy(full, arena->stacks[class], count * sizeof *full);
        arena->stacks[class] = full;
        arena->cache.bins[class].top = full + count;
    }
    set_limit(arena, class, target);
    open_bin(arena, class);
}

/* Fills an empty bin to half its limit and returns one block more, the lowest. */
static void *refill(struct arena *arena, unsigned class, struct mistake *mistake)
{
    drain_mailbox(arena, mistake);
    arena->refills++;
    grow(arena, class, min_size(2 * refill_most(class), stack_most(class)));
    if (arena->limits[class] == 0) { /* the commons, or a user who wants no caches */
        void *block;
        return take_blocks(arena, class, &block + 1, 1) != 0 ? block : NULL;
    }
    size_t wanted = min_size(max_size(arena->limits[class] / 2, 1), refill_most(class));
    void **stack = arena->stacks[class];
    size_t taken = take_blocks(arena, class, stack + wanted, wanted);
    if (taken == 0)
        return NULL;
    if (taken < wanted)
        memmove(stack, stack + wanted - taken, taken * sizeof *stack);
    arena->cache.bins[class].top = stack + taken - 1;
    return stack[taken - 1];
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
        } else if (span->owner == arena) {
            i += put_into(arena, span, stack + i, count - i, mistake);
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

/* Empties the cache as far as it goes without waiting for another arena. By its owner at exit, or
 * by a visitor. */
static void flush_cache(struct arena *arena, bool may_wait, struct mistake *mistake)
{
    void *foreign[BATCH_MOST];
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        struct bin *bin = &arena->cache.bins[class];
        for (size_t left; (left = bin_count(arena, class)) != 0;) {
            size_t count = flush_bin(arena, class, min_size(left, BATCH_MOST), foreign, mistake);
            if (count == 0)
                continue;
            if (may_wait)
                lock_release(&arena->mutex);
            size_t kept = deliver_all(foreign, count, may_wait, mistake);
            if (may_wait)
                lock_acquire(&arena->mutex);
            if (kept == 0)
                continue;
            memcpy(bin->top, foreign, kept * sizeof *foreign);
            cache_move_top(bin, bin->top + kept);
            break;
        }
    }
    drain_mailbox(arena, mistake);
}

/* ---- Threads come and go --------------------------------------------------------------------- */

#define EXIT_ROUNDS 3

static pthread_key_t exit_key;
static _Atomic int exit_key_state; /* EXIT_KEY_… */
enum { EXIT_KEY_NONE, EXIT_KEY_MAKING, EXIT_KEY_READY, EXIT_KEY_REFUSED };

/* Under the list's lock. */
static void add_orphan(struct arena *arena)
{
    arena->orphan = true;
    arena->next_orphan = arenas.orphans;
    arenas.orphans = arena;
}

/* Runs at the end of a thread. libc calls the destructors of all keys again as long as values are
 * set, four times at most, and ours is among the first in each round: so the arena is given up in
 * the third. Destructors that run later still work on the commons. */
static void thread_exit(void *value)
{
    struct arena *arena = value;
    struct mistake mistake = {SPAN_FINE, NULL};
    if (++arena->exit_rounds < EXIT_ROUNDS && pthread_setspecific(exit_key, arena) == 0)
        return;
    arena->exit_rounds = 0;
    arena_self = &commons;
    lock_acquire(&arena->mutex);
    flush_cache(arena, true, &mistake);
    lock_release(&arena->mutex);
    abort_on(&mistake);
    lock_acquire(&arenas.lock);
    add_orphan(arena);
    lock_release(&arenas.lock);
}

/* Makes sure that thread_exit will be called. Both calls into libc may allocate, which is why the
 * thread has its arena already. Without a key (a program may use up all 1,024) arenas of dead
 * threads are not adopted, which wastes memory and breaks nothing. */
static void watch_thread_exit(struct arena *arena)
{
    int expected = EXIT_KEY_NONE;
    if (atomic_compare_exchange_strong(&exit_key_state, &expected, EXIT_KEY_MAKING))
        atomic_store(&exit_key_state, pthread_key_create(&exit_key, thread_exit) == 0
                                          ? EXIT_KEY_READY
                                          : EXIT_KEY_REFUSED);
    while (atomic_load(&exit_key_state) == EXIT_KEY_MAKING)
        os_yield();
    if (atomic_load(&exit_key_state) == EXIT_KEY_READY)
        pthread_setspecific(exit_key, arena);
}

static bool straddles_4_gib(const struct arena *arena)
{
    uintptr_t first = (uintptr_t)arena, last = first + arenas.arena_size - 1;
    return first >> 32 != last >> 32;
}

/* The first thing that the library does. Under the list's lock, which orders it before whatever
 * reads the page size and the options. */
static void prepare(void)
{
    if (arenas.arena_size != 0)
        return;
    os_init();
    options_init();
    lay_out_stacks();
    commons.orphan = true;
    atomic_store_explicit(&arenas.first, &commons, memory_order_release);
}

/* Under the list's lock. */
static struct arena *make_arena(void)
{
    prepare();
    struct arena *arena = meta_alloc(arenas.arena_size);
    /* The cache compares low halves of addresses. One that straddles is left unused. */
    if (arena != NULL && straddles_4_gib(arena))
        arena = meta_alloc(arenas.arena_size);
    if (arena == NULL)
        return NULL;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        struct bin *bin = &arena->cache.bins[class];
        arena->stacks[class] = bin->top = stack_at(arena, small_stack(class));
        open_bin(arena, class); /* with no room, until the class is used */
    }
    atomic_store_explicit(&arena->next, atomic_load_explicit(&arenas.first, memory_order_relaxed),
                          memory_order_relaxed);
    /* Release: pairs with the acquire of those who walk the list without its lock. */
    atomic_store_explicit(&arenas.first, arena, memory_order_release);
    arenas.count++;
    return arena;
}

/* Under the list's lock. Makes orphans of arenas whose threads ended without saying so: they made
 * their first call after their key destructors had run, or there was no key to be had. Looks when
 * there are twice as many arenas as the last time. */
static void find_dead(void)
{
    if (arenas.count < arenas.next_count)
        return;
    for (struct arena *arena = first_arena(); arena != NULL; arena = next_arena(arena))
        if (!arena->orphan && !os_thread_exists(arena->thread_id))
            add_orphan(arena);
    arenas.next_count = max_size(2 * arenas.count, FIRST_LOOK_FOR_DEAD);
}

static struct arena *adopt(void)
{
    struct arena *arena = arenas.orphans;
    if (arena != NULL) {
        arenas.orphans = arena->next_orphan;
        arena->orphan = false;
    }
    return arena;
}

/* Gives the thread an arena: an orphan, or a new one, or, without memory, the commons for now. */
static cold struct arena *join(void)
{
    lock_acquire(&arenas.lock);
    struct arena *arena = adopt();
    if (arena == NULL) {
        find_dead();
        arena = adopt();
    }
    if (arena == NULL)
        arena = make_arena();
    if (arena != NULL)
        arena->thread_id = os_thread_id();
    lock_release(&arenas.lock);
    if (arena == NULL)
        return &commons;
    arena_self = arena;
    watch_thread_exit(arena);
    return arena_self;
}

static struct arena *current(void)
{
    return likely(arena_self != &unborn) ? arena_self : join();
}

struct chunk **arena_home(void)
{
    return &current()->home;
}

/* ---- Slow paths ------------------------------------------------------------------------------ */

void *arena_alloc(unsigned class)
{
    cache_leave(&arena_self->cache);
    struct arena *arena = current();
    struct bin *bin = &arena->cache.bins[class];
    struct mistake mistake = {SPAN_FINE, NULL};
    void *block;
    lock_acquire(&arena->mutex);
    if (bin->top > arena->stacks[class]) /* it was closed, not empty */
        block = *--bin->top;
    else
        block = refill(arena, class, &mistake);
    lock_release(&arena->mutex);
    abort_on(&mistake);
    return block;
}

/* Under the mutex. Blocks that have to go to other arenas are left in foreign. */
static size_t keep(struct arena *arena, unsigned class, void *block, void **foreign,
                   struct mistake *mistake)
{
    struct bin *bin = &arena->cache.bins[class];
    size_t foreigners = 0;
    if (bin_count(arena, class) >= arena->limits[class]) {
        arena->flushes++;
        grow(arena, class, stack_most(class));
    }
    if (arena->limits[class] == 0) {
        *foreign = block;
        return 1;
    }
    size_t count = min_size(max_size(arena->limits[class] / 2, 1), BATCH_MOST);
    if (bin_count(arena, class) >= arena->limits[class])
        foreigners = flush_bin(arena, class, count, foreign, mistake);
    *bin->top++ = block;
    drain_mailbox(arena, mistake);
    return foreigners;
}

void arena_free(unsigned class, void *block)
{
    cache_leave(&arena_self->cache);
    struct arena *arena = current();
    struct mistake mistake = {SPAN_FINE, NULL};
    void *foreign[BATCH_MOST];
    size_t foreigners = 0;
    lock_acquire(&arena->mutex);
    if (arena->limits[class] != 0 && arena->cache.bins[class].top[-1] == block)
        mistake = (struct mistake){SPAN_FREED_TWICE, block};
    else
        foreigners = keep(arena, class, block, foreign, &mistake);
    lock_release(&arena->mutex);
    if (foreigners != 0)
        deliver_all(foreign, foreigners, true, &mistake);
    abort_on(&mistake);
}

/* ---- Takeovers ------------------------------------------------------------------------------- */

static void close_cache(struct arena *arena)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++)
        cache_close_bin(&arena->cache.bins[class]);
}

static void open_cache(struct arena *arena)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++)
        open_bin(arena, class);
}

/* After close_cache and the barrier: true when the cache is ours. */
static bool wait_for_owner(struct arena *arena, unsigned sleeps)
{
    for (unsigned look = 0; look < WAIT_YIELDS; look++) {
        if (!cache_is_busy(&arena->cache))
            return true;
        os_yield();
    }
    for (unsigned look = 0; look < sleeps; look++) {
        if (!cache_is_busy(&arena->cache))
            return true;
        os_sleep_us(WAIT_SLEEP_US);
    }
    return false;
}

static void visit_and_open(struct arena *arena, bool owned,
                           void (*visit)(struct arena *, bool, void *), void *context)
{
    arena->takeovers++;
    visit(arena, owned, context);
    open_cache(arena);
    lock_release(&arena->mutex);
}

/* Arenas that were closed and are locked: first those that are at rest, so that none of them waits
 * for an owner who is stuck in the middle. Without membarrier only the caller's own cache is out
 * of use for certain. */
static void visit_batch(struct arena **batch, size_t count, unsigned sleeps,
                        void (*visit)(struct arena *, bool, void *), void *context)
{
    bool barrier = count != 0 && os_has_barrier() && os_barrier_all();
    size_t busy = 0;
    for (size_t i = 0; i < count; i++) {
        bool ours = barrier || batch[i] == arena_self;
        if (ours && cache_is_busy(&batch[i]->cache))
            batch[busy++] = batch[i];
        else
            visit_and_open(batch[i], ours, visit, context);
    }
    for (size_t i = 0; i < busy; i++)
        visit_and_open(batch[i], wait_for_owner(batch[i], sleeps), visit, context);
}

void arena_visit_all(void (*visit)(struct arena *arena, bool owned, void *context), void *context)
{
    struct arena *batch[VISIT_BATCH];
    /* The caller may be the first to call anything. */
    lock_acquire(&arenas.lock);
    prepare();
    lock_release(&arenas.lock);
    lock_acquire(&visit_lock);
    struct arena *arena = first_arena();
    while (arena != NULL) {
        size_t count = 0;
        for (; arena != NULL && count < VISIT_BATCH; arena = next_arena(arena)) {
            lock_acquire(&arena->mutex);
            close_cache(arena);
            batch[count++] = arena;
        }
        visit_batch(batch, count, WAIT_SLEEPS_VISIT, visit, context);
    }
    lock_release(&visit_lock);
}

/* Puts the bins of an emptied cache back where they began, and gives the memory of the large
 * stacks back. What did not leave the cache stays where it is. */
static void shrink_cache(struct arena *arena)
{
    bool all_small = true;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        if (bin_count(arena, class) == 0 && arena->stacks[class] != NULL) {
            arena->stacks[class] = stack_at(arena, small_stack(class));
            cache_move_top(&arena->cache.bins[class], arena->stacks[class]);
            set_limit(arena, class, 0);
        }
        all_small = all_small && arena->stacks[class] != stack_at(arena, arenas.full_stack[class]);
    }
    /* Whole OS pages inside; all that is read there again, the NULL below each stack, is zero. */
    char *start = (char *)round_up((uintptr_t)arena + arenas.full_stack[CLASS_FIRST], os_page_size);
    char *end = (char *)(((uintptr_t)arena + arenas.arena_size) & ~(os_page_size - 1));
    if (all_small && arena->stacks[CLASS_FIRST] != NULL && start < end)
        os_purge(start, (size_t)(end - start));
}

static void flush_visited(struct arena *arena, bool owned, void *context)
{
    if (owned) {
        flush_cache(arena, false, context);
        shrink_cache(arena);
    } else {
        drain_mailbox(arena, context);
    }
}

void arena_flush_all(void)
{
    struct mistake mistake = {SPAN_FINE, NULL};
    arena_visit_all(flush_visited, &mistake);
    /* What one visit brought to the mailbox of an arena that had been visited before. */
    for (struct arena *arena = first_arena(); arena != NULL; arena = next_arena(arena)) {
        if (mailbox_is_empty(&arena->mailbox))
            continue;
        lock_acquire(&arena->mutex);
        drain_mailbox(arena, &mistake);
        lock_release(&arena->mutex);
    }
    abort_on(&mistake);
}

static uint64_t calls_of(const struct arena *arena)
{
    return arena->refills + arena->flushes;
}

/* Under the mutex: true when the arena's owner let it be since the last sweep. */
static bool is_quiet(struct arena *arena)
{
    bool quiet = arena->calls_seen == calls_of(arena);
    arena->calls_seen = calls_of(arena);
    return quiet;
}

/* Nothing for a sweep to bring back: a cache without any room holds nothing, and without membarrier
 * what it holds is out of reach. */
static bool is_empty(struct arena *arena)
{
    return (arena->limit_bytes == 0 || !os_has_barrier()) && mailbox_is_empty(&arena->mailbox);
}

/* Locks and closes the next arenas that are worth it; moves *arena on behind them. */
static size_t close_quiet(struct arena **arena, struct arena **batch)
{
    size_t count = 0;
    for (; *arena != NULL && count < VISIT_BATCH; *arena = next_arena(*arena)) {
        if (!lock_try(&(*arena)->mutex))
            continue; /* not quiet */
        if (is_quiet(*arena) && !is_empty(*arena)) {
            close_cache(*arena);
            batch[count++] = *arena;
        } else {
            lock_release(&(*arena)->mutex);
        }
    }
    return count;
}

void arena_sweep_quiet(void)
{
    struct arena *batch[VISIT_BATCH];
    struct mistake mistake = {SPAN_FINE, NULL};
    lock_acquire(&visit_lock);
    for (struct arena *arena = first_arena(); arena != NULL;)
        visit_batch(batch, close_quiet(&arena, batch), 0, flush_visited, &mistake);
    lock_release(&visit_lock);
    abort_on(&mistake);
}

/* Looks at the oldest of the recent spans; false when this sweep has seen them all. Under the
 * mutex. */
static bool age_span(struct arena *arena, uint32_t sweep, bool at_once, size_t *bytes)
{
    struct span *span = arena->oldest_recent;
    if (span == NULL || span->sweep == sweep)
        return false;
    span->sweep = sweep;
    unlink_recent(arena, span);
    if (span->age == SPAN_TOUCHED && !at_once) {
        span->age = SPAN_RESTING;
        link_recent(arena, span);
    } else {
        *bytes += span_purge_holes(span);
        span->age = SPAN_SETTLED;
    }
    return true;
}

size_t arena_purge_holes(bool at_once)
{
    static uint32_t sweep; /* under the caller's lock */
    size_t bytes = 0;
    sweep++;
    for (struct arena *arena = first_arena(); arena != NULL; arena = next_arena(arena)) {
        for (bool more = true; more;) {
            lock_acquire(&arena->mutex);
            for (int i = 0; i < HOLES_PER_HOLD && more; i++)
                more = age_span(arena, sweep, at_once, &bytes);
            lock_release(&arena->mutex);
        }
    }
    return bytes;
}

bool arena_any_unswept(void)
{
    bool any = false;
    for (struct arena *arena = first_arena(); arena != NULL && !any; arena = next_arena(arena)) {
        lock_acquire(&arena->mutex);
        any = arena->calls_seen != calls_of(arena) || !is_empty(arena) ||
              arena->oldest_recent != NULL;
        lock_release(&arena->mutex);
    }
    return any;
}

size_t arena_cached_bytes(const struct arena *arena)
{
    size_t bytes = 0;
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++)
        bytes += bin_count(arena, class) * sizeclasses[class].size;
    return bytes;
}

size_t arena_count(void)
{
    return atomic_load_explicit(&arenas.count, memory_order_relaxed);
}

/* ---- Fork ------------------------------------------------------------------------------------ */

void arena_lock_all(void)
{
    lock_acquire(&visit_lock);
    lock_acquire(&arenas.lock);
    for (struct arena *arena = first_arena(); arena != NULL; arena = next_arena(arena)) {
        lock_acquire(&arena->mutex);
        close_cache(arena);
    }
    bool barrier = os_has_barrier() && os_barrier_all();
    for (struct arena *arena = first_arena(); arena != NULL; arena = next_arena(arena))
        arena->at_rest = (barrier || arena == arena_self || arena->orphan) &&
                         wait_for_owner(arena, WAIT_SLEEPS_FORK);
}

/* In the child: the owner does not exist any more. A cache that was in use while the memory was
 * copied is not to be trusted: its blocks stay allocated for ever. */
static void orphan(struct arena *arena)
{
    if (!arena->at_rest)
        for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++)
            arena->cache.bins[class].top = arena->stacks[class];
    atomic_store_explicit(&arena->cache.busy, 0, memory_order_relaxed);
    if (!arena->orphan)
        add_orphan(arena);
}

void arena_enter_child(void)
{
    arena_self->thread_id = os_thread_id();
}

void arena_unlock_all(bool in_child)
{
    for (struct arena *arena = first_arena(); arena != NULL; arena = next_arena(arena)) {
        if (in_child)
            mailbox_repair(&arena->mailbox);
        if (in_child && arena != arena_self)
            orphan(arena);
        open_cache(arena);
        lock_release(&arena->mutex);
    }
    lock_release(&arenas.lock);
    lock_release(&visit_lock);
}
