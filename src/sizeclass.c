#include "sizeclass.h"

#define BLOCKS(size, pages) ((pages)*PAGE_SIZE / (size))

#define ROW(class, below, bytes, count)                                                            \
    [class] = {.size = (bytes),                                                                    \
               .inverse = (uint32_t)((((uint64_t)1 << 32) + (bytes)-1) / (bytes)),                 \
               .capacity = BLOCKS(bytes, count),                                                   \
               .pages = (count),                                                                   \
               .words = (BLOCKS(bytes, count) + 63) / 64},

#define LARGE_ROW(class, below, pages) ROW(class, below, (pages)*PAGE_SIZE, pages)

const struct sizeclass sizeclasses[CLASS_END] = {SIZECLASS_TABLE(ROW) LARGE_TABLE(LARGE_ROW)};

#define RANGE(class, below, bytes, count)                                                          \
    [(below) / 16 ...(bytes) / 16 - 1] = (class) * CODE_PER_CLASS,

const uint8_t sizeclass_codes[SMALL_MAX / 16] = {SIZECLASS_TABLE(RANGE)};

#define LARGE_RANGE(class, below, pages) [(below)...(pages) - 1] = (class) * CODE_PER_CLASS,

const uint8_t sizeclass_large_codes[LARGE_MAX / PAGE_SIZE] = {LARGE_TABLE(LARGE_RANGE)};
