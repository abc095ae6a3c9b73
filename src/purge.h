/* purge.h: giving physical memory back, and counting it. The addresses stay. No locks.
 */
#ifndef EBB_PURGE_H
#define EBB_PURGE_H

#include <stdatomic.h>

#include "base.h"
#include "os.h"

/* What a sweep gives back, and how. */
enum sweep_kind {
    SWEEP_OLD, /* what was free since the last sweep, by the advice that the user chose */
    SWEEP_ALL, /* whatever is free, by that advice */
    SWEEP_NOW  /* whatever is free, at once: he asks for it, or memory is short */
};

enum purge_result {
    PURGE_DONE,   /* not resident any more, reads as zero */
    PURGE_LAZY,   /* the kernel takes it when it wants it; content unknown */
    PURGE_REFUSED /* unchanged */
};

/* Whole OS pages that hold nothing and that nobody else can reach. Adds to *given_back the bytes
 * that are not resident any more; with SWEEP_NOW those alone that were, as the kernel says. */
enum purge_result purge_range(char *start, size_t size, enum sweep_kind kind, size_t *given_back);

/* The same for several ranges, with a result for each. */
void purge_ranges(const struct os_range *ranges, size_t count, enum sweep_kind kind,
                  enum purge_result *results, size_t *given_back);

/* The library's memory has grown by so many bytes that were never resident before … */
void purge_note_growth(size_t bytes);

/* … and so many are not made up for yet: 0 as long as they are fewer than is worth a call. */
size_t purge_take_growth(void);

/* How many bytes more may become resident until memory is short (pressure.h): kept up to date by
 * those who take memory that is not resident yet and by what is given back, and corrected by each
 * look: down at once, up by an eighth, since a look does not see what was taken and not touched
 * yet; the first one takes it that nothing of that was. Negative: memory is short, or will be when
 * that is touched. */
#define PURGE_ROOM_ANY (INT64_MAX / 2)
int64_t purge_room(void);
void purge_note_use(size_t bytes);

/* So many that were noted are unmapped, without having been given back by a purge. */
void purge_note_unmapped(size_t bytes);

/* What a look found that began when room was `before`. */
void purge_correct_room(int64_t found, int64_t before);

/* Makes it so many at least. */
void purge_allow(int64_t bytes);

extern hidden struct purge_books {
    _Atomic size_t bytes, calls;
    _Atomic uint64_t spent_us;
} purge_books;

/* Since the start: bytes that were given back at once, and calls for it (one for several ranges).
 */
size_t purge_bytes(void);
size_t purge_calls(void);

/* What those calls took in all, in microseconds. */
uint64_t purge_us(void);

#endif
