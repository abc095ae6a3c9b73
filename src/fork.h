/* fork.h: a child gets a heap at rest. Before fork every arena is taken over and every lock taken,
 * in the order of lock.h; after it, parent and child let go, and the child makes orphans of the
 * arenas of the threads that it does not have.
 */
#ifndef EBB_FORK_H
#define EBB_FORK_H

/* Registers that with libc, once. Called from the first allocation of the process, when its thread
 * has its arena, so that ours come last before a fork and first after it: other libraries' fork
 * handlers may allocate. */
void fork_watch(void);

#endif
