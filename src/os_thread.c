#include "os_thread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "older.h"
#include "os.h"

/* The area of a thread, from low to high: guard, stack, what lies below and above the thread
 * pointer: thread-local variables, on the one side or the other, depending on the machine. Those of
 * libc (errno) and of this library are needed, and read as zero at first; in between may lie those
 * of the program. */
#define THREAD_GUARD (64 * KiB)
#define THREAD_STACK (64 * KiB)
#define THREAD_LOCAL (64 * KiB)

#define THREAD_LOOKS 1000

/* ThreadSanitizer keeps account of every thread, so for it the thread is libc's. Only where that
 * does not allocate by way of us. */
#if defined(EBB_THREAD_SANITIZER) && defined(EBB_PREFIXED)
#define LIBC_THREAD true
#else
#define LIBC_THREAD false
#endif

static size_t distance(const void *variable, const void *pointer)
{
    return variable < pointer ? (size_t)((const char *)pointer - (const char *)variable)
                              : (size_t)((const char *)variable - (const char *)pointer);
}

/* gcc before 11 has the builtin, but not for x86-64, where the pointer points at itself. */
static const void *thread_pointer(void)
{
#ifdef __x86_64__
    const void *pointer;
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
    return pointer;
#else
    return __builtin_thread_pointer();
#endif
}

/* How far from the thread pointer they are at most, and what follows the farthest. */
static size_t local_size(const void *variable)
{
    const void *pointer = thread_pointer();
    size_t farthest = max_size(distance(&errno, pointer), distance(variable, pointer));
    return round_up(farthest + THREAD_LOCAL, THREAD_LOCAL);
}

static bool make_area(struct os_thread *thread, const void *variable)
{
    thread->local = local_size(variable);
    size_t size = THREAD_GUARD + THREAD_STACK + 2 * thread->local;
    char *area = os_reserve_apart(size);
    if (area == NULL)
        return false;
    if (!os_commit(area + THREAD_GUARD, size - THREAD_GUARD)) {
        os_unmap(area, size);
        return false;
    }
    /* On x86-64 the thread pointer points at itself, twice. */
    void **pointer = (void **)(area + THREAD_GUARD + THREAD_STACK + thread->local);
    pointer[0] = pointer[2] = pointer;
    thread->area = area;
    return true;
}

/* ---- What the kernel says of the first thread -------------------------------------------------
 */

/* /proc/self/status. It stays at hand when the program closes everything or changes its root. */
static int status_descriptor = -1;
static bool has_own_descriptors;

#define STATUS_MOST 4096

/* A table of its own for the thread, so that neither keeps the other's files open. */
static void open_status(void)
{
    status_descriptor = -1;
    has_own_descriptors = syscall(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE) == 0;
    if (has_own_descriptors)
        status_descriptor = os_open(OS_NO_DIRECTORY, "/proc/self/status", false);
}

bool os_thread_has_own_descriptors(void)
{
    return has_own_descriptors;
}

/* False when it is not to be had. (On kernels that cannot part the tables, before 5.9, nothing is
 * opened: the program may be about to open a file under just that number.) */
static bool read_status(char *status)
{
    size_t length = os_read_at(status_descriptor, 0, status, STATUS_MOST - 1);
    status[length] = '\0';
    return length != 0;
}

/* Behind "\nName:" and the tabs that follow, or NULL. */
static const char *field(const char *status, const char *name)
{
    const char *at = strstr(status, name);
    if (at == NULL)
        return NULL;
    at += strlen(name);
    while (*at == '\t')
        at++;
    return at;
}

/* "Uid:\t1\t2…": real, effective, saved, file system. */
static bool same_ids(const char *status, const char *name, const uint32_t *ids)
{
    const char *at = field(status, name);
    for (int i = 0; at != NULL && i < 3; i++) {
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

/* True when no filter of system calls is in force. */
static bool is_free(const char *status)
{
    const char *mode = field(status, "\nSeccomp:");
    return mode != NULL && *mode == '0';
}

bool os_thread_watch_ids(void)
{
    uint32_t users[3], groups[3];
    char status[STATUS_MOST];
    bool known = read_status(status);
    os_allow_vectors(known && is_free(status));
    syscall(SYS_getresuid, &users[0], &users[1], &users[2]);
    if (!known || (users[0] != 0 && users[1] != 0 && users[2] != 0))
        return false; /* not to be known, or nothing to drop */
    syscall(SYS_getresgid, &groups[0], &groups[1], &groups[2]);
    return !same_ids(status, "\nUid:", users) || !same_ids(status, "\nGid:", groups);
}

/* ---- What the thread makes of itself ----------------------------------------------------------
 */

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}}, held[2] = {{0}};
    bool known = syscall(SYS_capget, &header, held) == 0;
    if (!known || memcmp(held, none, sizeof none) != 0)
        syscall(SYS_capset, &header, none);
}

