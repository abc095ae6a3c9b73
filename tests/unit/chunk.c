/* Chunks: runs, the two generations of dirty pages, the commit frontier, and what a chunk does when
 * the kernel refuses. Each test begins and ends without a chunk.
 */
#include "support.h"

#include <pthread.h>
#include <unistd.h>

#include "chunk.h"
#include "guard.h"
#include "options.h"
#include "pagemap.h"
#include "purge.h"

/* Pages made accessible at a time (chunk.c). */
enum { COMMIT_STEP = 64 };

enum { SWEEP_KINDS = SWEEP_NOW + 1 };

static struct run take(size_t pages)
{
    struct run run;
    assert_true(chunk_take(pages, 1, &run));
    assert_int_equal(run.pages, pages);
    assert_ptr_equal(run.start, run.chunk->base + run.first * PAGE_SIZE);
    assert_ptr_equal(pagemap_chunk(run.start), run.chunk);
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

/* ---- Runs ------------------------------------------------------------------------------------ */

static void runs_are_taken_lowest_first_from_aligned_chunks(void **state)
{
    (void)state;
    struct run first = take(1), second = take(3), third = take(1);
    assert_int_equal((uintptr_t)first.chunk->base % CHUNK_SIZE, 0);
    assert_int_equal(first.first, 0);
    assert_int_equal(third.first, 1); /* fits before the run of three, which is at 4 */
    assert_int_equal(second.first, 4);
    give(&first);
    give(&second);
    give(&third);
}

static void runs_stand_at_every_alignment_that_is_asked_for(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= CHUNK_PAGES; alignment *= 2) {
        struct run runs[2];
        for (size_t i = 0; i < 2; i++) {
            assert_true(chunk_take(3, alignment, &runs[i]));
            assert_int_equal((uintptr_t)runs[i].start % (alignment * PAGE_SIZE), 0);
            memset(runs[i].start, 1, bytes_of(&runs[i]));
        }
        give(&runs[0]);
        give(&runs[1]);
    }
}

static void the_first_chunk_that_can_gives_a_run(void **state)
{
    (void)state;
    struct run first = take(CHUNK_PAGES), second = take(CHUNK_PAGES), third = take(CHUNK_PAGES);
    assert_int_equal(chunk_totals().mapped_bytes, 3 * CHUNK_SIZE);
    /* Whichever comes back last: it is the first in the list that serves. */
    give(&third);
    give(&first);
    give(&second);
    struct run most = take(CHUNK_PAGES - 1), page = take(1), next = take(1), large = take(16);
    assert_ptr_equal(most.chunk, first.chunk);
    assert_ptr_equal(page.chunk, first.chunk);
    assert_ptr_equal(next.chunk, second.chunk);
    assert_ptr_equal(large.chunk, second.chunk);
    give(&most);
    struct run again = take(16);
    assert_ptr_equal(again.chunk, first.chunk);
    assert_int_equal(chunk_totals().mapped_bytes, 3 * CHUNK_SIZE);
    give(&page);
    give(&next);
    give(&large);
    give(&again);
}

static void a_run_is_extended_only_into_free_pages(void **state)
{
    (void)state;
    struct run run = take(4), next = take(4);
    assert_int_equal(next.first, run.first + 4);
    assert_false(chunk_extend(run.chunk, run.first, 4, 1));
    give(&next);
    assert_true(chunk_extend(run.chunk, run.first, 4, 3));
    assert_int_equal(take(1).first, run.first + 7);
    assert_false(chunk_extend(run.chunk, run.first, 7, 1));
    chunk_give(run.chunk, run.first, 8);
}

/* ---- Pages that cannot be touched ------------------------------------------------------------ */

static bool is_free(const struct run *run)
{
    return chunk_page_is_free(run->chunk, run->start) &&
           chunk_page_is_free(run->chunk, run->start + bytes_of(run) - 1);
}

