// The same block again and again: malloc and free of one size with nothing in between. The figure
// is one malloc and one free together.
#include "micro.h"

static void pair(benchmark::State &state)
{
    size_t size = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        void *block = malloc(size);
        keep(block);
        free(block);
    }
}
BENCHMARK(pair)->Arg(16)->Arg(64)->Arg(256)->Arg(1024)->Arg(4096)->Arg(16384);

// Sizes that change with every pair: the size class cannot be predicted from the last call.
static void pair_mixed(benchmark::State &state)
{
    const size_t count = 4096;
    std::vector<size_t> sizes = mixed_sizes(count);
    while (state.KeepRunningBatch(count)) {
        for (size_t size : sizes) {
            void *block = malloc(size);
            keep(block);
            free(block);
        }
    }
}
BENCHMARK(pair_mixed);
