#include "arena.h"

#include "text.h"

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
size_t arena_take(struct arena *arena, unsigned class, void **end, size_t wanted)
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
size_t arena_put_into(struct arena *arena, struct span *span, void *const *blocks, size_t count,
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
void arena_put(struct arena *arena, void *const *blocks, size_t count, struct mistake *mistake)
{
    for (size_t i = 0; i < count;) {
        struct span *span = span_of(blocks[i]);
        if (likely(span != NULL && span->owner == arena))
            i += arena_put_into(arena, span, blocks + i, count - i, mistake);
        else /* its span has gone since it was first freed */
            *mistake = (struct mistake){SPAN_FREED_TWICE, blocks[i++]};
    }
}

void arena_drain(struct arena *arena, struct mistake *mistake)
{
    void *blocks[64];
    size_t count;
    while (!mailbox_is_empty(&arena->mailbox) &&
           (count = mailbox_take(&arena->mailbox, blocks, 64)) != 0)
        arena_put(arena, blocks, count, mistake);
}

void arena_abort_on(const struct mistake *mistake)
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
    arena_put(owner, blocks, count, mistake);
    arena_drain(owner, mistake);
    lock_release(&owner->mutex);
    return true;
}

/* Brings blocks back, whoever owns them. Those that could not be brought without waiting stay at
 * the start of the array; returns how many. */
size_t arena_deliver(void **blocks, size_t count, bool may_wait, struct mistake *mistake)
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

/* ---- Ageing ---------------------------------------------------------------------------------- */

/* Looks at the oldest of the recent spans; false when this sweep has seen them all. Under the
 * mutex. */
bool arena_age_span(struct arena *arena, uint32_t sweep, bool at_once, size_t *bytes)
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
