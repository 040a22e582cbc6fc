/* node_testing.h - for tests: a node in small, with a real engine process or a script in its place, and a client of it
 *
 * Only for *_test.c files of this folder. */
#ifndef SV_AI_NODE_TESTING_H
#define SV_AI_NODE_TESTING_H

#include "ai/ai.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "account/account.h"
#include "account/limits.h"
#include "base/file.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/time.h"
#include "engine/engine.h"
#include "engine/wire.h"
#include "http/server.h"

#ifndef SV_SOURCE_ROOT
#define SV_SOURCE_ROOT ".."
#endif
#define TINY "@cf/selvedge/tiny"
#define STORIES "@cf/karpathy/stories260k"
#define ACCOUNT "/client/v4/accounts/0123456789abcdef0123456789abcdef"

/* ---- one node, small: a loop thread with both servers, and a socket where its engine is ---- */

typedef struct node {
    char dir[64], api_sock[96], bind_sock[96], engine_sock[96], data[96], models[96];
    pid_t engine_pid;
    pthread_t thread;
    sv_loop *loop;
    sv_http *api, *bindings;
    sv_catalogue *catalogue;
    sv_engine_client *engine;
    sv_ai *ai;
} node;

static sv_principal me = {.account_id = "0123456789abcdef0123456789abcdef"};

static inline bool before(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_set_user(r, &me);
    return true;
}

static inline sv_str prefix(sv_req *r, void *ctx)
{
    (void)ctx;
    return sv_req_header(r, "x-sv-binding");
}

static inline void get_metrics(sv_req *r, void *ctx)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 1 << 20);
    sv_ai_metrics(ctx, &b);
    sv_req_send(r, 200, "text/plain", sv_buf_str(&b));
}

static inline void *serve(void *arg)
{
    node *n = arg;
    sv_loop_run(n->loop);
    return NULL;
}

static inline void copy_file(const char *from, const char *to)
{
    sv_map m = {0};
    sv_err err = {0};
    if (sv_map_open(&m, from, &err) != SV_OK || sv_file_replace(to, m.p, m.n, 0600, &err) != SV_OK)
        fail_msg("%s", err.msg);
    sv_map_close(&m);
}

static inline const char *shared(void)
{
    const char *dir = getenv("SV_SHARED_DATA");
    return dir ? dir : SV_SOURCE_ROOT "/../shared/data";
}

static inline bool has_stories(void)
{
    char path[600];
    snprintf(path, sizeof path, "%s/models/stories260K/stories260K.gguf", shared());
    return sv_file_exists(path);
}

static inline pid_t start_engine(const char *socket_path)
{
    int fd = -1;
    sv_err err = {0};
    if (sv_unix_listen(&fd, socket_path, 64, &err) != SV_OK)
        fail_msg("%s", err.msg);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGPIPE, SIG_IGN);
        _exit(sv_engine_main(&(sv_engine_opts){.listen_fd = fd, .n_threads = 1, .drain_ms = 200}));
    }
    close(fd);
    return pid;
}

static inline node *node_start(bool real_engine)
{
    node *n = sv_xnew0(node);
    sv_err err = {0};
    int fd = -1;
    signal(SIGPIPE, SIG_IGN);
    snprintf(n->dir, sizeof n->dir, "/tmp/sv-ai-XXXXXX");
    assert_non_null(mkdtemp(n->dir));
    snprintf(n->api_sock, sizeof n->api_sock, "%s/api", n->dir);
    snprintf(n->bind_sock, sizeof n->bind_sock, "%s/bind", n->dir);
    snprintf(n->engine_sock, sizeof n->engine_sock, "%s/engine", n->dir);
    snprintf(n->data, sizeof n->data, "%s/data", n->dir);
    snprintf(n->models, sizeof n->models, "%s/models", n->dir);
    assert_int_equal(sv_mkdir_p(n->models, 0700, &err), SV_OK);
    char path[600];
    snprintf(path, sizeof path, "%s/tiny.gguf", n->models);
    copy_file(SV_SOURCE_ROOT "/tests/reference/llama-q8_0.gguf", path);
    if (real_engine)
        n->engine_pid = start_engine(n->engine_sock);

    if (sv_catalogue_open(&n->catalogue, n->data, n->models, &err) != SV_OK)
        fail_msg("%s", err.msg);
    if (has_stories()) {
        snprintf(path, sizeof path, "%s/models/stories260K/stories260K.gguf", shared());
        if (sv_catalogue_import(n->catalogue, &(sv_import_opts){.path = path, .id = STORIES}, &err) != SV_OK)
            fail_msg("%s", err.msg);
    }
    n->loop = sv_loop_new();
    n->engine = sv_engine_client_new(n->loop, n->engine_sock);
    n->ai = sv_ai_new(&(sv_ai_opts){.loop = n->loop, .engine = n->engine, .catalogue = n->catalogue});
    if (sv_ai_keep_batches(n->ai, n->data, &err) != SV_OK)
        fail_msg("%s", err.msg);
    n->api = sv_http_new(n->loop, &(sv_http_opts){.before = before});
    n->bindings = sv_http_new(n->loop, &(sv_http_opts){.before = before, .prefix = prefix});
    sv_ai_rest_routes(n->api, n->ai);
    sv_ai_openai_routes(n->api, n->ai);
    sv_ai_binding_routes(n->bindings, n->ai);
    sv_http_route(n->api, &(sv_route){.method = "GET", .path = "/metrics", .fn = get_metrics}, n->ai);
    assert_int_equal(sv_unix_listen(&fd, n->api_sock, 64, &err), SV_OK);
    sv_http_listen(n->api, fd, NULL);
    assert_int_equal(sv_unix_listen(&fd, n->bind_sock, 64, &err), SV_OK);
    sv_http_listen(n->bindings, fd, NULL);
    n->thread = sv_thread_start("server", serve, n);
    return n;
}

