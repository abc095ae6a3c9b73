/* support.h: what the tests of the purger share: the kernel's view of this process and its tasks,
 * loads that rise and fall, and parts that run as processes of their own. The rest is in
 * ../stress/support.h.
 *
 * Nothing here allocates but the loads: a measurement must not wake what it measures.
 */
#ifndef EBB_TESTS_PURGER_SUPPORT_H
#define EBB_TESTS_PURGER_SUPPORT_H

#include "../stress/support.h"

#define PURGER_NAME "ebb-purger"

/* Within this time after the fall resident memory is down, with default settings, in seconds … */
#define FALL_SECONDS 1.0

/* … to this share of the peak, both over the start. */
#define MAY_STAY(peak) ((peak) / 100 * 4)

/* ---- tasks of this process ------------------------------------------------------------------- */

#define TASKS_MOST 4096

/* Fills ids with the kernel's ids of all tasks of a process; returns how many there are. */
unsigned list_tasks(int process, int *ids);

/* The text behind a key like "SigBlk:" in /proc/PROCESS/task/TASK/status, up to the end of the
 * line; false when the task is gone. */
bool task_field(int process, int task, const char *key, char *value, size_t capacity);

/* The id of the purger of a process, or 0. */
int find_purger(int process);

/* Gives the purger something to do until it is there; returns its id. Fails after some seconds. */
int wake_purger(void);

/* True when the purger has gone within so many seconds, nobody having done anything. */
bool purger_ends(double seconds);

/* ---- loads ----------------------------------------------------------------------------------- */

struct load {
    size_t bytes;       /* in all */
    size_t least, most; /* of a block, in bytes */
    char **blocks;      /* a table outside the heap, resident from the start */
    size_t count;
};

/* Makes the table, for blocks of least bytes all. */
void load_prepare(struct load *load);
void load_rise(struct load *load, uint64_t stream); /* writes every byte */
void load_fall(struct load *load);
void load_fall_but(struct load *load, size_t one_in); /* one block in so many stays; 0: none */

/* Allocates, writes and frees so much, up to RISE_MOST, in blocks of 64 KiB. */
#define RISE_MOST (64 * MiB)
void rise_and_fall(size_t bytes);

/* Fails unless resident memory is down FALL_SECONDS from now, during which nothing is called, but
 * for what is still in use. All in bytes. */
void require_fall(const char *what, size_t start, size_t peak);
void require_fall_but(const char *what, size_t start, size_t peak, size_t in_use);

/* Makes a stack of so many bytes resident, as deep as the library's calls may get. */
void touch_stack(void);

/* ---- books: the library's and the kernel's
 * -----------------------------------------------------------------------
 */

/* What the kernel says of this process: "Anonymous", "LazyFree" … of /proc/self/smaps_rollup. */
size_t rollup_bytes(const char *key);

/* A number of malloc_info, of an attribute in an element: books_number("purged", "sweeps"). */
uint64_t books_number(const char *element, const char *attribute);

/* ---- figures ----------------------------------------------------------------------------------
 */

/* Sorts them. */
double median(double *figures, size_t count);

/* ---- parts ----------------------------------------------------------------------------------- */

/* Starts this program anew with the name of a part as its only argument, and with one more variable
 * (NAME=VALUE, or NULL). Returns the wait status. */
int run_part(const char *part, char *variable, double seconds);

/* A part that measures: it runs beside this process and gives a result of fixed size. */
struct measuring {
    const char *part;
    pid_t process;
    int descriptor; /* where the result comes from */
};

/* Starts a part with more variables (NAME=VALUE, ended by NULL). */
struct measuring start_measuring(const char *part, char *const *variables);

/* Waits so long at most; fails unless it succeeds and gives so many bytes. */
void finish_measuring(const struct measuring *measuring, double seconds, void *result, size_t size);

/* In the part. */
void give_result(const void *result, size_t size);

/* From now on each clone of this process, and of what it starts, ends as action says (SECCOMP_RET_
 * …). All threads. False where the kernel has no seccomp filters. */
bool filter_clone(unsigned action);

/* From now on each clone of this thread alone waits for refuse_clone, of another one. Returns a
 * descriptor for that, or -1 where the kernel has no such filters. */
int watch_clone(void);

/* Waits for such a clone, and refuses it when held has returned. */
bool refuse_clone(int watcher, void (*held)(void));

#endif
