/* A key-value store whose values change their size over time: keys are set at random, and what is
 * set grows and shrinks in the long run, so every size class was once full and must be given up to
 * others. Some values grow in place (append), some keys are deleted. One thread, as in redis.
 *
 * The figure is operations per second; the work is fixed. Peak memory tells the fragmentation. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

typedef struct {
    char *key;
    char *value;
    size_t bytes;
} Entry;

enum { KEY_BYTES = 24, ENTRY_LOG_MOST = 8192 };

static uint64_t state;

/* The middle of the sizes at a time between 0 (start) and 1 (end): it goes 48, 1200, 96, 600. */
static size_t middle_at(double time)
{
    static const double middles[] = {48, 1200, 96, 600, 600};
    double place = time * 3;
    int step = (int)place;
    double part = place - step;
    return (size_t)(middles[step] * (1 - part) + middles[step + 1] * part);
}

static void fill_value(Entry *entry, size_t from)
{
    memset(entry->value + from, 'v', entry->bytes - from);
}

static void set(Entry **slot, size_t bytes)
{
    Entry *entry = *slot;
    if (entry == NULL) {
        entry = *slot = workload_block(sizeof *entry);
        entry->key = workload_block(KEY_BYTES + bytes % 16);
    } else {
        free(entry->value);
    }
    entry->value = workload_block(bytes);
    entry->bytes = bytes;
    fill_value(entry, 0);
}

static void append(Entry *entry, size_t bytes)
{
    if (entry == NULL || entry->bytes + bytes > ENTRY_LOG_MOST)
        return;
    size_t old = entry->bytes;
    entry->bytes += bytes;
    entry->value = realloc(entry->value, entry->bytes);
    if (entry->value == NULL)
        workload_fail("kvdrift", "out of memory");
    fill_value(entry, old);
}

static void forget(Entry **slot)
{
    Entry *entry = *slot;
    if (entry == NULL)
        return;
    free(entry->value);
    free(entry->key);
    free(entry);
    *slot = NULL;
}

int main(int argc, char **argv)
{
    WorkloadArgument arguments[] = {{"keys", 1, 1e9, 100000}, {"operations", 1, 1e12, 3e6}};
    workload_arguments("kvdrift", argc, argv, arguments, 2);
    size_t keys = (size_t)arguments[0].value;
    size_t operations = (size_t)arguments[1].value;
    Entry **table = workload_books(keys * sizeof *table);
    state = bench_seed(5);
    double start = bench_now();
    for (size_t i = 0; i < operations; i++) {
        size_t middle = middle_at((double)i / (double)operations);
        Entry **slot = &table[bench_between(&state, 0, keys - 1)];
        uint32_t dice = bench_random(&state) % 10;
        if (dice == 0)
            forget(slot);
        else if (dice == 1)
            append(*slot, middle / 4 + 1);
        else
            set(slot, bench_log_between(&state, middle / 2, middle * 2));
    }
    double elapsed = bench_now() - start;
    for (size_t i = 0; i < keys; i++)
        forget(&table[i]);
    workload_result("kvdrift", (double)operations / elapsed, "ops/s");
    return 0;
}
