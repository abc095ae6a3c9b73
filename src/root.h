/* root.h: where a reader in another process begins (`ebb stat` and its like). He finds the record
 * through an ELF note of the library (root.c), reads it and all that it points at by
 * process_vm_readv(2), and needs nothing from us: nobody is stopped, no lock is held, and nothing
 * is spent while nobody looks. What he reads may change under his eyes, so he checks each pointer,
 * count and index before he uses it, and his figures may be a moment old.
 *
 * He knows the records by their C types, so he must be of the same build: layout is a fingerprint
 * of all that he reads.
 */
#ifndef EBB_ROOT_H
#define EBB_ROOT_H

#include "arena.h"
#include "chunk.h"
#include "huge.h"
#include "meta.h"
#include "options.h"
#include "pagemap.h"
#include "purge.h"
#include "purger.h"

#define ROOT_MAGIC "ebbmalloc root\n"

/* The note: name, type, and four bytes, the distance from themselves to the record. */
#define ROOT_NOTE_NAME "ebbmalloc"
#define ROOT_NOTE_TYPE 1

/* Raised when something that is read keeps its place and size, but not its meaning. */
#define ROOT_VERSION 1

/* Addresses in the process; the variables behind them are described where they are declared. */
struct root {
    char magic[16];
    char library[16]; /* its version, for people */
    uint64_t layout;
    struct arena *_Atomic *arenas;
    struct chunk *_Atomic *chunks;
    struct huge_lists *huge;
    struct meta_books *meta;
    struct purge_books *purge;
    struct purger_books *purger;
    struct purger_request *request;
    struct chunk_books *chunk_books;
    struct options *options;
    size_t *os_page_size;
    struct pagemap_books *page_map;
};

#define ROOT_MIX(so_far, number) (((so_far) ^ (number)) * UINT64_C(0x100000001b3))
#define ROOT_FIELD(so_far, type, field)                                                            \
    ROOT_MIX(ROOT_MIX(so_far, offsetof(struct type, field)), sizeof(((struct type *)0)->field))
#define ROOT_CLASS(class, below, size, pages) +(uint64_t)(class) * (size) * (pages)
#define ROOT_LARGE_CLASS(class, below, pages) +(uint64_t)(class) * (pages)

/* FNV-1a over the numbers. A constant: each step names the one before once. */
#define ROOT_L0                                                                                    \
    ROOT_MIX(ROOT_MIX(ROOT_MIX(UINT64_C(0xcbf29ce484222325), ROOT_VERSION),                        \
                      PAGE_SHIFT << 8 | CHUNK_SHIFT),                                              \
             CLASS_END SIZECLASS_TABLE(ROOT_CLASS) LARGE_TABLE(ROOT_LARGE_CLASS))
#define ROOT_L1                                                                                    \
    ROOT_FIELD(                                                                                    \
        ROOT_FIELD(ROOT_FIELD(ROOT_FIELD(ROOT_L0, arena, cache), arena, stacks), arena, books),    \
        arena, next)
#define ROOT_L2                                                                                    \
    ROOT_FIELD(ROOT_FIELD(ROOT_FIELD(ROOT_FIELD(ROOT_L1, arena, span_bytes), arena, free_bytes),   \
                          arena, refills),                                                         \
               arena, orphan)
#define ROOT_L3                                                                                    \
    ROOT_FIELD(ROOT_FIELD(ROOT_FIELD(ROOT_FIELD(ROOT_L2, span, owner), span, base), span, purged), \
               span, free_count)
#define ROOT_L4                                                                                    \
    ROOT_FIELD(ROOT_FIELD(ROOT_FIELD(ROOT_FIELD(ROOT_L3, span, age), span, class), span, words),   \
               span, chunk)
#define ROOT_L5                                                                                    \
    ROOT_FIELD(                                                                                    \
        ROOT_FIELD(ROOT_FIELD(ROOT_FIELD(ROOT_L4, chunk, base), chunk, next), chunk, committed),   \
        chunk, free_state)
#define ROOT_L6                                                                                    \
    ROOT_FIELD(                                                                                    \
        ROOT_FIELD(ROOT_FIELD(ROOT_FIELD(ROOT_L5, chunk, buddy), chunk, large), chunk, spans),     \
        chunk, large_pages)
#define ROOT_L7                                                                                    \
    ROOT_FIELD(ROOT_FIELD(ROOT_FIELD(ROOT_FIELD(ROOT_L6, huge, start), huge, size), huge, next),   \
               huge, freed_ms)
#define ROOT_LAYOUT                                                                                \
    ROOT_MIX(ROOT_MIX(ROOT_MIX(ROOT_MIX(ROOT_L7, sizeof(struct huge_lists)),                       \
                               sizeof(struct meta_books)),                                         \
                      sizeof(struct purger_books) << 16 | sizeof(struct options)),                 \
             sizeof(struct arena) << 32 | sizeof(struct chunk) << 8 | sizeof(struct span))

#endif
