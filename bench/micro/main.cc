// The micro benchmarks' main: --help lists google-benchmark's options, --benchmark_list_tests the
// names. bench/compare runs it, one name and one allocator at a time.
#include "micro.h"

BENCHMARK_MAIN();
