/* cxx.c: the front door: operator new and delete in all their forms, under the names that the
 * Itanium C++ ABI gives them (5.1, "External Names").
 *
 * A program may replace some of these and not others, and the standard says which of the rest must
 * then call the replaced ones ([new.delete.single], [new.delete.array]). So each form that is
 * defined in terms of another calls that one by its public name, and short cuts are taken only
 * where the public name is still ours.
 *
 * When memory runs out, the next definition in line (libstdc++'s or libc++'s) is called: it tries
 * again, calls the new-handler and throws, as the language says. This file is compiled with
 * -fexceptions so that they pass.
 */
#ifndef EBB_PREFIXED

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

#include "api.h"
#include "arenas.h"
#include "text.h"

/* How the ABI passes std::nothrow: by reference. */
typedef const void *nothrow;

void *_Znwm(size_t size);
void *_Znam(size_t size);
void *_ZnwmRKSt9nothrow_t(size_t size, nothrow tag);
void *_ZnamRKSt9nothrow_t(size_t size, nothrow tag);
void *_ZnwmSt11align_val_t(size_t size, size_t alignment);
void *_ZnamSt11align_val_t(size_t size, size_t alignment);
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, nothrow tag);
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, nothrow tag);
void _ZdlPv(void *pointer);
void _ZdaPv(void *pointer);
void _ZdlPvm(void *pointer, size_t size);
void _ZdaPvm(void *pointer, size_t size);
void _ZdlPvRKSt9nothrow_t(void *pointer, nothrow tag);
void _ZdaPvRKSt9nothrow_t(void *pointer, nothrow tag);
void _ZdlPvSt11align_val_t(void *pointer, size_t alignment);
void _ZdaPvSt11align_val_t(void *pointer, size_t alignment);
void _ZdlPvmSt11align_val_t(void *pointer, size_t size, size_t alignment);
void _ZdaPvmSt11align_val_t(void *pointer, size_t size, size_t alignment);
void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *pointer, size_t alignment, nothrow tag);
void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *pointer, size_t alignment, nothrow tag);

/* The definition of name in a C++ runtime that was loaded for a plugin alone (RTLD_LOCAL, as
 * interpreters load their extensions), where a search in the loader's order does not see it. */
static void *definition_in_runtime(const char *name)
{
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++.so.1"};
    void *found = NULL;
    for (size_t i = 0; i < sizeof runtimes / sizeof *runtimes && found == NULL; i++) {
        void *runtime = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
        if (runtime != NULL)
            found = dlsym(runtime, name);
    }
    return found;
}

/* The next definition of name in line. A program that calls operator new has a C++ runtime;
 * without one there is nobody to throw. */
static cold void *next_definition(const char *name)
{
    void *next = dlsym(RTLD_NEXT, name);
    if (next == NULL)
        next = definition_in_runtime(name);
    if (next == NULL) {
        text_warn("%s: out of memory, and no C++ runtime to throw bad_alloc", name);
        abort();
    }
    return next;
}

/* Our own definitions, whatever the public names lead to. */
extern __typeof__(_Znwm) our_new hot __attribute__((alias("_Znwm"), visibility("hidden")));
extern __typeof__(_Znam) our_new_array __attribute__((alias("_Znam"), visibility("hidden")));
extern __typeof__(_ZnwmSt11align_val_t) our_aligned_new
    __attribute__((alias("_ZnwmSt11align_val_t"), visibility("hidden")));
extern __typeof__(_ZnamSt11align_val_t) our_aligned_new_array
    __attribute__((alias("_ZnamSt11align_val_t"), visibility("hidden")));
extern __typeof__(_ZdlPv) our_delete hot __attribute__((alias("_ZdlPv"), visibility("hidden")));
extern __typeof__(_ZdaPv) our_delete_array __attribute__((alias("_ZdaPv"), visibility("hidden")));
extern __typeof__(_ZdlPvSt11align_val_t) our_aligned_delete
    __attribute__((alias("_ZdlPvSt11align_val_t"), visibility("hidden")));
extern __typeof__(_ZdaPvSt11align_val_t) our_aligned_delete_array
    __attribute__((alias("_ZdaPvSt11align_val_t"), visibility("hidden")));

static always_inline bool new_is_ours(void)
{
    return likely(_Znwm == our_new);
}

/* Whether a delete that is told the size may act on it, of one object and of an array: when all the
 * public names that it stands for are ours. Written once, when the library is loaded; the forms
 * without the size serve who is there before that. */
static bool may_use_size, may_use_array_size;

__attribute__((constructor)) static void look_who_is_public(void)
{
    may_use_size = new_is_ours() && _ZdlPv == our_delete;
    may_use_array_size = may_use_size && _ZdaPv == our_delete_array && _Znam == our_new_array;
}

static bool aligned_are_ours(void)
{
    return _ZdlPvSt11align_val_t == our_aligned_delete && _ZnwmSt11align_val_t == our_aligned_new;
}

/* ---- new ------------------------------------------------------------------------------------- */

static cold void *new_without_memory(size_t size)
{
    __typeof__(_Znwm) *next = (__typeof__(_Znwm) *)next_definition("_Znwm");
    return next(size);
}

static void *new_large(size_t size)
{
    void *block = api_alloc_large(size);
    return likely(block != NULL) ? block : new_without_memory(size);
}

static cold void *new_slow(size_t size)
{
    void *block = api_alloc_slow(size);
    return likely(block != NULL) ? block : new_without_memory(size);
}

EXPORT hot_from_mid_line void *_Znwm(size_t size)
{
    return api_alloc_or(size, new_large, new_slow);
}

