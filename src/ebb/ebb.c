/* ebb.c: finds the subcommand and starts it. */
#include "ebb.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct command *const commands[] = {
    &run_command,    &stat_command,   &map_command,      &top_command,  &trim_command,
    &record_command, &replay_command, &trace_subcommand, &help_command, NULL};

const struct command *find_command(const char *name)
{
    for (size_t i = 0; commands[i] != NULL; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

void complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("ebb: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static int start(int argc, char **argv)
{
    if (argc < 2) {
        complain("no subcommand given; try ebb run COMMAND, or ebb --help");
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_overview();
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts("ebb (ebbmalloc) " EBB_VERSION);
        return EXIT_DONE;
    }
    const struct command *command = find_command(argv[1]);
    if (command == NULL) {
        complain("%s: no such %s; ebb --help lists what there is", argv[1],
                 argv[1][0] == '-' ? "option" : "subcommand");
        return EXIT_USAGE;
    }
    if (argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
        print_command_help(command);
        return EXIT_DONE;
    }
    return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    int status = start(argc, argv);
    /* A full disk or a closed stdout is a failure, too. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("ebb: writing the output");
        return EXIT_FAILED;
    }
    return status;
}
