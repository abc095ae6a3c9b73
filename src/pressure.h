/* pressure.h: is memory short? When it is, the purger waits for nothing: what is free is given back
 * at the next look. Three signs, each of them enough:
 *
 *   the cgroup   what the process's own group uses, or any group above it that can be seen, is
 *                within a margin of its limit (memory.max, memory.high; version 1:
 *                memory.limit_in_bytes), file cache not counted;
 *   stalls       for the last ten seconds some thread of the group (where a group has no such
 *                account: of the machine) waited for memory a tenth of the time, and waits still;
 *   soft limit   the process's resident memory, files not counted, has reached the bytes that the
 *                user gave.
 *
 * Whatever is missing, unreadable or not understood is no sign: nothing here fails.
 *
 * No state but in struct pressure, which has one caller at a time. No allocation, no libc beyond
 * system calls, little stack; errno is kept.
 */
#ifndef EBB_PRESSURE_H
#define EBB_PRESSURE_H

#include "base.h"

enum pressure_version { GROUPS_V1, GROUPS_V2, GROUP_VERSIONS };

/* Groups that are looked at: the process's own, and those above it. */
#define PRESSURE_LEVELS 16

/* The longest line and path that are read, in bytes; longer ones are passed over. */
#define PRESSURE_LINE 4096
#define PRESSURE_PATH 1024

/* One who looks. All zero is one who keeps nothing open from look to look: its descriptors would be
 * the program's as well, which may close them and open others under the same numbers. */
struct pressure {
    bool keeps_open;
    bool is_high; /* what the last look said */
    int64_t room; /* bytes until one of the limits is near, at the last look */
    uint64_t next_look_ms;

    /* Of the stalls' account: their sum, and when it was last seen to have grown; 0 for never. */
    uint64_t stalled_us, stalled_at_ms;

    /* Descriptors, negative where there is none: of files … */
    int membership, resident, stalls;
    /* … and of the groups' directories, each after those below it. */
    size_t level_count;
    struct pressure_level {
        int directory;
        enum pressure_version version;
    } levels[PRESSURE_LEVELS];

    uint64_t next_find_ms;
    uint64_t place; /* of the membership's text, when the levels were found */

    /* Of a look that is under way: too much for the stack of a thread of the program. */
    char own[GROUP_VERSIONS][PRESSURE_PATH]; /* the process's groups; empty where there is none */
    char path[PRESSURE_PATH];                /* one that is put together */
    struct pressure_lines {
        int descriptor;
        uint64_t offset;   /* of the file: where to read on */
        size_t start, end; /* of what is read and not yet given out */
        char text[PRESSURE_LINE];
    } lines; /* of one file at a time */
};

/* For a thread whose descriptors are its own: finds the groups and keeps them open from now on, so
 * that it does no harm when the program closes everything or changes its root. The descriptors end
 * with the thread. With keeps_open false: the same as all zero. */
void pressure_begin(struct pressure *pressure, bool keeps_open);

/* False when there is nothing to look at, so that nobody need wake for it. */
bool pressure_is_watched(const struct pressure *pressure, size_t soft_limit);

/* True when memory is short. Looks some times a second at most; between looks it repeats itself.
 * soft_limit in bytes, 0 for none. */
bool pressure_is_high(struct pressure *pressure, size_t soft_limit);

/* ---- The pieces, for tests --------------------------------------------------------------------
 */

/* How near to its limit a group is short of memory, in bytes. */
uint64_t pressure_margin(uint64_t limit);

/* A number and nothing after it; "max" is UINT64_MAX. */
bool pressure_parse_number(const char *text, uint64_t *value);

/* A line of /proc/PID/cgroup: which version's group the process is in, as far as memory goes, and
 * its path, which points into the line. False for other controllers. */
bool pressure_parse_membership(const char *line, enum pressure_version *version, const char **path);

/* Where groups are to be seen. */
struct pressure_mount {
    enum pressure_version version;
    const char *root;  /* the path of the group that is mounted … */
    const char *point; /* … here */
};

/* A line of /proc/PID/mountinfo, cut into its words and spoilt. False when it is of something
 * else. */
bool pressure_parse_mount(char *line, struct pressure_mount *mount);

/* The path of a group below the one that is mounted: "" for that one itself, else beginning with a
 * slash; NULL when it cannot be seen there. */
const char *pressure_path_below(const char *root, const char *path);

/* The first line of a file of stalls: "some avg10=…", in hundredths of a percent, and their sum. */
bool pressure_parse_stalls(const char *line, uint64_t *average, uint64_t *stalled_us);

#ifdef EBB_PREFIXED
/* For tests: what stands before the absolute paths that are opened; "" at the start. */
extern const char *pressure_root;

/* The clock in milliseconds; NULL for the kernel's. */
extern uint64_t (*pressure_clock)(void);
#endif

#endif