static void a_guard_cannot_be_touched_until_it_is_allowed(void **state)
{
    (void)state;
    if (!guard_is_possible())
        skip();
    struct run run = take_written(3);
    size_t free_bytes = chunk_totals().free_bytes;
    assert_true(guard_page(run.chunk, run.first + 1));
    assert_true(is_accessible(run.start + PAGE_SIZE - 1));
    assert_false(is_accessible(run.start + PAGE_SIZE));
    assert_false(is_accessible(run.start + 2 * PAGE_SIZE - 1));
    assert_true(is_accessible(run.start + 2 * PAGE_SIZE));
    assert_int_equal(chunk_totals().free_bytes, free_bytes + PAGE_SIZE);
    assert_true(chunk_page_is_free(run.chunk, run.start + PAGE_SIZE));
    assert_int_not_equal(take(1).first, run.first + 1);
    guard_allow(run.chunk, run.first, 3); /* the others are nobody's but ours */
    struct run guard = take(1);
    assert_int_equal(guard.first, run.first + 1);
    assert_true(guard.zero);
    assert_true(reads_zero(guard.start, PAGE_SIZE));
    chunk_give(run.chunk, run.first, 4); /* with the page that was taken meanwhile */
}

static void a_refused_guard_leaves_the_page_in_use(void **state)
{
    (void)state;
    struct run run = take_written(1);
    refuse(KIND(OS_CALL_COMMIT), 1, SIZE_MAX);
    assert_false(guard_page(run.chunk, run.first));
    refuse_none();
    assert_true(is_accessible(run.start));
    guard_allow(run.chunk, run.first, 1);
    assert_false(is_free(&run));
    give(&run);
}

static void what_cannot_be_allowed_is_asked_for_again(void **state)
{
    (void)state;
    if (!guard_is_possible())
        skip();
    struct run run = take_written(2);
    assert_true(guard_page(run.chunk, run.first + 1));
    refuse(KIND(OS_CALL_COMMIT), 1, SIZE_MAX);
    guard_allow(run.chunk, run.first + 1, 1);
    assert_true(guard_allow_all());
    refuse_none();
    assert_int_equal(refused_count(), 2);
    assert_false(is_accessible(run.start + PAGE_SIZE));
    assert_int_not_equal(take(1).first, run.first + 1);
    assert_true(guard_allow_all());
    assert_false(guard_allow_all());
    assert_int_equal(take(1).first, run.first + 1);
    chunk_give(run.chunk, run.first, 3);
}

static void detain(const struct run *run)
{
    guard_detain(run->chunk, run->first, run->pages);
}

static void what_is_detained_is_out_of_reach_until_enough_others_are(void **state)
{
    (void)state;
    if (!guard_is_possible())
        skip();
    const size_t pages[] = {1, CHUNK_PAGES / 8}, others[] = {DETAINED_MOST, 8};
    for (size_t i = 0; i < 2; i++) {
        struct run first = take_written(pages[i]), runs[DETAINED_MOST];
        size_t resident = os_resident_in(first.start, bytes_of(&first));
        detain(&first);
        assert_int_not_equal(resident, 0);
        assert_int_equal(os_resident_in(first.start, bytes_of(&first)), 0);
        for (size_t j = 0; j < others[i]; j++) {
            assert_false(is_accessible(first.start));
            assert_true(is_free(&first));
            runs[j] = take(pages[i]);
            assert_ptr_not_equal(runs[j].start, first.start);
        }
        for (size_t j = 0; j < others[i]; j++) {
            assert_false(is_accessible(first.start));
            detain(&runs[j]);
        }
        assert_true(is_accessible(first.start));
        struct run again = take(pages[i]);
        assert_ptr_equal(again.start, first.start);
        assert_true(again.zero);
        give(&again);
        guard_release();
        chunk_sweep(SWEEP_NOW, 0);
        assert_int_equal(chunk_totals().mapped_bytes, 0);
    }
}

