/* A malloc with a fault, to be preloaded: what ebb replay --verify has to find. BROKEN names it.
 * The blocks are cut from the C library's. */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

static _Atomic unsigned calls;

/* Once, after the program's start. */
static int is_time_for(const char *fault)
{
    const char *wanted = getenv("BROKEN");
    return wanted != NULL && strcmp(wanted, fault) == 0 && atomic_fetch_add(&calls, 1) == 3000;
}

void *malloc(size_t size)
{
    static void *_Atomic last;
    if (size == 777 && last != NULL && is_time_for("overlap"))
        return last;
    char *block = __libc_malloc(size + 64);
    if (size == 777)
        last = block;
    return size == 777 && is_time_for("misaligned") ? block + 8 : block;
}

void free(void *block)
{
    if ((size_t)block % 16 == 0)
        __libc_free(block);
}

void *calloc(size_t count, size_t size)
{
    char *block = __libc_calloc(count, size);
    if (block != NULL && count * size > 100 && is_time_for("dirty"))
        block[100] = 1;
    return block;
}

void *realloc(void *block, size_t size)
{
    char *moved = __libc_realloc(block, size);
    if (moved != NULL && size > 100 && is_time_for("lossy"))
        moved[3]++;
    return moved;
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    *block = __libc_memalign(alignment, size);
    return *block == NULL ? ENOMEM : 0;
}
