/* Phases: in each one new threads start, work on the objects that the threads of the phase before
 * left behind, leave their own, and end. Objects outlive their threads, are freed by others, and
 * the sizes change from phase to phase, so memory that one phase gave up has to serve the next.
 *
 * The figure is blocks made and freed per second of elapsed time; the work is fixed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

typedef struct {
    void **blocks; /* left by one thread to the next phase */
    uint64_t random;
    size_t least, most; /* the sizes of this phase */
} Estate;

static size_t blocks_per_thread;

/* Frees blocks at random, about two of three of them, and makes new ones in their place. */
static void *work(void *argument)
{
    Estate *estate = argument;
    for (size_t i = 0; i < blocks_per_thread; i++) {
        size_t which = bench_between(&estate->random, 0, blocks_per_thread - 1);
        free(estate->blocks[which]);
        estate->blocks[which] =
            workload_block(bench_log_between(&estate->random, estate->least, estate->most));
    }
    return NULL;
}

static void run_phase(Estate *estates, size_t threads, size_t phase)
{
    static const size_t sizes[][2] = {{16, 128}, {64, 1024}, {256, 8192}, {16, 2048}};
    pthread_t running[256];
    for (size_t i = 0; i < threads; i++) {
        estates[i].least = sizes[phase % 4][0];
        estates[i].most = sizes[phase % 4][1];
        workload_thread(&running[i], work, &estates[i]);
    }
    for (size_t i = 0; i < threads; i++)
        pthread_join(running[i], NULL);
}

int main(int argc, char **argv)
{
    WorkloadArgument arguments[] = {
        {"threads", 1, 256, 4}, {"phases", 1, 1e6, 60}, {"blocks", 1, 1e8, 20000}};
    workload_arguments("phases", argc, argv, arguments, 3);
    size_t threads = (size_t)arguments[0].value;
    size_t phases = (size_t)arguments[1].value;
    blocks_per_thread = (size_t)arguments[2].value;
    Estate *estates = workload_books(threads * sizeof *estates);
    for (size_t i = 0; i < threads; i++) {
        estates[i].blocks = workload_books(blocks_per_thread * sizeof(void *));
        estates[i].random = bench_seed(i);
    }
    double start = bench_now();
    for (size_t phase = 0; phase < phases; phase++)
        run_phase(estates, threads, phase);
    for (size_t i = 0; i < threads; i++)
        for (size_t j = 0; j < blocks_per_thread; j++)
            free(estates[i].blocks[j]);
    double elapsed = bench_now() - start;
    uint64_t blocks = (uint64_t)threads * phases * blocks_per_thread;
    workload_total("phases", 2 * blocks + threads * blocks_per_thread, "calls");
    workload_result("phases", (double)blocks / elapsed, "blocks/s");
    return 0;
}