static void what_cannot_be_detained_is_given_back(void **state)
{
    (void)state;
    struct run run = take_written(4);
    refuse(KIND(OS_CALL_COMMIT), 1, SIZE_MAX);
    detain(&run);
    refuse_none();
    assert_true(is_accessible(run.start));
    struct run again = take(4);
    assert_ptr_equal(again.start, run.start);
    give(&again);
}

/* ---- Commit ---------------------------------------------------------------------------------- */

static void only_what_is_used_is_made_accessible(void **state)
{
    (void)state;
    struct run run = take(1);
    char *base = run.chunk->base;
    assert_int_equal(run.chunk->committed, COMMIT_STEP);
    assert_true(is_accessible(base + COMMIT_STEP * PAGE_SIZE - 1));
    assert_false(is_accessible(base + COMMIT_STEP * PAGE_SIZE));
    struct run more = take(COMMIT_STEP + 1); /* at 128, the next power of two */
    assert_int_equal(more.first, 2 * COMMIT_STEP);
    assert_int_equal(run.chunk->committed, 4 * COMMIT_STEP);
    assert_true(is_accessible(base + 4 * COMMIT_STEP * PAGE_SIZE - 1));
    assert_false(is_accessible(base + 4 * COMMIT_STEP * PAGE_SIZE));
    give(&run);
    give(&more);
    struct run all = take(CHUNK_PAGES);
    assert_int_equal(all.chunk->committed, CHUNK_PAGES);
    give(&all);
}

static void a_refused_step_is_tried_again_with_what_is_needed(void **state)
{
    (void)state;
    refuse(KIND(OS_CALL_COMMIT), 1, 1);
    struct run run = take(3);
    refuse_none();
    assert_int_equal(refused_count(), 1);
    assert_int_equal(run.chunk->committed, 4); /* the buddy's block for three */
    memset(run.start, 1, bytes_of(&run));
    give(&run);
}

static void pages_that_were_used_serve_before_new_ones(void **state)
{
    (void)state;
    struct run low = take(64), middle = take(64), high = take(64);
    assert_int_equal(high.first, 128);
    assert_int_equal(high.chunk->committed, 192);
    give(&low);
    give(&middle);
    refuse(KIND(OS_CALL_COMMIT), 1, SIZE_MAX);
    struct run again = take(64), next = take(64);
    refuse_none();
    assert_int_equal(refused_count(), 0);
    assert_int_equal(again.first, 0);
    assert_int_equal(next.first, 64);
    struct run fresh = take(64);
    assert_int_equal(fresh.first, 192);
    give(&again);
    give(&next);
    give(&high);
    give(&fresh);
}

static void a_refused_commit_loses_no_pages(void **state)
{
    (void)state;
    struct run run;
    refuse(KIND(OS_CALL_COMMIT), 1, SIZE_MAX);
    bool taken = chunk_take(1, 1, &run);
    bool taken_whole = chunk_take(CHUNK_PAGES, 1, &run);
    refuse_none();
    assert_false(taken);
    assert_false(taken_whole);
    run = take(CHUNK_PAGES);
    assert_false(chunk_extend(run.chunk, run.first, 10, 1));
    give(&run);
}

static void a_refused_commit_of_an_extension_leaves_the_run_as_it_was(void **state)
{
    (void)state;
    struct run run = take(COMMIT_STEP);
    refuse(KIND(OS_CALL_COMMIT), 1, SIZE_MAX);
    bool extended = chunk_extend(run.chunk, run.first, COMMIT_STEP, 8);
    refuse_none();
    assert_false(extended);
    assert_int_equal(run.chunk->committed, COMMIT_STEP);
    assert_true(chunk_extend(run.chunk, run.first, COMMIT_STEP, 8));
    memset(run.start, 1, (COMMIT_STEP + 8) * PAGE_SIZE);
    chunk_give(run.chunk, run.first, COMMIT_STEP + 8);
}

