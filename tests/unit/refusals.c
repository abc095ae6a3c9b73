/* The kernel refuses, at every place: after the manner of SQLite's tests, one scenario with every
 * kind of call is run again and again, each time in a process that has not used the library yet.
 * In run N the Nth call of a kind to the kernel is refused (or the Nth and all that follow), until
 * a run needs fewer than N. Whatever is refused:
 *
 *   - nothing crashes; a call that fails returns NULL with ENOMEM; live blocks keep every byte;
 *   - when the kernel relents, the same scenario runs without a failure in the same process;
 *   - after that and malloc_trim nothing is lost: no block, page or mapping more is in use than in
 *     a process in which nothing was refused.
 */
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stats.h"

/* ---- Blocks that are held ----------------------------------------------------------------------
 */

enum { SLOTS = 600 };

struct held {
    char *start; /* NULL: not in use */
    size_t size;
};

static struct held held[SLOTS];
static size_t failures;

/* Whole for small blocks, for others eight bytes in each 64 KiB and at the end: enough to see a
 * page that is lost or another's. */
static void stamp(const struct held *block, uint64_t tag)
{
    if (block->size <= 64 * KiB) {
        pattern_write(block->start, block->size, tag);
        return;
    }
    for (size_t offset = 0; offset + 8 <= block->size; offset += 64 * KiB)
        pattern_write(block->start + offset, 8, tag + offset);
    pattern_write(block->start + block->size - 8, 8, ~tag);
}

static bool is_stamped(const char *start, size_t size, size_t stamped_size, uint64_t tag)
{
    if (stamped_size <= 64 * KiB)
        return pattern_holds(start, size, tag);
    for (size_t offset = 0; offset + 8 <= size; offset += 64 * KiB)
        if (!pattern_holds(start + offset, 8, tag + offset))
            return false;
    return size < stamped_size || pattern_holds(start + size - 8, 8, ~tag);
}

static struct held *empty_slot(void)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (held[i].start == NULL)
            return &held[i];
    require(!"a slot is empty");
    return NULL;
}

/* What every failed call owes. errno was 0 before it. */
static bool succeeded(const void *block)
{
    require((block != NULL) == (errno == 0));
    require(block != NULL || errno == ENOMEM);
    failures += block == NULL;
    return block != NULL;
}

static struct held *hold(char *start, size_t size)
{
    if (!succeeded(start))
        return NULL;
    require(ebb_malloc_usable_size(start) >= size);
    struct held *slot = empty_slot();
    *slot = (struct held){start, size};
    stamp(slot, (uint64_t)(slot - held));
    return slot;
}

static struct held *try_malloc(size_t size)
{
    errno = 0;
    return hold(ebb_malloc(size), size);
}

static void try_calloc(size_t size)
{
    errno = 0;
    char *start = ebb_calloc(1, size);
    if (start != NULL)
        for (size_t offset = 0; offset < size; offset += 256)
            require(start[offset] == 0);
    hold(start, size);
}

static void try_memalign(size_t alignment, size_t size)
{
    errno = 0;
    char *start = ebb_memalign(alignment, size);
    require((uintptr_t)start % alignment == 0);
    hold(start, size);
}

static void try_realloc(struct held *slot, size_t size)
{
    if (slot == NULL)
        return;
    errno = 0;
    char *start = ebb_realloc(slot->start, size);
    uint64_t tag = (uint64_t)(slot - held);
    if (!succeeded(start)) {
        require(is_stamped(slot->start, slot->size, slot->size, tag));
        return;
    }
    require(is_stamped(start, size < slot->size ? size : slot->size, slot->size, tag));
    *slot = (struct held){start, size};
    stamp(slot, tag);
}

static void check(const struct held *slot)
{
    require(is_stamped(slot->start, slot->size, slot->size, (uint64_t)(slot - held)));
}

static void check_all(void)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (held[i].start != NULL)
            check(&held[i]);
}

/* Every `step`th of those held. */
static void free_some(size_t step)
{
    for (size_t i = 0; i < SLOTS; i += step) {
        if (held[i].start == NULL)
            continue;
        check(&held[i]);
        errno = 4711;
        ebb_free(held[i].start);
        require(errno == 4711);
        held[i].start = NULL;
    }
}

/* ---- The scenario ------------------------------------------------------------------------------
 */

static void ask_for_every_kind(void)
{
    for (size_t size = 1; size <= 32 * KiB; size += size / 3 + 1)
        try_malloc(size);
    for (int i = 0; i < 100; i++)
        try_malloc(3000);
    for (size_t size = 33 * KiB; size <= 4 * MiB; size *= 3)
        try_malloc(size);
    for (int i = 0; i < 9; i++) /* more than a chunk holds */
        try_malloc(4 * MiB);
    try_malloc(5 * MiB);
    try_malloc(70 * MiB); /* too large to be kept when it is freed */
    try_calloc(100);
    try_calloc(100 * KiB);
    try_calloc(6 * MiB);
    for (size_t alignment = 64; alignment <= 128 * MiB; alignment *= 8)
        try_memalign(alignment, 5000);
    try_memalign(16 * MiB, 5 * MiB);
}

