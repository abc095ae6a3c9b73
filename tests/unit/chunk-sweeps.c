/* Sweeps by policy: what counts as given back, what goes at once and what is left to the kernel,
 * and forks in the middle. Each test begins and ends without a chunk.
 */
#include "support.h"

#include <sys/wait.h>
#include <unistd.h>

#include "chunk.h"
#include "options.h"
#include "purge.h"

static struct run take(size_t pages)
{
    struct run run;
    assert_true(chunk_take(pages, 1, &run));
    return run;
}

static void give(const struct run *run)
{
    chunk_give(run->chunk, run->first, run->pages);
}

static size_t bytes_of(const struct run *run)
{
    return run->pages * PAGE_SIZE;
}

static struct run take_written(size_t pages)
{
    struct run run = take(pages);
    memset(run.start, 0x5a, bytes_of(&run));
    return run;
}

/* ---- At once, or by the advice -----------------------------------------------------------------
 */

/* A trim tells the program whether memory fell: free pages that nobody wrote to do not count. */
static void a_sweep_at_once_counts_what_was_resident_and_no_more(void **state)
{
    (void)state;
    struct run keep = take(1), run = take(16);
    give(&run);
    assert_true(chunk_any_dirty()); /* free, and not known to be clean */
    assert_int_equal(chunk_sweep(SWEEP_NOW, 1), 0);
    assert_false(chunk_any_dirty());
    run = take(16);
    memset(run.start + PAGE_SIZE, 1, 3 * PAGE_SIZE);
    run.start[15 * PAGE_SIZE] = 1;
    give(&run);
    assert_int_equal(chunk_sweep(SWEEP_NOW, 1),
                     round_up(3 * PAGE_SIZE, os_page_size) + os_page_size);
    assert_int_equal(resident_in(run.start, bytes_of(&run)), 0);
    assert_int_equal(chunk_sweep(SWEEP_NOW, 1), 0);
    give(&keep);
}

static void a_sweep_at_once_takes_back_what_was_left_to_the_kernel(void **state)
{
    (void)state;
    struct run keep = take(1), run = take_written(8);
    options.advice = ADVICE_FREE;
    give(&run);
    chunk_sweep(SWEEP_ALL, 1);
    assert_int_equal(resident_in(run.start, bytes_of(&run)), bytes_of(&run));
    assert_int_equal(chunk_sweep(SWEEP_NOW, 1), bytes_of(&run));
    assert_int_equal(resident_in(run.start, bytes_of(&run)), 0);
    struct run again = take(8);
    assert_ptr_equal(again.start, run.start);
    assert_true(again.zero);
    give(&again);
    give(&keep);
}

/* ---- The schedule `immediate` -----------------------------------------------------------------
 */

static void on_the_schedule_immediate_pages_are_clean_when_they_are_free(void **state)
{
    (void)state;
    options.schedule = SCHEDULE_IMMEDIATE;
    struct run keep = take(1), run = take_written(8);
    size_t purged = purge_bytes();
    give(&run);
    assert_int_equal(resident_in(run.start, bytes_of(&run)), 0);
    assert_int_equal(purge_bytes() - purged, bytes_of(&run));
    assert_int_equal(chunk_totals().dirty_bytes, 0);
    assert_false(chunk_any_dirty());
    struct run again = take(8);
    assert_ptr_equal(again.start, run.start);
    assert_true(again.zero);
    assert_true(reads_zero(again.start, bytes_of(&again)));
    give(&again);
    give(&keep);
}

static void what_the_kernel_refuses_to_take_at_once_stays_dirty(void **state)
{
    (void)state;
    options.schedule = SCHEDULE_IMMEDIATE;
    struct run keep = take(1), run = take_written(8);
    refuse(KIND(OS_CALL_PURGE), 1, SIZE_MAX);
    give(&run);
    refuse_none();
    assert_int_equal(refused_count(), 1);
    assert_int_equal(chunk_totals().dirty_bytes, bytes_of(&run));
    struct run again = take(8);
    assert_ptr_equal(again.start, run.start);
    assert_false(again.zero);
    give(&again);
    give(&keep);
}

