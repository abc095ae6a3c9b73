/*
 * A library as leak checkers and profilers are made: preloaded before ebbmalloc, it defines malloc
 * and friends itself and finds the next ones by RTLD_NEXT. dlopen.c starts a child with it.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

static void *(*next_malloc)(size_t size);
static void (*next_free)(void *block);
static void *(*next_calloc)(size_t number, size_t size);
static void *(*next_realloc)(void *block, size_t size);

static atomic_long calls;

long interposer_calls(void);
long interposer_calls(void)
{
    return atomic_load(&calls);
}

/* For dlsym, which before glibc 2.34 calls calloc itself. */
static char room[4096];

static void *calloc_while_finding(size_t number, size_t size)
{
    static size_t used;
    char *block = room + used;
    used += (number * size + 15) & ~(size_t)15;
    if (used > sizeof room)
        abort();
    return block;
}

static _Thread_local bool finding;

static void find_next(void)
{
    finding = true;
    next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    next_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    next_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    if (next_malloc == NULL || next_free == NULL || next_calloc == NULL || next_realloc == NULL)
        abort();
    finding = false;
}

void *malloc(size_t size)
{
    if (next_malloc == NULL)
        find_next();
    atomic_fetch_add(&calls, 1);
    return next_malloc(size);
}

void free(void *block)
{
    if ((char *)block >= room && (char *)block < room + sizeof room)
        return;
    if (next_free == NULL)
        find_next();
    atomic_fetch_add(&calls, 1);
    next_free(block);
}

void *calloc(size_t number, size_t size)
{
    if (finding)
        return calloc_while_finding(number, size);
    if (next_calloc == NULL)
        find_next();
    atomic_fetch_add(&calls, 1);
    return next_calloc(number, size);
}

void *realloc(void *block, size_t size)
{
    if (next_realloc == NULL)
        find_next();
    atomic_fetch_add(&calls, 1);
    return next_realloc(block, size);
}
