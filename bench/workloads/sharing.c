/* False sharing, after the idea of Berger's cache-thrash and cache-scratch: each thread counts in a
 * small block of its own, again and again. If the allocator puts blocks of two threads on one cache
 * line, the threads slow each other down. The counters are atomic, as reference counts are: plain
 * writes gather in a processor's store buffer, which hides most of the loss.
 *
 * Active: each thread allocates its blocks itself. Passive: the first blocks were made by one
 * thread, side by side, and handed out; each thread frees what it was given and goes on with blocks
 * of its own, which should not be the given ones' neighbours.
 *
 * The figure is writes per second, of all threads together; the work is fixed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

static size_t rounds, writes, block_bytes;
static pthread_barrier_t everybody_runs;

static void *write_to_blocks(void *argument)
{
    void *given = argument;
    pthread_barrier_wait(&everybody_runs);
    free(given);
    for (size_t round = 0; round < rounds; round++) {
        atomic_uchar *counter = workload_block(block_bytes);
        for (size_t i = 0; i < writes; i++)
            atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
        free(counter);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    WorkloadArgument arguments[] = {
        {"passive", 0, 1, 1},     {"threads", 1, 256, 2}, {"rounds", 1, 1e9, 50000},
        {"writes", 1, 1e9, 1000}, {"bytes", 1, 4096, 8},
    };
    workload_arguments("sharing", argc, argv, arguments, 5);
    bool passive = arguments[0].value > 0;
    size_t threads = (size_t)arguments[1].value;
    rounds = (size_t)arguments[2].value;
    writes = (size_t)arguments[3].value;
    block_bytes = (size_t)arguments[4].value;

    pthread_t running[256];
    void *given[256] = {NULL};
    pthread_barrier_init(&everybody_runs, NULL, (unsigned)threads);
    for (size_t i = 0; i < threads && passive; i++)
        given[i] = workload_block(block_bytes);
    double start = bench_now();
    for (size_t i = 0; i < threads; i++)
        workload_thread(&running[i], write_to_blocks, given[i]);
    for (size_t i = 0; i < threads; i++)
        pthread_join(running[i], NULL);
    double total = (double)threads * (double)rounds * (double)writes;
    workload_result("sharing", total / (bench_now() - start), "writes/s");
    return 0;
}
