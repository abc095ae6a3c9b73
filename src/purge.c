#include "purge.h"

#include <stdatomic.h>

#include "options.h"
#include "os.h"

static _Atomic size_t bytes, calls;

enum purge_result purge_range(char *start, size_t size)
{
    bool lazily = options.advice == ADVICE_FREE && os_purge_lazily(start, size);
    if (!lazily && !os_purge(start, size))
        return PURGE_REFUSED;
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    if (lazily)
        return PURGE_LAZY;
    atomic_fetch_add_explicit(&bytes, size, memory_order_relaxed);
    return PURGE_DONE;
}

size_t purge_bytes(void)
{
    return atomic_load_explicit(&bytes, memory_order_relaxed);
}

size_t purge_calls(void)
{
    return atomic_load_explicit(&calls, memory_order_relaxed);
}
