/* What a build with EBB_COUNTS adds to the library (src/counts.h): the counts of this process, and
 * one line of them when it exits, added to the file that EBB_COUNTS_FILE names or else on stderr:
 *
 *     counts: process 1234 rmw 56 locks 7 waits 0 sleeps 0
 */
#include "counts.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "os.h"
#include "text.h"

/* Threads count in different cache lines, lest counting be what they wait for: by where their
 * stacks are, which costs nothing to know. A prime, since stacks lie at equal distances. */
#define SLOTS 61
#define STACK_SHIFT 20

static struct slot {
    _Alignas(2 * CACHE_LINE) size_t counts[COUNT_END];
} slots[SLOTS];

void count_one(enum count what)
{
    struct slot *slot = &slots[((uintptr_t)__builtin_frame_address(0) >> STACK_SHIFT) % SLOTS];
    __atomic_fetch_add(&slot->counts[what], 1, __ATOMIC_RELAXED);
}

static size_t sum(enum count what)
{
    size_t total = 0;
    for (size_t i = 0; i < SLOTS; i++)
        total += __atomic_load_n(&slots[i].counts[what], __ATOMIC_RELAXED);
    return total;
}

__attribute__((destructor)) static void print_counts(void)
{
    char line[TEXT_LINE];
    size_t length = text_format(
        line, sizeof line, "counts: process %d rmw %zu locks %zu waits %zu sleeps %zu\n", getpid(),
        sum(COUNT_RMW), sum(COUNT_LOCK), sum(COUNT_WAIT), sum(COUNT_SLEEP));
    const char *path = secure_getenv("EBB_COUNTS_FILE");
    int file = path != NULL ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    os_write(file >= 0 ? file : STDERR_FILENO, line, length);
    if (file >= 0)
        close(file);
}
