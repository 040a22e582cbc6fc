/* ai_test.c - the three dialects over HTTP, with a real engine process and with one that misbehaves on purpose
 *
 * Real: tests/reference/llama-q8_0.gguf in an engine of its own, and stories260K where the shared data is, whose greedy continuation was written by
 * the program it was trained with. Scripted: a thread that speaks the engine's frames and does what no healthy engine does at a known moment: die in the
 * middle, write megabytes, wait for ever. */
#include "ai/node_testing.h"

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
    refused(post(real, ACCOUNT "/ai/run/" TINY "?queueRequest=true", "{\"requests\":[]}"), 400, 5006, "'/requests' must have 1 to");
    refused(bind_run(real, TINY, "{\"options\":{}}"), 400, 3003, "inputs");
    refused(bind_run(real, TINY, "{\"inputs\":{\"prompt\":\"a\",\"tools\":[{}]},\"options\":{}}"), 400, 5006, "does not call tools");
    refused(bind_run(real, TINY, "{\"inputs\":{\"prompt\":\"a\"},\"options\":{\"queueRequest\":true}}"), 400, 5006, "required properties at '/' are 'requests'");
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
