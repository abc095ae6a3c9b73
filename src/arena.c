#include "arena.h"

#include "ageing.h"
#include "options.h"
#include "os.h"
#include "text.h"

/* Fewer than these, and it is not known yet how busy an arena is. */
#define BUSY_REFILLS 64

/* How many arenas are asked for a span before a new one is made. */
#define LENDERS_ASKED 32

/* A thread that will want its free blocks of a class itself lends what it has beyond these. */
#define LENT_ABOVE (64 * KiB)

/* So many blocks of one owner, one behind the other, are worth a lock of their own. Where there are
 * fewer, those of the same owner are looked for among all. */
#define STRETCH_LEAST 32

/* ---- All arenas ------------------------------------------------------------------------------ */

struct arena *_Atomic arenas_newest;

struct arena *arenas_first(void)
{
    /* Acquire: pairs with the release in arenas_add. */
    return atomic_load_explicit(&arenas_newest, memory_order_acquire);
}

struct arena *arenas_next(const struct arena *arena)
{
    return atomic_load_explicit(&arena->next, memory_order_relaxed);
}

void arenas_add(struct arena *arena)
{
    struct arena *before = atomic_load_explicit(&arenas_newest, memory_order_relaxed);
    arena->number = before != NULL ? before->number + 1 : 0;
    atomic_store_explicit(&arena->next, before, memory_order_relaxed);
    atomic_store_explicit(&arenas_newest, arena, memory_order_release);
}

/* ---- Lists of spans with free blocks ----------------------------------------------------------
 */

static struct span *first_span(const struct arena *arena, unsigned class, unsigned list)
{
    return list == SPAN_IN_DENSE
               ? arena->dense[class]
               : atomic_load_explicit(&arena->sparse[class], memory_order_relaxed);
}

static void set_first_span(struct arena *arena, unsigned class, unsigned list, struct span *span)
{
    if (list == SPAN_IN_DENSE)
        arena->dense[class] = span;
    else
        atomic_store_explicit(&arena->sparse[class], span, memory_order_relaxed);
}

static void unlink_span(struct arena *arena, struct span *span)
{
    if (span->list == SPAN_IN_NONE)
        return;
    if (span->previous != NULL)
        span->previous->next = span->next;
    else
        set_first_span(arena, span->class, span->list, span->next);
    if (span->next != NULL)
        span->next->previous = span->previous;
    span->list = SPAN_IN_NONE;
}

static void link_span(struct arena *arena, struct span *span, unsigned list)
{
    struct span *head = first_span(arena, span->class, list);
    span->previous = NULL;
    span->next = head;
    if (head != NULL)
        head->previous = span;
    set_first_span(arena, span->class, list, span);
    span->list = (uint8_t)list;
}

/* Puts a span into the list where it belongs by its free blocks. */
static inline void place(struct arena *arena, struct span *span)
{
    unsigned list = span->list;
    if (span->free_count == 0 || span_is_large(span))
        list = SPAN_IN_NONE;
    else if (span->free_count * 8u >= span->capacity)
        list = SPAN_IN_SPARSE;
    else if (list == SPAN_IN_NONE || span->free_count * 16u < span->capacity)
        list = SPAN_IN_DENSE;
    if (likely(list == span->list))
        return;
    unlink_span(arena, span);
    if (list != SPAN_IN_NONE)
        link_span(arena, span, list);
}

/* ---- Blocks out of spans and back, under the mutex of their owner ---------------------------- */

static size_t span_bytes(const struct span *span)
{
    return span->capacity * (size_t)sizeclasses[span->class].size;
}

static size_t span_free_bytes(const struct span *span)
{
    return span->free_count * (size_t)sizeclasses[span->class].size;
}

static void enter_span(struct arena *arena, struct span *span)
{
    arena->span_bytes += span_bytes(span);
    arena->free_bytes += span_free_bytes(span);
    arena->hole_bytes += span_hole_bytes(span);
    arena->lazy_bytes += span_lazy_bytes(span);
    arena->spans++;
    struct class_books *books = &arena->books[span->class];
    books->spans++;
    books->free_blocks += span->free_count;
    books->hole_pages += span_hole_pages(span);
    if (span_is_large(span)) {
        arena->large_bytes += span_bytes(span);
        arena->large_spans++;
    }
    place(arena, span);
}

static void remove_span(struct arena *arena, struct span *span)
{
    arena->span_bytes -= span_bytes(span);
    arena->free_bytes -= span_free_bytes(span);
    arena->spans--;
    struct class_books *books = &arena->books[span->class];
    books->spans--;
    books->free_blocks -= span->free_count;
    books->hole_pages -= span_hole_pages(span);
    arena->hole_bytes -= span_hole_bytes(span);
    arena->lazy_bytes -= span_lazy_bytes(span);
    if (span_is_large(span)) {
        arena->large_bytes -= span_bytes(span);
        arena->large_spans--;
    }
    unlink_span(arena, span);
    ageing_forget(arena, span);
}

