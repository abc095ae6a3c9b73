/* Huge blocks: mappings of their own, kept for a while, resized with mremap or moved. */
#include "support.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "huge.h"
#include "options.h"
#include "pagemap.h"
#include "purge.h"

/* What is kept of freed mappings at most (huge.c). */
#define KEEP_MOST (128 * MiB)

static struct huge_totals totals(void)
{
    struct huge_totals totals;
    huge_count(&totals);
    return totals;
}

static int no_blocks(void **state)
{
    (void)state;
    options.schedule = SCHEDULE_IDLE;
    huge_sweep(0);
    struct huge_totals left = totals();
    return left.live_blocks == 0 && left.live_bytes == 0 && left.kept_pieces == 0 ? 0 : -1;
}

static char *take(size_t size)
{
    bool zero;
    char *block = huge_alloc(size, os_page_size, &zero);
    assert_non_null(block);
    return block;
}

/* A mapping that is not kept from before. */
static char *take_fresh(size_t size)
{
    huge_sweep(0);
    return take(size);
}

static void a_block_is_known_at_its_start_and_only_there(void **state)
{
    (void)state;
    char *block = take(5 * MiB + 1);
    size_t size = round_up(5 * MiB + 1, os_page_size);
    assert_int_equal(huge_size(block), size);
    assert_int_equal(pagemap_class(block), CLASS_HUGE);
    assert_int_equal(totals().live_bytes, size);
    assert_int_equal(totals().live_blocks, 1);
    for (size_t offset = 16; offset < size; offset += 4096 - 16) {
        require(huge_size(block + offset) == 0);
        require(!huge_free(block + offset));
        require(huge_contains(block + offset));
    }
    assert_false(huge_contains(block + size));
    assert_true(huge_free(block));
    assert_false(huge_free(block));
    assert_int_equal(huge_size(block), 0);
    assert_false(huge_contains(block));
    assert_int_equal(pagemap_class(block), CLASS_NONE);
}

/* Mappings of 5 MiB stand in a row, so several begin in the same 32 MiB. */
static void many_blocks_in_the_same_32_MiB_are_told_apart(void **state)
{
    (void)state;
    enum { BLOCKS = 40 };
    char *blocks[BLOCKS];
    size_t neighbours = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = take(5 * MiB + i * os_page_size);
        for (size_t j = 0; j < i; j++)
            neighbours +=
                (uintptr_t)blocks[i] >> CHUNK_SHIFT == (uintptr_t)blocks[j] >> CHUNK_SHIFT;
    }
    assert_int_not_equal(neighbours, 0);
    /* Freed in an order that takes from the front, the middle and the end of each list. */
    for (size_t step = 0, i = 0; step < BLOCKS; step++, i = (i + 7) % BLOCKS) {
        for (size_t j = 0; j < BLOCKS; j++)
            if (blocks[j] != NULL)
                require(huge_size(blocks[j]) == 5 * MiB + j * os_page_size);
        assert_true(huge_free(blocks[i]));
        blocks[i] = NULL;
    }
    assert_int_equal(totals().live_blocks, 0);
}

static void blocks_stand_at_the_alignment_that_is_asked_for(void **state)
{
    (void)state;
    for (size_t alignment = 16; alignment <= 256 * MiB; alignment *= 2) {
        bool zero;
        char *blocks[2];
        for (size_t i = 0; i < 2; i++) {
            blocks[i] = huge_alloc(5 * MiB, alignment, &zero);
            assert_non_null(blocks[i]);
            assert_int_equal((uintptr_t)blocks[i] % alignment, 0);
            blocks[i][0] = blocks[i][5 * MiB - 1] = 1;
        }
        assert_true(huge_free(blocks[0]));
        assert_true(huge_free(blocks[1]));
    }
}

/* ---- What is kept -----------------------------------------------------------------------------
 */

