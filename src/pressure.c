#include "pressure.h"

#include <string.h>

#include "os.h"
#include "purge.h"
#include "text.h"

/* A group is short of memory when a sixteenth of its limit or less is left: enough for what a load
 * takes between two looks, and for the file cache that the programs themselves run from. At least 4
 * MiB, so that a small group is seen in time; at most 1 GiB, so that one that is meant to be nearly
 * full, with gigabytes left, does not go without its delay for good. */
#define MARGIN_SHARE 16
#define MARGIN_LEAST (4 * MiB)
#define MARGIN_MOST (1024 * MiB)

/* "Some" thread stalled for a tenth of the time, in hundredths of a percent. Purging early costs
 * page faults worth some percent at most. */
#define STALLS_HIGH 1000

/* The average lags behind by ten seconds: what is over must not count. The sum says whether there
 * are stalls still, but the kernel brings it up to date every two seconds only. */
#define STALLS_FRESH_MS 3000

/* From look to look: with descriptors that are kept, and with all to be opened. */
#define LOOK_MS 50
#define LONG_LOOK_MS 250

/* A process is seldom moved to another group, and to ask takes a lock that all groups share. */
#define FIND_MS 2000

#ifdef EBB_PREFIXED
const char *pressure_root = "";
uint64_t (*pressure_clock)(void);
#define now_ms() (pressure_clock != NULL ? pressure_clock() : os_now_ms())
#else
#define pressure_root ""
#define now_ms() os_now_ms()
#endif

#define NONE (-1)

/* ---- Numbers and lines ------------------------------------------------------------------------
 */

static bool read_digits(const char **text, uint64_t *value)
{
    uint64_t number = 0;
    const char *at = *text;
    if (*at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
            return false;
    *text = at;
    *value = number;
    return true;
}

bool pressure_parse_number(const char *text, uint64_t *value)
{
    if (strcmp(text, "max") == 0) {
        *value = UINT64_MAX;
        return true;
    }
    return read_digits(&text, value) && *text == '\0';
}

/* Behind text, or NULL when the line begins otherwise. */
static const char *after(const char *line, const char *text)
{
    size_t length = strlen(text);
    return strncmp(line, text, length) == 0 ? line + length : NULL;
}

/* A file, line by line. */
static void begin_lines(struct pressure_lines *lines, int descriptor)
{
    lines->descriptor = descriptor;
    lines->offset = 0;
    lines->start = lines->end = 0;
}

/* Brings in more behind what is there; false at the end of the file, or when there is none. */
static bool read_on(struct pressure_lines *lines)
{
    lines->end -= lines->start;
    memmove(lines->text, lines->text + lines->start, lines->end);
    lines->start = 0;
    size_t length = os_read_at(lines->descriptor, lines->offset, lines->text + lines->end,
                               sizeof lines->text - lines->end);
    lines->offset += length;
    lines->end += length;
    return length != 0;
}

/* The next line without its newline, or NULL. What has no newline is cut off, and so no line. */
static char *next_line(struct pressure_lines *lines)
{
    bool too_long = false;
    for (;;) {
        char *line = lines->text + lines->start;
        char *newline = memchr(line, '\n', lines->end - lines->start);
        if (newline != NULL) {
            *newline = '\0';
            lines->start = (size_t)(newline - lines->text) + 1;
            if (!too_long)
                return line;
            too_long = false;
        } else {
            if (lines->end - lines->start == sizeof lines->text) {
                too_long = true;
                lines->start = lines->end;
            }
            if (!read_on(lines))
                return NULL;
        }
    }
}

static bool read_number(struct pressure_lines *lines, int directory, const char *name,
                        uint64_t *value)
{
    int descriptor = os_open(directory, name, false);
    if (descriptor < 0)
        return false;
    begin_lines(lines, descriptor);
    const char *line = next_line(lines);
    bool read = line != NULL && pressure_parse_number(line, value);
    os_close(descriptor);
    return read;
}

/* ---- Where the groups are ---------------------------------------------------------------------
 */

/* Is word one of the words in a list with commas, which ends at the character given? */
static bool lists(const char *list, char end, const char *word)
{
    size_t length = strlen(word);
    for (;;) {
        if (strncmp(list, word, length) == 0 && (list[length] == ',' || list[length] == end))
            return true;
        while (*list != ',' && *list != end && *list != '\0')
            list++;
        if (*list != ',')
            return false;
        list++;
    }
}

bool pressure_parse_membership(const char *line, enum pressure_version *version, const char **path)
{
    uint64_t hierarchy;
    if (!read_digits(&line, &hierarchy) || *line != ':')
        return false;
    const char *controllers = line + 1;
    const char *colon = strchr(controllers, ':');
    if (colon == NULL || colon[1] != '/')
        return false;
    if (hierarchy == 0 && colon == controllers)
        *version = GROUPS_V2;
    else if (lists(controllers, ':', "memory"))
        *version = GROUPS_V1;
    else
        return false;
    *path = colon + 1;
    return true;
}

/* The next word of a line, ended by a zero; it may be empty. NULL when there is none. */
static char *cut_word(char **line)
{
    char *word = *line;
    if (word == NULL)
        return NULL;
    char *space = strchr(word, ' ');
    *line = space != NULL ? space + 1 : NULL;
    if (space != NULL)
        *space = '\0';
    return word;
}

/* The kernel writes space, tab, newline and backslash as a backslash and three octal digits. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
            from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* "31 24 0:28 ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER_OPTIONS" */
bool pressure_parse_mount(char *line, struct pressure_mount *mount)
{
    const char *word;
    for (int i = 0; i < 3; i++)
        cut_word(&line);
    char *root = cut_word(&line);
    char *point = cut_word(&line);
    do
        word = cut_word(&line);
    while (word != NULL && strcmp(word, "-") != 0);
    const char *type = cut_word(&line);
    cut_word(&line);
    const char *super_options = cut_word(&line);
    if (super_options == NULL)
        return false;
    if (strcmp(type, "cgroup2") == 0)
        mount->version = GROUPS_V2;
    else if (strcmp(type, "cgroup") == 0 && lists(super_options, '\0', "memory"))
        mount->version = GROUPS_V1;
    else
        return false;
    unescape(root);
    unescape(point);
    mount->root = root;
    mount->point = point;
    return root[0] == '/' && point[0] == '/';
}

/* Seen from a namespace, a group outside begins with "/..", and so may the one that is mounted: the
 * names that they have in common may go, but to walk up from a mount leads out of it. */
static bool walks_up(const char *path)
{
    for (const char *at = strstr(path, "/.."); at != NULL; at = strstr(at + 1, "/.."))
        if (at[3] == '/' || at[3] == '\0')
            return true;
    return false;
}

const char *pressure_path_below(const char *root, const char *path)
{
    size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(path, root, length) != 0 || (path[length] != '/' && path[length] != '\0'))
        return NULL;
    path += length;
    if (walks_up(path))
        return NULL;
    return strcmp(path, "/") == 0 ? "" : path;
}

