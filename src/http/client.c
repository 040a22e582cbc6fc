/* client.c - libcurl's multi interface on an sv_loop
 *
 * curl tells which sockets it waits for (socket_changed) and when it wants to be called next (timer_changed); the loop calls
 * it back (turn). Nothing here blocks but nothing is copied twice either: pieces go from curl's buffer to on_data.
 *
 * curl must not be entered from its own callbacks. So while it is in there (depth > 0), starting, resuming and cancelling
 * only leave marks on the fetch, and leave() acts on them when the outermost call has returned.
 *
 * Two lanes, each a multi handle with its own connection pool: the addresses of a `public_only` fetch are checked when
 * its socket is opened, after DNS, so it must never ride on a pooled connection that a trusted fetch has opened.
 *
 * Back-pressure: a paused fetch answers CURL_WRITEFUNC_PAUSE, and curl keeps that one piece; an empty upload buffer
 * answers CURL_READFUNC_PAUSE. Resuming clears both, and whichever still holds pauses itself again. */
#include "http/client.h"

#include <ctype.h>
#include <curl/curl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/epoll.h>

#include "http/public_addr.h"

enum { RECV_BUFFER = 64 << 10, UPLOAD_MAX = 16 << 20, MAX_CONNECTIONS = 1024, CONNECT_TIMEOUT_MS = 30000 };

typedef struct lane {
    sv_client *client;
    CURLM *multi;
    sv_timer *timer;
} lane;

struct sv_client {
    sv_loop *loop;
    lane lanes[2]; /* trusted, public only */
    int depth;     /* inside curl */
    bool marked;   /* some fetch has something to be done once we are out of it */
    sv_fetch *all;
    bool closing;
};

typedef struct sock { lane *lane; sv_watch *watch; } sock;

struct sv_fetch {
    sv_client *client;
    lane *lane;
    sv_fetch *prev, *next;
    CURL *easy;
    struct curl_slist *headers;
    sv_fetch_opts o; /* its strings are not looked at after the start; but body, until on_done */
    sv_buf up;       /* upload: bytes [up_at, up.n) wait */
    size_t up_at;
    int64_t up_left; /* of a declared length; -1: not declared */
    int status;      /* of the head that is coming in; 0: none yet */
    sv_buf reason;
    char message[CURL_ERROR_SIZE], refused[80];
    bool added, up_ended, head_told, paused, resume, canceled, finished;
};

/* ---- one answer ---- */

static void status_line(sv_fetch *f, sv_str line)
{
    const char *space = memchr(line.p, ' ', line.n), *end = line.p + line.n;
    f->status = 0;
    sv_buf_reset(&f->reason);
    if (!space)
        return;
    const char *p = space + 1;
    while (p < end && isdigit((unsigned char)*p) && f->status < 1000)
        f->status = f->status * 10 + (*p++ - '0');
    sv_str reason = sv_str_trim((sv_str){p, (size_t)(end - p)});
    sv_buf_add(&f->reason, reason.p, reason.n);
}

/* One line of a head, its empty last line, or a trailer. Interim answers (1xx) are not the caller's. */
static size_t header_came(char *p, size_t size, size_t n, void *arg)
{
    sv_fetch *f = arg;
    sv_str line = {p, n * size};
    if (f->canceled)
        return 0;
    if (f->head_told)
        return line.n;
    if (line.n > 5 && memcmp(p, "HTTP/", 5) == 0) {
        status_line(f, line);
        return line.n;
    }
    line = sv_str_trim(line);
    if (f->status >= 100 && f->status < 200 && f->status != 101)
        return n * size;
    if (line.n == 0) {
        f->head_told = true;
        if (f->o.on_head)
            f->o.on_head(f, f->status, sv_buf_str(&f->reason), f->o.arg);
    } else {
        const char *colon = memchr(line.p, ':', line.n);
        if (colon && f->o.on_header)
            f->o.on_header(f, sv_str_trim((sv_str){line.p, (size_t)(colon - line.p)}),
                           sv_str_trim((sv_str){colon + 1, line.n - (size_t)(colon + 1 - line.p)}), f->o.arg);
    }
    return f->canceled ? 0 : n * size;
}

static size_t data_came(char *p, size_t size, size_t n, void *arg)
{
    sv_fetch *f = arg;
    if (f->canceled)
        return 0;
    if (f->paused)
        return CURL_WRITEFUNC_PAUSE;
    if (f->o.on_data && n * size > 0)
        f->o.on_data(f, p, n * size, f->o.arg);
    return f->canceled ? 0 : n * size;
}