static inline void node_stop(node *n)
{
    sv_err err = {0};
    sv_loop_stop(n->loop);
    pthread_join(n->thread, NULL);
    sv_http_free(n->api);
    sv_http_free(n->bindings);
    sv_ai_free(n->ai);
    sv_engine_client_free(n->engine);
    sv_catalogue_close(n->catalogue);
    sv_loop_free(n->loop);
    if (n->engine_pid) {
        kill(n->engine_pid, SIGTERM);
        waitpid(n->engine_pid, NULL, 0);
    }
    assert_int_equal(sv_remove_tree(n->dir, &err), SV_OK);
    free(n);
}

/* ---- a client ---- */

typedef struct answer { int status; char *head; sv_buf body; } answer; /* body without chunk marks */

static inline int send_request(const char *sock, const char *method, const char *path, const char *headers, const char *body)
{
    int fd = -1;
    sv_err err = {0};
    if (sv_unix_connect(&fd, sock, &err) != SV_OK)
        fail_msg("%s", err.msg);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_addf(&b, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s", method, path, headers);
    if (body)
        sv_buf_addf(&b, "Content-Length: %zu\r\n", strlen(body));
    sv_buf_addf(&b, "\r\n%s", body ? body : "");
    assert_int_equal(sv_write_all(fd, b.p, b.n, &err), SV_OK);
    sv_buf_done(&b);
    return fd;
}

static inline void dechunk(sv_buf *out, sv_str in)
{
    while (in.n > 0) {
        char *end;
        unsigned long n = strtoul(in.p, &end, 16);
        const char *data = end + 2;
        if (n == 0)
            return;
        assert_true(data + n + 2 <= in.p + in.n);
        sv_buf_add(out, data, n);
        in.n -= (size_t)(data + n + 2 - in.p);
        in.p = data + n + 2;
    }
}

static inline answer read_answer(int fd)
{
    answer a = {0};
    sv_buf raw;
    sv_buf_init(&raw, 0);
    sv_buf_init(&a.body, 0);
    for (;;) {
        char *room = sv_buf_room(&raw, 65536);
        ssize_t n = read(fd, room, 65536);
        if (n <= 0)
            break;
        raw.n += (size_t)n;
    }
    close(fd);
    sv_buf_addc(&raw, 0);
    const char *end = raw.n > 1 ? strstr(raw.p, "\r\n\r\n") : NULL;
    if (!end)
        fail_msg("no answer");
    a.head = sv_xstrndup(raw.p, (size_t)(end - raw.p));
    a.status = atoi(raw.p + 9);
    sv_str rest = {end + 4, raw.n - 1 - (size_t)(end + 4 - raw.p)};
    if (strcasestr(a.head, "transfer-encoding: chunked"))
        dechunk(&a.body, rest);
    else
        sv_buf_add(&a.body, rest.p, rest.n);
    sv_buf_done(&raw);
    return a;
}

static inline void answer_done(answer *a)
{
    free(a->head);
    sv_buf_done(&a->body);
}

static inline answer post(const node *n, const char *path, const char *body)
{
    return read_answer(send_request(n->api_sock, "POST", path, "Authorization: Bearer x\r\n", body));
}

static inline answer get(const node *n, const char *path) { return read_answer(send_request(n->api_sock, "GET", path, "", NULL)); }

static inline answer bind_run(const node *n, const char *model, const char *body)
{
    char headers[256];
    snprintf(headers, sizeof headers, "Content-Type: application/json\r\nCF-Consn-Model-Id: evil\r\ncf-consn-model-id: %s\r\nx-sv-binding: ai\r\n", model);
    return read_answer(send_request(n->bind_sock, "POST", "/run?version=3", headers, body));
}

static inline json_t *json_of(const answer *a)
{
    json_t *j = NULL;
    sv_err err = {0};
    if (sv_json_parse(&j, sv_buf_str(&a->body), &err) != SV_OK)
        fail_msg("%s: %s", err.msg, sv_buf_cstr(&a->body));
    return j;
}

/* In all dialects: status, code in its place, words. */
static inline void refused(answer a, int status, int code, const char *says)
{
    if (a.status != status)
        fail_msg("%d, not %d: %s", a.status, status, sv_buf_cstr(&a.body));
    const char *id = strcasestr(a.head, "cf-ai-req-id: ");
    assert_non_null(id);
    assert_null(strcasestr(id + 1, "cf-ai-req-id: ")); /* twice would reach the Worker as "x, x" */
    assert_non_null(strcasestr(a.head, "content-type: application/json"));
    json_t *j = json_of(&a), *first = json_array_get(json_object_get(j, "errors"), 0);
    json_t *internal = json_object_get(j, "internalCode");
    const char *words = internal ? sv_json_cstr(j, "description") : sv_json_cstr(first, "message");
    assert_int_equal(json_integer_value(internal ? internal : json_object_get(first, "code")), code);
    if (internal)
        assert_string_equal(sv_json_cstr(j, "name"), "AiError");
    else
        assert_true(json_is_false(json_object_get(j, "success")));
    if (!words || !strstr(words, says))
        fail_msg("'%s' does not say '%s'", words ? words : "", says);
    json_decref(j);
    answer_done(&a);
}

#endif
