/* signals: the purger takes no part in what is the program's. All its signals are blocked: one of
 * every number, sent to the process while every thread of the program has them blocked, stays
 * pending until a thread of the program wants it. And it has no capabilities.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIGNALS 64

/* The kernel's struct: libc's sigaction refuses the two signals that libc uses itself. */
struct kernel_action {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

static volatile sig_atomic_t handled_by[SIGNALS + 1];
static _Atomic bool stop;

static void on_signal(int signal)
{
    handled_by[signal] = gettid();
}

static bool can_be_handled(int signal)
{
    return signal != SIGKILL && signal != SIGSTOP;
}

/* Takes restorer from what libc sets up for an ordinary signal. */
static void handle_all(void)
{
    struct kernel_action action;
    signal(SIGUSR1, on_signal);
    if (syscall(SYS_rt_sigaction, SIGUSR1, NULL, &action, sizeof action.mask) != 0)
        fail("rt_sigaction");
    action.mask = ~(uint64_t)0; /* one at a time */
    for (int number = 1; number <= SIGNALS; number++)
        if (can_be_handled(number) &&
            syscall(SYS_rt_sigaction, number, &action, NULL, sizeof action.mask) != 0)
            fail("no handler for signal %d: %s", number, strerror(errno));
}

static void set_blocked(uint64_t mask)
{
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask) != 0)
        fail("rt_sigprocmask");
}

/* A low load, so that the purger stays. */
static void *stir(void *unused)
{
    set_blocked(~(uint64_t)0); /* libc lets the signal by which it cancels through */
    while (!stop) {
        rise_and_fall(16 * MiB);
        sleep_seconds(0.05);
    }
    return unused;
}

static uint64_t hexadecimal_field(int task, const char *key)
{
    char value[64];
    if (!task_field(getpid(), task, key, value, sizeof value))
        fail("the purger has ended though there is a load");
    return strtoull(value, NULL, 16);
}

static void require_nobody_yet(void)
{
    for (int number = 1; number <= SIGNALS; number++)
        if (handled_by[number] != 0)
            fail("signal %d was handled by task %d, which is %s", number, (int)handled_by[number],
                 handled_by[number] == find_purger(getpid()) ? "the purger" : "the wrong one");
}

static bool is_in(uint64_t set, int number)
{
    return (set >> (number - 1) & 1) != 0;
}

/* All signals are blocked here before and after. */
static void send_and_take(uint64_t set)
{
    memset((void *)handled_by, 0, sizeof handled_by);
    for (int number = 1; number <= SIGNALS; number++)
        if (is_in(set, number) && kill(getpid(), number) != 0)
            fail("kill: %s", strerror(errno));
    sleep_seconds(0.5);
    require_nobody_yet();
    if (find_purger(getpid()) == 0)
        fail("the purger was not there all the time");
    set_blocked(0);
    set_blocked(~(uint64_t)0);
    for (int number = 1; number <= SIGNALS; number++)
        if (is_in(set, number) && handled_by[number] != getpid())
            fail("signal %d was handled by task %d, not by the thread that wants it", number,
                 (int)handled_by[number]);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "signals", 60);
    pthread_t thread;
    wake_purger();
    if (pthread_create(&thread, NULL, stir, NULL) != 0)
        fail("pthread_create");
    set_blocked(~(uint64_t)0); /* the watchdog's as well, for a second */
    handle_all();
    sleep_seconds(0.3);
    int purger = find_purger(getpid());
    if (purger == 0)
        fail("there is no purger");

    uint64_t all = ~(uint64_t)0;
    all &= ~((uint64_t)1 << (SIGKILL - 1) | (uint64_t)1 << (SIGSTOP - 1));
    if (hexadecimal_field(purger, "SigBlk:") != all)
        fail("not all signals are blocked: %#" PRIx64, hexadecimal_field(purger, "SigBlk:"));
    if (hexadecimal_field(purger, "CapEff:") != 0 || hexadecimal_field(purger, "CapPrm:") != 0)
        fail("the purger has capabilities");
    if (geteuid() == 0 && hexadecimal_field(getpid(), "CapEff:") == 0)
        report("root without capabilities: that the purger has none means little here");

    /* A signal that stops and the one that continues cancel each other while they are pending. */
    uint64_t continues = (uint64_t)1 << (SIGCONT - 1);
    send_and_take(all & ~continues);
    send_and_take(continues);
    stop = true;
    pthread_join(thread, NULL);
    return 0;
}