/* False when it is too long. */
static bool put_together(struct pressure *pressure, const char *first, const char *second)
{
    size_t length =
        text_format(pressure->path, PRESSURE_PATH, "%s%s%s", pressure_root, first, second);
    return length < PRESSURE_PATH - 1;
}

static int open_absolute(struct pressure *pressure, const char *path)
{
    return put_together(pressure, path, "") ? os_open(OS_NO_DIRECTORY, pressure->path, false)
                                            : NONE;
}

/* Opens the group at pressure->path and all above it, of which the last is `last` characters long.
 * False when it is not there. */
static bool open_levels(struct pressure *pressure, enum pressure_version version, size_t last)
{
    bool found = false;
    char *path = pressure->path;
    for (size_t length = strlen(path); pressure->level_count < PRESSURE_LEVELS;) {
        path[length] = '\0';
        int directory = os_open(OS_NO_DIRECTORY, path, true);
        if (directory >= 0)
            pressure->levels[pressure->level_count++] = (struct pressure_level){directory, version};
        else if (!found)
            return false;
        found = true;
        if (length <= last)
            break;
        do
            length--;
        while (length > last && path[length] != '/');
    }
    return found;
}

/* Returns what tells this membership from another. */
static uint64_t read_membership(struct pressure *pressure)
{
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
    pressure->own[GROUPS_V1][0] = pressure->own[GROUPS_V2][0] = '\0';
    begin_lines(&pressure->lines, pressure->membership);
    for (const char *line; (line = next_line(&pressure->lines)) != NULL;) {
        enum pressure_version version;
        const char *path;
        if (!pressure_parse_membership(line, &version, &path))
            continue;
        for (const char *at = line; *at != '\0'; at++)
            hash = (hash ^ (unsigned char)*at) * 0x100000001b3;
        if (strlen(path) < PRESSURE_PATH)
            text_format(pressure->own[version], PRESSURE_PATH, "%s", path);
    }
    return hash;
}

/* After read_membership: opens each group under the first mount where it can be seen. */
static void open_groups(struct pressure *pressure)
{
    int mounts = open_absolute(pressure, "/proc/thread-self/mountinfo");
    begin_lines(&pressure->lines, mounts);
    for (char *line; (line = next_line(&pressure->lines)) != NULL;) {
        struct pressure_mount mount;
        if (!pressure_parse_mount(line, &mount))
            continue;
        char *own = pressure->own[mount.version];
        if (own[0] == '\0')
            continue;
        const char *below = pressure_path_below(mount.root, own);
        if (strcmp(mount.point, "/") == 0)
            mount.point = "";
        if (below != NULL && put_together(pressure, mount.point, below) &&
            open_levels(pressure, mount.version, strlen(pressure_root) + strlen(mount.point)))
            own[0] = '\0';
    }
    if (mounts >= 0)
        os_close(mounts);
}