/* True for what its owner will want itself. Its only one of a class whose blocks share cache lines:
 * two threads that wrote to neighbours in it would slow each other down. And as long as there are
 * few, those of a thread that makes what others free: it would take over the next one's in turn. */
static bool needs_span(const struct arena *lender, const struct span *span)
{
    const struct class_books *books = &lender->books[span->class];
    if (sizeclass_shares_lines(span->class) && books->spans == 1)
        return true;
    size_t free_bytes = books->free_blocks * (size_t)sizeclasses[span->class].size;
    return free_bytes <= LENT_ABOVE && cache_only_takes(lender, span->class);
}

/* Takes over a span of the class with many free blocks from one of the next few arenas, if it can
 * be had without waiting; with insist, a span that its owner needs as well. */
static struct span *borrow_span(struct arena *arena, unsigned class, bool insist)
{
    for (unsigned look = 0; look < LENDERS_ASKED; look++) {
        struct arena *lender = arena->lender != NULL ? arena->lender : arenas_first();
        arena->lender = lender != NULL ? arenas_next(lender) : NULL;
        if (lender == NULL || lender == arena ||
            first_span(lender, class, SPAN_IN_SPARSE) == NULL || !lock_try(&lender->mutex))
            continue;
        struct span *span = first_span(lender, class, SPAN_IN_SPARSE);
        if (span != NULL && !insist && needs_span(lender, span))
            span = NULL;
        if (span != NULL) {
            remove_span(lender, span);
            atomic_store_explicit(&span->owner, arena, memory_order_release);
        }
        lock_release(&lender->mutex);
        if (span != NULL) {
            enter_span(arena, span);
            arena->borrowed_spans++;
            return span;
        }
    }
    return NULL;
}

static struct span *add_span(struct arena *arena, unsigned class)
{
    struct span *span = span_create(arena, class, &arena->records[class], &arena->took_zero);
    if (span != NULL)
        enter_span(arena, span);
    return span;
}

/* An arena that is busy keeps the record: it will make another span soon. */
static void drop_span(struct arena *arena, struct span *span)
{
    bool keeps = !arena->calm && arena->refills >= BUSY_REFILLS;
    remove_span(arena, span);
    span_destroy(span, arena->rested, keeps ? &arena->records[span->class] : NULL);
}

/* A whole span that is kept, of small blocks, or NULL. */
static struct span *spare_span(const struct arena *arena, unsigned class)
{
    struct span *kept = arena->records[class];
    return kept != NULL && span_is_whole(kept) ? kept : NULL;
}

/* Not where free pages are to be given back at once, and not where sweeps cannot come by. */
static bool may_keep_spare(const struct arena *arena, unsigned class)
{
    return cache_only_takes(arena, class) && options.schedule != SCHEDULE_IMMEDIATE &&
           os_has_barrier();
}

/* All its blocks are free. Where others free what the thread makes, one such span is kept: it will
 * want it again soon, and each that is made and dropped takes the lock of the chunk twice. */
static void retire_span(struct arena *arena, struct span *span)
{
    struct span **record = &arena->records[span->class];
    if (!may_keep_spare(arena, span->class) || spare_span(arena, span->class) != NULL) {
        drop_span(arena, span);
        return;
    }
    if (*record != NULL)
        span_drop_record(*record);
    unlink_span(arena, span);
    *record = span;
}

/* One of its own with free blocks, or NULL. */
static struct span *own_span(const struct arena *arena, unsigned class)
{
    struct span *span = arena->dense[class];
    if (span == NULL)
        span = first_span(arena, class, SPAN_IN_SPARSE);
    return span != NULL ? span : spare_span(arena, class);
}

bool arena_has_free(const struct arena *arena, unsigned class)
{
    return own_span(arena, class) != NULL;
}

/* The span to take blocks from: of its own one that is dense, so that sparse ones may become empty.
 * Another one's, or a new one, only if it must have one. */
static struct span *choose_span(struct arena *arena, unsigned class, bool must)
{
    if (class > CLASS_SMALL_LAST)
        return must ? add_span(arena, class) : NULL;
    struct span *span = own_span(arena, class);
    if (span == NULL && must)
        span = borrow_span(arena, class, false);
    if (span == NULL && must)
        span = add_span(arena, class);
    if (span == NULL && must)
        span = borrow_span(arena, class, true);
    return span;
}

