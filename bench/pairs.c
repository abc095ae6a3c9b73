/* Pairs of calls and nothing else, for a tool that counts instructions (bench/compare --suite
 * instructions runs it under callgrind).
 *
 *     pairs CALLS SIZE COUNT
 *
 * makes COUNT pairs of CALLS with blocks of SIZE bytes:
 *
 *     malloc   malloc(SIZE), free                sized     new(SIZE), delete with SIZE
 *     calloc   calloc(1, SIZE), free             realloc   one call: to SIZE of a block of SIZE
 *
 * With `no-` before CALLS the same loop runs around a function of one instruction, its return. What
 * two runs that differ in COUNT alone execute, less the same difference for `no-`, is what the
 * calls themselves execute (less one for each call): the loop, the start of the process and the
 * first calls cancel out. All calls go through pointers, so that no jump of a linkage table is
 * counted. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "common.h"

#include <dlfcn.h>
#include <string.h>

#define USAGE "[no-]malloc|calloc|sized|realloc SIZE COUNT"

typedef void *Make(size_t size);
typedef void *MakeZeroed(size_t count, size_t size);
typedef void *Resize(void *block, size_t size);
typedef void Drop(void *block);
typedef void DropSized(void *block, size_t size);

/* The function of one instruction, under a name for each type. */
__asm__(".text\n"
        ".type pairs_nothing, %function\n"
        "pairs_nothing:\n"
        "    ret\n"
        ".size pairs_nothing, . - pairs_nothing\n");
Make make_nothing __asm__("pairs_nothing");
MakeZeroed make_zeroed_nothing __asm__("pairs_nothing");
Resize resize_nothing __asm__("pairs_nothing");
Drop drop_nothing __asm__("pairs_nothing");
DropSized drop_sized_nothing __asm__("pairs_nothing");

static void fail(const char *what, const char *detail)
{
    fprintf(stderr, "pairs: %s: %s\n", what, detail);
    exit(2);
}

/* The same pointers through memory that the compiler knows nothing of: it must not make a copy of a
 * loop for one of its callers. */
static void pairs_of(Make *volatile make_given, Drop *volatile drop_given, size_t size,
                     size_t count)
{
    Make *make = make_given;
    Drop *drop = drop_given;
    for (size_t i = 0; i < count; i++)
        drop(make(size));
}

static void pairs_zeroed(MakeZeroed *volatile make_given, Drop *volatile drop_given, size_t size,
                         size_t count)
{
    MakeZeroed *make = make_given;
    Drop *drop = drop_given;
    for (size_t i = 0; i < count; i++)
        drop(make(1, size));
}

static void pairs_sized(Make *volatile make_given, DropSized *volatile drop_given, size_t size,
                        size_t count)
{
    Make *make = make_given;
    DropSized *drop = drop_given;
    for (size_t i = 0; i < count; i++)
        drop(make(size), size);
}

static void calls_resize(Resize *volatile resize_given, size_t size, size_t count)
{
    Resize *resize = resize_given;
    void *block = malloc(size);
    for (size_t i = 0; i < count; i++)
        block = resize(block, size);
}

/* C++'s operators: those of the preloaded library, or else those of the C++ library. */
static void *operator_named(const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    if (found == NULL && dlopen("libstdc++.so.6", RTLD_NOW | RTLD_GLOBAL) != NULL)
        found = dlsym(RTLD_DEFAULT, name);
    if (found == NULL)
        fail(name, "no such operator in the allocator, and no libstdc++.so.6");
    return found;
}

int main(int argc, char **argv)
{
    double size_given, count_given;
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return puts("usage: pairs " USAGE) < 0;
    if (argc != 4)
        fail("usage: pairs", USAGE);
    if (!bench_parse(argv[2], 1, 1e9, &size_given))
        fail("SIZE is not 1 to 1e9", argv[2]);
    if (!bench_parse(argv[3], 0, 1e12, &count_given))
        fail("COUNT is not 0 to 1e12", argv[3]);
    size_t size = (size_t)size_given, count = (size_t)count_given;
    int nothing = strncmp(argv[1], "no-", 3) == 0;
    const char *calls = argv[1] + (nothing ? 3 : 0);

    if (strcmp(calls, "malloc") == 0) {
        pairs_of(nothing ? make_nothing : malloc, nothing ? drop_nothing : free, size, count);
    } else if (strcmp(calls, "calloc") == 0) {
        pairs_zeroed(nothing ? make_zeroed_nothing : calloc, nothing ? drop_nothing : free, size,
                     count);
    } else if (strcmp(calls, "sized") == 0) {
        Make *make = (Make *)operator_named("_Znwm");
        DropSized *drop = (DropSized *)operator_named("_ZdlPvm");
        pairs_sized(nothing ? make_nothing : make, nothing ? drop_sized_nothing : drop, size,
                    count);
    } else if (strcmp(calls, "realloc") == 0) {
        calls_resize(nothing ? resize_nothing : realloc, size, count);
    } else {
        fail("no such calls", calls);
    }
    return 0;
}
