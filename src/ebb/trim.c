/* trim.c: `ebb trim PID`: asks a process to do what malloc_trim does, and waits for its answer. The
 * request is a number that is written into the library's memory there (purger.h). Nobody can be
 * woken for it from outside: the purger finds it when it looks the next time, which it does several
 * times a second while there is anything to give back; where it is not, a slow path of malloc or
 * free does, or, if the process has a signal for its statistics, the thread that this starts. A
 * process that sleeps without any of these is not reached; without a purger it has, but on the
 * schedule manual, nothing to give back either.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heap.h"

#define WAIT_SECONDS 2 /* for the answer, if the user does not say */
#define WAIT_MOST 3600
#define LOOK_US 2000     /* from look to look */
#define SIGNAL_US 400000 /* without an answer for so long: a signal, if there is one */

static bool read_request(const struct target *target, struct purger_request *request)
{
    return target_read(target, (uintptr_t)target->root.request, request, sizeof *request);
}

static bool ask(const struct target *target, uint32_t number)
{
    uintptr_t at = (uintptr_t)target->root.request + offsetof(struct purger_request, wanted);
    return target_write(target, at, &number, sizeof number);
}

/* The signal for statistics, if the process has set a handler for it; else it might end by it. */
static int signal_of(const struct target *target, const struct heap *heap)
{
    char text[4096];
    int number = option_signal(heap->options.stats_signal);
    target_read_file(target, "status", text, sizeof text);
    const char *caught = strstr(text, "\nSigCgt:");
    uint64_t set = caught == NULL ? 0 : strtoull(caught + strlen("\nSigCgt:"), NULL, 16);
    return number != 0 && (set >> (number - 1) & 1) ? number : 0;
}

/* The answer to the request of that number; false when there is none in time. */
static bool wait_for_answer(const struct target *target, const struct heap *heap, uint32_t number,
                            unsigned seconds, struct purger_request *answer)
{
    uint64_t begin_us = os_now_us(), now_us;
    bool signalled = false;
    while (read_request(target, answer)) {
        now_us = os_now_us();
        if (answer->done == number)
            return true;
        if (now_us - begin_us > seconds * UINT64_C(1000000))
            break;
        if (!signalled && now_us - begin_us > SIGNAL_US) {
            int signal_number = signal_of(target, heap);
            if (signal_number != 0)
                kill(target->pid, signal_number);
            signalled = true;
        }
        usleep(LOOK_US);
    }
    return false;
}

static size_t returnable(const struct stats *stats)
{
    return stats->cached + stats->pages_dirty + stats->pages_lazy + stats->huge_kept;
}

static enum exit_status trim_process(const struct target *target, unsigned seconds)
{
    struct heap heap;
    struct purger_request request;
    if (!heap_read(&heap, target, HEAP_TOTALS))
        return EXIT_NO_PROCESS;
    uint64_t begin_us = os_now_us();
    uint32_t number = read_request(target, &request) ? request.done + 1 : 0;
    if (number == 0 && !read_request(target, &request)) {
        complain("%d: the process has ended", (int)target->pid);
        return EXIT_NO_PROCESS;
    }
    if (!ask(target, number)) {
        complain("%d (%s): not allowed to ask it", (int)target->pid, target->name);
        return EXIT_NOT_ALLOWED;
    }
    bool answered = wait_for_answer(target, &heap, number, seconds, &request);
    size_t before = heap.stats.resident, rest = returnable(&heap.stats);
    heap_drop(&heap);
    if (answered) {
        printf("%d (%s): %zu KiB given back after %lu ms; resident %zu KiB, before %zu KiB\n",
               (int)target->pid, target->name, (size_t)request.bytes / KiB,
               (os_now_us() - begin_us) / 1000, target_status_bytes(target, "VmRSS") / KiB,
               before / KiB);
        return EXIT_DONE;
    }
    ask(target, request.done); /* taken back */
    if (kill(target->pid, 0) != 0 || target_status_bytes(target, "VmSize") == 0) {
        complain("%d: the process has ended", (int)target->pid);
        return EXIT_NO_PROCESS;
    }
    complain(
        "%d (%s): it sleeps and has no thread that could; %zu KiB could go (see ebb help trim)",
        (int)target->pid, target->name, rest / KiB);
    return EXIT_NO_ANSWER;
}

static int trim(int argc, char **argv)
{
    unsigned long seconds = WAIT_SECONDS;
    int next = 1;
    if (argc > 2 && strcmp(argv[1], "--wait") == 0) {
        char *end;
        seconds = strtoul(argv[2], &end, 10);
        if (argv[2][0] < '0' || argv[2][0] > '9' || *end != '\0' || seconds > WAIT_MOST) {
            complain("trim: --wait %s: seconds from 0 to %d are expected", argv[2], WAIT_MOST);
            return EXIT_USAGE;
        }
        next = 3;
    }
    if (next < argc && argv[next][0] == '-') {
        complain("trim: %s: no such option, or it lacks its value; see ebb help trim", argv[next]);
        return EXIT_USAGE;
    }
    if (next + 1 != argc) {
        complain("trim: one process id is expected; ebb top lists processes");
        return EXIT_USAGE;
    }
    struct target target;
    pid_t pid = target_parse("trim", argv[next]);
    if (pid == 0)
        return EXIT_USAGE;
    enum exit_status status = target_open(&target, pid, false);
    return status != EXIT_DONE ? status : trim_process(&target, (unsigned)seconds);
}

const struct command trim_command = {
    "trim",
    "[--wait SECONDS] PID",
    "have a running process give back all that is free",
    "Does what malloc_trim does in the process: the caches of all its threads are\n"
    "emptied, and what is free goes back to the kernel at once.\n\n"
    "The process is not stopped, and is not interrupted, so somebody in it must come\n"
    "along: the library's thread, which is there while there is anything to give back\n"
    "by itself; or a call of malloc or free that leaves the fast path; or, where\n"
    "EBBMALLOC_STATS_SIGNAL is set, a thread that ebb starts by that signal. A\n"
    "process that sleeps with none of these is not reached (exit status 7): on the\n"
    "schedule manual or with the thread switched off, it keeps what it has.\n\n"
    "  --wait SECONDS  for the answer; 2 if not given\n",
    trim,
};
