# tests/purger: resident memory follows the load by itself, and the thread that sees to it is no
# bother to the program. tests/run preloads the library. Each takes [SCALE [SEED]]: with a scale of 4
# holes makes a million of them. What is measured is the kernel's account.

purger_tests = \
	tests/purger/books \
	tests/purger/busy \
	tests/purger/falls \
	tests/purger/first-look \
	tests/purger/hardened \
	tests/purger/holds \
	tests/purger/holes \
	tests/purger/idle \
	tests/purger/many-threads \
	tests/purger/never \
	tests/purger/pressure \
	tests/purger/processes \
	tests/purger/reuse \
	tests/purger/schedules \
	tests/purger/setuid \
	tests/purger/signals \
	tests/purger/survives

check_PROGRAMS += $(purger_tests)
TESTS += $(purger_tests)

purger_cflags = $(AM_CFLAGS) -fno-builtin -pthread
purger_libs = -ldl -lrt -lpthread
purger_support = \
	tests/purger/support.c tests/purger/support.h \
	tests/stress/support.c tests/stress/support.h \
	tests/hardened.h

tests_purger_books_SOURCES = tests/purger/books.c $(purger_support)
tests_purger_books_CFLAGS = $(purger_cflags)
tests_purger_books_LDADD = $(purger_libs)

tests_purger_busy_SOURCES = tests/purger/busy.c $(purger_support)
tests_purger_busy_CFLAGS = $(purger_cflags)
tests_purger_busy_LDADD = $(purger_libs)

tests_purger_falls_SOURCES = tests/purger/falls.c $(purger_support)
tests_purger_falls_CFLAGS = $(purger_cflags)
tests_purger_falls_LDADD = $(purger_libs)

tests_purger_first_look_SOURCES = tests/purger/first-look.c $(purger_support)
tests_purger_first_look_CFLAGS = $(purger_cflags)
tests_purger_first_look_LDADD = $(purger_libs)

tests_purger_hardened_SOURCES = tests/purger/hardened.c $(purger_support)
tests_purger_hardened_CFLAGS = $(purger_cflags)
tests_purger_hardened_LDADD = $(purger_libs)

tests_purger_holds_SOURCES = tests/purger/holds.c $(unit_support)
tests_purger_holds_CPPFLAGS = $(unit_cppflags)
tests_purger_holds_CFLAGS = $(unit_cflags)
tests_purger_holds_LDADD = $(unit_libs)

tests_purger_holes_SOURCES = tests/purger/holes.c $(purger_support)
tests_purger_holes_CFLAGS = $(purger_cflags)
tests_purger_holes_LDADD = $(purger_libs)

tests_purger_idle_SOURCES = tests/purger/idle.c $(purger_support)
tests_purger_idle_CFLAGS = $(purger_cflags)
tests_purger_idle_LDADD = $(purger_libs)

tests_purger_many_threads_SOURCES = tests/purger/many-threads.c $(purger_support)
tests_purger_many_threads_CFLAGS = $(purger_cflags)
tests_purger_many_threads_LDADD = $(purger_libs)

tests_purger_never_SOURCES = tests/purger/never.c $(purger_support)
tests_purger_never_CFLAGS = $(purger_cflags)
tests_purger_never_LDADD = $(purger_libs)

tests_purger_pressure_SOURCES = tests/purger/pressure.c $(purger_support)
tests_purger_pressure_CFLAGS = $(purger_cflags)
tests_purger_pressure_LDADD = $(purger_libs)

tests_purger_processes_SOURCES = tests/purger/processes.c $(purger_support)
tests_purger_processes_CFLAGS = $(purger_cflags)
tests_purger_processes_LDADD = $(purger_libs)

tests_purger_reuse_SOURCES = tests/purger/reuse.c $(purger_support)
tests_purger_reuse_CFLAGS = $(purger_cflags)
tests_purger_reuse_LDADD = $(purger_libs)

tests_purger_schedules_SOURCES = tests/purger/schedules.c $(purger_support)
tests_purger_schedules_CFLAGS = $(purger_cflags)
tests_purger_schedules_LDADD = $(purger_libs)

tests_purger_setuid_SOURCES = tests/purger/setuid.c $(purger_support)
tests_purger_setuid_CFLAGS = $(purger_cflags)
tests_purger_setuid_LDADD = $(purger_libs)

tests_purger_signals_SOURCES = tests/purger/signals.c $(purger_support)
tests_purger_signals_CFLAGS = $(purger_cflags)
tests_purger_signals_LDADD = $(purger_libs)

tests_purger_survives_SOURCES = tests/purger/survives.c $(purger_support)
tests_purger_survives_CFLAGS = $(purger_cflags)
tests_purger_survives_LDADD = $(purger_libs)
