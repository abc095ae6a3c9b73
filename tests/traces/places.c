/* A program that calls malloc where the recorder may not wait for anything: `places WHERE N`, with
 * N calls of malloc and as many of free in each place.
 *
 * WHERE:
 *   locale  for the first time in setlocale, whose lock the C library's messages are under. And
 *           nothing is left for dlerror to tell
 *   fork    in handlers of pthread_atfork that were there before the recorder's own, and in the
 *           child; errno is as it was after the fork
 *   lock    under a lock that a handler of pthread_atfork waits for: until there were N forks
 *   plugin  with operator delete in place of free, of a C++ runtime that is nobody else's
 *   root    once, and then in another root folder, which is empty; for root alone. And then kill
 *           itself
 */
#include <dlfcn.h>
#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static long times;

static void work(void)
{
    for (long i = 0; i < times; i++)
        free(malloc(1 + (size_t)i % 5000));
}

static int work_around_fork(void)
{
    int status = 1;
    pthread_atfork(work, work, work);
    work(); /* the recorder's are there now */
    errno = 0;
    pid_t child = fork();
    if (errno != 0)
        _exit(1);
    if (child == 0)
        work();
    return child != 0 && (waitpid(child, &status, 0) != child || status != 0);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile bool is_over;

static void take(void)
{
    pthread_mutex_lock(&mutex);
}

static void leave(void)
{
    pthread_mutex_unlock(&mutex);
}

static void *work_under_the_lock(void *argument)
{
    while (!is_over) {
        take();
        for (size_t i = 0; i < 200; i++)
            free(malloc(100 + i * 37));
        leave();
    }
    return argument;
}

static int fork_beside_it(void)
{
    pthread_t worker;
    int status = 0;
    pthread_atfork(take, leave, leave);
    if (pthread_create(&worker, NULL, work_under_the_lock, NULL) != 0)
        return 1;
    for (long i = 0; i < times && status == 0; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        if (waitpid(child, &status, 0) != child)
            return 1;
    }
    is_over = true;
    return pthread_join(worker, NULL) != 0 || status != 0;
}

static int work_after_setlocale(void)
{
    for (int i = 0; i < 4; i++)
        setlocale(LC_ALL, i % 2 == 0 ? "xx_XX.UTF-8" : "xx_YY.UTF-8");
    work();
    return dlerror() != NULL;
}

static int work_for_a_plugin(void)
{
    if (dlopen("libstdc++.so.6", RTLD_NOW | RTLD_LOCAL) == NULL)
        return 77;
    void (*delete)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "_ZdlPv");
    for (long i = 0; i < times && delete != NULL; i++)
        delete (malloc(100));
    return delete == NULL;
}

static int work_elsewhere(const char *root)
{
    free(malloc(1));
    if (chroot(root) != 0 || chdir("/") != 0)
        return 1;
    work();
    return kill(getpid(), SIGKILL);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    times = strtol(argv[2], NULL, 10);
    if (strcmp(argv[1], "locale") == 0)
        return work_after_setlocale();
    if (strcmp(argv[1], "fork") == 0)
        return work_around_fork();
    if (strcmp(argv[1], "plugin") == 0)
        return work_for_a_plugin();
    if (strcmp(argv[1], "lock") == 0)
        return fork_beside_it();
    return argc > 3 ? work_elsewhere(argv[3]) : 2;
}
