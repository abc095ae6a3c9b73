/* namespaces.c: the front door: two calls of libc that have nothing to do with memory. The kernel
 * refuses a process of several threads another user namespace, or to be parted from its own memory
 * and handlers (unshare(2), setns(2): EINVAL), and it counts the purger. So that ends
 * first, and comes back when there is something to do.
 */
#ifndef EBB_PREFIXED

#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api.h"
#include "older.h"
#include "purger.h"

static void end_purger(void)
{
    int saved = errno;
    purger_stop();
    errno = saved;
}

/* What was left undone. */
static int go_on(int result)
{
    int saved = errno;
    purger_tick();
    errno = saved;
    return result;
}

EXPORT int unshare(int flags)
{
    if (flags & (CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM))
        end_purger();
    return go_on((int)syscall(SYS_unshare, flags));
}

EXPORT int setns(int descriptor, int kind)
{
    if (kind == 0 || (kind & (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME)))
        end_purger();
    return go_on((int)syscall(SYS_setns, descriptor, kind));
}

#endif
