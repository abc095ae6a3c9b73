/* many-threads: idle threads cost little. 2,000 of them (times the scale) each use every size up to
 * 64 KiB, free all of it and sleep; after the sweep each holds no more than an OS page and 12 KiB
 * more than before its first call, stacks and all, as the kernel counts. Each of a few
 * that had much in their caches and ended leaves no more than an OS page and 16 KiB.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 2000
#define STACK (128 * KiB)
#define MAY_HOLD ((size_t)sysconf(_SC_PAGESIZE) + 12 * KiB)
#define BLOCKS_OF_A_SIZE 8

static pthread_barrier_t barrier;

/* Sixteen sizes to a doubling: every class is met, whatever the classes are. */
static void use_every_size(void)
{
    for (size_t power = 16; power <= 32 * KiB; power *= 2) {
        for (size_t size = power; size < 2 * power; size += power / 16) {
            char *blocks[BLOCKS_OF_A_SIZE];
            for (unsigned i = 0; i < BLOCKS_OF_A_SIZE; i++) {
                blocks[i] = malloc(size);
                if (blocks[i] == NULL)
                    fail("malloc(%zu) = NULL", size);
                memset(blocks[i], 1, size);
            }
            for (unsigned i = 0; i < BLOCKS_OF_A_SIZE; i++)
                free(blocks[i]);
        }
    }
}

static void *use_and_sleep(void *unused)
{
    touch_stack();
    pthread_barrier_wait(&barrier); /* the start is measured */
    pthread_barrier_wait(&barrier);
    use_every_size();
    pthread_barrier_wait(&barrier);
    for (;;)
        pause();
    return unused;
}

#define ENDING 64
#define MANY_BLOCKS 2500

static void *use_much_and_end(void *does_nothing)
{
    touch_stack();
    pthread_barrier_wait(&barrier);
    for (size_t size = 16; size <= 128 && does_nothing == NULL; size += 16) {
        char **blocks = malloc(MANY_BLOCKS * sizeof *blocks);
        for (unsigned turn = 0; turn < 20; turn++) {
            for (unsigned i = 0; i < MANY_BLOCKS; i++)
                memset(blocks[i] = malloc(size), 1, size);
            for (unsigned i = 0; i < MANY_BLOCKS; i++)
                free(blocks[i]);
        }
        free(blocks);
    }
    pthread_barrier_wait(&barrier); /* all have an arena of their own */
    return NULL;
}

static size_t resident_after_threads(const pthread_attr_t *attributes, void *does_nothing)
{
    pthread_t threads[ENDING];
    pthread_barrier_init(&barrier, NULL, ENDING);
    for (unsigned i = 0; i < ENDING; i++)
        if (pthread_create(&threads[i], attributes, use_much_and_end, does_nothing) != 0)
            fail("pthread_create");
    for (unsigned i = 0; i < ENDING; i++)
        pthread_join(threads[i], NULL);
    if (!purger_ends(10))
        promise_broken("the purger is still there 10 s after threads ended");
    return resident_bytes();
}

static void require_little_of_ended_threads(const pthread_attr_t *attributes)
{
    size_t start = resident_after_threads(attributes, "nothing");
    size_t end = resident_after_threads(attributes, NULL);
    size_t each = (end > start ? end - start : 0) / ENDING;
    report("%u threads that ended have left %zu bytes each", ENDING, each);
    if (each > MAY_HOLD + 4 * KiB)
        promise_broken("each ended thread has left %zu bytes, allowed are %zu", each,
                       MAY_HOLD + 4 * KiB);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "many-threads", 120);
    unsigned count = (unsigned)scaled(THREADS);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    require_little_of_ended_threads(&attributes);
    pthread_barrier_init(&barrier, NULL, count + 1);
    for (unsigned i = 0; i < count; i++) {
        pthread_t thread;
        int error = pthread_create(&thread, &attributes, use_and_sleep, NULL);
        if (error != 0)
            fail("thread %u: %s", i, strerror(error));
    }
    touch_stack();
    pthread_barrier_wait(&barrier);
    size_t start = resident_bytes();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    if (!purger_ends(10)) /* the sweep of so many takes a while on a busy machine */
        promise_broken("the purger is still there after 10 s of quiet");
    size_t end = resident_bytes();
    size_t each = (end > start ? end - start : 0) / count;
    report("%u threads hold %zu bytes each", count, each);
    if (each > MAY_HOLD)
        promise_broken("each idle thread holds %zu bytes, allowed are %zu", each, MAY_HOLD);
    return 0;
}
