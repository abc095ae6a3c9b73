/* older.h: what C libraries and kernel headers from Debian 11 on do not all declare. What the
 * kernel itself does not know it refuses, and its callers go another way; the numbers of calls are
 * the same on x86-64 and aarch64.
 */
#ifndef EBB_OLDER_H
#define EBB_OLDER_H

#include <malloc.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* madvise(2): Linux 4.14, 5.4, and 6.13. */
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

/* mremap(2): Linux 5.7. */
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* setns(2): Linux 5.6. */
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/* close_range(2): Linux 5.9. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1u << 1)
#endif

/* clone3(2): Linux 5.3. Named by tests alone. */
#ifndef SYS_clone3
#define SYS_clone3 435
#endif

/* process_madvise(2): Linux 5.10. */
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

/* mallinfo(3): glibc 2.33. */
#ifdef __GLIBC__
#if !__GLIBC_PREREQ(2, 33)
struct mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct mallinfo2 mallinfo2(void) __attribute__((weak)); /* a program finds ours, at run time */
#endif
#endif

/* <sys/single_threaded.h>, "there is no other thread": glibc 2.32. Its address may be NULL. */
extern char __libc_single_threaded __attribute__((weak));

#endif
