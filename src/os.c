#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

size_t os_page_size = 4096;

#ifdef EBB_PREFIXED
bool (*os_refuse)(enum os_call call);
bool os_skip_barrier;
#define REFUSED(call) (os_refuse != NULL && os_refuse(call) && (errno = ENOMEM))
#else
#define REFUSED(call) false
#define os_skip_barrier false
#endif

static bool has_barrier;
static long home_process;

void os_init(void)
{
    os_move_home();
    os_page_size = getauxval(AT_PAGESZ);
    /* Asked for while the process has one thread, when it costs next to nothing; later the kernel
     * would wait for a grace period. */
    has_barrier = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

static void *map(void *hint, size_t size, int protection)
{
    if (REFUSED(OS_CALL_MAP))
        return NULL;
    void *start = mmap(hint, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start == MAP_FAILED ? NULL : start;
}

/* Maps size bytes at a multiple of alignment: by luck, which is frequent when mappings of one
 * alignment stand in a row, else from a larger mapping whose ends are given back. */
static void *map_aligned(size_t size, size_t alignment, int protection)
{
    size = round_up(size, os_page_size);
    char *start = map(NULL, size, protection);
    if (start == NULL || ((uintptr_t)start & (alignment - 1)) == 0)
        return start;
    os_unmap(start, size);
    if (alignment > PTRDIFF_MAX - size)
        return NULL;
    size_t larger = size + alignment - os_page_size;
    start = map(NULL, larger, protection);
    if (start == NULL)
        return NULL;
    char *aligned = (char *)round_up((uintptr_t)start, alignment);
    size_t before = (size_t)(aligned - start);
    size_t after = larger - before - size;
    /* At vm.max_map_count the kernel may refuse to cut; then the ends stay, unused. */
    if (before != 0)
        os_unmap(start, before);
    if (after != 0)
        os_unmap(aligned + size, after);
    return aligned;
}

void *os_map(size_t size)
{
    return map(NULL, round_up(size, os_page_size), PROT_READ | PROT_WRITE);
}

void *os_map_aligned(size_t size, size_t alignment)
{
    return map_aligned(size, alignment, PROT_READ | PROT_WRITE);
}

void *os_reserve_aligned(size_t size, size_t alignment)
{
    return map_aligned(size, alignment, PROT_NONE);
}

bool os_commit(void *start, size_t size)
{
    return !REFUSED(OS_CALL_COMMIT) && mprotect(start, size, PROT_READ | PROT_WRITE) == 0;
}

bool os_unmap(void *start, size_t size)
{
    return !REFUSED(OS_CALL_UNMAP) && munmap(start, round_up(size, os_page_size)) == 0;
}

bool os_resize(void *start, size_t old_size, size_t new_size)
{
    return !REFUSED(OS_CALL_REMAP) && mremap(start, old_size, new_size, 0) != MAP_FAILED;
}

bool os_move(void *start, size_t size, void *target, size_t target_size)
{
    return !REFUSED(OS_CALL_REMAP) &&
           mremap(start, size, target_size, MREMAP_MAYMOVE | MREMAP_FIXED, target) != MAP_FAILED;
}

bool os_purge(void *start, size_t size)
{
    return !REFUSED(OS_CALL_PURGE) && madvise(start, size, MADV_DONTNEED) == 0;
}

bool os_purge_lazily(void *start, size_t size)
{
    return !REFUSED(OS_CALL_PURGE) && madvise(start, size, MADV_FREE) == 0;
}

bool os_has_barrier(void)
{
    return has_barrier;
}

bool os_barrier_all(void)
{
    if (REFUSED(OS_CALL_BARRIER))
        return false;
    if (os_skip_barrier)
        return true;
    return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

uint64_t os_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void os_yield(void)
{
    sched_yield();
}

/* Raw system calls where libc's wrapper would be a cancellation point: no thread may be cancelled
 * inside the allocator. */
void os_sleep_us(unsigned microseconds)
{
    struct timespec time = {.tv_sec = microseconds / 1000000,
                            .tv_nsec = (long)(microseconds % 1000000) * 1000};
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &time, NULL);
}

int os_thread_id(void)
{
    return (int)syscall(SYS_gettid);
}

void os_futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
    errno = saved;
}

void os_futex_wake(_Atomic uint32_t *word)
{
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved;
}

void os_futex_wait_ms(_Atomic uint32_t *word, uint32_t value, uint64_t milliseconds)
{
    struct timespec time = {.tv_sec = (time_t)(milliseconds / 1000),
                            .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &time, NULL, 0);
}

/* ---- A thread without libc ------------------------------------------------------------------- */

/* The area of a thread, from low to high: guard, stack, what lies below and above the thread
 * pointer. libc's thread-local variables, errno among them, are at small distances from it on
 * either side, depending on the machine, and read as zero. */
#define THREAD_GUARD (64 * KiB)
#define THREAD_STACK (64 * KiB)
#define THREAD_LOCAL (64 * KiB)
#define THREAD_AREA (THREAD_GUARD + THREAD_STACK + 2 * THREAD_LOCAL)

#define THREAD_LOOKS 1000

/* ThreadSanitizer keeps account of every thread. */
#ifdef EBB_THREAD_SANITIZER
#define UNKNOWN_THREADS_BREAK true
#else
#define UNKNOWN_THREADS_BREAK false
#endif

static void *thread_area(void)
{
    char *area = map(NULL, THREAD_AREA, PROT_NONE);
    if (area == NULL)
        return NULL;
    if (!os_commit(area + THREAD_GUARD, THREAD_AREA - THREAD_GUARD)) {
        os_unmap(area, THREAD_AREA);
        return NULL;
    }
    /* On x86-64 the thread pointer points at itself, twice. */
    void **pointer = (void **)(area + THREAD_GUARD + THREAD_STACK + THREAD_LOCAL);
    pointer[0] = pointer[2] = pointer;
    return area;
}

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    syscall(SYS_capset, &header, none);
}

