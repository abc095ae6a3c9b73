/* target.h: a process that is looked at from outside, without a debugger and without its help: its
 * memory is read by process_vm_readv(2), which the kernel allows to those who may trace it. Nothing
 * that is read is trusted.
 */
#ifndef EBB_TARGET_H
#define EBB_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ebb.h"
#include "root.h"

struct target {
    pid_t pid;
    char name[32]; /* as the kernel has it, with nothing in it that a terminal might obey */
    uintptr_t root_at;
    struct root root;
    char version[16]; /* the library's, tame */
    bool silent;      /* nothing is said of what cannot be read */
};

/* The process id that text is, or 0 after a complaint in the name of a subcommand. */
pid_t target_parse(const char *subcommand, const char *text);

/* Finds the process and the library in it. EXIT_DONE, or what ebb should end with, after one line
 * that says why if it is not to be silent. */
enum exit_status target_open(struct target *target, pid_t pid, bool silent);

/* All processes that there are, into an array for free(3); returns how many. */
size_t target_list(pid_t **pids);

/* Before and after much is read, and little done between: the process's threads wait less for who
 * is quick (target.c). */
void target_hurry(bool hurry);

/* Reads so many bytes; false when not all of them are there. */
bool target_read(const struct target *target, uintptr_t at, void *to, size_t size);

/* Which OS pages, from one on, are in memory, as the kernel says in /proc/PID/pagemap, which
 * `books` is open on: it is asked of up to RESIDENT_MOST at a time. False when it does not say it
 * of all. */
#define RESIDENT_MOST 8192
bool target_read_resident(int books, size_t page, bool *resident, size_t count);

/* Writes so many bytes likewise. */
bool target_write(const struct target *target, uintptr_t at, const void *from, size_t size);

/* Reads a small file below /proc/PID; returns its length, 0 when it cannot be read. A zero follows.
 */
size_t target_read_file(const struct target *target, const char *name, char *text, size_t capacity);

/* A number out of /proc/PID/status, 0 when it is not there. */
uint64_t target_status(const struct target *target, const char *field, int base);

/* A number of KiB out of /proc/PID/status, in bytes; 0 when it is not there. */
size_t target_status_bytes(const struct target *target, const char *field);

/* The name of one of its threads, tame; empty when there is none of that id. The id is the one that
 * the thread has for itself: in a container it may be another one than here. */
void target_thread_name(const struct target *target, int id, char *name, size_t capacity);

#endif
