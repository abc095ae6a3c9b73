#include "target.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "os.h"
#include "text.h"

/* What is looked at of a file's start: its header, its segments and, as linkers place them, its
 * notes. */
#define START_BYTES 4096

/* More notes than this are not looked at, in bytes. */
#define NOTE_BYTES 4096

/* How long to read before the process's threads are given a moment, and that moment; and of how
 * many pages the kernel is asked at a time in the slower of two ways, which takes less than the
 * former (as RESIDENT_MOST do in the other one). */
#define READ_US 250
#define MOMENT_NS 100000
#define WORDS_PAGES 2048

pid_t target_parse(const char *subcommand, const char *text)
{
    char *end;
    long pid = strtol(text, &end, 10);
    if (*text >= '0' && *text <= '9' && *end == '\0' && pid > 0 && pid <= INT32_MAX)
        return (pid_t)pid;
    complain("%s: %s: not a process id", subcommand, text);
    return 0;
}

size_t target_list(pid_t **pids)
{
    size_t count = 0;
    DIR *processes = opendir("/proc");
    *pids = NULL;
    for (struct dirent *entry; processes != NULL && (entry = readdir(processes)) != NULL;) {
        long pid = strtol(entry->d_name, NULL, 10);
        pid_t *more = pid > 0 ? realloc(*pids, (count + 1) * sizeof **pids) : NULL;
        if (more == NULL)
            continue;
        *pids = more;
        more[count++] = (pid_t)pid;
    }
    if (processes != NULL)
        closedir(processes);
    return count;
}

/* ---- Reading, and the lock of the kernel's that it takes --------------------------------------
 *
 * The kernel reads a process's memory and page tables under a lock, for 0.15 ms at the most, and a
 * thread of the process that maps or unmaps memory waits for it. Two things make it wait longer
 * (bench/NOTES.md has what was measured):
 *
 * - The kernel gives us the lock while we sleep, waiting for it, and somebody else is on our
 *   processor: until we are let at it again, which on a busy machine takes 4 ms, the lock is ours.
 *   So we go before all others while we read, where we are allowed to (CAP_SYS_NICE), and leave the
 *   processor to them for a moment after each while. Where we are not, we go on: who stops loses
 *   the processor more often.
 * - The thread is woken, and we have the lock again before it, for up to 4 ms (rwsem.c: readers may
 *   steal the lock). That happens where one read follows the other with next to nothing between,
 *   in read_pagemap: there we stop in any case.
 */

static bool hurries;

static bool set_policy(int policy)
{
    const struct sched_param parameter = {.sched_priority = policy == SCHED_RR};
    return sched_setscheduler(0, policy, &parameter) == 0;
}

void target_hurry(bool hurry)
{
    if (hurry)
        hurries = sched_getscheduler(0) == SCHED_OTHER && set_policy(SCHED_RR);
    else if (hurries)
        hurries = !set_policy(SCHED_OTHER);
}

static void give_way(void)
{
    static uint64_t since_us;
    const struct timespec moment = {0, MOMENT_NS};
    if (os_now_us() - since_us < READ_US)
        return;
    nanosleep(&moment, NULL);
    since_us = os_now_us();
}

