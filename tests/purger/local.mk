# tests/purger: resident memory follows the load by itself, and the thread that sees to it is no
# bother to the program. tests/run preloads the library. Each takes [SCALE [SEED]]: with a scale of 3
# idle looks on for 30 s, with 4 many-threads starts 2,000. What is measured is the kernel's account.

purger_tests = \
	tests/purger/falls \
	tests/purger/idle \
	tests/purger/many-threads \
	tests/purger/never \
	tests/purger/processes \
	tests/purger/setuid \
	tests/purger/signals \
	tests/purger/survives

check_PROGRAMS += $(purger_tests)
TESTS += $(purger_tests)

purger_cflags = $(AM_CFLAGS) -fno-builtin -pthread
purger_libs = -ldl -lrt -lpthread
purger_support = \
	tests/purger/support.c tests/purger/support.h \
	tests/stress/support.c tests/stress/support.h

tests_purger_falls_SOURCES = tests/purger/falls.c $(purger_support)
tests_purger_falls_CFLAGS = $(purger_cflags)
tests_purger_falls_LDADD = $(purger_libs)

tests_purger_idle_SOURCES = tests/purger/idle.c $(purger_support)
tests_purger_idle_CFLAGS = $(purger_cflags)
tests_purger_idle_LDADD = $(purger_libs)

tests_purger_many_threads_SOURCES = tests/purger/many-threads.c $(purger_support)
tests_purger_many_threads_CFLAGS = $(purger_cflags)
tests_purger_many_threads_LDADD = $(purger_libs)

tests_purger_never_SOURCES = tests/purger/never.c $(purger_support)
tests_purger_never_CFLAGS = $(purger_cflags)
tests_purger_never_LDADD = $(purger_libs)

tests_purger_processes_SOURCES = tests/purger/processes.c $(purger_support)
tests_purger_processes_CFLAGS = $(purger_cflags)
tests_purger_processes_LDADD = $(purger_libs)

tests_purger_setuid_SOURCES = tests/purger/setuid.c $(purger_support)
tests_purger_setuid_CFLAGS = $(purger_cflags)
tests_purger_setuid_LDADD = $(purger_libs)

tests_purger_signals_SOURCES = tests/purger/signals.c $(purger_support)
tests_purger_signals_CFLAGS = $(purger_cflags)
tests_purger_signals_LDADD = $(purger_libs)

tests_purger_survives_SOURCES = tests/purger/survives.c $(purger_support)
tests_purger_survives_CFLAGS = $(purger_cflags)
tests_purger_survives_LDADD = $(purger_libs)
