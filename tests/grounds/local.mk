# tests/grounds: another libc and another processor, each built and tested in a folder of its own.

grounds_tests = tests/grounds/aarch64.sh tests/grounds/musl.sh

TESTS += $(grounds_tests)
EXTRA_DIST += $(grounds_tests) \
	tests/grounds/calls.h \
	tests/grounds/cmocka.h \
	tests/grounds/lib.sh
