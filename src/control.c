/* control.c: the front door: the calls that ask about the heap or steer it, after glibc's. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>

#include "api.h"
#include "older.h"
#include "purger.h"
#include "report.h"
#include "stats.h"
#include "stats_text.h"

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
    report_write(REPORT_STDERR);
    errno = saved;
}

#ifndef EBB_NO_MALLINFO

/* glibc's fields, each with what comes nearest:
 *   arena     bytes in chunks (spans, large blocks, free pages)
 *   ordblks   free blocks in spans, a count        smblks   free blocks in caches, a count
 *   hblks     huge blocks, a count                 hblkhd   their bytes
 *   usmblks   the most that was in use of arena and hblkhd, each at its own time
 *   fsmblks   bytes in caches
 *   uordblks  live bytes in chunks                 fordblks  free bytes in chunks
 *   keepcost  free bytes that are resident, beside caches and spans in use */
EXPORT struct mallinfo2 API(mallinfo2)(void)
{
    int saved = errno;
    struct stats stats;
    stats_collect(&stats, NULL);
    errno = saved;
    size_t live = stats.small_live + stats.large_live;
    size_t free_in_chunks = stats.cached + stats.small_free + stats.holes + stats.pages_dirty +
                            stats.pages_lazy + stats.pages_clean;
    return (struct mallinfo2){
        .arena = live + free_in_chunks,
        .ordblks = stats.free_blocks,
        .smblks = stats.cached_blocks,
        .hblks = stats.huge_blocks,
        .hblkhd = stats.huge_live,
        .usmblks = stats.peak_chunks + stats.peak_huge,
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
        .smblks = (int)info.smblks,
        .usmblks = (int)info.usmblks,
        .hblks = (int)info.hblks,
        .hblkhd = (int)info.hblkhd,
        .fsmblks = (int)info.fsmblks,
        .uordblks = (int)info.uordblks,
        .fordblks = (int)info.fordblks,
        .keepcost = (int)info.keepcost,
    };
}

#endif

#ifndef EBB_NO_MALLOC_INFO

static void print_classes(FILE *stream, const struct stats_detail *detail)
{
    fputs("<classes>\n", stream);
    for (unsigned class = CLASS_FIRST; class <= CLASS_LAST; class ++) {
        const struct stats_class *of = &detail->classes[class];
        if (of->spans != 0)
            fprintf(stream,
                    "<class size=\"%u\" live=\"%zu\" cached=\"%zu\" free=\"%zu\" spans=\"%zu\" "
                    "waste=\"%zu\" holes=\"%zu\"/>\n",
                    sizeclasses[class].size, of->live, of->cached, of->free, of->spans,
                    stats_waste(of, class), of->holes);
    }
    fputs("</classes>\n", stream);
}

static void print_arenas(FILE *stream, const struct stats_detail *detail)
{
    for (size_t i = 0; i < detail->arenas; i++) {
        const struct stats_arena *arena = &detail->arena[i];
        fprintf(stream,
                "<arena thread=\"%d\" live=\"%zu\" out=\"%zu\" cached=\"%zu\" free=\"%zu\" "
                "holes=\"%zu\" "
                "spans=\"%zu\" foreign-frees=\"%zu\"/>\n",
                arena->thread_id, arena->live, arena->out, arena->cached, arena->free, arena->holes,
                arena->spans, (size_t)arena->foreign_frees);
    }
}

/* The stream may allocate: nothing is held meanwhile. */
EXPORT int API(malloc_info)(int flags, FILE *stream)
{
    if (flags != 0)
        return EINVAL; /* not -1: as glibc does it */
    struct stats stats;
    arenas_prepare(); /* it may be the program's first call */
    struct stats_detail *detail = stats_new_detail();
    stats_collect(&stats, detail);
    stats_ask_kernel(&stats);
    fprintf(stream,
            "<malloc version=\"ebbmalloc-" EBB_VERSION "\">\n"
            "<live small=\"%zu\" large=\"%zu\" huge=\"%zu\"/>\n"
            "<blocks large=\"%zu\" huge=\"%zu\" free=\"%zu\" cached=\"%zu\"/>\n"
            "<free cached=\"%zu\" spans=\"%zu\" holes=\"%zu\" dirty=\"%zu\" lazy=\"%zu\" "
            "clean=\"%zu\" kept=\"%zu\"/>\n"
            "<system mapped=\"%zu\" resident=\"%zu\" metadata=\"%zu\" spare=\"%zu\"/>\n"
            "<peak resident=\"%zu\" out=\"%zu\" chunks=\"%zu\" huge=\"%zu\"/>\n"
            "<purged bytes=\"%zu\" calls=\"%zu\" us=\"%zu\" sweeps=\"%zu\"/>\n",
            stats.small_live, stats.large_live, stats.huge_live, stats.large_blocks,
            stats.huge_blocks, stats.free_blocks, stats.cached_blocks, stats.cached,
            stats.small_free, stats.holes, stats.pages_dirty, stats.pages_lazy, stats.pages_clean,
            stats.huge_kept, stats.mapped, stats.resident, stats.metadata, stats.metadata_spare,
            stats.peak_resident, stats.peak_out, stats.peak_chunks, stats.peak_huge, stats.purged,
            stats.purge_calls, (size_t)stats.purge_us, stats.sweeps);
    fprintf(stream, "<arenas count=\"%zu\" spans=\"%zu\">\n", stats.arenas, stats.spans);
    if (detail != NULL)
        print_arenas(stream, detail);
    fputs("</arenas>\n", stream);
    if (detail != NULL)
        print_classes(stream, detail);
    stats_drop_detail(detail);
    return fputs("</malloc>\n", stream) < 0 || ferror(stream) ? -1 : 0;
}

#endif

#ifndef EBB_NO_MALLOPT

/* glibc's parameters, where one has a meaning here; 1 for accepted, 0 for refused, and then nothing
 * has changed:
 *   M_TRIM_THRESHOLD  a process that uses no more bytes is left alone by the purger; -1: any is
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

#endif
