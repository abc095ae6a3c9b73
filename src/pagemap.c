#include "pagemap.h"

#include <string.h>

#include "lock.h"
#include "os.h"

struct pagemap_leaf pagemap_none;
struct pagemap_near pagemap_near = {.top = SIZE_MAX};

/* pagemap_top, each entry of which leads to `none`. C has no word for a distance that the linker
 * knows. */
__asm__(".pushsection .data.pagemap_top, \"aw\"\n"
        ".hidden pagemap_top\n"
        ".globl pagemap_top\n"
        ".balign 64\n"
        "pagemap_top:\n"
        ".set top, 0\n"
        ".rept 1 << (" TEXT(ADDRESS_BITS) " - " TEXT(
            LEAF_SHIFT) ")\n"
                        ".quad pagemap_none - pagemap_top - (top << (" TEXT(LEAF_SHIFT) " - " TEXT(
                            PAGE_SHIFT) "))\n"
                                        ".set top, top + 1\n"
                                        ".endr\n"
                                        ".popsection\n");

/* Guards the making of leaves. */
static struct lock lock;

static struct pagemap_leaf *writable_leaf(const void *address)
{
    return (struct pagemap_leaf *)pagemap_leaf_at((uintptr_t)address >> LEAF_SHIFT);
}

struct pagemap_books pagemap_books;

/* Under the lock. */
static bool make_leaf(size_t top)
{
    if (pagemap_leaf_at(top) != &pagemap_none)
        return true;
    void *leaf = os_map_apart(sizeof(struct pagemap_leaf));
    if (leaf == NULL)
        return false;
    atomic_fetch_add_explicit(&pagemap_books.leaf_bytes, sizeof(struct pagemap_leaf),
                              memory_order_relaxed);
    os_use_huge_pages(leaf, sizeof(struct pagemap_leaf), false); /* little of it is ever touched */
    atomic_store_explicit(&pagemap_top[top],
                          (uintptr_t)leaf - (uintptr_t)pagemap_top - top * LEAF_PAGES,
                          memory_order_release);
    if (atomic_load_explicit(&pagemap_near.top, memory_order_relaxed) == SIZE_MAX) {
        pagemap_near.codes = pagemap_codes(top);
        atomic_store_explicit(&pagemap_near.top, top, memory_order_release);
    }
    return true;
}

bool pagemap_prepare(const void *start, size_t size)
{
    size_t first = (uintptr_t)start >> LEAF_SHIFT;
    size_t last = ((uintptr_t)start + size - 1) >> LEAF_SHIFT;
    if (last >= TOP_ENTRIES)
        return false;
    bool ready = true;
    lock_acquire(&lock);
    for (size_t top = first; top <= last && ready; top++)
        ready = make_leaf(top);
    lock_release(&lock);
    return ready;
}

void pagemap_set(const void *start, size_t pages, unsigned class)
{
    /* A run lies in one chunk and so in one leaf. */
    memset(&writable_leaf(start)->codes[((uintptr_t)start >> PAGE_SHIFT) & (LEAF_PAGES - 1)],
           (int)(class * CODE_PER_CLASS), pages);
}

static void set_owner(const void *start, uintptr_t owner)
{
    /* Release: pairs with pagemap_owner; the owner's record is complete. */
    atomic_store_explicit(
        &writable_leaf(start)->owners[((uintptr_t)start >> CHUNK_SHIFT) & (LEAF_CHUNKS - 1)], owner,
        memory_order_release);
}

void pagemap_set_chunk(const void *start, void *chunk)
{
    set_owner(start, (uintptr_t)chunk);
}

void pagemap_set_huge(const void *start, void *first)
{
    set_owner(start, first != NULL ? (uintptr_t)first + OWNER_IS_HUGE : 0);
}

void pagemap_lock(void)
{
    lock_acquire(&lock);
}

void pagemap_unlock(void)
{
    lock_release(&lock);
}