/* curl has room for more of the streamed body. */
static size_t data_wanted(char *out, size_t size, size_t n, void *arg)
{
    sv_fetch *f = arg;
    size_t room = size * n, have = f->up.n - f->up_at;
    if (f->canceled || f->up.failed)
        return CURL_READFUNC_ABORT;
    if (have == 0 && !f->up_ended)
        return CURL_READFUNC_PAUSE;
    if (have == 0)
        return f->up_left > 0 ? CURL_READFUNC_ABORT : 0; /* less than was declared is not a whole body */
    size_t take = have < room ? have : room;
    memcpy(out, f->up.p + f->up_at, take);
    f->up_at += take;
    if (f->up_left >= 0)
        f->up_left -= (int64_t)take;
    if (f->up_at == f->up.n) {
        sv_buf_reset(&f->up);
        f->up_at = 0;
        if (!f->up_ended && f->o.on_writable)
            f->o.on_writable(f, f->o.arg);
    }
    return take;
}

static curl_socket_t open_public(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    sv_fetch *f = arg;
    (void)purpose;
    if (!sv_addr_is_public(&a->addr)) {
        if (getnameinfo(&a->addr, a->addrlen, f->refused, sizeof f->refused, NULL, 0, NI_NUMERICHOST) != 0)
            memcpy(f->refused, "?", 2);
        return CURL_SOCKET_BAD;
    }
    f->refused[0] = '\0';
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* ---- life of a fetch ---- */

static void unlink_fetch(sv_fetch *f)
{
    if (f->prev)
        f->prev->next = f->next;
    else if (f->client->all == f)
        f->client->all = f->next;
    if (f->next)
        f->next->prev = f->prev;
    f->prev = f->next = NULL;
    if (f->added)
        curl_multi_remove_handle(f->lane->multi, f->easy);
    f->added = false;
}

static void free_fetch(sv_fetch *f)
{
    unlink_fetch(f);
    curl_easy_cleanup(f->easy);
    curl_slist_free_all(f->headers);
    sv_buf_done(&f->up);
    sv_buf_done(&f->reason);
    free(f);
}

static sv_rc outcome(sv_fetch *f, CURLcode code, sv_err *err)
{
    if (code == CURLE_OK)
        return SV_OK;
    if (f->refused[0])
        return sv_fail(err, SV_EINVAL, "the address %s is not public", f->refused);
    const char *why = f->message[0] ? f->message : curl_easy_strerror(code);
    switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: return sv_fail(err, SV_EINVAL, "%s", why);
    case CURLE_OPERATION_TIMEDOUT: return sv_fail(err, SV_ETIMEDOUT, "%s", why);
    case CURLE_OUT_OF_MEMORY: return sv_fail(err, SV_ENOMEM, "%s", why);
    case CURLE_ABORTED_BY_CALLBACK: return sv_fail(err, SV_EINVAL, "the request's body does not have the declared length");
    default: return sv_fail(err, SV_EIO, "%s", why);
    }
}

static void finish(sv_fetch *f, CURLcode code)
{
    sv_err err = {0};
    sv_fetch_opts o = f->o;
    sv_rc rc = outcome(f, code, &err);
    unlink_fetch(f); /* f lives until on_done returns, but nothing finds it any more */
    f->finished = true;
    if (!f->canceled && o.on_done)
        o.on_done(f, rc, &err, o.arg);
    free_fetch(f);
}

static void enter(sv_client *c) { c->depth++; }

/* One mark of one fetch, for acting on it may change the list. False: none is left. */
static bool act_on_marks(sv_client *c)
{
    if (!c->marked)
        return false;
    for (sv_fetch *f = c->all; f; f = f->next) {
        if (f->canceled) {
            free_fetch(f);
            return true;
        }
        if (!f->added) {
            f->added = true;
            if (curl_multi_add_handle(f->lane->multi, f->easy) != CURLM_OK)
                finish(f, CURLE_OUT_OF_MEMORY);
            return true;
        }
        if (f->resume) {
            f->resume = false;
            enter(c);
            curl_easy_pause(f->easy, CURLPAUSE_CONT); /* may call data_came */
            c->depth--;
            return true;
        }
    }
    c->marked = false;
    return false;
}

static bool take_message(lane *l)
{
    int left;
    CURLMsg *m = curl_multi_info_read(l->multi, &left);
    if (!m || m->msg != CURLMSG_DONE)
        return false;
    sv_fetch *f = NULL;
    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&f);
    finish(f, m->data.result);
    return true;
}

/* Every way out of curl ends here. */
static void leave(sv_client *c)
{
    if (--c->depth > 0 || c->closing)
        return;
    while (take_message(&c->lanes[0]) || take_message(&c->lanes[1]) || act_on_marks(c))
        ;
}

