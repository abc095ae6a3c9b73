# tests/command: the command `ebb`, what is installed, and what the code of the library looks like.

command_tests = \
	tests/command/completion.sh \
	tests/command/ebb.sh \
	tests/command/fast-path.sh \
	tests/command/format.sh \
	tests/command/install.sh \
	tests/command/library.sh \
	tests/command/map.sh \
	tests/command/manual.sh \
	tests/command/redis.sh \
	tests/command/stat.sh \
	tests/command/stats.sh \
	tests/command/trim.sh \
	tests/command/warnings.sh

TESTS += $(command_tests)

# What the figures are compared with.
check_PROGRAMS += tests/command/known-heap
tests_command_known_heap_CFLAGS = $(AM_CFLAGS) -fno-builtin -pthread
tests_command_known_heap_LDADD = -lpthread

EXTRA_DIST += $(command_tests) tests/command/lib.sh tests/command/held.py tests/command/hostile.py \
	tests/command/map.py tests/command/terminal.py
