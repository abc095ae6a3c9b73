// Blocks that one thread makes and another one frees: 1 to 1, 1 to n, n to 1, and round a ring.
// Batches of blocks go over through bounded queues; who cannot go on sleeps. The figure is elapsed
// time per block handed over, hand-over included.
#include "micro.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace
{

const size_t batch_blocks = 256;
const size_t queue_batches = 32;

struct Batch {
    void *blocks[batch_blocks];
};

// A bounded queue of batches. The batches lie in it, so handing over allocates nothing.
class Queue
{
  public:
    Queue() : batches_(queue_batches) {}

    void put(const Batch &batch)
    {
        std::unique_lock<std::mutex> lock(mutex_);
        not_full_.wait(lock, [this] { return made_ - taken_ < queue_batches; });
        batches_[made_++ % queue_batches] = batch;
        lock.unlock();
        not_empty_.notify_one();
    }

    Batch take()
    {
        std::unique_lock<std::mutex> lock(mutex_);
        not_empty_.wait(lock, [this] { return made_ > taken_; });
        Batch batch = batches_[taken_++ % queue_batches];
        lock.unlock();
        not_full_.notify_one();
        return batch;
    }

  private:
    std::mutex mutex_;
    std::condition_variable not_full_, not_empty_;
    std::vector<Batch> batches_;
    size_t made_ = 0, taken_ = 0;
};

const std::vector<size_t> &sizes()
{
    static const std::vector<size_t> table = mixed_sizes(1 << 14);
    return table;
}

void fill(Batch &batch, size_t &position)
{
    for (void *&block : batch.blocks) {
        block = malloc(sizes()[position++ % sizes().size()]);
        keep(block);
        touch(block);
    }
}

void drain(const Batch &batch)
{
    for (void *block : batch.blocks)
        free(block);
}

void produce(Queue &queue, size_t batches)
{
    Batch batch;
    size_t position = 0;
    for (size_t i = 0; i < batches; i++) {
        fill(batch, position);
        queue.put(batch);
    }
}

void consume(Queue &queue, size_t batches)
{
    for (size_t i = 0; i < batches; i++)
        drain(queue.take());
}

// Batches per round of the benchmark, so that starting the threads does not count; a number that 1,
// 2, 4 and 8 divide.
const size_t round_batches = 4096;

// `producers` threads make, `consumers` threads free; all share one queue.
void cross(benchmark::State &state)
{
    size_t producers = static_cast<size_t>(state.range(0));
    size_t consumers = static_cast<size_t>(state.range(1));
    while (state.KeepRunningBatch(round_batches * batch_blocks)) {
        Queue queue;
        std::vector<std::thread> threads;
        for (size_t i = 0; i < producers; i++)
            threads.emplace_back([&] { produce(queue, round_batches / producers); });
        for (size_t i = 0; i < consumers; i++)
            threads.emplace_back([&] { consume(queue, round_batches / consumers); });
        for (std::thread &thread : threads)
            thread.join();
    }
}
BENCHMARK(cross)->Args({1, 1})->Args({1, 4})->Args({4, 1})->UseRealTime();

// A ring: each thread frees what comes from the one before it and makes as many for the next one.
void ring(benchmark::State &state)
{
    size_t threads = static_cast<size_t>(state.range(0));
    size_t turns = round_batches / threads;
    while (state.KeepRunningBatch(
        static_cast<benchmark::IterationCount>(threads * turns * batch_blocks))) {
        std::deque<Queue> queues(threads);
        std::vector<std::thread> running;
        for (size_t i = 0; i < threads; i++)
            running.emplace_back([&queues, i, threads, turns] {
                Batch batch;
                size_t position = i * 1000;
                for (size_t turn = 0; turn < turns; turn++) {
                    fill(batch, position);
                    queues[i].put(batch);
                    drain(queues[(i + threads - 1) % threads].take());
                }
            });
        for (std::thread &thread : running)
            thread.join();
    }
}
BENCHMARK(ring)->Arg(4)->UseRealTime();

} // namespace
