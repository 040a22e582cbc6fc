/* ai_test.c - the three dialects over HTTP, with a real engine process and with one that misbehaves on purpose
 *
 * Real: tests/reference/llama-q8_0.gguf in an engine of its own, and stories260K where the shared data is, whose greedy continuation was written by
 * the program it was trained with. Scripted: a thread that speaks the engine's frames and does what no healthy engine does at a known moment: die in the
 * middle, write megabytes, wait for ever. */
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

static bool before(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_set_user(r, &me);
    return true;
}

static sv_str prefix(sv_req *r, void *ctx)
{
    (void)ctx;
    return sv_req_header(r, "x-sv-binding");
}

static void get_metrics(sv_req *r, void *ctx)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 1 << 20);
    sv_ai_metrics(ctx, &b);
    sv_req_send(r, 200, "text/plain", sv_buf_str(&b));
}

static void *serve(void *arg)
{
    node *n = arg;
    sv_loop_run(n->loop);
    return NULL;
}

static void copy_file(const char *from, const char *to)
{
    sv_map m = {0};
    sv_err err = {0};
    if (sv_map_open(&m, from, &err) != SV_OK || sv_file_replace(to, m.p, m.n, 0600, &err) != SV_OK)
        fail_msg("%s", err.msg);
    sv_map_close(&m);
}

static const char *shared(void)
{
    const char *dir = getenv("SV_SHARED_DATA");
    return dir ? dir : SV_SOURCE_ROOT "/../shared/data";
}

static bool has_stories(void)
{
    char path[600];
    snprintf(path, sizeof path, "%s/models/stories260K/stories260K.gguf", shared());
    return sv_file_exists(path);
}

static pid_t start_engine(const char *socket_path)
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

static node *node_start(bool real_engine)
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

static void node_stop(node *n)
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

static int send_request(const char *sock, const char *method, const char *path, const char *headers, const char *body)
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

static void dechunk(sv_buf *out, sv_str in)
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

static answer read_answer(int fd)
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

static void answer_done(answer *a)
{
    free(a->head);
    sv_buf_done(&a->body);
}

static answer post(const node *n, const char *path, const char *body)
{
    return read_answer(send_request(n->api_sock, "POST", path, "Authorization: Bearer x\r\n", body));
}

static answer get(const node *n, const char *path) { return read_answer(send_request(n->api_sock, "GET", path, "", NULL)); }

static answer bind_run(const node *n, const char *model, const char *body)
{
    char headers[256];
    snprintf(headers, sizeof headers, "Content-Type: application/json\r\nCF-Consn-Model-Id: evil\r\ncf-consn-model-id: %s\r\nx-sv-binding: ai\r\n", model);
    return read_answer(send_request(n->bind_sock, "POST", "/run?version=3", headers, body));
}

static json_t *json_of(const answer *a)
{
    json_t *j = NULL;
    sv_err err = {0};
    if (sv_json_parse(&j, sv_buf_str(&a->body), &err) != SV_OK)
        fail_msg("%s: %s", err.msg, sv_buf_cstr(&a->body));
    return j;
}

/* The i-th event's JSON text, NUL-terminated in the body itself; NULL past the end. Every event is one data line and an empty one. */
static char *next_event(char **at)
{
    char *p = *at;
    if (!*p)
        return NULL;
    assert_memory_equal(p, "data: ", 6);
    char *end = strstr(p, "\n\n");
    assert_non_null(end);
    *end = 0;
    assert_null(strchr(p, '\n'));
    *at = end + 2;
    return p + 6;
}

/* Takes a classic stream apart. */
typedef struct stream { sv_buf text; int n_pieces, n_paddings; bool done, error; int64_t in, out; char finish[16]; } stream;

