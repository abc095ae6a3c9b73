/* counts.h: what costs the more the more processors there are, counted: atomic read-modify-writes,
 * lock acquisitions and waits for locks. In a build with EBB_COUNTS alone (bench/counts.c keeps the
 * counts and prints them); in any other nothing of this file is left in the code.
 *
 * base.h includes it before anything can use <stdatomic.h>, whose operations it replaces: so every
 * read-modify-write is counted without a word where it stands, one that is written tomorrow too.
 * That holds for the named operations; let nobody write `++` on an _Atomic. Loads and weakly
 * ordered stores are plain moves and not counted; a store of sequential consistency is an exchange
 * on x86-64 and is.
 */
#ifndef EBB_COUNTS_H
#define EBB_COUNTS_H

enum count {
    COUNT_RMW,   /* atomic read-modify-writes, failed compare-and-swaps too */
    COUNT_LOCK,  /* locks taken */
    COUNT_WAIT,  /* locks that were not free at the first look of one who looks again … */
    COUNT_SLEEP, /* … and how often he went to sleep over it */
    COUNT_END
};

#ifndef EBB_COUNTS

static inline void count_one(enum count what)
{
    (void)what;
}

#else

#include <stdatomic.h>
#include <stdbool.h>

void count_one(enum count what);

/* The object without its _Atomic: gcc and clang have different names for what is done to an _Atomic
 * one, and the same for this. */
#define COUNTS_PLAIN(object) ((__typeof__((void)0, *(object)) *)(object))
#define COUNTS_RMW(name, ...) (count_one(COUNT_RMW), __atomic_##name(__VA_ARGS__))

#undef atomic_exchange_explicit
#define atomic_exchange_explicit(object, wanted, order)                                            \
    COUNTS_RMW(exchange_n, COUNTS_PLAIN(object), wanted, order)
#undef atomic_fetch_add_explicit
#define atomic_fetch_add_explicit(object, operand, order)                                          \
    COUNTS_RMW(fetch_add, COUNTS_PLAIN(object), operand, order)
#undef atomic_fetch_sub_explicit
#define atomic_fetch_sub_explicit(object, operand, order)                                          \
    COUNTS_RMW(fetch_sub, COUNTS_PLAIN(object), operand, order)
#undef atomic_fetch_or_explicit
#define atomic_fetch_or_explicit(object, operand, order)                                           \
    COUNTS_RMW(fetch_or, COUNTS_PLAIN(object), operand, order)
#undef atomic_fetch_and_explicit
#define atomic_fetch_and_explicit(object, operand, order)                                          \
    COUNTS_RMW(fetch_and, COUNTS_PLAIN(object), operand, order)
#undef atomic_compare_exchange_strong_explicit
#define atomic_compare_exchange_strong_explicit(object, expected, wanted, order, failure)          \
    COUNTS_RMW(compare_exchange_n, COUNTS_PLAIN(object), expected, wanted, false, order, failure)
#undef atomic_compare_exchange_weak_explicit
#define atomic_compare_exchange_weak_explicit(object, expected, wanted, order, failure)            \
    COUNTS_RMW(compare_exchange_n, COUNTS_PLAIN(object), expected, wanted, true, order, failure)

/* The same in sequential consistency. */
#undef atomic_store
#define atomic_store(object, wanted)                                                               \
    COUNTS_RMW(store_n, COUNTS_PLAIN(object), wanted, memory_order_seq_cst)
#undef atomic_exchange
#define atomic_exchange(object, wanted)                                                            \
    atomic_exchange_explicit(object, wanted, memory_order_seq_cst)
#undef atomic_fetch_add
#define atomic_fetch_add(object, operand)                                                          \
    atomic_fetch_add_explicit(object, operand, memory_order_seq_cst)
#undef atomic_fetch_sub
#define atomic_fetch_sub(object, operand)                                                          \
    atomic_fetch_sub_explicit(object, operand, memory_order_seq_cst)
#undef atomic_fetch_or
#define atomic_fetch_or(object, operand)                                                           \
    atomic_fetch_or_explicit(object, operand, memory_order_seq_cst)
#undef atomic_fetch_and
#define atomic_fetch_and(object, operand)                                                          \
    atomic_fetch_and_explicit(object, operand, memory_order_seq_cst)
#undef atomic_compare_exchange_strong
#define atomic_compare_exchange_strong(object, expected, wanted)                                   \
    atomic_compare_exchange_strong_explicit(object, expected, wanted, memory_order_seq_cst,        \
                                            memory_order_seq_cst)
#undef atomic_compare_exchange_weak
#define atomic_compare_exchange_weak(object, expected, wanted)                                     \
    atomic_compare_exchange_weak_explicit(object, expected, wanted, memory_order_seq_cst,          \
                                          memory_order_seq_cst)

#endif
#endif
