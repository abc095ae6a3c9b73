/* record.c: `ebb record -o FILE COMMAND…`: becomes the command, with the recorder before its
 * malloc.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ebb.h"
#include "launch.h"

struct request {
    const char *file;
    const char *malloc;
    char **command;
};

/* False after a complaint. */
static bool read_arguments(int argc, char **argv, struct request *request)
{
    int next = 1;
    for (; next < argc && argv[next][0] == '-'; next++) {
        const char *option = argv[next];
        if (strcmp(option, "--") == 0) {
            next++;
            break;
        }
        bool is_file = strcmp(option, "-o") == 0, is_malloc = strcmp(option, "--malloc") == 0;
        if (!is_file && !is_malloc) {
            complain("record: %s: no such option; ebb help record lists what there is", option);
            return false;
        }
        if (++next >= argc) {
            complain("record: %s: its value is missing", option);
            return false;
        }
        *(is_file ? &request->file : &request->malloc) = argv[next];
    }
    request->command = argv + next;
    if (request->file == NULL)
        complain("record: no file given; try ebb record -o FILE COMMAND ARGUMENT...");
    else if (next >= argc)
        complain("record: no command given; try ebb record -o FILE COMMAND ARGUMENT...");
    return request->file != NULL && next < argc;
}

/* The file's absolute path, of a file that can be written and is empty now. A pipe would end with
 * the first of its writers, and hold up the others. */
static bool prepare_file(const char *file, char path[PATH_MAX])
{
    struct stat status;
    if (stat(file, &status) == 0 && S_ISFIFO(status.st_mode)) {
        complain("record: %s: a pipe; the trace takes a file", file);
        return false;
    }
    int descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor < 0 || realpath(file, path) == NULL) {
        complain("record: %s: %s", file, strerror(errno));
        return false;
    }
    close(descriptor);
    return true;
}

static bool set_environment(const char *path)
{
    char process[16];
    snprintf(process, sizeof process, "%d", (int)getpid());
    if (setenv("EBB_RECORD_FILE", path, 1) == 0 && setenv("EBB_RECORD_PROCESS", process, 1) == 0)
        return true;
    complain("record: setting the environment: %s", strerror(errno));
    return false;
}

static int record(int argc, char **argv)
{
    struct request request = {.malloc = "ebbmalloc"};
    if (!read_arguments(argc, argv, &request))
        return EXIT_USAGE;
    char recorder[PATH_MAX], library[PATH_MAX], both[2 * PATH_MAX + 1], file[PATH_MAX];
    if (!launch_find_recorder(recorder) || !launch_find_malloc(request.malloc, library) ||
        !prepare_file(request.file, file) || !set_environment(file))
        return EXIT_NOT_STARTED;
    snprintf(both, sizeof both, "%s%s%s", recorder, library[0] != '\0' ? ":" : "", library);
    return launch(both, request.command);
}

const struct command record_command = {
    "record",
    "-o FILE [--malloc LIB] [--] COMMAND [ARGUMENT...]",
    "start COMMAND and write down what it does with memory",
    "Every call of malloc and its family, and of operator new and delete, goes into\n"
    "FILE, some 2 bytes each, for ebb replay and ebb trace. COMMAND's own process\n"
    "writes FILE, each process that it starts writes FILE.PID; a process that\n"
    "executes another program begins its file again. FILE is whole when the process\n"
    "has ended by exit; of one that was killed, what each thread did last is missing:\n"
    "up to a second of its work.\n"
    "\n"
    "  -o FILE       the trace; what is in it already is lost\n"
    "  --malloc LIB  what COMMAND runs on: ebbmalloc (the default), system (the C\n"
    "                library's own) or the path of a library to preload\n"
    "\n"
    "The exit status is that of COMMAND; for ebb's own see `ebb help status`.\n"
    "\n"
    "Example:\n"
    "  ebb record -o redis.trace --malloc system redis-server\n",
    record,
};
