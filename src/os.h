/* os.h: the kernel. Every system call of the library is made here, so that a test can refuse any
 * of them, and every address and length given to the kernel is a multiple of its own page size.
 *
 * Nothing here takes a lock or allocates. Functions that can fail say how; errno is left as the
 * kernel set it and it is the front door's duty to give the program what it expects.
 */
#ifndef EBB_OS_H
#define EBB_OS_H

#include "base.h"

/* The size of an OS page in bytes (4, 16 or 64 KiB); set by os_init. */
extern size_t os_page_size;

/* Reads the page size and asks for membarrier. Called once, before anything else here. */
void os_init(void);

/* Zeroed, readable and writable memory; size is rounded up to whole OS pages. NULL when refused. */
void *os_map(size_t size);

/* The same for the library's own records, out of the way of blocks: the addresses of a huge one
 * that was given back may be anybody's next, and a program may still write there. */
void *os_map_apart(size_t size);

/* The same at a multiple of alignment, a power of two not under the OS page. */
void *os_map_aligned(size_t size, size_t alignment);

/* Address space alone, aligned or apart: not accessible until os_commit, and not charged for. */
void *os_reserve_aligned(size_t size, size_t alignment);
void *os_reserve_apart(size_t size);

/* Makes reserved memory readable and writable. False when the kernel refuses (ENOMEM: its limit on
 * committed memory or on mappings). */
bool os_commit(void *start, size_t size);

/* Makes memory inaccessible, and gives it back: what was there is lost. False when refused (locked
 * memory; at vm.max_map_count); content may be lost then, too. */
bool os_forbid(void *start, size_t size);

/* Makes it accessible again; it reads as zero. False when refused. */
bool os_allow(void *start, size_t size);

/* As os_forbid, for whole mappings: quick however large they are, and undone by os_commit. */
bool os_forbid_mapping(void *start, size_t size);

/* True as long as os_forbid takes none of the mappings that a process may have. */
bool os_forbids_lightly(void);

/* Gives addresses back. False when the kernel refuses (splitting a mapping at vm.max_map_count). */
bool os_unmap(void *start, size_t size);

/* Resizes a mapping where it stands; false when there is no room. */
bool os_resize(void *start, size_t old_size, size_t new_size);

/* Moves the memory at start to the mapping at target (of target_size bytes), which it replaces.
 * False when refused: the memory is unchanged then, but target may be unmapped. */
bool os_move(void *start, size_t size, void *target, size_t target_size);

/* Moves the memory at start, whole OS pages, to a mapping of its own, which it returns. The
 * addresses stay, and read as zero. NULL when that cannot be (before Linux 5.7, for one); nothing
 * has changed then. */
void *os_move_out(void *start, size_t size);

/* Gives physical memory back and keeps the addresses, which read as zero afterwards. False when
 * the kernel refuses; the memory is unchanged then. */
bool os_purge(void *start, size_t size);

/* The same for several ranges; interrupts other processors once, where the kernel can, and not for
 * each. Returns how many were purged, from the first on: the next one was refused. lazily: as
 * os_purge_lazily does it. */
struct os_range {
    void *start;
    size_t size;
};
size_t os_purge_ranges(const struct os_range *ranges, size_t count, bool lazily);

/* Whether os_purge_ranges may, in the calling thread, use a call that a filter of system calls may
 * not know, and end the program for. Not at first, and in one thread at most. */
void os_allow_vectors(bool allow);

/* MADV_FREE: the kernel may take the memory when it wants it; it stays counted as resident and
 * its content is undefined until written. False where the kernel cannot. */
bool os_purge_lazily(void *start, size_t size);

/* Asks for transparent huge pages in a mapping, or forbids them. A wish: the kernel may not know of
 * them. */
void os_use_huge_pages(void *start, size_t size, bool use);

/* How many bytes of a mapped range are resident; size where the kernel does not say. */
size_t os_resident_in(void *start, size_t size);

/* True when os_barrier_all works: takeovers (takeover.h) depend on it. */
bool os_has_barrier(void);

/* Makes every running thread of this process pass a full memory barrier. */
bool os_barrier_all(void);

/* 16 random bytes: the kernel's, or, where it has none yet or the call is forbidden, those that the
 * process was given at its start. */
