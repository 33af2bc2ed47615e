/* Loaded in front of the C library (LD_PRELOAD): the N-th sync of the process kills it, fails, or finds the disk full.
   FAULT is kill:N, sync:N or full:N. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char kind[8];
static int number;
static int count;
static int full;

__attribute__((constructor)) static void begin(void) {
    const char *fault = getenv("FAULT");
    if (fault) sscanf(fault, "%7[a-z]:%d", kind, &number);
}

static int fault(void) {
    if (__atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST) < number || !number) return 0;
    if (!strcmp(kind, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(kind, "full")) full = 1;
    if (!strcmp(kind, "sync")) return errno = EIO, -1;
    return 0;
}

int fsync(int fd) {
    static int (*next)(int);
    if (!next) next = dlsym(RTLD_NEXT, "fsync");
    return fault() ? -1 : next(fd);
}

int fdatasync(int fd) {
    static int (*next)(int);
    if (!next) next = dlsym(RTLD_NEXT, "fdatasync");
    return fault() ? -1 : next(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    static ssize_t (*next)(int, const void *, size_t, off64_t);
    if (!next) next = dlsym(RTLD_NEXT, "pwrite64");
    if (full && size > 48) return errno = ENOSPC, -1; /* the scoreboard writes no more than that, and grows no file */
    return next(fd, bytes, size, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { return pwrite64(fd, bytes, size, at); }
