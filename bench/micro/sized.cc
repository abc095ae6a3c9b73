// operator new and delete, with and without the size: C++ compilers tell the size of what they
// delete, which spares the allocator a look at its tables. The figure is one pair.
#include "micro.h"

#include <new>

template <bool Sized> static void pairs(benchmark::State &state)
{
    size_t size = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        void *block = ::operator new(size);
        keep(block);
        if (Sized)
            ::operator delete(block, size);
        else
            ::operator delete(block);
    }
}

static void delete_plain(benchmark::State &state)
{
    pairs<false>(state);
}
BENCHMARK(delete_plain)->Arg(64)->Arg(1024);

static void delete_sized(benchmark::State &state)
{
    pairs<true>(state);
}
BENCHMARK(delete_sized)->Arg(64)->Arg(1024);

// 4096 objects of mixed sizes, deleted with their sizes.
static void delete_sized_batch(benchmark::State &state)
{
    const size_t count = 4096;
    std::vector<size_t> sizes = mixed_sizes(count);
    std::vector<void *> blocks(count);
    while (state.KeepRunningBatch(count)) {
        for (size_t i = 0; i < count; i++) {
            blocks[i] = ::operator new(sizes[i]);
            keep(blocks[i]);
        }
        for (size_t i = 0; i < count; i++)
            ::operator delete(blocks[i], sizes[i]);
    }
}
BENCHMARK(delete_sized_batch);
