/* holes: what is live stays as it is while the OS pages between are given back, many thousand times
 * a second. Every span keeps a block alive, so that all that is given back are holes; the rest is
 * allocated, written, verified and freed again and again, some of it by another thread. With a
 * delay of 3 ms there is a sweep each millisecond. Every block carries its pattern, and the
 * survivors are verified in each turn, after their neighbours were given back.
 */
#define _GNU_SOURCE
#include "support.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORKERS 4
#define SECONDS 40
#define HOLES_LEAST 1000000 /* OS pages, in SECONDS; an idle machine makes three times as many */
#define HOLES_LARGE 10000   /* the same of 16 KiB, of which a survivor leaves few whole */

/* A worker's blocks of a turn, some 4 MiB. */
#define BLOCKS 8000
#define LEAST PARCEL_LEAST
#define MOST (1 * KiB)

/* What the allocator cuts into blocks: every span has whole ones. */
#define SPAN_PAGE (32 * KiB)

/* A worker's survivors, one to a page, by the page's number; at most a quarter is used. */
#define PAGES (1u << 15)

struct worker {
    unsigned number;
    struct rng rng;
    struct parcel *survivors[PAGES];
    struct parcel *blocks[BLOCKS];
    uint64_t turns, checks;
    size_t pages;
};

static struct worker workers[WORKERS];
static double end;

/* Blocks for another thread to free. */
#define SLOTS 4096
static struct parcel *_Atomic slots[SLOTS];

/* Where the survivor of a block's page is, or would be. */
static struct parcel **survivor_beside(struct worker *worker, const struct parcel *block)
{
    uintptr_t page = (uintptr_t)block / SPAN_PAGE;
    for (uint64_t i = mix(page) % PAGES;; i = (i + 1) % PAGES) {
        struct parcel *other = worker->survivors[i];
        if (other == NULL || (uintptr_t)other / SPAN_PAGE == page)
            return &worker->survivors[i];
    }
}

static void give_away(struct worker *worker, struct parcel *block)
{
    if (rng_below(&worker->rng, 8) == 0)
        block = atomic_exchange(&slots[rng_below(&worker->rng, SLOTS)], block);
    if (block != NULL)
        parcel_end(block, worker->number, "freed");
}

/* Frees a turn's blocks but for those that are, or become, the survivors of their pages. */
static void fall(struct worker *worker)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct parcel **survivor = survivor_beside(worker, worker->blocks[i]);
        struct parcel *block = worker->blocks[i];
        if (*survivor == NULL && ++worker->pages > PAGES / 4)
            fail("%zu pages for %u blocks and as many survivors", worker->pages, BLOCKS);
        if (*survivor == NULL || rng_below(&worker->rng, 64) == 0) {
            block = *survivor;
            *survivor = worker->blocks[i];
        }
        if (block != NULL)
            give_away(worker, block);
    }
}

static void check_survivors(struct worker *worker)
{
    for (unsigned i = 0; i < PAGES; i++) {
        if (worker->survivors[i] != NULL) {
            parcel_check(worker->survivors[i], worker->number, "survived");
            worker->checks++;
        }
    }
}

static void *churn(void *argument)
{
    struct worker *worker = argument;
    for (; now_seconds() < end; worker->turns++) {
        /* One class or two, so that all blocks lie among the survivors of a turn before. */
        size_t most = LEAST << rng_below(&worker->rng, 6);
        most = most > MOST ? MOST : most;
        for (unsigned i = 0; i < BLOCKS; i++)
            worker->blocks[i] =
                parcel_make(most - rng_below(&worker->rng, most - LEAST + 1) / 8, worker->number);
        fall(worker);
        sleep_seconds(0.002 + 0.006 * (double)rng_below(&worker->rng, 1000) / 1000);
        check_survivors(worker);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (getenv("EBBMALLOC_PURGE_DELAY") == NULL) {
        setenv("EBBMALLOC_PURGE_DELAY", "3", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    stress_begin(argc, argv, "holes", 60);
    if ((size_t)sysconf(_SC_PAGESIZE) > SPAN_PAGE) {
        report("left out: an OS page is larger than most spans");
        return 77;
    }
    pthread_t threads[WORKERS];
    end = now_seconds() + scaled_seconds(SECONDS);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        workers[i].rng = rng_stream(i);
        if (pthread_create(&threads[i], NULL, churn, &workers[i]) != 0)
            fail("pthread_create");
    }
    uint64_t turns = 0, checks = 0;
    size_t pages = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        turns += workers[i].turns;
        checks += workers[i].checks;
        pages += workers[i].pages;
    }
    uint64_t holes = books_number("purged", "bytes") / (uint64_t)sysconf(_SC_PAGESIZE);
    for (unsigned i = 0; i < WORKERS; i++)
        for (unsigned k = 0; k < PAGES; k++)
            if (workers[i].survivors[k] != NULL)
                parcel_end(workers[i].survivors[k], i, "in the end");
    for (unsigned i = 0; i < SLOTS; i++)
        if (slots[i] != NULL)
            parcel_end(slots[i], 0, "in the end");
    report("%" PRIu64 " OS pages given back around survivors in %zu pages, which were verified "
           "%" PRIu64 " times in %" PRIu64 " turns",
           holes, pages, checks, turns);
    uint64_t wanted = scaled(sysconf(_SC_PAGESIZE) == 4096 ? HOLES_LEAST : HOLES_LARGE);
    if (holes < wanted)
        promise_broken("%" PRIu64 " holes are too few to show anything, wanted are %" PRIu64, holes,
                       wanted);
    return 0;
}