static stream classic_stream(answer *a)
{
    stream s = {0};
    bool seen[64] = {false};
    sv_buf_init(&s.text, 0);
    assert_non_null(strcasestr(a->head, "content-type: text/event-stream"));
    assert_non_null(strcasestr(a->head, "cf-ai-req-id: "));
    char *at = a->body.p;
    for (char *e; at && (e = next_event(&at));) {
        assert_false(s.done);
        if (strcmp(e, "[DONE]") == 0) {
            s.done = true;
            continue;
        }
        json_error_t je;
        json_t *j = json_loads(e, 0, &je), *r = json_object_get(j, "response"), *u = json_object_get(j, "usage");
        assert_non_null(j);
        if (json_object_get(j, "error"))
            s.error = true;
        if (r)
            sv_buf_add(&s.text, json_string_value(r), json_string_length(r));
        const char *p = sv_json_cstr(j, "p");
        if (p) {
            assert_true(strlen(p) > 0 && strlen(p) < 64);
            s.n_pieces++;
            s.n_paddings += !seen[strlen(p)];
            seen[strlen(p)] = true;
        }
        if (u) {
            s.in = json_integer_value(json_object_get(u, "prompt_tokens"));
            s.out = json_integer_value(json_object_get(u, "completion_tokens"));
            assert_int_equal(json_integer_value(json_object_get(u, "total_tokens")), s.in + s.out);
            snprintf(s.finish, sizeof s.finish, "%s", sv_json_cstr(j, "finish_reason"));
        }
        json_decref(j);
    }
    return s;
}

static void stream_done(stream *s) { sv_buf_done(&s->text); }

/* "response" of a whole REST answer; the caller frees. */
static char *rest_text(const node *n, const char *model, const char *body)
{
    char path[256];
    snprintf(path, sizeof path, ACCOUNT "/ai/run/%s", model);
    answer a = post(n, path, body);
    if (a.status != 200)
        fail_msg("%d: %s", a.status, sv_buf_cstr(&a.body));
    json_t *j = json_of(&a);
    char *text = sv_xstrdup(json_string_value(json_object_get(json_object_get(j, "result"), "response")));
    json_decref(j);
    answer_done(&a);
    return text;
}

/* ---- the real engine ---- */

static node *real; /* one for the group */
static int start_real(void **state) { (void)state; real = node_start(true); return 0; }
static int stop_real(void **state) { (void)state; node_stop(real); return 0; }

#define GREEDY "\"raw\":true,\"temperature\":0,\"max_tokens\":40"

static void a_whole_answer_wears_the_envelope(void **state)
{
    (void)state;
    answer a = post(real, ACCOUNT "/ai/run/" TINY, "{\"prompt\":\"a b c\"," GREEDY "}");
    assert_int_equal(a.status, 200);
    assert_non_null(strcasestr(a.head, "content-type: application/json\r\n"));
    const char *id = strcasestr(a.head, "cf-ai-req-id: ");
    assert_non_null(id);
    assert_true(id[14 + 8] == '-' && id[14 + 13] == '-' && id[14 + 23] == '-');
    json_t *j = json_of(&a), *r = json_object_get(j, "result"), *u = json_object_get(r, "usage");
    assert_true(json_is_true(json_object_get(j, "success")));
    assert_true(json_string_length(json_object_get(r, "response")) > 0);
    assert_int_equal(json_integer_value(json_object_get(u, "completion_tokens")), 40);
    assert_int_equal(json_integer_value(json_object_get(u, "total_tokens")), 40 + json_integer_value(json_object_get(u, "prompt_tokens")));
    assert_string_equal(sv_json_cstr(r, "finish_reason"), "length");
    json_decref(j);
    answer_done(&a);
}

static void all_surfaces_say_the_same(void **state)
{
    (void)state;
    SV_AUTO(sv_freep) char *want = rest_text(real, "@cf%2Fselvedge%2Ftiny", "{\"prompt\":\"a b c\"," GREEDY "}");

    answer a = post(real, ACCOUNT "/ai/run/" TINY, "{\"prompt\":\"a b c\",\"stream\":true," GREEDY "}");
    stream s = classic_stream(&a);
    assert_string_equal(sv_buf_cstr(&s.text), want);
    assert_true(s.done && s.out == 40 && s.in > 0 && s.n_pieces > 2 && s.n_paddings > 1);
    assert_string_equal(s.finish, "length");
    stream_done(&s);
    answer_done(&a);

    a = bind_run(real, TINY, "{\"inputs\":{\"prompt\":\"a b c\",\"stream\":true," GREEDY "},\"options\":{}}");
    s = classic_stream(&a);
    assert_true(s.done && strcmp(sv_buf_cstr(&s.text), want) == 0);
    stream_done(&s);
    answer_done(&a);

    a = bind_run(real, "prefix:" TINY, "{\"inputs\":{\"prompt\":\"a b c\"," GREEDY "},\"options\":{\"returnRawResponse\":false}}");
    assert_int_equal(a.status, 200);
    json_t *j = json_of(&a); /* bare */
    assert_string_equal(sv_json_cstr(j, "response"), want);
    json_decref(j);
    answer_done(&a);

    a = post(real, ACCOUNT "/ai/v1/completions", "{\"model\":\"" TINY "\",\"prompt\":\"a b c\",\"temperature\":0,\"max_tokens\":40}");
    j = json_of(&a);
    assert_string_equal(sv_json_cstr(json_array_get(json_object_get(j, "choices"), 0), "text"), want);
    assert_string_equal(sv_json_cstr(j, "object"), "text_completion");
    json_decref(j);
    answer_done(&a);
}

