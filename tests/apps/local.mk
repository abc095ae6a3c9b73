# tests/apps: real programs on the library, their results compared to a run without it. Each script
# installs what it needs where it may, or is skipped. The longest first.

apps_tests = \
	tests/apps/postgresql.sh \
	tests/apps/git.sh \
	tests/apps/gcc.sh \
	tests/apps/python3.sh \
	tests/apps/redis.sh \
	tests/apps/mariadb.sh \
	tests/apps/nginx.sh \
	tests/apps/node.sh \
	tests/apps/ruby.sh \
	tests/apps/memcached.sh \
	tests/apps/lua.sh \
	tests/apps/perl.sh

TESTS += $(apps_tests)

# redis-million.sh is no test: it prints figures for reading.
EXTRA_DIST += $(apps_tests) tests/apps/lib.sh tests/apps/redis-lib.sh tests/apps/redis-million.sh