/* Up and down through all kinds, with changes within each. */
static void resize_across_all_kinds(void)
{
    static const size_t sizes[] = {2000,    30 * KiB, 40 * KiB, 300 * KiB, 2 * MiB,
                                   5 * MiB, 7 * MiB,  12 * MiB, 5 * MiB,   3 * MiB,
                                   200000,  60 * KiB, 9000,     10};
    struct held *slots[] = {try_malloc(10), try_malloc(10)};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t slot = 0; slot < 2; slot++)
            try_realloc(slots[slot], sizes[i]);
}

static pthread_barrier_t meeting;

/* Frees what the first thread allocated, and leaves some of its own to it. */
static void *live_for_a_while(void *argument)
{
    free_some(3);
    for (size_t size = 10; size <= 20000; size += size / 2)
        try_malloc(size);
    pthread_barrier_wait(&meeting); /* the first thread forks now */
    pthread_barrier_wait(&meeting);
    try_malloc(300);
    return argument;
}

/* In the child: works on, with the thread's arena an orphan. */
static void go_on_in_child(void)
{
    check_all();
    for (size_t size = 10; size <= 6 * MiB; size *= 5)
        try_malloc(size);
    free_some(1);
    ebb_malloc_trim(0);
    _exit(0);
}

static void fork_and_wait(void)
{
    int status;
    pid_t child = fork();
    require(child >= 0);
    if (child == 0)
        go_on_in_child();
    require(waitpid(child, &status, 0) == child);
    require(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void start_a_thread_and_fork(void)
{
    pthread_t thread;
    require(pthread_barrier_init(&meeting, NULL, 2) == 0);
    require(pthread_create(&thread, NULL, live_for_a_while, NULL) == 0);
    pthread_barrier_wait(&meeting);
    fork_and_wait();
    pthread_barrier_wait(&meeting);
    require(pthread_join(thread, NULL) == 0);
}

static void scenario(void)
{
    ask_for_every_kind();
    resize_across_all_kinds();
    start_a_thread_and_fork();
    check_all();
    free_some(2);
    ebb_malloc_trim(0);
    ask_for_every_kind();
    check_all();
    free_some(1);
    ebb_malloc_trim(0);
}

/* ---- One run ------------------------------------------------------------------------------------
 */

/* What is asked of a run, and what it tells; shared with its process. */
struct run {
    unsigned kinds;
    size_t first, last;
    bool background_thread; /* the purger's; without it every run makes the same calls */
    size_t refused, failures;
    size_t mapped, metadata, address_space;
};

static bool is_nothing_in_use(struct stats *stats)
{
    ebb_malloc_trim(0);
    stats_collect(stats, NULL);
    return stats->small_live == 0 && stats->cached == 0 && stats->spans == 0 &&
           stats->large_live == 0 && stats->large_blocks == 0 && stats->huge_live == 0 &&
           stats->huge_blocks == 0 && stats->huge_kept == 0 && stats->pages_dirty == 0 &&
           stats->small_free == 0; /* no page that is neither free nor in use */
}

/* Everything was freed. The purger's thread, if it is on, may be holding something at the moment.
 */
static void require_nothing_in_use(struct run *run)
{
    struct stats stats;
    bool nothing = is_nothing_in_use(&stats);
    for (int tries = 0; !nothing && run->background_thread && tries < 200; tries++) {
        usleep(10000);
        nothing = is_nothing_in_use(&stats);
    }
    require(nothing);
    run->mapped = stats.mapped;
    run->metadata = stats.metadata;
    run->address_space = address_space();
}

static void run_scenario(void *argument)
{
    struct run *run = argument;
    setenv("EBBMALLOC_BACKGROUND_THREAD", run->background_thread ? "auto" : "off", 1);
    refuse(run->kinds, run->first, run->last);
    scenario();
    refuse_none();
    run->refused = refused_count();
    run->failures = failures;
    free_some(1);
    failures = 0;
    scenario();
    require(failures == 0);
    require_nothing_in_use(run);
}

static struct run *shared_run;

static struct run start_run(unsigned kinds, size_t first, size_t last, bool background_thread)
{
    char said[4096];
    *shared_run = (struct run){kinds, first, last, background_thread, 0, 0, 0, 0, 0};
    int status = run_in_child(run_scenario, shared_run, said, sizeof said);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || said[0] != '\0')
        fail_msg("calls %zu to %zu of kinds %#x refused: status %#x, said: %s", first, last, kinds,
                 status, said);
    return *shared_run;
}

/* ---- All runs -----------------------------------------------------------------------------------
 */

/* Regions of metadata are never given back; one more may be begun. */
#define SLACK (512 * KiB)

/* Records in use: one chunk's may be more, and a few of huge blocks, which are kept for reuse. */
#define METADATA_SLACK (16 * KiB)

static struct run reference;

static int run_without_refusals(void **state)
{
    (void)state;
    shared_run =
        mmap(NULL, sizeof *shared_run, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(shared_run != MAP_FAILED);
    reference = start_run(0, 1, SIZE_MAX, false);
    print_message("without refusals: %zu KiB mapped at the end, %zu MiB of addresses\n",
                  reference.mapped / KiB, reference.address_space / MiB);
    return reference.failures == 0 ? 0 : -1;
}

/* Refused unmapping may cost addresses for good, and so may a refused move: the kernel does not
 * tell whether it has unmapped the target. */
static void require_nothing_lost(const struct run *run)
{
    assert_true(run->mapped <= reference.mapped + SLACK);
    assert_true(run->metadata <= reference.metadata + METADATA_SLACK);
    if ((run->kinds & (KIND(OS_CALL_UNMAP) | KIND(OS_CALL_REMAP))) == 0)
        assert_true(run->address_space <= reference.address_space + SLACK);
}

struct counts {
    size_t runs, refused, failed_runs;
};

/* `span` calls from the Nth on are refused, for every N. */
static struct counts refuse_everywhere(unsigned kinds, size_t span)
{
    struct counts counts = {0, 0, 0};
    for (size_t first = 1;; first++) {
        size_t last = span == SIZE_MAX ? SIZE_MAX : first + span - 1;
        struct run run = start_run(kinds, first, last, false);
        require_nothing_lost(&run);
        if (run.refused == 0) {
            assert_int_equal(run.failures, 0);
            break;
        }
        counts.runs++;
        counts.refused += run.refused;
        counts.failed_runs += run.failures != 0;
    }
    return counts;
}

static void refuse_kind(enum os_call kind, const char *name, bool must_fail_calls)
{
    struct counts single = refuse_everywhere(KIND(kind), 1);
    struct counts rest = refuse_everywhere(KIND(kind), SIZE_MAX);
    print_message("%s: %zu places, refused one by one (calls failed in %zu runs); "
                  "from each on: %zu refusals (%zu runs)\n",
                  name, single.runs, single.failed_runs, rest.refused, rest.failed_runs);
    assert_int_not_equal(single.runs, 0);
    assert_int_not_equal(rest.runs, 0);
    /* Only where memory is asked for can a call fail. */
    assert_int_equal(rest.failed_runs != 0, must_fail_calls);
}

static void refused_mappings_lose_nothing(void **state)
{
    (void)state;
    refuse_kind(OS_CALL_MAP, "map", true);
}

static void refused_commits_lose_nothing(void **state)
{
    (void)state;
    refuse_kind(OS_CALL_COMMIT, "commit", true);
}

static void refused_unmappings_lose_no_memory(void **state)
{
    (void)state;
    refuse_kind(OS_CALL_UNMAP, "unmap", false);
}

static void refused_remaps_lose_nothing(void **state)
{
    (void)state;
    refuse_kind(OS_CALL_REMAP, "remap", false);
}

static void refused_purges_lose_nothing(void **state)
{
    (void)state;
    refuse_kind(OS_CALL_PURGE, "purge", false);
}

static void refused_barriers_lose_nothing(void **state)
{
    (void)state;
    refuse_kind(OS_CALL_BARRIER, "barrier", false);
}

static void a_kernel_that_refuses_everything_loses_nothing(void **state)
{
    (void)state;
    struct counts counts = {0, 0, 0};
    for (size_t first = 1;; first += first / 8 + 1) {
        struct run run = start_run(ALL_KINDS, first, SIZE_MAX, first % 2);
        require_nothing_lost(&run);
        if (run.refused == 0)
            break;
        counts.runs++;
        counts.refused += run.refused;
    }
    print_message("all kinds: %zu runs, %zu refusals\n", counts.runs, counts.refused);
    assert_int_not_equal(counts.refused, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_mappings_lose_nothing),
        cmocka_unit_test(refused_commits_lose_nothing),
        cmocka_unit_test(refused_unmappings_lose_no_memory),
        cmocka_unit_test(refused_remaps_lose_nothing),
        cmocka_unit_test(refused_purges_lose_nothing),
        cmocka_unit_test(refused_barriers_lose_nothing),
        cmocka_unit_test(a_kernel_that_refuses_everything_loses_nothing),
    };
    return cmocka_run_group_tests_name("refusals", tests, run_without_refusals, NULL);
}
