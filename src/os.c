#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

size_t os_page_size = 4096;

#ifdef EBB_PREFIXED
bool (*os_refuse)(enum os_call call);
#define REFUSED(call) (os_refuse != NULL && os_refuse(call) && (errno = ENOMEM))
#else
#define REFUSED(call) false
#endif

static bool has_barrier;

void os_init(void)
{
    os_page_size = getauxval(AT_PAGESZ);
    /* Asked for while the process has one thread, when it costs next to nothing; later the kernel
     * would wait for a grace period. */
    has_barrier =
        syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

static void *map(void *hint, size_t size, int protection)
{
    if (REFUSED(OS_CALL_MAP))
        return NULL;
    void *start =
        mmap(hint, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
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
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

void os_futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
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
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return 0;
    long length = syscall(SYS_read, descriptor, text, sizeof text - 1);
    syscall(SYS_close, descriptor);
    /* The second number, in OS pages. */
    size_t pages = 0;
    long i = 0;
    while (i < length && text[i] != ' ')
        i++;
    for (i++; i < length && text[i] >= '0' && text[i] <= '9'; i++)
        pages = pages * 10 + (size_t)(text[i] - '0');
    return pages * os_page_size;
}
