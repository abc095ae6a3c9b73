/* signals: interruptions do no harm. While every thread runs the pattern load, each is interrupted
 * thousands of times a second, in the middle of malloc and free, by handlers on a stack of their
 * own; system calls of the program end with EINTR all the time; and threads are cancelled. A
 * handler allocates only when its thread was surely not in malloc. No call of the family is a
 * cancellation point, so a thread is never cancelled inside of one.
 */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 3
#define SECONDS 8
#define SIGNALS_PER_SECOND 3000 /* to each worker */
#define HANDLER_STACK (64 * KiB)

static struct load load = {
    .workers = WORKERS,
    .live_limit = 64 * MiB,
    .largest = 8 * MiB,
    .large_odds = 512,
};
static double end;
static int pipe_ends[2];
static _Atomic uint64_t interrupted, in_malloc, allocations, interrupted_reads, cancelled;

/* What a handler keeps from one call to the next: made here, freed at a later interruption. */
static _Thread_local struct parcel *kept;
static _Thread_local unsigned turn;

static void on_signal(int signal)
{
    (void)signal;
    int before = errno;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ssize_t written = write(pipe_ends[1], "x", 1); /* the pipe does not block; it may be full */
    (void)written;
    atomic_fetch_add_explicit(&interrupted, 1, memory_order_relaxed);
    if (load_in_malloc) {
        atomic_fetch_add_explicit(&in_malloc, 1, memory_order_relaxed);
    } else {
        if (kept != NULL)
            parcel_end(kept, 0, "in a handler");
        kept = parcel_make(PARCEL_LEAST + turn++ % 2000, 0);
        atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    }
    errno = before;
}

static void set_handler(int signal)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    /* Handlers must not nest: both use what this thread keeps. */
    sigaddset(&action.sa_mask, SIGALRM);
    sigaddset(&action.sa_mask, SIGPROF);
    if (sigaction(signal, &action, NULL) != 0)
        fail("sigaction: %s", strerror(errno));
}

static void set_handler_stack(void)
{
    void *memory =
        mmap(NULL, HANDLER_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = {.ss_sp = memory, .ss_size = HANDLER_STACK};
    if (memory == MAP_FAILED || sigaltstack(&stack, NULL) != 0)
        fail("no stack for handlers: %s", strerror(errno));
}

static void block_signals(bool blocked)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigaddset(&set, SIGPROF);
    pthread_sigmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* SIGALRM for the calling thread, again and again. */
static timer_t start_timer(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
#ifdef sigev_notify_thread_id
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
#else
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
#endif
    struct itimerspec period = {.it_interval = {.tv_nsec = 1000000000 / SIGNALS_PER_SECOND},
                                .it_value = {.tv_nsec = 1000000000 / SIGNALS_PER_SECOND}};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 ||
        timer_settime(timer, 0, &period, NULL) != 0)
        fail("no timer: %s", strerror(errno));
    return timer;
}

static void end_kept(void)
{
    if (kept != NULL)
        parcel_end(kept, 0, "the last one of a handler");
    kept = NULL;
}

static void *work(void *argument)
{
    set_handler_stack();
    block_signals(false);
    timer_t timer = start_timer();
    while (now_seconds() < end)
        for (unsigned i = 0; i < 64; i++)
            load_step(argument);
    timer_delete(timer);
    block_signals(true);
    end_kept();
    return NULL;
}

/* ---- EINTR -------------------------------------------------------------------------------------
 */

/* Sleeps in read and is interrupted out of it; between two of these it allocates and frees. The
 * pipe is fed by the handlers, so the reads that are not interrupted end as well. */
static void *read_on(void *argument)
{
    (void)argument;
    struct rng rng = rng_stream(50);
    struct parcel *parcels[64] = {NULL};
    set_handler_stack();
    block_signals(false);
    timer_t timer = start_timer();
    int quiet_pipe[2];
    if (pipe(quiet_pipe) != 0)
        fail("pipe");
    while (now_seconds() < end) {
        char byte;
        /* Nobody writes here: only a signal ends this. */
        if (read(quiet_pipe[0], &byte, 1) >= 0 || errno != EINTR)
            fail("a read that nothing but a signal could end ended with errno %d", errno);
        atomic_fetch_add_explicit(&interrupted_reads, 1, memory_order_relaxed);
        struct parcel **slot = &parcels[rng_below(&rng, 64)];
        load_enter_malloc();
        if (*slot != NULL)
            parcel_end(*slot, 50, "between interrupted reads");
        *slot = parcel_make(rng_size(&rng, PARCEL_LEAST, 64 * KiB), 50);
        load_leave_malloc();
    }
    timer_delete(timer);
    block_signals(true);
    end_kept();
    for (unsigned i = 0; i < 64; i++)
        if (parcels[i] != NULL)
            parcel_end(parcels[i], 50, "at the end");
    return NULL;
}