/* ---- curl and the loop ---- */

static void socket_ready(void *arg, int fd, uint32_t events)
{
    lane *l = ((sock *)arg)->lane;
    int running, mask = (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP) ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                        (events & EPOLLERR ? CURL_CSELECT_ERR : 0);
    enter(l->client);
    curl_multi_socket_action(l->multi, fd, mask, &running);
    leave(l->client);
}

static void timer_fired(void *arg)
{
    lane *l = arg;
    int running;
    enter(l->client);
    curl_multi_socket_action(l->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    leave(l->client);
}

static int socket_changed(CURL *easy, curl_socket_t fd, int what, void *arg, void *of_socket)
{
    lane *l = arg;
    sock *s = of_socket;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s)
            sv_watch_remove(s->watch);
        free(s);
        curl_multi_assign(l->multi, fd, NULL);
        return 0;
    }
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (s) {
        sv_watch_set(s->watch, events);
        return 0;
    }
    s = sv_xnew0(sock);
    s->lane = l;
    s->watch = sv_loop_watch(l->client->loop, fd, events, socket_ready, s);
    curl_multi_assign(l->multi, fd, s);
    return 0;
}

static int timer_changed(CURLM *multi, long ms, void *arg)
{
    lane *l = arg;
    (void)multi;
    sv_timer_set(l->timer, ms);
    return 0;
}

static void init_curl(void) { SV_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == 0); }

sv_client *sv_client_new(sv_loop *loop)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    sv_client *c = sv_xnew0(sv_client);
    c->loop = loop;
    for (size_t i = 0; i < SV_LEN(c->lanes); i++) {
        lane *l = &c->lanes[i];
        *l = (lane){.client = c, .multi = curl_multi_init(), .timer = sv_timer_new(loop, timer_fired, l)};
        SV_ASSERT(l->multi);
        curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, socket_changed);
        curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
        curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, timer_changed);
        curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
        curl_multi_setopt(l->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)MAX_CONNECTIONS);
    }
    return c;
}

sv_client *sv_client_free(sv_client *c)
{
    if (!c)
        return NULL;
    c->closing = true;
    while (c->all)
        free_fetch(c->all);
    for (size_t i = 0; i < SV_LEN(c->lanes); i++) {
        curl_multi_cleanup(c->lanes[i].multi);
        sv_timer_free(c->lanes[i].timer);
    }
    free(c);
    return NULL;
}

/* ---- starting ---- */

static bool is_token(const char *s)
{
    for (const char *p = s; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
            return false;
    return *s != '\0';
}

static sv_rc check(const sv_fetch_opts *o, sv_err *err)
{
    if (!o->method || !is_token(o->method) || strcmp(o->method, "CONNECT") == 0)
        return sv_fail(err, SV_EINVAL, "the method is not one that can be fetched with");
    if (!o->url || (strncasecmp(o->url, "http://", 7) != 0 && strncasecmp(o->url, "https://", 8) != 0))
        return sv_fail(err, SV_EINVAL, "the URL does not begin with http:// or https://");
    if (o->public_only && o->unix_path)
        return sv_fail(err, SV_EINVAL, "a unix socket is not a public address");
    for (size_t i = 0; o->headers && o->headers[i]; i++) {
        const char *h = o->headers[i], *colon = strchr(h, ':');
        if (!colon || colon == h || strpbrk(h, "\r\n"))
            return sv_fail(err, SV_EINVAL, "header %zu is not of the form 'Name: value'", i + 1);
    }
    return SV_OK;
}

static bool is_header(const char *line, const char *name)
{
    size_t n = strlen(name);
    return strncasecmp(line, name, n) == 0 && line[n] == ':';
}

static void add_line(sv_fetch *f, const char *line)
{
    struct curl_slist *more = curl_slist_append(f->headers, line);
    SV_ASSERT(more);
    f->headers = more;
}

/* The caller's lines, without what curl would add by itself and without the length, which goes in another way. */
static void add_headers(sv_fetch *f, const sv_fetch_opts *o)
{
    static const char *const own[] = {"Accept", "Content-Type", "Expect"};
    bool given[SV_LEN(own)] = {false};
    for (size_t i = 0; o->headers && o->headers[i]; i++) {
        const char *h = o->headers[i], *value = strchr(h, ':') + 1;
        if (is_header(h, "Content-Length")) {
            int64_t n;
            if (sv_str_to_i64(sv_str_trim(sv_str_of(value)), &n) && n >= 0)
                f->up_left = n;
            continue;
        }
        if (is_header(h, "Transfer-Encoding"))
            continue;
        for (size_t k = 0; k < SV_LEN(own); k++)
            given[k] |= is_header(h, own[k]);
        if (sv_str_trim(sv_str_of(value)).n > 0) {
            add_line(f, h);
        } else { /* curl's way of writing an empty value */
            SV_AUTO(sv_freep) char *line = sv_xasprintf("%.*s;", (int)(value - 1 - h), h);
            add_line(f, line);
        }
    }
    for (size_t k = 0; k < SV_LEN(own); k++) {
        char none[32];
        if (!given[k]) {
            snprintf(none, sizeof none, "%s:", own[k]);
            add_line(f, none);
        }
    }
}

static void set_body(sv_fetch *f, const sv_fetch_opts *o)
{
    CURL *e = f->easy;
    if (o->stream_body) {
        curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(e, CURLOPT_READFUNCTION, data_wanted);
        curl_easy_setopt(e, CURLOPT_READDATA, f);
        if (f->up_left >= 0)
            curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)f->up_left);
    } else if (o->body.n > 0 || strcmp(o->method, "POST") == 0 || strcmp(o->method, "PUT") == 0 || strcmp(o->method, "PATCH") == 0) {
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)o->body.n);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, o->body.n ? o->body.p : "");
    } else if (strcmp(o->method, "HEAD") == 0) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
        return;
    }
    curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, o->method);
}

