# tests/suites: other people's test suites, each without the library and with it. The short ones are
# tests; `make check-suites` runs all of all of them, which takes hours. It may be stopped, and goes
# on the next time.

suites_tests = \
	tests/suites/python3.sh \
	tests/suites/lua.sh

TESTS += $(suites_tests)
dist_noinst_SCRIPTS += tests/suites/run
EXTRA_DIST += $(suites_tests) \
	tests/suites/git.sh \
	tests/suites/junit.py \
	tests/suites/lib.sh \
	tests/suites/memcached.sh \
	tests/suites/nginx.sh \
	tests/suites/node.sh \
	tests/suites/perl.sh \
	tests/suites/postgresql.sh \
	tests/suites/redis.sh \
	tests/suites/sqlite3.sh

.PHONY: check-suites

check-suites: all
	$(srcdir)/tests/suites/run --build-dir $(abs_builddir) --all

# Their sources and what they said.
clean-local:
	rm -rf suites
