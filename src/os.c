#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "older.h"

size_t os_page_size = 4096;

#ifdef EBB_PREFIXED
bool (*os_refuse)(enum os_call call);
bool os_skip_barrier;
#else
#define os_skip_barrier false
#endif
#define REFUSED OS_REFUSED

static bool has_barrier;
static long home_process;
static struct os_processors processors; /* where the process may run, as it was started */

void os_init(void)
{
    os_move_home();
    os_page_size = getauxval(AT_PAGESZ);
    os_get_processors(&processors);
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

/* Maps size bytes at the hint, or wherever the kernel likes, if that is at a multiple of alignment.
 * *found is where that was. */
static char *map_if_aligned(void *hint, size_t size, size_t alignment, int protection,
                            uintptr_t *found)
{
    char *start = map(hint, size, protection);
    *found = (uintptr_t)start;
    if (start == NULL || (*found & (alignment - 1)) == 0)
        return start;
    os_unmap(start, size);
    return NULL;
}

/* Maps size bytes at a multiple of alignment: by luck, which is frequent when mappings of one
 * alignment stand in a row; or just below the place found, where there is room as a rule, since the
 * kernel goes downwards; else from a larger mapping whose ends are given back, for which there may
 * be no room under a limit. */
static void *map_aligned(size_t size, size_t alignment, int protection)
{
    size = round_up(size, os_page_size);
    uintptr_t found;
    char *start = map_if_aligned(NULL, size, alignment, protection, &found);
    if (start == NULL && found != 0)
        start =
            map_if_aligned((void *)(found & ~(alignment - 1)), size, alignment, protection, &found);
    if (start != NULL || found == 0)
        return start;
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

/* 16 TiB between those where programs, their heaps and their mappings lie, the latter from above or
 * (the legacy layout) from below. It is a hint: where the kernel cannot follow it, it chooses. */
#ifdef __x86_64__
#define APART_LOWEST ((uint64_t)1 << 46)
#else
#define APART_LOWEST ((uint64_t)1 << 45)
#endif
#define APART_SIZE ((uint64_t)1 << 44)
#define APART_STEP ((uint64_t)1 << 16) /* the largest OS page */

/* Clear in the first place: the first 2 GiB have no multiple of 4 GiB among them, which an arena
 * must not straddle (arenas.c). */
#define APART_UPPER_HALF ((uint64_t)1 << 31)

static uint64_t random_place(void)
{
    uint64_t random[2] = {0, 0};
    os_get_random(random);
    return random[0] % APART_SIZE & ~(APART_STEP - 1) & ~APART_UPPER_HALF;
}

/* Side by side, from a random place on. */
static void *map_apart(size_t size, int protection)
{
    static _Atomic uint64_t next; /* a multiple of the step, and one; 0: not chosen yet */
    uint64_t none = 0;
    if (atomic_load_explicit(&next, memory_order_relaxed) == 0)
        atomic_compare_exchange_strong(&next, &none, random_place() + 1);
    size = round_up(size, os_page_size);
    uint64_t place = (atomic_fetch_add(&next, round_up(size, APART_STEP)) - 1) % APART_SIZE;
    return map((void *)(APART_LOWEST + place), size, protection);
}

void *os_map_apart(size_t size)
{
    return map_apart(size, PROT_READ | PROT_WRITE);
}

void *os_reserve_apart(size_t size)
{
    return map_apart(size, PROT_NONE);
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

/* madvise(2), since Linux 6.13: pages are marked, and no mapping is cut. */
static _Atomic bool has_marked, has_protected; /* what was forbidden that way, once */

bool os_forbids_lightly(void)
{
    return !atomic_load_explicit(&has_protected, memory_order_relaxed);
}

/* Who stands in for the kernel may take any advice for done: qemu does. */
static bool is_out_of_reach(void *start)
{
    return syscall(SYS_clock_gettime, CLOCK_MONOTONIC, start) != 0;
}

static bool mark(void *start, size_t size)
{
    bool known = atomic_load_explicit(&has_marked, memory_order_relaxed);
    if ((!known && !os_forbids_lightly()) || madvise(start, size, MADV_GUARD_INSTALL) != 0)
        return false;
    if (!known && !is_out_of_reach(start))
        return false;
    atomic_store_explicit(&has_marked, true, memory_order_relaxed);
    return true;
}

bool os_forbid_mapping(void *start, size_t size)
{
    return !REFUSED(OS_CALL_COMMIT) && os_purge(start, size) &&
           mprotect(start, size, PROT_NONE) == 0;
}

bool os_forbid(void *start, size_t size)
{
    if (!REFUSED(OS_CALL_COMMIT) && mark(start, size))
        return true;
    atomic_store_explicit(&has_protected, true, memory_order_relaxed);
    return os_forbid_mapping(start, size);
}

bool os_allow(void *start, size_t size)
{
    if (REFUSED(OS_CALL_COMMIT))
        return false;
    if (atomic_load_explicit(&has_protected, memory_order_relaxed) &&
        mprotect(start, size, PROT_READ | PROT_WRITE) != 0)
        return false;
    return !atomic_load_explicit(&has_marked, memory_order_relaxed) ||
           madvise(start, size, MADV_GUARD_REMOVE) == 0;
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

void *os_move_out(void *start, size_t size)
{
    /* Of a mapping that is locked the kernel would unlock all, not only what is moved; and for such
     * a one it refuses this advice, which says nothing about an OS page that is moved. */
    if (REFUSED(OS_CALL_REMAP) || madvise(start, os_page_size, MADV_COLD) != 0)
        return NULL;
    /* Without a hint as to where to it would take one from what is not there. */
    void *moved = mremap(start, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    if (moved == MAP_FAILED)
        return NULL;
    /* Who stands in for the kernel may take the addresses for gone: qemu does, and then refuses
     * system calls that write there. They are accessible, and this changes nothing. */
    mprotect(start, size, PROT_READ | PROT_WRITE);
    return moved;
}

bool os_purge(void *start, size_t size)
{
    return !REFUSED(OS_CALL_PURGE) && madvise(start, size, MADV_DONTNEED) == 0;
}

bool os_purge_lazily(void *start, size_t size)
{
    return !REFUSED(OS_CALL_PURGE) && madvise(start, size, MADV_FREE) == 0;
}

/* process_madvise(2) on the caller's own process: since Linux 6.13. */
#define PIDFD_SELF (-10000)
static _Atomic int vectors_thread; /* who may use it; 0 for nobody */
static _Atomic bool has_vectors = true;

void os_allow_vectors(bool allow)
{
    atomic_store_explicit(&vectors_thread, allow ? os_thread_id() : 0, memory_order_relaxed);
}

static bool may_use_vectors(void)
{
    int thread = atomic_load_explicit(&vectors_thread, memory_order_relaxed);
    return thread != 0 && thread == os_thread_id() &&
           atomic_load_explicit(&has_vectors, memory_order_relaxed);
}

_Static_assert(sizeof(struct os_range) == sizeof(struct iovec) &&
                   offsetof(struct os_range, size) == offsetof(struct iovec, iov_len),
               "given to the kernel as they are");

/* How many of the ranges make so many bytes; a part of one counts as none of it. */
static size_t whole_ranges(const struct os_range *ranges, size_t count, size_t bytes)
{
    size_t whole = 0;
    while (whole < count && bytes >= ranges[whole].size)
        bytes -= ranges[whole++].size;
    return whole;
}

size_t os_purge_ranges(const struct os_range *ranges, size_t count, bool lazily)
{
    size_t done = 0;
    int advice = lazily ? MADV_FREE : MADV_DONTNEED;
    if (count > 1 && may_use_vectors() && !REFUSED(OS_CALL_PURGE)) {
        long bytes = syscall(SYS_process_madvise, PIDFD_SELF, ranges, count, advice, 0);
        if (bytes < 0)
            atomic_store_explicit(&has_vectors, false, memory_order_relaxed);
        else
            done = whole_ranges(ranges, count, (size_t)bytes);
    }
    while (done < count && (lazily ? os_purge_lazily(ranges[done].start, ranges[done].size)
                                   : os_purge(ranges[done].start, ranges[done].size)))
        done++;
    return done;
}

void os_use_huge_pages(void *start, size_t size, bool use)
{
    madvise(start, round_up(size, os_page_size), use ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/* From /proc/self/pagemap, 8 bytes an OS page, bit 63: present. (mincore(2) says the same, but is a
 * call that filters of system calls seldom know.) */
size_t os_resident_in(void *start, size_t size)
{
    uint64_t entries[512];
    size_t pages = size / os_page_size, first = (uintptr_t)start / os_page_size, count = 0;
    int descriptor = os_open(OS_NO_DIRECTORY, "/proc/self/pagemap", false);
    for (size_t page = 0, more; descriptor >= 0 && page < pages; page += more) {
        more = min_size(pages - page, sizeof entries / sizeof *entries);
        size_t length = os_read_at(descriptor, (first + page) * sizeof *entries, (char *)entries,
                                   more * sizeof *entries);
        if (length != more * sizeof *entries) {
            count = pages;
            break;
        }
        for (size_t i = 0; i < more; i++)
            count += entries[i] >> 63;
    }
    if (descriptor >= 0)
        os_close(descriptor);
    return descriptor >= 0 ? count * os_page_size : size;
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

void os_get_random(uint64_t random[2])
{
    const void *given = (const void *)getauxval(AT_RANDOM);
    if (getrandom(random, 16, GRND_NONBLOCK) != 16 && given != NULL)
        memcpy(random, given, 16);
}

uint64_t os_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t os_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
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

bool os_futex_wait_ms(_Atomic uint32_t *word, uint32_t value, uint64_t milliseconds)
{
    int saved = errno;
    struct timespec time = {.tv_sec = (time_t)(milliseconds / 1000),
                            .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    bool in_time = syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &time, NULL, 0) == 0 ||
                   errno != ETIMEDOUT;
    errno = saved;
    return in_time;
}

/* ---- Files that the kernel makes --------------------------------------------------------------
 */

/* Never waits, whatever a strange root has under that name. */
int os_open(int directory, const char *path, bool is_directory)
{
    int saved = errno;
    int flags = is_directory ? O_PATH | O_DIRECTORY : O_RDONLY | O_NONBLOCK | O_NOCTTY;
    int descriptor = (int)syscall(SYS_openat, directory, path, flags | O_CLOEXEC);
    errno = saved;
    return descriptor;
}

size_t os_read_at(int descriptor, uint64_t offset, char *text, size_t capacity)
{
    int saved = errno;
    long length = syscall(SYS_pread64, descriptor, text, capacity, (long)offset);
    errno = saved;
    return length > 0 ? (size_t)length : 0;
}

void os_close(int descriptor)
{
    int saved = errno;
    syscall(SYS_close, descriptor);
    errno = saved;
}

size_t os_read_file(const char *path, char *text, size_t capacity)
{
    int descriptor = os_open(OS_NO_DIRECTORY, path, false);
    if (descriptor < 0)
        return 0;
    size_t length = os_read_at(descriptor, 0, text, capacity - 1);
    os_close(descriptor);
    text[length] = '\0';
    return length;
}

/* The kernel's own set: libc's calls would leave out the signals that libc uses itself. */
void os_block_signals(uint64_t *before)
{
    uint64_t all = ~(uint64_t)0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, before, sizeof all);
}

void os_restore_signals(uint64_t before)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
}

void os_get_processors(struct os_processors *set)
{
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof set->bits, set->bits);
    set->bytes = bytes > 0 ? (size_t)bytes : 0;
}

const struct os_processors *os_first_processors(void)
{
    return &processors;
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
    size_t length = os_read_file("/proc/self/statm", text, sizeof text), pages = 0, i = 0;
    /* The second number, in OS pages. */
    while (i < length && text[i] != ' ')
        i++;
    for (i++; i < length && text[i] >= '0' && text[i] <= '9'; i++)
        pages = pages * 10 + (size_t)(text[i] - '0');
    return pages * os_page_size;
}

bool os_identify(int descriptor, struct os_identity *identity)
{
    int saved = errno;
    struct stat status;
    bool known = fstat(descriptor, &status) == 0;
    if (known)
        *identity = (struct os_identity){status.st_dev, status.st_ino};
    errno = saved;
    return known;
}

static const uint64_t write_signals = (uint64_t)1 << (SIGPIPE - 1) | (uint64_t)1 << (SIGXFSZ - 1);

void os_hold_write_signals(struct os_held_signals *held)
{
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &write_signals, &held->mask, sizeof held->mask);
    held->pending = 0;
    syscall(SYS_rt_sigpending, &held->pending, sizeof held->pending);
}

/* One that was pending before is the program's. */
void os_drop_write_signals(const struct os_held_signals *held)
{
    uint64_t ours = write_signals & ~held->pending;
    struct timespec none = {0, 0};
    while (syscall(SYS_rt_sigtimedwait, &ours, NULL, &none, sizeof ours) > 0)
        continue;
    os_restore_signals(held->mask);
}

static size_t kib_behind(const char *at)
{
    size_t kib = 0;
    while (*at == ' ' || *at == '\t')
        at++;
    for (; *at >= '0' && *at <= '9'; at++)
        kib = kib * 10 + (size_t)(*at - '0');
    return kib;
}

/* In pieces, each of which begins with the last bytes of the one before: the list of the user's
 * groups, which comes first, may be of any length. */
size_t os_peak_resident_bytes(void)
{
    enum { OVERLAP = 64 }; /* more than the line that is looked for */
    char text[2048];
    static const char name[] = "\nVmHWM:";
    size_t kib = 0, length;
    int descriptor = os_open(OS_NO_DIRECTORY, "/proc/self/status", false);
    for (uint64_t place = 0; descriptor >= 0; place += length - OVERLAP) {
        length = os_read_at(descriptor, place, text, sizeof text - 1);
        text[length] = '\0';
        const char *at = strstr(text, name);
        if (at != NULL && strchr(at + 1, '\n') != NULL) {
            kib = kib_behind(at + sizeof name - 1);
            break;
        }
        if (length <= OVERLAP)
            break;
    }
    if (descriptor >= 0)
        os_close(descriptor);
    return kib * KiB;
}

int os_open_to_append(const char *path)
{
    int saved = errno;
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC;
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
    errno = saved;
    return descriptor;
}

bool os_is_secure(void)
{
    return getauxval(AT_SECURE) != 0;
}

int os_process_id(void)
{
    return (int)syscall(SYS_getpid);
}

void os_handle_signal(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK};
    sigaction(number, &action, NULL);
}