static void set_options(sv_fetch *f, const sv_fetch_opts *o)
{
    CURL *e = f->easy;
    curl_easy_setopt(e, CURLOPT_URL, o->url);
    curl_easy_setopt(e, CURLOPT_PRIVATE, f);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, f->message);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, (long)RECV_BUFFER);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)o->timeout_ms);
    curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, header_came);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, f);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, data_came);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, f->headers);
    if (o->unix_path)
        curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, o->unix_path);
    if (o->public_only) { /* a proxy would resolve the name where we cannot look */
        curl_easy_setopt(e, CURLOPT_PROXY, "");
        curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_public);
        curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, f);
    }
}

sv_rc sv_fetch_start(sv_fetch **out, sv_client *c, const sv_fetch_opts *o, sv_err *err)
{
    if (check(o, err) != SV_OK)
        return err->code;
    CURL *easy = curl_easy_init();
    if (!easy)
        return sv_fail(err, SV_ENOMEM, "no memory for a request");
    sv_fetch *f = sv_xnew0(sv_fetch);
    *f = (sv_fetch){.client = c, .lane = &c->lanes[o->public_only], .easy = easy, .o = *o, .up_left = -1, .next = c->all};
    sv_buf_init(&f->up, UPLOAD_MAX);
    sv_buf_init(&f->reason, 4096);
    if (c->all)
        c->all->prev = f;
    c->all = f;
    add_headers(f, o);
    set_options(f, o);
    set_body(f, o);
    if (c->depth > 0) {
        c->marked = true;
    } else {
        f->added = true;
        if (curl_multi_add_handle(f->lane->multi, easy) != CURLM_OK) {
            f->added = false;
            free_fetch(f);
            return sv_fail(err, SV_EIO, "the HTTP client takes no more requests");
        }
    }
    *out = f;
    return SV_OK;
}

/* ---- while it runs ---- */

/* leave() acts on the marks: at once, or where we are inside curl, when that returns. */
static void marked(sv_fetch *f)
{
    f->client->marked = true;
    enter(f->client);
    leave(f->client);
}

static void resume(sv_fetch *f)
{
    if (f->finished || f->canceled)
        return;
    f->resume = true;
    marked(f);
}

size_t sv_fetch_write(sv_fetch *f, const char *p, size_t n)
{
    bool was_empty = f->up.n == f->up_at;
    if (f->finished || f->canceled || f->up_ended)
        return 0;
    if (f->up_at > f->up.n / 2) { /* what curl has taken makes room */
        memmove(f->up.p, f->up.p + f->up_at, f->up.n - f->up_at);
        f->up.n -= f->up_at;
        f->up_at = 0;
    }
    sv_buf_add(&f->up, p, n); /* over its cap: data_wanted gives up */
    size_t left = f->up.n - f->up_at;
    if (was_empty || f->up.failed)
        resume(f);
    return left;
}

void sv_fetch_write_end(sv_fetch *f)
{
    f->up_ended = true;
    resume(f);
}

void sv_fetch_pause(sv_fetch *f, bool pause)
{
    if (f->paused == pause)
        return;
    f->paused = pause;
    if (!pause)
        resume(f);
}

void sv_fetch_cancel(sv_fetch *f)
{
    if (f->finished || f->canceled)
        return;
    f->canceled = true;
    marked(f);
}
