/* kernel.c: to be preloaded: a kernel whose pages are of PAGE_KIB KiB, on one whose own are
 * smaller. What a program or a library asks of it through libc behaves as it would there: mappings
 * begin and end at such pages, and so does what is unmapped, protected or given back. An address or
 * a length that is no multiple of them ends the program with a line that says so: the library
 * promises that it gives the kernel none. (The kernel would refuse such an address, and round such
 * a length up.)
 *
 * What libc maps for itself does not come by here, and memory becomes resident by the real pages.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "older.h"

#define PAGE ((size_t)PAGE_KIB * 1024)
#define PARTS_MOST 16 /* real pages of 4 KiB in one of 64 */

/* libc's own, under the names that are nobody else's. */
extern unsigned long __getauxval(unsigned long type);
extern long __sysconf(int name);

/* ---- The real kernel ------------------------------------------------------------------------- */

static long ask(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return number;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#endif
}

/* As libc has it: -1, and errno. */
static long result_of(long result)
{
    if (result >= 0 || result < -4095)
        return result;
    errno = (int)-result;
    return -1;
}

static size_t real_page(void)
{
    return __getauxval(AT_PAGESZ);
}

/* ---- What is checked ------------------------------------------------------------------------- */

static void require_whole(const char *call, const void *start, size_t size)
{
    if ((uintptr_t)start % PAGE == 0 && size % PAGE == 0)
        return;
    char line[160];
    int length = snprintf(line, sizeof line, "%s: %p, %#zx bytes: not whole pages of %d KiB\n",
                          call, start, size, PAGE_KIB);
    ask(SYS_write, STDERR_FILENO, (long)line, length, 0, 0, 0);
    abort();
}

static size_t whole(size_t size)
{
    return (size + PAGE - 1) / PAGE * PAGE;
}

/* ---- Mappings -------------------------------------------------------------------------------- */

static long map(void *start, size_t size, int protection, int flags, int file, off_t offset)
{
    return ask(SYS_mmap, (long)start, (long)size, protection, flags, file, offset);
}

/* Address space for so many bytes, of which nothing else is left behind. */
static long reserve(size_t size)
{
    size_t more = size + PAGE - real_page();
    if (more < size)
        return -ENOMEM;
    long start = map(NULL, more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start < 0)
        return start;
    long aligned = (long)whole((size_t)start);
    if (aligned != start)
        ask(SYS_munmap, start, aligned - start, 0, 0, 0, 0);
    if ((size_t)(aligned - start) != more - size)
        ask(SYS_munmap, aligned + (long)size, (long)(more - size) - (aligned - start), 0, 0, 0, 0);
    return aligned;
}

void *mmap(void *start, size_t size, int protection, int flags, int file, off_t offset)
{
    if ((size_t)offset % PAGE != 0)
        return (void *)result_of(-EINVAL);
    /* Tests share what is smaller than a page, and files end anywhere. */
    if ((flags & (MAP_ANONYMOUS | MAP_PRIVATE)) == (MAP_ANONYMOUS | MAP_PRIVATE))
        require_whole("mmap", start, size);
    bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
    if (fixed || size == 0 || size > PTRDIFF_MAX)
        return (void *)result_of(map(start, size, protection, flags, file, offset));
    /* Most often the first try is well aligned, and needs no second. */
    if ((flags & MAP_ANONYMOUS) != 0) {
        size = whole(size);
        long first = map(start, size, protection, flags, file, offset);
        if (first < 0 || (size_t)first % PAGE == 0)
            return (void *)result_of(first);
        ask(SYS_munmap, first, (long)size, 0, 0, 0, 0);
    }
    long place = reserve(whole(size));
    if (place < 0)
        return (void *)result_of(place);
    long mapped = map((void *)place, size, protection, flags | MAP_FIXED, file, offset);
    if (mapped < 0)
        ask(SYS_munmap, place, (long)whole(size), 0, 0, 0, 0);
    return (void *)result_of(mapped);
}

void *mmap64(void *start, size_t size, int protection, int flags, int file, off_t offset)
    __attribute__((alias("mmap")));

int munmap(void *start, size_t size)
{
    require_whole("munmap", start, 0); /* files, again */
    return (int)result_of(ask(SYS_munmap, (long)start, (long)whole(size), 0, 0, 0, 0));
}

int mprotect(void *start, size_t size, int protection)
{
    require_whole("mprotect", start, size);
    return (int)result_of(ask(SYS_mprotect, (long)start, (long)size, protection, 0, 0, 0));
}

int madvise(void *start, size_t size, int advice)
{
    require_whole("madvise", start, size);
    return (int)result_of(ask(SYS_madvise, (long)start, (long)size, advice, 0, 0, 0));
}

void *mremap(void *start, size_t size, size_t wanted, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    bool leave = (flags & MREMAP_DONTUNMAP) != 0; /* it moves in any case */
    void *target = (flags & MREMAP_FIXED) != 0 || leave ? va_arg(arguments, void *) : NULL;
    va_end(arguments);
    require_whole("mremap", start, size);
    require_whole("mremap", target, wanted);
    bool may_move = (flags & (MREMAP_MAYMOVE | MREMAP_FIXED)) == MREMAP_MAYMOVE;
    long moved = -ENOMEM;
    if (!may_move || !leave)
        moved = ask(SYS_mremap, (long)start, (long)size, (long)wanted, may_move ? 0 : flags,
                    (long)target, 0);
    if (moved < 0 && may_move) {
        long place = reserve(wanted);
        moved = place < 0 ? place
                          : ask(SYS_mremap, (long)start, (long)size, (long)wanted,
                                flags | MREMAP_FIXED, place, 0);
    }
    return (void *)result_of(moved);
}

