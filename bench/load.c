/* load.c - a load driver: N keep-alive connections, one request in flight on each, over TCP or unix sockets
 *
 *   load unix:PATH|PORT HOST TARGET CONNECTIONS SECONDS         requests: prints {"rps":..,"p50_us":..,"p99_us":..,"errors":..}
 *   load unix:PATH|PORT file PATH CONNECTIONS SECONDS           the same with the requests of a file, in turn: each is a line with its length, and
 *                                                              that many bytes; HTTP or Redis's protocol
 *   load unix:PATH|PORT HOST TARGET echo CHUNKS                 one streamed POST: writes a chunk, waits until it has come back, again;
 *                                                              prints {"p50_us":..,"p99_us":..} of the round trips
 *
 * One thread and one epoll: on a machine of two cores the driver must not be what is measured. The first answer's length is taken
 * as every answer's (the servers under test send the same one), so that no parser runs here. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"

enum { MAX_SAMPLES = 4 << 20 };

typedef struct connection { int fd; size_t got; int64_t sent_us; } connection;
typedef struct requests { sv_str *v; size_t n, next; } requests;

static int64_t *samples;
static char status[12]; /* how the first answer began; another beginning is an error */
static size_t n_samples;

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int connect_to(const char *address)
{
    int fd = -1, on = 1;
    if (strncmp(address, "unix:", 5) == 0) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        snprintf(a.sun_path, sizeof a.sun_path, "%s", address + 5);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
            return fd;
    } else {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(address)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
            return fd;
    }
    perror(address);
    exit(1);
}

static void send_all(int fd, const char *p, size_t n)
{
    sv_err err = {0};
    if (sv_write_all(fd, p, n, &err) != SV_OK) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
}

/* Length of the whole answer whose first bytes are in `text`, from its Content-Length, or as Redis counts; 0: the head is not whole yet. */
static size_t answer_length(const char *text)
{
    const char *line = strstr(text, "\r\n");
    if (line && text[0] == '+')
        return (size_t)(line + 2 - text);
    if (line && text[0] == '$' && text[1] != '-')
        return (size_t)(line + 2 - text) + (size_t)atoll(text + 1) + 2;
    const char *end = strstr(text, "\r\n\r\n");
    if (!end)
        return 0;
    const char *length = strcasestr(text, "content-length:");
    if (strncmp(text, "HTTP/1.1 200", 12) != 0 || !length || length > end) {
        fprintf(stderr, "want a 200 with a content-length, got:\n%.300s\n", text);
        exit(1);
    }
    return (size_t)(end + 4 - text) + (size_t)atoll(length + 15);
}

static size_t first_answer(const char *address, sv_str request)
{
    static char text[1 << 20];
    size_t n = 0, length = 0;
    int fd = connect_to(address);
    send_all(fd, request.p, request.n);
    while (length == 0 || n < length) {
        ssize_t k = read(fd, text + n, sizeof text - 1 - n);
        if (k <= 0) {
            fprintf(stderr, "no whole answer from %s\n", address);
            exit(1);
        }
        text[n += (size_t)k] = 0;
        length = answer_length(text);
    }
    memcpy(status, text, text[0] == 'H' ? sizeof status : 1);
    close(fd);
    return length;
}

static void print_latencies(void)
{
    qsort(samples, n_samples, sizeof *samples, by_value);
    printf("\"p50_us\":%lld,\"p99_us\":%lld", (long long)(n_samples ? samples[n_samples / 2] : 0),
           (long long)(n_samples ? samples[n_samples * 99 / 100] : 0));
}

static void send_next(int fd, requests *r)
{
    sv_str s = r->v[r->next++ % r->n];
    send_all(fd, s.p, s.n);
}

