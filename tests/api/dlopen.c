/*
 * What the loader does to an allocator: C++ libraries that are loaded into a C program, allocate in
 * their constructors and go again; RTLD_NEXT; another library preloaded in front. This program is C
 * on purpose: libstdc++ comes with the plugin, and its names are not visible to everyone then.
 */
#include "support.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>

static char self[4096], plugin_path[4200], interposer_path[4200];

/* libtool puts modules into .libs beside the program. */
static int find_paths(void **state)
{
    (void)state;
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        return -1;
    self[length] = '\0';
    const int folder = (int)(strrchr(self, '/') - self);
    snprintf(plugin_path, sizeof plugin_path, "%.*s/.libs/plugin.so", folder, self);
    snprintf(interposer_path, sizeof interposer_path, "%.*s/.libs/interposer.so", folder, self);
    return 0;
}

static void *open_plugin(int flags)
{
    void *plugin = dlopen(plugin_path, flags);
    if (plugin == NULL)
        fail_msg("%s", dlerror());
    return plugin;
}

/* A function of the plugin, of a type that the caller knows. Also for children. */
static void *find(void *plugin, const char *name)
{
    void *found = dlsym(plugin, name);
    child_check(found != NULL);
    return found;
}

#define FUNCTION(result, name, plugin, ...)                                                        \
    result (*const name)(__VA_ARGS__) = (result(*)(__VA_ARGS__))find(plugin, #name)

static void a_library_may_allocate_in_its_constructors_and_free_in_its_destructors(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        void *plugin = open_plugin(round % 2 == 0 ? RTLD_NOW | RTLD_LOCAL : RTLD_LAZY);
        FUNCTION(bool, plugin_is_intact, plugin, void);
        assert_true(plugin_is_intact());
        free(malloc(1000));
        malloc_trim(0);
        assert_true(plugin_is_intact());
        assert_int_equal(dlclose(plugin), 0);
    }
}

static void loading_and_unloading_leaves_nothing_behind(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++)
        assert_int_equal(dlclose(open_plugin(RTLD_NOW)), 0);
    const size_t before = resident_bytes();
    /* Each round takes over 2 MiB, in the constructors. */
    for (int round = 0; round < 100; round++)
        assert_int_equal(dlclose(open_plugin(RTLD_NOW)), 0);
    assert_in_range(resident_bytes(), 0, before + 4 * MIB);
}

static void memory_may_be_freed_on_either_side(void **state)
{
    (void)state;
    void *plugin = open_plugin(RTLD_NOW | RTLD_LOCAL);
    FUNCTION(void *, plugin_malloc, plugin, size_t);
    FUNCTION(void, plugin_free, plugin, void *);
    FUNCTION(void *, plugin_new, plugin, size_t);
    FUNCTION(void, plugin_delete, plugin, void *);
    for (size_t i = 0; i < border_size_count; i++) {
        const size_t size = border_sizes[i];
        char *theirs = plugin_malloc(size);
        char *ours = malloc(size);
        char *created = plugin_new(size);
        assert_true(theirs != NULL && ours != NULL && created != NULL);
        fill(theirs, size, 1);
        fill(ours, size, 2);
        fill(created, size, 3);
        assert_int_equal(first_bad_byte(theirs, size, 1), size);
        assert_int_equal(first_bad_byte(ours, size, 2), size);
        assert_int_equal(first_bad_byte(created, size, 3), size);
        free(theirs);
        plugin_free(ours);
        plugin_delete(created);
    }
    assert_int_equal(dlclose(plugin), 0);
}

static void run_out_in_plugin(void *plugin)
{
    const size_t impossible[] = {PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX};
    FUNCTION(bool, plugin_gets_bad_alloc, plugin, size_t);
    FUNCTION(bool, plugin_gets_null, plugin, size_t);
    FUNCTION(int, plugin_handler_calls, plugin, size_t);
    child_check(!plugin_gets_bad_alloc(100));
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        child_check(plugin_gets_bad_alloc(impossible[i]));
        child_check(plugin_gets_null(impossible[i]));
        child_check(plugin_handler_calls(impossible[i]) == 2);
    }
}

static void out_of_memory_in_a_plugin_throws_bad_alloc(int flags)
{
    struct child_end end;
    void *plugin = open_plugin(flags);
    run_child(&end, run_out_in_plugin, plugin);
    assert_child_passed(&end);
    assert_int_equal(dlclose(plugin), 0);
}

/* As python does it: libstdc++ comes along into a scope of the plugin's own, where RTLD_NEXT does
 * not find it. Before the global one: once libstdc++ is global, it stays. */
static void out_of_memory_in_a_local_plugin_throws_bad_alloc(void **state)
{
    (void)state;
    out_of_memory_in_a_plugin_throws_bad_alloc(RTLD_NOW | RTLD_LOCAL);
}

static void out_of_memory_in_a_global_plugin_throws_bad_alloc(void **state)
{
    (void)state;
    out_of_memory_in_a_plugin_throws_bad_alloc(RTLD_NOW | RTLD_GLOBAL);
}

static void *remember_words(void *plugin)
{
    FUNCTION(size_t, plugin_remember, plugin, const char *);
    for (size_t i = 1; i <= 1000; i++)
        if (plugin_remember("a word that is too long to be kept without allocation") != i)
            return NULL;
    return plugin;
}

