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

/* When free memory is given back. */
enum schedule {
    SCHEDULE_IDLE,      /* what was not used for a while */
    SCHEDULE_PERIODIC,  /* all of it, every so often */
    SCHEDULE_IMMEDIATE, /* pages when they become free */
    SCHEDULE_MANUAL,    /* when the program asks for it */
};

/* When the page of statistics is written without a call of the program's. */
enum stats_when {
    STATS_OFF,
    STATS_EXIT, /* at exit(3) and at the end of main */
};

enum harden {
    HARDEN_OFF, /* mistakes are stopped where that costs nothing */
    HARDEN_ON,  /* harden.h */
};

enum huge_pages {
    HUGE_PAGES_OFF,    /* never in chunks: they would keep what is free between live blocks */
    HUGE_PAGES_KERNEL, /* as the kernel is set: small ones, say */
    HUGE_PAGES_ON,     /* wherever the kernel has them */
};

struct options {
    size_t schedule;          /* enum schedule */
    size_t advice;            /* enum advice */
    size_t purge_delay_ms;    /* how long freed pages stay for reuse, at least */
    size_t purge_period_ms;   /* from one trim to the next, of SCHEDULE_PERIODIC */
    size_t soft_limit;        /* bytes resident above which all that is free goes; 0: none */
    size_t huge_pages;        /* enum huge_pages */
    size_t harden;            /* enum harden */
    size_t background_thread; /* enum background_thread */
    size_t thread_cache;      /* bytes of free blocks that one thread may keep at most */
    size_t stats;             /* enum stats_when */
    size_t stats_file;        /* const char *: of the page of statistics; 0: stderr */
    size_t stats_signal;      /* as option_signal numbers them; 0: none */
};

extern struct options options;

enum option_kind { OPTION_CHOICE, OPTION_BYTES, OPTION_MILLISECONDS, OPTION_PATH };

/* The longest path, with the zero at its end. */
#define OPTION_PATH_MOST 512

struct option {
    const char *name; /* of the environment variable */
    enum option_kind kind;
    size_t *value;
    size_t least, most;         /* allowed; of a choice: 0 and the last index; of a path: 0 */
    size_t initial;             /* the default */
    const char *const *choices; /* names by value, for OPTION_CHOICE */
    const char *what;           /* one line for the user */
};

extern const struct option option_table[];
extern const size_t option_count;

/* Sets the defaults, then what the environment says. A value that is not understood is named in
 * one line on stderr, with what is expected, and the default stays; so is an unknown name. */
void options_init(void);

/* The number of the signal that a value of options.stats_signal stands for; 0: none. */
int option_signal(size_t value);

/* The value of an option as the user would write it. */
void option_print(const struct option *option, size_t value, char *buffer, size_t capacity);

/* The same of one that is in force in a process, which may be another one: a value that is out of
 * its range is "?". True when it is the default. */
bool option_print_of(const struct option *option, const struct options *in_force, char *buffer,
                     size_t capacity);

/* Reads a value; false when text is none. A path is not copied: its value is where text is, or 0
 * for "-". Exposed for tests. */
bool option_parse(const struct option *option, const char *text, size_t *value);

#endif
