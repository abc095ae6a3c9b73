/* Memory for the library's own records. */
#include "support.h"

#include "meta.h"

enum { RECORDS = 4000, REGION_KIB = 256 };

/* Larger than what is kept for reuse, and in whole cache lines, as it is taken. */
#define LARGE_RECORD (round_up(META_SMALL_MAX, CACHE_LINE) + CACHE_LINE)

static struct {
    unsigned char *start;
    size_t size;
} records[RECORDS];

static int start(void **state)
{
    (void)state;
    os_init();
    return 0;
}

static void *take(size_t size)
{
    void *record = meta_alloc(size);
    assert_non_null(record);
    assert_int_equal((uintptr_t)record % (size <= META_SMALL_MAX ? META_GRAIN : CACHE_LINE), 0);
    assert_true(reads_zero(record, size));
    return record;
}

static void records_are_zero_aligned_and_apart(void **state)
{
    (void)state;
    struct random random = {1};
    for (size_t i = 0; i < RECORDS; i++) {
        records[i].size = 1 + random_below(&random, i % 10 == 0 ? 20000 : META_SMALL_MAX);
        records[i].start = take(records[i].size);
        pattern_write(records[i].start, records[i].size, i);
    }
    for (size_t i = 0; i < RECORDS; i++)
        assert_true(pattern_holds(records[i].start, records[i].size, i));
    for (size_t i = 0; i < RECORDS; i++)
        if (records[i].size <= META_SMALL_MAX)
            meta_free(records[i].start, records[i].size);
}

static void a_freed_record_serves_the_next_of_its_size_and_is_zero_again(void **state)
{
    (void)state;
    for (size_t size = 1; size <= META_SMALL_MAX; size++) {
        unsigned char *record = take(size);
        memset(record, 0xee, size);
        meta_free(record, size);
        assert_ptr_equal(take(size), record);
        memset(record, 0xee, size);
        meta_free(record, size);
    }
}

static void the_counts_tell_what_is_in_use(void **state)
{
    (void)state;
    size_t used = meta_used_bytes(), mapped = meta_mapped_bytes();
    assert_true(mapped >= used);
    void *record = take(100);
    assert_int_equal(meta_used_bytes(), used + 4 * META_GRAIN);
    meta_free(record, 100);
    assert_int_equal(meta_used_bytes(), used);
    take(3 * MiB);
    assert_int_equal(meta_used_bytes(), used + 3 * MiB);
    assert_int_equal(meta_mapped_bytes(), mapped + 3 * MiB);
}

/* A record larger than a region must not cost the rest of the current one. */
static void a_large_record_leaves_the_current_region_in_use(void **state)
{
    (void)state;
    take(META_SMALL_MAX + 1); /* so that there is a current region */
    size_t mapped = meta_mapped_bytes();
    take(2 * MiB);
    take(2 * MiB);
    size_t room = 0;
    while (meta_mapped_bytes() == mapped + 4 * MiB) {
        take(LARGE_RECORD);
        room += LARGE_RECORD;
    }
    take(LARGE_RECORD); /* the new region is there now; it is large again */
    take(2 * MiB);
    mapped = meta_mapped_bytes();
    take(LARGE_RECORD);
    assert_int_equal(meta_mapped_bytes(), mapped);
    assert_true(room <= REGION_KIB * KiB);
}

static void refused_memory_is_told_counted_nowhere_and_no_end(void **state)
{
    (void)state;
    refuse(KIND(OS_CALL_MAP), 1, SIZE_MAX);
    size_t taken = 0, used = meta_used_bytes();
    while (meta_alloc(LARGE_RECORD) != NULL)
        taken++;
    size_t used_then = meta_used_bytes(), refused = refused_count();
    refuse_none();
    assert_int_equal(refused, 1);
    assert_true(taken <= REGION_KIB * KiB / LARGE_RECORD);
    assert_int_equal(used_then, used + taken * LARGE_RECORD);
    take(LARGE_RECORD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_zero_aligned_and_apart),
        cmocka_unit_test(a_freed_record_serves_the_next_of_its_size_and_is_zero_again),
        cmocka_unit_test(the_counts_tell_what_is_in_use),
        cmocka_unit_test(a_large_record_leaves_the_current_region_in_use),
        cmocka_unit_test(refused_memory_is_told_counted_nowhere_and_no_end),
    };
    return cmocka_run_group_tests_name("meta", tests, start, NULL);
}
