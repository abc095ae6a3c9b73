/* A script interpreter's way with memory, as Lua has it: small tables whose array and hash parts
 * double by realloc, many short strings, and a collector that from time to time sweeps the list of
 * all objects and frees most of them. One thread.
 *
 * The figure is objects per second; the work is fixed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workload.h"

typedef struct Object {
    struct Object *next; /* all objects, youngest first */
    void *array;         /* of a table; NULL in strings */
    void *hash;
    uint32_t array_room, hash_room; /* in entries */
    uint32_t bytes;
} Object;

enum { ARRAY_ENTRY = 16, HASH_ENTRY = 40, STRING_HEADER = 24 };

static uint64_t state;
static Object *objects;
static size_t live_bytes;

static void *reallocated(void *block, size_t old_bytes, size_t new_bytes)
{
    block = realloc(block, new_bytes);
    if (block == NULL)
        workload_fail("script", "out of memory");
    memset((char *)block + old_bytes, 0, new_bytes - old_bytes);
    live_bytes += new_bytes - old_bytes;
    return block;
}

static Object *make_object(size_t bytes)
{
    Object *object = reallocated(NULL, 0, bytes);
    object->bytes = (uint32_t)bytes;
    object->next = objects;
    objects = object;
    return object;
}

static void make_string(void)
{
    make_object(sizeof(Object) + STRING_HEADER + bench_log_between(&state, 1, 200));
}

/* Entries are added one by one; the part doubles when it is full. */
static void fill_part(void **part, uint32_t *room, size_t entries, size_t entry_bytes)
{
    for (size_t used = 0; used < entries; used++) {
        if (used < *room)
            continue;
        uint32_t doubled = *room ? *room * 2 : 1;
        *part = reallocated(*part, *room * entry_bytes, doubled * entry_bytes);
        *room = doubled;
    }
}

static void make_table(void)
{
    Object *table = make_object(sizeof(Object) + 16);
    uint32_t dice = bench_random(&state);
    if (dice & 1)
        fill_part(&table->array, &table->array_room, bench_log_between(&state, 1, 64), ARRAY_ENTRY);
    if (dice & 2)
        fill_part(&table->hash, &table->hash_room, bench_log_between(&state, 1, 16), HASH_ENTRY);
    if ((dice & 0xfff0) == 0) /* now and then a big one */
        fill_part(&table->array, &table->array_room, 20000, ARRAY_ENTRY);
}

static void free_object(Object *object)
{
    live_bytes -= object->bytes + (size_t)object->array_room * ARRAY_ENTRY +
                  (size_t)object->hash_room * HASH_ENTRY;
    free(object->array);
    free(object->hash);
    free(object);
}

/* Frees what the program no longer reaches: `percent` of all objects. */
static void collect(unsigned percent)
{
    Object **link = &objects;
    while (*link != NULL) {
        Object *object = *link;
        if (bench_random(&state) % 100 < percent) {
            *link = object->next;
            free_object(object);
        } else {
            link = &object->next;
        }
    }
}

int main(int argc, char **argv)
{
    WorkloadArgument arguments[] = {{"objects", 1, 1e10, 4e6}, {"pause-MiB", 0.1, 1e5, 16}};
    workload_arguments("script", argc, argv, arguments, 2);
    size_t count = (size_t)arguments[0].value;
    size_t pause = (size_t)(arguments[1].value * (1 << 20));
    size_t collect_at = pause;
    state = bench_seed(4);
    double start = bench_now();
    for (size_t i = 0; i < count; i++) {
        if (bench_random(&state) % 3 == 0)
            make_table();
        else
            make_string();
        if (live_bytes > collect_at) {
            collect(85);
            collect_at = live_bytes * 2 > pause ? live_bytes * 2 : pause;
        }
    }
    collect(100);
    workload_result("script", (double)count / (bench_now() - start), "objects/s");
    return 0;
}
