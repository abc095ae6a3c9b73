/* fork-stdio: a fork does not wait for itself by way of stdio. Threads flush all streams, read
 * lines into memory of getline's own making, and open and close streams, while others fork: each
 * of stdio's locks is held by somebody who waits for memory at some time. The child writes and
 * allocates as well.
 */
#define _GNU_SOURCE
#include "support.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS 1200
#define LINES 500
#define LINE_LENGTH 3000

static _Atomic bool stop;
static _Atomic uint64_t flushes, lines, streams;
static FILE *shared;

static void *flush_all(void *unused)
{
    while (!stop) {
        fflush(NULL);
        flushes++;
    }
    return unused;
}

/* A new buffer for each line, made by getline while it holds the stream. */
static void *read_lines(void *unused)
{
    while (!stop) {
        rewind(shared);
        for (int i = 0; i < LINES; i++) {
            char *line = NULL;
            size_t room = 0;
            bool more = getline(&line, &room, shared) >= 0;
            free(line);
            if (!more)
                break;
            lines++;
        }
    }
    return unused;
}

/* The list of all streams is held while one is added or taken away. */
static void *open_and_close(void *unused)
{
    while (!stop) {
        FILE *stream = fopen("/dev/null", "we");
        if (stream == NULL)
            fail("fopen");
        fputs("text", stream);
        fclose(stream);
        streams++;
    }
    return unused;
}

static void work_in_child(void)
{
    FILE *stream = tmpfile();
    if (stream == NULL)
        fail("the child has no temporary file");
    fprintf(stream, "%s\n", "words of the child");
    fflush(stream);
    for (size_t size = 16; size < 1 * MiB; size *= 2)
        parcel_end(parcel_make(size + PARCEL_LEAST, 1), 1, "in the child");
    fclose(stream);
    _exit(0);
}

static void make_lines(void)
{
    shared = tmpfile();
    if (shared == NULL)
        fail("tmpfile");
    for (int i = 0; i < LINES; i++) {
        for (int k = 0; k < LINE_LENGTH; k++)
            putc('a' + k % 26, shared);
        putc('\n', shared);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "fork-stdio", 60);
    make_lines();
    pthread_t threads[4];
    void *(*const work[4])(void *) = {flush_all, read_lines, read_lines, open_and_close};
    for (unsigned i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, work[i], NULL) != 0)
            fail("pthread_create");
    for (uint64_t i = 0; i < scaled(FORKS); i++) {
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0)
            work_in_child();
        require_success(wait_for(child, 20, "a child of fork"), "a child of fork");
    }
    stop = true;
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    report("%" PRIu64 " flushes of all streams, %" PRIu64 " lines, %" PRIu64 " streams", flushes,
           lines, streams);
    if (flushes < scaled(100) || lines < scaled(1000) || streams < scaled(100))
        fail("too few of one kind to show anything");
    return 0;
}
