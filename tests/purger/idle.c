/* idle: a process at rest has no extra thread and no wakeups. After eight threads have had a load
 * and sleep, some of them with blocks left all over it, the purger ends within two seconds; over
 * the following 30 (times the scale) there are no tasks but the program's own, and none of those
 * that sleep is woken: the kernel counts no context switch.
 */
#define _GNU_SOURCE
#include "support.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define WORKERS 8
#define SECONDS 30
#define END_SECONDS 2.0
#define SURVIVORS 16 /* one block in so many, of every other thread */

static pthread_barrier_t barrier;

static void *work_and_sleep(void *number)
{
    struct load load = {.bytes = 8 * MiB, .least = 16, .most = 8 * KiB};
    load_prepare(&load);
    load_rise(&load, (uintptr_t)number);
    load_fall_but(&load, (uintptr_t)number % 2 == 0 ? 0 : SURVIVORS);
    pthread_barrier_wait(&barrier);
    for (;;)
        pause();
    return NULL;
}

/* Of all tasks but the calling one, which has to wake in order to look. */
static uint64_t context_switches(void)
{
    int ids[TASKS_MOST];
    unsigned count = list_tasks(getpid(), ids);
    uint64_t sum = 0;
    if (count != WORKERS + 1)
        fail("%u tasks, of which %u are the program's", count, WORKERS + 1);
    for (unsigned i = 0; i < count; i++) {
        char own[32], others[32];
        if (ids[i] == gettid())
            continue;
        if (!task_field(getpid(), ids[i], "voluntary_ctxt_switches:", own, sizeof own) ||
            !task_field(getpid(), ids[i], "nonvoluntary_ctxt_switches:", others, sizeof others))
            fail("task %d has ended", ids[i]);
        sum += strtoull(own, NULL, 10) + strtoull(others, NULL, 10);
    }
    return sum;
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "idle", 90);
    pthread_barrier_init(&barrier, NULL, WORKERS + 1);
    for (uintptr_t i = 0; i < WORKERS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work_and_sleep, (void *)i) != 0)
            fail("pthread_create");
    }
    pthread_barrier_wait(&barrier);
    wake_purger(); /* else it was never there */
    if (!purger_ends(END_SECONDS))
        fail("the purger still runs %g s after the last call", END_SECONDS);
    sleep_seconds(0.2);
    uint64_t before = context_switches();
    double end = now_seconds() + scaled_seconds(SECONDS);
    while (now_seconds() < end) {
        sleep_seconds(0.05); /* shorter than a purger could be there unseen: it sleeps first */
        if (context_switches() != before)
            fail("a thread at rest was woken");
    }
    report("no task and no context switch in %g s", scaled_seconds(SECONDS));
    return 0;
}
