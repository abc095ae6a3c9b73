# tests/traces: recording programs, reading what was recorded, replaying it.

traces_programs = tests/traces/calls tests/traces/operators tests/traces/places tests/traces/shape
check_PROGRAMS += $(traces_programs)

tests_traces_calls_SOURCES = tests/traces/calls.c
tests_traces_calls_CFLAGS = $(AM_CFLAGS) -fno-builtin -pthread
tests_traces_calls_LDADD = -lpthread

tests_traces_operators_SOURCES = tests/traces/operators.cc
tests_traces_operators_CXXFLAGS = $(AM_CXXFLAGS) -O0 -fno-builtin -fsized-deallocation

tests_traces_places_SOURCES = tests/traces/places.c
tests_traces_places_CFLAGS = $(AM_CFLAGS) -fno-builtin -pthread
tests_traces_places_LDADD = -lpthread -ldl

tests_traces_shape_SOURCES = tests/traces/shape.c
tests_traces_shape_CFLAGS = $(AM_CFLAGS) -fno-builtin -pthread
tests_traces_shape_LDADD = -lpthread

# A malloc with a fault, to be preloaded. -rpath makes libtool build it shared.
check_LTLIBRARIES += tests/traces/broken.la
tests_traces_broken_la_SOURCES = tests/traces/broken.c
tests_traces_broken_la_CFLAGS = $(AM_CFLAGS) -fno-builtin
tests_traces_broken_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere

kept_traces = \
	tests/traces/kept/cc1plus.trace.xz \
	tests/traces/kept/lua.trace.xz \
	tests/traces/kept/python3.trace.xz \
	tests/traces/kept/redis.trace.xz \
	tests/traces/kept/ruby.trace.xz \
	tests/traces/kept/server.trace.xz

traces_tests = \
	tests/traces/programs.sh \
	tests/traces/record.sh \
	tests/traces/replay.sh

TESTS += $(traces_tests)
EXTRA_DIST += $(traces_tests) $(kept_traces) tests/traces/chain.py tests/traces/states.c
dist_noinst_SCRIPTS += tests/traces/make
