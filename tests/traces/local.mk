# tests/traces: recording programs, reading what was recorded, replaying it.

traces_programs = tests/traces/calls tests/traces/operators
check_PROGRAMS += $(traces_programs)

tests_traces_calls_SOURCES = tests/traces/calls.c
tests_traces_calls_CFLAGS = $(AM_CFLAGS) -fno-builtin -pthread
tests_traces_calls_LDADD = -lpthread

tests_traces_operators_SOURCES = tests/traces/operators.cc
tests_traces_operators_CXXFLAGS = $(AM_CXXFLAGS) -O0 -fno-builtin -fsized-deallocation

traces_tests = tests/traces/record.sh

TESTS += $(traces_tests)
EXTRA_DIST += $(traces_tests)
