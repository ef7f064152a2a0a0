/*
 * The first process of a pod's sandbox, and of a test node: does nothing itself, collects the orphans it inherits,
 * leaves at once on SIGTERM. Called as `pause until-eof` it also leaves when its standard input ends, so that a node
 * dies with the tests that hold the other end, however these die.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int number) {
    (void)number;
    _exit(0);
}

static void reap(int number) {
    int before = errno;
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    errno = before;
}

static void on(int number, void (*act)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = act;
    action.sa_flags = SA_NOCLDSTOP;
    sigaction(number, &action, NULL);
}

int main(int argc, char **argv) {
    char byte;
    on(SIGINT, leave);
    on(SIGTERM, leave);
    on(SIGCHLD, reap);
    if (argc > 1 && strcmp(argv[1], "until-eof") == 0) {
        for (;;) {
            ssize_t got = read(0, &byte, 1);
            if (got == 0 || (got < 0 && errno != EINTR)) {
                return 0;
            }
        }
    }
    for (;;) {
        pause();
    }
}
