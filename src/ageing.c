#include "ageing.h"

static struct span_list *list_of(struct arena *arena, const struct span *span)
{
    return span->age == SPAN_LAZY ? &arena->lazy : &arena->recent;
}

static void unlink_aged(struct arena *arena, struct span *span)
{
    struct span_list *list = list_of(arena, span);
    if (span->older != NULL)
        span->older->newer = span->newer;
    else
        list->oldest = span->newer;
    if (span->newer != NULL)
        span->newer->older = span->older;
    else
        list->newest = span->older;
}

/* As the newest of the list that its age says. */
static void link_aged(struct arena *arena, struct span *span, unsigned age)
{
    span->age = (uint8_t)age;
    if (age == SPAN_SETTLED)
        return;
    struct span_list *list = list_of(arena, span);
    span->newer = NULL;
    span->older = list->newest;
    if (list->newest != NULL)
        list->newest->newer = span;
    else
        list->oldest = span;
    list->newest = span;
}

void ageing_touch_slowly(struct arena *arena, struct span *span)
{
    if (span->age == SPAN_RESTING) {
        if (!arena->rested)
            span->age = SPAN_TOUCHED; /* its place in the list may stay */
        return;
    }
    ageing_forget(arena, span);
    link_aged(arena, span, arena->rested ? SPAN_RESTING : SPAN_TOUCHED);
}

void ageing_forget(struct arena *arena, struct span *span)
{
    if (span->age != SPAN_SETTLED)
        unlink_aged(arena, span);
    span->age = SPAN_SETTLED;
}

/* The next one that this sweep has not seen. */
static struct span *next_unseen(const struct arena *arena, uint32_t sweep, enum sweep_kind kind)
{
    struct span *span = arena->recent.oldest;
    if ((span == NULL || span->sweep == sweep) && kind == SWEEP_NOW)
        span = arena->lazy.oldest;
    return span != NULL && span->sweep != sweep ? span : NULL;
}

bool ageing_sweep(struct arena *arena, uint32_t sweep, enum sweep_kind kind, size_t *bytes)
{
    struct span *resting[SPAN_PURGES], *span;
    size_t count = 0, looks = 0;
    while (looks < SPAN_PURGES && (span = next_unseen(arena, sweep, kind)) != NULL) {
        bool rested = span->age != SPAN_TOUCHED || kind != SWEEP_OLD;
        span->sweep = sweep;
        unlink_aged(arena, span);
        link_aged(arena, span, rested ? SPAN_SETTLED : SPAN_RESTING);
        if (rested)
            resting[count++] = span;
        looks++;
    }
    size_t holes = 0, lazy = 0;
    for (size_t i = 0; i < count; i++) {
        holes -= span_hole_bytes(resting[i]);
        arena->books[resting[i]->class].hole_pages -= span_hole_pages(resting[i]);
        lazy -= span_lazy_bytes(resting[i]);
    }
    *bytes += span_purge_holes(resting, count, kind);
    for (size_t i = 0; i < count; i++) {
        holes += span_hole_bytes(resting[i]);
        arena->books[resting[i]->class].hole_pages += span_hole_pages(resting[i]);
        lazy += span_lazy_bytes(resting[i]);
        if (resting[i]->lazy != 0)
            link_aged(arena, resting[i], SPAN_LAZY);
    }
    arena->hole_bytes += holes;
    arena->lazy_bytes += lazy;
    return looks == SPAN_PURGES;
}
