/* never: where there shall be no purger there is none, and all works without. Small processes never
 * get a thread, nor does one with EBBMALLOC_BACKGROUND_THREAD=off; where the kernel refuses it, the
 * program's own calls give memory back. A seccomp filter that kills at the first clone shows it;
 * that it does is tried first.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Longer than the purge delay. */
#define SECONDS 1.5

static void kill_at_clone(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    if (!filter_clone(SECCOMP_RET_KILL_PROCESS))
        fail("the filter was there a moment ago");
}

static void rise_and_fall_for(double seconds, size_t bytes)
{
    for (double end = now_seconds() + seconds; now_seconds() < end; sleep_seconds(0.01))
        rise_and_fall(bytes);
}

static void large_part(void)
{
    kill_at_clone();
    rise_and_fall_for(SECONDS, 64 * MiB);
}

static void small_part(void)
{
    kill_at_clone();
    rise_and_fall_for(SECONDS, 6 * MiB);
}

/* Exec'ed with the filter in force. */
static void command_part(const char *command)
{
    int nowhere = open("/dev/null", O_WRONLY);
    if (nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0)
        fail("/dev/null: %s", strerror(errno));
    kill_at_clone();
    execlp(command, command, "/", (char *)NULL);
    fail("%s: %s", command, strerror(errno));
}

/* Mixed sizes, checked; errno must not tell of what the kernel refused. */
static void use_many_sizes(void)
{
    struct parcel *parcels[2000];
    for (size_t i = 0; i < 2000; i++) {
        errno = EDOM;
        parcels[i] = parcel_make(PARCEL_LEAST + i * 16, 0);
        if (errno != EDOM)
            fail("malloc changed errno to %d", errno);
    }
    for (size_t i = 0; i < 2000; i++) {
        errno = EDOM;
        parcel_end(parcels[i], 0, "without a thread");
        if (errno != EDOM)
            fail("free changed errno to %d", errno);
    }
}

/* A second of few calls after the fall: those give back what the load left. */
static void refused_part(void)
{
    struct load load = {.bytes = 96 * MiB, .least = 16, .most = 8 * KiB};
    if (!filter_clone(SECCOMP_RET_ERRNO | EPERM))
        fail("the filter was there a moment ago");
    touch_stack();
    load_prepare(&load);
    size_t start = resident_bytes();
    use_many_sizes();
    load_rise(&load, 1);
    size_t peak = resident_bytes();
    load_fall(&load);
    for (double end = now_seconds() + SECONDS; now_seconds() < end; sleep_seconds(0.01))
        rise_and_fall(1 * MiB);
    size_t end = resident_bytes();
    size_t stays = end > start ? end - start : 0;
    report("refused: %zu KiB at the peak, %zu KiB later", (peak - start) / KiB, stays / KiB);
    /* The caches of this thread, 4 MiB at most, and the 1 MiB that comes and goes. */
    if (stays > MAY_STAY(peak - start) + 5 * MiB)
        fail("%zu KiB stay resident", stays / KiB);
    if (find_purger(getpid()) != 0)
        fail("there is a purger though clone is refused");
}

static void expect_success(const char *part, char *variable)
{
    int status = run_part(part, variable, 30);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        fail("%s: it was killed at a clone", part);
    require_success(status, part);
}

static int start_part(const char *part)
{
    if (strcmp(part, "filter") == 0)
        return filter_clone(SECCOMP_RET_ERRNO | EPERM) ? 0 : 77;
    if (strcmp(part, "large") == 0)
        large_part();
    else if (strcmp(part, "small") == 0)
        small_part();
    else if (strcmp(part, "refused") == 0)
        refused_part();
    else
        command_part(part);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[0], "part") == 0) {
        stress_begin_part("never", argv[2]);
        return start_part(argv[1]);
    }
    stress_begin(argc, argv, "never", 100);
    if (run_part("filter", NULL, 10) != 0) {
        report("this kernel has no seccomp filters: skipped");
        return 77;
    }
    int status = run_part("large", NULL, 30);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
        promise_broken("a large process got no purger, or the filter shows nothing");
    expect_success("small", NULL);
    expect_success("true", NULL);
    expect_success("ls", NULL);
    expect_success("large", "EBBMALLOC_BACKGROUND_THREAD=off");
    expect_success("refused", NULL);
    return 0;
}