/* The account of the stalls of the own group, else of the machine. Groups of the second version
 * have one, even where it is the first that counts memory. */
static int open_stalls(struct pressure *pressure)
{
    for (size_t i = 0; i < pressure->level_count; i++) {
        if (pressure->levels[i].version != GROUPS_V2)
            continue;
        int descriptor = os_open(pressure->levels[i].directory, "memory.pressure", false);
        if (descriptor >= 0)
            return descriptor;
        break;
    }
    return open_absolute(pressure, "/proc/pressure/memory");
}

static void find_groups(struct pressure *pressure)
{
    pressure->level_count = 0;
    pressure->place = read_membership(pressure);
    open_groups(pressure);
    pressure->stalls = open_stalls(pressure);
}

static void leave_groups(struct pressure *pressure)
{
    for (size_t i = 0; i < pressure->level_count; i++)
        os_close(pressure->levels[i].directory);
    pressure->level_count = 0;
    if (pressure->stalls >= 0)
        os_close(pressure->stalls);
}

/* What is kept open goes on telling about the group that the process has left. */
static void find_groups_again(struct pressure *pressure)
{
    if (pressure->level_count != 0 && read_membership(pressure) == pressure->place)
        return;
    leave_groups(pressure);
    find_groups(pressure);
}

static void open_all(struct pressure *pressure)
{
    pressure->membership = open_absolute(pressure, "/proc/thread-self/cgroup");
    pressure->resident = open_absolute(pressure, "/proc/thread-self/statm");
    find_groups(pressure);
}

static void close_all(struct pressure *pressure)
{
    leave_groups(pressure);
    if (pressure->membership >= 0)
        os_close(pressure->membership);
    if (pressure->resident >= 0)
        os_close(pressure->resident);
}

/* ---- The three signs --------------------------------------------------------------------------
 */

uint64_t pressure_margin(uint64_t limit)
{
    uint64_t margin = limit / MARGIN_SHARE;
    if (margin < MARGIN_LEAST)
        margin = MARGIN_LEAST;
    if (margin > MARGIN_MOST)
        margin = MARGIN_MOST;
    return margin < limit / 2 ? margin : limit / 2;
}

/* What the kernel drops before it lets a group run short: file cache, and the caches of its own
 * that it counts to the group. Use counts both, and a container that reads files fills its limit
 * with them for good. All of the file cache, not only its inactive half: for one that reads the
 * same files again the active half is most of it. Where that is missed, there are stalls. (Memory
 * that was given back with MADV_FREE is in there as well.) Of the groups below too. */
static bool read_reclaimable(struct pressure_lines *lines, int directory,
                             enum pressure_version version, uint64_t *bytes)
{
    static const char *const names[GROUP_VERSIONS][3] = {
        [GROUPS_V1] = {"total_inactive_file ", "total_active_file ", NULL},
        [GROUPS_V2] = {"inactive_file ", "active_file ", "slab_reclaimable "},
    };
    int descriptor = os_open(directory, "memory.stat", false);
    if (descriptor < 0)
        return false;
    bool known = false;
    *bytes = 0;
    begin_lines(lines, descriptor);
    for (const char *line; (line = next_line(lines)) != NULL;) {
        for (int i = 0; i < 3 && names[version][i] != NULL; i++) {
            uint64_t value;
            const char *number = after(line, names[version][i]);
            if (number != NULL && pressure_parse_number(number, &value) &&
                !__builtin_add_overflow(*bytes, value, bytes))
                known = true;
        }
    }
    os_close(descriptor);
    return known;
}

/* Bytes until a group is near its limit, or less than 1; PURGE_ROOM_ANY where there is none. */
static int64_t room_in_group(struct pressure_lines *lines, int directory,
                             enum pressure_version version)
{
    static const struct {
        const char *used, *limit, *throttled;
    } names[GROUP_VERSIONS] = {
        [GROUPS_V1] = {"memory.usage_in_bytes", "memory.limit_in_bytes", NULL},
        [GROUPS_V2] = {"memory.current", "memory.max", "memory.high"},
    };
    uint64_t used, limit, throttled, reclaimable;
    if (!read_number(lines, directory, names[version].limit, &limit))
        return PURGE_ROOM_ANY;
    if (names[version].throttled != NULL &&
        read_number(lines, directory, names[version].throttled, &throttled) && throttled < limit)
        limit = throttled;
    if (limit >= PURGE_ROOM_ANY || !read_number(lines, directory, names[version].used, &used) ||
        used >= PURGE_ROOM_ANY)
        return PURGE_ROOM_ANY;
    uint64_t most = limit - pressure_margin(limit);
    /* The statistics are dear: the kernel adds them up for the reader. */
    if (used >= most && (!read_reclaimable(lines, directory, version, &reclaimable) ||
                         __builtin_sub_overflow(used, reclaimable, &used)))
        return PURGE_ROOM_ANY;
    return (int64_t)most - (int64_t)used;
}

