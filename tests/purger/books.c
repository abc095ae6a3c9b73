/* books: what the library says of the heap is what the kernel says. At the peak, when
 * all but one block in 32 is free and kept, when it is given back, and after the fall: live,
 * cached, free and resident bytes and metadata of malloc_info together are the process's anonymous
 * memory, but for what it had before the first block; and what is left to the kernel
 * (EBBMALLOC_PURGE_ADVICE=free) is its LazyFree. mallinfo2 says the same as malloc_info, and what
 * is live is what the program may use.
 *
 * The tolerance is for blocks' last OS pages, of which the program touches a part, and for what the
 * sweep is still about.
 */
#define _GNU_SOURCE
#include "support.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "older.h"

#define TOLERANCE(peak) ((peak) / 100 + 512 * KiB)
#define TABLES (256 * KiB) /* what libc has allocated for itself, at most */
#define SURVIVORS 32       /* one small block in so many */

enum { SMALL, LARGE, HUGE_, ASLEEP, LOADS }; /* the last one is another thread's */

static struct load loads[LOADS] = {
    [SMALL] = {.bytes = 48 * MiB, .least = 256, .most = 4 * KiB},
    [LARGE] = {.bytes = 48 * MiB, .least = 64 * KiB, .most = 2 * MiB},
    [HUGE_] = {.bytes = 60 * MiB, .least = 20 * MiB, .most = 20 * MiB},
    [ASLEEP] = {.bytes = 16 * MiB, .least = 16, .most = 2 * KiB},
};

static const char *part;
static size_t usable_bytes; /* of blocks that are live */
static size_t other_bytes;  /* anonymous memory that is not the heap's */
static size_t peak_bytes;
static unsigned broken;

static size_t books_live(void)
{
    return books_number("live", "small") + books_number("live", "large") +
           books_number("live", "huge");
}

static size_t books_resident(void)
{
    return books_live() + books_number("free", "cached") + books_number("free", "spans") +
           books_number("free", "dirty") + books_number("free", "lazy") +
           books_number("free", "kept") + books_number("system", "metadata");
}

static void require_equal(const char *when, const char *what, size_t books, size_t kernel)
{
    size_t apart = books > kernel ? books - kernel : kernel - books;
    report("%s, %s: %s: %zu KiB by the library's books, %zu KiB by the kernel's", part, when, what,
           books / KiB, kernel / KiB);
    if (apart <= TOLERANCE(peak_bytes))
        return;
    report("%s, %s: %s: BROKEN: %zu KiB apart, allowed are %zu", part, when, what, apart / KiB,
           TOLERANCE(peak_bytes) / KiB);
    broken++;
}

/* Two looks, between which malloc_info's stream comes and goes. */
static void require_near(const char *when, const char *field, size_t info, size_t info_of_text)
{
    size_t apart = info > info_of_text ? info - info_of_text : info_of_text - info;
    if (apart > 64 * KiB)
        fail("%s: %s is %zu bytes by mallinfo2, %zu by malloc_info", when, field, info,
             info_of_text);
}

static void compare(const char *when)
{
    size_t live = books_live();
    require_equal(when, "resident", books_resident(), rollup_bytes("Anonymous") - other_bytes);
    require_equal(when, "lazily freed", books_number("free", "lazy"), rollup_bytes("LazyFree"));
    if (live < usable_bytes || live > usable_bytes + TABLES)
        fail("%s, %s: %zu KiB are live by the books, %zu KiB are usable", part, when, live / KiB,
             usable_bytes / KiB);
    struct mallinfo2 info = mallinfo2();
    require_near(when, "arena", info.arena, info.uordblks + info.fordblks);
    require_near(when, "uordblks", info.uordblks,
                 books_number("live", "small") + books_number("live", "large"));
    require_near(when, "hblkhd", info.hblkhd, books_number("live", "huge"));
    require_near(when, "fsmblks", info.fsmblks, books_number("free", "cached"));
    require_near(when, "keepcost", info.keepcost,
                 books_number("free", "dirty") + books_number("free", "kept"));
}

static void rise(struct load *load, uint64_t stream)
{
    load_rise(load, stream);
    for (size_t i = 0; i < load->count; i++)
        usable_bytes += malloc_usable_size(load->blocks[i]);
}

/* Frees all blocks but one in so many, or the rest of them. */
static void fall(struct load *load, size_t one_in)
{
    for (size_t i = 0; i < load->count; i++) {
        if (load->blocks[i] == NULL || (one_in != 0 && i % one_in == 0))
            continue;
        usable_bytes -= malloc_usable_size(load->blocks[i]);
        free(load->blocks[i]);
        load->blocks[i] = NULL;
    }
}

static pthread_barrier_t barrier;

static void *rise_fall_sleep(void *unused)
{
    touch_stack();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* the start is measured */
    rise(&loads[ASLEEP], ASLEEP);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* the peak is measured */
    fall(&loads[ASLEEP], SURVIVORS);
    pthread_barrier_wait(&barrier);
    for (;;)
        pause();
    return unused;
}

static void settle(bool keeps)
{
    if (keeps) {
        malloc_trim(0);
        return;
    }
    sleep_seconds(FALL_SECONDS);
    if (!purger_ends(5))
        fail("the purger is still there after 5 s of quiet");
}

/* keeps: with a delay so long that nothing is given back by itself. */
static void run_phases(bool keeps)
{
    pthread_t thread;
    touch_stack();
    for (unsigned i = 0; i < LOADS; i++)
        load_prepare(&loads[i]);
    pthread_barrier_init(&barrier, NULL, 2);
    if (pthread_create(&thread, NULL, rise_fall_sleep, NULL) != 0)
        fail("pthread_create");
    books_resident(); /* what printing needs is there from now on */
    pthread_barrier_wait(&barrier);
    other_bytes = rollup_bytes("Anonymous") - books_resident();
    usable_bytes = books_live();

    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < ASLEEP; i++)
        rise(&loads[i], i);
    peak_bytes = usable_bytes;
    compare("at the peak");

    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    fall(&loads[SMALL], SURVIVORS);
    fall(&loads[LARGE], 0);
    fall(&loads[HUGE_], 0);
    if (keeps)
        compare("with some blocks left and the rest kept");
    settle(keeps);
    compare("with some blocks left");

    fall(&loads[SMALL], 0);
    fall(&loads[ASLEEP], 0);
    settle(keeps);
    compare("after the fall");
    if (broken != 0)
        promise_broken("%u figures are apart from the kernel's", broken);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[0], "part") == 0) {
        stress_begin_part("books", argv[2]);
        part = argv[1];
        run_phases(strcmp(argv[1], "kept") == 0);
        return 0;
    }
    stress_begin(argc, argv, "books", 60);
    unsigned failed = run_part("kept", "EBBMALLOC_PURGE_DELAY=3600000", 25) != 0;
    failed += run_part("given back", NULL, 25) != 0;
    failed += run_part("left to the kernel", "EBBMALLOC_PURGE_ADVICE=free", 25) != 0;
    if (failed != 0)
        fail("in %u of 3 runs", failed);
    return 0;
}