static void chat_streams_as_openai_does(void **state)
{
    (void)state;
#define CHAT "{\"model\":\"" TINY "\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"temperature\":0,\"max_tokens\":20"
    answer whole = post(real, ACCOUNT "/ai/v1/chat/completions", CHAT "}");
    assert_int_equal(whole.status, 200);
    json_t *w = json_of(&whole), *choice = json_array_get(json_object_get(w, "choices"), 0);
    assert_string_equal(sv_json_cstr(w, "object"), "chat.completion");
    assert_string_equal(sv_json_cstr(w, "model"), TINY);
    const char *want = sv_json_cstr(json_object_get(choice, "message"), "content");
    assert_non_null(want);

    answer a = post(real, ACCOUNT "/ai/v1/chat/completions", CHAT ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    sv_buf text;
    sv_buf_init(&text, 0);
    char *at = a.body.p, *e;
    int n = 0, finishes = 0, usages = 0;
    bool done = false;
    while ((e = next_event(&at))) {
        if (strcmp(e, "[DONE]") == 0) {
            done = true;
            continue;
        }
        json_error_t je;
        json_t *j = json_loads(e, 0, &je), *c = json_array_get(json_object_get(j, "choices"), 0), *d = json_object_get(c, "delta");
        assert_string_equal(sv_json_cstr(j, "object"), "chat.completion.chunk");
        if (n++ == 0)
            assert_string_equal(sv_json_cstr(d, "role"), "assistant");
        if (sv_json_cstr(d, "content"))
            sv_buf_adds(&text, sv_json_cstr(d, "content"));
        finishes += sv_json_cstr(c, "finish_reason") != NULL;
        usages += json_is_object(json_object_get(j, "usage"));
        if (json_is_object(json_object_get(j, "usage")))
            assert_int_equal(json_array_size(json_object_get(j, "choices")), 0);
        json_decref(j);
    }
    assert_true(done && finishes == 1 && usages == 1);
    assert_string_equal(sv_buf_cstr(&text), want);
    sv_buf_done(&text);
    json_decref(w);
    answer_done(&a);
    answer_done(&whole);
}

static void stop_strings_end_the_answer(void **state)
{
    (void)state;
    SV_AUTO(sv_freep) char *all = rest_text(real, TINY, "{\"prompt\":\"a b c\"," GREEDY "}");
    assert_true(strlen(all) > 12);
    SV_AUTO(sv_buf_donep) sv_buf body;
    sv_buf_init(&body, 0);
    sv_buf_adds(&body, "{\"model\":\"" TINY "\",\"prompt\":\"a b c\",\"temperature\":0,\"max_tokens\":40,\"stop\":");
    size_t from = sv_utf8_whole((sv_str){all, strlen(all) / 2}), n = sv_utf8_whole((sv_str){all + from, 4});
    sv_json_add_str(&body, (sv_str){all + from, n});
    sv_buf_addc(&body, '}');
    answer a = post(real, ACCOUNT "/ai/v1/completions", sv_buf_cstr(&body));
    json_t *j = json_of(&a), *c = json_array_get(json_object_get(j, "choices"), 0);
    const char *text = sv_json_cstr(c, "text");
    assert_non_null(text);
    assert_string_equal(sv_json_cstr(c, "finish_reason"), "stop");
    char *first = memmem(all, strlen(all), all + from, n);
    assert_int_equal(strlen(text), first - all);
    assert_memory_equal(text, all, strlen(text));
    json_decref(j);
    answer_done(&a);
}

static void stories_continue_as_their_maker_wrote(void **state)
{
    (void)state;
    if (!has_stories()) {
        print_message("skipped: no shared data\n");
        skip();
    }
    char path[600];
    sv_buf want;
    sv_err err = {0};
    sv_buf_init(&want, 0);
    snprintf(path, sizeof path, "%s/models/stories260K/expected-greedy-200.txt", shared());
    assert_int_equal(sv_file_read(&want, path, &err), SV_OK);
    SV_AUTO(sv_freep) char *got = rest_text(real, STORIES, "{\"prompt\":\"Once upon a time\",\"raw\":true,\"temperature\":0,\"max_tokens\":190}");
    const char *rest = strstr(sv_buf_cstr(&want), "Once upon a time");
    assert_non_null(rest);
    rest += strlen("Once upon a time");
    assert_true(strlen(got) > 300);
    assert_memory_equal(got, rest, strlen(got) < strlen(rest) ? strlen(got) : strlen(rest));
    sv_buf_done(&want);
}

/* In all dialects: status, code in its place, words. */
static void refused(answer a, int status, int code, const char *says)
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
    if (!strstr(words, says))
        fail_msg("'%s' does not say '%s'", words, says);
    json_decref(j);
    answer_done(&a);
}

