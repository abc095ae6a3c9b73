#include "next.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

struct next next;

_Alignas(MIN_ALIGNMENT) char next_early_room[NEXT_EARLY];
static _Atomic size_t early_used;

void *next_early(size_t size)
{
    size_t room = round_up(size + MIN_ALIGNMENT, MIN_ALIGNMENT);
    size_t at = atomic_fetch_add(&early_used, room);
    if (size > NEXT_EARLY || at + room > NEXT_EARLY) {
        errno = ENOMEM;
        return NULL;
    }
    memcpy(next_early_room + at, &size, sizeof size);
    return next_early_room + at + MIN_ALIGNMENT;
}

/* free is the first that is looked for and malloc the last: malloc tells that all are there. */
cold void next_find(void)
{
    static __thread bool looking __attribute__((tls_model("initial-exec")));
    if (looking)
        return;
    looking = true;
    next.free = (__typeof__(next.free))dlsym(RTLD_NEXT, "free");
    next.free_sized = (__typeof__(next.free_sized))dlsym(RTLD_NEXT, "free_sized");
    next.free_aligned_sized =
        (__typeof__(next.free_aligned_sized))dlsym(RTLD_NEXT, "free_aligned_sized");
#ifndef __GLIBC__
    dlerror(); /* The program is not to find it. In glibc what is found next clears it, and dlerror
                  takes the lock of setlocale, which may be what asks for the first block. */
#endif
    next.calloc = (__typeof__(next.calloc))dlsym(RTLD_NEXT, "calloc");
    next.realloc = (__typeof__(next.realloc))dlsym(RTLD_NEXT, "realloc");
    next.reallocarray = (__typeof__(next.reallocarray))dlsym(RTLD_NEXT, "reallocarray");
    next.posix_memalign = (__typeof__(next.posix_memalign))dlsym(RTLD_NEXT, "posix_memalign");
    next.memalign = (__typeof__(next.memalign))dlsym(RTLD_NEXT, "memalign");
    next.aligned_alloc = (__typeof__(next.aligned_alloc))dlsym(RTLD_NEXT, "aligned_alloc");
    next.valloc = (__typeof__(next.valloc))dlsym(RTLD_NEXT, "valloc");
    next.pvalloc = (__typeof__(next.pvalloc))dlsym(RTLD_NEXT, "pvalloc");
    void *(*found)(size_t) = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    if (found == NULL) {
        text_warn("record: no other malloc behind the recorder");
        abort();
    }
    /* Release: pairs with the acquire in next_is_ready; with malloc, all are there. */
    __atomic_store_n(&next.malloc, found, __ATOMIC_RELEASE);
    looking = false;
}
