/* run.c: `ebb run COMMAND…`: sets LD_PRELOAD and becomes the command. */
#include <limits.h>
#include <string.h>

#include "ebb.h"
#include "launch.h"

static int run(int argc, char **argv)
{
    int first = argc > 1 && strcmp(argv[1], "--") == 0 ? 2 : 1;
    if (argc <= first) {
        complain("run: no command given; try ebb run COMMAND ARGUMENT...");
        return EXIT_USAGE;
    }
    if (first == 1 && argv[1][0] == '-') {
        complain("run: %s: no such option; ebb help run lists what there is", argv[1]);
        return EXIT_USAGE;
    }
    char **command = argv + first;
    char library[PATH_MAX];
    if (!launch_find_library(library))
        return EXIT_NOT_STARTED;
    return launch(library, command);
}

const struct command run_command = {
    "run",
    "[--] COMMAND [ARGUMENT...]",
    "start COMMAND on the library",
    "The library is put first in LD_PRELOAD, before what is there already, and ebb\n"
    "becomes COMMAND: same process, same descriptors, same signals. Whatever COMMAND\n"
    "starts in its turn runs on the library, too.\n"
    "\n"
    "The library is the one that EBB_LIBRARY names; else, where ebb lies in the tree\n"
    "it was built in, the one of that tree; else the installed one.\n"
    "\n"
    "Programs that are statically linked, that gain rights when they start (setuid,\n"
    "setgid, file capabilities), or that are made for another kind of machine cannot\n"
    "be reached this way: ebb warns, and starts them without the library.\n"
    "\n"
    "The exit status is that of COMMAND; for ebb's own see `ebb help status`.\n"
    "\n"
    "Examples:\n"
    "  ebb run redis-server /etc/redis/redis.conf\n"
    "  EBBMALLOC_PURGE_DELAY=100 ebb run ruby server.rb\n",
    run,
};
