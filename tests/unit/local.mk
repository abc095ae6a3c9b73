# tests/unit: each room by itself, the kernel's refusals, takeovers, and the core under sanitizers.
# The programs are linked with tests/libebbcore.la and run without the preload.

unit_tests = \
	tests/unit/arena \
	tests/unit/bits \
	tests/unit/buddy \
	tests/unit/chunk \
	tests/unit/chunk-sweeps \
	tests/unit/huge \
	tests/unit/large \
	tests/unit/mailbox \
	tests/unit/meta \
	tests/unit/options \
	tests/unit/pagemap \
	tests/unit/pressure \
	tests/unit/pressure-texts \
	tests/unit/refusals \
	tests/unit/sizeclass \
	tests/unit/span \
	tests/unit/takeover \
	tests/unit/text \
	tests/unit/trace

check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests) tests/unit/sanitizers.sh
EXTRA_DIST += tests/unit/sanitizers.sh tests/unit/core-stress.c

unit_support = tests/unit/support.c tests/unit/support.h
unit_cppflags = $(AM_CPPFLAGS) $(EBB_DEFINES) -DEBB_PREFIXED
unit_cflags = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -pthread
unit_libs = tests/libebbcore.la $(CMOCKA_LIBS) -lpthread

# Nothing calls fork.c, so the linker would leave it out of a program that forks.
unit_fork = $(unit_support) src/fork.c

tests_unit_arena_SOURCES = tests/unit/arena.c $(unit_fork)
tests_unit_arena_CPPFLAGS = $(unit_cppflags)
tests_unit_arena_CFLAGS = $(unit_cflags)
tests_unit_arena_LDADD = $(unit_libs)

tests_unit_bits_SOURCES = tests/unit/bits.c $(unit_support)
tests_unit_bits_CPPFLAGS = $(unit_cppflags)
tests_unit_bits_CFLAGS = $(unit_cflags)
tests_unit_bits_LDADD = $(unit_libs)

tests_unit_buddy_SOURCES = tests/unit/buddy.c $(unit_support)
tests_unit_buddy_CPPFLAGS = $(unit_cppflags)
tests_unit_buddy_CFLAGS = $(unit_cflags)
tests_unit_buddy_LDADD = $(unit_libs)

tests_unit_chunk_SOURCES = tests/unit/chunk.c $(unit_support)
tests_unit_chunk_CPPFLAGS = $(unit_cppflags)
tests_unit_chunk_CFLAGS = $(unit_cflags)
tests_unit_chunk_LDADD = $(unit_libs)

tests_unit_chunk_sweeps_SOURCES = tests/unit/chunk-sweeps.c $(unit_support)
tests_unit_chunk_sweeps_CPPFLAGS = $(unit_cppflags)
tests_unit_chunk_sweeps_CFLAGS = $(unit_cflags)
tests_unit_chunk_sweeps_LDADD = $(unit_libs)

tests_unit_huge_SOURCES = tests/unit/huge.c $(unit_support)
tests_unit_huge_CPPFLAGS = $(unit_cppflags)
tests_unit_huge_CFLAGS = $(unit_cflags)
tests_unit_huge_LDADD = $(unit_libs)

tests_unit_large_SOURCES = tests/unit/large.c $(unit_support)
tests_unit_large_CPPFLAGS = $(unit_cppflags)
tests_unit_large_CFLAGS = $(unit_cflags)
tests_unit_large_LDADD = $(unit_libs)

tests_unit_mailbox_SOURCES = tests/unit/mailbox.c $(unit_support)
tests_unit_mailbox_CPPFLAGS = $(unit_cppflags)
tests_unit_mailbox_CFLAGS = $(unit_cflags)
tests_unit_mailbox_LDADD = $(unit_libs)

tests_unit_meta_SOURCES = tests/unit/meta.c $(unit_support)
tests_unit_meta_CPPFLAGS = $(unit_cppflags)
tests_unit_meta_CFLAGS = $(unit_cflags)
tests_unit_meta_LDADD = $(unit_libs)

tests_unit_options_SOURCES = tests/unit/options.c $(unit_support)
tests_unit_options_CPPFLAGS = $(unit_cppflags)
tests_unit_options_CFLAGS = $(unit_cflags)
tests_unit_options_LDADD = $(unit_libs)

tests_unit_pagemap_SOURCES = tests/unit/pagemap.c $(unit_support)
tests_unit_pagemap_CPPFLAGS = $(unit_cppflags)
tests_unit_pagemap_CFLAGS = $(unit_cflags)
tests_unit_pagemap_LDADD = $(unit_libs)

tests_unit_pressure_SOURCES = tests/unit/pressure.c $(unit_support)
tests_unit_pressure_CPPFLAGS = $(unit_cppflags)
tests_unit_pressure_CFLAGS = $(unit_cflags)
tests_unit_pressure_LDADD = $(unit_libs)

tests_unit_pressure_texts_SOURCES = tests/unit/pressure-texts.c $(unit_support)
tests_unit_pressure_texts_CPPFLAGS = $(unit_cppflags)
tests_unit_pressure_texts_CFLAGS = $(unit_cflags)
tests_unit_pressure_texts_LDADD = $(unit_libs)

tests_unit_refusals_SOURCES = tests/unit/refusals.c $(unit_fork)
tests_unit_refusals_CPPFLAGS = $(unit_cppflags)
tests_unit_refusals_CFLAGS = $(unit_cflags)
tests_unit_refusals_LDADD = $(unit_libs)

tests_unit_sizeclass_SOURCES = tests/unit/sizeclass.c $(unit_support)
tests_unit_sizeclass_CPPFLAGS = $(unit_cppflags)
tests_unit_sizeclass_CFLAGS = $(unit_cflags)
tests_unit_sizeclass_LDADD = $(unit_libs)

tests_unit_span_SOURCES = tests/unit/span.c $(unit_support)
tests_unit_span_CPPFLAGS = $(unit_cppflags)
tests_unit_span_CFLAGS = $(unit_cflags)
tests_unit_span_LDADD = $(unit_libs)

tests_unit_takeover_SOURCES = tests/unit/takeover.c $(unit_fork)
tests_unit_takeover_CPPFLAGS = $(unit_cppflags)
tests_unit_takeover_CFLAGS = $(unit_cflags)
tests_unit_takeover_LDADD = $(unit_libs)

tests_unit_text_SOURCES = tests/unit/text.c $(unit_support)
tests_unit_text_CPPFLAGS = $(unit_cppflags)
tests_unit_text_CFLAGS = $(unit_cflags)
tests_unit_text_LDADD = $(unit_libs)

tests_unit_trace_SOURCES = tests/unit/trace.c src/record/format.h $(unit_support)
tests_unit_trace_CPPFLAGS = $(unit_cppflags)
tests_unit_trace_CFLAGS = $(unit_cflags)
tests_unit_trace_LDADD = $(unit_libs)
