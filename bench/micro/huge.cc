// Huge blocks, 5 to 25 MiB, made and freed in a loop: who asks the kernel each time, pays for the
// mapping and for a fault per OS page. The figure is one malloc and one free together.
#include "micro.h"

static void *filled(size_t size)
{
    void *block = malloc(size);
    keep(block);
    for (size_t offset = 0; offset < size; offset += 4096)
        static_cast<volatile char *>(block)[offset] = 1;
    return block;
}

static void huge_pair(benchmark::State &state)
{
    size_t size = static_cast<size_t>(state.range(0)) << 20;
    for (auto _ : state)
        free(filled(size));
}
BENCHMARK(huge_pair)->Arg(5)->Arg(20)->Unit(benchmark::kNanosecond);

// Sizes from 5 to 25 MiB, four of them live at a time. Always as many of them: allocators keep more
// for the next ones as time goes by, and so are faster in longer runs.
static void huge_mixed(benchmark::State &state)
{
    const size_t live = 4;
    uint64_t random = bench_seed(8);
    std::vector<void *> blocks(live);
    size_t position = 0;
    for (auto _ : state) {
        void *&block = blocks[position++ % live];
        free(block);
        block = filled(bench_between(&random, 5 << 20, 25 << 20));
    }
    for (void *block : blocks)
        free(block);
}
BENCHMARK(huge_mixed)->Iterations(500);

// One block grows from 5 to 25 MiB by 1 MiB at a time, and its new part is written to. The figure
// is one realloc.
static void huge_realloc(benchmark::State &state)
{
    const size_t steps = 21;
    while (state.KeepRunningBatch(steps)) {
        char *block = nullptr;
        size_t filled_to = 0;
        for (size_t mib = 5; mib < 5 + steps; mib++) {
            block = static_cast<char *>(realloc(block, mib << 20));
            keep(block);
            for (; filled_to < mib << 20; filled_to += 4096)
                static_cast<volatile char *>(block)[filled_to] = 1;
        }
        free(block);
    }
}
BENCHMARK(huge_realloc);
