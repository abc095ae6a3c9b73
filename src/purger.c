#include "purger.h"

#include <stdatomic.h>

#include "arena.h"
#include "chunk.h"
#include "huge.h"
#include "options.h"
#include "os.h"

/* Chunks that are free throughout and stay mapped. */
#define SPARE_CHUNKS 1

static _Atomic uint64_t next_sweep_ms;
static _Atomic size_t sweeps;

void purger_tick(void)
{
    uint64_t now = os_now_ms();
    uint64_t due = atomic_load_explicit(&next_sweep_ms, memory_order_relaxed);
    if (likely(now < due))
        return;
    uint64_t next = now + max_size(options.purge_delay_ms / 2, 1);
    /* Whoever moves the clock on does the sweep. */
    if (!atomic_compare_exchange_strong_explicit(&next_sweep_ms, &due, next, memory_order_relaxed,
                                                 memory_order_relaxed))
        return;
    atomic_fetch_add_explicit(&sweeps, 1, memory_order_relaxed);
    chunk_sweep(options.purge_delay_ms == 0, SPARE_CHUNKS);
    huge_sweep(options.purge_delay_ms);
}

size_t purger_trim(void)
{
    arena_flush_all();
    return chunk_sweep(true, SPARE_CHUNKS) + huge_sweep(0);
}

void purger_reclaim(void)
{
    arena_flush_all();
    huge_sweep(0);
    chunk_sweep(true, 0);
}

size_t purger_sweeps(void)
{
    return atomic_load_explicit(&sweeps, memory_order_relaxed);
}
