#include "purge.h"

#include <stdatomic.h>

#include "options.h"

struct purge_books purge_books;
static _Atomic size_t growth;
static _Atomic int64_t room = PURGE_ROOM_ANY;

/* What is worth a call. */
#define GROWTH_LEAST MiB

static void count_resident(const struct os_range *ranges, size_t count, enum sweep_kind kind,
                           size_t *resident)
{
    for (size_t i = 0; i < count; i++)
        resident[i] =
            kind == SWEEP_NOW ? os_resident_in(ranges[i].start, ranges[i].size) : ranges[i].size;
}

/* Up to PURGE_AT_A_TIME ranges. */
#define PURGE_AT_A_TIME 64

static void purge_some(const struct os_range *ranges, size_t count, enum sweep_kind kind,
                       enum purge_result *results, size_t *given_back)
{
    size_t resident[PURGE_AT_A_TIME];
    bool lazily = kind != SWEEP_NOW && options.advice == ADVICE_FREE;
    count_resident(ranges, count, kind, resident);
    for (size_t first = 0; first < count; first++) {
        uint64_t begin_us = os_now_us();
        size_t done = os_purge_ranges(ranges + first, count - first, lazily);
        atomic_fetch_add_explicit(&purge_books.spent_us, os_now_us() - begin_us,
                                  memory_order_relaxed);
        atomic_fetch_add_explicit(&purge_books.calls, 1, memory_order_relaxed);
        for (size_t end = first + done; first < end; first++) {
            results[first] = lazily ? PURGE_LAZY : PURGE_DONE;
            if (lazily)
                continue;
            atomic_fetch_add_explicit(&purge_books.bytes, resident[first], memory_order_relaxed);
            atomic_fetch_add_explicit(&room, (int64_t)resident[first], memory_order_relaxed);
            *given_back += resident[first];
        }
        if (first == count)
            break;
        /* A kernel that does not know of MADV_FREE. */
        bool at_once = lazily && os_purge(ranges[first].start, ranges[first].size);
        results[first] = at_once ? PURGE_DONE : PURGE_REFUSED; /* and on behind it */
    }
}

void purge_ranges(const struct os_range *ranges, size_t count, enum sweep_kind kind,
                  enum purge_result *results, size_t *given_back)
{
    for (size_t first = 0, some; first < count; first += some) {
        some = min_size(count - first, PURGE_AT_A_TIME);
        purge_some(ranges + first, some, kind, results + first, given_back);
    }
}

enum purge_result purge_range(char *start, size_t size, enum sweep_kind kind, size_t *given_back)
{
    struct os_range range = {start, size};
    enum purge_result result;
    purge_ranges(&range, 1, kind, &result, given_back);
    return result;
}

void purge_note_growth(size_t more)
{
    atomic_fetch_add_explicit(&growth, more, memory_order_relaxed);
}

size_t purge_take_growth(void)
{
    if (likely(atomic_load_explicit(&growth, memory_order_relaxed) < GROWTH_LEAST))
        return 0;
    return atomic_exchange_explicit(&growth, 0, memory_order_relaxed);
}

/* Looks and sweeps are few, and what one of two at once says about the room is as good as the
 * other: no more care is taken. */
static void set_room(int64_t bytes)
{
    atomic_store_explicit(&room, bytes, memory_order_relaxed);
}

void purge_correct_room(int64_t found, int64_t before)
{
    int64_t now = purge_room();
    if (now < before)
        found -= before - now;
    if (now > PURGE_ROOM_ANY / 2) /* nobody has looked yet */
        found -= PURGE_ROOM_ANY - before;
    else if (found > now)
        found = now + (found - now) / 8;
    set_room(found);
}

void purge_allow(int64_t bytes)
{
    if (purge_room() < bytes)
        set_room(bytes);
}

int64_t purge_room(void)
{
    return atomic_load_explicit(&room, memory_order_relaxed);
}

void purge_note_use(size_t bytes)
{
    atomic_fetch_sub_explicit(&room, (int64_t)bytes, memory_order_relaxed);
}

void purge_note_unmapped(size_t bytes)
{
    atomic_fetch_add_explicit(&room, (int64_t)bytes, memory_order_relaxed);
}

size_t purge_bytes(void)
{
    return atomic_load_explicit(&purge_books.bytes, memory_order_relaxed);
}

size_t purge_calls(void)
{
    return atomic_load_explicit(&purge_books.calls, memory_order_relaxed);
}

uint64_t purge_us(void)
{
    return atomic_load_explicit(&purge_books.spent_us, memory_order_relaxed);
}
