/* sizeclass.h: which sizes there are. Pure tables, shared read-only by all processes.
 *
 * Steps of 16 bytes up to 128, then eight to a doubling up to 32 KiB: a block is at most 12.5 %
 * larger than what was asked for (but for the rounding to 16 bytes below 128). Every power of two
 * A up to 32 KiB divides the class of any size that is a multiple of A, and spans begin at a page,
 * so aligned blocks need no padding.
 *
 * Pages per span: 1, 2, 4 or 8, since a buddy's runs of other lengths leave holes; the fewest that
 * hold at least 8 blocks with at most 1/32 lost at the end, or else, of those that hold 4, what
 * loses least.
 */
#ifndef EBB_SIZECLASS_H
#define EBB_SIZECLASS_H

#include "base.h"

/* X(class, size of the class below, block size in bytes, pages in a span) */
#define SIZECLASS_TABLE(X)                                                                         \
    X(1, 0, 16, 1)                                                                                 \
    X(2, 16, 32, 1)                                                                                \
    X(3, 32, 48, 1)                                                                                \
    X(4, 48, 64, 1)                                                                                \
    X(5, 64, 80, 1)                                                                                \
    X(6, 80, 96, 1)                                                                                \
    X(7, 96, 112, 1)                                                                               \
    X(8, 112, 128, 1)                                                                              \
    X(9, 128, 144, 1)                                                                              \
    X(10, 144, 160, 1)                                                                             \
    X(11, 160, 176, 1)                                                                             \
    X(12, 176, 192, 1)                                                                             \
    X(13, 192, 208, 1)                                                                             \
    X(14, 208, 224, 1)                                                                             \
    X(15, 224, 240, 1)                                                                             \
    X(16, 240, 256, 1)                                                                             \
    X(17, 256, 288, 1)                                                                             \
    X(18, 288, 320, 1)                                                                             \
    X(19, 320, 352, 1)                                                                             \
    X(20, 352, 384, 1)                                                                             \
    X(21, 384, 416, 1)                                                                             \
    X(22, 416, 448, 1)                                                                             \
    X(23, 448, 480, 1)                                                                             \
    X(24, 480, 512, 1)                                                                             \
    X(25, 512, 576, 1)                                                                             \
    X(26, 576, 640, 1)                                                                             \
    X(27, 640, 704, 1)                                                                             \
    X(28, 704, 768, 1)                                                                             \
    X(29, 768, 832, 1)                                                                             \
    X(30, 832, 896, 1)                                                                             \
    X(31, 896, 960, 1)                                                                             \
    X(32, 960, 1024, 1)                                                                            \
    X(33, 1024, 1152, 1)                                                                           \
    X(34, 1152, 1280, 1)                                                                           \
    X(35, 1280, 1408, 1)                                                                           \
    X(36, 1408, 1536, 1)                                                                           \
    X(37, 1536, 1664, 2)                                                                           \
    X(38, 1664, 1792, 1)                                                                           \
    X(39, 1792, 1920, 1)                                                                           \
    X(40, 1920, 2048, 1)                                                                           \
    X(41, 2048, 2304, 1)                                                                           \
    X(42, 2304, 2560, 2)                                                                           \
    X(43, 2560, 2816, 2)                                                                           \
    X(44, 2816, 3072, 2)                                                                           \
    X(45, 3072, 3328, 4)                                                                           \
    X(46, 3328, 3584, 1)                                                                           \
    X(47, 3584, 3840, 2)                                                                           \
    X(48, 3840, 4096, 1)                                                                           \
    X(49, 4096, 4608, 2)                                                                           \
    X(50, 4608, 5120, 4)                                                                           \
    X(51, 5120, 5632, 4)                                                                           \
    X(52, 5632, 6144, 4)                                                                           \
    X(53, 6144, 6656, 8)                                                                           \
    X(54, 6656, 7168, 2)                                                                           \
    X(55, 7168, 7680, 4)                                                                           \
    X(56, 7680, 8192, 2)                                                                           \
    X(57, 8192, 9216, 4)                                                                           \
    X(58, 9216, 10240, 8)                                                                          \
    X(59, 10240, 11264, 8)                                                                         \
    X(60, 11264, 12288, 8)                                                                         \
    X(61, 12288, 13312, 8)                                                                         \
    X(62, 13312, 14336, 4)                                                                         \
    X(63, 14336, 15360, 8)                                                                         \
    X(64, 15360, 16384, 4)                                                                         \
    X(65, 16384, 18432, 8)                                                                         \
    X(66, 18432, 20480, 4)                                                                         \
    X(67, 20480, 22528, 8)                                                                         \
    X(68, 22528, 24576, 4)                                                                         \
    X(69, 24576, 26624, 8)                                                                         \
    X(70, 26624, 28672, 8)                                                                         \
    X(71, 28672, 30720, 4)                                                                         \
    X(72, 30720, 32768, 8)

#define SIZECLASS_COUNT 72
#define SMALL_MAX ((size_t)32768) /* bytes; larger blocks are runs or mappings of their own */

/* Classes count from 1. The page map and the cache's bins share one numbering, in which 0 is "not
 * ours" and two kinds without a size class follow the last. */
enum {
    CLASS_NONE = 0,
    CLASS_FIRST = 1,
    CLASS_LAST = SIZECLASS_COUNT,
    CLASS_LARGE,
    CLASS_HUGE,
    CLASS_END
};

/* A class as the page map and the size table store it: its bin's offset in words, so that the
 * fast path needs no multiplication (cache.h: a bin is two words). */
#define CODE_PER_CLASS 2
_Static_assert(CLASS_END *CODE_PER_CLASS <= 256, "a code is a byte");

struct sizeclass {
    uint32_t size;     /* bytes of a block */
    uint32_t inverse;  /* 2^32 / size rounded up: index = offset * inverse >> 32 */
    uint16_t capacity; /* blocks in a span */
    uint8_t pages;     /* pages in a span */
    uint8_t words;     /* 64-bit words of a span's bitmap */
};

extern hidden const struct sizeclass sizeclasses[CLASS_END];

/* Codes by (size - 1) / 16, for sizes from 1 to SMALL_MAX. */
extern hidden const uint8_t sizeclass_codes[SMALL_MAX / 16];

/* The code of a size; 1 <= size <= SMALL_MAX. */
static inline unsigned sizeclass_code(size_t size)
{
    return sizeclass_codes[(size - 1) >> 4];
}

static inline unsigned sizeclass_of(size_t size)
{
    return sizeclass_code(size) / CODE_PER_CLASS;
}

#endif
