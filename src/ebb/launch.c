#include "launch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "ebb.h"
#include "elf.h"

#define LIBRARY_NAME "libebbmalloc.so"
#define RECORDER_NAME "libebbrecord.so"

/* The directory in which this very program lies, without a slash at the end. */
static bool own_directory(char *directory, size_t capacity)
{
    ssize_t length = readlink("/proc/self/exe", directory, capacity - 1);
    if (length <= 0)
        return false;
    directory[length] = '\0';
    char *slash = strrchr(directory, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return true;
}

/* In the tree that it was built in, ebb starts the libraries of that tree and not installed ones
 * of another day: build/src/ebb/ebb and build/src/.libs/libebbmalloc.so. */
static bool file_of_build_tree(const char *relative, char path[PATH_MAX])
{
    char directory[PATH_MAX], candidate[PATH_MAX + 64];
    if (!own_directory(directory, sizeof directory))
        return false;
    snprintf(candidate, sizeof candidate, "%s/%s", directory, relative);
    return realpath(candidate, path) != NULL;
}

/* The loader only warns of a library that it cannot preload, and goes on without: refuse here. */
static bool can_be_preloaded(const char *library)
{
    struct elf_file file;
    if (!elf_inspect(library, &file)) {
        complain("%s: %s", library, strerror(errno));
        return false;
    }
    if (!file.is_native || !file.is_shared) {
        complain("%s: not a shared library for this machine", library);
        return false;
    }
    if (strpbrk(library, " :") != NULL) {
        complain("%s: LD_PRELOAD knows no path with a space or a colon in it; put a copy of the "
                 "library elsewhere and name it in EBB_LIBRARY",
                 library);
        return false;
    }
    return true;
}

bool launch_find_library(char path[PATH_MAX])
{
    const char *chosen = getenv("EBB_LIBRARY");
    if (chosen != NULL && *chosen != '\0') {
        if (realpath(chosen, path) != NULL)
            return can_be_preloaded(path);
        complain("EBB_LIBRARY=%s: %s", chosen, strerror(errno));
        return false;
    }
    if (file_of_build_tree("../.libs/" LIBRARY_NAME, path) ||
        realpath(EBB_LIBRARY_DIR "/" LIBRARY_NAME, path) != NULL)
        return can_be_preloaded(path);
    complain("%s/%s: %s; install ebbmalloc, or name the library in EBB_LIBRARY", EBB_LIBRARY_DIR,
             LIBRARY_NAME, strerror(errno));
    return false;
}

bool launch_find_recorder(char path[PATH_MAX])
{
    if (file_of_build_tree("../record/.libs/" RECORDER_NAME, path) ||
        realpath(EBB_PRIVATE_DIR "/" RECORDER_NAME, path) != NULL)
        return can_be_preloaded(path);
    complain("%s/%s: %s; install ebbmalloc", EBB_PRIVATE_DIR, RECORDER_NAME, strerror(errno));
    return false;
}

bool launch_find_malloc(const char *name, char path[PATH_MAX])
{
    path[0] = '\0';
    if (strcmp(name, "system") == 0)
        return true;
    if (strcmp(name, "ebbmalloc") == 0)
        return launch_find_library(path);
    if (realpath(name, path) != NULL)
        return can_be_preloaded(path);
    complain("%s: %s; a malloc is a library's path, ebbmalloc or system", name, strerror(errno));
    return false;
}

/* An entry of LD_PRELOAD ends at a colon, a space, or the end of the string. */
static bool begins_with_entry(const char *list, const char *entry)
{
    size_t length = strlen(entry);
    return strncmp(list, entry, length) == 0 && strchr(" :", list[length]) != NULL;
}

/* How much of the list, or 0, is the recorder before anything else. */
static size_t recorder_length(const char *list)
{
    size_t length = strcspn(list, " :"), name = strlen("/" RECORDER_NAME);
    bool is_recorder =
        length >= name && strncmp(list + length - name, "/" RECORDER_NAME, name) == 0;
    return is_recorder ? length : 0;
}

/* The library comes first: of two definitions of malloc the first one counts. But ebb record ebb
 * run … has the recorder before it, which passes on to what comes behind. */
bool launch_set_preload(const char *library)
{
    const char *others = getenv("LD_PRELOAD");
    if (others == NULL || *others == '\0')
        return setenv("LD_PRELOAD", library, 1) == 0;
    int first = recorder_length(library) > 0 ? 0 : (int)recorder_length(others);
    const char *rest = others + first + strspn(others + first, " :");
    if (begins_with_entry(rest, library))
        return true; /* ebb run ebb run … */
    char *all = NULL;
    if (asprintf(&all, "%.*s%s%s%s%s", first, others, first > 0 ? ":" : "", library,
                 *rest != '\0' ? ":" : "", rest) < 0)
        return false;
    bool done = setenv("LD_PRELOAD", all, 1) == 0;
    free(all);
    return done;
}

/* A regular file that may be executed; errno says why not. */
static bool is_executable(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return false;
    if (S_ISDIR(status.st_mode)) {
        errno = EISDIR;
        return false;
    }
    return access(path, X_OK) == 0;
}

/* Looks COMMAND up as execvp does, into path. False with errno: ENOENT where it is nowhere, another
 * where it lies but cannot be executed. */
static bool find_program(const char *name, char path[PATH_MAX])
{
    if (strchr(name, '/') != NULL)
        return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX && is_executable(path);
    const char *search = getenv("PATH");
    if (search == NULL)
        search = "/bin:/usr/bin"; /* as execvp takes it */
    int error = ENOENT;
    for (const char *next = search; next != NULL && *name != '\0';) {
        size_t length = strcspn(next, ":");
        const char *directory = length == 0 ? "." : next;
        int written =
            snprintf(path, PATH_MAX, "%.*s/%s", length == 0 ? 1 : (int)length, directory, name);
        if (written < PATH_MAX && is_executable(path))
            return true;
        if (written < PATH_MAX && errno != ENOENT && errno != ENOTDIR)
            error = errno;
        next = next[length] == ':' ? next + length + 1 : NULL;
    }
    errno = error;
    return false;
}

/* The kernel starts such a program with rights of its own, and the loader then ignores LD_PRELOAD.
 * See AT_SECURE in getauxval(3). */
static bool gains_rights(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return false;
    if ((status.st_mode & S_ISUID) != 0 && status.st_uid != getuid())
        return true;
    if ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 &&
        status.st_gid != getgid())
        return true;
    return getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;
}