/* Whoever started it may run in real time, or be confined to one processor. */
static void run_as_an_ordinary_thread(void)
{
    struct os_processors here;
    const struct os_processors *first = os_first_processors();
    long policy = syscall(SYS_sched_getscheduler, 0);
    if (policy > 0 && policy != SCHED_BATCH && policy != SCHED_IDLE) {
        struct sched_param none = {0};
        syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &none);
    }
    os_get_processors(&here);
    if (here.bytes == first->bytes && memcmp(here.bits, first->bits, here.bytes) != 0)
        syscall(SYS_sched_setaffinity, 0, first->bytes, first->bits);
}

static void settle(void)
{
    char status[STATUS_MOST];
    open_status();
    drop_capabilities();
    if (read_status(status) && is_free(status))
        run_as_an_ordinary_thread();
}

/* ---- Its start --------------------------------------------------------------------------------
 */

static int thread_main(void *argument)
{
    struct os_thread *thread = argument;
    prctl(PR_SET_NAME, thread->name);
    if (!thread->plain)
        settle();
    return thread->run(NULL);
}

static void *libc_thread_main(void *argument)
{
    struct os_thread *thread = argument;
    thread->run(NULL);
    atomic_store(&thread->running, 0);
    os_futex_wake(&thread->running);
    return NULL;
}

static bool start_libc_thread(struct os_thread *thread)
{
    pthread_t id;
    return pthread_create(&id, NULL, libc_thread_main, thread) == 0 && pthread_detach(id) == 0;
}

/* clone(2), for a thread: libc's refuses to make one (musl's since 1.2.5). It begins by calling
 * stack[0] with stack[1], and ends when that returns. The new thread's id for the one who calls, or
 * an error below 0. */
long os_thread_clone(unsigned long flags, void **stack, _Atomic int *id, _Atomic uint32_t *running,
                     void *local) __attribute__((visibility("hidden")));

/* clang-format off */
__asm__(".pushsection .text\n"
        ".hidden os_thread_clone\n"
        ".globl os_thread_clone\n"
        ".type os_thread_clone, %function\n"
        ".balign 16\n"
        "os_thread_clone:\n"
        ".cfi_startproc\n"
#if defined(__x86_64__)
        "mov %rcx, %r10\n"
        "mov $" TEXT(SYS_clone) ", %eax\n"
        "syscall\n"
        "test %rax, %rax\n"
        "jz 1f\n"
        "ret\n"
        "1: .cfi_undefined %rip\n" /* nobody called it */
        "xor %ebp, %ebp\n"
        "pop %rax\n"
        "pop %rdi\n"
        "call *%rax\n"
        "mov %eax, %edi\n"
        "mov $" TEXT(SYS_exit) ", %eax\n"
        "syscall\n"
        "hlt\n"
#elif defined(__aarch64__)
        "mov x5, x3\n" /* these two in another order */
        "mov x3, x4\n"
        "mov x4, x5\n"
        "mov x8, #" TEXT(SYS_clone) "\n"
        "svc #0\n"
        "cbz x0, 1f\n"
        "ret\n"
        "1: .cfi_undefined x30\n"
        "mov x29, #0\n"
        "ldp x1, x0, [sp], #16\n"
        "blr x1\n"
        "mov x8, #" TEXT(SYS_exit) "\n"
        "svc #0\n"
        "brk #0\n"
#endif
        ".cfi_endproc\n"
        ".size os_thread_clone, . - os_thread_clone\n"
        ".popsection\n");
/* clang-format on */

static bool start_unknown_thread(struct os_thread *thread)
{
    char *top = (char *)thread->area + THREAD_GUARD + THREAD_STACK;
    void **stack = (void **)top - 2;
    stack[0] = (void *)thread_main;
    stack[1] = thread;
    return os_thread_clone(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                               CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                               CLONE_CHILD_CLEARTID,
                           stack, &thread->id, &thread->running, top + thread->local) > 0;
}

bool os_thread_start(struct os_thread *thread, int (*run)(void *), const char *name,
                     const void *variable)
{
    if (OS_REFUSED(OS_CALL_THREAD))
        return false;
    /* The last one is in its last few instructions. */
    for (int look = 0; atomic_load(&thread->running) != 0; look++) {
        if (look == THREAD_LOOKS)
            return false;
        os_yield();
    }
    if (!LIBC_THREAD && thread->area == NULL && !make_area(thread, variable))
        return false;
    thread->run = run;
    thread->name = name;
    atomic_store(&thread->running, 1);
    bool started = LIBC_THREAD ? start_libc_thread(thread) : start_unknown_thread(thread);
    if (!started)
        atomic_store(&thread->running, 0);
    return started;
}

bool os_thread_is_gone(const struct os_thread *thread)
{
    if (atomic_load(&thread->running) != 0)
        return false;
    int id = atomic_load(&thread->id);
    return id == 0 || !os_thread_exists(id);
}
