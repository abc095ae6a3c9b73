/* remote: blocks that one thread makes and another frees cost no memory that stays: in chains of
 * one to one, one to many, many to one and in a ring, 10 GiB flow through with every byte verified,
 * and resident memory stays near the little that is under way at once. */
#define _GNU_SOURCE
#include "support.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

#define FLOW_BYTES (10 * GiB / 4)  /* of each of the four shapes */
#define UNDER_WAY_BYTES (16 * MiB) /* in all channels together: makers wait beyond that */
/* What resident memory may be over the start: twice what is under way (its rounding to classes and
 * what the threads' caches keep), and 32 MiB of freed memory not yet given back. */
#define RESIDENT_BOUND (2 * UNDER_WAY_BYTES + 32 * MiB)
#define LARGEST (256 * KiB)

#define CAPACITY 8192
#define NODES_MOST 5

/* Blocks on their way to one consumer. */
struct channel {
    pthread_mutex_t mutex;
    pthread_cond_t not_empty, not_full;
    struct parcel *ring[CAPACITY];
    size_t first, count, bytes, bytes_most;
    unsigned producers; /* that have not finished */
};

/* A thread: takes from its input if it has one, makes blocks if not; what has an output goes on. */
struct node {
    unsigned number;
    struct channel *input;
    struct channel *outputs[NODES_MOST];
    unsigned output_count;
    uint64_t bytes; /* to make, or that came */
};

static struct channel channels[NODES_MOST];
static struct node nodes[NODES_MOST];

static void channel_open(struct channel *channel, unsigned producers, size_t bytes_most)
{
    *channel = (struct channel){.producers = producers, .bytes_most = bytes_most};
    pthread_mutex_init(&channel->mutex, NULL);
    pthread_cond_init(&channel->not_empty, NULL);
    pthread_cond_init(&channel->not_full, NULL);
}

static void channel_put(struct channel *channel, struct parcel *parcel)
{
    /* Read before the lock is let go: then the block is another thread's. */
    size_t size = parcel->size;
    pthread_mutex_lock(&channel->mutex);
    while (channel->count == CAPACITY || channel->bytes + size > channel->bytes_most)
        pthread_cond_wait(&channel->not_full, &channel->mutex);
    channel->ring[(channel->first + channel->count++) % CAPACITY] = parcel;
    channel->bytes += size;
    pthread_cond_signal(&channel->not_empty);
    pthread_mutex_unlock(&channel->mutex);
}

/* NULL when it is empty and all producers have finished. */
static struct parcel *channel_take(struct channel *channel)
{
    struct parcel *parcel = NULL;
    pthread_mutex_lock(&channel->mutex);
    while (channel->count == 0 && channel->producers > 0)
        pthread_cond_wait(&channel->not_empty, &channel->mutex);
    if (channel->count > 0) {
        parcel = channel->ring[channel->first];
        channel->first = (channel->first + 1) % CAPACITY;
        channel->count--;
        channel->bytes -= parcel->size;
        pthread_cond_broadcast(&channel->not_full);
    }
    pthread_mutex_unlock(&channel->mutex);
    return parcel;
}

static void channel_finish(struct channel *channel)
{
    pthread_mutex_lock(&channel->mutex);
    channel->producers--;
    pthread_cond_broadcast(&channel->not_empty);
    pthread_mutex_unlock(&channel->mutex);
}

static void produce(struct node *node, struct rng *rng)
{
    uint64_t made = 0;
    for (unsigned turn = 0; made < node->bytes; turn++) {
        size_t most = rng_below(rng, 8) == 0 ? LARGEST : 4 * KiB;
        struct parcel *parcel = parcel_make(rng_size(rng, PARCEL_LEAST, most), node->number);
        made += parcel->size;
        channel_put(node->outputs[turn % node->output_count], parcel);
    }
    node->bytes = made;
}

/* Frees what comes; a node with an output makes a new block for it of the same size, so that in a
 * chain every thread frees its neighbour's and allocates for the next. */
static void consume(struct node *node)
{
    struct parcel *parcel;
    uint64_t came = 0;
    while ((parcel = channel_take(node->input)) != NULL) {
        size_t size = parcel->size;
        came += size;
        parcel_end(parcel, node->number, "at the consumer");
        if (node->output_count > 0)
            channel_put(node->outputs[0], parcel_make(size, node->number));
    }
    node->bytes = came;
}