/* ---- Forks in the middle of a sweep -----------------------------------------------------------
 */

/* Two runs of so many pages, each between pages that stay in use. */
enum { IN_HAND = 8 };

static struct {
    unsigned fork_at; /* which purge, counted from 1 */
    unsigned purges;
    char *base;        /* of the chunk */
    size_t free_bytes; /* in all, when no page is in the sweep's hands */
} fork_plan;

/* What the sweep of the parent had taken out of the buddy is found, and clean in the end. (There is
 * no fork handler here, which would have put it back already.) */
static _Noreturn void go_on_in_child(void)
{
    struct run run;
    require(chunk_totals().free_bytes == fork_plan.free_bytes - IN_HAND * PAGE_SIZE);
    require(chunk_any_dirty());
    chunk_sweep(SWEEP_ALL, 1);
    require(chunk_totals().free_bytes == fork_plan.free_bytes);
    require(!chunk_any_dirty());
    for (size_t i = 0; i < 2; i++) {
        require(chunk_take(IN_HAND, 1, &run));
        require(run.start == fork_plan.base + (2 * i + 1) * IN_HAND * PAGE_SIZE);
        require(run.zero && reads_zero(run.start, IN_HAND * PAGE_SIZE));
    }
    _exit(0);
}

/* Asked by the sweep at a time when it holds no lock. */
static bool fork_at_purge(enum os_call call)
{
    int status;
    if (call != OS_CALL_PURGE || ++fork_plan.purges != fork_plan.fork_at)
        return false;
    pid_t child = fork();
    require(child >= 0);
    if (child == 0)
        go_on_in_child();
    require(waitpid(child, &status, 0) == child);
    require(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return false;
}

static void check_fork_in_sweep(enum sweep_kind kind, unsigned fork_at)
{
    struct run runs[5];
    for (size_t i = 0; i < 5; i++)
        runs[i] = take_written(IN_HAND);
    give(&runs[1]);
    give(&runs[3]);
    if (kind == SWEEP_OLD)
        chunk_sweep(SWEEP_OLD, 1);
    fork_plan.fork_at = fork_at;
    fork_plan.purges = 0;
    fork_plan.base = runs[0].chunk->base;
    fork_plan.free_bytes = chunk_totals().free_bytes;
    assert_int_equal(runs[0].first, 0);
    os_refuse = fork_at_purge;
    assert_int_equal(chunk_sweep(kind, 1), 2 * IN_HAND * PAGE_SIZE);
    refuse_none();
    assert_int_equal(fork_plan.purges, 2);
    assert_int_equal(chunk_totals().free_bytes, fork_plan.free_bytes);
    assert_false(chunk_any_dirty());
    for (size_t i = 0; i < 5; i += 2)
        give(&runs[i]);
    no_chunks(NULL);
}

static void a_fork_in_the_middle_of_a_sweep_loses_no_pages_to_the_child(void **state)
{
    (void)state;
    for (unsigned fork_at = 1; fork_at <= 2; fork_at++)
        for (enum sweep_kind kind = SWEEP_OLD; kind <= SWEEP_NOW; kind++)
            check_fork_in_sweep(kind, fork_at);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, no_chunks, no_chunks)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_sweep_at_once_counts_what_was_resident_and_no_more),
        TEST(a_sweep_at_once_takes_back_what_was_left_to_the_kernel),
        TEST(on_the_schedule_immediate_pages_are_clean_when_they_are_free),
        TEST(what_the_kernel_refuses_to_take_at_once_stays_dirty),
        TEST(a_fork_in_the_middle_of_a_sweep_loses_no_pages_to_the_child),
    };
    return cmocka_run_group_tests_name("chunk-sweeps", tests, start_library, NULL);
}
