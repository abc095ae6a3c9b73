/* Another library that is preloaded beside ours: it counts calls of malloc and free, passes them
 * on, and tells how many there were when the program ends. For preloads.sh. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static _Atomic unsigned long mallocs, frees;

void *malloc(size_t size)
{
    static void *(*next)(size_t);
    if (next == NULL)
        next = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    atomic_fetch_add(&mallocs, 1);
    return next(size);
}

void free(void *pointer)
{
    static void (*next)(void *);
    if (next == NULL)
        next = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    atomic_fetch_add(&frees, 1);
    next(pointer);
}

static __attribute__((destructor)) void tell(void)
{
    char line[80];
    int length = snprintf(line, sizeof line, "wrapper: %lu mallocs, %lu frees\n",
                          atomic_load(&mallocs), atomic_load(&frees));
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        abort();
}
