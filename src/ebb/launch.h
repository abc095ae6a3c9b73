/* launch.h: how a subcommand finds what is to be preloaded, and becomes a command with that. All
 * complain when they fail, and paths are absolute: the command may change its directory. */
#ifndef EBB_LAUNCH_H
#define EBB_LAUNCH_H

#include <limits.h>
#include <stdbool.h>

/* The library that EBB_LIBRARY names, the one of the tree that ebb was built in, or the installed
 * one. */
bool launch_find_library(char path[PATH_MAX]);

/* The recorder, likewise. */
bool launch_find_recorder(char path[PATH_MAX]);

/* A malloc as the user names it: a library's path; "ebbmalloc": as above; "system": the C library's
 * own, with an empty path. */
bool launch_find_malloc(const char *name, char path[PATH_MAX]);

/* Puts libraries (several are separated by a colon) before what is in LD_PRELOAD. False with errno.
 */
bool launch_set_preload(const char *libraries);

/* Becomes the command, with those libraries put before what is preloaded already. Returns only when
 * it fails: an exit status. */
int launch(const char *libraries, char **command);

#endif
