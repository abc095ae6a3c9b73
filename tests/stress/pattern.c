/* pattern: no byte of a live block ever changes, whoever allocates, passes on, reallocates and
 * frees: sizes from 1 byte to 64 MiB, by every call, on four threads, up to 512 MiB at once. */
#define _GNU_SOURCE
#include "load.h"

#include <inttypes.h>

#define WORKERS 4
#define SECONDS 12

static struct load load = {
    .workers = WORKERS,
    .live_limit = 512 * MiB,
    .largest = 64 * MiB,
    .large_odds = 128,
};
static double end;

static void *work(void *argument)
{
    struct worker *worker = argument;
    /* The ends of the range, surely; what the dice give comes on top. */
    load_allocate(worker, 1);
    load_allocate(worker, load.largest);
    while (now_seconds() < end)
        for (unsigned i = 0; i < 16; i++)
            load_step(worker);
    return NULL;
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "pattern", 120);
    end = now_seconds() + scaled_seconds(SECONDS);
    load_init(&load);
    pthread_t threads[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++)
        if (pthread_create(&threads[i], NULL, work, &load.worker[i]) != 0)
            fail("pthread_create");
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    load_end(&load);
    return 0;
}
