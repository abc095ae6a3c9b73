/* The mailbox: nothing lost, nothing doubled, bounded. Blocks are made-up addresses here. */
#include "support.h"

#include <pthread.h>
#include <sched.h>

#include "mailbox.h"

static struct mailbox box;

static int empty_box(void **state)
{
    (void)state;
    memset(&box, 0, sizeof box);
    return 0;
}

static void *block(size_t number)
{
    return (void *)(16 * (number + 1));
}

static bool put(size_t first, size_t count)
{
    void *blocks[2 * MAILBOX_SLOTS];
    for (size_t i = 0; i < count; i++)
        blocks[i] = block(first + i);
    return mailbox_put(&box, blocks, count);
}

/* Takes with this room and requires these blocks, in order. */
static void take(size_t room, size_t first, size_t count)
{
    void *blocks[2 * MAILBOX_SLOTS];
    assert_int_equal(mailbox_take(&box, blocks, room), count);
    for (size_t i = 0; i < count; i++)
        assert_ptr_equal(blocks[i], block(first + i));
}

static void what_is_put_is_taken_once_and_in_order(void **state)
{
    (void)state;
    assert_true(mailbox_is_empty(&box));
    take(10, 0, 0);
    assert_true(put(0, 3));
    assert_true(put(3, 4));
    assert_false(mailbox_is_empty(&box));
    take(5, 0, 5);
    take(5, 5, 2);
    assert_true(mailbox_is_empty(&box));
    take(5, 0, 0);
}

static void it_is_bounded_and_takes_all_of_a_batch_or_nothing(void **state)
{
    (void)state;
    assert_false(put(0, MAILBOX_SLOTS + 1));
    assert_true(mailbox_is_empty(&box));
    assert_true(put(0, MAILBOX_SLOTS - 2));
    assert_false(put(1000, 3));
    assert_true(put(MAILBOX_SLOTS - 2, 2));
    assert_false(put(1000, 1));
    take(MAILBOX_SLOTS, 0, MAILBOX_SLOTS);
    assert_true(put(0, MAILBOX_SLOTS));
    take(MAILBOX_SLOTS, 0, MAILBOX_SLOTS);
}

/* The slots are used again only when all of them have been emptied. */
static void slots_are_used_again_after_all_were_taken(void **state)
{
    (void)state;
    for (size_t round = 0; round < 1000; round++) {
        assert_true(put(round, 7));
        take(3, round, 3);
        assert_true(put(round + 7, 5));
        take(100, round + 3, 9);
        assert_true(mailbox_is_empty(&box));
    }
    /* Never quite empty: it fills up, and is refused rather than overwritten. */
    size_t putted = 0, taken = 0;
    while (put(putted, 2)) {
        putted += 2;
        take(1, taken, 1);
        taken++;
    }
    assert_int_equal(putted, MAILBOX_SLOTS);
    take(MAILBOX_SLOTS, taken, putted - taken);
    assert_true(mailbox_is_empty(&box));
}

static void a_writer_that_sleeps_delays_what_is_behind_it_and_no_more(void **state)
{
    (void)state;
    assert_true(put(0, 2));
    uint32_t gap = atomic_fetch_add(&box.reserved, 1); /* reserved, not stored yet */
    assert_true(put(3, 2));
    take(10, 0, 2);
    take(10, 0, 0);
    assert_false(mailbox_is_empty(&box));
    atomic_store(&box.slots[gap], block(2));
    take(10, 2, 3);
    assert_true(mailbox_is_empty(&box));
}

/* ---- Many writers, one reader -----------------------------------------------------------------
 */

enum { WRITERS = 4, PER_WRITER = 300000, BATCH_MOST = 60 };

static unsigned char seen[WRITERS * PER_WRITER];
static _Atomic size_t writers_left;
static size_t full_count[WRITERS];

static void *write_all(void *argument)
{
    size_t writer = (size_t)argument, next = 0;
    struct random random = {writer};
    while (next < PER_WRITER) {
        size_t count = 1 + random_below(&random, BATCH_MOST);
        if (count > PER_WRITER - next)
            count = PER_WRITER - next;
        while (!put(writer * PER_WRITER + next, count)) {
            full_count[writer]++;
            sched_yield();
        }
        next += count;
    }
    atomic_fetch_sub(&writers_left, 1);
    return NULL;
}

static size_t read_some(struct random *random, size_t *last_of)
{
    void *blocks[64];
    size_t count = mailbox_take(&box, blocks, 1 + random_below(random, 64));
    for (size_t i = 0; i < count; i++) {
        size_t number = (size_t)(uintptr_t)blocks[i] / 16 - 1, writer = number / PER_WRITER;
        require((uintptr_t)blocks[i] % 16 == 0 && writer < WRITERS);
        require(!seen[number]);
        seen[number] = 1;
        require(number + 1 > last_of[writer]); /* of one writer in its order */
        last_of[writer] = number + 1;
    }
    return count;
}

static void many_writers_lose_nothing_and_double_nothing(void **state)
{
    (void)state;
    pthread_t threads[WRITERS];
    size_t last_of[WRITERS] = {0}, total = 0, full = 0;
    struct random random = {99};
    atomic_store(&writers_left, WRITERS);
    for (size_t i = 0; i < WRITERS; i++)
        require(pthread_create(&threads[i], NULL, write_all, (void *)i) == 0);
    while (atomic_load(&writers_left) != 0 || !mailbox_is_empty(&box)) {
        size_t count = read_some(&random, last_of);
        total += count;
        if (count == 0)
            sched_yield();
    }
    for (size_t i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        full += full_count[i];
    }
    assert_int_equal(total, WRITERS * PER_WRITER);
    assert_int_equal(box.taken, 0);
    print_message("%zu blocks, found full %zu times\n", total, full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_put_is_taken_once_and_in_order, empty_box),
        cmocka_unit_test_setup(it_is_bounded_and_takes_all_of_a_batch_or_nothing, empty_box),
        cmocka_unit_test_setup(slots_are_used_again_after_all_were_taken, empty_box),
        cmocka_unit_test_setup(a_writer_that_sleeps_delays_what_is_behind_it_and_no_more,
                               empty_box),
        cmocka_unit_test_setup(many_writers_lose_nothing_and_double_nothing, empty_box),
    };
    return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
