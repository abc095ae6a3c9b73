#include "elf.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#endif

/* More program headers than this are not looked at; real files have about a dozen. */
enum { MOST_SEGMENTS = 64 };

static bool is_native(const ElfW(Ehdr) * header)
{
    return header->e_ident[EI_CLASS] == ELFCLASS64 && header->e_ident[EI_DATA] == ELFDATA2LSB &&
           header->e_machine == OWN_MACHINE;
}

static bool has_interpreter(int descriptor, const ElfW(Ehdr) * header)
{
    ElfW(Phdr) segments[MOST_SEGMENTS];
    if (header->e_phentsize != sizeof *segments || header->e_phnum > MOST_SEGMENTS)
        return false;
    size_t size = header->e_phnum * sizeof *segments;
    if (pread(descriptor, segments, size, (off_t)header->e_phoff) != (ssize_t)size)
        return false;
    for (size_t i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_INTERP)
            return true;
    return false;
}

bool elf_inspect(const char *path, struct elf_file *file)
{
    memset(file, 0, sizeof *file);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    ElfW(Ehdr) header = {0};
    ssize_t length = pread(descriptor, &header, sizeof header, 0);
    if (length >= SELFMAG && memcmp(header.e_ident, ELFMAG, SELFMAG) == 0) {
        file->is_elf = true;
        file->is_native = is_native(&header);
        file->is_shared = header.e_type == ET_DYN;
        file->has_interpreter = file->is_native && has_interpreter(descriptor, &header);
    }
    close(descriptor);
    return length >= 0;
}
