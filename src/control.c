/* control.c: the front door: the calls that ask about the heap or steer it, after glibc's. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>

#include "api.h"
#include "purger.h"
#include "stats.h"

/* pad, how much to leave, has no meaning here: what is free and kept for reuse is kept where it
 * was used, not at the top of a heap. */
EXPORT int API(malloc_trim)(size_t pad)
{
    (void)pad;
    int saved = errno;
    size_t given_back = purger_trim();
    errno = saved;
    return given_back != 0;
}

EXPORT void API(malloc_stats)(void)
{
    int saved = errno;
    stats_print();
    errno = saved;
}

#ifdef __GLIBC__

/* glibc's fields, each with what comes nearest:
 *   arena     bytes in chunks (spans, large blocks, free pages)
 *   ordblks   free regions: not counted, 1        smblks, fsmblks  cached bytes in fsmblks
 *   hblks     huge blocks                          hblkhd  their bytes
 *   uordblks  live bytes in chunks                 fordblks  free bytes in chunks
 *   keepcost  bytes that malloc_trim would give back */
EXPORT struct mallinfo2 API(mallinfo2)(void)
{
    int saved = errno;
    struct stats stats;
    stats_collect(&stats);
    errno = saved;
    size_t live = stats.small_live + stats.large_live;
    size_t free_in_chunks = stats.cached + stats.small_free + stats.holes + stats.pages_dirty +
                            stats.pages_lazy + stats.pages_clean;
    return (struct mallinfo2){
        .arena = live + free_in_chunks,
        .ordblks = 1,
        .hblks = stats.huge_blocks,
        .hblkhd = stats.huge_live,
        .fsmblks = stats.cached,
        .uordblks = live,
        .fordblks = free_in_chunks,
        .keepcost = stats.pages_dirty + stats.huge_kept,
    };
}

/* The same in ints, which wrap above 2 GiB, as glibc's do. */
EXPORT struct mallinfo API(mallinfo)(void)
{
    struct mallinfo2 info = API(mallinfo2)();
    return (struct mallinfo){
        .arena = (int)info.arena,
        .ordblks = (int)info.ordblks,
        .hblks = (int)info.hblks,
        .hblkhd = (int)info.hblkhd,
        .fsmblks = (int)info.fsmblks,
        .uordblks = (int)info.uordblks,
        .fordblks = (int)info.fordblks,
        .keepcost = (int)info.keepcost,
    };
}

#endif

EXPORT int API(malloc_info)(int options, FILE *stream)
{
    if (options != 0)
        return EINVAL; /* not -1: as glibc does it */
    struct stats stats;
    stats_collect(&stats);
    int written = fprintf(
        stream,
        "<malloc version=\"ebbmalloc-" EBB_VERSION "\">\n"
        "<live small=\"%zu\" large=\"%zu\" huge=\"%zu\"/>\n"
        "<blocks large=\"%zu\" huge=\"%zu\"/>\n"
        "<free cached=\"%zu\" spans=\"%zu\" holes=\"%zu\" dirty=\"%zu\" lazy=\"%zu\" "
        "clean=\"%zu\" kept=\"%zu\"/>\n"
        "<system mapped=\"%zu\" resident=\"%zu\" metadata=\"%zu\"/>\n"
        "<purged bytes=\"%zu\" calls=\"%zu\" sweeps=\"%zu\"/>\n"
        "<arenas count=\"%zu\" spans=\"%zu\"/>\n"
        "</malloc>\n",
        stats.small_live, stats.large_live, stats.huge_live, stats.large_blocks, stats.huge_blocks,
        stats.cached, stats.small_free, stats.holes, stats.pages_dirty, stats.pages_lazy,
        stats.pages_clean, stats.huge_kept, stats.mapped, stats.resident, stats.metadata,
        stats.purged, stats.purge_calls, stats.sweeps, stats.arenas, stats.spans);
    return written < 0 ? -1 : 0;
}

/* glibc's parameters, where one has a meaning here; 1 for accepted, 0 for refused, and then nothing
 * has changed:
 *   M_TRIM_THRESHOLD  a process that uses fewer bytes is left alone by the purger; -1: it always is
 *   M_CHECK_ACTION    3 alone: a mistake is told, and the program aborted
 * The others are about a heap with a top, about sizes from which on blocks have mappings of their
 * own (here that is fixed), about the number of arenas (here each thread has one, and what they
 * keep is bounded in all), or fill blocks with a pattern. */
EXPORT int API(mallopt)(int parameter, int value)
{
    switch (parameter) {
    case M_TRIM_THRESHOLD:
        purger_set_threshold(value < 0 ? SIZE_MAX : (size_t)value);
        return 1;
    case M_CHECK_ACTION:
        return value == 3;
    default:
        return 0;
    }
}
