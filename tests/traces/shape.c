/* A program whose trace has what a malloc with a fault trips over: many blocks of 777 bytes that
 * live at once, callocs, reallocs, and threads that come and go and free what others got. */
#include <pthread.h>
#include <stdlib.h>

enum { BLOCKS = 20000, THREADS = 40 };

static void *blocks[BLOCKS];

static void *replace(void *argument)
{
    size_t first = (size_t)argument;
    for (size_t i = first; i < BLOCKS; i += THREADS) {
        free(blocks[i]);
        blocks[i] = calloc(1, 100 + i % 100);
    }
    for (size_t i = first; i < BLOCKS; i += THREADS)
        blocks[i] = realloc(blocks[i], 200 + i % 3000);
    return NULL;
}

int main(void)
{
    pthread_t thread;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            free(blocks[i]);
            blocks[i] = malloc(777);
        }
        for (size_t i = 0; i < THREADS; i++)
            if (pthread_create(&thread, NULL, replace, (void *)i) != 0 ||
                pthread_join(thread, NULL) != 0)
                return 1;
    }
    for (size_t i = 0; i < BLOCKS / 2; i++)
        free(blocks[i]);
    return 0;
}
