# tests/api: the API, call by call, as a preloaded program meets it. tests/run preloads the library.

api_tests = \
	tests/api/absurd_sizes \
	tests/api/aligned \
	tests/api/attacks \
	tests/api/calloc \
	tests/api/control \
	tests/api/delayed_reuse \
	tests/api/dlopen \
	tests/api/ended_threads \
	tests/api/errno \
	tests/api/errno_contention \
	tests/api/errors \
	tests/api/jemalloc \
	tests/api/limits \
	tests/api/malloc \
	tests/api/no_thread_cache \
	tests/api/operators \
	tests/api/options \
	tests/api/page_blocks \
	tests/api/realloc \
	tests/api/seals \
	tests/api/sized_free \
	tests/api/trim \
	tests/api/usable_size

check_PROGRAMS += $(api_tests)
TESTS += $(api_tests) tests/api/exports.sh tests/api/hardened.sh
EXTRA_DIST += tests/api/exports.sh tests/api/hardened.sh

api_support = tests/api/support.c tests/api/support.h tests/hardened.h

# Without -fno-builtin the compiler may leave out the very calls that are tested.
api_cflags = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -fno-builtin -pthread
api_cxxflags = $(AM_CXXFLAGS) $(CMOCKA_CFLAGS) -fno-builtin -pthread
api_libs = $(CMOCKA_LIBS) -ldl -lpthread

tests_api_aligned_SOURCES = tests/api/aligned.c $(api_support)
tests_api_aligned_CFLAGS = $(api_cflags)
tests_api_aligned_LDADD = $(api_libs)

# What it does is what warnings warn of; and without -fno-builtin none of it would be done.
tests_api_attacks_SOURCES = tests/api/attacks.c
tests_api_attacks_CFLAGS = $(AM_CFLAGS) -fno-builtin -pthread -Wno-free-nonheap-object \
	-Wno-unknown-warning-option -Wno-use-after-free
tests_api_attacks_LDADD = -ldl -lpthread

tests_api_calloc_SOURCES = tests/api/calloc.c $(api_support)
tests_api_calloc_CFLAGS = $(api_cflags)
tests_api_calloc_LDADD = $(api_libs)

tests_api_control_SOURCES = tests/api/control.c $(api_support)
tests_api_control_CFLAGS = $(api_cflags)
tests_api_control_LDADD = $(api_libs)

tests_api_delayed_reuse_SOURCES = tests/api/delayed_reuse.c $(api_support)
tests_api_delayed_reuse_CFLAGS = $(api_cflags)
tests_api_delayed_reuse_LDADD = $(api_libs)

tests_api_dlopen_SOURCES = tests/api/dlopen.c $(api_support)
tests_api_dlopen_CFLAGS = $(api_cflags)
tests_api_dlopen_LDADD = $(api_libs)

tests_api_ended_threads_SOURCES = tests/api/ended_threads.c $(api_support)
tests_api_ended_threads_CFLAGS = $(api_cflags)
tests_api_ended_threads_LDADD = $(api_libs)

tests_api_errno_SOURCES = tests/api/errno.c $(api_support)
tests_api_errno_CFLAGS = $(api_cflags)
tests_api_errno_LDADD = $(api_libs)

tests_api_errors_SOURCES = tests/api/errors.c $(api_support)
tests_api_errors_CFLAGS = $(api_cflags)
tests_api_errors_LDADD = $(api_libs)

tests_api_jemalloc_SOURCES = tests/api/jemalloc.c $(api_support)
tests_api_jemalloc_CFLAGS = $(api_cflags)
tests_api_jemalloc_LDADD = $(api_libs)

tests_api_limits_SOURCES = tests/api/limits.c $(api_support)
tests_api_limits_CFLAGS = $(api_cflags)
tests_api_limits_LDADD = $(api_libs)

tests_api_malloc_SOURCES = tests/api/malloc.c $(api_support)
tests_api_malloc_CFLAGS = $(api_cflags)
tests_api_malloc_LDADD = $(api_libs)

tests_api_options_SOURCES = tests/api/options.c $(api_support)
tests_api_options_CFLAGS = $(api_cflags)
tests_api_options_LDADD = $(api_libs)

tests_api_realloc_SOURCES = tests/api/realloc.c $(api_support)
tests_api_realloc_CFLAGS = $(api_cflags)
tests_api_realloc_LDADD = $(api_libs)

tests_api_seals_SOURCES = tests/api/seals.c $(api_support)
tests_api_seals_CFLAGS = $(api_cflags)
tests_api_seals_LDADD = $(api_libs)

tests_api_sized_free_SOURCES = tests/api/sized_free.c $(api_support)
tests_api_sized_free_CFLAGS = $(api_cflags)
tests_api_sized_free_LDADD = $(api_libs)

tests_api_trim_SOURCES = tests/api/trim.c $(api_support)
tests_api_trim_CFLAGS = $(api_cflags)
tests_api_trim_LDADD = $(api_libs)

tests_api_usable_size_SOURCES = tests/api/usable_size.c $(api_support)
tests_api_usable_size_CFLAGS = $(api_cflags)
tests_api_usable_size_LDADD = $(api_libs)

tests_api_absurd_sizes_SOURCES = tests/api/absurd_sizes.c $(api_support)
tests_api_absurd_sizes_CFLAGS = $(api_cflags)
tests_api_absurd_sizes_LDADD = $(api_libs)

tests_api_errno_contention_SOURCES = tests/api/errno_contention.c $(api_support)
tests_api_errno_contention_CFLAGS = $(api_cflags)
tests_api_errno_contention_LDADD = $(api_libs)

tests_api_no_thread_cache_SOURCES = tests/api/no_thread_cache.c $(api_support)
tests_api_no_thread_cache_CFLAGS = $(api_cflags)
tests_api_no_thread_cache_LDADD = $(api_libs)

tests_api_page_blocks_SOURCES = tests/api/page_blocks.c $(api_support)
tests_api_page_blocks_CFLAGS = $(api_cflags)
tests_api_page_blocks_LDADD = $(api_libs)

tests_api_operators_SOURCES = tests/api/operators.cc $(api_support)
tests_api_operators_CFLAGS = $(api_cflags)
tests_api_operators_CXXFLAGS = $(api_cxxflags)
tests_api_operators_LDADD = $(api_libs)

# Modules for tests/api/dlopen. A -rpath is what makes libtool build a shared one; they are never
# installed.
check_LTLIBRARIES += tests/api/plugin.la tests/api/interposer.la
api_module_ldflags = -module -avoid-version -shared -rpath /nowhere

tests_api_plugin_la_SOURCES = tests/api/plugin.cc
tests_api_plugin_la_CXXFLAGS = $(AM_CXXFLAGS) -fno-builtin
tests_api_plugin_la_LDFLAGS = $(api_module_ldflags)

tests_api_interposer_la_SOURCES = tests/api/interposer.c
tests_api_interposer_la_CFLAGS = $(AM_CFLAGS) -fno-builtin
tests_api_interposer_la_LDFLAGS = $(api_module_ldflags)
tests_api_interposer_la_LIBADD = -ldl