static int run_requests(const char *address, requests *r, int n_connections, double seconds)
{
    size_t length = first_answer(address, r->v[0]);
    int epoll = epoll_create1(0);
    connection *all = sv_xcalloc((size_t)n_connections, sizeof *all);
    int64_t errors = 0, answers = 0;
    for (int i = 0; i < n_connections; i++) {
        all[i].fd = connect_to(address);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &e);
        all[i].sent_us = sv_mono_us();
        send_next(all[i].fd, r);
    }
    int64_t start = sv_mono_us(), end = start + (int64_t)(seconds * 1e6), now = start;
    static char sink[1 << 16];
    struct epoll_event events[256];
    while (now < end) {
        int n = epoll_wait(epoll, events, SV_LEN(events), 100);
        now = sv_mono_us();
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            ssize_t k = read(c->fd, sink, sizeof sink);
            if (c->got == 0 && k >= (ssize_t)sizeof status && memcmp(sink, status, status[0] == 'H' ? sizeof status : 1) != 0) {
                fprintf(stderr, "after %lld answers one is another: %.200s\n", (long long)answers, sink);
                return 1;
            }
            if (k <= 0) {
                errors++;
                close(c->fd);
                c->fd = connect_to(address);
                struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
                epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e);
                c->got = 0;
            } else if ((c->got += (size_t)k) < length) {
                continue;
            } else {
                answers++;
                if (n_samples < MAX_SAMPLES)
                    samples[n_samples++] = now - c->sent_us;
                c->got = 0;
            }
            c->sent_us = now;
            send_next(c->fd, r);
        }
    }
    printf("{\"rps\":%.0f,\"n\":%lld,\"errors\":%lld,", (double)answers * 1e6 / (double)(now - start), (long long)answers, (long long)errors);
    print_latencies();
    printf("}\n");
    return 0;
}

/* The answer's chunks carry what was sent; it is enough to count the letters that only our payload has. */
static int run_echo(const char *address, const char *host, const char *target, int n_chunks)
{
    static char text[1 << 16];
    int fd = connect_to(address);
    int n = snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nhost: %s\r\ntransfer-encoding: chunked\r\n\r\n", target, host);
    send_all(fd, text, (size_t)n);
    for (int i = 0; i < n_chunks + 50; i++) {
        int64_t sent = sv_mono_us();
        send_all(fd, "20\r\n~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\r\n", 38);
        for (int seen = 0; seen < 32;) {
            ssize_t k = read(fd, text, sizeof text);
            if (k <= 0) {
                fprintf(stderr, "the echo ended\n");
                return 1;
            }
            for (ssize_t j = 0; j < k; j++)
                seen += text[j] == '~';
        }
        if (i >= 50) /* warm */
            samples[n_samples++] = sv_mono_us() - sent;
    }
    printf("{");
    print_latencies();
    printf("}\n");
    return 0;
}

static requests read_requests(const char *path)
{
    requests r = {0};
    sv_map map;
    sv_err err = {0};
    if (sv_map_open(&map, path, &err) != SV_OK) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    for (size_t at = 0; at < map.n;) {
        const char *p = (const char *)map.p + at, *line = memchr(p, '\n', map.n - at);
        size_t n = line ? (size_t)atoll(p) : 0;
        if (n == 0 || n > map.n - at - (size_t)(line + 1 - p)) {
            fprintf(stderr, "%s: no request at byte %zu\n", path, at);
            exit(1);
        }
        r.v = sv_xrealloc(r.v, r.n + 1, sizeof *r.v);
        r.v[r.n++] = (sv_str){line + 1, n};
        at += (size_t)(line + 1 - p) + n;
    }
    return r;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: load unix:PATH|PORT HOST TARGET CONNECTIONS SECONDS | ... file PATH CONNECTIONS SECONDS | ... HOST TARGET echo CHUNKS\n");
        return 2;
    }
    samples = sv_xcalloc(MAX_SAMPLES, sizeof *samples);
    if (strcmp(argv[4], "echo") == 0)
        return run_echo(argv[1], argv[2], argv[3], atoi(argv[5]));
    if (strcmp(argv[2], "file") == 0) {
        requests all = read_requests(argv[3]);
        return run_requests(argv[1], &all, atoi(argv[4]), atof(argv[5]));
    }
    char request[1024];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nhost: %s\r\n\r\n", argv[3], argv[2]);
    sv_str text = sv_str_of(request);
    return run_requests(argv[1], &(requests){.v = &text, .n = 1}, atoi(argv[4]), atof(argv[5]));
}
