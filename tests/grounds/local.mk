# tests/grounds: another libc and another processor, each built and tested in a folder of its own;
# `make check-releases` takes other releases of Debian.

grounds_tests = tests/grounds/aarch64.sh tests/grounds/musl.sh

TESTS += $(grounds_tests)
EXTRA_DIST += $(grounds_tests) \
	tests/grounds/calls.h \
	tests/grounds/cmocka.h \
	tests/grounds/lib.sh \
	tests/grounds/releases.sh

.PHONY: check-releases
check-releases:
	bash $(srcdir)/tests/grounds/releases.sh