/* Says so where the library will not get into the program. That is no reason not to start it: what
 * it starts in its turn may well be what the user is after. */
static void warn_if_out_of_reach(const char *path)
{
    struct elf_file file;
    if (gains_rights(path))
        complain("warning: %s gains rights when it starts (setuid, setgid or capabilities): it "
                 "runs without the library",
                 path);
    else if (!elf_inspect(path, &file) || !file.is_elf)
        return; /* a script, or one that may be executed but not read */
    else if (!file.is_native)
        complain("warning: %s is made for another kind of machine: it runs without the library",
                 path);
    else if (!file.has_interpreter)
        complain("warning: %s is statically linked: it runs without the library", path);
}

static int fail_to_start(const char *name, const char *path, int error)
{
    bool lies_there = path[0] != '\0' && access(path, F_OK) == 0;
    if (error == ENOENT && lies_there)
        complain("%s: the interpreter or loader that it names is not there", name);
    else if (error == ENOENT)
        complain("%s: command not found", name);
    else
        complain("%s: %s", name, strerror(error));
    return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

int launch(const char *preload, char **command)
{
    char path[PATH_MAX] = "";
    if (!find_program(command[0], path))
        return fail_to_start(command[0], "", errno);
    warn_if_out_of_reach(path);
    if (!launch_set_preload(preload)) {
        complain("setting LD_PRELOAD: %s", strerror(errno));
        return EXIT_NOT_STARTED;
    }
    /* execvp and not execv: like a shell, it starts a script without a first line by /bin/sh. */
    execvp(path, command);
    return fail_to_start(command[0], path, errno);
}