static void a_freed_mapping_serves_the_next(void **state)
{
    (void)state;
    bool zero = false;
    char *block = huge_alloc(20 * MiB, 16, &zero);
    assert_true(zero);
    memset(block, 1, 20 * MiB);
    assert_true(huge_free(block));
    assert_int_equal(totals().kept_bytes, 20 * MiB);
    char *again = huge_alloc(18 * MiB, 16, &zero);
    assert_ptr_equal(again, block);
    assert_false(zero);
    assert_int_equal(huge_size(again), 18 * MiB); /* and no byte that was not asked for */
    assert_int_equal(totals().live_bytes, 18 * MiB);
    assert_int_equal(totals().kept_bytes, 2 * MiB);
    assert_true(huge_free(again));
    assert_int_equal(totals().kept_bytes, 20 * MiB);
    /* One that is too short is made longer, and what it had stays resident. */
    char *larger = huge_alloc(25 * MiB, 16, &zero);
    assert_false(zero);
    assert_int_equal(totals().kept_pieces, 0);
    assert_int_equal(totals().live_bytes, 25 * MiB);
    assert_int_equal(huge_size(larger), 25 * MiB);
    assert_true(resident_in(larger, 25 * MiB) >= 20 * MiB);
    memset(larger, 1, 25 * MiB);
    assert_true(huge_free(larger));
}

static void a_block_grows_into_what_is_kept_behind_it(void **state)
{
    (void)state;
    bool zero;
    char *block = take_fresh(20 * MiB);
    memset(block, 1, 20 * MiB);
    assert_true(huge_free(block));
    char *small = huge_alloc(5 * MiB, 16, &zero);
    assert_ptr_equal(small, block);
    refuse(KIND(OS_CALL_REMAP) | KIND(OS_CALL_MAP), 1, SIZE_MAX);
    char *grown = huge_resize(small, 6 * MiB); /* without the kernel … */
    refuse_none();
    assert_int_equal(refused_count(), 0);
    assert_ptr_equal(grown, small);
    assert_int_equal(huge_size(grown), 6 * MiB);
    assert_int_equal(totals().live_bytes, 6 * MiB);
    assert_int_equal(totals().kept_bytes, 14 * MiB);
    assert_int_equal(huge_sweep(60000), 0);
    assert_int_equal(huge_sweep(0), 14 * MiB); /* … as long as no sweep has taken it */
    assert_int_equal(totals().kept_pieces, 0);
    assert_int_equal(resident_in(grown, 6 * MiB), 6 * MiB);
    for (size_t i = 0; i < 6 * MiB; i += 4096)
        require(grown[i] == 1);
    grown = huge_resize(grown, 30 * MiB);
    assert_non_null(grown);
    assert_int_equal(grown[5 * MiB - 1], 1);
    memset(grown, 1, 30 * MiB);
    assert_true(huge_free(grown));
}

/* Several mappings side by side, as the kernel makes them, the last one first. */
static void pieces_side_by_side_serve_a_larger_block(void **state)
{
    (void)state;
    enum { PIECES = 3 };
    char *pieces[PIECES];
    bool zero;
    huge_sweep(0);
    for (size_t i = 0; i < PIECES; i++) {
        pieces[i] = take(6 * MiB);
        memset(pieces[i], (int)i + 1, 6 * MiB);
    }
    /* Downwards, or upwards under an emulator. */
    bool down = pieces[2] < pieces[0];
    char *lowest = pieces[down ? 2 : 0], *highest = pieces[down ? 0 : 2];
    bool together = lowest + 6 * MiB == pieces[1] && pieces[1] + 6 * MiB == highest;
    for (size_t i = 0; i < PIECES; i++) {
        assert_true(huge_free(pieces[i]));
        usleep(20000); /* so they stay three */
    }
    if (!together) {
        print_message("not tested: the kernel put something between them\n");
        return;
    }
    assert_int_equal(totals().kept_pieces, PIECES);
    refuse(KIND(OS_CALL_REMAP) | KIND(OS_CALL_MAP), 1, SIZE_MAX);
    char *joined = huge_alloc(15 * MiB, 16, &zero);
    refuse_none();
    assert_ptr_equal(joined, lowest);
    assert_false(zero);
    assert_int_equal(joined[7 * MiB], 2);
    assert_int_equal(totals().kept_bytes, 3 * MiB);
    pattern_write(joined, 15 * MiB, 9);
    /* The kernel moves no range of several mappings: who wants more has to copy. */
    assert_null(huge_resize(joined, 40 * MiB));
    assert_int_equal(huge_size(joined), 15 * MiB);
    assert_true(pattern_holds(joined, 15 * MiB, 9));
    assert_ptr_equal(huge_resize(joined, 18 * MiB), joined);
    assert_int_equal(totals().kept_bytes, 0);
    assert_true(huge_free(joined));
    assert_int_equal(totals().kept_bytes, 18 * MiB);
    assert_int_equal(huge_sweep(0), 18 * MiB);
}

