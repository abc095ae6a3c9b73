/* preload-tls FOLDER: opens the libraries of a folder, each with thread-local storage that only the
 * loader's reserve can hold, until there is none left; says how many, and works on with them all.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *work(void *argument)
{
    for (size_t i = 1; i < 2000; i++) {
        char *block = malloc(i * 7);
        memset(block, 1, i * 7);
        free(block);
    }
    return argument;
}

int main(int argc, char **argv)
{
    char path[4096];
    unsigned opened = 0, refused = 0;
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        if (strstr(entry->d_name, ".so") == NULL)
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        if (dlopen(path, RTLD_NOW) != NULL)
            opened++;
        else
            refused++;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return 1;
    work(NULL);
    printf("opened %u, refused %u\n", opened, refused);
    return 0;
}