/* ---- What it says ---------------------------------------------------------------------------- */

unsigned long getauxval(unsigned long type)
{
    return type == AT_PAGESZ ? PAGE : __getauxval(type);
}

int getpagesize(void)
{
    return (int)PAGE;
}

long sysconf(int name)
{
    if (name == _SC_PAGESIZE)
        return (long)PAGE;
    long value = __sysconf(name);
    if (name == _SC_PHYS_PAGES || name == _SC_AVPHYS_PAGES)
        value /= (long)(PAGE / real_page());
    return value;
}

/* A page is resident when a part of it is. */
int mincore(void *start, size_t size, unsigned char *pages)
{
    require_whole("mincore", start, 0);
    size_t parts = PAGE / real_page();
    unsigned char real[PARTS_MOST];
    for (size_t at = 0; at < size; at += PAGE) {
        long result = ask(SYS_mincore, (long)start + (long)at, PAGE, (long)real, 0, 0, 0);
        if (result < 0)
            return (int)result_of(result);
        pages[at / PAGE] = 0;
        for (size_t i = 0; i < parts; i++)
            pages[at / PAGE] |= real[i] & 1;
    }
    return 0;
}

/* ---- What it writes into files ---------------------------------------------------------------
 *
 * The library reads them in a thread that libc does not know: so nothing of it is used that has
 * variables of its own in each thread. */

static char *write_number(char *to, size_t number)
{
    char digits[24], *end = digits + sizeof digits, *first = end;
    do
        *--first = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    memcpy(to, first, (size_t)(end - first));
    return to + (end - first);
}

/* True when a file is the one of that name that each process has in /proc. */
static bool is_called(int file, const char *name)
{
    char link[64] = "/proc/thread-self/fd/", path[256];
    *write_number(link + strlen(link), (size_t)file) = '\0';
    long length = ask(SYS_readlinkat, -100, (long)link, (long)path, sizeof path - 1, 0, 0);
    path[length > 0 ? length : 0] = '\0';
    const char *last = strrchr(path, '/');
    return strncmp(path, "/proc/", 6) == 0 && strcmp(last + 1, name) == 0;
}

static long read_at(int file, void *to, size_t size, off_t offset)
{
    return ask(SYS_pread64, file, (long)to, (long)size, offset, 0, 0);
}

/* /proc/PID/pagemap: eight bytes a page, of which the uppermost bit says that it is there. */
static long read_pagemap(int file, uint64_t *entries, size_t size, off_t offset)
{
    size_t parts = PAGE / real_page(), count = size / sizeof *entries;
    uint64_t real[PARTS_MOST];
    for (size_t i = 0; i < count; i++) {
        off_t place = (offset + (off_t)(i * sizeof *entries)) * (off_t)parts;
        long length = read_at(file, real, parts * sizeof *real, place);
        if (length != (long)(parts * sizeof *real))
            return length < 0 ? length : (long)(i * sizeof *entries);
        entries[i] = 0;
        for (size_t part = 0; part < parts; part++)
            entries[i] |= real[part] & (uint64_t)1 << 63;
    }
    return (long)(count * sizeof *entries);
}

/* /proc/PID/statm: seven numbers of pages. */
static long read_statm(int file, char *text, size_t size, off_t offset)
{
    char real[256], ours[256], *to = ours;
    long length = offset == 0 ? read_at(file, real, sizeof real - 1, 0) : 0;
    if (length <= 0)
        return length;
    real[length] = '\0';
    for (const char *from = real; *from >= '0' && *from <= '9'; from++) {
        size_t pages = 0;
        for (; *from >= '0' && *from <= '9'; from++)
            pages = pages * 10 + (size_t)(*from - '0');
        to = write_number(to, pages / (PAGE / real_page()));
        *to++ = *from;
    }
    if (size > (size_t)(to - ours))
        size = (size_t)(to - ours);
    memcpy(text, ours, size);
    return (long)size;
}

static long read_file(int file, void *to, size_t size, off_t offset)
{
    if (is_called(file, "pagemap"))
        return read_pagemap(file, to, size, offset);
    if (is_called(file, "statm"))
        return read_statm(file, to, size, offset);
    return read_at(file, to, size, offset);
}

ssize_t pread(int file, void *to, size_t size, off_t offset)
{
    return result_of(read_file(file, to, size, offset));
}

/* ---- By number ------------------------------------------------------------------------------- */

long syscall(long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    long a = va_arg(arguments, long), b = va_arg(arguments, long), c = va_arg(arguments, long);
    long d = va_arg(arguments, long), e = va_arg(arguments, long), f = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_pread64)
        return result_of(read_file((int)a, (void *)b, (size_t)c, d));
    if (number == SYS_process_madvise)
        for (long i = 0; i < c; i++)
            require_whole("process_madvise", ((struct iovec *)b)[i].iov_base,
                          ((struct iovec *)b)[i].iov_len);
    return result_of(ask(number, a, b, c, d, e, f));
}
