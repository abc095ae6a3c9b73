/*
 * errno stays what it was after every call that succeeds, also when the call had to wait for
 * another thread or found its cache taken over: waiting is a system call that fails by design.
 */
#include "support.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { worker_count = 4, asker_count = 4, thread_count = worker_count + asker_count + 1 };
enum { slot_count = 512, interruptions = 8000 };

/* Blocks change hands here, so that most are freed by a thread that did not make them. */
static void *_Atomic slots[slot_count];
static _Atomic bool stop;
static _Atomic uint64_t calls, changed;

static void expect_errno(int value)
{
    if (errno != value)
        atomic_fetch_add(&changed, 1);
}

static void *make_block(uint64_t number)
{
    const size_t size = 16 + number % 3000;
    if (number % 64 == 0)
        return malloc(100 * KIB);
    switch (number % 4) {
    case 0:
        return calloc(1, size);
    case 1:
        return aligned_alloc(64, size);
    case 2:
        return realloc(malloc(16), size);
    default:
        return malloc(size);
    }
}

/* Questions, and a realloc that has nothing to do, take a lock as well, and there is one lock for
 * all huge blocks. */
static void *ask(void *unused)
{
    char *huge = malloc(5 * MIB);
    while (!stop) {
        errno = ENXIO;
        if (malloc_usable_size(huge) < 5 * MIB || realloc(huge, 5 * MIB) != huge)
            abort();
        expect_errno(ENXIO);
    }
    free(huge);
    return unused;
}

static void *exchange_blocks(void *argument)
{
    uint64_t random = (uintptr_t)argument;
    while (!stop) {
        const uint64_t number = next_random(&random) >> 8;
        errno = EDOM;
        void *made = make_block(number);
        expect_errno(EDOM);
        void *other = atomic_exchange(&slots[number / 64 % slot_count], made);
        errno = ERANGE;
        free(other);
        expect_errno(ERANGE);
        atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    }
    return NULL;
}

/* Closes every cache, again and again, and holds every lock for a while. */
static void *take_over(void *unused)
{
    while (!stop) {
        errno = EXDEV;
        malloc_trim(0);
        expect_errno(EXDEV);
        nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
    }
    return unused;
}

static void on_signal(int signal)
{
    (void)signal;
}

/* Without SA_RESTART: whoever sleeps in a system call comes out of it with EINTR. */
static void interrupt_for_a_while(const pthread_t *threads)
{
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal}, NULL);
    for (size_t i = 0; i < interruptions; i++) {
        pthread_kill(threads[i % thread_count], SIGUSR1);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
}

static void errno_is_kept_by_calls_that_wait(void **state)
{
    (void)state;
    pthread_t threads[thread_count];
    for (uintptr_t i = 0; i < worker_count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, exchange_blocks, (void *)(i + 1)), 0);
    for (size_t i = 0; i < asker_count; i++)
        assert_int_equal(pthread_create(&threads[worker_count + i], NULL, ask, NULL), 0);
    assert_int_equal(pthread_create(&threads[thread_count - 1], NULL, take_over, NULL), 0);
    interrupt_for_a_while(threads);
    stop = true;
    for (size_t i = 0; i < thread_count; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < slot_count; i++)
        free(slots[i]);
    assert_true(calls > 10000);
    assert_int_equal(changed, 0);
}

int main(void)
{
    require_library();
    const struct CMUnitTest tests[] = {cmocka_unit_test(errno_is_kept_by_calls_that_wait)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
