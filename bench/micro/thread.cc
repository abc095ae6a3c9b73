// A thread's start and exit, which an allocator sees as the first call of a new thread and as the
// end of its caches. The figure is elapsed time per thread.
#include "micro.h"

#include <pthread.h>

namespace
{

void *allocate_some(void *argument)
{
    size_t count = *static_cast<const size_t *>(argument);
    void *blocks[1024];
    uint64_t random = bench_seed(9);
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(bench_mixed_size(&random));
        keep(blocks[i]);
        touch(blocks[i]);
    }
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    return nullptr;
}

// One thread after the other, each of which makes and frees some blocks: none, one, or many.
void thread_start_exit(benchmark::State &state)
{
    size_t count = static_cast<size_t>(state.range(0));
    for (auto _ : state) {
        pthread_t thread;
        if (pthread_create(&thread, nullptr, allocate_some, &count) != 0)
            abort();
        pthread_join(thread, nullptr);
    }
}
BENCHMARK(thread_start_exit)->Arg(0)->Arg(1)->Arg(1000)->UseRealTime();

// 32 threads that live at the same time.
void thread_many(benchmark::State &state)
{
    const size_t threads = 32;
    size_t count = static_cast<size_t>(state.range(0));
    pthread_t running[threads];
    while (state.KeepRunningBatch(threads)) {
        for (pthread_t &thread : running)
            if (pthread_create(&thread, nullptr, allocate_some, &count) != 0)
                abort();
        for (pthread_t thread : running)
            pthread_join(thread, nullptr);
    }
}
BENCHMARK(thread_many)->Arg(100)->UseRealTime();

} // namespace
