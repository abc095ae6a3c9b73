/* base.h: the units and few compiler words that every room uses. It includes nothing of ours but
 * counts.h, which has to come before every use of an atomic.
 *
 *   address space
 *     └─ chunk   32 MiB, aligned; a lock and a buddy            chunk.h, buddy.h
 *         └─ page    32 KiB, the buddy's unit                   (the kernel's are called OS pages)
 *             └─ run     pages in a row, one use:
 *                 ├─ span    blocks of one size class           span.h
 *                 └─ large   one block of 32 KiB … 4 MiB        large.h
 *   huge   one block over 4 MiB, of mappings kept for such      huge.h
 *   arena  what one thread owns: its spans and its cache        arena.h, cache.h
 */
#ifndef EBB_BASE_H
#define EBB_BASE_H

#include <limits.h>
#undef PAGE_SIZE /* musl says there what it takes for the size of an OS page; ours is below */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "counts.h"

#if defined(__SANITIZE_THREAD__)
#define EBB_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EBB_THREAD_SANITIZER
#endif
#endif

/* A macro's number as text, for the assembler. */
#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)

#define KiB ((size_t)1024)
#define MiB (1024 * KiB)

/* The buddy's unit and the grain of the page map. A constant: the class tables depend on it. */
#define PAGE_SHIFT 15
#define PAGE_SIZE ((size_t)1 << PAGE_SHIFT)

/* 32 MiB: room for many runs of the largest size, few enough mappings for vm.max_map_count, and
 * 1,024 pages keep a chunk's bitmaps at 16 words. */
#define CHUNK_SHIFT 25
#define CHUNK_SIZE ((size_t)1 << CHUNK_SHIFT)
#define CHUNK_PAGES (CHUNK_SIZE / PAGE_SIZE)

/* What malloc promises for every block, as glibc does on 64-bit machines. */
#define MIN_ALIGNMENT ((size_t)16)

#define CACHE_LINE 64

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define cold __attribute__((cold, noinline))
#define hot __attribute__((__hot__, aligned(CACHE_LINE)))
#define hidden __attribute__((visibility("hidden"))) /* reached without the offset table */
#define always_inline inline __attribute__((always_inline))

/* Like hot, which begins a cache line, but in the middle of one. Where a short function begins is
 * up to a tenth of its time (bench/NOTES.md, "Positions"). The attribute puts bytes that nobody
 * runs before the function. */
#ifdef __x86_64__
#define hot_from_mid_line                                                                          \
    __attribute__((__hot__, aligned(CACHE_LINE),                                                   \
                   patchable_function_entry(CACHE_LINE / 2, CACHE_LINE / 2)))
#else
#define hot_from_mid_line hot
#endif

static inline size_t round_up(size_t value, size_t power_of_two)
{
    return (value + power_of_two - 1) & ~(power_of_two - 1);
}

static inline bool is_power_of_two(size_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* For the most that something ever was: no order with anything else. */
static inline void raise_to(_Atomic size_t *most, size_t value)
{
    size_t known = atomic_load_explicit(most, memory_order_relaxed);
    while (value > known && !atomic_compare_exchange_weak_explicit(
                                most, &known, value, memory_order_relaxed, memory_order_relaxed))
        ;
}

#endif