static void without_addresses_there_is_no_run_and_later_there_is(void **state)
{
    (void)state;
    struct run run;
    for (size_t call = 1; call <= 2; call++) {
        refuse(KIND(OS_CALL_MAP), call, SIZE_MAX);
        bool taken = chunk_take(1, 1, &run);
        refuse_none();
        if (!taken)
            assert_int_equal(chunk_totals().mapped_bytes, 0);
        else
            give(&run);
        assert_true(call != 1 || !taken);
    }
    run = take(1);
    give(&run);
}

/* ---- Generations ------------------------------------------------------------------------------
 */

static void the_first_sweep_spares_young_pages_and_the_second_purges_them(void **state)
{
    (void)state;
    struct run keep = take(1), run = take_written(16);
    assert_int_equal(resident_in(run.start, bytes_of(&run)), bytes_of(&run));
    assert_false(chunk_any_dirty());
    give(&run);
    assert_true(chunk_any_dirty());
    assert_int_equal(chunk_totals().dirty_bytes, bytes_of(&run));

    assert_int_equal(chunk_sweep(SWEEP_OLD, 1), 0);
    assert_int_equal(resident_in(run.start, bytes_of(&run)), bytes_of(&run));
    assert_int_equal(chunk_totals().dirty_bytes, bytes_of(&run));

    size_t purged = purge_bytes(), calls = purge_calls();
    assert_int_equal(chunk_sweep(SWEEP_OLD, 1), bytes_of(&run));
    assert_int_equal(resident_in(run.start, bytes_of(&run)), 0);
    assert_int_equal(chunk_totals().dirty_bytes, 0);
    assert_false(chunk_any_dirty());
    assert_int_equal(purge_bytes() - purged, bytes_of(&run));
    assert_int_equal(purge_calls() - calls, 1);
    assert_int_equal(chunk_sweep(SWEEP_OLD, 1), 0);
    give(&keep);
}

static void a_sweep_of_everything_purges_young_pages_too_neighbours_in_one_call(void **state)
{
    (void)state;
    struct run keep = take(1), old = take_written(8), young = take_written(8);
    assert_int_equal(young.first, old.first + 8);
    give(&old);
    chunk_sweep(SWEEP_OLD, 1);
    give(&young);
    size_t calls = purge_calls();
    assert_int_equal(chunk_sweep(SWEEP_ALL, 1), 16 * PAGE_SIZE);
    assert_int_equal(purge_calls() - calls, 1);
    assert_int_equal(resident_in(old.start, 16 * PAGE_SIZE), 0);
    give(&keep);
}

/* Pages that came back and went out again are of no generation, and young when they come back. */
static void reuse_makes_old_pages_young_again(void **state)
{
    (void)state;
    struct run keep = take(1), run = take_written(8);
    give(&run);
    chunk_sweep(SWEEP_OLD, 1); /* old now */
    struct run again = take_written(8);
    assert_ptr_equal(again.start, run.start);
    assert_int_equal(chunk_totals().dirty_bytes, 0);
    assert_int_equal(chunk_sweep(SWEEP_OLD, 1), 0);
    assert_int_equal(resident_in(run.start, bytes_of(&run)), bytes_of(&run));
    give(&again);
    assert_int_equal(chunk_sweep(SWEEP_OLD, 1), 0);
    assert_int_equal(chunk_sweep(SWEEP_OLD, 1), bytes_of(&run));
    give(&keep);
}

static void a_live_run_is_never_purged(void **state)
{
    (void)state;
    struct run left = take_written(8), live = take(8), right = take_written(8);
    pattern_write(live.start, bytes_of(&live), 7);
    give(&left);
    give(&right);
    for (int sweep = 0; sweep < 3; sweep++)
        chunk_sweep(sweep % 2 != 0 ? SWEEP_ALL : SWEEP_OLD, 1);
    assert_true(pattern_holds(live.start, bytes_of(&live), 7));
    assert_int_equal(resident_in(left.start, bytes_of(&left)), 0);
    give(&live);
}

