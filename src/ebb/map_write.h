/* map_write.h: a picture of the heap as a page for a browser (map.html, with the data behind it:
 * map_page.c) and as an SVG (map_svg.c).
 */
#ifndef EBB_MAP_WRITE_H
#define EBB_MAP_WRITE_H

#include <stdio.h>

#include "picture.h"

/* Bytes that are gathered, and written in base 64. */
struct bytes {
    uint8_t *byte;
    size_t count, room;
};

/* The spans of a frame, packed chunk by chunk, by address. */
struct packed_spans {
    struct bytes bytes;
    struct packed_chunk {
        uintptr_t base;
        size_t start, end; /* in bytes */
    } * chunks;
    size_t count;
};

void packed_spans_drop(struct packed_spans *spans);

/* A page is its begin, frames, and its end. before: the frame's that came before; spans: the same
 * one's, which this replaces; both empty at first. ms: since the first one. */
void map_write_begin(const struct target *target, FILE *file);
void map_write_frame(const struct picture *picture, const struct picture *before,
                     const struct heap *heap, struct packed_spans *spans, uint64_t ms, FILE *file);
void map_write_end(const struct target *target, const struct heap *heap, FILE *file);

void map_write_svg(const struct picture *picture, const struct heap *heap,
                   const struct target *target, FILE *file);

#endif
