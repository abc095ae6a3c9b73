/* What all threads' caches may hold is shared among those that live: threads that have ended leave
 * their share to the others. */
#include "support.h"

#include <malloc.h>
#include <pthread.h>

#include "older.h"

enum { THREADS = 150, ROUNDS = 50, BLOCKS = 64, SIZES = 4 };

static pthread_barrier_t all_have_an_arena;

static void *use_an_arena(void *unused)
{
    free(malloc(100));
    pthread_barrier_wait(&all_have_an_arena);
    return unused;
}

/* The most that this thread has kept for itself, of 8 MiB that come and go. */
static size_t most_cached(void)
{
    static void *blocks[SIZES][BLOCKS];
    static const size_t sizes[SIZES] = {8000, 16000, 24000, 32000};
    size_t most = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int of = 0; of < SIZES; of++)
            for (int i = 0; i < BLOCKS; i++)
                blocks[of][i] = malloc(sizes[of]);
        for (int of = 0; of < SIZES; of++)
            for (int i = 0; i < BLOCKS; i++)
                free(blocks[of][i]);
        size_t cached = mallinfo2().fsmblks;
        most = cached > most ? cached : most;
    }
    return most;
}

static void ended_threads_take_no_share(void **state)
{
    (void)state;
    skip_on_other_malloc();
    pthread_t threads[THREADS];
    assert_int_equal(pthread_barrier_init(&all_have_an_arena, NULL, THREADS + 1), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_an_arena, NULL), 0);
    pthread_barrier_wait(&all_have_an_arena);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_in_range(most_cached(), 512 * KIB, 4 * MIB);
}

int main(void)
{
    require_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ended_threads_take_no_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
