/* A web server's way with memory, as nginx and Apache have it: each connection has a small pool and
 * a buffer for what is read, each request a pool of some KiB from which small things are cut, big
 * things are allocated beside it, and all of it is freed at the request's end. Connections stay for
 * some dozen requests. Each thread has connections of its own.
 *
 * The figure is requests per second, of all threads together; the work is fixed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

enum {
    CONNECTION_POOL = 512,
    READ_BUFFER = 1024,
    LARGE_HEADER = 8192,
    REQUEST_POOL = 4096,
    POOL_ALIGNMENT = 16,
    MOST_CUT = 1024, /* what is larger does not come from the pool */
    OUTPUT_BUFFER = 32768,
};

/* A pool is a chain of pages, from which pieces are cut, and a chain of larger blocks beside it. */
typedef struct Chained {
    struct Chained *next;
} Chained;

typedef struct {
    Chained *pages;
    Chained *large;
    size_t used;
    size_t page_bytes;
} Pool;

typedef struct {
    Pool pool;
    char *read_buffer;
    unsigned requests_left;
} Connection;

typedef struct {
    uint64_t random;
    Connection **connections;
    pthread_t thread;
} Server;

static size_t connections_per_thread, requests_per_thread;

static void add_page(Pool *pool)
{
    void *page;
    if (posix_memalign(&page, POOL_ALIGNMENT, pool->page_bytes) != 0)
        workload_fail("http", "out of memory");
    Chained *chained = page;
    chained->next = pool->pages;
    pool->pages = chained;
    pool->used = sizeof(Chained);
}

static void open_pool(Pool *pool, size_t page_bytes)
{
    *pool = (Pool){.page_bytes = page_bytes};
    add_page(pool);
}

static void from_pool(Pool *pool, size_t bytes)
{
    if (bytes > MOST_CUT || bytes > pool->page_bytes / 2) {
        Chained *chained = workload_block(bytes + sizeof *chained);
        chained->next = pool->large;
        pool->large = chained;
        return;
    }
    bytes = (bytes + 15) & ~(size_t)15;
    if (pool->used + bytes > pool->page_bytes)
        add_page(pool);
    ((volatile char *)pool->pages)[pool->used] = 1;
    pool->used += bytes;
}

static void free_chain(Chained *chained)
{
    while (chained != NULL) {
        Chained *next = chained->next;
        free(chained);
        chained = next;
    }
}

static void close_pool(Pool *pool)
{
    free_chain(pool->large);
    free_chain(pool->pages);
}

static Connection *open_connection(uint64_t *random)
{
    Connection *connection = workload_block(sizeof *connection);
    open_pool(&connection->pool, CONNECTION_POOL);
    connection->read_buffer = workload_block(READ_BUFFER);
    connection->requests_left = (unsigned)bench_between(random, 1, 60);
    return connection;
}

static void close_connection(Connection *connection)
{
    free(connection->read_buffer);
    close_pool(&connection->pool);
    free(connection);
}

static void answer_request(Connection *connection, uint64_t *random)
{
    Pool pool;
    open_pool(&pool, REQUEST_POOL);
    uint32_t dice = bench_random(random);
    char *large_header = dice % 16 == 0 ? workload_block(LARGE_HEADER) : NULL;
    size_t headers = bench_between(random, 8, 30);
    for (size_t i = 0; i < headers; i++)
        from_pool(&pool, bench_log_between(random, 16, 256));
    if (dice % 5 == 0) /* a body */
        from_pool(&pool, bench_log_between(random, 1024, 256 << 10));
    from_pool(&pool, dice % 3 == 0 ? OUTPUT_BUFFER : 600); /* the answer */
    connection->read_buffer[dice % READ_BUFFER] = 1;
    free(large_header);
    close_pool(&pool);
}

static void *serve(void *argument)
{
    Server *server = argument;
    for (size_t i = 0; i < requests_per_thread; i++) {
        size_t which = bench_between(&server->random, 0, connections_per_thread - 1);
        Connection **slot = &server->connections[which];
        if (*slot == NULL)
            *slot = open_connection(&server->random);
        answer_request(*slot, &server->random);
        if (--(*slot)->requests_left == 0) {
            close_connection(*slot);
            *slot = NULL;
        }
    }
    for (size_t i = 0; i < connections_per_thread; i++)
        if (server->connections[i] != NULL)
            close_connection(server->connections[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    WorkloadArgument arguments[] = {
        {"threads", 1, 256, 2}, {"connections", 1, 1e7, 2000}, {"requests", 1, 1e10, 3e6}};
    workload_arguments("http", argc, argv, arguments, 3);
    size_t threads = (size_t)arguments[0].value;
    connections_per_thread = (size_t)arguments[1].value;
    requests_per_thread = (size_t)arguments[2].value / threads;
    Server *servers = workload_books(threads * sizeof *servers);
    double start = bench_now();
    for (size_t i = 0; i < threads; i++) {
        servers[i].random = bench_seed(i);
        servers[i].connections = workload_books(connections_per_thread * sizeof(Connection *));
        workload_thread(&servers[i].thread, serve, &servers[i]);
    }
    for (size_t i = 0; i < threads; i++)
        pthread_join(servers[i].thread, NULL);
    double total = (double)requests_per_thread * (double)threads;
    workload_result("http", total / (bench_now() - start), "requests/s");
    return 0;
}
