#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ebb.h"

static void *check_map(void *table)
{
    if (table != MAP_FAILED)
        return table;
    complain("no memory for tables: %s", strerror(errno));
    exit(EXIT_FAILED);
}

void *table_map(size_t bytes)
{
    return check_map(mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

/* Not mremap: a shared mapping does not grow by it. */
void *table_grow(void *table, size_t old_bytes, size_t bytes)
{
    void *grown = table_map(bytes);
    if (table != NULL) {
        memcpy(grown, table, old_bytes);
        table_unmap(table, old_bytes);
    }
    return grown;
}

void table_unmap(void *table, size_t bytes)
{
    if (table != NULL)
        munmap(table, bytes);
}