bool target_read(const struct target *target, uintptr_t at, void *to, size_t size)
{
    struct iovec local = {to, size}, remote = {(void *)at, size};
    if (hurries)
        give_way();
    return process_vm_readv(target->pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

/* A word for each page, of which the top bit is what is wanted. */
static bool read_pagemap(int books, size_t page, bool *resident, size_t count)
{
    uint64_t words[WORDS_PAGES];
    for (size_t done = 0, more; done < count; done += more) {
        more = min_size(count - done, WORDS_PAGES);
        size_t bytes = more * sizeof *words;
        give_way();
        if (pread(books, words, bytes, (off_t)((page + done) * sizeof *words)) != (ssize_t)bytes)
            return false;
        for (size_t i = 0; i < more; i++)
            resident[done + i] = words[i] >> 63;
    }
    return true;
}

/* The same in a quarter of the time, by ranges; from Linux 6.7 on (ioctl(PAGEMAP_SCAN),
 * Documentation/admin-guide/mm/pagemap.rst; Debian 12 has no header for it yet). */
static bool scan_pagemap(int books, size_t page, bool *resident, size_t count)
{
    struct range {
        uint64_t start, end, categories;
    } ranges[RESIDENT_MOST / 2]; /* there is a page between two */
    enum { IS_PRESENT = 8 };
    struct {
        uint64_t size, flags, start, end, walk_end, ranges, ranges_most, pages_most;
        uint64_t inverted, all_of, any_of, told;
    } scan = {.size = sizeof scan,
              .start = page * os_page_size,
              .end = (page + count) * os_page_size,
              .ranges = (uintptr_t)ranges,
              .ranges_most = RESIDENT_MOST / 2,
              .all_of = IS_PRESENT,
              .told = IS_PRESENT};
    int found = ioctl(books, _IOC(_IOC_READ | _IOC_WRITE, 'f', 16, sizeof scan), &scan);
    memset(resident, false, count * sizeof *resident);
    for (int i = 0; i < found; i++)
        for (uint64_t at = ranges[i].start; at < ranges[i].end; at += os_page_size)
            resident[at / os_page_size - page] = true;
    return found >= 0;
}

bool target_read_resident(int books, size_t page, bool *resident, size_t count)
{
    for (size_t done = 0, more; done < count; done += more) {
        more = min_size(count - done, RESIDENT_MOST);
        if (hurries)
            give_way();
        if (!scan_pagemap(books, page + done, resident + done, more) &&
            !read_pagemap(books, page + done, resident + done, more))
            return false;
    }
    return true;
}

bool target_write(const struct target *target, uintptr_t at, const void *from, size_t size)
{
    struct iovec local = {(void *)from, size}, remote = {(void *)at, size};
    return process_vm_writev(target->pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

size_t target_read_file(const struct target *target, const char *name, char *text, size_t capacity)
{
    char path[128];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)target->pid, name);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor < 0 ? 0 : read(descriptor, text, capacity - 1);
    if (descriptor >= 0)
        close(descriptor);
    text[length > 0 ? length : 0] = '\0';
    return length > 0 ? (size_t)length : 0;
}

/* What stands behind a field's colon in a file of that kind, for free(3); NULL: there is none. Line
 * by line: the one with the user's groups may be of any length. */
static char *status_line(const struct target *target, const char *name, const char *field)
{
    char path[64], *line = NULL;
    size_t capacity = 0, length = strlen(field);
    snprintf(path, sizeof path, "/proc/%d/%s", (int)target->pid, name);
    FILE *file = fopen(path, "re");
    bool found = false;
    while (file != NULL && !found && getline(&line, &capacity, file) > 0)
        found = strncmp(line, field, length) == 0 && line[length] == ':';
    if (found)
        memmove(line, line + length + 1, strlen(line + length + 1) + 1);
    if (file != NULL)
        fclose(file);
    if (found)
        return line;
    free(line);
    return NULL;
}

uint64_t target_status(const struct target *target, const char *field, int base)
{
    char *line = status_line(target, "status", field);
    uint64_t value = line != NULL ? strtoull(line, NULL, base) : 0;
    free(line);
    return value;
}

size_t target_status_bytes(const struct target *target, const char *field)
{
    return target_status(target, field, 10) * KiB;
}

static void read_name(const struct target *target, const char *file, char *name, size_t capacity)
{
    char text[64];
    target_read_file(target, file, text, sizeof text);
    text[strcspn(text, "\n")] = '\0';
    text_tame(name, capacity, text);
}

/* ---- Threads ----------------------------------------------------------------------------------
 */

/* A thread's id as we see it, and as it sees itself. */
struct thread_ids {
    int here, there;
};

/* Of one process at a time. */
static struct {
    pid_t pid;
    struct thread_ids *ids; /* by the second; NULL: they are the same */
    size_t count;
} threads;

static int compare_ids(const void *a, const void *b)
{
    const struct thread_ids *first = a, *second = b;
    return (first->there > second->there) - (first->there < second->there);
}

/* The last number of the line NSpid, which has one for each namespace of process ids from ours to
 * the thread's own; 0 when it cannot be read. */
static int id_there(const struct target *target, int here)
{
    char file[64];
    int last = 0;
    snprintf(file, sizeof file, "task/%d/status", here);
    char *numbers = status_line(target, file, "NSpid"), *next;
    for (char *at = numbers; at != NULL && (last = (int)strtol(at, &next, 10), *next == '\t');)
        at = next;
    free(numbers);
    return last;
}

static void read_thread_ids(const struct target *target)
{
    char path[64];
    free(threads.ids);
    threads.pid = target->pid;
    threads.ids = NULL;
    threads.count = 0;
    int id = id_there(target, target->pid);
    if (id == target->pid || id == 0)
        return;
    snprintf(path, sizeof path, "/proc/%d/task", (int)target->pid);
    DIR *tasks = opendir(path);
    for (struct dirent *entry; tasks != NULL && (entry = readdir(tasks)) != NULL;) {
        int here = (int)strtol(entry->d_name, NULL, 10);
        struct thread_ids *more =
            here > 0 ? realloc(threads.ids, (threads.count + 1) * sizeof *more) : NULL;
        if (more == NULL)
            continue;
        threads.ids = more;
        more[threads.count++] = (struct thread_ids){here, id_there(target, here)};
    }
    if (tasks != NULL)
        closedir(tasks);
    if (threads.ids != NULL)
        qsort(threads.ids, threads.count, sizeof *threads.ids, compare_ids);
}

void target_thread_name(const struct target *target, int id, char *name, size_t capacity)
{
    char file[64];
    if (threads.pid != target->pid)
        read_thread_ids(target);
    if (threads.ids != NULL) {
        struct thread_ids key = {.there = id}, *found;
        found = bsearch(&key, threads.ids, threads.count, sizeof key, compare_ids);
        id = found != NULL ? found->here : 0;
    }
    snprintf(file, sizeof file, "task/%d/comm", id);
    read_name(target, file, name, capacity);
}

/* ---- The library in its memory ----------------------------------------------------------------
 */

/* The note's words in `notes`, which lie at `at` in the process: where the root is, or 0. */
static uintptr_t find_note(const char *notes, size_t size, uintptr_t at)
{
    ElfW(Nhdr) head;
    for (size_t place = 0; place <= size && size - place >= sizeof head;) {
        memcpy(&head, notes + place, sizeof head);
        size_t name = place + sizeof head;
        if (head.n_namesz > size || head.n_descsz > size)
            return 0;
        size_t words = name + round_up(head.n_namesz, 4);
        int32_t distance;
        if (words + sizeof distance > size)
            return 0;
        if (head.n_type == ROOT_NOTE_TYPE && head.n_namesz == sizeof ROOT_NOTE_NAME &&
            memcmp(notes + name, ROOT_NOTE_NAME, sizeof ROOT_NOTE_NAME) == 0 &&
            head.n_descsz == sizeof distance) {
            memcpy(&distance, notes + words, sizeof distance);
            return at + words + (uintptr_t)(intptr_t)distance;
        }
        place = words + round_up(head.n_descsz, 4);
    }
    return 0;
}

/* Of a file that is mapped from its beginning at `base`. */
static uintptr_t find_root(const struct target *target, uintptr_t base)
{
    char start[START_BYTES], notes[NOTE_BYTES];
    ElfW(Ehdr) header;
    ElfW(Phdr) segment;
    if (!target_read(target, base, start, sizeof start))
        return 0;
    memcpy(&header, start, sizeof header);
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_phentsize != sizeof segment || header.e_phoff > sizeof start)
        return 0;
    size_t room = (sizeof start - header.e_phoff) / sizeof segment;
    uintptr_t bias = base;
    for (size_t i = 0; i < min_size(header.e_phnum, room); i++) {
        memcpy(&segment, start + header.e_phoff + i * sizeof segment, sizeof segment);
        if (segment.p_type == PT_LOAD && segment.p_offset == 0)
            bias = base - segment.p_vaddr;
    }
    for (size_t i = 0; i < min_size(header.e_phnum, room); i++) {
        memcpy(&segment, start + header.e_phoff + i * sizeof segment, sizeof segment);
        if (segment.p_type != PT_NOTE)
            continue;
        size_t size = min_size(segment.p_memsz, sizeof notes);
        uintptr_t at = bias + segment.p_vaddr, root = 0;
        if (at - base <= sizeof start - size)
            root = find_note(start + (at - base), size, at);
        else if (target_read(target, at, notes, size))
            root = find_note(notes, size, at);
        if (root != 0)
            return root;
    }
    return 0;
}

/* The first mapping of a file whose notes lead to a root; 0: there is none. */
static uintptr_t find_library(const struct target *target, FILE *maps)
{
    char *line = NULL;
    size_t capacity = 0;
    uintptr_t root = 0;
    while (root == 0 && getline(&line, &capacity, maps) > 0) {
        uintptr_t base, end, offset;
        char rights[8];
        unsigned long inode;
        if (sscanf(line, "%lx-%lx %7s %lx %*s %lu", &base, &end, rights, &offset, &inode) == 5 &&
            offset == 0 && inode != 0 && rights[0] == 'r' && end - base >= START_BYTES)
            root = find_root(target, base);
    }
    free(line);
    return root;
}

/* ---- Whether it may be looked at --------------------------------------------------------------
 */

static enum exit_status refuse(enum exit_status status, bool silent, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum exit_status refuse(enum exit_status status, bool silent, const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (!silent)
        complain("%s", line);
    return status;
}

/* The letter of its state in /proc/PID/stat, behind the name in parentheses; 0: no such process. */
static char state_of(const struct target *target)
{
    char text[512];
    target_read_file(target, "stat", text, sizeof text);
    const char *behind = strrchr(text, ')');
    return behind != NULL && behind[1] == ' ' ? behind[2] : '\0';
}

/* Why there is no root to be had, by then. */
static enum exit_status explain(const struct target *target, int error, bool silent)
{
    char state = state_of(target);
    int pid = (int)target->pid;
    if (state == '\0' || state == 'Z' || state == 'X')
        return refuse(EXIT_NO_PROCESS, silent,
                      state == '\0' ? "%d: no such process" : "%d: the process has ended", pid);
    if (error == EACCES || error == EPERM)
        return refuse(EXIT_NOT_ALLOWED, silent,
                      "%d (%s): not allowed to read its memory; be its user or root (and see "
                      "kernel.yama.ptrace_scope)",
                      pid, target->name);
    if (target_status_bytes(target, "VmSize") == 0)
        return refuse(EXIT_NO_PROCESS, silent,
                      "%d: the process has ended, or is one of the kernel's own", pid);
    return refuse(EXIT_NO_LIBRARY, silent,
                  "%d (%s): not on ebbmalloc; start it by: ebb run COMMAND", pid, target->name);
}

enum exit_status target_open(struct target *target, pid_t pid, bool silent)
{
    char path[64], probe;
    *target = (struct target){.pid = pid, .silent = silent};
    read_name(target, "comm", target->name, sizeof target->name);
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    if (maps == NULL)
        return explain(target, errno, silent);
    target_hurry(true);
    /* The kernel's word on whether reading is allowed comes with the first try, at any address. */
    struct iovec local = {&probe, 1}, remote = {NULL, 1};
    bool denied = process_vm_readv(pid, &local, 1, &remote, 1, 0) < 0 && errno == EPERM;
    target->root_at = denied ? 0 : find_library(target, maps);
    bool known = target->root_at != 0 &&
                 target_read(target, target->root_at, &target->root, sizeof target->root);
    target_hurry(false);
    fclose(maps);
    if (!known)
        return explain(target, denied ? EPERM : 0, silent);
    const struct root *root = &target->root;
    if (memcmp(root->magic, ROOT_MAGIC, sizeof root->magic) == 0 &&
        memchr(root->library, '\0', sizeof root->library) != NULL)
        text_tame(target->version, sizeof target->version, root->library);
    if (*target->version == '\0')
        return refuse(EXIT_OTHER_BUILD, silent,
                      "%d (%s): its ebbmalloc's records are damaged, or of an unknown kind",
                      (int)pid, target->name);
    if (root->layout != ROOT_LAYOUT)
        return refuse(EXIT_OTHER_BUILD, silent,
                      "%d (%s): runs on another build of ebbmalloc (%s); use the ebb that came "
                      "with it",
                      (int)pid, target->name, target->version);
    return EXIT_DONE;
}