/* Blocks that a live one keeps apart, filled with their number. */
enum { APART = 4 };
static void keep_apart(size_t size, char *freed[APART], char *between[APART])
{
    huge_sweep(0);
    for (size_t i = 0; i < APART; i++) {
        freed[i] = take(size);
        between[i] = take(size);
        memset(freed[i], (int)i + 1, size);
    }
    for (size_t i = 0; i < APART; i++)
        assert_true(huge_free(freed[i]));
    assert_int_equal(totals().kept_bytes, APART * size);
}

static void free_those_between(char *between[APART])
{
    for (size_t i = 0; i < APART; i++)
        assert_true(huge_free(between[i]));
}

/* Where each kernel puts mappings differs; that none is fresh does not. */
static void pieces_that_stand_apart_are_brought_together(void **state)
{
    (void)state;
    char *freed[APART], *between[APART];
    bool zero;
    keep_apart(6 * MiB, freed, between);
    char *block = huge_alloc(17 * MiB, 16, &zero);
    assert_false(zero);
    assert_int_equal(huge_size(block), 17 * MiB);
    assert_int_equal(resident_in(block, 17 * MiB), 17 * MiB);
    assert_int_equal(totals().live_bytes, (APART * 6 + 17) * MiB);
    assert_int_equal(totals().kept_bytes, (APART * 6 - 17) * MiB);
    pattern_write(block, 17 * MiB, 3);
    /* Shorter by a piece and a part of one, which serve others. */
    assert_ptr_equal(huge_resize(block, 8 * MiB), block);
    assert_int_equal(huge_size(block), 8 * MiB);
    assert_int_equal(totals().live_bytes, (APART * 6 + 8) * MiB);
    assert_int_equal(totals().kept_bytes, (APART * 6 - 8) * MiB);
    assert_int_equal(resident_in(block, 8 * MiB), 8 * MiB);
    char *other = huge_alloc(15 * MiB, 16, &zero);
    memset(other, 7, 15 * MiB);
    assert_true(pattern_holds(block, 8 * MiB, 3));
    assert_true(huge_free(other));
    assert_true(huge_free(block));
    assert_int_equal(totals().kept_bytes, APART * 6 * MiB);
    assert_int_equal(huge_sweep(0), APART * 6 * MiB);
    free_those_between(between);
}

static void what_is_missing_to_pieces_brought_together_is_fresh(void **state)
{
    (void)state;
    char *freed[APART], *between[APART];
    bool zero;
    keep_apart(6 * MiB, freed, between);
    char *block = huge_alloc(40 * MiB, 16, &zero);
    assert_false(zero);
    assert_int_equal(huge_size(block), 40 * MiB);
    assert_int_equal(totals().kept_bytes, 0);
    assert_int_equal(resident_in(block, 40 * MiB), APART * 6 * MiB);
    memset(block, 1, 40 * MiB);
    assert_true(huge_free(block));
    assert_int_equal(totals().kept_bytes, 40 * MiB);
    free_those_between(between);
}

/* Whichever of the moves it is. */
static void pieces_that_may_not_be_brought_together_stay_kept(void **state)
{
    (void)state;
    for (size_t first = 1; first <= APART; first++) {
        char *freed[APART], *between[APART];
        bool zero;
        keep_apart(6 * MiB, freed, between);
        refuse(KIND(OS_CALL_REMAP), first, SIZE_MAX);
        char *block = huge_alloc(APART * 6 * MiB, 16, &zero);
        refuse_none();
        assert_int_not_equal(refused_count(), 0);
        assert_non_null(block);
        assert_true(zero);
        assert_int_equal(totals().kept_bytes, APART * 6 * MiB);
        memset(block, 1, APART * 6 * MiB);
        assert_int_equal(huge_sweep(0), APART * 6 * MiB);
        assert_true(huge_free(block));
        free_those_between(between);
    }
}

