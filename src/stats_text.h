/* stats_text.h: the page of malloc_stats, as lines of at most 80 columns. Pure: it asks nobody and
 * keeps nothing, so that `ebb stat` writes the same page of another process.
 */
#ifndef EBB_STATS_TEXT_H
#define EBB_STATS_TEXT_H

#include "options.h"
#include "stats.h"

struct stats_page {
    const char *title; /* the first line */
    const struct stats *stats;
    const struct stats_detail *detail; /* or NULL: without arenas and classes */
    const struct options *options;     /* those in force; any values are safe but for the path */

    /* Takes one line, without its end. */
    void (*line)(struct stats_page *page, const char *text);

    /* The name of a thread; empty when there is none of that id. */
    void (*thread_name)(struct stats_page *page, int thread_id, char *name, size_t capacity);
};

void stats_write(struct stats_page *page);

/* Bytes of a class's spans that are resident and neither live nor in a cache: free blocks and the
 * ends of spans. 0 for those that have no spans. */
size_t stats_waste(const struct stats_class *of, unsigned class);

#endif