static void refusals_have_code_status_and_words(void **state)
{
    (void)state;
    const char *run = ACCOUNT "/ai/run/" TINY, *chat = ACCOUNT "/ai/v1/chat/completions";
    refused(post(real, ACCOUNT "/ai/run/@cf/no/such", "{\"prompt\":\"a\"}"), 400, 5007, "No such model @cf/no/such or task");
    refused(bind_run(real, "@cf/no/such", "{\"inputs\":{\"prompt\":\"a\"},\"options\":{}}"), 400, 5007, "No such model @cf/no/such or task");
    refused(post(real, chat, "{\"model\":\"@cf/no/such\",\"messages\":[]}"), 400, 5007, "No such model");
    refused(post(real, ACCOUNT "/ai/run/@cf/meta/llama-3.1-8b-instruct-fp8", "{\"prompt\":\"a\"}"), 400, 5007, "selvedge models import PATH --as");
    refused(post(real, run, "{\"prompt\":\"a\",\"max_tokens\":\"x\"}"), 400, 5006, "Type mismatch of '/max_tokens'");
    refused(post(real, run, "{\"prompt\":\"a\",\"lora\":\"x\"}"), 405, 5005, "LoRA");
    refused(post(real, run, "{\"prompt\":"), 400, 5006, "no JSON");
    refused(post(real, run, "\x89PNG"), 400, 5006, "no binary input");
    refused(post(real, run, ""), 400, 3003, "no body");
    refused(post(real, ACCOUNT "/ai/run/" TINY "?queueRequest=true", "{\"requests\":[]}"), 400, 5006, "batches");
    refused(bind_run(real, TINY, "{\"options\":{}}"), 400, 3003, "inputs");
    refused(bind_run(real, TINY, "{\"inputs\":{\"prompt\":\"a\",\"tools\":[{}]},\"options\":{}}"), 400, 5006, "does not call tools");
    refused(bind_run(real, TINY, "{\"inputs\":{\"prompt\":\"a\"},\"options\":{\"queueRequest\":true}}"), 400, 5006, "batches");
    refused(bind_run(real, "", "{\"inputs\":{}}"), 400, 3003, "cf-consn-model-id");
    refused(post(real, chat, "{\"messages\":[]}"), 400, 5006, "'model'");
    /* Both counts and the window, streamed or not: the head waits until the prompt is in. */
    refused(post(real, run, "{\"prompt\":\"a b c\",\"raw\":true,\"max_tokens\":5000}"), 400, 5021, "5000");
    refused(post(real, run, "{\"prompt\":\"a b c\",\"raw\":true,\"max_tokens\":5000,\"stream\":true}"), 400, 5021, "128");
    refused(bind_run(real, TINY, "{\"inputs\":{\"prompt\":\"a b c\",\"max_tokens\":5000},\"options\":{}}"), 400, 5021, "tokens");

    answer a = post(real, chat, "{\"model\":\"" TINY "\",\"messages\":[{\"role\":\"robot\",\"content\":\"\"}]}");
    json_t *j = json_of(&a), *e = json_object_get(j, "error");
    assert_string_equal(sv_json_cstr(e, "param"), "messages[0].role");
    assert_string_equal(sv_json_cstr(e, "type"), "invalid_request_error");
    assert_string_equal(sv_json_cstr(e, "code"), "5006");
    json_decref(j);
    answer_done(&a);
}