static void what_others_hold_moves_into_a_block(void **state)
{
    (void)state;
    size_t bytes = 2 * MiB;
    char *start = os_map(bytes);
    assert_non_null(start);
    pattern_write(start, bytes, 4);
    char *block = huge_move_in(start, bytes, 9 * MiB + 1);
    assert_non_null(block);
    assert_int_equal(huge_size(block), round_up(9 * MiB + 1, os_page_size));
    assert_int_equal(resident_in(start, bytes), 0);
    assert_true(reads_zero(start, bytes));
    assert_true(pattern_holds(block, bytes, 4));
    memset(block, 5, huge_size(block));
    assert_true(reads_zero(start, bytes));
    char *grown = huge_resize(block, 30 * MiB);
    assert_non_null(grown); /* one mapping: it can move */
    assert_int_equal(grown[9 * MiB], 5);
    assert_true(huge_free(grown));
    assert_true(os_unmap(start, bytes));
}

static void what_may_not_move_in_stays(void **state)
{
    (void)state;
    size_t bytes = 2 * MiB;
    char *start = os_map(bytes);
    pattern_write(start, bytes, 4);
    for (size_t first = 1; first <= 3; first++) { /* out, longer, elsewhere */
        refuse(KIND(OS_CALL_REMAP) | KIND(OS_CALL_MAP), first, SIZE_MAX);
        char *block = huge_move_in(start, bytes, 9 * MiB);
        refuse_none();
        if (first == 3 && refused_count() == 0) {
            print_message("not tested: it could grow where it was\n");
            assert_true(huge_free(block));
            break;
        }
        assert_int_not_equal(refused_count(), 0);
        assert_null(block);
        assert_true(pattern_holds(start, bytes, 4));
        assert_int_equal(totals().live_blocks, 0);
    }
    assert_true(os_unmap(start, bytes));
}

/* What is used again and again does not keep young what stands beside it. */
static void the_rest_of_a_piece_keeps_its_age(void **state)
{
    (void)state;
    char *block = take_fresh(30 * MiB);
    memset(block, 1, 30 * MiB);
    assert_true(huge_free(block));
    for (int round = 0; round < 10; round++) {
        usleep(20000);
        char *small = take(5 * MiB);
        assert_ptr_equal(small, block);
        assert_true(huge_free(small));
    }
    assert_int_equal(huge_sweep(150), 25 * MiB);
    assert_int_equal(totals().kept_bytes, 5 * MiB);
}

static void of_those_kept_the_smallest_that_fits_is_used(void **state)
{
    (void)state;
    char *a = take(10 * MiB), *b = take(10 * MiB + 2 * 65536), *c = take(10 * MiB + 65536);
    assert_true(huge_free(a));
    assert_true(huge_free(b));
    assert_true(huge_free(c));
    char *best = take(10 * MiB + 1);
    assert_ptr_equal(best, c);
    assert_true(huge_free(best));
}

static void a_kept_mapping_is_used_only_where_its_alignment_serves(void **state)
{
    (void)state;
    bool zero;
    char *blocks[2] = {take(8 * MiB), take(8 * MiB)};
    /* At least one is not at such a multiple: that one is kept. */
    size_t odd = (uintptr_t)blocks[0] % (64 * MiB) != 0 ? 0 : 1;
    assert_true(huge_free(blocks[odd]));
    char *aligned = huge_alloc(8 * MiB, 64 * MiB, &zero);
    assert_non_null(aligned);
    assert_int_equal((uintptr_t)aligned % (64 * MiB), 0);
    assert_int_equal(totals().kept_pieces, 1);
    assert_true(huge_free(aligned));
    assert_true(huge_free(blocks[1 - odd]));
}

static void no_more_than_128_MiB_are_kept(void **state)
{
    (void)state;
    char *blocks[15];
    for (size_t i = 0; i < 15; i++)
        blocks[i] = take(10 * MiB);
    for (size_t i = 0; i < 15; i++) {
        assert_true(huge_free(blocks[i]));
        assert_true(totals().kept_bytes <= KEEP_MOST);
    }
    assert_int_equal(totals().kept_bytes, KEEP_MOST); /* of one, a part */
    char *over = take(KEEP_MOST + MiB);               /* made of them all */
    assert_int_equal(totals().kept_bytes, 0);
    assert_int_equal(huge_size(over), KEEP_MOST + MiB);
    assert_true(huge_free(over));
    assert_int_equal(totals().kept_bytes, KEEP_MOST);
    huge_sweep(0);
    char *just = take(KEEP_MOST);
    assert_true(huge_free(just));
    assert_int_equal(totals().kept_bytes, KEEP_MOST);
}

