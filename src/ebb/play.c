#include "play.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ebb.h"

#define SAMPLE_NS 3000000   /* between two looks at resident memory */
#define PROGRESS_SAMPLES 32 /* between two lines of progress */
#define LATER_LOOKS 50      /* after the last operation */
#define LATER_LOOK_NS 20000000
#define TOUCH_STEP 4096 /* bytes: a program writes to every page that it asked for */
#define THREAD_STACK (256 * KiB)
#define SPINS 200
#define YIELDS 20 /* that follow, before it sleeps */
#define BELLS 16384
#define RETRIES_MOST 2000 /* of starting a thread, a millisecond each, while nothing moves */

struct slot {
    void *_Atomic pointer;
    _Atomic uint32_t filled; /* times; written after the pointer */
    uint32_t pages;          /* touched */
};

static struct script_head *script;
static struct slot *slots;
static uint64_t *sizes; /* by slot; only to verify */
static const uint64_t *words;
static _Atomic uint32_t *ticks; /* threads that have to do something in each yet */
static _Atomic uint32_t low;    /* all ticks under it are done */
static _Atomic uint32_t sleep_until = UINT32_MAX;
static _Atomic uint32_t sleepers; /* threads that wait for a block */
static _Atomic uint32_t running;
static bool verifying;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static _Noreturn void give_up(void)
{
    fflush(stderr);
    _exit(EXIT_FAILED);
}

/* ---- Ticks ----------------------------------------------------------------------------------- */

static bool may_do(uint32_t tick)
{
    return atomic_load(&low) + SCRIPT_DRIFT >= tick;
}