static void a_body_over_the_limit_is_refused_in_each_dialect(void **state)
{
    (void)state;
    size_t n = (size_t)sv_limit_value(SV_LIMIT_AI_BODY_BYTES) + 100000;
    SV_AUTO(sv_freep) char *big = sv_xcalloc(n + 1, 1);
    memset(big, ' ', n);
    big[0] = '{';
    refused(bind_run(real, TINY, big), 413, 3006, "at most 10"); /* read to its end first */
    for (int openai = 0; openai < 2; openai++) { /* refused by its Content-Length alone */
        char headers[64];
        snprintf(headers, sizeof headers, "Content-Length: %zu\r\n", n);
        refused(read_answer(send_request(real->api_sock, "POST", openai ? ACCOUNT "/ai/v1/completions" : ACCOUNT "/ai/run/" TINY, headers, NULL)), 413, 3006,
                "too large");
    }
}

static void a_default_of_tokens_fits_a_small_window(void **state)
{
    (void)state;
    SV_AUTO(sv_freep) char *text = rest_text(real, TINY, "{\"prompt\":\"a b c\",\"raw\":true,\"temperature\":0}");
    assert_true(strlen(text) > 0);
}

static int n_listed(const char *path)
{
    answer a = get(real, path);
    assert_int_equal(a.status, 200);
    json_t *j = json_of(&a);
    int n = (int)json_array_size(json_object_get(j, "result"));
    json_decref(j);
    answer_done(&a);
    return n;
}

static void search_filters_pages_and_ends(void **state)
{
    (void)state;
    const char *s = ACCOUNT "/ai/models/search";
    char path[256];
    answer a = get(real, s);
    json_t *j = json_of(&a), *first = json_array_get(json_object_get(j, "result"), 0);
    const char *name = sv_json_cstr(first, "name");
    assert_true(strcmp(name, TINY) == 0 || strcmp(name, STORIES) == 0); /* what runs comes first */
    assert_int_equal(strlen(sv_json_cstr(first, "id")), 36);
    assert_string_equal(sv_json_cstr(json_object_get(first, "task"), "name"), "Text Generation");
    assert_true(json_is_array(json_object_get(first, "tags")) && json_is_array(json_object_get(first, "properties")));
    json_decref(j);
    answer_done(&a);
    snprintf(path, sizeof path, "%s?per_page=50&page=100", s);
    assert_int_equal(n_listed(path), 0); /* or clients ask for ever */
    snprintf(path, sizeof path, "%s?per_page=100&task=Text+Embeddings", s);
    assert_int_equal(n_listed(path), 7);
    snprintf(path, sizeof path, "%s?search=selvedge%%2Ftiny&author=&hide_experimental=true&source=&task=", s);
    assert_int_equal(n_listed(path), 1);
    snprintf(path, sizeof path, "%s?per_page=200&search=bart-large-cnn", s);
    assert_int_equal(n_listed(path), 0); /* deprecated, its day is over */
    a = read_answer(send_request(real->bind_sock, "GET", "/ai-api/models/search?task=Translation", "x-sv-binding: ai\r\n", NULL));
    j = json_of(&a);
    assert_int_equal(json_array_size(json_object_get(j, "result")), 2);
    json_decref(j);
    answer_done(&a);
    a = get(real, ACCOUNT "/ai/v1/models");
    j = json_of(&a);
    assert_int_equal(json_array_size(json_object_get(j, "data")), has_stories() ? 2 : 1);
    json_decref(j);
    answer_done(&a);
    a = get(real, ACCOUNT "/ai/models/schema?model=" "%40cf%2Fselvedge%2Ftiny");
    j = json_of(&a);
    assert_non_null(json_object_get(json_object_get(j, "result"), "input"));
    json_decref(j);
    answer_done(&a);
}