/* ---- OS pages of 64 KiB, whatever the machine's are ------------------------------------------ */

/* With two of ours to be kept in a chunk that the machine mapped as it does. */
static struct run enlarge_os_pages(void)
{
    struct run keep = take(2);
    os_page_size = 64 * KiB;
    return keep;
}

static int own_os_pages(void **state)
{
    os_page_size = (size_t)sysconf(_SC_PAGESIZE);
    return no_chunks(state);
}

/* Two of ours that make one of the OS. */
static struct run take_os_page(void)
{
    struct run run = take_written(2);
    assert_int_equal(run.first, 2);
    return run;
}

static void give_half(const struct run *run, size_t page)
{
    chunk_give(run->chunk, run->first + page, 1);
}

static void half_an_os_page_is_purged_when_the_other_one_is_free(void **state)
{
    (void)state;
    struct run keep = enlarge_os_pages(), run = take_os_page();
    pattern_write(run.start, PAGE_SIZE, 7);
    give_half(&run, 1);
    assert_false(chunk_any_dirty()); /* nothing that a sweep could do */
    assert_int_equal(chunk_sweep(SWEEP_ALL, 1), 0);
    assert_true(pattern_holds(run.start, PAGE_SIZE, 7));
    give_half(&run, 0);
    assert_int_equal(chunk_sweep(SWEEP_ALL, 1), os_page_size);
    assert_int_equal(resident_in(run.start, bytes_of(&run)), 0);
    assert_int_equal(chunk_totals().dirty_bytes, 0);
    give(&keep);
}

static void a_clean_half_of_an_os_page_goes_with_the_dirty_one(void **state)
{
    (void)state;
    struct run keep = enlarge_os_pages(), low = take_written(1);
    assert_int_equal(low.first, 2);
    give(&low);
    assert_int_equal(chunk_sweep(SWEEP_OLD, 1), 0);
    assert_int_equal(chunk_sweep(SWEEP_OLD, 1), os_page_size);
    assert_int_equal(chunk_totals().dirty_bytes, 0);
    struct run both = take(2);
    assert_ptr_equal(both.start, low.start);
    assert_true(both.zero);
    assert_true(reads_zero(both.start, bytes_of(&both)));
    give(&both);
    give(&keep);
}

static void a_young_half_of_an_os_page_makes_the_old_one_wait(void **state)
{
    (void)state;
    struct run keep = enlarge_os_pages(), run = take_os_page();
    give_half(&run, 0);
    chunk_sweep(SWEEP_OLD, 1);
    give_half(&run, 1);
    assert_int_equal(chunk_sweep(SWEEP_OLD, 1), 0);
    assert_int_equal(resident_in(run.start, bytes_of(&run)), bytes_of(&run));
    assert_int_equal(chunk_sweep(SWEEP_OLD, 1), os_page_size);
    give(&keep);
}

static void a_lazy_half_of_an_os_page_goes_with_the_dirty_one(void **state)
{
    (void)state;
    struct run keep = enlarge_os_pages(), run = take_os_page();
    give(&run);
    refuse(KIND(OS_CALL_PURGE), 1, SIZE_MAX);
    chunk_sweep(SWEEP_ALL, 1);
    refuse_none();
    struct run low = take_written(1);
    assert_ptr_equal(low.start, run.start);
    give(&low);
    assert_int_equal(chunk_sweep(SWEEP_ALL, 1), os_page_size);
    struct run both = take(2);
    assert_ptr_equal(both.start, run.start);
    assert_true(both.zero);
    give(&both);
    give(&keep);
}

