// Growth by realloc, as buffers and vectors grow. The figure is one realloc; the free at the end of
// each growth is shared out among its steps.
#include "micro.h"

static const size_t growth_start = 16;
static const size_t growth_end = 1 << 20;

static void *grown(void *block, size_t size)
{
    block = realloc(block, size);
    keep(block);
    static_cast<volatile char *>(block)[size - 1] = 1;
    return block;
}

// One buffer doubles from 16 bytes to 1 MiB.
static void realloc_doubling(benchmark::State &state)
{
    const size_t steps = 17;
    while (state.KeepRunningBatch(steps)) {
        void *block = nullptr;
        for (size_t size = growth_start; size <= growth_end; size *= 2)
            block = grown(block, size);
        free(block);
    }
}
BENCHMARK(realloc_doubling);

// One buffer grows by a fixed piece at a time: most steps could stay in place.
static void realloc_by_step(benchmark::State &state)
{
    size_t step = static_cast<size_t>(state.range(0));
    const size_t steps = 256;
    while (state.KeepRunningBatch(steps)) {
        void *block = nullptr;
        for (size_t i = 1; i <= steps; i++)
            block = grown(block, i * step);
        free(block);
    }
}
BENCHMARK(realloc_by_step)->Arg(16)->Arg(4096)->Arg(65536);

// Many vectors grow by turns, by a half each time: they are in each other's way.
static void realloc_many(benchmark::State &state)
{
    const size_t vectors = 1000;
    const size_t steps = 16;
    std::vector<void *> blocks(vectors);
    while (state.KeepRunningBatch(vectors * steps)) {
        size_t size = growth_start;
        for (size_t step = 0; step < steps; step++, size += size / 2)
            for (void *&block : blocks)
                block = grown(block, size);
        for (void *&block : blocks) {
            free(block);
            block = nullptr;
        }
    }
}
BENCHMARK(realloc_many);

// Down and up again within a small span: no byte needs to be copied by a realloc that stays.
static void realloc_shrink(benchmark::State &state)
{
    void *block = grown(nullptr, 1000);
    while (state.KeepRunningBatch(2)) {
        block = grown(block, 900);
        block = grown(block, 1000);
    }
    free(block);
}
BENCHMARK(realloc_shrink);
