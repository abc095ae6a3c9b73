# src/: the library, its header, its manual; the command `ebb`.

ebb_sources = \
	src/ageing.c src/ageing.h \
	src/arena.c src/arena.h \
	src/arenas.c src/arenas.h \
	src/base.h \
	src/bits.h \
	src/buddy.c src/buddy.h \
	src/cache.c src/cache.h \
	src/chunk.c src/chunk.h \
	src/control.c \
	src/counts.h \
	src/cxx.c \
	src/fork.c \
	src/harden.c src/harden.h \
	src/guard.c src/guard.h \
	src/huge.c src/huge.h \
	src/pieces.c src/pieces.h \
	src/jemalloc.c \
	src/large.c src/large.h \
	src/lock.h \
	src/lone.c src/lone.h \
	src/mailbox.c src/mailbox.h \
	src/malloc.c src/api.h \
	src/meta.c src/meta.h \
	src/namespaces.c \
	src/older.h \
	src/options.c src/options.h \
	src/os.c src/os.h \
	src/os_thread.c src/os_thread.h \
	src/pagemap.c src/pagemap.h \
	src/pressure.c src/pressure.h \
	src/purge.c src/purge.h \
	src/purger.c src/purger.h \
	src/report.c src/report.h \
	src/root.c src/root.h \
	src/secret.c src/secret.h \
	src/sizeclass.c src/sizeclass.h \
	src/span.c src/span.h \
	src/stats.c src/stats.h \
	src/stats_sum.c src/stats_sum.h \
	src/stats_text.c src/stats_text.h \
	src/takeover.c src/takeover.h \
	src/text.c src/text.h

EBB_DEFINES = -DEBB_VERSION='"$(PACKAGE_VERSION)"' $(EBB_LACKS)

# -fno-builtin-*: the compiler must not turn our calloc into a call of calloc. -fexceptions: what
# the program's new-handler throws passes through cxx.c; to the rest it makes no difference.
EBB_CFLAGS = $(AM_CFLAGS) -pthread -Wshadow -Wstrict-prototypes -fvisibility=hidden -fno-plt \
	-fno-builtin-malloc -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free -fexceptions

# With two segments in place of four (noseparate-code) a program starts sooner: about a tenth of
# what preloading a library costs. Never unloaded (nodelete): its blocks live on.
EBB_LDFLAGS = -pthread -avoid-version -no-undefined -Wl,--no-undefined -Wl,-z,relro -Wl,-z,now \
	-Wl,-z,noseparate-code -Wl,-z,nodelete -Wl,-z,initfirst -Wl,-O1

lib_LTLIBRARIES += src/libebbmalloc.la
src_libebbmalloc_la_SOURCES = $(ebb_sources)
src_libebbmalloc_la_CPPFLAGS = $(AM_CPPFLAGS) $(EBB_DEFINES)
src_libebbmalloc_la_CFLAGS = $(EBB_CFLAGS) -ftls-model=initial-exec
src_libebbmalloc_la_LDFLAGS = $(EBB_LDFLAGS)

include_HEADERS += src/ebbmalloc.h
pkgconfig_DATA = src/ebbmalloc.pc
dist_man_MANS += src/ebbmalloc.3 src/ebb/ebb.1 src/ebb/ebb-trace.5

# The same rooms for the unit tests, beside the libc's malloc: with EBB_PREFIXED the public names
# become ebb_malloc and so on, and the kernel's refusals can be injected.
check_LTLIBRARIES += tests/libebbcore.la
tests_libebbcore_la_SOURCES = $(ebb_sources)
tests_libebbcore_la_CPPFLAGS = $(AM_CPPFLAGS) $(EBB_DEFINES) -DEBB_PREFIXED
tests_libebbcore_la_CFLAGS = $(EBB_CFLAGS)

# The recorder of `ebb record`: a library of its own, preloaded before whatever malloc.
pkglib_LTLIBRARIES += src/record/libebbrecord.la
src_record_libebbrecord_la_SOURCES = \
	src/record/blocks.c src/record/blocks.h \
	src/record/next.c src/record/next.h \
	src/record/format.h \
	src/record/record.c \
	src/record/stream.c src/record/stream.h \
	src/os.c src/os.h \
	src/text.c src/text.h
