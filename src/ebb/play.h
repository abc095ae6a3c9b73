/* play.h: replays a script on the malloc of this very process: its threads, in their order. Nothing
 * here allocates but the script's own operations and the starting of threads. All tables are shared
 * mappings, so that anonymous resident memory is the allocator's, less what was there before. */
#ifndef EBB_PLAY_H
#define EBB_PLAY_H

#include "chart.h"
#include "script.h"

struct play_result {
    bool is_done;
    uint64_t elapsed_ns;
    uint64_t most_resident;      /* bytes, as all of these; sampled every few milliseconds */
    uint64_t final_resident;     /* after the last operation, its blocks still live */
    uint64_t later_resident;     /* a second later */
    double mean_ratio;           /* resident / live, over all samples */
    struct curve resident, live; /* by microseconds */
};

struct play_request {
    bool verify;        /* fill every block, and check every byte; nothing is measured then */
    bool show_progress; /* one line on stderr */
};

/* False after a complaint: a block was not what it should be, or there was no memory or thread. */
bool play(struct script_head *script, const struct play_request *request,
          struct play_result *result);

#endif
