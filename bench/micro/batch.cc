// Batches: allocate 4096 blocks of mixed sizes, then free them all, in the order in which they came
// or in a random one. The figure is one malloc and one free together.
#include "micro.h"

static const size_t batch_blocks = 4096;

static void allocate_all(const std::vector<size_t> &sizes, std::vector<void *> &blocks)
{
    for (size_t i = 0; i < blocks.size(); i++) {
        blocks[i] = malloc(sizes[i]);
        keep(blocks[i]);
    }
}

static void batch_in_order(benchmark::State &state)
{
    std::vector<size_t> sizes = mixed_sizes(batch_blocks);
    std::vector<void *> blocks(batch_blocks);
    while (state.KeepRunningBatch(batch_blocks)) {
        allocate_all(sizes, blocks);
        for (void *block : blocks)
            free(block);
    }
}
BENCHMARK(batch_in_order);

static void batch_reversed(benchmark::State &state)
{
    std::vector<size_t> sizes = mixed_sizes(batch_blocks);
    std::vector<void *> blocks(batch_blocks);
    while (state.KeepRunningBatch(batch_blocks)) {
        allocate_all(sizes, blocks);
        for (size_t i = blocks.size(); i > 0; i--)
            free(blocks[i - 1]);
    }
}
BENCHMARK(batch_reversed);

static void batch_shuffled(benchmark::State &state)
{
    std::vector<size_t> sizes = mixed_sizes(batch_blocks);
    std::vector<uint32_t> order = shuffled_order(batch_blocks);
    std::vector<void *> blocks(batch_blocks);
    while (state.KeepRunningBatch(batch_blocks)) {
        allocate_all(sizes, blocks);
        for (uint32_t i : order)
            free(blocks[i]);
    }
}
BENCHMARK(batch_shuffled);

// One size only, so that every block is of one class: refill and flush at their densest.
static void batch_one_size(benchmark::State &state)
{
    std::vector<size_t> sizes(batch_blocks, static_cast<size_t>(state.range(0)));
    std::vector<void *> blocks(batch_blocks);
    while (state.KeepRunningBatch(batch_blocks)) {
        allocate_all(sizes, blocks);
        for (void *block : blocks)
            free(block);
    }
}
BENCHMARK(batch_one_size)->Arg(64)->Arg(512);
