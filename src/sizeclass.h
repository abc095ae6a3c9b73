/* sizeclass.h: which sizes there are. Pure tables, shared read-only by all processes.
 *
 * Steps of 16 bytes up to 128, then eight to a doubling up to 32 KiB, but sixteen from 2 to 4 KiB,
 * where much of the memory of mixed loads is: a block is at most 12.5 % larger than what was asked
 * for (but for the rounding to 16 bytes below 128). Every power of two
 * A up to 32 KiB divides the class of any size that is a multiple of A, and spans begin at a page,
 * so aligned blocks need no padding.
 *
 * Pages per span: 1, 2, 4 or 8, since a buddy's runs of other lengths leave holes; the fewest that
 * hold at least 8 blocks with at most 1/32 lost at the end, or else, of those that hold 4, what
 * loses least; but 4 at least from 2 to 4 KiB: spans of few blocks are made and dropped all the
 * time where many come and go.
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
    X(41, 2048, 2176, 4)                                                                           \
    X(42, 2176, 2304, 4)                                                                           \
    X(43, 2304, 2432, 4)                                                                           \
    X(44, 2432, 2560, 4)                                                                           \
    X(45, 2560, 2688, 4)                                                                           \
    X(46, 2688, 2816, 4)                                                                           \
    X(47, 2816, 2944, 4)                                                                           \
    X(48, 2944, 3072, 4)                                                                           \
    X(49, 3072, 3200, 4)                                                                           \
    X(50, 3200, 3328, 4)                                                                           \
    X(51, 3328, 3456, 4)                                                                           \
    X(52, 3456, 3584, 4)                                                                           \
    X(53, 3584, 3712, 4)                                                                           \
    X(54, 3712, 3840, 4)                                                                           \
    X(55, 3840, 3968, 4)                                                                           \
    X(56, 3968, 4096, 4)                                                                           \
    X(57, 4096, 4608, 2)                                                                           \
    X(58, 4608, 5120, 4)                                                                           \
    X(59, 5120, 5632, 4)                                                                           \
    X(60, 5632, 6144, 4)                                                                           \
    X(61, 6144, 6656, 8)                                                                           \
    X(62, 6656, 7168, 2)                                                                           \
    X(63, 7168, 7680, 4)                                                                           \
    X(64, 7680, 8192, 2)                                                                           \
    X(65, 8192, 9216, 4)                                                                           \
    X(66, 9216, 10240, 8)                                                                          \
    X(67, 10240, 11264, 8)                                                                         \
    X(68, 11264, 12288, 8)                                                                         \
    X(69, 12288, 13312, 8)                                                                         \
    X(70, 13312, 14336, 4)                                                                         \
    X(71, 14336, 15360, 8)                                                                         \
    X(72, 15360, 16384, 4)                                                                         \
    X(73, 16384, 18432, 8)                                                                         \
    X(74, 18432, 20480, 4)                                                                         \
    X(75, 20480, 22528, 8)                                                                         \
    X(76, 22528, 24576, 4)                                                                         \
    X(77, 24576, 26624, 8)                                                                         \
    X(78, 26624, 28672, 8)                                                                         \
    X(79, 28672, 30720, 4)                                                                         \
    X(80, 30720, 32768, 8)

/* The same for blocks of whole pages, each a span of its own: eight to a doubling, too.
 * X(class, pages of the class below, pages in a block) */
#define LARGE_TABLE(X)                                                                             \
    X(81, 1, 2)                                                                                    \
    X(82, 2, 3)                                                                                    \
    X(83, 3, 4)                                                                                    \
    X(84, 4, 5)                                                                                    \
    X(85, 5, 6)                                                                                    \
    X(86, 6, 7)                                                                                    \
    X(87, 7, 8)                                                                                    \
    X(88, 8, 9)                                                                                    \
    X(89, 9, 10)                                                                                   \
    X(90, 10, 11)                                                                                  \
    X(91, 11, 12)                                                                                  \
    X(92, 12, 13)                                                                                  \
    X(93, 13, 14)                                                                                  \
    X(94, 14, 15)                                                                                  \
    X(95, 15, 16)                                                                                  \
    X(96, 16, 18)                                                                                  \
    X(97, 18, 20)                                                                                  \
    X(98, 20, 22)                                                                                  \
    X(99, 22, 24)                                                                                  \
    X(100, 24, 26)                                                                                 \
    X(101, 26, 28)                                                                                 \
    X(102, 28, 30)                                                                                 \
    X(103, 30, 32)                                                                                 \
    X(104, 32, 36)                                                                                 \
    X(105, 36, 40)                                                                                 \
    X(106, 40, 44)                                                                                 \
    X(107, 44, 48)                                                                                 \
    X(108, 48, 52)                                                                                 \
    X(109, 52, 56)                                                                                 \
    X(110, 56, 60)                                                                                 \
    X(111, 60, 64)                                                                                 \
    X(112, 64, 72)                                                                                 \
    X(113, 72, 80)                                                                                 \
    X(114, 80, 88)                                                                                 \
    X(115, 88, 96)                                                                                 \
    X(116, 96, 104)                                                                                \
    X(117, 104, 112)                                                                               \
    X(118, 112, 120)                                                                               \
    X(119, 120, 128)

#define SMALL_MAX ((size_t)32768) /* bytes; larger blocks are runs or mappings of their own */
#define LARGE_MAX (4 * MiB)       /* an eighth of a chunk: little is lost at its end */

/* Classes count from 1. The page map and the cache's bins share one numbering, in which 0 is "not
 * ours" and two kinds without a size class follow the last: runs that are aligned to more than a
 * page (large.h), and mappings (huge.h). */
enum {
    CLASS_NONE = 0,
    CLASS_FIRST = 1,
    CLASS_SMALL_LAST = 80,
    CLASS_LAST = 119,
    CLASS_LARGE,
    CLASS_HUGE,
    CLASS_END
};

/* Arrays for what only small classes have. */
#define CLASS_SMALL_END (CLASS_SMALL_LAST + 1)

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

/* Codes by (size - 1) / 16, for sizes from 1 to SMALL_MAX, and by (size - 1) / PAGE_SIZE up to
 * LARGE_MAX. */
extern hidden const uint8_t sizeclass_codes[SMALL_MAX / 16];
extern hidden const uint8_t sizeclass_large_codes[LARGE_MAX / PAGE_SIZE];

/* True for a class of which several blocks lie in one line of the processor's cache. */
static inline bool sizeclass_shares_lines(unsigned class)
{
    return sizeclasses[class].size < CACHE_LINE;
}

/* The code of a size; 1 <= size <= SMALL_MAX. */
static inline unsigned sizeclass_code(size_t size)
{
    return sizeclass_codes[(size - 1) >> 4];
}

/* The same for SMALL_MAX < size <= LARGE_MAX. */
static inline unsigned sizeclass_large_code(size_t size)
{
    return sizeclass_large_codes[(size - 1) >> PAGE_SHIFT];
}

/* The class of any size from 1 to LARGE_MAX. */
static inline unsigned sizeclass_of(size_t size)
{
    return (size <= SMALL_MAX ? sizeclass_code(size) : sizeclass_large_code(size)) / CODE_PER_CLASS;
}

#endif
