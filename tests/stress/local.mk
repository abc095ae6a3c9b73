# tests/stress: load from many threads, processes and signals at once, and the limits of the kernel,
# as a preloaded program meets them. tests/run preloads the library. Each takes [SCALE [SEED]]: for
# a soak run, start tests/stress/pattern 100 with LD_PRELOAD set.

stress_tests = \
	tests/stress/cgroup \
	tests/stress/double-use \
	tests/stress/fork \
	tests/stress/fork-in-handler \
	tests/stress/fork-stdio \
	tests/stress/fork-sweep \
	tests/stress/late-calls \
	tests/stress/oom-limits \
	tests/stress/pattern \
	tests/stress/remote \
	tests/stress/signals \
	tests/stress/silent-threads \
	tests/stress/size-in-handler \
	tests/stress/surroundings \
	tests/stress/thread-churn \
	tests/stress/trim-storm

check_PROGRAMS += $(stress_tests) \
	tests/stress/long-run tests/stress/overcommit tests/stress/preload-tls
TESTS += $(stress_tests) tests/stress/hardened.sh tests/stress/overcommit.sh \
	tests/stress/preloads.sh
EXTRA_DIST += tests/stress/hardened.sh tests/stress/overcommit.sh tests/stress/preloads.sh

stress_cflags = $(AM_CFLAGS) -fno-builtin -pthread
stress_libs = -ldl -lrt -lpthread
stress_support = tests/stress/support.c tests/stress/support.h tests/hardened.h
stress_load = tests/stress/load.c tests/stress/load.h $(stress_support)
stress_exhaust = tests/stress/exhaust.c tests/stress/exhaust.h $(stress_support)

tests_stress_cgroup_SOURCES = tests/stress/cgroup.c $(stress_support)
tests_stress_cgroup_CFLAGS = $(stress_cflags)
tests_stress_cgroup_LDADD = $(stress_libs)

tests_stress_double_use_SOURCES = tests/stress/double-use.c $(stress_support)
tests_stress_double_use_CFLAGS = $(stress_cflags)
tests_stress_double_use_LDADD = $(stress_libs)

tests_stress_fork_SOURCES = tests/stress/fork.c $(stress_support)
tests_stress_fork_CFLAGS = $(stress_cflags)
tests_stress_fork_LDADD = $(stress_libs)

tests_stress_fork_in_handler_SOURCES = tests/stress/fork-in-handler.c $(stress_support)
tests_stress_fork_in_handler_CFLAGS = $(stress_cflags)
tests_stress_fork_in_handler_LDADD = $(stress_libs)

tests_stress_fork_stdio_SOURCES = tests/stress/fork-stdio.c $(stress_support)
tests_stress_fork_stdio_CFLAGS = $(stress_cflags)
tests_stress_fork_stdio_LDADD = $(stress_libs)

tests_stress_fork_sweep_SOURCES = tests/stress/fork-sweep.c $(stress_support)
tests_stress_fork_sweep_CFLAGS = $(stress_cflags)
tests_stress_fork_sweep_LDADD = $(stress_libs)

tests_stress_size_in_handler_SOURCES = tests/stress/size-in-handler.c $(stress_support)
tests_stress_size_in_handler_CFLAGS = $(stress_cflags)
tests_stress_size_in_handler_LDADD = $(stress_libs)

tests_stress_silent_threads_SOURCES = tests/stress/silent-threads.c $(stress_support)
tests_stress_silent_threads_CFLAGS = $(stress_cflags)
tests_stress_silent_threads_LDADD = $(stress_libs)

tests_stress_long_run_SOURCES = tests/stress/long-run.c $(stress_support)
tests_stress_long_run_CFLAGS = $(stress_cflags)
tests_stress_long_run_LDADD = $(stress_libs)

tests_stress_oom_limits_SOURCES = tests/stress/oom-limits.c $(stress_exhaust)
tests_stress_oom_limits_CFLAGS = $(stress_cflags)
tests_stress_oom_limits_LDADD = $(stress_libs)

