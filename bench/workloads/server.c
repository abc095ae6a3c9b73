/* A server in the manner of Larson and Krishnan: every thread holds an array of live blocks of
 * mixed sizes and replaces random ones. After a while it hands the array to a new thread and exits,
 * so blocks outlive the thread that made them and are freed by another one.
 *
 * The figure is replacements (one free and one malloc) per second, of all threads together. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

enum {
    STEPS_PER_CHECK = 1000,  /* replacements between two looks at the stop flag */
    CHECKS_PER_THREAD = 200, /* a thread's life: 200,000 replacements, some 10 ms */
    TABLE_STEPS = 1 << 14,   /* sizes and choices are made beforehand */
};

typedef struct {
    uint32_t choice;
    uint32_t size;
} Step;

/* One array of live blocks: it goes from thread to thread, one at a time. Two sessions must not
 * share a cache line, or the workload measures that. */
typedef struct {
    _Alignas(128) void **blocks;
    size_t position; /* in `steps` */
    uint64_t replacements;
} Session;

static Step steps[TABLE_STEPS];
static size_t blocks_per_session;
static atomic_bool stop;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t session_closed = PTHREAD_COND_INITIALIZER;
static size_t open_sessions;

static void make_steps(size_t least, size_t most)
{
    uint64_t random = bench_seed(1);
    for (size_t i = 0; i < TABLE_STEPS; i++) {
        steps[i].choice = (uint32_t)bench_between(&random, 0, blocks_per_session - 1);
        steps[i].size = (uint32_t)bench_log_between(&random, least, most);
    }
}

static void replace_some(Session *session)
{
    for (unsigned i = 0; i < STEPS_PER_CHECK; i++) {
        Step step = steps[session->position++ % TABLE_STEPS];
        free(session->blocks[step.choice]);
        session->blocks[step.choice] = workload_block(step.size);
    }
    session->replacements += STEPS_PER_CHECK;
}

static void close_session(Session *session)
{
    for (size_t i = 0; i < blocks_per_session; i++)
        free(session->blocks[i]);
    pthread_mutex_lock(&mutex);
    open_sessions--;
    pthread_cond_signal(&session_closed);
    pthread_mutex_unlock(&mutex);
}

static void *serve(void *argument)
{
    Session *session = argument;
    pthread_detach(pthread_self());
    for (unsigned check = 0; check < CHECKS_PER_THREAD; check++) {
        if (atomic_load_explicit(&stop, memory_order_relaxed)) {
            close_session(session);
            return NULL;
        }
        replace_some(session);
    }
    pthread_t next;
    workload_thread(&next, serve, session);
    return NULL;
}

int main(int argc, char **argv)
{
    WorkloadArgument arguments[] = {
        {"threads", 1, 1024, 2},   {"seconds", 0.01, 3600, 2},  {"blocks", 1, 1e7, 1000},
        {"min-bytes", 1, 1e6, 16}, {"max-bytes", 1, 1e6, 1024},
    };
    workload_arguments("server", argc, argv, arguments, 5);
    size_t threads = (size_t)arguments[0].value;
    double seconds = arguments[1].value;
    blocks_per_session = (size_t)arguments[2].value;
    if (arguments[3].value > arguments[4].value)
        workload_fail("server", "min-bytes is above max-bytes");
    make_steps((size_t)arguments[3].value, (size_t)arguments[4].value);

    Session *sessions = workload_books(threads * sizeof *sessions);
    open_sessions = threads;
    double start = bench_now();
    for (size_t i = 0; i < threads; i++) {
        sessions[i].blocks = workload_books(blocks_per_session * sizeof(void *));
        sessions[i].position = i * 1000;
        pthread_t first;
        workload_thread(&first, serve, &sessions[i]);
    }
    bench_sleep(seconds);
    atomic_store(&stop, true);
    pthread_mutex_lock(&mutex);
    while (open_sessions > 0)
        pthread_cond_wait(&session_closed, &mutex);
    pthread_mutex_unlock(&mutex);
    double elapsed = bench_now() - start;

    uint64_t total = 0;
    for (size_t i = 0; i < threads; i++)
        total += sessions[i].replacements;
    workload_total("server", 2 * total, "calls");
    workload_result("server", (double)total / elapsed, "ops/s");
    return 0;
}
