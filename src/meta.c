#include "meta.h"

#include <string.h>

#include "lock.h"
#include "options.h"
#include "os.h"

/* Taken from the kernel at a time. Only what is touched becomes resident. */
#define META_REGION (256 * KiB)

struct free_record {
    struct free_record *next;
};

/* Not handed out yet. */
struct rest {
    char *next, *end;
};

static struct {
    struct lock lock;
    struct rest rest;    /* of the current region */
    struct rest ahead;   /* a region for later, in the hardened mode, or NULL */
    size_t record_bytes; /* handed out in records up to META_SMALL_MAX, or free again */
    struct free_record *free[META_SMALL_MAX / META_GRAIN + 1]; /* by size in grains */
} meta;

struct meta_books meta_books;

static void note_region(char *start, size_t size)
{
    meta_books.mapped_bytes += size;
    if (meta_books.region_count < META_REGIONS)
        meta_books.regions[meta_books.region_count++] = (struct meta_region){start, size};
}

static size_t bytes_of(const struct rest *rest)
{
    return (size_t)(rest->end - rest->next);
}

/* Under the lock. Nothing when there is no memory. */
static struct rest map_region(size_t size)
{
    char *start = os_map_apart(size);
    if (start == NULL)
        return (struct rest){NULL, NULL};
    os_use_huge_pages(start, size, false); /* most of it is never touched */
    note_region(start, size);
    return (struct rest){start, start + size};
}

/* Under the lock. Half of the pages may be guards, which become spans when memory is short, and
 * each of those needs a record then: so as much as all records take, with the rest of the current
 * region, is there ahead. It is addresses that nobody touches. */
static void look_ahead(void)
{
    size_t wanted = meta.record_bytes + bytes_of(&meta.rest);
    if (options.harden == HARDEN_ON && meta.ahead.next == NULL)
        meta.ahead = map_region(max_size(META_REGION, round_up(wanted, os_page_size)));
}

/* Under the lock. What is left of the old region is lost: less than a record. */
static void *carve(size_t size)
{
    size_t skip = size <= META_SMALL_MAX ? 0 : -(uintptr_t)meta.rest.next % CACHE_LINE;
    if (bytes_of(&meta.rest) < size + skip) {
        bool is_there = bytes_of(&meta.ahead) >= size + bytes_of(&meta.rest);
        struct rest region =
            is_there ? meta.ahead : map_region(max_size(META_REGION, round_up(size, os_page_size)));
        if (region.next == NULL)
            return NULL;
        if (is_there)
            meta.ahead = (struct rest){NULL, NULL};
        else if (bytes_of(&region) - size < bytes_of(&meta.rest))
            return region.next; /* a large record in a region of its own: keep the current one */
        meta.rest = region;
        skip = 0;
    }
    void *record = meta.rest.next + skip;
    meta.rest.next += skip + size;
    if (size <= META_SMALL_MAX)
        meta.record_bytes += size;
    look_ahead();
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
