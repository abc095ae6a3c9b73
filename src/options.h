/* options.h: what the user can tune, through environment variables that begin with EBBMALLOC_.
 * One table (options.c) feeds the parser, the statistics page and, by `ebb help options`, the
 * manual. Read once, before the first block; constant afterwards.
 */
#ifndef EBB_OPTIONS_H
#define EBB_OPTIONS_H

#include "base.h"

enum advice {
    ADVICE_DONTNEED, /* resident memory falls at once */
    ADVICE_FREE,     /* the kernel takes it when it needs it; counted as resident until then */
};

enum background_thread {
    THREAD_AUTO, /* started when there is something to do */
    THREAD_OFF,  /* the slow paths of malloc and free do what they can */
};

struct options {
    size_t advice;            /* enum advice */
    size_t purge_delay_ms;    /* how long freed pages stay for reuse: half of it at least */
    size_t background_thread; /* enum background_thread */
    size_t thread_cache;      /* bytes of free blocks that one thread may keep at most */
};

extern struct options options;

enum option_kind { OPTION_CHOICE, OPTION_BYTES, OPTION_MILLISECONDS };

struct option {
    const char *name; /* of the environment variable */
    enum option_kind kind;
    size_t *value;
    size_t least, most;         /* allowed; of a choice: 0 and the last index */
    size_t initial;             /* the default */
    const char *const *choices; /* names by value, for OPTION_CHOICE */
    const char *what;           /* one line for the user */
};

extern const struct option option_table[];
extern const size_t option_count;

/* Sets the defaults, then what the environment says. A value that is not understood is named in
 * one line on stderr, with what is expected, and the default stays; so is an unknown name. */
void options_init(void);

/* The value of an option as the user would write it. */
void option_print(const struct option *option, size_t value, char *buffer, size_t capacity);

/* Reads a value; false when text is none. Exposed for tests. */
bool option_parse(const struct option *option, const char *text, size_t *value);

#endif
