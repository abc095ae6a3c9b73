/* ebb.h: the command `ebb`. One subcommand is one file that holds its function and its help text;
 * the table that names them all is in ebb.c. No subcommand calls another.
 *
 * Errors are one line on stderr that begins with "ebb: " and says what to do about it.
 */
#ifndef EBB_EBB_H
#define EBB_EBB_H

/* What ebb itself ends with; `ebb run` passes on the command's own status. The numbers from 125 on
 * are those of env(1), nohup(1) and timeout(1). */
enum exit_status {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,        /* asked for correctly, but it did not work out */
    EXIT_USAGE = 2,         /* not asked for correctly */
    EXIT_NO_PROCESS = 3,    /* there is no such process, or it ended meanwhile */
    EXIT_NOT_ALLOWED = 4,   /* the kernel does not allow to look at it */
    EXIT_NO_LIBRARY = 5,    /* it is not on the library */
    EXIT_OTHER_BUILD = 6,   /* it is on another build of it, or what it says is damaged */
    EXIT_NO_ANSWER = 7,     /* ebb trim: nobody there to do it */
    EXIT_NOT_STARTED = 125, /* ebb run, record: the library is not there or cannot be preloaded */
    EXIT_NOT_EXECUTABLE = 126, /* ebb run, record: the command is there but does not start */
    EXIT_NOT_FOUND = 127,      /* ebb run, record: there is no such command */
};

struct command {
    const char *name;
    const char *arguments;             /* as the usage line shows them */
    const char *summary;               /* one line; with name and indent within 80 columns */
    const char *help;                  /* what `ebb help NAME` says below usage and summary */
    int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name */
};

/* In the order in which `ebb --help` shows them; ended by NULL. */
extern const struct command *const commands[];

extern const struct command run_command;
extern const struct command stat_command;
extern const struct command map_command;
extern const struct command top_command;
extern const struct command trim_command;
extern const struct command record_command;
extern const struct command replay_command;
extern const struct command trace_subcommand;
extern const struct command help_command;

const struct command *find_command(const char *name);

/* The overview: what `ebb --help` says. */
void print_overview(void);

/* What `ebb help NAME` and `ebb NAME --help` say. */
void print_command_help(const struct command *command);

/* One line on stderr with "ebb: " before it. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
