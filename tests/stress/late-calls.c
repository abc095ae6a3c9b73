/* late-calls: memory works from the first constructor to the last destructor: in destructors of
 * thread-specific keys that re-arm themselves, of C11 tss and of C++ thread_local; in exit
 * handlers, ELF constructors and destructors, of libraries that come and go too; after main has
 * ended its thread; in threads that still run while the process exits; and in a thread that only
 * ever frees.
 *
 * Each case is a process of its own (`late-calls --case NAME SEED`), since most of them end one.
 * Such a process calls exit(1), and only its very last step, having seen all others, turns that
 * into 0.
 */
#define _GNU_SOURCE
#include "late-calls.h"
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

#define CASE_SECONDS 30

extern char **environ;

/* ---- shared by the cases -----------------------------------------------------------------------
 */

/* Makes, checks and frees a few blocks of all sizes: works here, at this moment. */
static void exercise(const char *when)
{
    struct parcel *parcels[12];
    for (unsigned i = 0; i < 12; i++)
        parcels[i] = parcel_make(PARCEL_LEAST + ((size_t)16 << i), 0);
    for (unsigned i = 0; i < 12; i++)
        parcel_end(parcels[i], 0, when);
}

static pthread_t start(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, function, argument);
    if (error != 0)
        fail("pthread_create: %s", strerror(error));
    return thread;
}

static void run_thread(void *(*function)(void *), void *argument)
{
    pthread_join(start(function, argument), NULL);
}

static void require_count(const char *what, uint64_t actual, uint64_t expected)
{
    if (actual != expected)
        fail("%s: %" PRIu64 ", expected %" PRIu64, what, actual, expected);
}

struct parcel *late_make(unsigned long size)
{
    return parcel_make(size, 0);
}

void late_end(struct parcel *parcel, const char *when)
{
    parcel_end(parcel, 0, when);
}

/* ---- thread-specific keys ----------------------------------------------------------------------
 */

#define KEYS 8
#define KEY_THREADS 200

static pthread_key_t keys[KEYS];
static _Atomic uint64_t key_destructors;

/* The maker of the parcel is its round: it comes back with a new block until the C library gives
 * up on it, after PTHREAD_DESTRUCTOR_ITERATIONS rounds. */
static void key_destructor(void *value)
{
    struct parcel *parcel = value;
    uint32_t round = parcel->maker;
    unsigned key = (unsigned)(parcel->size % KEYS);
    parcel_end(parcel, round, "in a key's destructor");
    exercise("new in a key's destructor");
    atomic_fetch_add(&key_destructors, 1);
    if (round + 1 < PTHREAD_DESTRUCTOR_ITERATIONS)
        pthread_setspecific(keys[key], parcel_make(KEYS * 50 + key, round + 1));
}

static void *set_keys(void *unused)
{
    (void)unused;
    for (unsigned key = 0; key < KEYS; key++)
        pthread_setspecific(keys[key], parcel_make(KEYS * 50 + key, 0));
    return NULL;
}

/* As above, but the first call of malloc in the thread's life comes from the destructor. */
static void *set_key_silently(void *parcel)
{
    pthread_setspecific(keys[0], parcel);
    return NULL;
}

static void case_keys(void)
{
    for (unsigned key = 0; key < KEYS; key++)
        if (pthread_key_create(&keys[key], key_destructor) != 0)
            fail("pthread_key_create");
    for (unsigned i = 0; i < KEY_THREADS; i++)
        run_thread(set_keys, NULL);
    for (unsigned i = 0; i < KEY_THREADS; i++)
        run_thread(set_key_silently, parcel_make(KEYS * 50, 0));
    require_count("destructors of keys", key_destructors,
                  (uint64_t)KEY_THREADS * (KEYS + 1) * PTHREAD_DESTRUCTOR_ITERATIONS);
    _exit(0);
}

static tss_t tss;
static _Atomic uint64_t tss_destructors;

static void tss_destructor(void *value)
{
    struct parcel *parcel = value;
    uint32_t round = parcel->maker;
    parcel_end(parcel, round, "in a tss destructor");
    atomic_fetch_add(&tss_destructors, 1);
    if (round + 1 < TSS_DTOR_ITERATIONS)
        tss_set(tss, parcel_make(700, round + 1));
}

static int set_tss(void *unused)
{
    (void)unused;
    tss_set(tss, parcel_make(600, 0));
    return 0;
}

static void case_tss(void)
{
    if (tss_create(&tss, tss_destructor) != thrd_success)
        fail("tss_create");
    for (unsigned i = 0; i < KEY_THREADS; i++) {
        thrd_t thread;
        if (thrd_create(&thread, set_tss, NULL) != thrd_success)
            fail("thrd_create");
        thrd_join(thread, NULL);
    }
    require_count("destructors of tss", tss_destructors, KEY_THREADS * TSS_DTOR_ITERATIONS);
    _exit(0);
}

