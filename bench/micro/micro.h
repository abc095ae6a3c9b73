// What the micro benchmarks share. All of them are one program, which is run once per allocator
// with LD_PRELOAD; every figure is the time of one step (KeepRunningBatch counts the steps of a
// round), so that a figure reads as "ns per block" throughout.
#ifndef EBB_BENCH_MICRO_H
#define EBB_BENCH_MICRO_H

#include "../common.h"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

// Makes the compiler believe that somebody looks at the block: without it, a malloc whose block is
// only freed again may be removed together with the free. (-fno-builtin forbids that as well.)
static inline void keep(void *block)
{
    benchmark::DoNotOptimize(block);
}

// The first write to a block, as any program does it.
static inline void touch(void *block)
{
    *static_cast<volatile char *>(block) = 1;
}

// `count` sizes of the common mixture, always the same ones.
static inline std::vector<size_t> mixed_sizes(size_t count)
{
    uint64_t random = bench_seed(count);
    std::vector<size_t> sizes(count);
    for (size_t &size : sizes)
        size = bench_mixed_size(&random);
    return sizes;
}

// A permutation of 0..count-1, always the same one.
static inline std::vector<uint32_t> shuffled_order(size_t count)
{
    uint64_t random = bench_seed(count + 1);
    std::vector<uint32_t> order(count);
    for (size_t i = 0; i < count; i++) {
        size_t j = bench_between(&random, 0, i);
        order[i] = order[j];
        order[j] = static_cast<uint32_t>(i);
    }
    return order;
}

#endif