static double metric(const node *n, const char *line)
{
    answer a = get(n, "/metrics");
    const char *at = strstr(sv_buf_cstr(&a.body), line);
    double v = at ? strtod(at + strlen(line), NULL) : -1;
    answer_done(&a);
    return v;
}

static void every_token_is_metered(void **state)
{
    (void)state;
    double before_out = metric(real, "selvedge_ai_completion_tokens_total{model=\"" TINY "\"} ");
    double neurons = metric(real, "selvedge_ai_neurons_total{model=\"" TINY "\"} ");
    free(rest_text(real, TINY, "{\"prompt\":\"a b c\"," GREEDY "}"));
    assert_true(metric(real, "selvedge_ai_completion_tokens_total{model=\"" TINY "\"} ") == before_out + 40);
    assert_true(metric(real, "selvedge_ai_neurons_total{model=\"" TINY "\"} ") > neurons);
    assert_true(metric(real, "selvedge_ai_in_flight{model=\"" TINY "\"} ") == 0);
    assert_true(metric(real, "selvedge_ai_refusals_total{code=\"5007\"} ") > 0);
}

static void a_chat_model_takes_a_prompt_too(void **state)
{
    (void)state;
    sv_err err = {0};
    SV_AUTO(sv_freep) char *file = sv_xasprintf("%s/tiny.gguf", real->models);
    assert_int_equal(sv_catalogue_import(real->catalogue, &(sv_import_opts){.path = file, .id = "@cf/zai-org/glm-4.7-flash"}, &err), SV_OK);
    static const char *const bodies[] = {"{\"prompt\":\"a b c\"," GREEDY "}", "{\"prompt\":\"a b c\",\"messages\":null," GREEDY "}"}; /* null is absent */
    for (size_t i = 0; i < SV_LEN(bodies); i++) {
        answer a = post(real, ACCOUNT "/ai/run/@cf/zai-org/glm-4.7-flash", bodies[i]);
        assert_int_equal(a.status, 200);
        json_t *j = json_of(&a);
        assert_non_null(sv_json_cstr(json_object_get(j, "result"), "response"));
        json_decref(j);
        answer_done(&a);
    }
}

/* ---- the scripted engine ---- */

typedef struct script {
    node *n;
    int listen_fd, fd;
    sv_buf in, out;
} script;

static void script_start(script *s)
{
    sv_err err = {0};
    *s = (script){.fd = -1};
    s->n = node_start(false);
    sv_buf_init(&s->in, 0);
    sv_buf_init(&s->out, 0);
    assert_int_equal(sv_unix_listen(&s->listen_fd, s->n->engine_sock, 8, &err), SV_OK);
    fcntl(s->listen_fd, F_SETFL, fcntl(s->listen_fd, F_GETFL) & ~O_NONBLOCK);
}

static void script_stop(script *s)
{
    close(s->fd);
    close(s->listen_fd);
    node_stop(s->n);
    sv_buf_done(&s->in);
    sv_buf_done(&s->out);
}

static void script_send(script *s)
{
    sv_err err = {0};
    if (sv_write_all(s->fd, s->out.p, s->out.n, &err) != SV_OK)
        fail_msg("%s", err.msg);
    sv_buf_reset(&s->out);
}

/* The next frame from the daemon of that type; others are skipped. Its id. */
static uint32_t script_await(script *s, sv_wire_type type)
{
    if (s->fd < 0) {
        s->fd = accept(s->listen_fd, NULL, NULL);
        struct timeval ten = {10, 0};
        setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &ten, sizeof ten);
        sv_wire_add_hello(&s->out, 1);
        script_send(s);
    }
    for (;;) {
        sv_frame f;
        size_t used = 0;
        sv_err err = {0};
        assert_int_equal(sv_wire_parse(&f, &used, sv_buf_str(&s->in), &err), SV_OK);
        if (used) {
            uint32_t id = f.id;
            bool hit = f.type == type;
            memmove(s->in.p, s->in.p + used, s->in.n - used);
            s->in.n -= used;
            if (hit)
                return id;
            continue;
        }
        ssize_t n = read(s->fd, sv_buf_room(&s->in, 65536), 65536);
        if (n <= 0)
            fail_msg("the daemon sent no frame of type %d", type);
        s->in.n += (size_t)n;
    }
}

static const sv_usage seven = {.prompt_tokens = 7};

