/* fork-sweep: a child loses nothing of what another thread was just giving back. While one thread
 * trims without a pause, memory comes and goes and the process forks; in the child the memory that
 * was free must serve again: it needs no new address space for it.
 */
#define _GNU_SOURCE
#include "support.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS 150
#define BLOCKS 24 /* of 1 MiB: most of a chunk of 32 MiB */

static _Atomic bool stop;
static _Atomic uint64_t trims;

static void *trim(void *unused)
{
    while (!stop) {
        malloc_trim(0);
        trims++;
    }
    return unused;
}

static void make_and_free(void)
{
    char *blocks[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(1 * MiB);
        if (blocks[i] == NULL)
            fail("malloc");
        memset(blocks[i], 1, 1 * MiB);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

/* The same again needs the same runs, all of which were free. */
static void work_in_child(void)
{
    size_t before = address_bytes();
    make_and_free();
    size_t after = address_bytes();
    if (after > before + 1 * MiB)
        promise_broken("the child took %zu KiB of new addresses for what was free",
                       (after - before) / KiB);
    _exit(0);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "fork-sweep", 60);
    pthread_t thread;
    if (pthread_create(&thread, NULL, trim, NULL) != 0)
        fail("pthread_create");
    for (uint64_t i = 0; i < scaled(FORKS); i++) {
        make_and_free();
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0)
            work_in_child();
        require_success(wait_for(child, 20, "a child"), "a child");
    }
    stop = true;
    pthread_join(thread, NULL);
    report("%" PRIu64 " trims", trims);
    if (trims < scaled(FORKS))
        fail("too few trims to show anything");
    return 0;
}