static inline size_t take_from_span(struct arena *arena, struct span *span, void **end,
                                    size_t wanted)
{
    if (likely(span->purged == 0))
        return span_take(span, end, wanted);
    size_t holes = span_hole_bytes(span), lazy = span_lazy_bytes(span);
    uint32_t *hole_pages = &arena->books[span->class].hole_pages;
    *hole_pages -= span_hole_pages(span);
    size_t taken = span_take(span, end, wanted);
    *hole_pages += span_hole_pages(span);
    arena->hole_bytes -= holes - span_hole_bytes(span);
    arena->lazy_bytes -= lazy - span_lazy_bytes(span);
    return taken;
}

size_t arena_take(struct arena *arena, unsigned class, void **end, size_t wanted, bool must)
{
    size_t taken = 0;
    struct span *span;
    while (taken < wanted && (span = choose_span(arena, class, must && taken == 0)) != NULL) {
        taken += take_from_span(arena, span, end - taken, wanted - taken);
        ageing_touch(arena, span);
        if (span == arena->records[class])
            arena->records[class] = NULL;
        place(arena, span);
    }
    arena->free_bytes -= taken * sizeclasses[class].size;
    arena->books[class].free_blocks -= (uint32_t)taken;
    return taken;
}

bool arena_resize_large(void *block, unsigned class)
{
    struct span *span = span_of(block);
    struct arena *owner = span_owner(span); /* for good: nobody borrows a large one */
    lock_acquire(&owner->mutex);
    size_t before = span_bytes(span);
    owner->books[span->class].spans--;
    bool resized = span_resize(span, class);
    owner->books[span->class].spans++;
    owner->span_bytes += span_bytes(span) - before;
    owner->large_bytes += span_bytes(span) - before;
    lock_release(&owner->mutex);
    return resized;
}

bool arena_let_go(void *block, size_t size)
{
    struct span *span = span_of(block);
    struct arena *owner = span_owner(span); /* for good, as above */
    lock_acquire(&owner->mutex);
    remove_span(owner, span);
    bool dissolved = span_dissolve(span, (size + PAGE_SIZE - 1) >> PAGE_SHIFT);
    if (!dissolved)
        enter_span(owner, span);
    lock_release(&owner->mutex);
    return dissolved;
}

size_t arena_put_into(struct arena *arena, struct span *span, void *const *blocks, size_t count,
                      struct mistake *mistake)
{
    size_t before = span->free_count;
    size_t looked_at = span_put(span, blocks, count, mistake);
    size_t put = span->free_count - before;
    arena->free_bytes += put * sizeclasses[span->class].size;
    arena->books[span->class].free_blocks += (uint32_t)put;
    ageing_touch(arena, span);
    if (span->free_count == span->capacity && put != 0)
        retire_span(arena, span);
    else if (put != 0)
        place(arena, span);
    return looked_at;
}

size_t arena_put(struct arena *arena, void **blocks, size_t count, struct mistake *mistake)
{
    size_t kept = 0;
    for (size_t i = 0; i < count;) {
        struct span *span = span_of(blocks[i]);
        if (likely(span != NULL && span_owner(span) == arena))
            i += arena_put_into(arena, span, blocks + i, count - i, mistake);
        else if (span != NULL)
            blocks[kept++] = blocks[i++];
        else /* its span has gone since it was first freed */
            *mistake = (struct mistake){SPAN_FREED_TWICE, blocks[i++]};
    }
    return kept;
}

static size_t strays_of(const struct arena *arena)
{
    return atomic_load_explicit(&arena->stray_count, memory_order_relaxed);
}

static void set_strays(struct arena *arena, size_t count)
{
    atomic_store_explicit(&arena->stray_count, (uint32_t)count, memory_order_relaxed);
}

/* Mail for spans that have another owner by now: on to his mailbox. What finds no room there stays
 * for the next time. */
static void pass_on(struct arena *arena, struct mistake *mistake)
{
    size_t count = strays_of(arena), kept = 0;
    for (size_t i = 0; i < count; i++) {
        void *block = arena->strays[i];
        struct span *span = span_of(block);
        if (span == NULL)
            *mistake = (struct mistake){SPAN_FREED_TWICE, block};
        else if (span_owner(span) == arena)
            arena_put_into(arena, span, &block, 1, mistake);
        else if (!mailbox_put(&span_owner(span)->mailbox, &block, 1))
            arena->strays[kept++] = block;
    }
    set_strays(arena, kept);
}

void arena_drain(struct arena *arena, struct mistake *mistake)
{
    size_t taken = 1;
    while (unlikely(arena_has_mail(arena)) && taken != 0) {
        pass_on(arena, mistake);
        if (strays_of(arena) != 0)
            break;
        taken = mailbox_take(&arena->mailbox, arena->strays, STRAYS_MOST);
        size_t strays = arena_put(arena, arena->strays, taken, mistake);
        arena->foreign_frees += taken - strays;
        set_strays(arena, strays);
    }
}