static void an_engine_that_dies_in_the_middle_is_an_event(void **state)
{
    (void)state;
    script s;
    script_start(&s);
    int fd = send_request(s.n->api_sock, "POST", ACCOUNT "/ai/run/" TINY, "", "{\"prompt\":\"a\",\"stream\":true}");
    uint32_t id = script_await(&s, SV_WIRE_GENERATE);
    sv_wire_add_started(&s.out, id, &seven);
    sv_wire_add_text(&s.out, id, SV_STR("half a "), 2);
    script_send(&s);
    usleep(100000);
    close(s.fd);
    s.fd = -1;
    answer a = read_answer(fd);
    assert_int_equal(a.status, 200);
    stream st = classic_stream(&a);
    assert_string_equal(sv_buf_cstr(&st.text), "half a ");
    assert_true(st.error && !st.done); /* [DONE] would say that it is complete */
    stream_done(&st);
    answer_done(&a);
    script_stop(&s);
}

static void a_failure_before_the_head_has_a_status(void **state)
{
    static const struct { sv_err err; int status, code; } cases[] = {
        {{SV_ELIMIT, 3040, "out of capacity"}, 429, 3040}, {{SV_EFORMAT, 0, "'/secret/path.gguf': tensor"}, 500, 3043},
        {{SV_ENOMEM, 0, "no memory"}, 503, 3040}, {{SV_EIO, 0, "disk"}, 503, 3043}};
    (void)state;
    script s;
    script_start(&s);
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        int fd = send_request(s.n->api_sock, "POST", ACCOUNT "/ai/run/" TINY, "", "{\"prompt\":\"a\",\"stream\":true}");
        sv_wire_add_fail(&s.out, script_await(&s, SV_WIRE_GENERATE), &cases[i].err);
        script_send(&s);
        answer a = read_answer(fd);
        assert_null(strstr(sv_buf_cstr(&a.body), "/secret/"));
        refused(a, cases[i].status, cases[i].code, "");
    }
    script_stop(&s);
}

static void a_client_that_leaves_stops_the_engine(void **state)
{
    (void)state;
    script s;
    script_start(&s);
    for (int streamed = 0; streamed < 2; streamed++) {
        int fd = send_request(s.n->api_sock, "POST", ACCOUNT "/ai/run/" TINY, "", streamed ? "{\"prompt\":\"a\",\"stream\":true}" : "{\"prompt\":\"a\"}");
        uint32_t id = script_await(&s, SV_WIRE_GENERATE);
        sv_wire_add_started(&s.out, id, &seven);
        sv_wire_add_text(&s.out, id, SV_STR("x"), 1);
        script_send(&s);
        usleep(50000);
        close(fd);
        assert_int_equal(script_await(&s, SV_WIRE_CANCEL), id);
    }
    assert_true(metric(s.n, "selvedge_ai_in_flight{model=\"" TINY "\"} ") == 0);
    assert_true(metric(s.n, "selvedge_ai_prompt_tokens_total{model=\"" TINY "\"} ") == 14); /* computed, so accounted */
    assert_true(metric(s.n, "selvedge_ai_completion_tokens_total{model=\"" TINY "\"} ") == 2);
    script_stop(&s);
}

static void a_slow_reader_gets_fewer_larger_events_and_loses_nothing(void **state)
{
    enum { PIECES = 60000 };
    (void)state;
    script s;
    script_start(&s);
    int fd = send_request(s.n->api_sock, "POST", ACCOUNT "/ai/run/" TINY, "", "{\"prompt\":\"a\",\"stream\":true}");
    uint32_t id = script_await(&s, SV_WIRE_GENERATE);
    sv_wire_add_started(&s.out, id, &seven);
    SV_AUTO(sv_buf_donep) sv_buf all;
    sv_buf_init(&all, 0);
    for (int i = 0; i < PIECES; i++) { /* some 700 KB of text, 3 MB as single events */
        char word[32];
        int n = snprintf(word, sizeof word, "word \"%d\" ", i);
        sv_buf_add(&all, word, (size_t)n);
        sv_wire_add_text(&s.out, id, (sv_str){word, (size_t)n}, 1);
    }
    sv_wire_add_done(&s.out, id, SV_FINISH_STOP, &(sv_usage){7, PIECES, 0});
    script_send(&s);
    usleep(300000); /* the client does not read meanwhile */
    answer a = read_answer(fd);
    stream st = classic_stream(&a);
    assert_int_equal(st.text.n, all.n);
    assert_memory_equal(st.text.p, all.p, all.n);
    assert_true(st.done && st.out == PIECES);
    assert_true(st.n_pieces < PIECES / 2);
    assert_string_equal(st.finish, "stop");
    stream_done(&st);
    answer_done(&a);
    script_stop(&s);
}

