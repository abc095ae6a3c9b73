# tests/fuzz: a minute of fuzzing of the API, and of the reader of traces; by hand for longer.

fuzz_tests = tests/fuzz/api.sh tests/fuzz/trace-reader.sh
tests/fuzz/trace-reader.log: tests/traces/calls$(EXEEXT)

TESTS += $(fuzz_tests)
EXTRA_DIST += $(fuzz_tests) \
	tests/fuzz/api.c \
	tests/fuzz/corpus-api \
	tests/fuzz/lib.sh \
	tests/fuzz/mutate.c \
	tests/fuzz/trace-reader.c