static void *touch_cxx(void *number)
{
    cxx_touch((unsigned)(uintptr_t)number);
    return NULL;
}

static void case_thread_local(void)
{
    for (uintptr_t i = 0; i < KEY_THREADS; i++)
        run_thread(touch_cxx, (void *)i);
    require_count("thread_local objects destroyed", cxx_destroyed(), 2 * KEY_THREADS);
    _exit(0);
}

/* ---- exit handlers, constructors and destructors ------------------------------------------------
 */

#define HANDLERS 40

static struct parcel *handler_blocks[HANDLERS];
static unsigned handlers_run;

static void exit_handler(void)
{
    parcel_end(handler_blocks[handlers_run++], 0, "in an exit handler");
    exercise("new in an exit handler");
}

/* Registered first: runs last. */
static void last_exit_handler(void)
{
    require_count("exit handlers", handlers_run, HANDLERS);
    /* Those of the main thread go before all exit handlers. */
    require_count("thread_local objects destroyed", cxx_destroyed(), 2);
    exercise("new in the last exit handler");
    _exit(0);
}

static void case_exit_handlers(void)
{
    atexit(last_exit_handler);
    for (unsigned i = 0; i < HANDLERS; i++) {
        handler_blocks[i] = parcel_make(100 * (i + 1), 0);
        atexit(exit_handler);
    }
    cxx_touch(0);
    exit(1);
}

static void case_quick_exit(void)
{
    at_quick_exit(last_exit_handler);
    for (unsigned i = 0; i < HANDLERS; i++) {
        handler_blocks[i] = parcel_make(100 * (i + 1), 0);
        at_quick_exit(exit_handler);
    }
    run_thread(touch_cxx, NULL); /* quick_exit itself destroys no thread_local object */
    quick_exit(1);
}

static struct parcel *constructor_block;
static bool ends_in_elf_destructor;
static unsigned libraries_ended;

/* 101 is the first priority that a program may have: before all its other constructors, and its
 * destructor after all others. */
__attribute__((constructor(101))) static void first_constructor(void)
{
    exercise("in the first constructor");
    constructor_block = parcel_make(12345, 0);
}

__attribute__((destructor(101))) static void last_destructor(void)
{
    if (!ends_in_elf_destructor)
        return;
    require_count("exit handlers", handlers_run, HANDLERS);
    parcel_end(constructor_block, 0, "of the first constructor, in the last destructor");
    exercise("in the last destructor");
}

void late_library_ended(void)
{
    libraries_ended++;
    /* Of the dlopened library, whose destructor runs after the program's own. */
    if (ends_in_elf_destructor)
        _exit(0);
}