static void an_event_that_is_too_large_is_an_error_and_not_left_out(void **state)
{
    (void)state;
    script s;
    script_start(&s);
    int fd = send_request(s.n->api_sock, "POST", ACCOUNT "/ai/v1/chat/completions", "",
                          "{\"model\":\"" TINY "\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"stream\":true,\"logprobs\":true,\"top_logprobs\":20}");
    uint32_t id = script_await(&s, SV_WIRE_GENERATE);
    sv_wire_add_started(&s.out, id, &seven);
    SV_AUTO(sv_buf_donep) sv_buf packed;
    sv_buf_init(&packed, 0);
    sv_token_probs p = {.chosen = {1, -1.2345678f, SV_STR("\xff\xff\xff\xff")}, .n_top = 20};
    for (int i = 0; i < p.n_top; i++)
        p.top[i] = p.chosen;
    while (packed.n < 512 << 10)
        sv_wire_pack_probs(&packed, &p);
    for (int i = 0; i < 14; i++) /* 7 MB here, over 30 MB in words */
        sv_wire_add(&s.out, SV_WIRE_PROBS, id, sv_buf_str(&packed));
    sv_wire_add_text(&s.out, id, SV_STR("x"), 1);
    sv_wire_add_done(&s.out, id, SV_FINISH_STOP, &(sv_usage){7, 1, 0});
    script_send(&s);
    answer a = read_answer(fd);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(sv_buf_cstr(&a.body), "as one event"));
    assert_null(strstr(sv_buf_cstr(&a.body), "[DONE]"));
    answer_done(&a);
    script_stop(&s);
}

static void nothing_is_left_when_the_node_stops_in_the_middle(void **state)
{
    (void)state;
    script s;
    script_start(&s);
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = send_request(s.n->api_sock, "POST", ACCOUNT "/ai/run/" TINY, "", i ? "{\"prompt\":\"a\",\"stream\":true}" : "{\"prompt\":\"a\"}");
        sv_wire_add_started(&s.out, script_await(&s, SV_WIRE_GENERATE), &seven);
        script_send(&s);
    }
    usleep(50000);
    script_stop(&s); /* the sanitizer counts */
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    sv_log_init("ai_test", SV_ERROR);
    const struct CMUnitTest with_engine[] = {
        cmocka_unit_test(a_whole_answer_wears_the_envelope),
        cmocka_unit_test(all_surfaces_say_the_same),
        cmocka_unit_test(chat_streams_as_openai_does),
        cmocka_unit_test(stop_strings_end_the_answer),
        cmocka_unit_test(stories_continue_as_their_maker_wrote),
        cmocka_unit_test(refusals_have_code_status_and_words),
        cmocka_unit_test(a_body_over_the_limit_is_refused_in_each_dialect),
        cmocka_unit_test(a_default_of_tokens_fits_a_small_window),
        cmocka_unit_test(search_filters_pages_and_ends),
        cmocka_unit_test(every_token_is_metered),
        cmocka_unit_test(a_chat_model_takes_a_prompt_too),
    };
    const struct CMUnitTest scripted[] = {
        cmocka_unit_test(an_engine_that_dies_in_the_middle_is_an_event),
        cmocka_unit_test(a_failure_before_the_head_has_a_status),
        cmocka_unit_test(a_client_that_leaves_stops_the_engine),
        cmocka_unit_test(a_slow_reader_gets_fewer_larger_events_and_loses_nothing),
        cmocka_unit_test(an_event_that_is_too_large_is_an_error_and_not_left_out),
        cmocka_unit_test(nothing_is_left_when_the_node_stops_in_the_middle),
    };
    int rc = cmocka_run_group_tests_name("engine", with_engine, start_real, stop_real);
    return cmocka_run_group_tests_name("scripted", scripted, NULL, NULL) || rc;
}