/* ---- cancellation -------------------------------------------------------------------------------
 */

#define BLOCKS_OF_CANCELLED 32

struct cancelled_thread {
    struct parcel *parcels[BLOCKS_OF_CANCELLED];
    bool in_malloc;
};

static void on_cancel(void *argument)
{
    struct cancelled_thread *thread = argument;
    if (thread->in_malloc)
        fail("a thread was cancelled inside of malloc or free");
    for (unsigned i = 0; i < BLOCKS_OF_CANCELLED; i++)
        if (thread->parcels[i] != NULL)
            parcel_end(thread->parcels[i], 60, "in a cleanup handler");
    atomic_fetch_add_explicit(&cancelled, 1, memory_order_relaxed);
}

static void *wait_for_cancel(void *argument)
{
    struct cancelled_thread thread = {0};
    struct rng rng = rng_stream((uintptr_t)argument);
    pthread_cleanup_push(on_cancel, &thread);
    for (;;) {
        struct parcel **slot = &thread.parcels[rng_below(&rng, BLOCKS_OF_CANCELLED)];
        struct parcel *old = *slot;
        /* Two sizes in ten reach the kernel, where cancellation points would be. */
        size_t most = rng_below(&rng, 5) == 0 ? 8 * MiB : 4 * KiB;
        thread.in_malloc = true;
        atomic_signal_fence(memory_order_seq_cst);
        *slot = parcel_make(rng_size(&rng, PARCEL_LEAST, most), 60);
        if (old != NULL)
            parcel_end(old, 60, "replaced by a thread to be cancelled");
        atomic_signal_fence(memory_order_seq_cst);
        thread.in_malloc = false;
        pthread_testcancel();
    }
    pthread_cleanup_pop(0);
    return NULL;
}

static uint64_t cancel_one(uint64_t number)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_cancel, (void *)(uintptr_t)(100 + number)) != 0)
        fail("pthread_create");
    sleep_seconds(0.0005 * (double)(number % 8));
    pthread_cancel(thread);
    void *result;
    pthread_join(thread, &result);
    if (result != PTHREAD_CANCELED)
        fail("a cancelled thread returned %p", result);
    return number + 1;
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "signals", 120);
    if (pipe2(pipe_ends, O_NONBLOCK | O_CLOEXEC) != 0)
        fail("pipe2: %s", strerror(errno));
    set_handler(SIGALRM);
    set_handler(SIGPROF);
    block_signals(true); /* inherited; each worker opens up when it is ready */
    end = now_seconds() + scaled_seconds(SECONDS);
    load_init(&load);
    pthread_t threads[WORKERS + 1];
    for (unsigned i = 0; i < WORKERS; i++)
        if (pthread_create(&threads[i], NULL, work, &load.worker[i]) != 0)
            fail("pthread_create");
    if (pthread_create(&threads[WORKERS], NULL, read_on, NULL) != 0)
        fail("pthread_create");
    /* For whichever thread is using the processor, on top of the timers of each. */
    struct itimerval period = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_PROF, &period, NULL);

    uint64_t cancels = 0;
    char bytes[4096];
    while (now_seconds() < end) {
        cancels = cancel_one(cancels);
        while (read(pipe_ends[0], bytes, sizeof bytes) > 0)
            continue;
    }
    for (unsigned i = 0; i <= WORKERS; i++)
        pthread_join(threads[i], NULL);
    report("%" PRIu64 " interruptions, %" PRIu64 " of them inside malloc and its family, %" PRIu64
           " allocations in handlers, %" PRIu64 " interrupted reads, %" PRIu64 " cancelled threads",
           interrupted, in_malloc, allocations, interrupted_reads, cancelled);
    if (interrupted < scaled(5000) || in_malloc < scaled(50) || allocations < scaled(500) ||
        interrupted_reads < scaled(500) || cancelled < scaled(50))
        fail("too few of one kind to show anything");
    if (cancelled != cancels)
        fail("%" PRIu64 " threads were cancelled, %" PRIu64 " cleaned up", cancels, cancelled);
    load_end(&load);
    return 0;
}
