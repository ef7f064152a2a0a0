/* /opt/podstrap/bin/podstrap: starts podstrap's Python without what the image preloads into every program.
 *
 * Images set LD_PRELOAD (tcmalloc, jemalloc) to a library for their own libc. The loader of our Python would take it in,
 * and where that library wants a newer libc than ours no program of ours would start. So this program, which is static
 * and has no loader, puts the variable aside; bootstrap gives it back to the task (PODSTRAP_LD_PRELOAD).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PYTHON "/opt/podstrap/bin/python"

int main(int argc, char **argv)
{
    const char *preload = getenv("LD_PRELOAD");
    char **words = calloc((size_t)argc + 3, sizeof *words);

    if (words == NULL || (preload != NULL && setenv("PODSTRAP_LD_PRELOAD", preload, 1) != 0)) {
        perror("podstrap");
        return 125;
    }
    unsetenv("LD_PRELOAD");
    words[0] = PYTHON;
    words[1] = "-I"; /* neither PYTHON* variables nor the folder that we are in */
    words[2] = "/opt/podstrap/bin/podstrap.py";
    if (argc > 1)
        memcpy(words + 3, argv + 1, (size_t)(argc - 1) * sizeof *words);
    execv(PYTHON, words);
    perror("podstrap: " PYTHON);
    return 127;
}
