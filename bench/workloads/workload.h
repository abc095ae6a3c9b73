/* What the workloads share: their arguments and their line of result.
 *
 * A workload takes numbers only, in a fixed order, each with a default; a wrong one ends the
 * program with a line that names it and its range. The result is the last line, `name: VALUE unit`,
 * which bench/compare reads. */
#ifndef EBB_BENCH_WORKLOAD_H
#define EBB_BENCH_WORKLOAD_H

#include "../common.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

typedef struct {
    const char *name; /* as the usage line shows it, with the unit where there is one */
    double least;
    double most;
    double value; /* the default; workload_arguments puts the given number here */
} WorkloadArgument;

static void workload_usage(const char *name, const WorkloadArgument *list, size_t count, FILE *out)
{
    fprintf(out, "usage: %s", name);
    for (size_t i = 0; i < count; i++)
        fprintf(out, " [%s]", list[i].name);
    fprintf(out, "\n");
    for (size_t i = 0; i < count; i++)
        fprintf(out, "  %-12s %.10g to %.10g, default %.10g\n", list[i].name, list[i].least,
                list[i].most, list[i].value);
}

/* Reads argv into `list`; ends the program with status 2 on a bad argument, 0 after --help. */
static void workload_arguments(const char *name, int argc, char **argv, WorkloadArgument *list,
                               size_t count)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        workload_usage(name, list, count, stdout);
        exit(0);
    }
    if ((size_t)argc > count + 1) {
        fprintf(stderr, "%s: too many arguments, first of them '%s'\n", name, argv[count + 1]);
        workload_usage(name, list, count, stderr);
        exit(2);
    }
    for (int i = 1; i < argc; i++) {
        WorkloadArgument *argument = &list[i - 1];
        if (!bench_parse(argv[i], argument->least, argument->most, &argument->value)) {
            fprintf(stderr, "%s: %s is '%s', expected a number from %.10g to %.10g\n", name,
                    argument->name, argv[i], argument->least, argument->most);
            exit(2);
        }
    }
}

static inline void workload_result(const char *name, double value, const char *unit)
{
    printf("%s: %.6g %s\n", name, value, unit);
}

/* How many blocks or calls the figure comes from, in a line of its own before it, for whoever
 * counts something else beside them (bench/compare --suite counts). */
static inline void workload_total(const char *name, uint64_t total, const char *what)
{
    printf("%s: %llu %s\n", name, (unsigned long long)total, what);
}

static inline void workload_fail(const char *name, const char *what)
{
    fprintf(stderr, "%s: %s\n", name, what);
    exit(1);
}

/* malloc that must succeed and whose block is written to, as every program does. */
static inline void *workload_block(size_t size)
{
    char *block = malloc(size);
    if (block == NULL)
        workload_fail("workload", "out of memory");
    *(volatile char *)block = 1;
    return block;
}

/* Zeroed memory for a workload's own books, past the allocator that is measured. */
static inline void *workload_books(size_t bytes)
{
    void *books = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (books == MAP_FAILED)
        workload_fail("workload", "out of memory for its own tables");
    return books;
}

static inline void workload_thread(pthread_t *thread, void *(*main_of_thread)(void *),
                                   void *argument)
{
    int error = pthread_create(thread, NULL, main_of_thread, argument);
    if (error != 0)
        workload_fail("workload: cannot start a thread", strerror(error));
}

#endif