static void *run_node(void *argument)
{
    struct node *node = argument;
    struct rng rng = rng_stream(node->number);
    if (node->input == NULL)
        produce(node, &rng);
    else
        consume(node);
    for (unsigned i = 0; i < node->output_count; i++)
        channel_finish(node->outputs[i]);
    return NULL;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

static void connect_nodes(unsigned from, unsigned to)
{
    nodes[from].outputs[nodes[from].output_count++] = &channels[to];
    nodes[to].input = &channels[to];
    channels[to].producers++;
}

static unsigned one_to_one(void)
{
    connect_nodes(0, 1);
    return 2;
}

static unsigned one_to_many(void)
{
    for (unsigned to = 1; to < NODES_MOST; to++)
        connect_nodes(0, to);
    return NODES_MOST;
}

static unsigned many_to_one(void)
{
    for (unsigned from = 1; from < NODES_MOST; from++)
        connect_nodes(from, 0);
    return NODES_MOST;
}

/* Around once: node 0 makes, each next one frees and makes anew, the last one only frees. */
static unsigned ring(void)
{
    for (unsigned from = 0; from + 1 < NODES_MOST; from++)
        connect_nodes(from, from + 1);
    return NODES_MOST;
}

/* The highest resident memory while any of the threads runs. */
static size_t watch_threads(pthread_t *threads, unsigned count)
{
    size_t peak = 0;
    for (unsigned i = 0; i < count; i++) {
        while (pthread_tryjoin_np(threads[i], NULL) != 0) {
            size_t resident = resident_bytes();
            peak = resident > peak ? resident : peak;
            sleep_seconds(0.005);
        }
    }
    return peak;
}

/* Each block is made anew on every hop; the flow counts all that was made. */
static uint64_t share_out(unsigned node_count, unsigned channel_count)
{
    unsigned makers = 0, hops = 1;
    for (unsigned i = 0; i < node_count; i++) {
        makers += nodes[i].input == NULL;
        hops += nodes[i].input != NULL && nodes[i].output_count > 0;
    }
    uint64_t flow = scaled(FLOW_BYTES) / hops;
    for (unsigned i = 0; i < node_count; i++) {
        nodes[i].number = i;
        nodes[i].bytes = nodes[i].input == NULL ? flow / makers : 0;
        channels[i].bytes_most = UNDER_WAY_BYTES / channel_count;
    }
    return flow;
}

static void run_shape(const char *name, unsigned (*connect)(void), size_t start)
{
    for (unsigned i = 0; i < NODES_MOST; i++) {
        nodes[i] = (struct node){0};
        channel_open(&channels[i], 0, 0);
    }
    unsigned count = connect();
    unsigned channel_count = 0;
    for (unsigned i = 0; i < count; i++)
        channel_count += nodes[i].input != NULL;
    share_out(count, channel_count);
    double began = now_seconds();
    pthread_t threads[NODES_MOST];
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, run_node, &nodes[i]) != 0)
            fail("pthread_create");
    size_t peak = watch_threads(threads, count);
    size_t over = peak > start ? peak - start : 0;

    uint64_t made = 0, ended = 0;
    for (unsigned i = 0; i < count; i++) {
        made += nodes[i].input == NULL ? nodes[i].bytes : 0;
        ended += nodes[i].output_count == 0 ? nodes[i].bytes : 0;
    }
    report(
        "%-12s %5.2f s, %6.0f MiB made, resident at most %.1f MiB over the start, bound %.0f MiB",
        name, now_seconds() - began, (double)made / (double)MiB, (double)over / (double)MiB,
        (double)RESIDENT_BOUND / (double)MiB);
    if (made != ended)
        fail("%s: %" PRIu64 " bytes were made, %" PRIu64 " arrived", name, made, ended);
    if (over > RESIDENT_BOUND)
        promise_broken("%s: resident memory rose to %zu bytes over the start, bound %zu", name,
                       over, (size_t)RESIDENT_BOUND);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "remote", 180);
    size_t start = resident_bytes();
    run_shape("one to one", one_to_one, start);
    run_shape("one to many", one_to_many, start);
    run_shape("many to one", many_to_one, start);
    run_shape("ring", ring, start);
    return 0;
}