/* The thread is done with a tick. */
static void finish_tick(uint32_t tick)
{
    if (atomic_fetch_sub(&ticks[tick], 1) != 1)
        return;
    uint32_t lowest = atomic_load(&low);
    while (lowest < script->ticks && atomic_load(&ticks[lowest]) == 0)
        if (atomic_compare_exchange_weak(&low, &lowest, lowest + 1))
            lowest++;
    /* A sleeper says how long before it looks at low again, which was written before this. */
    if (atomic_load(&low) >= atomic_load(&sleep_until)) {
        atomic_store(&sleep_until, UINT32_MAX);
        syscall(SYS_futex, &low, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    }
}

/* Until low is so much, or for so long; or shorter. */
static void sleep_for_low(uint32_t wanted, long ns)
{
    uint32_t known = atomic_load(&sleep_until);
    while (wanted < known && !atomic_compare_exchange_weak(&sleep_until, &known, wanted))
        continue;
    uint32_t seen = atomic_load(&low);
    struct timespec limit = {0, ns};
    if (seen < wanted)
        syscall(SYS_futex, &low, FUTEX_WAIT_PRIVATE, seen, &limit, NULL, 0);
}

static void wait_for_tick(uint32_t tick)
{
    for (int i = 0; i < SPINS; i++)
        if (may_do(tick))
            return;
    while (!may_do(tick))
        sleep_for_low(tick - SCRIPT_DRIFT, 5000000);
}

/* Acquire: pairs with the release of the thread that filled the slot. */
static uint32_t times_filled(struct slot *slot)
{
    return atomic_load_explicit(&slot->filled, memory_order_acquire);
}

/* What sleepers for a block listen to: one of these, so that hardly anybody is woken for another's.
 */
static _Atomic uint32_t *bell_of(const struct slot *slot, uint32_t filled)
{
    static _Atomic uint32_t bells[BELLS];
    return &bells[((uint32_t)(slot - slots) * 31 + filled) % BELLS];
}

/* Thousands may wait, so none of them is to run meanwhile: whoever they wait for would get his
 * share of the processors, and no more. */
static cold void sleep_for_block(struct slot *slot, uint32_t filled)
{
    _Atomic uint32_t *bell = bell_of(slot, filled);
    atomic_fetch_add(&sleepers, 1);
    for (;;) {
        uint32_t heard = atomic_load(bell);
        atomic_thread_fence(memory_order_seq_cst);
        if (times_filled(slot) == filled)
            break;
        syscall(SYS_futex, bell, FUTEX_WAIT_PRIVATE, heard, NULL, NULL, 0);
    }
    atomic_fetch_sub(&sleepers, 1);
}

static void wait_for_block(struct slot *slot, uint32_t filled)
{
    for (int i = 0; times_filled(slot) != filled; i++) {
        if (i > SPINS)
            sched_yield();
        if (i > SPINS + YIELDS)
            sleep_for_block(slot, filled);
    }
}

/* After an operation that somebody waits for, or will. The fences: either he sees that the slot is
 * filled, or we see that he sleeps. */
static inline void wake_for_block(struct slot *slot)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (likely(atomic_load_explicit(&sleepers, memory_order_relaxed) == 0))
        return;
    _Atomic uint32_t *bell =
        bell_of(slot, atomic_load_explicit(&slot->filled, memory_order_relaxed));
    atomic_fetch_add(bell, 1);
    syscall(SYS_futex, bell, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* ---- Verifying ------------------------------------------------------------------------------- */

static uint64_t pattern_of(uint32_t slot, uint32_t filled)
{
    uint64_t value = ((uint64_t)slot << 32 | filled) * 0x9e3779b97f4a7c15u;
    return (value ^ value >> 31) * 0xbf58476d1ce4e5b9u | 1;
}

static void fill_pattern(char *block, size_t size, uint64_t pattern)
{
    for (; size >= 8; block += 8, size -= 8) {
        memcpy(block, &pattern, 8);
        pattern += 0x0101010101010101u;
    }
    memcpy(block, &pattern, size);
}

/* The offset of the first byte that is wrong; size when none is. */
static size_t check_pattern(const char *block, size_t size, uint64_t pattern)
{
    for (size_t at = 0; at < size; at += 8) {
        size_t length = min_size(8, size - at);
        if (memcmp(block + at, &pattern, length) != 0) {
            for (size_t i = 0;; i++)
                if (block[at + i] != ((const char *)&pattern)[i])
                    return at + i;
        }
        pattern += 0x0101010101010101u;
    }
    return size;
}

static void require_pattern(uint32_t number, const char *block, size_t size, uint32_t filled,
                            const char *when)
{
    size_t wrong = check_pattern(block, size, pattern_of(number, filled));
    if (wrong == size)
        return;
    complain("replay: %s: byte %zu of the %llu at %p is not what was written", when, wrong,
             (unsigned long long)sizes[number], (const void *)block);
    give_up();
}

static void require_usable(const char *block, size_t size, size_t alignment)
{
    if ((uintptr_t)block % alignment != 0)
        complain("replay: a block of %zu bytes at %p is not aligned to %zu", size,
                 (const void *)block, alignment);
    else if (malloc_usable_size((void *)block) < size)
        complain("replay: a block of %zu bytes at %p has only %zu usable", size,
                 (const void *)block, malloc_usable_size((void *)block));
    else
        return;
    give_up();
}

static void require_zero(const char *block, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (block[i] != 0) {
            complain("replay: byte %zu of %zu at %p is not zero after calloc", i, size,
                     (const void *)block);
            give_up();
        }
    }
}

/* ---- Operations ------------------------------------------------------------------------------ */

static cold _Noreturn void no_memory(size_t size)
{
    complain("replay: no memory for a block of %zu bytes", size);
    give_up();
}

static inline uint32_t pages_of(size_t size)
{
    return (uint32_t)((size + TOUCH_STEP - 1) / TOUCH_STEP);
}

/* Writes to each page of the block from one on. */
static inline void touch(char *block, uint32_t from, uint32_t end)
{
    for (uint32_t page = from; page < end; page++)
        ((volatile char *)block)[(size_t)page * TOUCH_STEP] = 1;
}

static inline void got(uint32_t number, char *block, size_t size, bool verify)
{
    struct slot *slot = &slots[number];
    if (unlikely(block == NULL))
        no_memory(size);
    uint32_t filled = atomic_load_explicit(&slot->filled, memory_order_relaxed) + 1;
    if (verify) {
        sizes[number] = size;
        fill_pattern(block, size, pattern_of(number, filled));
    }
    atomic_store_explicit(&slot->pointer, block, memory_order_relaxed);
    /* Release: pairs with the acquire in wait_for_block. */
    atomic_store_explicit(&slot->filled, filled, memory_order_release);
}

static inline void do_malloc(uint32_t number, size_t size, bool verify)
{
    char *block = malloc(size);
    if (verify && block != NULL) {
        require_usable(block, size, size >= 16 ? 16 : size >= 8 ? 8 : 1);
    } else if (likely(block != NULL)) {
        slots[number].pages = pages_of(size);
        touch(block, 0, slots[number].pages);
    }
    got(number, block, size, verify);
}

/* Of calloc a program may leave what it does not need untouched. */
static inline void do_calloc(uint32_t number, size_t size, bool verify)
{
    char *block = calloc(1, size);
    if (verify && block != NULL) {
        require_usable(block, size, size >= 16 ? 16 : size >= 8 ? 8 : 1);
        require_zero(block, size);
    }
    slots[number].pages = 0;
    got(number, block, size, verify);
}

static void do_aligned(uint32_t number, size_t size, unsigned alignment_log, bool verify)
{
    size_t alignment = max_size((size_t)1 << alignment_log, sizeof(void *));
    void *block = NULL;
    if (posix_memalign(&block, alignment, size) != 0)
        block = NULL;
    if (verify && block != NULL) {
        require_usable(block, size, alignment);
    } else if (block != NULL) {
        slots[number].pages = pages_of(size);
        touch(block, 0, slots[number].pages);
    }
    got(number, block, size, verify);
}

static inline void do_realloc(uint32_t number, size_t size, bool verify)
{
    struct slot *slot = &slots[number];
    char *old = atomic_load_explicit(&slot->pointer, memory_order_relaxed);
    uint32_t filled = atomic_load_explicit(&slot->filled, memory_order_relaxed);
    size_t old_size = verify ? sizes[number] : 0;
    if (verify)
        require_pattern(number, old, old_size, filled, "before realloc");
    /* What is not there by realloc(p, 0) is a block that the trace knows. */
    char *block = realloc(old, size);
    if (block == NULL && size == 0)
        block = malloc(size);
    if (verify && block != NULL) {
        require_pattern(number, block, min_size(old_size, size), filled, "after realloc");
        require_usable(block, size, size >= 16 ? 16 : size >= 8 ? 8 : 1);
    } else if (likely(block != NULL)) {
        uint32_t pages = pages_of(size);
        touch(block, slot->pages, pages);
        slot->pages = pages;
    }
    got(number, block, size, verify);
}

static inline void do_free(uint32_t number, bool verify)
{
    struct slot *slot = &slots[number];
    char *block = atomic_load_explicit(&slot->pointer, memory_order_relaxed);
    if (verify) {
        uint32_t filled = atomic_load_explicit(&slot->filled, memory_order_relaxed);
        require_pattern(number, block, sizes[number], filled, "before free");
        atomic_store_explicit(&slot->pointer, NULL, memory_order_relaxed);
    }
    free(block);
}

static void do_wide(uint32_t number, uint32_t value, size_t size, bool verify)
{
    unsigned kind = value & 0xff;
    if (kind == SCRIPT_ALIGNED)
        do_aligned(number, size, value >> 8 & 0xff, verify);
    else if (kind == SCRIPT_MALLOC)
        do_malloc(number, size, verify);
    else if (kind == SCRIPT_CALLOC)
        do_calloc(number, size, verify);
    else
        do_realloc(number, size, verify);
    if ((value & SCRIPT_WIDE_AWAITED) != 0)
        wake_for_block(&slots[number]);
}

static inline uint32_t slot_of(uint64_t word)
{
    return (uint32_t)(word >> 32) & (SCRIPT_SLOTS_MOST - 1);
}

/* What the recorded program had at hand is in the processor's cache in time: where it keeps the
 * address of a block, and the beginning of one that it gives back, at which it has just looked. */
static inline void bring_near(const uint64_t *at)
{
    __builtin_prefetch(&slots[slot_of(at[SCRIPT_AHEAD - 1])], 1);
    uint64_t soon = at[SCRIPT_AHEAD / 2 - 1];
    uint32_t number = slot_of(soon);
    if (soon >> 60 == SCRIPT_FREE && number < script->slots) /* may be the bytes of a wide one */
        __builtin_prefetch(atomic_load_explicit(&slots[number].pointer, memory_order_relaxed), 1);
}

static always_inline void run_words(const uint64_t *at, bool verify)
{
    uint32_t tick = UINT32_MAX;
    for (;;) {
        uint64_t word = *at++;
        uint32_t number = slot_of(word), value = (uint32_t)word;
        bring_near(at);
        switch (word >> 60) {
        case SCRIPT_END:
            finish_tick(tick);
            return;
        case SCRIPT_LINK:
            at = words + (word & (((uint64_t)1 << 60) - 1));
            break;
        case SCRIPT_TICK:
            if (tick != UINT32_MAX)
                finish_tick(tick);
            tick = value;
            if (unlikely(!may_do(tick)))
                wait_for_tick(tick);
            break;
        case SCRIPT_MALLOC:
            do_malloc(number, value, verify);
            break;
        case SCRIPT_CALLOC:
            do_calloc(number, value, verify);
            break;
        case SCRIPT_REALLOC:
            do_realloc(number, value, verify);
            break;
        case SCRIPT_MALLOC | SCRIPT_AWAITED:
            do_malloc(number, value, verify);
            wake_for_block(&slots[number]);
            break;
        case SCRIPT_CALLOC | SCRIPT_AWAITED:
            do_calloc(number, value, verify);
            wake_for_block(&slots[number]);
            break;
        case SCRIPT_REALLOC | SCRIPT_AWAITED:
            do_realloc(number, value, verify);
            wake_for_block(&slots[number]);
            break;
        case SCRIPT_FREE:
            do_free(number, verify);
            break;
        case SCRIPT_WAIT:
            wait_for_block(&slots[number], value);
            break;
        default:
            do_wide(number, value, (size_t)*at++, verify);
        }
    }
}

static void *run_thread(void *argument)
{
    const struct script_thread *thread = argument;
    if (verifying)
        run_words(words + thread->first, true);
    else
        run_words(words + thread->first, false);
    atomic_fetch_sub(&running, 1);
    return NULL;
}

/* ---- Resident memory ------------------------------------------------------------------------- */

/* The number behind a name in a file of /proc, in KiB; as bytes. */
static uint64_t read_kib(const char *path, const char *name)
{
    char text[4096];
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor < 0 ? 0 : read(descriptor, text, sizeof text - 1);
    if (descriptor >= 0)
        close(descriptor);
    text[length > 0 ? length : 0] = '\0';
    const char *found = strstr(text, name);
    return found == NULL ? 0 : strtoull(found + strlen(name), NULL, 10) * KiB;
}

/* Exact, and slow in large processes. */
static uint64_t anonymous_bytes(void)
{
    uint64_t bytes = read_kib("/proc/self/smaps_rollup", "\nAnonymous:");
    return bytes != 0 ? bytes : read_kib("/proc/self/status", "\nRssAnon:");
}

struct measurement {
    struct play_result *result;
    uint64_t begun_ns, next_ns, base;
    double resident_sum, live_sum;
    unsigned samples;
    bool show_progress;
};

static uint64_t above(uint64_t bytes, uint64_t base)
{
    return bytes > base ? bytes - base : 0;
}

static void sample(struct measurement *measurement, uint64_t now)
{
    struct play_result *result = measurement->result;
    uint32_t tick = atomic_load(&low);
    uint64_t time_us = (now - measurement->begun_ns) / 1000;
    uint64_t live = script_live(script)[tick < script->ticks ? tick : script->ticks - 1];
    uint64_t resident = above(read_kib("/proc/self/status", "\nRssAnon:"), measurement->base);
    curve_add(&result->resident, time_us, resident);
    curve_add(&result->live, time_us, live);
    if (resident > result->most_resident)
        result->most_resident = resident;
    measurement->resident_sum += (double)resident;
    measurement->live_sum += (double)live;
    if (measurement->show_progress && measurement->samples % PROGRESS_SAMPLES == 0) {
        unsigned percent = (unsigned)(100 * (uint64_t)tick / script->ticks);
        fprintf(stderr, "\r\033[K%3u %%  [%-50.*s]  %.1f s", percent, (int)percent / 2,
                "##################################################", (double)time_us / 1e6);
        fflush(stderr);
    }
    measurement->samples++;
    measurement->next_ns = now_ns() + SAMPLE_NS;
}

/* ---- The whole ------------------------------------------------------------------------------- */

static void start_thread(const struct script_thread *thread, const pthread_attr_t *attributes)
{
    pthread_t id;
    atomic_fetch_add(&running, 1);
    int error = pthread_create(&id, attributes, run_thread, (void *)thread);
    uint32_t last_low = atomic_load(&low), last_running = atomic_load(&running);
    /* Until others have ended; which may need what this one has to do. */
    for (int i = 0; error == EAGAIN && last_running > 1 && i < RETRIES_MOST; i++) {
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
        uint32_t now_low = atomic_load(&low), now_running = atomic_load(&running);
        if (now_low != last_low || now_running != last_running)
            i = 0;
        last_low = now_low;
        last_running = now_running;
        error = pthread_create(&id, attributes, run_thread, (void *)thread);
    }
    if (error != 0) {
        complain("replay: starting a thread: %s", strerror(error));
        give_up();
    }
}

/* Starts each thread when its time has come, and looks at memory in between. */
static void conduct(struct measurement *measurement, bool measures)
{
    const struct script_thread *threads = script_threads(script);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (uint32_t next = 0; next < script->threads || atomic_load(&running) > 0;) {
        if (next < script->threads && may_do(threads[next].tick)) {
            start_thread(&threads[next++], &attributes);
            continue;
        }
        uint64_t now = now_ns();
        if (now >= measurement->next_ns && (measures || measurement->show_progress))
            sample(measurement, now);
        uint32_t wanted =
            next < script->threads ? threads[next].tick - SCRIPT_DRIFT : script->ticks;
        sleep_for_low(wanted, SAMPLE_NS);
        if (atomic_load(&low) >= script->ticks)
            sched_yield(); /* threads are about to end */
    }
    pthread_attr_destroy(&attributes);
}

/* Blocks that the trace leaves live are whole, too. */
static void check_rest(void)
{
    for (uint32_t i = 0; i < script->slots; i++) {
        char *block = atomic_load(&slots[i].pointer);
        if (block != NULL)
            require_pattern(i, block, sizes[i], atomic_load(&slots[i].filled), "at the end");
    }
}

static void prepare(struct script_head *head, bool verify)
{
    script = head;
    words = script_words(head);
    verifying = verify;
    slots = table_map((head->slots + 1) * sizeof *slots);
    sizes = verify ? table_map((head->slots + 1) * sizeof *sizes) : NULL;
    ticks = table_map(head->ticks * sizeof *ticks);
    for (uint32_t i = 0; i < head->ticks; i++)
        ticks[i] = script_ticks(head)[i];
    if (verify)
        return;
    /* Nothing of ours is to be faulted in while time is taken. */
    memset(slots, 0, (head->slots + 1) * sizeof *slots);
    for (size_t at = 0; at < head->size; at += 4096)
        (void)*((volatile const char *)head + at);
}

/* The last of the run, and what the allocator does when nothing more is asked of it. */
static void finish_sampling(struct measurement *measurement)
{
    const struct timespec pause = {0, LATER_LOOK_NS};
    measurement->show_progress = false;
    sample(measurement, now_ns());
    if (measurement->live_sum > 0)
        measurement->result->mean_ratio = measurement->resident_sum / measurement->live_sum;
    for (int i = 0; i < LATER_LOOKS; i++) {
        nanosleep(&pause, NULL);
        sample(measurement, now_ns());
    }
}

bool play(struct script_head *head, const struct play_request *request, struct play_result *result)
{
    prepare(head, request->verify);
    struct measurement measurement = {.result = result, .show_progress = request->show_progress};
    measurement.base = anonymous_bytes();
    measurement.begun_ns = measurement.next_ns = now_ns();
    if (head->operations > 0)
        conduct(&measurement, !request->verify);
    uint64_t end_ns = now_ns();
    result->elapsed_ns = end_ns - measurement.begun_ns;
    if (request->verify) {
        check_rest();
    } else {
        result->final_resident = above(anonymous_bytes(), measurement.base);
        if (result->final_resident > result->most_resident)
            result->most_resident = result->final_resident;
        finish_sampling(&measurement);
        result->later_resident = above(anonymous_bytes(), measurement.base);
    }
    if (request->show_progress)
        fputs("\r\033[K", stderr);
    result->is_done = true;
    return true;
}
