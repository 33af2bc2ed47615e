/* Loaded in front of the C library (LD_PRELOAD): writes down, in their order, what a process does to the files below a folder, and what it
   tells on standard output and standard error. RECORD is the file to write to, UNDER the folder, without links and with a slash at its end. Where ENDS_AFTER is
   a number, the process is killed once it has told so many times that a task completed: from here, because a kill from outside may come
   between what is done and what is written down of it.

   A record: its kind, the file's number (inode), two numbers, the lengths of a name and of data, the name, the data. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int record = -1;
static const char *under;
static int ends_after = -1;
static pthread_mutex_t order = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("RECORD");
    under = getenv("UNDER");
    if (!path || !under) return;
    NEXT(open);
    record = next(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const char *ends = getenv("ENDS_AFTER");
    if (ends) ends_after = atoi(ends);
    unsetenv("LD_PRELOAD"); /* its children are not recorded */
}

struct head {
    uint8_t kind;
    uint8_t pad[7];
    uint64_t inode;
    int64_t at;
    uint32_t name;
    uint32_t data;
} __attribute__((packed));

static void put(const void *bytes, size_t size) {
    NEXT(write);
    for (const char *from = bytes; size;) {
        ssize_t done = next(record, from, size);
        if (done <= 0) abort();
        from += done, size -= done;
    }
}

static void note(char kind, uint64_t inode, int64_t at, const char *name, const void *data, size_t size) {
    struct head head = {.kind = kind, .inode = inode, .at = at, .name = name ? strlen(name) : 0, .data = size};
    put(&head, sizeof head);
    if (name) put(name, head.name);
    if (size) put(data, size);
}

/* The path below the folder, or nothing. */
static const char *below(const char *path) {
    if (record < 0 || !path) return 0;
    size_t length = strlen(under);
    return strncmp(path, under, length) ? 0 : path + length;
}

/* The same, of an open file; with its number, and whether it is a folder. */
static const char *of(int fd, char path[4096], uint64_t *inode, int *folder) {
    if (record < 0 || fd == record) return 0;
    char link[64];
    struct stat stat;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4095);
    if (length <= 0 || fstat(fd, &stat)) return 0;
    path[length] = 0;
    *inode = stat.st_ino, *folder = S_ISDIR(stat.st_mode);
    if (!S_ISREG(stat.st_mode) && !*folder) return 0;
    if (*folder) strcat(path, "/");
    return below(path);
}

static int opened(int fd, int flags, int existed) {
    char path[4100];
    uint64_t inode;
    int folder;
    const char *name = fd < 0 ? 0 : of(fd, path, &inode, &folder);
    if (!name || folder) return fd;
    if ((flags & O_CREAT) && !existed) note('c', inode, 0, name, 0, 0);
    if (flags & O_TRUNC) note('t', inode, 0, 0, 0, 0);
    return fd;
}

#define OPEN(function, at, path, ...)                                                              \
    {                                                                                              \
        mode_t mode = 0;                                                                           \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                       \
            va_list rest;                                                                          \
            va_start(rest, flags);                                                                 \
            mode = va_arg(rest, int);                                                              \
            va_end(rest);                                                                          \
        }                                                                                          \
        NEXT(function);                                                                            \
        pthread_mutex_lock(&order);                                                                \
        int existed = !faccessat(at, path, F_OK, 0);                                               \
        int fd = opened(next(__VA_ARGS__, flags, mode), flags, existed);                           \
        pthread_mutex_unlock(&order);                                                              \
        return fd;                                                                                 \
    }

int open(const char *path, int flags, ...) OPEN(open, AT_FDCWD, path, path)
int open64(const char *path, int flags, ...) OPEN(open64, AT_FDCWD, path, path)
int openat(int at, const char *path, int flags, ...) OPEN(openat, at, path, at, path)
int openat64(int at, const char *path, int flags, ...) OPEN(openat64, at, path, at, path)

static ssize_t wrote(int fd, const void *bytes, ssize_t done, off64_t at) {
    char path[4100];
    uint64_t inode;
    int folder;
    if (done > 0 && of(fd, path, &inode, &folder) && !folder) {
        if (at < 0) at = lseek64(fd, 0, SEEK_CUR) - done;
        note('w', inode, at, 0, bytes, done);
    }
    return done;
}

/* Nobody else is in the middle of anything that is recorded: the order is ours. */
static void count(const void *bytes, size_t size) {
    static const char completed[] = "]: completed\n";
    const char *from = bytes, *end = from + size;
    while ((from = memmem(from, end - from, completed, sizeof completed - 1))) {
        if (!--ends_after) kill(getpid(), SIGKILL);
        from += sizeof completed - 1;
    }
}

ssize_t write(int fd, const void *bytes, size_t size) {
    NEXT(write);
    if (record < 0) return next(fd, bytes, size);
    pthread_mutex_lock(&order);
    /* Told once it is on its way: what is on record behind it came later. */
    if (fd == 1 || fd == 2) note('k', 0, 0, 0, bytes, size);
    ssize_t done = wrote(fd, bytes, next(fd, bytes, size), -1);
    if (fd == 2) count(bytes, size);
    pthread_mutex_unlock(&order);
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    NEXT(pwrite64);
    pthread_mutex_lock(&order);
    ssize_t done = wrote(fd, bytes, next(fd, bytes, size, at), at);
    pthread_mutex_unlock(&order);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { return pwrite64(fd, bytes, size, at); }

int ftruncate64(int fd, off64_t length) {
    NEXT(ftruncate64);
    char path[4100];
    uint64_t inode;
    int folder;
    pthread_mutex_lock(&order);
    int done = next(fd, length);
    if (!done && of(fd, path, &inode, &folder)) note('t', inode, length, 0, 0, 0);
    pthread_mutex_unlock(&order);
    return done;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int synced(int fd, int done) {
    char path[4100];
    uint64_t inode;
    int folder;
    const char *name = done ? 0 : of(fd, path, &inode, &folder);
    if (name) note(folder ? 'd' : 's', inode, 0, name, 0, 0);
    return done;
}

int fsync(int fd) {
    NEXT(fsync);
    pthread_mutex_lock(&order);
    int done = synced(fd, next(fd));
    pthread_mutex_unlock(&order);
    return done;
}

int fdatasync(int fd) {
    NEXT(fdatasync);
    pthread_mutex_lock(&order);
    int done = synced(fd, next(fd));
    pthread_mutex_unlock(&order);
    return done;
}

int unlink(const char *path) {
    NEXT(unlink);
    pthread_mutex_lock(&order);
    int done = next(path);
    if (!done && below(path)) note('u', 0, 0, below(path), 0, 0);
    pthread_mutex_unlock(&order);
    return done;
}

int rename(const char *from, const char *to) {
    NEXT(rename);
    pthread_mutex_lock(&order);
    int done = next(from, to);
    if (!done && below(from) && below(to)) note('r', 0, 0, below(from), below(to), strlen(below(to)));
    pthread_mutex_unlock(&order);
    return done;
}

int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    pthread_mutex_lock(&order);
    int done = next(path, mode);
    if (!done && below(path)) note('m', 0, 0, below(path), 0, 0);
    pthread_mutex_unlock(&order);
    return done;
}