static void zero_is_said_of_what_reads_as_zero_and_of_nothing_else(void **state)
{
    (void)state;
    struct run keep = take(1), run = take(8);
    assert_true(run.zero);
    assert_true(reads_zero(run.start, bytes_of(&run)));
    memset(run.start, 1, bytes_of(&run));
    give(&run);
    struct run dirty = take(8);
    assert_ptr_equal(dirty.start, run.start);
    assert_false(dirty.zero);
    give(&dirty);
    chunk_sweep(SWEEP_ALL, 1);
    struct run purged = take(8);
    assert_ptr_equal(purged.start, run.start);
    assert_true(purged.zero);
    assert_true(reads_zero(purged.start, bytes_of(&purged)));
    /* One dirty page in a run is enough. */
    memset(purged.start + 7 * PAGE_SIZE, 1, PAGE_SIZE);
    chunk_give(purged.chunk, purged.first + 7, 1);
    chunk_give(purged.chunk, purged.first, 7);
    struct run mixed = take(8);
    assert_ptr_equal(mixed.start, run.start);
    assert_false(mixed.zero);
    give(&mixed);
    give(&keep);
}

static void lazily_purged_pages_are_neither_dirty_nor_zero(void **state)
{
    (void)state;
    struct run keep = take(1), run = take_written(8);
    give(&run);
    options.advice = ADVICE_FREE;
    assert_int_equal(chunk_sweep(SWEEP_ALL, 1), 0); /* nothing that counts as given back */
    assert_false(chunk_any_dirty());
    size_t calls = purge_calls();
    chunk_sweep(SWEEP_OLD, 1);
    chunk_sweep(SWEEP_OLD, 1);
    assert_int_equal(purge_calls(), calls);
    struct run again = take(8);
    assert_ptr_equal(again.start, run.start);
    assert_false(again.zero);
    give(&again);
    give(&keep);
}

static void a_refused_purge_is_tried_again_by_a_trim_and_keeps_nobody_awake(void **state)
{
    (void)state;
    struct run keep = take(1), run = take_written(8);
    give(&run);
    refuse(KIND(OS_CALL_PURGE), 1, SIZE_MAX);
    size_t given_back = chunk_sweep(SWEEP_ALL, 1);
    refuse_none();
    assert_int_equal(refused_count(), 1);
    assert_int_equal(given_back, 0);
    assert_false(chunk_any_dirty());
    struct run again = take(8);
    assert_ptr_equal(again.start, run.start);
    assert_false(again.zero);
    give(&again);
    refuse(KIND(OS_CALL_PURGE), 1, SIZE_MAX);
    chunk_sweep(SWEEP_ALL, 1);
    refuse_none();
    assert_int_equal(chunk_sweep(SWEEP_ALL, 1), 0);
    assert_int_equal(chunk_sweep(SWEEP_NOW, 1), bytes_of(&run));
    give(&keep);
}

/* ---- Empty chunks -----------------------------------------------------------------------------
 */

static void empty_chunks_are_unmapped_but_for_the_spare(void **state)
{
    (void)state;
    struct run runs[3];
    for (size_t i = 0; i < 3; i++)
        runs[i] = take(CHUNK_PAGES);
    assert_int_equal(chunk_totals().mapped_bytes, 3 * CHUNK_SIZE);
    chunk_sweep(SWEEP_ALL, 0);
    assert_int_equal(chunk_totals().mapped_bytes, 3 * CHUNK_SIZE); /* all in use */
    for (size_t i = 0; i < 3; i++)
        give(&runs[i]);
    chunk_sweep(SWEEP_OLD, 0);
    assert_int_equal(chunk_totals().mapped_bytes, 3 * CHUNK_SIZE); /* not clean yet */
    chunk_sweep(SWEEP_OLD, 2);
    assert_int_equal(chunk_totals().mapped_bytes, 2 * CHUNK_SIZE);
    chunk_sweep(SWEEP_OLD, 1);
    assert_int_equal(chunk_totals().mapped_bytes, CHUNK_SIZE);
    chunk_sweep(SWEEP_OLD, 0);
    assert_int_equal(chunk_totals().mapped_bytes, 0);
    for (size_t i = 0; i < 3; i++) {
        assert_null(pagemap_chunk(runs[i].start));
        assert_null(runs[i].chunk->base);
    }
}

