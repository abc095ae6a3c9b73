#include "root.h"

#include "os.h"

/* Found by the note below alone. */
__attribute__((used)) hidden struct root root_record = {
    .magic = ROOT_MAGIC,
    .library = EBB_VERSION,
    .layout = ROOT_LAYOUT,
    .arenas = &arenas_newest,
    .chunks = &chunks_oldest,
    .huge = &huge_lists,
    .meta = &meta_books,
    .purge = &purge_books,
    .purger = &purger_books,
    .request = &purger_request,
    .chunk_books = &chunk_books,
    .options = &options,
    .os_page_size = &os_page_size,
    .page_map = &pagemap_books,
};

/* Linkers gather notes in a segment of their own, which is loaded: so a reader finds this one in
 * the process's memory, whatever the file was called and whether it is still there. */
__asm__(".pushsection .note.ebbmalloc, \"a\", %note\n"
        ".balign 4\n"
        ".long 2f - 1f\n"
        ".long 4f - 3f\n"
        ".long 1\n"
        "1: .asciz \"ebbmalloc\"\n"
        "2: .balign 4\n"
        "3: .long root_record - .\n"
        "4: .balign 4\n"
        ".popsection\n");
