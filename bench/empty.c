/* A library that does nothing: preloaded, it shows what preloading alone costs. */
void ebb_bench_empty(void);
void ebb_bench_empty(void) {}
