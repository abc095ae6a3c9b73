// Large blocks, 64 KiB to 4 MiB. The figure is one malloc and one free together.
#include "micro.h"

static void large_pair(benchmark::State &state)
{
    size_t size = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        void *block = malloc(size);
        keep(block);
        touch(block);
        free(block);
    }
}
BENCHMARK(large_pair)->Arg(64 << 10)->Arg(256 << 10)->Arg(1 << 20)->Arg(4 << 20);

// Random replacement among 64 live blocks of 64 KiB to 4 MiB, of which one page is touched.
static void large_random(benchmark::State &state)
{
    const size_t live = 64, steps = 1024;
    uint64_t random = bench_seed(7);
    std::vector<size_t> sizes(steps), choices(steps);
    for (size_t i = 0; i < steps; i++) {
        sizes[i] = bench_log_between(&random, 64 << 10, 4 << 20);
        choices[i] = bench_between(&random, 0, live - 1);
    }
    std::vector<void *> blocks(live);
    while (state.KeepRunningBatch(steps)) {
        for (size_t i = 0; i < steps; i++) {
            void *&block = blocks[choices[i]];
            free(block);
            block = malloc(sizes[i]);
            keep(block);
            touch(block);
        }
    }
    for (void *block : blocks)
        free(block);
}
BENCHMARK(large_random);

// As a program uses a buffer: every OS page of the block is written to.
static void large_filled(benchmark::State &state)
{
    size_t size = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        void *block = malloc(size);
        keep(block);
        for (size_t offset = 0; offset < size; offset += 4096)
            static_cast<volatile char *>(block)[offset] = 1;
        free(block);
    }
}
BENCHMARK(large_filled)->Arg(256 << 10)->Arg(1 << 20)->Arg(4 << 20);
