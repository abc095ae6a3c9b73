/* A program whose heap is known, for the tests of the statistics. libc and the loader allocate
 * nothing of these sizes. With an argument it says "ready" and waits, to be looked at; its second
 * thread has blocks of its own by then.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* So many blocks, of which the first ones are freed again. Touched throughout. */
static void hold(size_t size, int count, int freed)
{
    char **blocks = malloc(count * sizeof *blocks);
    for (int i = 0; i < count; i++)
        memset(blocks[i] = malloc(size), 1, size);
    for (int i = 0; i < freed; i++)
        free(blocks[i]);
}

static void *wait_to_be_looked_at(void *unused)
{
    prctl(PR_SET_NAME, "known thread");
    hold(1400, 2000, 0);
    if (write(STDOUT_FILENO, "ready\n", 6) != 6)
        abort();
    for (;;)
        pause();
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    void *aligned;
    (void)argv;
    hold(3000, 1000, 0);
    hold(700, 5000, 3000);
    hold(100 * 1024, 30, 0);
    hold(5 << 20, 3, 0);
    if (posix_memalign(&aligned, 1 << 20, 200 * 1024) != 0)
        return 1;
    memset(aligned, 1, 200 * 1024);
    if (argc > 1 && pthread_create(&thread, NULL, wait_to_be_looked_at, NULL) == 0)
        pthread_join(thread, NULL);
    return 0;
}