tests_stress_overcommit_SOURCES = tests/stress/overcommit.c $(stress_exhaust)
tests_stress_overcommit_CFLAGS = $(stress_cflags)
tests_stress_overcommit_LDADD = $(stress_libs)

tests_stress_pattern_SOURCES = tests/stress/pattern.c $(stress_load)
tests_stress_pattern_CFLAGS = $(stress_cflags)
tests_stress_pattern_LDADD = $(stress_libs)

tests_stress_remote_SOURCES = tests/stress/remote.c $(stress_support)
tests_stress_remote_CFLAGS = $(stress_cflags)
tests_stress_remote_LDADD = $(stress_libs)

tests_stress_signals_SOURCES = tests/stress/signals.c $(stress_load)
tests_stress_signals_CFLAGS = $(stress_cflags)
tests_stress_signals_LDADD = $(stress_libs)

tests_stress_thread_churn_SOURCES = tests/stress/thread-churn.c $(stress_support)
tests_stress_thread_churn_CFLAGS = $(stress_cflags)
tests_stress_thread_churn_LDADD = $(stress_libs)

tests_stress_trim_storm_SOURCES = tests/stress/trim-storm.c $(stress_load)
tests_stress_trim_storm_CFLAGS = $(stress_cflags)
tests_stress_trim_storm_LDADD = $(stress_libs)

# -rdynamic: the module below calls functions of the program.
tests_stress_late_calls_SOURCES = \
	tests/stress/late-calls.c tests/stress/late-calls.h \
	tests/stress/late-calls-cxx.cc \
	$(stress_support)
tests_stress_late_calls_CFLAGS = $(stress_cflags)
tests_stress_late_calls_CXXFLAGS = $(AM_CXXFLAGS) -pthread
tests_stress_late_calls_LDFLAGS = -rdynamic
tests_stress_late_calls_LDADD = $(stress_libs)

# Opened by late-calls. A -rpath is what makes libtool build a shared one; it is never installed.
check_LTLIBRARIES += tests/stress/late-calls-library.la
tests_stress_late_calls_library_la_SOURCES = \
	tests/stress/late-calls-library.c tests/stress/late-calls.h
tests_stress_late_calls_library_la_CFLAGS = $(stress_cflags)
tests_stress_late_calls_library_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere

# The one test that changes a setting of the machine runs when all others are done.
tests/stress/overcommit.log: $(TEST_LOGS:tests/stress/overcommit.log=)

tests_stress_surroundings_SOURCES = tests/stress/surroundings.c $(stress_support)
tests_stress_surroundings_CFLAGS = $(stress_cflags)
tests_stress_surroundings_LDADD = $(stress_libs)

# For preloads.sh. -rpath makes libtool build shared libraries; they are never installed.
tests_stress_preload_tls_SOURCES = tests/stress/preload-tls.c
tests_stress_preload_tls_CFLAGS = $(stress_cflags)
tests_stress_preload_tls_LDADD = $(stress_libs)
check_LTLIBRARIES += tests/stress/preload-hog.la tests/stress/preload-wrapper.la
tests_stress_preload_hog_la_SOURCES = tests/stress/preload-hog.c
tests_stress_preload_hog_la_CFLAGS = $(stress_cflags)
tests_stress_preload_hog_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
tests_stress_preload_wrapper_la_SOURCES = tests/stress/preload-wrapper.c
tests_stress_preload_wrapper_la_CFLAGS = $(stress_cflags)
tests_stress_preload_wrapper_la_LIBADD = -ldl
tests_stress_preload_wrapper_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere

# An hour of a server's life, or so many minutes as are wanted. Not part of `make check`.
LONG_MINUTES = 60
.PHONY: check-long
check-long: all tests/stress/long-run$(EXEEXT)
	LD_PRELOAD='$(abs_builddir)/src/.libs/libebbmalloc.so' \
	    tests/stress/long-run$(EXEEXT) $(LONG_MINUTES)
