# bench/: the load program, the one that measures runs and the one whose instructions are counted (a
# test does that, too) are built by default; the benchmarks by `make bench-build`. `make bench` runs
# a short comparison. Without google-benchmark only bench/micro is left out.

BENCH_CFLAGS = $(AM_CFLAGS) -fno-builtin -pthread
BENCH_CXXFLAGS = $(AM_CXXFLAGS) -fno-builtin -pthread

noinst_PROGRAMS += bench/tide-load bench/measure bench/pairs

bench_tide_load_SOURCES = bench/tide-load.c bench/common.h
bench_tide_load_CFLAGS = $(BENCH_CFLAGS)
bench_tide_load_LDADD = -lpthread

bench_measure_SOURCES = bench/measure.c bench/common.h
bench_measure_CFLAGS = $(BENCH_CFLAGS)
bench_measure_LDADD =

bench_pairs_SOURCES = bench/pairs.c bench/common.h
bench_pairs_CFLAGS = $(BENCH_CFLAGS)
bench_pairs_LDADD = -ldl

# A library that does nothing, to be preloaded beside ours. -rpath makes libtool build it shared.
noinst_LTLIBRARIES += bench/empty.la
bench_empty_la_SOURCES = bench/empty.c
bench_empty_la_LIBADD =
bench_empty_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere

bench_workloads = \
	bench/workloads/compiler \
	bench/workloads/http \
	bench/workloads/kvdrift \
	bench/workloads/phases \
	bench/workloads/prodcons \
	bench/workloads/script \
	bench/workloads/server \
	bench/workloads/sharing

bench_workloads_compiler_SOURCES = bench/workloads/compiler.c bench/workloads/workload.h bench/common.h
bench_workloads_compiler_CFLAGS = $(BENCH_CFLAGS)
bench_workloads_compiler_LDADD = -lpthread

bench_workloads_http_SOURCES = bench/workloads/http.c bench/workloads/workload.h bench/common.h
bench_workloads_http_CFLAGS = $(BENCH_CFLAGS)
bench_workloads_http_LDADD = -lpthread

bench_workloads_kvdrift_SOURCES = bench/workloads/kvdrift.c bench/workloads/workload.h bench/common.h
bench_workloads_kvdrift_CFLAGS = $(BENCH_CFLAGS)
bench_workloads_kvdrift_LDADD = -lpthread

bench_workloads_phases_SOURCES = bench/workloads/phases.c bench/workloads/workload.h bench/common.h
bench_workloads_phases_CFLAGS = $(BENCH_CFLAGS)
bench_workloads_phases_LDADD = -lpthread

bench_workloads_prodcons_SOURCES = bench/workloads/prodcons.c bench/workloads/workload.h bench/common.h
bench_workloads_prodcons_CFLAGS = $(BENCH_CFLAGS)
bench_workloads_prodcons_LDADD = -lpthread

bench_workloads_script_SOURCES = bench/workloads/script.c bench/workloads/workload.h bench/common.h
bench_workloads_script_CFLAGS = $(BENCH_CFLAGS)
bench_workloads_script_LDADD = -lpthread

bench_workloads_server_SOURCES = bench/workloads/server.c bench/workloads/workload.h bench/common.h
bench_workloads_server_CFLAGS = $(BENCH_CFLAGS)
bench_workloads_server_LDADD = -lpthread

bench_workloads_sharing_SOURCES = bench/workloads/sharing.c bench/workloads/workload.h bench/common.h
bench_workloads_sharing_CFLAGS = $(BENCH_CFLAGS)
bench_workloads_sharing_LDADD = -lpthread

EXTRA_PROGRAMS += $(bench_workloads) bench/micro/micro

# The library with counts of what threads have to agree on (src/counts.h).
EXTRA_LTLIBRARIES += bench/libebbcounts.la
bench_libebbcounts_la_SOURCES = $(ebb_sources) bench/counts.c
bench_libebbcounts_la_CPPFLAGS = $(AM_CPPFLAGS) $(EBB_DEFINES) -DEBB_COUNTS
bench_libebbcounts_la_CFLAGS = $(EBB_CFLAGS) -ftls-model=initial-exec
bench_libebbcounts_la_LDFLAGS = $(EBB_LDFLAGS) -module -shared -rpath /nowhere

bench_micro_micro_SOURCES = \
	bench/micro/aligned.cc \
	bench/micro/batch.cc \
	bench/micro/calloc.cc \
	bench/micro/cross.cc \
	bench/micro/huge.cc \
	bench/micro/large.cc \
	bench/micro/main.cc \
	bench/micro/micro.h \
	bench/micro/pair.cc \
	bench/micro/random.cc \
	bench/micro/realloc.cc \
	bench/micro/sized.cc \
	bench/micro/thread.cc \
	bench/micro/usable.cc \
	bench/common.h
# clang wants to be told that delete may be given the size.
bench_micro_micro_CXXFLAGS = $(BENCH_CXXFLAGS) $(BENCHMARK_CFLAGS) -fsized-deallocation
bench_micro_micro_LDADD = $(BENCHMARK_LIBS) -lpthread

if HAVE_BENCHMARK
bench_micro = bench/micro/micro$(EXEEXT)
else
bench_micro =
endif

# What stands in EXTRA_… is not cleaned by itself.
CLEANFILES += $(bench_workloads) bench/micro/micro$(EXEEXT) bench/libebbcounts.la

dist_noinst_SCRIPTS += bench/attacks bench/compare bench/programs/run bench/servers bench/tide
EXTRA_DIST += \
	bench/NOTES.md \
	bench/common.py \
	bench/servers.svg \
	bench/servers-load/drive.py \
	bench/servers-load/http-client.py \
	bench/servers-load/mariadb-burst.sql \
	bench/servers-load/mariadb-schema.sql \
	bench/servers-load/node.js \
	bench/servers-load/postgresql-burst.sql \
	bench/servers-load/postgresql-schema.sql \
	bench/servers-load/processes.py \
	bench/servers-load/python.py \
	bench/servers-load/ruby.rb \
	bench/servers-load/show.py \
	bench/traces.py

.PHONY: bench bench-build

bench-build: bench/measure$(EXEEXT) bench/tide-load$(EXEEXT) bench/empty.la bench/libebbcounts.la \
		$(bench_workloads) $(bench_micro)

bench: all bench-build
	$(srcdir)/bench/compare --build-dir $(abs_builddir) --suite core --short