EXPORT void *_Znam(size_t size)
{
    return _Znwm(size);
}

/* These must return NULL where _Znwm throws. The runtime's own form catches for us. */
static cold void *new_by_next(const char *name, size_t size, nothrow tag)
{
    __typeof__(_ZnwmRKSt9nothrow_t) *next =
        (__typeof__(_ZnwmRKSt9nothrow_t) *)next_definition(name);
    return next(size, tag);
}

EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, nothrow tag)
{
    void *block = new_is_ours() ? api_alloc(size) : NULL;
    return likely(block != NULL) ? block : new_by_next("_ZnwmRKSt9nothrow_t", size, tag);
}

EXPORT void *_ZnamRKSt9nothrow_t(size_t size, nothrow tag)
{
    void *block = new_is_ours() && _Znam == our_new_array ? api_alloc(size) : NULL;
    return likely(block != NULL) ? block : new_by_next("_ZnamRKSt9nothrow_t", size, tag);
}

/* libstdc++ rounds the size up to the alignment, and sizes near SIZE_MAX to nothing. */
static bool would_wrap(size_t size, size_t alignment)
{
    return size > PTRDIFF_MAX - alignment;
}

static cold void *aligned_new_without_memory(size_t size, size_t alignment)
{
    if (would_wrap(size, alignment))
        return new_without_memory(size);
    __typeof__(_ZnwmSt11align_val_t) *next =
        (__typeof__(_ZnwmSt11align_val_t) *)next_definition("_ZnwmSt11align_val_t");
    return next(size, alignment);
}

static void *aligned(size_t size, size_t alignment)
{
    return is_power_of_two(alignment) ? api_alloc_aligned(max_size(alignment, MIN_ALIGNMENT), size)
                                      : NULL;
}

EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t alignment)
{
    void *block = aligned(size, alignment);
    return likely(block != NULL) ? block : aligned_new_without_memory(size, alignment);
}

EXPORT void *_ZnamSt11align_val_t(size_t size, size_t alignment)
{
    return _ZnwmSt11align_val_t(size, alignment);
}

static cold void *aligned_new_by_next(const char *name, size_t size, size_t alignment, nothrow tag)
{
    if (would_wrap(size, alignment))
        return new_by_next("_ZnwmRKSt9nothrow_t", size, tag);
    __typeof__(_ZnwmSt11align_val_tRKSt9nothrow_t) *next =
        (__typeof__(_ZnwmSt11align_val_tRKSt9nothrow_t) *)next_definition(name);
    return next(size, alignment, tag);
}

EXPORT void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, nothrow tag)
{
    void *block = _ZnwmSt11align_val_t == our_aligned_new ? aligned(size, alignment) : NULL;
    return likely(block != NULL)
               ? block
               : aligned_new_by_next("_ZnwmSt11align_val_tRKSt9nothrow_t", size, alignment, tag);
}

EXPORT void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, nothrow tag)
{
    void *block =
        _ZnamSt11align_val_t == our_aligned_new_array && _ZnwmSt11align_val_t == our_aligned_new
            ? aligned(size, alignment)
            : NULL;
    return likely(block != NULL)
               ? block
               : aligned_new_by_next("_ZnamSt11align_val_tRKSt9nothrow_t", size, alignment, tag);
}

/* ---- delete ---------------------------------------------------------------------------------- */

EXPORT hot void _ZdlPv(void *pointer)
{
    api_free(pointer);
}

EXPORT void _ZdaPv(void *pointer)
{
    _ZdlPv(pointer);
}

EXPORT hot void _ZdlPvm(void *pointer, size_t size)
{
    if (likely(may_use_size))
        api_free_sized(pointer, size, "delete");
    else
        _ZdlPv(pointer);
}

EXPORT void _ZdaPvm(void *pointer, size_t size)
{
    if (likely(may_use_array_size))
        api_free_sized(pointer, size, "delete");
    else
        _ZdaPv(pointer);
}

EXPORT void _ZdlPvRKSt9nothrow_t(void *pointer, nothrow tag)
{
    (void)tag;
    _ZdlPv(pointer);
}

EXPORT void _ZdaPvRKSt9nothrow_t(void *pointer, nothrow tag)
{
    (void)tag;
    _ZdaPv(pointer);
}

EXPORT void _ZdlPvSt11align_val_t(void *pointer, size_t alignment)
{
    (void)alignment;
    api_free(pointer);
}

EXPORT void _ZdaPvSt11align_val_t(void *pointer, size_t alignment)
{
    _ZdlPvSt11align_val_t(pointer, alignment);
}

/* The size is for the hardened mode alone. */
EXPORT void _ZdlPvmSt11align_val_t(void *pointer, size_t size, size_t alignment)
{
    if (aligned_are_ours())
        api_free_sized(pointer, size, "delete");
    else
        _ZdlPvSt11align_val_t(pointer, alignment);
}

EXPORT void _ZdaPvmSt11align_val_t(void *pointer, size_t size, size_t alignment)
{
    if (_ZdaPvSt11align_val_t == our_aligned_delete_array &&
        _ZnamSt11align_val_t == our_aligned_new_array && aligned_are_ours())
        api_free_sized(pointer, size, "delete");
    else
        _ZdaPvSt11align_val_t(pointer, alignment);
}

EXPORT void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *pointer, size_t alignment, nothrow tag)
{
    (void)tag;
    _ZdlPvSt11align_val_t(pointer, alignment);
}

EXPORT void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *pointer, size_t alignment, nothrow tag)
{
    (void)tag;
    _ZdaPvSt11align_val_t(pointer, alignment);
}

#else
typedef int cxx_has_no_prefixed_form; /* ISO C wants a declaration */
#endif