static void what_is_too_large_to_be_kept_counts_as_room_again(void **state)
{
    (void)state;
    huge_sweep(0);
    int64_t before = purge_room();
    char *block = take(KEEP_MOST + MiB);
    assert_int_equal(before - purge_room(), KEEP_MOST + MiB);
    memset(block, 1, KEEP_MOST + MiB);
    assert_true(huge_free(block));
    assert_int_equal(before - purge_room(), KEEP_MOST);
    huge_sweep(0);
    assert_int_equal(purge_room(), before);
}

static void a_sweep_lets_go_of_what_is_old_enough(void **state)
{
    (void)state;
    char *block = take(10 * MiB);
    memset(block, 1, 10 * MiB);
    assert_true(huge_free(block));
    assert_int_equal(huge_sweep(60000), 0);
    assert_int_equal(totals().kept_pieces, 1);
    usleep(30000);
    assert_int_equal(huge_sweep(15), 10 * MiB);
    assert_int_equal(totals().kept_pieces, 0);
}

static void a_sweep_counts_what_was_resident_and_no_more(void **state)
{
    (void)state;
    char *untouched = take_fresh(10 * MiB), *touched = take(12 * MiB);
    memset(touched + MiB, 1, 2 * MiB);
    touched[11 * MiB] = 1;
    assert_true(huge_free(untouched));
    assert_true(huge_free(touched));
    size_t counted = huge_sweep(0);
    assert_int_equal(totals().kept_pieces, 0);
    assert_in_range(counted, 2 * MiB + os_page_size, 6 * MiB); /* huge pages may have come */
}

static bool is_mapped(void *start)
{
    unsigned char resident;
    return mincore(start, os_page_size, &resident) == 0 || errno != ENOMEM;
}

static void on_the_schedule_immediate_nothing_is_kept(void **state)
{
    (void)state;
    options.schedule = SCHEDULE_IMMEDIATE;
    char *block = take_fresh(10 * MiB);
    memset(block, 1, MiB);
    assert_true(huge_free(block));
    assert_int_equal(totals().kept_pieces, 0);
    assert_false(is_mapped(block));
}

/* ---- Forks in the middle of a sweep -----------------------------------------------------------
 */

enum { LEAVING = 3 };
static char *leaving[LEAVING];
static unsigned purges, fork_at;

/* The mappings that the parent's sweep was letting go of are let go of here as well. */
static _Noreturn void go_on_in_child(void)
{
    bool zero;
    require(huge_kept_bytes() != 0); /* else nobody would look */
    huge_sweep(0);
    require(huge_kept_bytes() == 0);
    for (size_t i = 0; i < LEAVING; i++)
        require(!is_mapped(leaving[i]));
    char *block = huge_alloc(6 * MiB, os_page_size, &zero);
    require(block != NULL && zero && huge_free(block));
    _exit(0);
}

