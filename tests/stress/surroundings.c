/* surroundings: programs that make themselves a world in which little is left. Each part is a child
 * process that changes its own, and then does the same work as all: threads that get blocks, pass
 * them on, check every byte and give them back, and trims in between.
 *
 *   thousands of threads and of children at once; no descriptors left; another root; a filter of
 *   system calls that refuses membarrier, madvise, or the making of threads
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "older.h"

#define SKIPPED 77
#define WORKERS 4
#define STEPS 20000
#define SHELVES 256
#define THREADS_AT_ONCE 10000
#define CHILDREN_AT_ONCE 1000
#define STACK_BYTES (32 * KiB)
#define PART_SECONDS 100

/* ---- The work -------------------------------------------------------------------------------- */

static struct parcel *_Atomic shelves[SHELVES];

static void work_as(uint32_t number, uint64_t steps)
{
    struct rng rng = rng_stream(number);
    for (uint64_t i = 0; i < steps; i++) {
        size_t most = i % 512 == 0 ? 6 * MiB : 4 * KiB;
        struct parcel *mine = parcel_make(rng_size(&rng, PARCEL_LEAST, most), number);
        struct parcel *theirs = atomic_exchange(&shelves[rng_below(&rng, SHELVES)], mine);
        if (theirs != NULL)
            parcel_end(theirs, number, "from a shelf");
        if (i % 4096 == 0)
            malloc_trim(0);
    }
}

static void *work(void *argument)
{
    work_as((uint32_t)(uintptr_t)argument, scaled(STEPS));
    return NULL;
}

static void clear_shelves(void)
{
    for (size_t i = 0; i < SHELVES; i++) {
        struct parcel *left = atomic_exchange(&shelves[i], NULL);
        if (left != NULL)
            parcel_end(left, 0, "left on a shelf");
    }
}

static void work_in_threads(void)
{
    pthread_t threads[WORKERS];
    for (uintptr_t i = 0; i < WORKERS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)(i + 1)) != 0)
            fail("no thread");
    for (uintptr_t i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    clear_shelves();
    sleep_seconds(1); /* what goes on in the background goes on here, too */
    work_as(1, 1000);
    clear_shelves();
}

/* ---- Crowds ---------------------------------------------------------------------------------- */

static pthread_barrier_t all_there;

static void *live_in_a_crowd(void *argument)
{
    uint32_t number = (uint32_t)(uintptr_t)argument;
    struct parcel *parcels[8];
    for (size_t i = 0; i < 8; i++)
        parcels[i] = parcel_make(PARCEL_LEAST + (number * 7 + i * 97) % 3000, number);
    pthread_barrier_wait(&all_there);
    for (size_t i = 0; i < 8; i++)
        parcel_end(parcels[i], number, "in a crowd");
    return NULL;
}

static void ten_thousand_threads(void)
{
    static pthread_t threads[THREADS_AT_ONCE];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    char *stacks = mmap(NULL, THREADS_AT_ONCE * STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED)
        fail("no stacks");
    pthread_barrier_init(&all_there, NULL, THREADS_AT_ONCE + 1);
    for (uintptr_t i = 0; i < THREADS_AT_ONCE; i++) {
        pthread_attr_setstack(&attributes, stacks + i * STACK_BYTES, STACK_BYTES);
        int error = pthread_create(&threads[i], &attributes, live_in_a_crowd, (void *)i);
        if (error == EAGAIN) {
            report("only %zu threads are allowed here", (size_t)i);
            _exit(SKIPPED);
        }
        if (error != 0)
            fail("pthread_create: %s", strerror(error));
    }
    pthread_barrier_wait(&all_there);
    for (size_t i = 0; i < THREADS_AT_ONCE; i++)
        pthread_join(threads[i], NULL);
    work_in_threads();
}

/* All at once, each with blocks of the parent's to give back. */
static void thousand_children(void)
{
    static struct parcel *inherited[64];
    static pid_t children[CHILDREN_AT_ONCE];
    int go[2];
    size_t count = 0;
    for (size_t i = 0; i < 64; i++)
        inherited[i] = parcel_make(PARCEL_LEAST + i * 211, 9);
    if (pipe(go) != 0)
        fail("pipe: %s", strerror(errno));
    for (; count < CHILDREN_AT_ONCE; count++) {
        pid_t child = fork();
        if (child < 0 && errno == EAGAIN)
            break;
        if (child < 0)
            fail("fork: %s", strerror(errno));
        if (child == 0) {
            char byte;
            close(go[1]);
            if (read(go[0], &byte, 1) != 0)
                _exit(1);
            for (size_t i = 0; i < 64; i++)
                parcel_end(inherited[i], 9, "of the parent's");
            work_as(3, 50);
            clear_shelves();
            _exit(0);
        }
        children[count] = child;
    }
    close(go[1]);
    for (size_t i = 0; i < count; i++)
        require_success(wait_for(children[i], PART_SECONDS, "one of a thousand"), "a child");
    if (count < CHILDREN_AT_ONCE) {
        report("only %zu children are allowed here", count);
        _exit(SKIPPED);
    }
}

