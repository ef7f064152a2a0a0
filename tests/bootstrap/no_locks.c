/* A file system whose locks fail, for LD_PRELOAD: what flock(2) answers on some network mounts. */
#include <errno.h>
int flock(int fd, int operation) { (void)fd; (void)operation; errno = ENOLCK; return -1; }
