#include "meta.h"

#include <string.h>

#include "lock.h"
#include "os.h"

/* Taken from the kernel at a time. Only what is touched becomes resident. */
#define META_REGION (256 * KiB)

struct free_record {
    struct free_record *next;
};

static struct {
    struct lock lock;
    char *next, *end;                                          /* the rest of the current region */
    struct free_record *free[META_SMALL_MAX / META_GRAIN + 1]; /* by size in grains */
} meta;

struct meta_books meta_books;

static void note_region(char *start, size_t size)
{
    meta_books.mapped_bytes += size;
    if (meta_books.region_count < META_REGIONS)
        meta_books.regions[meta_books.region_count++] = (struct meta_region){start, size};
}

/* Under the lock. What is left of the old region is lost: less than a record. */
static void *carve(size_t size)
{
    size_t skip = size <= META_SMALL_MAX ? 0 : -(uintptr_t)meta.next % CACHE_LINE;
    if ((size_t)(meta.end - meta.next) < size + skip) {
        size_t region = max_size(META_REGION, round_up(size, os_page_size));
        char *start = os_map(region);
        if (start == NULL)
            return NULL;
        os_use_huge_pages(start, region, false); /* most of it is never touched */
        note_region(start, region);
        if (region - size < (size_t)(meta.end - meta.next)) {
            /* A large record in a region of its own: keep the current one. */
            return start;
        }
        meta.next = start;
        meta.end = start + region;
        skip = 0;
    }
    void *record = meta.next + skip;
    meta.next += skip + size;
    return record;
}

void *meta_alloc(size_t size)
{
    size = round_up(size, size <= META_SMALL_MAX ? META_GRAIN : CACHE_LINE);
    struct free_record *record = NULL;
    bool recycled = false;
    lock_acquire(&meta.lock);
    if (size <= META_SMALL_MAX && (record = meta.free[size / META_GRAIN]) != NULL) {
        meta.free[size / META_GRAIN] = record->next;
        recycled = true;
    } else {
        record = carve(size);
    }
    if (record != NULL)
        meta_books.used_bytes += size;
    lock_release(&meta.lock);
    if (recycled)
        memset(record, 0, size);
    return record;
}

void meta_free(void *record, size_t size)
{
    size = round_up(size, size <= META_SMALL_MAX ? META_GRAIN : CACHE_LINE);
    struct free_record *freed = record;
    lock_acquire(&meta.lock);
    freed->next = meta.free[size / META_GRAIN];
    meta.free[size / META_GRAIN] = freed;
    meta_books.used_bytes -= size;
    lock_release(&meta.lock);
}

void meta_note(size_t more, size_t fewer)
{
    lock_acquire(&meta.lock);
    meta_books.used_bytes += more - fewer;
    lock_release(&meta.lock);
}

size_t meta_used_bytes(void)
{
    lock_acquire(&meta.lock);
    size_t bytes = meta_books.used_bytes;
    lock_release(&meta.lock);
    return bytes;
}

size_t meta_mapped_bytes(void)
{
    lock_acquire(&meta.lock);
    size_t bytes = meta_books.mapped_bytes;
    lock_release(&meta.lock);
    return bytes;
}

void meta_lock(void)
{
    lock_acquire(&meta.lock);
}

void meta_unlock(void)
{
    lock_release(&meta.lock);
}