static void *open_library(void)
{
    char path[PATH_MAX], self[PATH_MAX];
    const char *top = getenv("EBB_BUILDDIR");
    if (top != NULL) {
        snprintf(path, sizeof path, "%s/tests/stress/.libs/late-calls-library.so", top);
        if (access(path, R_OK) == 0)
            return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        fail("readlink /proc/self/exe");
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    if (snprintf(path, sizeof path, "%s/.libs/late-calls-library.so", self) >= (int)sizeof path)
        fail("the path of the library is too long");
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static void *opened_library(void)
{
    void *library = open_library();
    if (library == NULL)
        fail("%s", dlerror());
    return library;
}

static void case_elf_destructors(void)
{
    library_keep *keep = (library_keep *)dlsym(opened_library(), "keep");
    if (keep == NULL)
        fail("%s", dlerror());
    keep(parcel_make(777, 0));
    ends_in_elf_destructor = true;
    for (unsigned i = 0; i < HANDLERS; i++) {
        handler_blocks[i] = parcel_make(100 * (i + 1), 0);
        atexit(exit_handler);
    }
    exit(1);
}

/* ---- libraries that come and go -----------------------------------------------------------------
 */

#define LIBRARY_TURNS 200

static atomic_bool stop;

static void *churn(void *argument)
{
    struct rng rng = rng_stream((uintptr_t)argument);
    while (!atomic_load(&stop)) {
        struct parcel *parcels[64];
        for (unsigned i = 0; i < 64; i++)
            parcels[i] = parcel_make(rng_size(&rng, PARCEL_LEAST, 4 * KiB), 0);
        for (unsigned i = 0; i < 64; i++)
            parcel_end(parcels[i], 0, "while others come and go");
    }
    return NULL;
}

static void case_libraries(void)
{
    pthread_t other = start(churn, NULL);
    for (unsigned turn = 0; turn < LIBRARY_TURNS; turn++) {
        void *library = opened_library();
        library_take *take = (library_take *)dlsym(library, "take");
        library_keep *keep = (library_keep *)dlsym(library, "keep");
        struct parcel *first = take(), *second = take();
        keep(parcel_make(40000, 0));
        parcel_end(first, 0, "made by the library, ended by the program");
        if (dlclose(library) != 0)
            fail("%s", dlerror());
        parcel_end(second, 0, "made by a library that is gone");
    }
    atomic_store(&stop, true);
    pthread_join(other, NULL);
    require_count("destructors of libraries", libraries_ended, LIBRARY_TURNS);
    _exit(0);
}

/* ---- the end of main and of the process
 * ----------------------------------------------------------- */

static pthread_t main_thread;
static struct parcel *mains_blocks[1000];

static void *outlive_main(void *unused)
{
    (void)unused;
    /* Its arena is an orphan from here on, and this thread frees what it made. */
    pthread_join(main_thread, NULL);
    for (unsigned i = 0; i < 1000; i++)
        parcel_end(mains_blocks[i], 1, "of the main thread, which has ended");
    exercise("after the main thread");
    require_count("destructors of the main thread's key", key_destructors,
                  PTHREAD_DESTRUCTOR_ITERATIONS);
    malloc_trim(0);
    exit(0);
}

static void case_main_ends_first(void)
{
    for (unsigned i = 0; i < 1000; i++)
        mains_blocks[i] = parcel_make(PARCEL_LEAST + i * 10, 0);
    main_thread = pthread_self();
    if (pthread_key_create(&keys[0], key_destructor) != 0)
        fail("pthread_key_create");
    pthread_setspecific(keys[0], parcel_make(KEYS * 50, 0));
    start(outlive_main, NULL);
    pthread_exit(NULL);
}

/* Threads that nobody waits for are in malloc and free while the process exits. */
static void case_detached(void)
{
    for (unsigned turn = 0; turn < 50; turn++) {
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0) {
            for (uintptr_t i = 0; i < 4; i++)
                pthread_detach(start(churn, (void *)i));
            sleep_seconds(0.001 * (turn % 4));
            exercise("before the exit");
            exit(0);
        }
        require_success(wait_for(child, CASE_SECONDS, "exit with detached threads"),
                        "exit with detached threads");
    }
    _exit(0);
}

/* ---- threads that never allocate
 * ------------------------------------------------------------------ */

#define MANY 20000

static struct parcel *many[MANY];

static void *free_range(void *argument)
{
    size_t from = (uintptr_t)argument;
    for (size_t i = from; i < from + MANY / 10; i++)
        parcel_end(many[i], 1, "freed by a thread that never allocated");
    return NULL;
}

static void case_only_free(void)
{
    struct rng rng = rng_stream(0);
    for (unsigned round = 0; round < 5; round++) {
        for (size_t i = 0; i < MANY; i++)
            many[i] = parcel_make(rng_size(&rng, PARCEL_LEAST, i % 100 == 0 ? MiB : 2 * KiB), 0);
        pthread_t threads[10];
        for (uintptr_t i = 0; i < 10; i++)
            threads[i] = start(free_range, (void *)(i * (MANY / 10)));
        for (unsigned i = 0; i < 10; i++)
            pthread_join(threads[i], NULL);
    }
    exercise("after others freed all");
    _exit(0);
}

/* ---- all cases
 * ------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(void); /* does not return */
} cases[] = {
    {"keys", case_keys},
    {"tss", case_tss},
    {"thread-local", case_thread_local},
    {"exit-handlers", case_exit_handlers},
    {"quick-exit", case_quick_exit},
    {"elf-destructors", case_elf_destructors},
    {"libraries", case_libraries},
    {"main-ends-first", case_main_ends_first},
    {"detached", case_detached},
    {"only-free", case_only_free},
};
#define CASES (sizeof cases / sizeof cases[0])

static void run_case(const char *name, const char *seed)
{
    stress_begin_part(name, seed);
    for (unsigned i = 0; i < CASES; i++)
        if (strcmp(cases[i].name, name) == 0)
            cases[i].run();
    fail("there is no case %s", name);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--case") == 0)
        run_case(argv[2], argv[3]);
    stress_begin(argc, argv, "late-calls", 120);
    char seed[24];
    snprintf(seed, sizeof seed, "%" PRIu64, stress_seed);
    for (uint64_t turn = 0; turn < scaled(1); turn++) {
        for (unsigned i = 0; i < CASES; i++) {
            char *arguments[] = {argv[0], (char *)"--case", (char *)cases[i].name, seed, NULL};
            double began = now_seconds();
            pid_t child;
            int error = posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ);
            if (error != 0)
                fail("posix_spawn: %s", strerror(error));
            require_success(wait_for(child, CASE_SECONDS, cases[i].name), cases[i].name);
            report("%-16s %.2f s", cases[i].name, now_seconds() - began);
        }
    }
    return 0;
}