static void threads_free_what_a_plugin_kept_for_them(void **state)
{
    (void)state;
    void *plugin = open_plugin(RTLD_NOW | RTLD_LOCAL);
    for (int round = 0; round < 20; round++) {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, remember_words, plugin), 0);
        for (int i = 0; i < 4; i++) {
            void *done = NULL;
            assert_int_equal(pthread_join(threads[i], &done), 0);
            assert_ptr_equal(done, plugin);
        }
    }
    assert_int_equal(dlclose(plugin), 0);
}

static void rtld_next_from_the_program_finds_the_library(void **state)
{
    (void)state;
    const char *const names[] = {"malloc", "free", "calloc", "realloc", "posix_memalign"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_non_null(dlsym(RTLD_NEXT, names[i]));
        assert_ptr_equal(dlsym(RTLD_NEXT, names[i]), dlsym(RTLD_DEFAULT, names[i]));
    }
    void *(*next_malloc)(size_t) = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    void (*next_free)(void *) = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    char *block = next_malloc(100);
    assert_non_null(block);
    block = realloc(block, 100000);
    assert_non_null(block);
    next_free(block);
}

/* Every call of the family must come from one allocator: a block of one freed by another is lost.
 */
static void every_call_is_answered_by_the_library(void **state)
{
    (void)state;
    skip_on_other_malloc();
    const char *const names[] = {
        /* C, POSIX and glibc */
        "malloc", "free", "calloc", "realloc", "reallocarray", "posix_memalign", "aligned_alloc",
        "memalign", "valloc", "pvalloc", "malloc_usable_size", "malloc_trim", "malloc_stats",
        "mallinfo", "mallinfo2", "malloc_info", "mallopt", "free_sized", "free_aligned_sized",
        /* operator new and new[]: plain, nothrow, aligned, aligned nothrow */
        "_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t", "_ZnwmSt11align_val_t",
        "_ZnamSt11align_val_t", "_ZnwmSt11align_val_tRKSt9nothrow_t",
        "_ZnamSt11align_val_tRKSt9nothrow_t",
        /* operator delete and delete[]: the same, and sized, and sized aligned */
        "_ZdlPv", "_ZdaPv", "_ZdlPvRKSt9nothrow_t", "_ZdaPvRKSt9nothrow_t", "_ZdlPvSt11align_val_t",
        "_ZdaPvSt11align_val_t", "_ZdlPvSt11align_val_tRKSt9nothrow_t",
        "_ZdaPvSt11align_val_tRKSt9nothrow_t", "_ZdlPvm", "_ZdaPvm", "_ZdlPvmSt11align_val_t",
        "_ZdaPvmSt11align_val_t"};
    Dl_info library, owner;
    assert_int_not_equal(dladdr(dlsym(RTLD_DEFAULT, "ebb_version"), &library), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *address = dlsym(RTLD_DEFAULT, names[i]);
        if (address == NULL || dladdr(address, &owner) == 0)
            fail_msg("%s is nowhere", names[i]);
        if (owner.dli_fbase != library.dli_fbase)
            fail_msg("%s is answered by %s", names[i], owner.dli_fname);
    }
}

/*
 * In a child with the interposer preloaded before all else. It sees what the program calls, once,
 * and nothing of what the library does inside: a wrapper that adds a header to what malloc gives
 * would otherwise find one inside an aligned block.
 */
static void work_under_an_interposer(void)
{
    long (*interposer_calls)(void) = (long (*)(void))dlsym(RTLD_DEFAULT, "interposer_calls");
    child_check(interposer_calls != NULL);
    const long at_start = interposer_calls();
    for (size_t i = 0; i < 1000; i++) {
        char *block = calloc(1, i);
        child_check(block != NULL && first_nonzero_byte(block, i) == i);
        block = realloc(block, i * 300 + 1);
        child_check(block != NULL);
        free(block);
    }
    const long after_loop = interposer_calls();
    child_check(after_loop - at_start == 3000);

    void *blocks[] = {aligned_alloc(64, 1000), memalign(4096, 100), valloc(5), pvalloc(5), NULL};
    child_check(posix_memalign(&blocks[4], 32, 10) == 0);
    const long after_aligned = interposer_calls();
    child_check(after_aligned == after_loop);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
}

static void run_interposed(struct child_end *end)
{
    static char preload[9000];
    const char *others = getenv("LD_PRELOAD");
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s%s%s", interposer_path,
             others == NULL ? "" : ":", others == NULL ? "" : others);
    char *const arguments[] = {self, "child", NULL};
    char *const environment[] = {preload, NULL};
    run_program(end, arguments, environment);
}

static void a_preloaded_wrapper_in_front_works_by_rtld_next(void **state)
{
    (void)state;
    struct child_end end;
    run_interposed(&end);
    assert_child_passed(&end);
    assert_string_equal(end.words, "");
}

int main(int argument_count, char **arguments)
{
    if (argument_count == 2 && strcmp(arguments[1], "child") == 0) {
        work_under_an_interposer();
        return 0;
    }
    require_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_is_answered_by_the_library),
        cmocka_unit_test(a_library_may_allocate_in_its_constructors_and_free_in_its_destructors),
        cmocka_unit_test(loading_and_unloading_leaves_nothing_behind),
        cmocka_unit_test(memory_may_be_freed_on_either_side),
        cmocka_unit_test(out_of_memory_in_a_local_plugin_throws_bad_alloc),
        cmocka_unit_test(out_of_memory_in_a_global_plugin_throws_bad_alloc),
        cmocka_unit_test(threads_free_what_a_plugin_kept_for_them),
        cmocka_unit_test(rtld_next_from_the_program_finds_the_library),
        cmocka_unit_test(a_preloaded_wrapper_in_front_works_by_rtld_next),
    };
    return cmocka_run_group_tests(tests, find_paths, NULL);
}
