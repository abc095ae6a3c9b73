# tests/command: the command `ebb`, what is installed, and what the code of the library looks like.

command_tests = \
	tests/command/ebb.sh \
	tests/command/fast-path.sh \
	tests/command/format.sh \
	tests/command/install.sh \
	tests/command/library.sh \
	tests/command/manual.sh \
	tests/command/warnings.sh

TESTS += $(command_tests)
EXTRA_DIST += $(command_tests) tests/command/lib.sh