/* ---- Nothing left ---------------------------------------------------------------------------- */

/* Every descriptor is the program's own file then: nobody may write to one, or read it to its end.
 */
static void no_descriptors(void)
{
    struct stat status;
    char name[] = "/tmp/ebb-surroundings-XXXXXX";
    work_in_threads(); /* whoever likes to open something has done so */
    int own = mkstemp(name);
    if (own < 0 || unlink(name) != 0)
        fail("mkstemp: %s", strerror(errno));
    fail_descriptor = fcntl(STDERR_FILENO, F_DUPFD, 1000);
    for (int i = 0; i < 1000; i++)
        if (i != own && dup2(own, i) != i)
            fail("dup2: %s", strerror(errno));
    work_in_threads();
    if (fstat(own, &status) != 0 || status.st_size != 0 || lseek(own, 0, SEEK_CUR) != 0)
        fail("a file of the program's was written or read");
}

/* An empty one, made and removed by the first process. */
static char new_root[] = "/tmp/ebb-surroundings-XXXXXX";

static void another_root(void)
{
    if (chroot(new_root) != 0 || chdir("/") != 0) {
        report("no right to change the root: %s", strerror(errno));
        _exit(SKIPPED);
    }
    if (access("/proc", F_OK) == 0)
        fail("the root is what it was");
    work_in_threads();
}

/* ---- Filters --------------------------------------------------------------------------------- */

/* From now on these system calls give that errno. */
static void forbid(const unsigned *calls, size_t count, int error)
{
    struct sock_filter filter[16];
    size_t length = 0;
    filter[length++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < count; i++) {
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1);
        filter[length++] = (struct sock_filter)BPF_STMT(
            BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)error & SECCOMP_RET_DATA));
    }
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)length, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        report("no filters of system calls here: %s", strerror(errno));
        _exit(SKIPPED);
    }
    if (syscall(calls[0], -1, 0, 0, 0, 0) != -1 || errno != error)
        fail("the filter does not refuse");
}

static void without_membarrier(void)
{
    forbid((const unsigned[]){SYS_membarrier}, 1, EPERM);
    work_in_threads();
}

static void without_madvise(void)
{
    forbid((const unsigned[]){SYS_madvise, SYS_process_madvise}, 2, EPERM);
    work_in_threads();
}

/* The library's thread cannot be made, either, and nor can a child. */
static void without_clone(void)
{
    forbid((const unsigned[]){SYS_clone, SYS_clone3}, 2, EPERM);
    for (int i = 0; i < 3; i++) {
        work_as(1, scaled(STEPS));
        clear_shelves();
        sleep_seconds(0.5);
    }
}

/* The same, when what is refused was there before. */
static void without_any_from_now_on(void)
{
    work_in_threads();
    forbid(
        (const unsigned[]){SYS_membarrier, SYS_madvise, SYS_process_madvise, SYS_clone, SYS_clone3},
        5, ENOSYS);
    for (int i = 0; i < 3; i++) {
        work_as(1, scaled(STEPS));
        clear_shelves();
        sleep_seconds(0.5);
    }
}

/* ---- All parts ------------------------------------------------------------------------------- */

static const struct part {
    const char *name;
    void (*run)(void);
} parts[] = {
    {"ten thousand threads", ten_thousand_threads},
    {"a thousand children", thousand_children},
    {"no descriptors of its own", no_descriptors},
    {"another root", another_root},
    {"membarrier is refused", without_membarrier},
    {"madvise is refused", without_madvise},
    {"threads are refused", without_clone},
    {"all of these are refused, later", without_any_from_now_on},
};

int main(int argc, char **argv)
{
    unsigned skipped = 0, count = sizeof parts / sizeof *parts;
    stress_begin(argc, argv, "surroundings", 8 * PART_SECONDS);
    if (mkdtemp(new_root) == NULL)
        fail("mkdtemp: %s", strerror(errno));
    for (unsigned i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0)
            fail("fork: %s", strerror(errno));
        if (child == 0) {
            parts[i].run();
            _exit(0);
        }
        int status =
            wait_for(child, PART_SECONDS * (stress_scale > 1 ? stress_scale : 1), parts[i].name);
        bool was_skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;
        if (!was_skipped)
            require_success(status, parts[i].name);
        report("%s: %s", parts[i].name, was_skipped ? "SKIPPED" : "passed");
        skipped += was_skipped;
    }
    rmdir(new_root);
    /* What was left out is said above; only where nothing ran is the whole left out. */
    return skipped == count ? SKIPPED : 0;
}