/* Asked by the sweep at a time when it holds no lock. */
static bool fork_at_purge(enum os_call call)
{
    int status;
    if (call != OS_CALL_PURGE || ++purges != fork_at)
        return false;
    pid_t child = fork();
    require(child >= 0);
    if (child == 0)
        go_on_in_child();
    require(waitpid(child, &status, 0) == child);
    require(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return false;
}

static void a_fork_in_the_middle_of_a_sweep_loses_no_mappings_to_the_child(void **state)
{
    (void)state;
    for (fork_at = 1; fork_at <= LEAVING; fork_at++) {
        for (size_t i = 0; i < LEAVING; i++) {
            leaving[i] = take(6 * MiB);
            memset(leaving[i], 1, MiB);
        }
        for (size_t i = 0; i < LEAVING; i++)
            assert_true(huge_free(leaving[i]));
        purges = 0;
        os_refuse = fork_at_purge;
        size_t counted = huge_sweep(0);
        refuse_none();
        assert_int_equal(purges, LEAVING);
        assert_true(counted >= LEAVING * MiB);
        for (size_t i = 0; i < LEAVING; i++)
            assert_false(is_mapped(leaving[i]));
    }
}

/* ---- Resizing -----------------------------------------------------------------------------------
 */

static void a_block_that_grows_keeps_its_bytes_and_reads_zero_beyond(void **state)
{
    (void)state;
    size_t size = 5 * MiB, moves = 0;
    char *block = take_fresh(size);
    pattern_write(block, size, 1);
    for (int step = 0; step < 8; step++) {
        size_t larger = size + (step + 1) * MiB;
        char *grown = huge_resize(block, larger);
        assert_non_null(grown);
        if (grown != block) {
            moves++;
            assert_int_equal(huge_size(block), 0);
        }
        assert_int_equal(huge_size(grown), larger);
        assert_true(pattern_holds(grown, size, 1));
        assert_true(reads_zero(grown + size, larger - size));
        pattern_write(grown, larger, 1);
        block = grown;
        size = larger;
        assert_int_equal(totals().live_bytes, size);
        assert_int_equal(totals().live_blocks, 1);
    }
    print_message("moved %zu times\n", moves);
    assert_true(huge_free(block));
}

static void a_block_that_cannot_grow_where_it_stands_is_moved(void **state)
{
    (void)state;
    char *block = take_fresh(5 * MiB);
    pattern_write(block, 5 * MiB, 2);
    refuse(KIND(OS_CALL_REMAP), 1, 1); /* in place; the second is the move */
    char *moved = huge_resize(block, 9 * MiB);
    refuse_none();
    assert_int_equal(refused_count(), 1);
    assert_non_null(moved);
    assert_ptr_not_equal(moved, block);
    assert_true(pattern_holds(moved, 5 * MiB, 2));
    assert_true(reads_zero(moved + 5 * MiB, 4 * MiB));
    assert_int_equal(huge_size(moved), 9 * MiB);
    assert_int_equal(pagemap_class(block), CLASS_NONE);
    assert_int_equal(totals().live_blocks, 1);
    assert_true(huge_free(moved));
}

static void a_refused_move_changes_nothing(void **state)
{
    (void)state;
    char *block = take_fresh(5 * MiB);
    pattern_write(block, 5 * MiB, 3);
    refuse(KIND(OS_CALL_REMAP), 1, 2);
    char *moved = huge_resize(block, 9 * MiB);
    refuse_none();
    assert_int_equal(refused_count(), 2);
    assert_null(moved);
    refuse(KIND(OS_CALL_REMAP) | KIND(OS_CALL_MAP), 1, 2);
    moved = huge_resize(block, 9 * MiB);
    refuse_none();
    assert_null(moved);
    assert_int_equal(huge_size(block), 5 * MiB);
    assert_true(pattern_holds(block, 5 * MiB, 3));
    assert_int_equal(totals().live_bytes, 5 * MiB);
    assert_true(huge_free(block));
}

/* The mapping that it was to move to has room for the growth, which is cut off first. Where the
 * kernel refuses that, it goes as a whole. */
static void a_move_whose_target_may_not_be_cut_changes_nothing(void **state)
{
    (void)state;
    char *block = take_fresh(5 * MiB);
    pattern_write(block, 5 * MiB, 3);
    size_t addresses = 0;
    int64_t room = purge_room();
    for (int time = 0; time < 2; time++) { /* the first may make a leaf of the page map */
        addresses = address_space();
        refuse(KIND(OS_CALL_REMAP) | KIND(OS_CALL_UNMAP), 1, 2); /* in place; the cut */
        char *moved = huge_resize(block, 9 * MiB);
        refuse_none();
        assert_int_equal(refused_count(), 2);
        assert_null(moved);
    }
    assert_int_equal(address_space(), addresses);
    assert_int_equal(purge_room(), room);
    assert_int_equal(huge_size(block), 5 * MiB);
    assert_true(pattern_holds(block, 5 * MiB, 3));
    assert_int_equal(totals().live_bytes, 5 * MiB);
    assert_int_equal(totals().live_blocks, 1);
    assert_int_equal(totals().kept_pieces, 0);
    refuse(KIND(OS_CALL_REMAP), 1, 1);
    char *moved = huge_resize(block, 9 * MiB);
    refuse_none();
    assert_non_null(moved);
    assert_ptr_not_equal(moved, block);
    assert_int_equal(address_space(), addresses + 4 * MiB);
    assert_true(pattern_holds(moved, 5 * MiB, 3));
    assert_true(huge_free(moved));
}

static void a_block_that_shrinks_gives_its_tail_back(void **state)
{
    (void)state;
    char *block = take_fresh(20 * MiB);
    pattern_write(block, 20 * MiB, 4);
    assert_ptr_equal(huge_resize(block, 9 * MiB), block);
    assert_int_equal(huge_size(block), 9 * MiB);
    assert_int_equal(totals().live_bytes, 9 * MiB);
    assert_int_equal(totals().kept_bytes, 11 * MiB); /* as if it had been freed */
    assert_true(pattern_holds(block, 9 * MiB, 4));
    assert_false(huge_contains(block + 9 * MiB));
    assert_int_equal(huge_sweep(0), 11 * MiB);
    options.schedule = SCHEDULE_IMMEDIATE;
    assert_ptr_equal(huge_resize(block, 8 * MiB), block);
    assert_int_equal(totals().kept_bytes, 0);
    assert_false(is_mapped(block + 8 * MiB));
    refuse(KIND(OS_CALL_UNMAP), 1, 1);
    char *same = huge_resize(block, 5 * MiB);
    refuse_none();
    assert_int_equal(refused_count(), 1);
    assert_ptr_equal(same, block);
    assert_int_equal(huge_size(block), 5 * MiB);
    assert_int_equal(resident_in(block + 5 * MiB, 3 * MiB), 0); /* the memory went at least */
    assert_true(pattern_holds(block, 5 * MiB, 4));
    assert_true(huge_free(block));
}

static void what_is_no_block_is_not_resized(void **state)
{
    (void)state;
    char *block = take(5 * MiB);
    assert_null(huge_resize(block + 16, 9 * MiB));
    assert_true(huge_free(block));
    assert_null(huge_resize(block, 9 * MiB));
}

/* ---- Refusals ---------------------------------------------------------------------------------
 */

static void without_memory_there_is_no_block_and_nothing_is_lost(void **state)
{
    (void)state;
    bool zero;
    for (size_t alignment = os_page_size; alignment <= 64 * MiB; alignment *= 4) {
        refuse(KIND(OS_CALL_MAP), 1, SIZE_MAX);
        void *none = huge_alloc(5 * MiB, alignment, &zero);
        refuse_none();
        assert_null(none);
        assert_int_equal(totals().live_blocks, 0);
    }
    assert_null(huge_alloc(PTRDIFF_MAX - 2 * os_page_size, os_page_size, &zero));
    assert_null(huge_alloc(5 * MiB, (size_t)1 << 62, &zero));
    assert_null(huge_alloc(PTRDIFF_MAX / 2, (size_t)1 << 62, &zero));
}

static void a_mapping_whose_unmapping_is_refused_is_kept_without_its_memory(void **state)
{
    (void)state;
    options.schedule = SCHEDULE_IMMEDIATE; /* it is not kept by choice */
    char *block = take_fresh(20 * MiB);
    memset(block, 1, MiB);
    refuse(KIND(OS_CALL_UNMAP), 1, 1);
    bool freed = huge_free(block);
    refuse_none();
    assert_true(freed);
    assert_int_equal(refused_count(), 1);
    assert_int_equal(totals().kept_bytes, 0);
    assert_false(huge_any_kept()); /* which would keep the purger awake for ever */
    assert_int_equal(resident_in(block, 20 * MiB), 0);
    char *again = take(20 * MiB);
    assert_ptr_equal(again, block);
    assert_true(huge_free(again));
    assert_int_equal(totals().kept_bytes, 0);
}

static void a_sweep_whose_unmapping_is_refused_tries_again(void **state)
{
    (void)state;
    char *blocks[3];
    for (size_t i = 0; i < 3; i++)
        blocks[i] = take(5 * MiB + i * os_page_size);
    for (size_t i = 0; i < 3; i++)
        assert_true(huge_free(blocks[i]));
    refuse(KIND(OS_CALL_UNMAP) | KIND(OS_CALL_PURGE), 1, SIZE_MAX);
    huge_sweep(0);
    refuse_none();
    assert_int_equal(refused_count(), 6);
    assert_int_equal(totals().kept_pieces, 3);
    huge_sweep(0);
    assert_int_equal(totals().kept_pieces, 0);
}

/* ---- The hardened mode ----------------------------------------------------------------------- */

static int no_blocks_by_default(void **state)
{
    options.harden = HARDEN_OFF;
    return no_blocks(state);
}

static int no_blocks_hardened(void **state)
{
    int result = no_blocks(state);
    options.harden = HARDEN_ON;
    return result;
}

static void hardened_what_is_kept_is_out_of_reach_and_not_used_again(void **state)
{
    (void)state;
    char *block = take(6 * MiB);
    memset(block, 1, 6 * MiB);
    assert_true(huge_free(block));
    assert_int_equal(totals().kept_bytes, 6 * MiB);
    assert_int_equal(os_resident_in(block, 6 * MiB), 0);
    assert_false(is_accessible(block));
    assert_false(huge_free(block));
    char *same = take(6 * MiB), *shorter = take(5 * MiB), *longer = take(7 * MiB);
    assert_ptr_not_equal(same, block);
    assert_false(is_accessible(block));
    assert_int_equal(totals().kept_bytes, 6 * MiB);
    assert_true(huge_free(same) && huge_free(shorter) && huge_free(longer));
}

static void hardened_a_block_that_shrinks_keeps_nothing_for_use(void **state)
{
    (void)state;
    char *block = take(20 * MiB);
    assert_ptr_equal(huge_resize(block, 8 * MiB), block);
    assert_int_equal(totals().kept_bytes, 0);
    assert_false(is_accessible(block + 8 * MiB));
    assert_true(huge_free(block));
}

/* What the kernel will not unmap is kept for use, and then it must be of use. */
static void hardened_addresses_that_stay_can_be_touched_again(void **state)
{
    (void)state;
    char *block = take(6 * MiB);
    assert_true(huge_free(block));
    refuse(KIND(OS_CALL_UNMAP), 1, SIZE_MAX);
    huge_sweep(0);
    refuse_none();
    char *again = take(6 * MiB);
    assert_ptr_equal(again, block);
    memset(again, 1, 6 * MiB);
    assert_true(huge_free(again));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, no_blocks, no_blocks)
#define TEST_HARDENED(name)                                                                        \
    cmocka_unit_test_setup_teardown(name, no_blocks_hardened, no_blocks_by_default)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_block_is_known_at_its_start_and_only_there),
        TEST(many_blocks_in_the_same_32_MiB_are_told_apart),
        TEST(blocks_stand_at_the_alignment_that_is_asked_for),
        TEST(a_freed_mapping_serves_the_next),
        TEST(a_block_grows_into_what_is_kept_behind_it),
        TEST(pieces_side_by_side_serve_a_larger_block),
        TEST(pieces_that_stand_apart_are_brought_together),
        TEST(what_is_missing_to_pieces_brought_together_is_fresh),
        TEST(pieces_that_may_not_be_brought_together_stay_kept),
        TEST(what_others_hold_moves_into_a_block),
        TEST(what_may_not_move_in_stays),
        TEST(the_rest_of_a_piece_keeps_its_age),
        TEST(of_those_kept_the_smallest_that_fits_is_used),
        TEST(a_kept_mapping_is_used_only_where_its_alignment_serves),
        TEST(no_more_than_128_MiB_are_kept),
        TEST(what_is_too_large_to_be_kept_counts_as_room_again),
        TEST(a_sweep_lets_go_of_what_is_old_enough),
        TEST(a_sweep_counts_what_was_resident_and_no_more),
        TEST(on_the_schedule_immediate_nothing_is_kept),
        TEST(a_fork_in_the_middle_of_a_sweep_loses_no_mappings_to_the_child),
        TEST(a_block_that_grows_keeps_its_bytes_and_reads_zero_beyond),
        TEST(a_block_that_cannot_grow_where_it_stands_is_moved),
        TEST(a_refused_move_changes_nothing),
        TEST(a_move_whose_target_may_not_be_cut_changes_nothing),
        TEST(a_block_that_shrinks_gives_its_tail_back),
        TEST(what_is_no_block_is_not_resized),
        TEST(without_memory_there_is_no_block_and_nothing_is_lost),
        TEST(a_mapping_whose_unmapping_is_refused_is_kept_without_its_memory),
        TEST(a_sweep_whose_unmapping_is_refused_tries_again),
        TEST_HARDENED(hardened_what_is_kept_is_out_of_reach_and_not_used_again),
        TEST_HARDENED(hardened_a_block_that_shrinks_keeps_nothing_for_use),
        TEST_HARDENED(hardened_addresses_that_stay_can_be_touched_again),
    };
    return cmocka_run_group_tests_name("huge", tests, start_library, NULL);
}
