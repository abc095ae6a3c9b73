/* map.c: `ebb map PID -o FILE`: the picture of the heap (picture.h), as a page for a browser or as
 * an SVG (map_write.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "map_write.h"

struct request {
    pid_t pid;
    const char *path;
    bool svg;
    uint64_t every_ms, for_ms; /* 0: once */
};

static void sleep_until(uint64_t ms)
{
    struct timespec at = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        continue;
}

/* One look after the other; a process that ends in between ends the film. */
static enum exit_status film(const struct request *request, const struct target *target, FILE *file)
{
    struct picture before = {NULL, 0, NULL, 0};
    struct packed_spans spans = {{NULL, 0, 0}, NULL, 0};
    struct heap heap;
    uint64_t begin_ms = os_now_us() / 1000, taken = 0;
    enum exit_status status = heap_read(&heap, target, HEAP_BLOCKS);
    if (status != EXIT_DONE)
        return status;
    if (!request->svg)
        map_write_begin(target, file);
    for (;;) {
        struct picture picture = picture_draw(&heap, target);
        if (request->svg)
            map_write_svg(&picture, &heap, target, file);
        else
            map_write_frame(&picture, &before, &heap, &spans, os_now_us() / 1000 - begin_ms, file);
        picture_drop(&before);
        before = picture;
        taken++;
        if (request->every_ms == 0 || taken * request->every_ms > request->for_ms)
            break;
        struct heap next;
        sleep_until(begin_ms + taken * request->every_ms);
        if (heap_read(&next, target, HEAP_BLOCKS) != EXIT_DONE)
            break;
        heap_drop(&heap);
        heap = next;
    }
    if (!request->svg)
        map_write_end(target, &heap, file);
    picture_drop(&before);
    packed_spans_drop(&spans);
    heap_drop(&heap);
    return EXIT_DONE;
}

/* A time like 1s, 500ms or 2m. */
static bool parse_time(const char *text, uint64_t *ms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"", 1000}};
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (*text >= '0' && *text <= '9' && number <= 1000000 && strcmp(end, units[i].name) == 0) {
            *ms = number * units[i].ms;
            return *ms != 0;
        }
    return false;
}

static bool ends_in(const char *text, const char *end)
{
    size_t length = strlen(text), part = strlen(end);
    return length > part && strcmp(text + length - part, end) == 0;
}

static bool usage(const char *what, const char *value)
{
    complain("map: %s%s", value, what);
    return false;
}

static bool parse(int argc, char **argv, struct request *request)
{
    const char *pid = NULL;
    for (int i = 1; i < argc; i++) {
        const char *value = argv[i][0] == '-' && i + 1 < argc ? argv[i + 1] : NULL;
        if (argv[i][0] != '-' && pid == NULL)
            pid = argv[i];
        else if (argv[i][0] != '-')
            return usage(": one process id is expected, not two", argv[i]);
        else if (value != NULL && strcmp(argv[i], "-o") == 0)
            request->path = value, i++;
        else if (value != NULL && strcmp(argv[i], "--every") == 0 &&
                 parse_time(value, &request->every_ms))
            i++;
        else if (value != NULL && strcmp(argv[i], "--for") == 0 &&
                 parse_time(value, &request->for_ms))
            i++;
        else if (value != NULL &&
                 (strcmp(argv[i], "--every") == 0 || strcmp(argv[i], "--for") == 0))
            return usage(": a time like 500ms, 1s or 2m is expected", value);
        else
            return usage(": no such option, or it lacks its value; see ebb help map", argv[i]);
    }
    if (pid == NULL)
        return usage("a process id is expected; ebb top lists processes", "");
    if (request->path == NULL ||
        !(ends_in(request->path, ".html") || ends_in(request->path, ".svg")))
        return usage("-o FILE.html or -o FILE.svg is expected", "");
    request->svg = ends_in(request->path, ".svg");
    if ((request->every_ms == 0) != (request->for_ms == 0))
        return usage("--every and --for belong together", "");
    if (request->svg && request->every_ms != 0)
        return usage("an SVG shows one moment; --every is for -o FILE.html", "");
    request->pid = target_parse("map", pid);
    return request->pid != 0;
}

static int map(int argc, char **argv)
{
    struct request request = {0};
    struct target target;
    if (!parse(argc, argv, &request))
        return EXIT_USAGE;
    enum exit_status status = target_open(&target, request.pid, false);
    if (status != EXIT_DONE)
        return status;
    FILE *file = fopen(request.path, "we");
    if (file == NULL) {
        complain("%s: %s", request.path, strerror(errno));
        return EXIT_FAILED;
    }
    status = film(&request, &target, file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) {
        complain("%s: %s", request.path, strerror(errno));
        return EXIT_FAILED;
    }
    return status;
}

const struct command map_command = {
    "map",
    "PID -o FILE.html | FILE.svg",
    "draw the heap of a running process",
    "An HTML page shows each 4 KiB as a dot: red for live, the darker the more of\n"
    "it is; grey for free and resident; white for given back; blue for blocks in\n"
    "caches; violet for the library's own records. It can be zoomed and moved; what\n"
    "is under the pointer is told. It needs nothing but a browser. An SVG shows\n"
    "32 KiB as a dot.\n\n"
    "  -o FILE       where to; its ending says what\n"
    "  --every TIME  for a film with a slider: how often to look,\n"
    "  --for TIME    and how long: 500ms, 30s, 2m\n",
    map,
};
