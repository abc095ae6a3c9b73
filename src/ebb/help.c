/* help.c: `ebb help [TOPIC]`. The options come from the library's own table. */
#include <stdio.h>
#include <string.h>

#include "ebb.h"
#include "options.h"

static void print_options(void);
static void print_status(void);

/* What `ebb help` knows beside the subcommands. */
static const struct topic {
    const char *name;
    const char *summary;
    void (*print)(void);
} topics[] = {
    {"options", "the library's environment variables", print_options},
    {"status", "what ebb's exit status means", print_status},
};

enum { TOPICS = sizeof topics / sizeof *topics };

void print_overview(void)
{
    puts("ebb - start programs on the ebbmalloc library, and look at running ones\n\n"
         "Usage:");
    for (size_t i = 0; commands[i] != NULL; i++)
        printf("  ebb %s %s\n", commands[i]->name, commands[i]->arguments);
    puts("  ebb --help | --version\n\n"
         "Subcommands:");
    for (size_t i = 0; commands[i] != NULL; i++)
        printf("  %-9s %s\n", commands[i]->name, commands[i]->summary);
    puts("\nFurther topics of ebb help:");
    for (int i = 0; i < TOPICS; i++)
        printf("  %-9s %s\n", topics[i].name, topics[i].summary);
    puts("\nSee also: man ebb, man ebbmalloc");
}

void print_command_help(const struct command *command)
{
    printf("Usage: ebb %s %s\n\n%s\n", command->name, command->arguments, command->help);
}

static void print_choices(const struct option *option)
{
    for (size_t i = 0; option->choices[i] != NULL; i++)
        printf("%s%s", i == 0 ? "" : " or ", option->choices[i]);
}

static void print_range(const struct option *option)
{
    char least[32], most[32];
    option_print(option, option->least, least, sizeof least);
    option_print(option, option->most, most, sizeof most);
    printf("%s to %s%s", least, most, option->kind == OPTION_BYTES ? " (bytes; K, M, G)" : "");
}

static void print_option(const struct option *option)
{
    char initial[32];
    option_print(option, option->initial, initial, sizeof initial);
    printf("  %s\n      %s\n      ", option->name, option->what);
    if (option->kind == OPTION_CHOICE)
        print_choices(option);
    else
        print_range(option);
    printf("; default %s\n", initial);
}

static void print_options(void)
{
    puts("The library reads these environment variables when the program starts. A value\n"
         "that it does not understand is named in one line on stderr; the default holds.\n");
    for (size_t i = 0; i < option_count; i++)
        print_option(&option_table[i]);
}

static void print_status(void)
{
    puts("Exit status of ebb:\n"
         "  0    done\n"
         "  1    the output could not be written, memory ran out, the trace or a\n"
         "       library to replay it on is not there or cannot be used, or a\n"
         "       replayed block was not what it should be\n"
         "  2    wrong usage\n"
         "  3    there is no such process, or it ended meanwhile\n"
         "  4    the kernel does not allow to look at it: another user's, or see\n"
         "       kernel.yama.ptrace_scope\n"
         "  5    the process is not on ebbmalloc\n"
         "  6    it is on another build of it, or its records are damaged\n"
         "  7    ebb trim: the process sleeps, and nobody in it could do it\n"
         "Exit status of ebb run and ebb record: that of the command, or\n"
         "  2    wrong usage\n"
         "  125  the library or the recorder is not there or cannot be preloaded, or\n"
         "       the file of the trace cannot be written\n"
         "  126  the command is there but cannot be executed\n"
         "  127  the command is not found");
}

static int help(int argc, char **argv)
{
    if (argc < 2) {
        print_overview();
        return EXIT_DONE;
    }
    const struct command *command = find_command(argv[1]);
    if (command != NULL) {
        print_command_help(command);
        return EXIT_DONE;
    }
    for (int i = 0; i < TOPICS; i++) {
        if (strcmp(topics[i].name, argv[1]) == 0) {
            topics[i].print();
            return EXIT_DONE;
        }
    }
    complain("help: %s: no such topic; ebb help lists what there is", argv[1]);
    return EXIT_USAGE;
}

const struct command help_command = {
    "help",
    "[TOPIC]",
    "explain a subcommand or a topic; without TOPIC, list them",
    "TOPIC is a subcommand, or one of those that `ebb help` lists at its end.\n",
    help,
};
