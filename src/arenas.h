/* arenas.h: all the arenas, which thread has which, and what a thread does with its own when the
 * fast path fails.
 *
 * An arena outlives its thread: at exit its cache is flushed and it becomes an orphan, which the
 * next new thread adopts. Arenas are never freed, so the list can be walked without its lock. A
 * thread that runs destructors after its arena is gone, or for which no arena could be made, works
 * on the commons: an arena without a cache, the last in the list.
 */
#ifndef EBB_ARENAS_H
#define EBB_ARENAS_H

#include "arena.h"

/* The calling thread's arena. Before its first call a stand-in whose cache is always closed. */
extern hidden __thread struct arena *arena_self __attribute__((tls_model("initial-exec")));

/* The slow paths. The caller has left the cache that the fast path entered. */

/* A block of the class, or NULL when there is no memory (errno is not set). *zero tells whether it
 * is a large one that reads as zero. */
void *arena_alloc(unsigned class, bool *zero);

/* Keeps a block, or brings older ones back. Aborts when it finds one that was not to be freed. */
void arena_free(unsigned class, void *block);

/* The calling thread's arena, which it is given if it has none; without memory, the commons. */
struct arena *arenas_join(void);

/* Reads the page size and the options, if nobody has yet. For calls that a program may make before
 * its first block. */
void arenas_prepare(void);

/* Arenas made since the start, without the commons. */
size_t arenas_count(void);

/* The list's lock, for fork, and what is done under it: an arena that nobody owns any more. */
void arenas_lock(void);
void arenas_unlock(void);
void arenas_add_orphan(struct arena *arena);

/* In the child of a fork, first of all: the caller's thread has a new id. */
void arenas_enter_child(void);

#endif
