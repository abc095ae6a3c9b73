/* A library for dlopen whose constructor allocates and whose destructor frees, what it made itself
 * and what the program gave it. */
#include "late-calls.h"

#include <stddef.h>

#define OWN 64
#define KEPT 64

static struct parcel *own[OWN], *kept[KEPT];
static size_t taken, kept_count;

library_take take;
library_keep keep;

struct parcel *take(void)
{
    return taken < OWN ? own[taken++] : NULL;
}

void keep(struct parcel *parcel)
{
    if (kept_count < KEPT)
        kept[kept_count++] = parcel;
}

__attribute__((constructor)) static void begin(void)
{
    for (size_t i = 0; i < OWN; i++)
        own[i] = late_make(100 + i * 100);
}

__attribute__((destructor)) static void end(void)
{
    for (size_t i = taken; i < OWN; i++)
        late_end(own[i], "made by the library's constructor, in its destructor");
    for (size_t i = 0; i < kept_count; i++)
        late_end(kept[i], "kept by the library, in its destructor");
    late_end(late_make(5000), "new in the library's destructor");
    late_library_ended();
}
