/* pieces.h: what huge blocks consist of, live or freed: pieces of mappings, in lists and in rows.
 * All of it under the lock of the lists (huge.h), and without the kernel.
 *
 * The kernel moves and lengthens only what lies in one mapping. So a piece never lies in several;
 * a block that does is a row of pieces that stand side by side, of which the first is its record.
 */
#ifndef EBB_PIECES_H
#define EBB_PIECES_H

#include "huge.h"

/* Freed within so many milliseconds, two neighbours of one mapping become one piece. */
#define PIECES_JOIN_MS 16

/* A record that is not in use, or NULL; and one, or those of a row, that are not any more. */
struct huge *pieces_take_record(void);
void pieces_drop(struct huge *row);

/* The bytes of a piece without those behind it, and the last piece of its row. */
size_t pieces_own(const struct huge *piece);
struct huge *pieces_last(struct huge *row);

/* Cuts off what a row has beyond size: a row as well. NULL for want of a record, and then it stays
 * as long as it is. The bytes of a list that the row is in are the caller's to correct. */
struct huge *pieces_cut(struct huge *row, size_t size);

/* Adds at the front; removes. */
void pieces_add(struct huge_list *list, struct huge *block);
void pieces_remove(struct huge_list *list, struct huge *block);

/* Adds the pieces of a row, each by itself, to a list by address. */
void pieces_insert(struct huge_list *list, struct huge *row);

/* Takes a block of at least size bytes out of a list by address: of the pieces side by side that
 * fit best, and what is left of the last one stays. NULL when none do. */
struct huge *pieces_take_fitting(struct huge_list *list, size_t size, size_t alignment);

/* Makes a live block at least size bytes long by what stands right behind it in a list by address.
 * False, and nothing done, when that does not suffice. As to bytes, as above. */
bool pieces_grow(struct huge_list *list, struct huge *block, size_t size);

/* Takes up to `most` pieces of at least `least` bytes, wherever they are, out of a list until they
 * have size bytes together: few and large ones. Returns them as a row that is to be assembled, each
 * with its own size; NULL when there are none. The last may have up to `least` too many. */
struct huge *pieces_gather(struct huge_list *list, size_t size, size_t least, unsigned most);

#endif