bool arena_has_mail(const struct arena *arena)
{
    return !mailbox_is_empty(&arena->mailbox) || strays_of(arena) != 0;
}

void arena_abort_on(const struct mistake *mistake)
{
    if (unlikely(mistake->error != SPAN_FINE))
        text_abort("free", mistake->block, span_error_text(mistake->error));
}

void arena_drop_spares(struct arena *arena)
{
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        struct span *kept = arena->records[class];
        if (kept == NULL)
            continue; /* and is not written to: its page may never have been touched */
        arena->records[class] = NULL;
        if (span_is_whole(kept)) {
            remove_span(arena, kept);
            span_destroy(kept, arena->rested, NULL);
        } else {
            span_drop_record(kept);
        }
    }
}

/* ---- Blocks to other arenas, no mutex of which may be held by the caller if may_wait ----------
 */

static struct arena *owner_of(const struct span *span, void *block, struct mistake *mistake)
{
    struct arena *owner = likely(span != NULL) ? span_owner(span) : NULL;
    if (unlikely(owner == NULL))
        *mistake = (struct mistake){SPAN_FREED_TWICE, block};
    return owner;
}

/* Whose blocks are: neighbours are often of one span, which is looked up once. */
struct look {
    struct span *span;
    struct arena *owner;
};

static inline struct arena *look_at(struct look *look, void *block, struct mistake *mistake)
{
    if (look->span == NULL || !span_holds(look->span, block)) {
        look->span = span_of(block);
        look->owner = owner_of(look->span, block, mistake);
    }
    return look->owner;
}

/* How many stay before those at the end of the array that are all of one owner. */
static size_t find_stretch(void **blocks, size_t count, const struct arena *owner,
                           struct mistake *mistake)
{
    struct look look = {NULL, NULL};
    while (count != 0 && look_at(&look, blocks[count - 1], mistake) == owner)
        count--;
    return count;
}

/* Moves the blocks of one owner to the end of the array and returns how many stay before them. */
static size_t set_apart(void **blocks, size_t count, const struct arena *owner,
                        struct mistake *mistake)
{
    struct look look = {NULL, NULL};
    for (size_t i = 0; i < count;) {
        void *block = blocks[i];
        if (look_at(&look, block, mistake) == owner) {
            blocks[i] = blocks[--count];
            blocks[count] = block;
        } else {
            i++;
        }
    }
    return count;
}

/* Brings blocks of one owner back. Whoever holds the mutex of the owner may be descheduled: then
 * the blocks go into the mailbox, and only if that is full we wait. Those whose owner has changed
 * meanwhile stay at the start of the array. Returns how many stay; all, when it had to wait. */
static size_t deliver(struct arena *owner, void **blocks, size_t count, bool may_wait,
                      struct mistake *mistake)
{
    bool locked = lock_try(&owner->mutex);
    if (!locked && mailbox_put(&owner->mailbox, blocks, count)) {
        count = 0;
        /* The holder may have left before the mail came, and not look again for long. */
        locked = lock_try(&owner->mutex);
        if (!locked)
            return 0;
    }
    if (!locked && !may_wait)
        return count;
    if (!locked)
        lock_acquire(&owner->mutex);
    size_t strays = arena_put(owner, blocks, count, mistake);
    owner->foreign_frees += count - strays;
    arena_drain(owner, mistake);
    lock_release(&owner->mutex);
    return strays;
}

/* Brings blocks back, whoever owns them. Those that could not be brought without waiting stay at
 * the start of the array; returns how many. */
size_t arena_deliver(void **blocks, size_t count, bool may_wait, struct mistake *mistake)
{
    size_t kept = 0;
    while (count > kept) {
        struct arena *owner = owner_of(span_of(blocks[count - 1]), blocks[count - 1], mistake);
        size_t rest = kept + find_stretch(blocks + kept, count - kept, owner, mistake);
        if (count - rest < STRETCH_LEAST)
            rest = kept + set_apart(blocks + kept, rest - kept, owner, mistake);
        size_t left = 0, group = count - rest;
        if (owner != NULL)
            left = deliver(owner, blocks + rest, group, may_wait, mistake);
        if (left == group && !may_wait) {
            /* Keep these: to the front, behind the others that are kept. */
            for (; rest < count; rest++) {
                void *block = blocks[rest];
                blocks[rest] = blocks[kept];
                blocks[kept++] = block;
            }
        } else {
            count = rest + left;
        }
    }
    return kept;
}
