#include "buddy.h"

#include <string.h>

/* Where each order's bitmap begins in buddy->free. */
static const uint8_t starts[BUDDY_ORDERS] = {0, 16, 24, 28, 30, 31, 32, 33, 34, 35, 36};

static inline uint64_t *word_of(const struct buddy *buddy, unsigned order, size_t index)
{
    return (uint64_t *)&buddy->free[starts[order] + index / 64];
}

static inline bool is_set(const struct buddy *buddy, unsigned order, size_t index)
{
    return *word_of(buddy, order, index) >> (index % 64) & 1;
}

static void set(struct buddy *buddy, unsigned order, size_t index)
{
    *word_of(buddy, order, index) |= (uint64_t)1 << (index % 64);
    if (buddy->counts[order]++ == 0)
        buddy->orders |= 1u << order;
}

static void clear(struct buddy *buddy, unsigned order, size_t index)
{
    *word_of(buddy, order, index) &= ~((uint64_t)1 << (index % 64));
    if (--buddy->counts[order] == 0)
        buddy->orders &= ~(1u << order);
}

/* Adds one aligned free block, joined with its buddy as long as that is free too. */
static void insert(struct buddy *buddy, unsigned order, size_t index)
{
    while (order < BUDDY_ORDERS - 1 && is_set(buddy, order, index ^ 1)) {
        clear(buddy, order, index ^ 1);
        order++;
        index >>= 1;
    }
    set(buddy, order, index);
}

unsigned buddy_order(size_t pages, size_t alignment)
{
    size_t least = max_size(pages, alignment);
    return least <= 1 ? 0 : 64 - (unsigned)__builtin_clzl(least - 1);
}

void buddy_init(struct buddy *buddy, size_t pages)
{
    memset(buddy, 0, sizeof *buddy);
    buddy_free(buddy, 0, pages);
}

static size_t lowest(const struct buddy *buddy, unsigned order)
{
    const uint64_t *word = &buddy->free[starts[order]];
    size_t base = 0;
    while (*word == 0) {
        word++;
        base += 64;
    }
    return base + (size_t)__builtin_ctzll(*word);
}

size_t buddy_alloc(struct buddy *buddy, size_t pages, size_t alignment)
{
    unsigned order = buddy_order(pages, alignment);
    if (order >= BUDDY_ORDERS)
        return BUDDY_NONE;
    uint32_t fitting = buddy->orders >> order << order;
    if (fitting == 0)
        return BUDDY_NONE;
    unsigned found = (unsigned)__builtin_ctz(fitting);
    size_t index = lowest(buddy, found);
    clear(buddy, found, index);
    size_t first = index << found, end = first + ((size_t)1 << found);
    buddy->free_pages -= (uint32_t)(end - first);
    if (end != first + pages)
        buddy_free(buddy, first + pages, end - first - pages);
    return first;
}

void buddy_free(struct buddy *buddy, size_t first, size_t pages)
{
    buddy->free_pages += (uint32_t)pages;
    for (size_t end = first + pages; first < end;) {
        /* The largest block that begins here and ends in time. */
        unsigned order = 63 - (unsigned)__builtin_clzl(end - first);
        if (first != 0 && (unsigned)__builtin_ctzl(first) < order)
            order = (unsigned)__builtin_ctzl(first);
        insert(buddy, order, first >> order);
        first += (size_t)1 << order;
    }
}

/* The order of the free block that page lies in, or -1. */
static int order_holding(const struct buddy *buddy, size_t page)
{
    for (uint32_t orders = buddy->orders; orders != 0; orders &= orders - 1) {
        unsigned order = (unsigned)__builtin_ctz(orders);
        if (is_set(buddy, order, page >> order))
            return (int)order;
    }
    return -1;
}

bool buddy_is_free(const struct buddy *buddy, size_t page)
{
    return order_holding(buddy, page) >= 0;
}

bool buddy_take(struct buddy *buddy, size_t first, size_t pages)
{
    size_t end = first + pages;
    if (end > BUDDY_PAGES)
        return false;
    for (size_t page = first; page < end;) {
        int order = order_holding(buddy, page);
        if (order < 0)
            return false;
        page = ((page >> order) + 1) << order;
    }
    for (size_t page = first; page < end;) {
        int order = order_holding(buddy, page);
        size_t start = page >> order << order, stop = start + ((size_t)1 << order);
        clear(buddy, (unsigned)order, start >> order);
        buddy->free_pages -= (uint32_t)(stop - start);
        /* What lies outside the wanted pages goes back; it cannot join across them. */
        if (start < first)
            buddy_free(buddy, start, first - start);
        if (stop > end)
            buddy_free(buddy, end, stop - end);
        page = stop;
    }
    return true;
}
