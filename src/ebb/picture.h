/* picture.h: the heap of a process as cells, area by area, for the writers of ebb map
 * (map_write.h).
 */
#ifndef EBB_PICTURE_H
#define EBB_PICTURE_H

#include "heap.h"

/* What a cell shows, 4 KiB of addresses each, four bits: given back or never used; live, by tenths;
 * and the rest. The page's script has the same numbers. */
#define CELL_SIZE ((size_t)4096)
#define CELLS_PER_WORD 8
enum {
    CELL_EMPTY,
    CELL_LIVE = 1, /* … to 10 */
    CELL_FREE = 11,
    CELL_CACHED,
    CELL_METADATA,
    CELL_LAZY,
    CELL_UNTOUCHED, /* live and not resident */
};

enum area_kind { AREA_CHUNK, AREA_HUGE, AREA_KEPT, AREA_METADATA };

struct area {
    enum area_kind kind;
    uintptr_t base;
    size_t cells;
    size_t chunk;    /* an index, of AREA_CHUNK */
    uint64_t age_ms; /* of AREA_KEPT: since it was freed */
    size_t first;    /* its words in the picture */
};

struct picture {
    struct area *areas;
    size_t count;
    uint32_t *words;
    size_t word_count;
};

/* The largest picture, in cells: what a browser still takes with ease is twice as much. */
#define CELLS_MOST ((size_t)64 << 20)

/* Of a heap that was read to HEAP_BLOCKS; what is resident the kernel says. */
struct picture picture_draw(const struct heap *heap, const struct target *target);
void picture_drop(struct picture *picture);

/* What an allocation returned; ends the program with a line when it is NULL. */
void *need(void *memory);

#endif
