/* size-in-handler: malloc_usable_size takes no lock, of whatever kind of block: a signal handler
 * may come upon it, and allocate. The thread asks for sizes without a pause while handlers allocate
 * and free what is not to be had without the locks of chunks and of huge blocks; and another thread
 * makes and frees blocks that stand beside those asked about.
 */
#define _GNU_SOURCE
#include "support.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define SECONDS 2
#define HUGE_SIZE (5 * MiB)
#define LARGE_SIZE (100 * KiB)
#define LARGE_ALIGNMENT (128 * KiB) /* no class has that: such a block comes from its chunk */
#define BLOCKS 16

static volatile sig_atomic_t handled;
static _Atomic bool ended;

static void on_signal(int signal)
{
    (void)signal;
    char *huge = malloc(HUGE_SIZE), *large = memalign(LARGE_ALIGNMENT, LARGE_SIZE);
    if (huge == NULL || large == NULL)
        fail("no memory in a handler");
    huge[0] = large[0] = 1;
    free(huge);
    free(large);
    handled++;
}

static void block_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(how, &set, NULL);
}

static void *come_and_go(void *argument)
{
    (void)argument;
    void *blocks[BLOCKS] = {NULL};
    for (size_t i = 0; !atomic_load(&ended); i++) {
        free(blocks[i % BLOCKS]);
        blocks[i % BLOCKS] = malloc(HUGE_SIZE + i % 3 * 64 * KiB);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "size-in-handler", 60);
    block_signals(SIG_BLOCK); /* inherited */
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval period = {{0, 100}, {0, 100}};
    setitimer(ITIMER_REAL, &period, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, come_and_go, NULL) != 0)
        fail("pthread_create");

    void *huge = malloc(HUGE_SIZE), *large = memalign(LARGE_ALIGNMENT, LARGE_SIZE);
    uint64_t asked = 0;
    double end = now_seconds() + scaled_seconds(SECONDS);
    block_signals(SIG_UNBLOCK);
    while (now_seconds() < end)
        for (unsigned i = 0; i < 1000; i++, asked++)
            if (malloc_usable_size(huge) < HUGE_SIZE || malloc_usable_size(large) < LARGE_SIZE)
                fail("a block was told to be smaller than it is");
    block_signals(SIG_BLOCK);
    atomic_store(&ended, true);
    pthread_join(thread, NULL);
    free(huge);
    free(large);
    report("%" PRIu64 " times asked for two sizes, %d handlers", asked, (int)handled);
    if (handled < (int)scaled(500))
        fail("too few handlers to show anything");
    return 0;
}