src_record_libebbrecord_la_CPPFLAGS = $(AM_CPPFLAGS)
src_record_libebbrecord_la_CFLAGS = $(EBB_CFLAGS) $(EBB_EXCEPTIONS) -ftls-model=initial-exec
src_record_libebbrecord_la_LDFLAGS = -pthread -avoid-version -no-undefined -Wl,--no-undefined \
	-Wl,-z,relro -Wl,-z,now -Wl,-z,nodelete

bin_PROGRAMS += src/ebb/ebb
src_ebb_ebb_SOURCES = \
	src/ebb/chart.c src/ebb/chart.h \
	src/ebb/ebb.c src/ebb/ebb.h \
	src/ebb/elf.c src/ebb/elf.h \
	src/ebb/heap.c src/ebb/heap.h \
	src/ebb/help.c \
	src/ebb/launch.c src/ebb/launch.h \
	src/ebb/map.c \
	src/ebb/map_page.c \
	src/ebb/map_svg.c \
	src/ebb/map_write.h \
	src/ebb/picture.c src/ebb/picture.h \
	src/ebb/play.c src/ebb/play.h \
	src/ebb/record.c \
	src/ebb/replay.c \
	src/ebb/residency.c src/ebb/residency.h \
	src/ebb/run.c \
	src/ebb/script.c src/ebb/script.h \
	src/ebb/stat.c \
	src/ebb/table.c src/ebb/table.h \
	src/ebb/target.c src/ebb/target.h \
	src/ebb/top.c \
	src/ebb/trace.c \
	src/ebb/trace_file.c src/ebb/trace_file.h \
	src/ebb/trace_order.c src/ebb/trace_reader.h \
	src/ebb/trim.c \
	src/ebb/why.c src/ebb/why.h \
	src/record/format.h \
	src/options.c src/options.h \
	src/os.c src/os.h \
	src/sizeclass.c src/sizeclass.h \
	src/stats_sum.c src/stats_sum.h \
	src/stats_text.c src/stats_text.h \
	src/text.c src/text.h
src_ebb_ebb_CPPFLAGS = $(AM_CPPFLAGS) -iquote src/ebb $(EBB_DEFINES) \
	-DEBB_LIBRARY_DIR='"$(libdir)"' -DEBB_PRIVATE_DIR='"$(pkglibdir)"'
# ebb replay makes the calls that it measures: the compiler must not know what they do.
src_ebb_ebb_CFLAGS = $(AM_CFLAGS) -pthread -fno-builtin -Wshadow -Wstrict-prototypes
src_ebb_ebb_LDADD = -lpthread

# The page for a browser, as strings of C.
src/ebb/map_page.inc: src/ebb/map.html
	$(AM_V_GEN)$(MKDIR_P) src/ebb && \
	    $(SED) -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' \
	    $(srcdir)/src/ebb/map.html >$@.new && mv $@.new $@
BUILT_SOURCES += src/ebb/map_page.inc
CLEANFILES += src/ebb/map_page.inc
EXTRA_DIST += src/ebb/map.html

# Under the name by which bash-completion looks for it.
EXTRA_DIST += src/ebb/ebb.bash
completiondir = $(datadir)/bash-completion/completions
install-data-local:
	$(MKDIR_P) '$(DESTDIR)$(completiondir)'
	$(INSTALL_DATA) '$(srcdir)/src/ebb/ebb.bash' '$(DESTDIR)$(completiondir)/ebb'

# libtool's own descriptions of the libraries are of no use to anyone here.
install-exec-hook:
	rm -f '$(DESTDIR)$(libdir)/libebbmalloc.la' '$(DESTDIR)$(pkglibdir)/libebbrecord.la'

uninstall-hook:
	rm -f '$(DESTDIR)$(libdir)/libebbmalloc.so' '$(DESTDIR)$(pkglibdir)/libebbrecord.so' \
	    '$(DESTDIR)$(completiondir)/ebb'
