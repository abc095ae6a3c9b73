// malloc_usable_size, as redis calls it for every block: of one block, and of many at random. The
// figure is one call.
#include "micro.h"

#include <malloc.h>

static void usable_one(benchmark::State &state)
{
    void *block = malloc(static_cast<size_t>(state.range(0)));
    for (auto _ : state) {
        keep(block);
        size_t usable = malloc_usable_size(block);
        benchmark::DoNotOptimize(usable);
    }
    free(block);
}
BENCHMARK(usable_one)->Arg(64)->Arg(1 << 20);

static void usable_many(benchmark::State &state)
{
    size_t count = static_cast<size_t>(state.range(0));
    std::vector<size_t> sizes = mixed_sizes(count);
    std::vector<uint32_t> order = shuffled_order(count);
    std::vector<void *> blocks(count);
    for (size_t i = 0; i < count; i++)
        blocks[i] = malloc(sizes[i]);
    while (state.KeepRunningBatch(static_cast<benchmark::IterationCount>(count))) {
        for (uint32_t i : order) {
            size_t usable = malloc_usable_size(blocks[i]);
            benchmark::DoNotOptimize(usable);
        }
    }
    for (void *block : blocks)
        free(block);
}
BENCHMARK(usable_many)->Arg(4 << 10)->Arg(256 << 10);