static void a_record_without_a_chunk_serves_the_next(void **state)
{
    (void)state;
    struct run run = take(1);
    struct chunk *first = chunk_first();
    size_t records = 0;
    for (struct chunk *chunk = first; chunk != NULL; chunk = chunk->next)
        records++;
    give(&run);
    chunk_sweep(SWEEP_ALL, 0);
    for (int round = 0; round < 10; round++) {
        run = take(1);
        give(&run);
        chunk_sweep(SWEEP_ALL, 0);
    }
    for (struct chunk *chunk = first; chunk != NULL; chunk = chunk->next)
        records--;
    assert_int_equal(records, 0);
}

static void a_chunk_whose_unmapping_is_refused_stays_in_use(void **state)
{
    (void)state;
    struct run run = take_written(8);
    give(&run);
    refuse(KIND(OS_CALL_UNMAP), 1, SIZE_MAX);
    chunk_sweep(SWEEP_ALL, 0);
    refuse_none();
    assert_int_equal(refused_count(), 1);
    assert_int_equal(chunk_totals().mapped_bytes, CHUNK_SIZE);
    assert_ptr_equal(pagemap_chunk(run.start), run.chunk);
    struct run again = take(8);
    assert_ptr_equal(again.start, run.start);
    give(&again);
}

static void addresses_are_told_apart_for_messages(void **state)
{
    (void)state;
    struct run run = take(2);
    assert_ptr_equal(chunk_holding(run.start + 5), run.chunk);
    assert_ptr_equal(chunk_holding(run.start + CHUNK_SIZE / 2), run.chunk);
    assert_null(chunk_holding(&run));
    assert_false(chunk_page_is_free(run.chunk, run.start + PAGE_SIZE + 1));
    assert_true(chunk_page_is_free(run.chunk, run.start + 2 * PAGE_SIZE));
    give(&run);
    chunk_sweep(SWEEP_ALL, 0);
    assert_null(chunk_holding(run.start));
}

/* ---- Many threads ------------------------------------------------------------------------------
 */

enum { THREADS = 3, HELD = 6 };
static _Atomic bool stop;
static _Atomic size_t runs_taken, zero_runs;

static size_t wide_pages(struct random *random)
{
    switch (random_below(random, 8)) {
    case 0:
        return CHUNK_PAGES;
    case 1:
        return 1 + random_below(random, CHUNK_PAGES);
    default:
        return 1 + random_below(random, 20);
    }
}

/* Marks the first and last bytes of each page, and finds them again. */
static void mark(const struct run *run, unsigned char value)
{
    for (size_t page = 0; page < run->pages; page++) {
        char *start = run->start + page * PAGE_SIZE;
        start[0] = start[PAGE_SIZE - 1] = (char)value;
    }
}

static void require_marks(const struct run *run, unsigned char value)
{
    for (size_t page = 0; page < run->pages; page++) {
        const unsigned char *start = (unsigned char *)run->start + page * PAGE_SIZE;
        require(start[0] == value && start[PAGE_SIZE - 1] == value);
    }
}

static void *take_and_give(void *argument)
{
    size_t thread = (size_t)argument;
    struct random random = {thread};
    struct run held[HELD] = {0};
    while (!atomic_load(&stop)) {
        struct run *run = &held[random_below(&random, HELD)];
        unsigned char value = (unsigned char)(1 + thread * HELD + (size_t)(run - held));
        if (run->chunk != NULL) {
            require_marks(run, value);
            require(pagemap_chunk(run->start) == run->chunk);
            if (random_below(&random, 4) == 0)
                detain(run);
            else
                give(run);
            run->chunk = NULL;
            continue;
        }
        require(chunk_take(wide_pages(&random), 1, run));
        require(pagemap_chunk(run->start) == run->chunk);
        if (run->zero)
            require_marks(run, 0);
        atomic_fetch_add(&zero_runs, run->zero);
        atomic_fetch_add(&runs_taken, 1);
        mark(run, value);
    }
    for (size_t i = 0; i < HELD; i++)
        if (held[i].chunk != NULL)
            give(&held[i]);
    return NULL;
}

