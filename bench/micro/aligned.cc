// Aligned blocks. The figure is one allocation and one free together.
#include "micro.h"

static void *aligned(size_t alignment, size_t size)
{
    void *block = nullptr;
    if (posix_memalign(&block, alignment, size) != 0)
        abort();
    keep(block);
    return block;
}

static void aligned_pair(benchmark::State &state)
{
    size_t alignment = static_cast<size_t>(state.range(0));
    size_t size = static_cast<size_t>(state.range(1));
    for (auto _ : state)
        free(aligned(alignment, size));
}
BENCHMARK(aligned_pair)
    ->Args({64, 64})
    ->Args({64, 200})
    ->Args({256, 256})
    ->Args({4096, 4096})
    ->Args({4096, 10000});

// 1024 blocks of mixed sizes, each at the start of a cache line.
static void aligned_batch(benchmark::State &state)
{
    size_t alignment = static_cast<size_t>(state.range(0));
    const size_t count = 1024;
    std::vector<size_t> sizes = mixed_sizes(count);
    std::vector<void *> blocks(count);
    while (state.KeepRunningBatch(count)) {
        for (size_t i = 0; i < count; i++)
            blocks[i] = aligned(alignment, sizes[i]);
        for (void *block : blocks)
            free(block);
    }
}
BENCHMARK(aligned_batch)->Arg(64)->Arg(4096);
