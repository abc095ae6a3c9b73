// Random replacement: a number of live blocks of mixed sizes, of which one after the other, chosen
// at random, is freed and allocated anew with another size. The figure is one free and one malloc
// together. What to replace and with which size stands in a table made beforehand; it is read in
// order, so the processor's prefetcher hides it.
#include "micro.h"

#include <algorithm>

namespace
{

struct Step {
    uint32_t index;
    uint32_t size;
};

class Replacement
{
  public:
    explicit Replacement(size_t live) : blocks_(live), steps_(std::max<size_t>(live * 2, 1 << 14))
    {
        uint64_t random = bench_seed(live);
        for (Step &step : steps_) {
            step.index = static_cast<uint32_t>(bench_between(&random, 0, live - 1));
            step.size = static_cast<uint32_t>(bench_mixed_size(&random));
        }
        for (void *&block : blocks_) {
            block = malloc(bench_mixed_size(&random));
            touch(block);
        }
        // Once through the table: the blocks no longer lie in the order of their making, so a fast
        // allocator, which gets more rounds in its time, does not measure an older heap.
        for (size_t i = 0; i < steps_.size(); i++)
            replace<true>();
    }

    ~Replacement()
    {
        for (void *block : blocks_)
            free(block);
    }

    Replacement(const Replacement &) = delete;
    Replacement &operator=(const Replacement &) = delete;

    template <bool Touch> void replace()
    {
        const Step &step = steps_[position_];
        position_ = position_ + 1 == steps_.size() ? 0 : position_ + 1;
        free(blocks_[step.index]);
        void *block = malloc(step.size);
        keep(block);
        if (Touch)
            touch(block);
        blocks_[step.index] = block;
    }

  private:
    std::vector<void *> blocks_;
    std::vector<Step> steps_;
    size_t position_ = 0;
};

// google-benchmark calls a benchmark several times to find how many rounds it needs; the heap is
// built only once for all these calls. It goes away when another benchmark wants another heap.
Replacement &replacement(size_t live)
{
    static Replacement *current = nullptr;
    static size_t current_live = 0;
    if (current_live != live) {
        delete current;
        current = new Replacement(live);
        current_live = live;
    }
    return *current;
}

template <bool Touch> void run(benchmark::State &state)
{
    Replacement &heap = replacement(static_cast<size_t>(state.range(0)));
    for (auto _ : state)
        heap.replace<Touch>();
}

// The allocator alone: the blocks are not looked at.
void random_replace(benchmark::State &state)
{
    run<false>(state);
}

// As a program does it: each new block is written to once.
void random_touch(benchmark::State &state)
{
    run<true>(state);
}

} // namespace

BENCHMARK(random_replace)->Arg(4 << 10)->Arg(256 << 10)->Arg(2 << 20);
BENCHMARK(random_touch)->Arg(4 << 10)->Arg(256 << 10)->Arg(2 << 20);
