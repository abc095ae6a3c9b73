#!/bin/bash
# The library exports the API, all of it, and nothing else: whatever more it exported, a program
# might happen to define too, and would then get into the allocator's way.
set -u

if ! command -v nm >/dev/null; then
    echo "nm (package binutils) is not there"
    exit 77
fi
if [ ! -r "${EBB_LIB:-}" ]; then
    echo "EBB_LIB does not name the library: \"${EBB_LIB:-}\""
    exit 1
fi

# operator new (nw) and new[] (na): plain, nothrow, aligned, aligned nothrow; operator delete (dl)
# and delete[] (da): the same, and sized (m), and sized aligned. As the Itanium C++ ABI names them.
expected=$(
    printf '%s\n' aligned_alloc calloc free free_aligned_sized free_sized mallinfo mallinfo2 \
        malloc malloc_info malloc_stats malloc_trim malloc_usable_size mallopt memalign \
        posix_memalign pvalloc realloc reallocarray valloc \
        mallocx rallocx xallocx sallocx dallocx sdallocx nallocx \
        setns unshare # not of memory: see src/namespaces.c
    for name in _Znwm _Znam _ZdlPv _ZdaPv _ZdlPvm _ZdaPvm; do
        printf '%s\n' "$name" "${name}St11align_val_t"
    done
    for name in _Znwm _Znam _ZdlPv _ZdaPv; do
        printf '%s\n' "${name}RKSt9nothrow_t" "${name}St11align_val_tRKSt9nothrow_t"
    done
)

exported=$(nm --dynamic --defined-only --format=posix "$EBB_LIB" | cut -d' ' -f1) || exit 1

missing=$(comm -23 <(sort -u <<<"$expected") <(sort -u <<<"$exported"))
extra=$(comm -13 <(sort -u <<<"$expected") <(grep -v '^ebb_' <<<"$exported" | sort -u))
if [ -n "$missing" ]; then
    echo "not exported: ${missing//$'\n'/ }"
fi
if [ -n "$extra" ]; then
    echo "exported, and neither of the API nor named ebb_...: ${extra//$'\n'/ }"
fi
if ! grep -qx ebb_version <<<"$exported"; then
    missing=ebb_version
    echo "not exported: ebb_version"
fi
[ -z "$missing$extra" ] && echo "$(wc -l <<<"$exported") names, as they should be"