void os_get_random(uint64_t random[2]);

/* Milliseconds since an arbitrary point, steady, coarse (a tick of the kernel). */
uint64_t os_now_ms(void);

/* The same, exact, in microseconds. */
uint64_t os_now_us(void);

void os_yield(void);
void os_sleep_us(unsigned microseconds);

/* The caller's kernel thread id. */
int os_thread_id(void);

/* Sleeps while *word is value; wakes one sleeper. Both keep errno: every call of malloc and free
 * may have to wait. */
void os_futex_wait(_Atomic uint32_t *word, uint32_t value);
void os_futex_wake(_Atomic uint32_t *word);

/* The processors that the caller may run on, and those of the process at its start. */
struct os_processors {
    size_t bytes; /* in use; 0: not known */
    uint64_t bits[16];
};
void os_get_processors(struct os_processors *set);
const struct os_processors *os_first_processors(void);

/* All signals, those of libc's own too. */
void os_block_signals(uint64_t *before);
void os_restore_signals(uint64_t before);

/* False in a child of vfork, which has the memory of its parent but not its threads. */
bool os_is_home(void);

/* In the child of a fork: this process is home now. */
void os_move_home(void);

/* False when no thread of the home process has that kernel thread id any more. */
bool os_thread_exists(int id);

/* Sleeps until *word is not value, or for so long, and returns false then. Keeps errno. */
bool os_futex_wait_ms(_Atomic uint32_t *word, uint32_t value, uint64_t milliseconds);

/* Writes all of it if it can, with write(2) alone. */
void os_write(int descriptor, const char *text, size_t length);

/* What a descriptor refers to; false when it is not open. Keeps errno. */
struct os_identity {
    uint64_t device, inode;
};
bool os_identify(int descriptor, struct os_identity *identity);

/* Between these two, what is written into a pipe that nobody reads, or past the limit on the size
 * of files, fails and sends the thread no signal. */
struct os_held_signals {
    uint64_t mask, pending; /* before */
};
void os_hold_write_signals(struct os_held_signals *held);
void os_drop_write_signals(const struct os_held_signals *held);

/* Files that the kernel makes, to be read: opens one below a directory that is open, or by its
 * absolute path with OS_NO_DIRECTORY; or a directory to start from. A descriptor, or negative.
 * These three keep errno. */
#define OS_NO_DIRECTORY (-100) /* AT_FDCWD */
int os_open(int directory, const char *path, bool is_directory);

/* Reads on from an offset; returns the length, 0 at the end and when it cannot be read. */
size_t os_read_at(int descriptor, uint64_t offset, char *text, size_t capacity);

void os_close(int descriptor);

/* Reads a small file by its absolute path; returns its length, 0 when it cannot be read. A zero
 * byte follows the text. */
size_t os_read_file(const char *path, char *text, size_t capacity);

/* Resident bytes of this process as the kernel counts them, from /proc/self/statm; 0 if unknown. */
size_t os_resident_bytes(void);

/* The most that it ever had, from /proc/self/status; 0 if unknown. */
size_t os_peak_resident_bytes(void);

/* Opens a file to add to, which is made if need be, for its owner alone. A descriptor, or negative.
 * Keeps errno. */
int os_open_to_append(const char *path);

/* True when the process has rights that its caller may not have (setuid and the like). */
bool os_is_secure(void);

int os_process_id(void);

/* From now on the handler is called for the signal, on the alternate stack if there is one; system
 * calls go on after it where the kernel can. */
void os_handle_signal(int number, void (*handler)(int));

#ifdef EBB_PREFIXED
/* For tests: when set, asked before each call that can be refused; true makes it fail. */
enum os_call {
    OS_CALL_MAP,
    OS_CALL_COMMIT,
    OS_CALL_UNMAP,
    OS_CALL_REMAP,
    OS_CALL_PURGE,
    OS_CALL_BARRIER,
    OS_CALL_THREAD
};
extern bool (*os_refuse)(enum os_call call);
#define OS_REFUSED(call) (os_refuse != NULL && os_refuse(call) && (errno = ENOMEM))

/* For the test that shows what the barrier is for: os_barrier_all says it is done and does nothing.
 */
extern bool os_skip_barrier;
#else
#define OS_REFUSED(call) false
#endif

#endif
