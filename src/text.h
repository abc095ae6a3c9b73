/* text.h: words to the user, without malloc and without stdio. One line is one write(2). */
#ifndef EBB_TEXT_H
#define EBB_TEXT_H

#include <stdarg.h>

#include "base.h"

/* The longest line that is written whole; a longer one is cut. */
#define TEXT_LINE 512

/* Formats into buffer (capacity bytes, always ended by a zero) and returns the length. Knows
 * %s %c %d %u %zu %p %% and a width with optional '-' before s, d, u and zu; no more. */
size_t text_format(char *buffer, size_t capacity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t text_format_list(char *buffer, size_t capacity, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

/* Copies text that came from outside so that it can stand in a line: what cannot be printed becomes
 * '?', and what is long is cut and ends in "...". Returns buffer. */
const char *text_tame(char *buffer, size_t capacity, const char *text);

/* Writes one line to stderr, as given. */
void text_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says "ebbmalloc: …" on stderr. For what the user should mend. */
void text_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A caller's mistake: says "ebbmalloc: call(address): what" on stderr and aborts. */
_Noreturn cold void text_abort(const char *call, const void *address, const char *what);

#endif