bool pressure_parse_stalls(const char *line, uint64_t *average, uint64_t *stalled_us)
{
    uint64_t whole, hundredths;
    line = after(line, "some avg10=");
    if (line == NULL || !read_digits(&line, &whole) || whole > 100 || *line != '.')
        return false;
    const char *fraction = ++line;
    if (!read_digits(&line, &hundredths) || line != fraction + 2)
        return false;
    const char *total = strstr(line, " total=");
    if (total == NULL || !pressure_parse_number(total + strlen(" total="), stalled_us))
        return false;
    *average = whole * 100 + hundredths;
    return true;
}

/* The first look only takes note of the sum. */
static bool is_stalled(struct pressure *pressure, uint64_t now)
{
    uint64_t average, stalled_us;
    begin_lines(&pressure->lines, pressure->stalls);
    const char *line = next_line(&pressure->lines);
    if (line == NULL || !pressure_parse_stalls(line, &average, &stalled_us))
        return false;
    if (stalled_us > pressure->stalled_us && pressure->stalled_us != 0)
        pressure->stalled_at_ms = now;
    pressure->stalled_us = stalled_us;
    return average >= STALLS_HIGH && pressure->stalled_at_ms != 0 &&
           now - pressure->stalled_at_ms < STALLS_FRESH_MS;
}

/* "TOTAL RESIDENT SHARED …" in OS pages. Shared are the pages of files, the program's own code
 * among them, and memory shared with others: none of it comes from malloc, and a mapped data base
 * would be over any limit. No margin: a soft limit is one. */
static int64_t room_below_soft_limit(struct pressure *pressure, size_t soft_limit)
{
    uint64_t total, resident, shared, bytes;
    begin_lines(&pressure->lines, pressure->resident);
    const char *line = soft_limit != 0 ? next_line(&pressure->lines) : NULL;
    bool known = line != NULL && read_digits(&line, &total) && *line++ == ' ' &&
                 read_digits(&line, &resident) && *line++ == ' ' && read_digits(&line, &shared) &&
                 resident >= shared &&
                 !__builtin_mul_overflow(resident - shared, os_page_size, &bytes) &&
                 bytes < PURGE_ROOM_ANY;
    return known ? (int64_t)soft_limit - (int64_t)bytes : PURGE_ROOM_ANY;
}

/* All signs, whatever the first says: the stalls' account wants to be followed. */
static bool look(struct pressure *pressure, size_t soft_limit, uint64_t now)
{
    bool is_high = is_stalled(pressure, now);
    int64_t room = room_below_soft_limit(pressure, soft_limit);
    for (size_t i = 0; i < pressure->level_count && room > 0; i++) {
        int64_t in_group = room_in_group(&pressure->lines, pressure->levels[i].directory,
                                         pressure->levels[i].version);
        room = in_group < room ? in_group : room;
    }
    pressure->room = room;
    return is_high || room <= 0;
}

void pressure_begin(struct pressure *pressure, bool keeps_open)
{
    memset(pressure, 0, sizeof *pressure);
    pressure->keeps_open = keeps_open;
    if (!keeps_open)
        return;
    open_all(pressure);
    pressure->next_find_ms = now_ms() + FIND_MS;
}

bool pressure_is_watched(const struct pressure *pressure, size_t soft_limit)
{
    return soft_limit != 0 || !pressure->keeps_open || pressure->level_count != 0 ||
           pressure->stalls >= 0;
}

bool pressure_is_high(struct pressure *pressure, size_t soft_limit)
{
    uint64_t now = now_ms();
    if (now < pressure->next_look_ms)
        return pressure->is_high;
    if (!pressure->keeps_open) {
        open_all(pressure);
    } else if (now >= pressure->next_find_ms) {
        pressure->next_find_ms = now + FIND_MS;
        find_groups_again(pressure);
    }
    pressure->is_high = look(pressure, soft_limit, now);
    if (!pressure->keeps_open)
        close_all(pressure);
    pressure->next_look_ms = now + (pressure->keeps_open ? LOOK_MS : LONG_LOOK_MS);
    return pressure->is_high;
}
