// calloc: of memory that was used before and must be cleared, and of fresh memory, which the kernel
// has cleared. The figure is one calloc and one free together.
#include "micro.h"

static void *zeroed(size_t size)
{
    void *block = calloc(1, size);
    keep(block);
    return block;
}

static void calloc_reused(benchmark::State &state)
{
    size_t size = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        void *block = zeroed(size);
        touch(block);
        free(block);
    }
}
BENCHMARK(calloc_reused)->Arg(64)->Arg(1024)->Arg(16384)->Arg(262144)->Arg(4194304);

// 4096 blocks of mixed sizes, then all are freed.
static void calloc_batch(benchmark::State &state)
{
    const size_t count = 4096;
    std::vector<size_t> sizes = mixed_sizes(count);
    std::vector<void *> blocks(count);
    while (state.KeepRunningBatch(count)) {
        for (size_t i = 0; i < count; i++)
            blocks[i] = zeroed(sizes[i]);
        for (void *block : blocks)
            free(block);
    }
}
BENCHMARK(calloc_batch);

// 256 MiB of blocks, of which every OS page is touched once.
static void fill(std::vector<void *> &blocks, size_t size)
{
    for (void *&block : blocks) {
        block = zeroed(size);
        for (size_t offset = 0; offset < size; offset += 4096)
            static_cast<volatile char *>(block)[offset] = 1;
    }
}

static void empty(std::vector<void *> &blocks)
{
    for (void *block : blocks)
        free(block);
}

static size_t blocks_of(size_t size)
{
    return (256 << 20) / size;
}

// More and more memory, once: what comes from the kernel is clear already.
static void calloc_fresh(benchmark::State &state)
{
    size_t size = static_cast<size_t>(state.range(0));
    std::vector<void *> blocks(blocks_of(size));
    while (state.KeepRunningBatch(static_cast<benchmark::IterationCount>(blocks.size())))
        fill(blocks, size);
    empty(blocks);
}
BENCHMARK(calloc_fresh)->Arg(1024)->Iterations(blocks_of(1024));
BENCHMARK(calloc_fresh)->Arg(16384)->Iterations(blocks_of(16384));
BENCHMARK(calloc_fresh)->Arg(1 << 20)->Iterations(blocks_of(1 << 20));

// The same four times more, when all of it was freed just before.
static void calloc_waves(benchmark::State &state)
{
    size_t size = static_cast<size_t>(state.range(0));
    std::vector<void *> blocks(blocks_of(size));
    fill(blocks, size);
    while (state.KeepRunningBatch(static_cast<benchmark::IterationCount>(blocks.size()))) {
        empty(blocks);
        fill(blocks, size);
    }
    empty(blocks);
}
BENCHMARK(calloc_waves)->Arg(1024)->Iterations(4 * blocks_of(1024));
BENCHMARK(calloc_waves)->Arg(16384)->Iterations(4 * blocks_of(16384));
BENCHMARK(calloc_waves)->Arg(1 << 20)->Iterations(4 * blocks_of(1 << 20));
