/* Producer and consumer: of each pair one thread makes blocks, the other frees them. Blocks go over
 * in batches through a bounded ring, so that the hand-over itself costs little beside the
 * allocator. Nobody spins: whoever cannot go on sleeps, and is woken when the ring is half way, so
 * that a pair does not change places for every batch.
 *
 * The figure is blocks handed over per second, of all pairs together. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

enum {
    BATCH_BLOCKS = 256,
    RING_BATCHES = 32,
    TABLE_SIZES = 1 << 14,
};

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t may_produce;
    pthread_cond_t may_consume;
    size_t made;  /* batches put in so far */
    size_t taken; /* batches taken out so far */
    bool closed;  /* nothing more will be put in */
    void *blocks[RING_BATCHES][BATCH_BLOCKS];
} Ring;

static uint32_t sizes[TABLE_SIZES];
static atomic_bool stop;

/* Waits for a free place in the ring. The owner fills it before it says so with ring_put. */
static void **ring_place(Ring *ring)
{
    pthread_mutex_lock(&ring->mutex);
    if (ring->made - ring->taken == RING_BATCHES)
        while (ring->made - ring->taken > RING_BATCHES / 2)
            pthread_cond_wait(&ring->may_produce, &ring->mutex);
    void **place = ring->blocks[ring->made % RING_BATCHES];
    pthread_mutex_unlock(&ring->mutex);
    return place;
}

static void ring_put(Ring *ring)
{
    pthread_mutex_lock(&ring->mutex);
    ring->made++;
    if (ring->made - ring->taken == RING_BATCHES / 2)
        pthread_cond_signal(&ring->may_consume);
    pthread_mutex_unlock(&ring->mutex);
}

static void ring_close(Ring *ring)
{
    pthread_mutex_lock(&ring->mutex);
    ring->closed = true;
    pthread_cond_signal(&ring->may_consume);
    pthread_mutex_unlock(&ring->mutex);
}

/* The oldest batch, or NULL when the ring is empty and closed. */
static void **ring_oldest(Ring *ring)
{
    pthread_mutex_lock(&ring->mutex);
    if (ring->made == ring->taken)
        while (ring->made - ring->taken < RING_BATCHES / 2 && !ring->closed)
            pthread_cond_wait(&ring->may_consume, &ring->mutex);
    void **batch = ring->made == ring->taken ? NULL : ring->blocks[ring->taken % RING_BATCHES];
    pthread_mutex_unlock(&ring->mutex);
    return batch;
}

static void ring_drop(Ring *ring)
{
    pthread_mutex_lock(&ring->mutex);
    ring->taken++;
    if (ring->made - ring->taken == RING_BATCHES / 2)
        pthread_cond_signal(&ring->may_produce);
    pthread_mutex_unlock(&ring->mutex);
}

static void *produce(void *argument)
{
    Ring *ring = argument;
    size_t position = 0;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        void **place = ring_place(ring);
        for (size_t i = 0; i < BATCH_BLOCKS; i++)
            place[i] = workload_block(sizes[position++ % TABLE_SIZES]);
        ring_put(ring);
    }
    ring_close(ring);
    return NULL;
}

static void *consume(void *argument)
{
    Ring *ring = argument;
    void **batch;
    while ((batch = ring_oldest(ring)) != NULL) {
        for (size_t i = 0; i < BATCH_BLOCKS; i++)
            free(batch[i]);
        ring_drop(ring);
    }
    return NULL;
}

static void start_pair(Ring *ring, pthread_t threads[2])
{
    pthread_mutex_init(&ring->mutex, NULL);
    pthread_cond_init(&ring->may_produce, NULL);
    pthread_cond_init(&ring->may_consume, NULL);
    workload_thread(&threads[0], produce, ring);
    workload_thread(&threads[1], consume, ring);
}

int main(int argc, char **argv)
{
    WorkloadArgument arguments[] = {
        {"pairs", 1, 256, 1},
        {"seconds", 0.01, 3600, 2},
        {"min-bytes", 1, 1e6, 16},
        {"max-bytes", 1, 1e6, 1024},
    };
    workload_arguments("prodcons", argc, argv, arguments, 4);
    size_t pairs = (size_t)arguments[0].value;
    double seconds = arguments[1].value;
    if (arguments[2].value > arguments[3].value)
        workload_fail("prodcons", "min-bytes is above max-bytes");
    uint64_t random = bench_seed(2);
    for (size_t i = 0; i < TABLE_SIZES; i++)
        sizes[i] = (uint32_t)bench_log_between(&random, (size_t)arguments[2].value,
                                               (size_t)arguments[3].value);

    Ring *rings = workload_books(pairs * sizeof *rings);
    pthread_t(*threads)[2] = workload_books(pairs * sizeof *threads);
    double start = bench_now();
    for (size_t i = 0; i < pairs; i++)
        start_pair(&rings[i], threads[i]);
    bench_sleep(seconds);
    atomic_store(&stop, true);
    uint64_t total = 0;
    for (size_t i = 0; i < pairs; i++) {
        pthread_join(threads[i][0], NULL);
        pthread_join(threads[i][1], NULL);
        total += rings[i].taken * BATCH_BLOCKS;
    }
    workload_total("prodcons", total, "blocks");
    workload_result("prodcons", (double)total / (bench_now() - start), "blocks/s");
    return 0;
}