/* The thread's own table of descriptors, with one in it: so neither keeps the other's open, and the
 * file stays at hand when the program closes everything or changes its root. */
static int status_descriptor = -1;

static void open_status(void)
{
    status_descriptor = -1;
    if (syscall(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE) == 0)
        status_descriptor =
            (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC);
}

struct start {
    int (*run)(void *);
    const char *name;
};

static int thread_main(void *argument)
{
    struct start *start = argument;
    prctl(PR_SET_NAME, start->name);
    open_status();
    drop_capabilities();
    return start->run(NULL);
}

bool os_thread_start(struct os_thread *thread, int (*run)(void *), const char *name)
{
    static struct start start; /* one at a time */
    if (UNKNOWN_THREADS_BREAK || REFUSED(OS_CALL_THREAD))
        return false;
    /* The last one is in its last few instructions. */
    for (int look = 0; atomic_load(&thread->running) != 0; look++) {
        if (look == THREAD_LOOKS)
            return false;
        os_yield();
    }
    if (thread->area == NULL && (thread->area = thread_area()) == NULL)
        return false;
    start = (struct start){run, name};
    char *stack = (char *)thread->area + THREAD_GUARD + THREAD_STACK;
    /* The kernel's own set: libc's calls would leave out the signals that libc uses itself. */
    uint64_t all = ~(uint64_t)0, before;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
    atomic_store(&thread->running, 1);
    int id = clone(thread_main, stack,
                   CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                       CLONE_SYSVSEM | CLONE_SETTLS | CLONE_CHILD_CLEARTID,
                   &start, NULL, stack + THREAD_LOCAL, &thread->running);
    if (id < 0)
        atomic_store(&thread->running, 0);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    return id > 0;
}

bool os_is_home(void)
{
    return syscall(SYS_getpid) == home_process;
}

void os_move_home(void)
{
    home_process = syscall(SYS_getpid);
}

bool os_thread_exists(int id)
{
    int saved = errno;
    bool exists = syscall(SYS_tgkill, home_process, id, 0) == 0 || errno != ESRCH;
    errno = saved;
    return exists;
}

/* Reads a small file of /proc; returns its length, 0 when it cannot be read. */
static size_t read_file(const char *path, char *text, size_t capacity)
{
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return 0;
    long length = syscall(SYS_read, descriptor, text, capacity - 1);
    syscall(SYS_close, descriptor);
    text[length > 0 ? length : 0] = '\0';
    return length > 0 ? (size_t)length : 0;
}

/* Finds "Uid:\t1\t2…" in /proc/PID/status: real, effective, saved, file system. */
static bool same_ids(const char *status, const char *field, const uint32_t *ids)
{
    const char *at = strstr(status, field);
    if (at == NULL)
        return true;
    at += strlen(field);
    for (int i = 0; i < 3; i++) {
        uint32_t id = 0;
        while (*at == '\t')
            at++;
        for (; *at >= '0' && *at <= '9'; at++)
            id = id * 10 + (uint32_t)(*at - '0');
        if (id != ids[i])
            return false;
    }
    return true;
}

bool os_ids_changed(void)
{
    uint32_t users[3], groups[3];
    char status[2048];
    syscall(SYS_getresuid, &users[0], &users[1], &users[2]);
    if (users[0] != 0 && users[1] != 0 && users[2] != 0)
        return false; /* nothing to drop */
    syscall(SYS_getresgid, &groups[0], &groups[1], &groups[2]);
    long length = syscall(SYS_pread64, status_descriptor, status, sizeof status - 1, 0L);
    if (length > 0)
        status[length] = '\0';
    else if (read_file("/proc/self/status", status, sizeof status) == 0)
        return false; /* a root without /proc: not to be known */
    return !same_ids(status, "\nUid:", users) || !same_ids(status, "\nGid:", groups);
}

void os_write(int descriptor, const char *text, size_t length)
{
    while (length != 0) {
        long written = syscall(SYS_write, descriptor, text, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        text += written;
        length -= (size_t)written;
    }
}

size_t os_resident_bytes(void)
{
    char text[128];
    size_t length = read_file("/proc/self/statm", text, sizeof text), pages = 0, i = 0;
    /* The second number, in OS pages. */
    while (i < length && text[i] != ' ')
        i++;
    for (i++; i < length && text[i] >= '0' && text[i] <= '9'; i++)
        pages = pages * 10 + (size_t)(text[i] - '0');
    return pages * os_page_size;
}