static void runs_are_nobody_elses_while_others_take_give_detain_sweep_and_unmap(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    atomic_store(&stop, false);
    for (size_t i = 0; i < THREADS; i++)
        require(pthread_create(&threads[i], NULL, take_and_give, (void *)i) == 0);
    size_t sweeps = 0;
    for (double end = seconds_now() + 3; seconds_now() < end; sweeps++) {
        if (sweeps % SWEEP_KINDS == SWEEP_NOW)
            guard_release();
        chunk_sweep((enum sweep_kind)(sweeps % SWEEP_KINDS), 0);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    print_message("%zu runs, %zu of them zero, %zu sweeps\n", atomic_load(&runs_taken),
                  atomic_load(&zero_runs), sweeps);
    assert_true(atomic_load(&runs_taken) > atomic_load(&zero_runs));
    assert_int_not_equal(atomic_load(&zero_runs), 0);
    guard_release();
    chunk_sweep(SWEEP_NOW, 0);
    assert_int_equal(chunk_totals().mapped_bytes, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, no_chunks, no_chunks)
#define TEST_LARGE(name) cmocka_unit_test_setup_teardown(name, no_chunks, own_os_pages)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(runs_are_taken_lowest_first_from_aligned_chunks),
        TEST(runs_stand_at_every_alignment_that_is_asked_for),
        TEST(the_first_chunk_that_can_gives_a_run),
        TEST(a_run_is_extended_only_into_free_pages),
        TEST(a_guard_cannot_be_touched_until_it_is_allowed),
        TEST(a_refused_guard_leaves_the_page_in_use),
        TEST(what_cannot_be_allowed_is_asked_for_again),
        TEST(what_is_detained_is_out_of_reach_until_enough_others_are),
        TEST(what_cannot_be_detained_is_given_back),
        TEST(only_what_is_used_is_made_accessible),
        TEST(a_refused_step_is_tried_again_with_what_is_needed),
        TEST(pages_that_were_used_serve_before_new_ones),
        TEST(a_refused_commit_loses_no_pages),
        TEST(a_refused_commit_of_an_extension_leaves_the_run_as_it_was),
        TEST(without_addresses_there_is_no_run_and_later_there_is),
        TEST(the_first_sweep_spares_young_pages_and_the_second_purges_them),
        TEST(a_sweep_of_everything_purges_young_pages_too_neighbours_in_one_call),
        TEST(reuse_makes_old_pages_young_again),
        TEST(a_live_run_is_never_purged),
        TEST_LARGE(half_an_os_page_is_purged_when_the_other_one_is_free),
        TEST_LARGE(a_clean_half_of_an_os_page_goes_with_the_dirty_one),
        TEST_LARGE(a_young_half_of_an_os_page_makes_the_old_one_wait),
        TEST_LARGE(a_lazy_half_of_an_os_page_goes_with_the_dirty_one),
        TEST(zero_is_said_of_what_reads_as_zero_and_of_nothing_else),
        TEST(lazily_purged_pages_are_neither_dirty_nor_zero),
        TEST(a_refused_purge_is_tried_again_by_a_trim_and_keeps_nobody_awake),
        TEST(empty_chunks_are_unmapped_but_for_the_spare),
        TEST(a_record_without_a_chunk_serves_the_next),
        TEST(a_chunk_whose_unmapping_is_refused_stays_in_use),
        TEST(addresses_are_told_apart_for_messages),
        TEST(runs_are_nobody_elses_while_others_take_give_detain_sweep_and_unmap),
    };
    return cmocka_run_group_tests_name("chunk", tests, start_library, NULL);
}
