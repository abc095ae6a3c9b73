/* A library with 200 bytes of thread-local storage that must lie in the loader's reserve. */
__thread char hog[200] __attribute__((tls_model("initial-exec")));

char *reach_hog(void);

char *reach_hog(void)
{
    return hog;
}
