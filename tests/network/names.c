/* Loaded in front of the C library (LD_PRELOAD): the name rebinds.example means a public address when it is first looked up, and this machine
   from then on. Nothing reaches that public address: who connects to it is refused, and CONNECTS gets a byte. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char public[] = "8.8.8.8";

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    static int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    static int looked_up;
    if (!next) next = dlsym(RTLD_NEXT, "getaddrinfo");
    if (name && !strcmp(name, "rebinds.example")) name = __atomic_fetch_add(&looked_up, 1, __ATOMIC_SEQ_CST) ? "127.0.0.1" : public;
    return next(name, service, hints, found);
}

int connect(int fd, const struct sockaddr *address, socklen_t length) {
    static int (*next)(int, const struct sockaddr *, socklen_t);
    if (!next) next = dlsym(RTLD_NEXT, "connect");
    struct in_addr refused;
    inet_pton(AF_INET, public, &refused);
    if (address->sa_family == AF_INET && ((const struct sockaddr_in *)address)->sin_addr.s_addr == refused.s_addr) {
        int log = open(getenv("CONNECTS"), O_WRONLY | O_APPEND | O_CREAT, 0600);
        if (log >= 0 && write(log, ".", 1) == 1) close(log);
        return errno = ECONNREFUSED, -1;
    }
    return next(fd, address, length);
}
