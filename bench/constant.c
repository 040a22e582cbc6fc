/* constant.c - the floor under a backend: an HTTP server on a unix socket that answers everything with the same N bytes
 *
 *   constant SOCKET N
 *
 * One epoll loop; a request is whatever ends with an empty line. What a store costs a Worker is what it costs above this. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

int main(int argc, char **argv)
{
    sv_err err = {0};
    int fd;
    size_t n = argc == 3 ? (size_t)atoll(argv[2]) : 0;
    if (n == 0 || n > 1 << 20) {
        fprintf(stderr, "usage: constant SOCKET BYTES\n");
        return 2;
    }
    if (sv_unix_listen(&fd, argv[1], 64, &err) != SV_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    char *answer = sv_xcalloc(1, n + 128);
    size_t head = (size_t)sprintf(answer, "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %zu\r\n\r\n", n);
    memset(answer + head, 'v', n);
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
    for (struct epoll_event e;;) {
        if (epoll_wait(epoll, &e, 1, -1) != 1)
            continue;
        if (e.data.fd == fd) {
            int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
            epoll_ctl(epoll, EPOLL_CTL_ADD, c, &(struct epoll_event){.events = EPOLLIN, .data.fd = c});
            continue;
        }
        char in[65536];
        ssize_t got = read(e.data.fd, in, sizeof in);
        if (got <= 0)
            close(e.data.fd);
        else if (got >= 4 && memcmp(in + got - 4, "\r\n\r\n", 4) == 0 && sv_write_all(e.data.fd, answer, head + n, &err) != SV_OK)
            close(e.data.fd);
    }
}
