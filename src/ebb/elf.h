/* elf.h: what an executable file is, as far as preloading goes. Reads the file's ELF headers and
 * nothing else; a damaged file is one that is not ELF, never a fault. */
#ifndef EBB_ELF_H
#define EBB_ELF_H

#include <stdbool.h>

struct elf_file {
    bool is_elf;          /* false: a script, or anything else; the rest is false, too */
    bool is_native;       /* for the kind of machine that ebb itself is made for */
    bool is_shared;       /* a shared library, or a program that can be loaded anywhere */
    bool has_interpreter; /* the loader starts it, and so will honour LD_PRELOAD */
};

/* False when the file cannot be opened or read; errno says why. */
bool elf_inspect(const char *path, struct elf_file *file);

#endif
