# tests/pages: the tests on OS pages of 16 and 64 KiB, which kernel.c makes of the machine's own.
# `make check` runs a few of them there; `make check-pages` all that are programs, but for two that
# compare times and page faults, which are the real kernel's.

# -rpath makes libtool build shared libraries; they are never installed.
check_LTLIBRARIES += tests/pages/pages-16.la tests/pages/pages-64.la
pages_ldflags = -module -avoid-version -shared -rpath /nowhere
tests_pages_pages_16_la_SOURCES = tests/pages/kernel.c
tests_pages_pages_16_la_CPPFLAGS = $(AM_CPPFLAGS) -DPAGE_KIB=16
tests_pages_pages_16_la_LDFLAGS = $(pages_ldflags)
tests_pages_pages_64_la_SOURCES = tests/pages/kernel.c
tests_pages_pages_64_la_CPPFLAGS = $(AM_CPPFLAGS) -DPAGE_KIB=64
tests_pages_pages_64_la_LDFLAGS = $(pages_ldflags)

TESTS += tests/pages/short.sh
EXTRA_DIST += tests/pages/short.sh

pages_tests = $(unit_tests) $(api_tests) $(stress_tests) \
	tests/purger/books \
	tests/purger/falls \
	tests/purger/holds \
	tests/purger/holes \
	tests/purger/idle \
	tests/purger/many-threads \
	tests/purger/never \
	tests/purger/pressure \
	tests/purger/processes \
	tests/purger/schedules \
	tests/purger/setuid \
	tests/purger/signals \
	tests/purger/survives

.PHONY: check-pages check-pages-16 check-pages-64

check-pages:
	$(MAKE) check-pages-16
	$(MAKE) check-pages-64

check-pages-16 check-pages-64:
	$(MAKE) check EBB_TEST_PAGES=$(@:check-pages-%=%) TESTS='$(pages_tests)'
