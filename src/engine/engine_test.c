/* engine_test.c - the engine process with real models, through its socket
 *
 * Each test has an engine of its own in a child process. What it says is compared with one sequence computed token by token here, without
 * scheduler, pages of others or sampler, and with the text that the story model's author published. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/client.h"
#include "engine/engine.h"
#include "engine/inspect.h"
#include "engine/wire.h"
#include "models/encoder.h"
#include "models/llm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define TINY(name) SV_SOURCE_ROOT "/tests/reference/llama-" name ".gguf"

/* --- an engine, and a client that waits ------------------------------------------------------------------------------ */

typedef struct bench {
    char dir[64], socket[96];
    int listen_fd;
    pid_t pid;
    sv_engine_opts opts;
    sv_loop *loop;
    sv_engine_client *client;
    sv_timer *guard;
    int n_open;
} bench;

typedef struct answer {
    bench *b;
    sv_gen *gen;
    sv_buf text;
    int n_started, n_texts, n_done;
    int32_t n_tokens;    /* as on_text told */
    int32_t n_probs;
    sv_rc rc;
    sv_finish finish;
    sv_usage started, usage;
    sv_err err;
    struct answer *victim; /* canceled by on_done, and another one started */
    int cancel_at;       /* after so many texts; 0: never */
} answer;

static void timed_out(void *arg)
{
    (void)arg;
    fail_msg("nothing came for a minute");
}

static void start_engine(bench *b)
{
    fflush(NULL);
    b->pid = fork();
    assert_true(b->pid >= 0);
    if (b->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves no engine behind */
        sv_log_init("engine", SV_ERROR);
        b->opts.listen_fd = b->listen_fd;
        int rc = sv_engine_main(&b->opts);
        close(b->listen_fd);
        exit(rc); /* not _exit: a leak check sees the engine too */
    }
}

static bench *bench_open(const sv_engine_opts *opts)
{
    bench *b = sv_xnew0(bench);
    sv_err err = {0};
    strcpy(b->dir, "/tmp/sv-engine-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->socket, sizeof b->socket, "%s/engine.sock", b->dir);
    assert_int_equal(sv_unix_listen(&b->listen_fd, b->socket, 64, &err), SV_OK);
    b->opts = *opts;
    start_engine(b);
    b->loop = sv_loop_new();
    b->client = sv_engine_client_new(b->loop, b->socket);
    b->guard = sv_timer_new(b->loop, timed_out, b);
    return b;
}

static int stop_engine(bench *b, int sig)
{
    int status = 0;
    kill(b->pid, sig);
    assert_int_equal(waitpid(b->pid, &status, 0), b->pid);
    return status;
}

static void bench_close(bench *b)
{
    sv_err err = {0};
    if (b->client) { /* else the test has stopped the engine */
        b->client = sv_engine_client_free(b->client);
        int status = stop_engine(b, SIGTERM);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    sv_timer_free(b->guard);
    sv_loop_free(b->loop);
    close(b->listen_fd);
    assert_int_equal(sv_remove_tree(b->dir, &err), SV_OK);
    free(b);
}

static void run(bench *b)
{
    if (b->n_open == 0)
        return;
    sv_timer_set(b->guard, 60000);
    sv_loop_run(b->loop);
    sv_timer_set(b->guard, -1);
    assert_int_equal(b->n_open, 0);
}

static void one_less(bench *b)
{
    if (--b->n_open == 0)
        sv_loop_stop(b->loop);
}

static void stop_loop(void *loop) { sv_loop_stop(loop); }

static void turn(bench *b)
{
    sv_loop_post(b->loop, stop_loop, b->loop);
    sv_loop_run(b->loop);
}

static void wait_for(bench *b, const int *count)
{
    for (int64_t end = sv_mono_ms() + 60000; *count == 0;) {
        assert_true(sv_mono_ms() < end);
        turn(b);
    }
}

static void on_start(sv_gen *g, const sv_usage *usage, void *arg)
{
    answer *a = arg;
    (void)g;
    assert_int_equal(a->n_texts, 0);
    a->n_started++;
    a->started = *usage;
}

static void on_text(sv_gen *g, sv_str text, int32_t n_tokens, void *arg)
{
    answer *a = arg;
    assert_int_equal(a->n_started, 1);
    assert_true(text.n > 0 && sv_utf8_valid(text));
    assert_true(n_tokens > 0);
    sv_buf_add(&a->text, text.p, text.n);
    a->n_texts++;
    a->n_tokens += n_tokens;
    if (a->cancel_at == a->n_texts) {
        sv_gen_cancel(g);
        one_less(a->b);
    }
}

static void on_probs(sv_gen *g, sv_str packed, void *arg)
{
    answer *a = arg;
    sv_token_probs p;
    (void)g;
    assert_true(packed.n > 0);
    for (; sv_token_probs_next(&p, &packed); a->n_probs++)
        assert_true(p.n_top == 2 && p.top[0].token == p.chosen.token && p.top[0].logprob >= p.top[1].logprob); /* greedy */
    assert_int_equal(packed.n, 0);
}

static void ask(bench *b, answer *a, const sv_gen_opts *opts);

static void on_done(sv_gen *g, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err, void *arg)
{
    answer *a = arg;
    assert_ptr_equal(g, a->gen);
    a->n_done++;
    a->rc = rc;
    a->finish = finish;
    a->usage = *usage;
    if (err)
        a->err = *err;
    if (a->victim) {
        sv_gen_cancel(a->victim->gen);
        ask(a->b, a->victim, &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("new"), .max_tokens = 2});
        one_less(a->b);
    }
    one_less(a->b);
}

static void ask(bench *b, answer *a, const sv_gen_opts *opts)
{
    sv_gen_opts o = *opts;
    sv_err err = {0};
    int cancel_at = a->cancel_at;
    sv_buf_done(&a->text);
    *a = (answer){.b = b, .cancel_at = cancel_at};
    o.on_start = on_start;
    o.on_text = on_text;
    o.on_probs = on_probs;
    o.on_done = on_done;
    o.arg = a;
    o.tenant = o.tenant ? o.tenant : "tenant";
    assert_int_equal(sv_engine_generate(&a->gen, b->client, &o, &err), SV_OK);
    b->n_open++;
}

static void done(answer *a) { sv_buf_done(&a->text); }

static void take_stats(const json_t *stats, void *arg)
{
    json_t **out = ((void **)arg)[0];
    *out = json_deep_copy(stats);
    one_less(((void **)arg)[1]);
}

static json_t *stats_of(bench *b)
{
    json_t *stats = NULL;
    void *arg[2] = {&stats, b};
    b->n_open++;
    sv_engine_stats(b->client, take_stats, arg);
    run(b);
    assert_non_null(stats);
    return stats;
}

static int64_t stat_of(bench *b, const char *key)
{
    json_t *stats = stats_of(b);
    int64_t v = json_integer_value(json_object_get(stats, key));
    assert_true(json_is_integer(json_object_get(stats, key)));
    json_decref(stats);
    return v;
}

static void sleep_ms(int ms) { usleep((useconds_t)ms * 1000); }

/* --- what one sequence alone gives ----------------------------------------------------------------------------------- */

/* Greedy text after prompt, token by token. */
static void alone(sv_buf *out, const char *path, const char *prompt, int n)
{
    SV_AUTO(sv_llm_unrefp) sv_llm *m = NULL;
    SV_AUTO(sv_llm_ws_freep) sv_llm_ws *ws = NULL;
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(1);
    sv_tokens t = {0};
    sv_err err = {0};
    void *pages[64] = {0};
    sv_detok detok = {.started = prompt[0] != '\0'};
    assert_int_equal(sv_llm_open(&m, path, &err), SV_OK);
    assert_int_equal(sv_llm_pack(m, NULL, &err), SV_OK); /* as the engine does */
    assert_int_equal(sv_llm_ws_new(&ws, m, 1, &err), SV_OK);
    const sv_tokenizer *tok = sv_llm_tokenizer(m);
    assert_int_equal(sv_tokenizer_encode(tok, sv_str_of(prompt), SV_TOK_BOS, 1000, &t, &err), SV_OK);
    float *logits = sv_xcalloc((size_t)sv_tokenizer_n_vocab(tok), sizeof *logits);
    int32_t next = -1;
    for (int32_t pos = 0; pos < (int32_t)t.n + n; pos++) {
        int32_t id = pos < (int32_t)t.n ? t.v[pos] : next;
        if (pos >= (int32_t)t.n) {
            if (sv_tokenizer_is_eog(tok, id))
                break;
            sv_detok_feed(&detok, tok, id, out);
        }
        if (!pages[pos / SV_KV_PAGE])
            pages[pos / SV_KV_PAGE] = sv_try_aligned(sv_llm_kv_page_bytes(m), 64);
        sv_llm_chunk chunk = {&id, 1, pos, pages, logits};
        if (pos < (int32_t)t.n + n - 1) /* the last is not computed any more */
            sv_llm_step(m, ws, pool, &chunk, 1);
        next = 0;
        for (int32_t i = 1; i < sv_tokenizer_n_vocab(tok); i++)
            if (logits[i] > logits[next])
                next = i;
    }
    sv_detok_finish(&detok, out);
    for (size_t i = 0; i < SV_LEN(pages); i++)
        free(pages[i]);
    free(logits);
    free(t.v);
}

static bool story_path(char out[512])
{
    const char *data = getenv("SV_SHARED_DATA");
    snprintf(out, 512, "%.400s/models/stories260K/stories260K.gguf", data ? data : SV_SOURCE_ROOT "/../shared/data");
    return access(out, R_OK) == 0;
}

/* --- tests ----------------------------------------------------------------------------------------------------------- */

static void greedy_text_is_that_of_one_sequence_computed_alone(void **state)
{
    (void)state;
    static const char *const paths[] = {TINY("f32"), TINY("f16"), TINY("bf16"), TINY("q8_0"), TINY("q4_0")};
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 2});
    for (size_t i = 0; i < SV_LEN(paths); i++) {
        answer a = {0};
        SV_AUTO(sv_buf_donep) sv_buf want;
        sv_buf_init(&want, 0);
        alone(&want, paths[i], "AbcDEf", 40);
        assert_true(want.n > 0);
        ask(b, &a, &(sv_gen_opts){.model_path = paths[i], .prompt = SV_STR("AbcDEf"), .max_tokens = 40});
        run(b);
        assert_int_equal(a.rc, SV_OK);
        assert_string_equal(sv_buf_cstr(&a.text), sv_buf_cstr(&want));
        assert_int_equal(a.started.prompt_tokens, a.usage.prompt_tokens);
        assert_int_equal(a.n_tokens, a.usage.completion_tokens);
        assert_int_equal(a.finish, a.usage.completion_tokens == 40 ? SV_FINISH_LENGTH : SV_FINISH_STOP);
        done(&a);
    }
    bench_close(b);
}

static void the_story_model_tells_the_published_story(void **state)
{
    (void)state;
    char path[512], text_path[560];
    if (!story_path(path)) {
        print_message("skipped: no stories260K\n");
        skip();
    }
    snprintf(text_path, sizeof text_path, "%.*s/expected-greedy-200.txt", (int)(strrchr(path, '/') - path), path);
    SV_AUTO(sv_buf_donep) sv_buf want;
    sv_err err = {0};
    sv_buf_init(&want, 0);
    assert_int_equal(sv_file_read(&want, text_path, &err), SV_OK);
    for (int n_threads = 1; n_threads <= 2; n_threads++) {
        bench *b = bench_open(&(sv_engine_opts){.n_threads = n_threads});
        answer a = {0}, c = {0};
        ask(b, &a, &(sv_gen_opts){.model_path = path, .prompt = SV_STR(""), .max_tokens = 199});
        ask(b, &c, &(sv_gen_opts){.model_path = path, .prompt = SV_STR("Once upon a time"), .max_tokens = 190});
        run(b);
        assert_int_equal(a.rc, SV_OK);
        assert_memory_equal(a.text.p, want.p, a.text.n);
        assert_true(a.text.n + 16 > want.n);
        assert_int_equal(c.rc, SV_OK);
        assert_int_equal(c.finish, SV_FINISH_LENGTH);
        assert_memory_equal(c.text.p, want.p + strlen("Once upon a time"), c.text.n);
        done(&a);
        done(&c);
        bench_close(b);
    }
}

/* Eight requests that have nothing in common: lengths, sampling, penalties, stops, one over chat messages. */
enum { N_MIXED = 8 };
static const char *const stops[] = {"k", "qq", NULL};

static void mixed(sv_gen_opts o[N_MIXED], const json_t *messages)
{
    static char long_prompt[101];
    for (size_t i = 0; i < sizeof long_prompt - 1; i++)
        long_prompt[i] = (char)('A' + i * 7 % 26);
    const sv_gen_opts all[N_MIXED] = {
        {.prompt = SV_STR("Once"), .max_tokens = 60},
        {.prompt = {long_prompt, 70}, .max_tokens = 30},
        {.prompt = SV_STR("a"), .max_tokens = 90, .sampling = {.temperature = 1, .has_seed = true, .seed = 42}},
        {.prompt = SV_STR("a"), .max_tokens = 90, .sampling = {.temperature = 1, .has_seed = true, .seed = 43}},
        {.prompt = SV_STR("Zz"), .max_tokens = 50, .sampling = {.temperature = 0.7f, .top_k = 20, .top_p = 0.9f, .has_seed = true, .seed = 1}},
        {.prompt = SV_STR("penal"), .max_tokens = 50, .sampling = {.repetition_penalty = 1.3f, .frequency_penalty = 0.5f, .presence_penalty = 0.2f}},
        {.prompt = SV_STR("stop"), .max_tokens = 100, .stop = stops, .sampling = {.temperature = 1.5f, .min_p = 0.01f, .has_seed = true, .seed = 5}},
        {.messages = messages, .max_tokens = 40},
    };
    memcpy(o, all, sizeof all);
}

static void company_and_threads_do_not_change_a_text(void **state)
{
    (void)state;
    char story[512];
    const char *paths[] = {TINY("q8_0"), TINY("f32"), story_path(story) ? story : TINY("f16")};
    int64_t n_cached = 0;
    SV_AUTO(sv_json_decrefp) json_t *messages = json_pack("[{s:s,s:s},{s:s,s:[{s:s,s:s},{s:s,s:s}]}]", "role", "system", "content", "Be brief.", "role",
                                                          "user", "content", "type", "text", "text", "Hel", "type", "text", "text", "lo");
    sv_gen_opts o[N_MIXED];
    mixed(o, messages);
    for (size_t p = 0; p < SV_LEN(paths); p++) {
        answer first[N_MIXED] = {0}, again[N_MIXED] = {0};
        for (int n_threads = 1; n_threads <= 2; n_threads++) {
            bench *b = bench_open(&(sv_engine_opts){.n_threads = n_threads});
            for (size_t i = 0; i < N_MIXED; i++) {
                o[i].model_path = paths[p];
                if (n_threads == 1) {
                    ask(b, &first[i], &o[i]);
                    run(b); /* alone */
                    assert_int_equal(first[i].rc, SV_OK);
                }
            }
            for (int round = 0; round < 3; round++) {
                for (size_t i = 0; i < N_MIXED; i++)
                    ask(b, &again[(i + (size_t)round * 3) % N_MIXED], &o[(i + (size_t)round * 3) % N_MIXED]);
                run(b); /* together */
                for (size_t i = 0; i < N_MIXED; i++) {
                    assert_int_equal(again[i].rc, SV_OK);
                    assert_string_equal(sv_buf_cstr(&again[i].text), sv_buf_cstr(&first[i].text));
                    assert_int_equal(again[i].finish, first[i].finish);
                    assert_int_equal(again[i].usage.prompt_tokens, first[i].usage.prompt_tokens);
                    assert_int_equal(again[i].usage.completion_tokens, first[i].usage.completion_tokens);
                    assert_int_equal(again[i].usage.cached_tokens, again[i].started.cached_tokens);
                    n_cached += again[i].usage.cached_tokens;
                }
            }
            bench_close(b);
        }
        assert_string_not_equal(sv_buf_cstr(&first[2].text), sv_buf_cstr(&first[3].text)); /* another seed */
        assert_null(strchr(sv_buf_cstr(&first[6].text), 'k'));
        for (size_t i = 0; i < N_MIXED; i++) {
            done(&first[i]);
            done(&again[i]);
        }
    }
    assert_true(n_cached > 0); /* all are of one tenant */
}

/* Long ones, and so many rows a step that the engine is not through before the first texts are read here. */
enum { MANY = 60 };

static void long_request(sv_gen_opts *o, const char *path, int32_t max_tokens)
{
    *o = (sv_gen_opts){.model_path = path, .prompt = SV_STR("x"), .max_tokens = max_tokens,
                       .sampling = {.temperature = 3, .has_seed = true, .seed = 7}};
}

/* On a busy machine an engine may be through before we look; then it is asked again. */
enum { ATTEMPTS = 50, CAUGHT = 100 /* steps; a whole one needs 120 */ };

static void a_canceled_request_computes_no_further_step(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    sv_gen_opts o;
    long_request(&o, TINY("f32"), 120);
    answer a[MANY] = {0};
    int64_t before = 0, steps = 0;
    for (int attempt = 0;; attempt++) {
        assert_true(attempt < ATTEMPTS);
        for (size_t i = 0; i < SV_LEN(a); i++) {
            a[i].cancel_at = 3;
            ask(b, &a[i], &o);
        }
        run(b);
        sleep_ms(100); /* a step takes far less */
        steps = stat_of(b, "steps");
        if (steps - before < CAUGHT)
            break;
        before = steps;
    }
    assert_true(steps > before);
    sleep_ms(100);
    assert_int_equal(stat_of(b, "steps"), steps);
    for (size_t i = 0; i < SV_LEN(a); i++) {
        assert_int_equal(a[i].n_done, 0); /* no callback after a cancel */
        assert_int_equal(a[i].n_texts, 3);
        done(&a[i]);
    }
    json_t *stats = stats_of(b), *m = json_array_get(json_object_get(stats, "models"), 0);
    assert_int_equal(json_integer_value(json_object_get(m, "n_active")), 0);
    assert_int_equal(json_integer_value(json_object_get(m, "kv_pages_used")), 0);
    assert_string_equal(sv_json_cstr(m, "state"), "ready");
    assert_int_equal(json_integer_value(json_object_get(stats, "pid")), b->pid);
    assert_true(json_integer_value(json_object_get(stats, "cancelled")) > 0);
    json_decref(stats);
    bench_close(b);
}

static void a_client_that_is_gone_cancels_what_it_asked(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    sv_gen_opts o;
    long_request(&o, TINY("f32"), 120);
    int64_t before = 0, steps = 0;
    for (int attempt = 0;; attempt++) {
        assert_true(attempt < ATTEMPTS);
        answer a[MANY] = {0};
        for (size_t i = 0; i < SV_LEN(a); i++)
            ask(b, &a[i], &o);
        wait_for(b, &a[0].n_texts);
        sv_engine_client_free(b->client);
        b->n_open = 0;
        for (size_t i = 0; i < SV_LEN(a); i++)
            done(&a[i]);
        b->client = sv_engine_client_new(b->loop, b->socket);
        sleep_ms(100);
        steps = stat_of(b, "steps");
        if (steps - before < CAUGHT)
            break;
        before = steps;
    }
    assert_true(steps > before);
    sleep_ms(100);
    assert_int_equal(stat_of(b, "steps"), steps);
    assert_int_equal(stat_of(b, "connections"), 1);
    bench_close(b);
}

static void reap(bench *b)
{
    int status;
    assert_int_equal(waitpid(b->pid, &status, 0), b->pid);
}

/* All streams under way, one more request waiting; then the engine is killed. False: some stream was through before. */
static bool kill_mid_stream(bench *b, answer streaming[MANY], answer *waiting)
{
    sv_gen_opts o;
    long_request(&o, TINY("f32"), 120);
    for (int i = 0; i < MANY; i++)
        ask(b, &streaming[i], &o);
    for (int i = 0; i < MANY; i++)
        wait_for(b, &streaming[i].n_texts);
    ask(b, waiting, &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("hi"), .max_tokens = 5}); /* not in the batch: max_active */
    kill(b->pid, SIGKILL);
    reap(b);
    int n_through = 0;
    for (int i = 0; i < MANY; i++) {
        wait_for(b, &streaming[i].n_done);
        n_through += streaming[i].rc == SV_OK;
    }
    return n_through == 0;
}

static void kill_9_ends_streams_with_eio_and_repeats_what_had_not_begun(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1, .max_active = MANY});
    answer streaming[MANY] = {0}, waiting = {0}, next = {0};
    for (int attempt = 0; !kill_mid_stream(b, streaming, &waiting); attempt++) {
        assert_true(attempt < ATTEMPTS);
        start_engine(b);
        run(b);
    }
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(streaming[i].rc, SV_EIO);
        assert_string_equal(streaming[i].err.msg, "engine restarted");
        done(&streaming[i]);
    }
    assert_int_equal(waiting.n_done, 0);
    start_engine(b);
    ask(b, &next, &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("hi"), .max_tokens = 5});
    run(b);
    assert_int_equal(waiting.rc, SV_OK);
    assert_int_equal(waiting.n_started, 1);
    assert_int_equal(next.rc, SV_OK);
    assert_string_equal(sv_buf_cstr(&waiting.text), sv_buf_cstr(&next.text));
    done(&waiting);
    done(&next);
    bench_close(b);
}

static void a_request_that_kills_two_engines_is_not_sent_to_a_third(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    stop_engine(b, SIGKILL);
    answer a = {0};
    ask(b, &a, &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("hi"), .max_tokens = 5});
    for (int i = 0; i < 2; i++) { /* an engine that accepts, reads and dies */
        int fd = -1;
        while (fd < 0) {
            turn(b);
            fd = accept(b->listen_fd, NULL, NULL);
        }
        assert_int_equal(a.n_done, 0);
        close(fd);
    }
    run(b);
    assert_int_equal(a.rc, SV_EIO);
    start_engine(b);
    ask(b, &a, &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("hi"), .max_tokens = 5});
    run(b);
    assert_int_equal(a.rc, SV_OK);
    done(&a);
    bench_close(b);
}

static void a_callback_may_cancel_others_and_start_new_ones(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    stop_engine(b, SIGKILL);
    answer a = {0}, c = {0}, d = {0};
    const sv_gen_opts o = {.model_path = TINY("f32"), .prompt = SV_STR("hi"), .max_tokens = 5};
    ask(b, &a, &o);
    ask(b, &c, &o);
    ask(b, &d, &o);
    a.victim = &c;
    for (int i = 0; i < 2; i++) {
        int fd = -1;
        while (fd < 0) {
            turn(b);
            fd = accept(b->listen_fd, NULL, NULL);
        }
        close(fd);
    }
    wait_for(b, &a.n_done);
    assert_int_equal(a.rc, SV_EIO);
    start_engine(b);
    run(b);
    assert_int_equal(d.rc, SV_EIO);
    assert_int_equal(c.n_done, 1);
    assert_int_equal(c.rc, SV_OK);
    assert_int_equal(c.usage.completion_tokens, 2); /* the new one */
    done(&a);
    done(&c);
    done(&d);
    bench_close(b);
}

static void take_none(const json_t *stats, void *arg)
{
    assert_null(stats);
    one_less(arg);
}

static void without_an_engine_requests_end_after_some_seconds(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    sv_engine_client *there = b->client;
    b->client = sv_engine_client_new(b->loop, "/nonexistent/engine.sock");
    answer a = {0};
    ask(b, &a, &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("hi"), .max_tokens = 5});
    b->n_open++;
    sv_engine_stats(b->client, take_none, b);
    int64_t begin = sv_mono_ms();
    run(b);
    assert_in_range(sv_mono_ms() - begin, 4000, 20000);
    assert_int_equal(a.rc, SV_EIO);
    assert_non_null(strstr(a.err.msg, "the engine is not there"));
    sv_engine_client_free(b->client);
    b->client = there;
    done(&a);
    bench_close(b);
}

static void an_engine_that_never_says_hello_is_given_up(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    sv_engine_client *there = b->client;
    char path[128];
    sv_err err = {0};
    SV_AUTO(sv_fd_closep) int deaf = -1;
    snprintf(path, sizeof path, "%s/deaf.sock", b->dir);
    assert_int_equal(sv_unix_listen(&deaf, path, 4, &err), SV_OK); /* connections wait in its backlog for ever */
    b->client = sv_engine_client_new(b->loop, path);
    sv_engine_client_set_patience(b->client, 200);
    for (int round = 0; round < 2; round++) { /* the next request tries again */
        answer a = {0};
        ask(b, &a, &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("hi"), .max_tokens = 5});
        b->n_open++;
        sv_engine_stats(b->client, take_none, b);
        int64_t begin = sv_mono_ms();
        run(b);
        assert_true(sv_mono_ms() - begin >= 150);
        assert_int_equal(a.rc, SV_EIO);
        assert_non_null(strstr(a.err.msg, "does not answer"));
        done(&a);
    }
    sv_engine_client_free(b->client);
    b->client = there;
    sv_engine_client_set_patience(there, 20000);
    answer a = {0};
    ask(b, &a, &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("hi"), .max_tokens = 5});
    run(b);
    assert_int_equal(a.rc, SV_OK);
    done(&a);
    bench_close(b);
}

static void probabilities_come_with_the_tokens(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    answer a = {0};
    ask(b, &a, &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("hi"), .max_tokens = 30,
                              .sampling = {.logprobs = true, .top_logprobs = 2}});
    run(b);
    assert_int_equal(a.rc, SV_OK);
    assert_int_equal(a.n_probs, a.usage.completion_tokens);
    done(&a);
    bench_close(b);
}

static void refusals_say_what_is_wrong(void **state)
{
    (void)state;
    char broken[128], absent[128], huge[128];
    static char text[300];
    memset(text, 'a', sizeof text - 1);
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    sv_err err = {0};
    SV_AUTO(sv_buf_donep) sv_buf file;
    SV_AUTO(sv_json_decrefp) json_t *no_role = json_pack("[{s:s}]", "content", "hi"), *none = json_array(),
                                   *picture = json_pack("[{s:s,s:[{s:s}]}]", "role", "user", "content", "type", "image_url");
    sv_buf_init(&file, 0);
    assert_int_equal(sv_file_read(&file, TINY("f32"), &err), SV_OK);
    snprintf(broken, sizeof broken, "%s/broken.gguf", b->dir);
    snprintf(absent, sizeof absent, "%s/absent.gguf", b->dir);
    assert_int_equal(sv_file_replace(broken, file.p, file.n / 2, 0600, &err), SV_OK);
    snprintf(huge, sizeof huge, "%s/huge", b->dir);
    assert_int_equal(sv_file_replace(huge, file.p, file.n, 0600, &err), SV_OK);
    assert_int_equal(truncate(huge, (off_t)1 << 40), 0); /* a hole: no disk is used */
    const struct { sv_gen_opts o; sv_rc rc; int api_code; const char *words[3]; } cases[] = {
        {{.model_path = TINY("f32"), .prompt = {text, 299}, .max_tokens = 20}, SV_ELIMIT, 5021, {"prompt has 301 tokens", "max_tokens is 20", "128"}},
        {{.model_path = TINY("f32"), .prompt = {text, 50}, .max_tokens = 20, .n_ctx = 70}, SV_ELIMIT, 5021, {"52 tokens", "20", "window of 70"}},
        {{.model_path = TINY("f32"), .prompt = SV_STR("a"), .max_tokens = INT32_MAX}, SV_ELIMIT, 5021, {"3 tokens", "2147483647", "128"}},
        {{.model_path = absent, .prompt = SV_STR("a"), .max_tokens = 1}, SV_ENOENT, 0, {"absent.gguf", "No such file", ""}},
        {{.model_path = broken, .prompt = SV_STR("a"), .max_tokens = 1}, SV_EFORMAT, 0, {"broken.gguf", "", ""}},
        {{.model_path = broken, .prompt = SV_STR("a"), .max_tokens = 1}, SV_EFORMAT, 0, {"broken.gguf", "", ""}},
        {{.model_path = "/dev/null", .prompt = SV_STR("a"), .max_tokens = 1}, SV_EINVAL, 0, {"/dev/null", "neither a file nor a folder", ""}},
        {{.model_path = b->dir, .prompt = SV_STR("a"), .max_tokens = 1}, SV_EFORMAT, 0, {"broken.gguf", "", ""}}, /* its only GGUF */
        {{.model_path = huge, .prompt = SV_STR("a"), .max_tokens = 1}, SV_ELIMIT, 0, {"does not fit into memory", "1048576 MiB", "MiB for models"}},
        {{.model_path = TINY("f32"), .messages = no_role, .max_tokens = 1}, SV_EINVAL, 0, {"messages[0]", "role", ""}},
        {{.model_path = TINY("f32"), .messages = none, .max_tokens = 1}, SV_EINVAL, 0, {"empty", "", ""}},
        {{.model_path = TINY("f32"), .messages = picture, .max_tokens = 1}, SV_EINVAL, 0, {"image_url", "", ""}},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        answer a = {0};
        ask(b, &a, &cases[i].o);
        run(b);
        assert_int_equal(a.rc, cases[i].rc);
        assert_int_equal(a.err.api_code, cases[i].api_code);
        for (size_t w = 0; w < 3; w++)
            if (!strstr(a.err.msg, cases[i].words[w]))
                fail_msg("'%s' does not say '%s'", a.err.msg, cases[i].words[w]);
        assert_int_equal(a.n_started, 0);
        done(&a);
    }
    bench_close(b);
}

static void a_full_queue_refuses_with_3040_and_serves_the_rest(void **state)
{
    (void)state;
    enum { N = 20, ROOM = 2 + 5 };
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1, .max_active = 2, .max_queued = 5});
    answer a[N] = {0};
    int n_ok = 0;
    for (int i = 0; i < N; i++)
        ask(b, &a[i], &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("a"), .max_tokens = 30});
    run(b);
    for (int i = 0; i < N; i++) {
        n_ok += a[i].rc == SV_OK;
        if (a[i].rc != SV_OK) {
            assert_int_equal(a[i].rc, SV_ELIMIT);
            assert_int_equal(a[i].err.api_code, 3040);
        }
        done(&a[i]);
    }
    assert_true(n_ok >= ROOM && n_ok < N);
    bench_close(b);
}

static void few_pages_make_requests_wait_and_not_fail(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 2, .kv_bytes = 5 * 2 * 2 * 2 * 16 * 32 * sizeof(float)}); /* some pages of the tiny model */
    answer a[10] = {0};
    for (size_t i = 0; i < SV_LEN(a); i++)
        ask(b, &a[i], &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("abc"), .max_tokens = 60});
    run(b);
    for (size_t i = 0; i < SV_LEN(a); i++) {
        assert_int_equal(a[i].rc, SV_OK);
        assert_string_equal(sv_buf_cstr(&a[i].text), sv_buf_cstr(&a[0].text));
    }
    for (size_t i = 0; i < SV_LEN(a); i++)
        done(&a[i]);
    bench_close(b);
}

static void copy_file(const char *from, const char *to)
{
    SV_AUTO(sv_buf_donep) sv_buf file;
    sv_err err = {0};
    sv_buf_init(&file, 0);
    assert_int_equal(sv_file_read(&file, from, &err), SV_OK);
    assert_int_equal(sv_file_replace(to, file.p, file.n, 0600, &err), SV_OK);
}

static void a_file_replaced_by_rename_is_loaded_again(void **state)
{
    (void)state;
    char path[128];
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    answer a = {0}, c = {0};
    SV_AUTO(sv_buf_donep) sv_buf want;
    sv_gen_opts o = {.model_path = path, .prompt = SV_STR("AbcDEf"), .max_tokens = 40};
    snprintf(path, sizeof path, "%s/model.gguf", b->dir);
    sv_buf_init(&want, 0);
    copy_file(TINY("f32"), path);
    ask(b, &a, &o);
    run(b);
    copy_file(TINY("q8_0"), path);
    ask(b, &c, &o);
    run(b);
    alone(&want, TINY("q8_0"), "AbcDEf", 40);
    assert_string_equal(sv_buf_cstr(&c.text), sv_buf_cstr(&want));
    assert_string_not_equal(sv_buf_cstr(&c.text), sv_buf_cstr(&a.text));
    sleep_ms(100);
    json_t *stats = stats_of(b);
    assert_int_equal(json_array_size(json_object_get(stats, "models")), 1); /* the old one is gone */
    json_decref(stats);
    /* A broken one is known until the file changes again. */
    sv_err err = {0};
    assert_int_equal(sv_file_replace(path, "GGUF", 4, 0600, &err), SV_OK);
    ask(b, &c, &o);
    run(b);
    assert_int_equal(c.rc, SV_EFORMAT);
    copy_file(TINY("f32"), path);
    ask(b, &c, &o);
    run(b);
    assert_int_equal(c.rc, SV_OK);
    assert_string_equal(sv_buf_cstr(&c.text), sv_buf_cstr(&a.text));
    done(&a);
    done(&c);
    bench_close(b);
}

static void models_go_when_idle_or_when_another_needs_the_room(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(stat(TINY("f32"), &st), 0);
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1, .model_bytes = (size_t)st.st_size + 100, .idle_ms = 1});
    answer a = {0};
    static const char *const paths[] = {TINY("f32"), TINY("q8_0"), TINY("f32")};
    for (size_t i = 0; i < SV_LEN(paths); i++) {
        ask(b, &a, &(sv_gen_opts){.model_path = paths[i], .prompt = SV_STR("a"), .max_tokens = 3});
        run(b);
        assert_int_equal(a.rc, SV_OK);
    }
    int64_t tokens = stat_of(b, "tokens");
    assert_true(tokens > 0);
    for (int i = 0; i < 40; i++) {
        json_t *stats = stats_of(b);
        size_t n = json_array_size(json_object_get(stats, "models"));
        json_decref(stats);
        if (n == 0)
            break;
        assert_true(i < 39);
        sleep_ms(100);
    }
    assert_int_equal(stat_of(b, "tokens"), tokens); /* counters outlive models */
    done(&a);
    bench_close(b);
}

static void sigterm_lets_streams_finish_and_sends_new_ones_to_the_next_engine(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    sv_gen_opts o;
    long_request(&o, TINY("f32"), 120);
    answer a[MANY] = {0}, next = {0};
    for (size_t i = 0; i < SV_LEN(a); i++)
        ask(b, &a[i], &o);
    wait_for(b, &a[0].n_texts);
    pid_t old = b->pid;
    kill(old, SIGTERM);
    start_engine(b);
    ask(b, &next, &(sv_gen_opts){.model_path = TINY("q8_0"), .prompt = SV_STR("hi"), .max_tokens = 5});
    run(b);
    int status;
    assert_int_equal(waitpid(old, &status, 0), old);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (size_t i = 0; i < SV_LEN(a); i++) {
        assert_int_equal(a[i].rc, SV_OK);
        assert_string_equal(sv_buf_cstr(&a[i].text), sv_buf_cstr(&a[0].text));
    }
    assert_int_equal(next.rc, SV_OK);
    for (size_t i = 0; i < SV_LEN(a); i++)
        done(&a[i]);
    done(&next);
    bench_close(b);
}

static void several_clients_and_models_at_once(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 2});
    sv_engine_client *mine = b->client, *clients[3];
    answer a[3][5] = {0};
    static const char *const paths[] = {TINY("f32"), TINY("q8_0"), TINY("bf16"), TINY("q4_0"), TINY("f16")};
    for (size_t c = 0; c < SV_LEN(clients); c++) {
        b->client = clients[c] = sv_engine_client_new(b->loop, b->socket);
        for (size_t i = 0; i < SV_LEN(paths); i++)
            ask(b, &a[c][i], &(sv_gen_opts){.model_path = paths[i], .prompt = SV_STR("Hello"), .max_tokens = 50});
    }
    run(b);
    for (size_t i = 0; i < SV_LEN(paths); i++) {
        SV_AUTO(sv_buf_donep) sv_buf want;
        sv_buf_init(&want, 0);
        alone(&want, paths[i], "Hello", 50);
        for (size_t c = 0; c < SV_LEN(clients); c++) {
            assert_string_equal(sv_buf_cstr(&a[c][i].text), sv_buf_cstr(&want));
            done(&a[c][i]);
        }
    }
    for (size_t c = 0; c < SV_LEN(clients); c++)
        sv_engine_client_free(clients[c]);
    b->client = mine;
    bench_close(b);
}

static void rubbish_on_the_socket_ends_that_connection_only(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    static const char rubbish[][32] = {"GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff\x02\0\0\0\1\0\0\0", "\0\0\0\0\3\0\0\0\1\0\0\0"};
    for (size_t i = 0; i < SV_LEN(rubbish); i++) {
        int fd = -1;
        sv_err err = {0};
        char got[1024];
        assert_int_equal(sv_unix_connect(&fd, b->socket, &err), SV_OK);
        assert_true(write(fd, rubbish[i], sizeof rubbish[i]) > 0);
        ssize_t n = -1;
        for (int t = 0; t < 500 && (n = read(fd, got, sizeof got)) != 0 && (n > 0 || errno == EAGAIN); t++)
            sleep_ms(10);
        assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
        close(fd);
    }
    answer a = {0};
    ask(b, &a, &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("a"), .max_tokens = 3});
    run(b);
    assert_int_equal(a.rc, SV_OK);
    done(&a);
    bench_close(b);
}

static void a_client_that_asks_and_never_reads_is_cut_off(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    SV_AUTO(sv_buf_donep) sv_buf frames;
    sv_err err = {0};
    int fd = -1;
    ssize_t n = 0;
    sv_buf_init(&frames, 0);
    assert_int_equal(sv_unix_connect(&fd, b->socket, &err), SV_OK);
    sv_wire_add_hello(&frames, 1);
    assert_int_equal(sv_write_all(fd, frames.p, frames.n, &err), SV_OK);
    sv_buf_reset(&frames);
    for (int i = 0; i < 1000; i++)
        sv_wire_add(&frames, SV_WIRE_STATS, 0, (sv_str){0});
    int64_t end = sv_mono_ms() + 60000, sent = 0;
    size_t at = 0; /* whole frames only, over and over */
    while (n >= 0 || errno == EAGAIN) {
        assert_true(sv_mono_ms() < end);
        n = send(fd, frames.p + at, frames.n - at, MSG_NOSIGNAL);
        if (n > 0) {
            at = (at + (size_t)n) % frames.n;
            sent += n;
        } else {
            sleep_ms(1);
        }
    }
    assert_true(errno == EPIPE || errno == ECONNRESET);
    assert_true(sent < 64 << 20);
    close(fd);
    assert_int_equal(stat_of(b, "connections"), 1); /* the others go on */
    bench_close(b);
}

/* --- encoders -------------------------------------------------------------------------------------------------------- */

#define ENCODER(name) SV_SOURCE_ROOT "/tests/reference/encoders/" name

typedef struct vectors {
    bench *b;
    sv_gen *gen;
    int n_done;
    sv_rc rc;
    sv_err err;
    int32_t n, dim, n_tokens;
    sv_buf v, labels;
    struct vectors *victim; /* canceled by on_vectors */
} vectors;

static void on_vectors(sv_gen *g, sv_rc rc, const sv_vectors *v, const sv_err *err, void *arg)
{
    vectors *a = arg;
    assert_ptr_equal(g, a->gen);
    assert_true((rc == SV_OK) == (v != NULL) && (rc == SV_OK) == (err == NULL));
    a->n_done++;
    a->rc = rc;
    if (err)
        a->err = *err;
    if (v) {
        a->n = v->n;
        a->dim = v->dim;
        a->n_tokens = v->n_tokens;
        sv_buf_add(&a->v, v->v, (size_t)v->n * (size_t)v->dim * sizeof(float));
        sv_buf_add(&a->labels, v->labels.p, v->labels.n);
    }
    if (a->victim) {
        sv_gen_cancel(a->victim->gen);
        one_less(a->b);
    }
    one_less(a->b);
}

static void vectors_done(vectors *a)
{
    sv_buf_done(&a->v);
    sv_buf_done(&a->labels);
}

static void ask_vectors(bench *b, vectors *a, const sv_encode_opts *opts)
{
    sv_encode_opts o = *opts;
    sv_err err = {0};
    vectors_done(a);
    *a = (vectors){.b = b, .victim = a->victim};
    o.tenant = "tenant";
    o.on_done = on_vectors;
    o.arg = a;
    assert_int_equal(sv_engine_encode(&a->gen, b->client, &o, &err), SV_OK);
    b->n_open++;
}

static json_t *copies_of(const char *text, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_string(text));
    return list;
}

static void the_encoder_alone(float *out, int32_t *n_tokens, const char *path, const char *text, const char *second, sv_encoder_want want)
{
    SV_AUTO(sv_encoder_closep) sv_encoder *e = NULL;
    SV_AUTO(sv_encoder_ws_freep) sv_encoder_ws *ws = NULL;
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(1);
    sv_err err = {0};
    sv_tokens t = {0};
    sv_encoder_seq seq = {.out = out};
    sv_str pair = second ? sv_str_of(second) : (sv_str){0};
    assert_int_equal(sv_encoder_open(&e, path, &err), SV_OK);
    assert_int_equal(sv_encoder_ws_new(&ws, e, 64, &err), SV_OK);
    assert_int_equal(sv_encoder_tokens(e, &(sv_encoder_text){.text = sv_str_of(text), .pair = second ? &pair : NULL}, &t, &seq.n_first, &err), SV_OK);
    seq.tokens = t.v;
    seq.n_tokens = (int32_t)t.n;
    *n_tokens += seq.n_tokens;
    sv_encoder_run(e, ws, pool, &seq, 1, want);
    free(t.v);
}

static void vectors_and_classes_come_through_the_socket_as_computed_alone(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 2});
    SV_AUTO(sv_json_decrefp) json_t *texts = json_pack("[s,s]", "bread and water", "a river"),
                                   *pairs = json_pack("[[s,s],s]", "this film", "is great", "music");
    vectors mean = {0}, cls = {0}, classes = {0};
    answer a = {0};
    ask_vectors(b, &mean, &(sv_encode_opts){.model_path = ENCODER("bert"), .texts = texts, .want = SV_ENCODE_MEAN});
    ask_vectors(b, &cls, &(sv_encode_opts){.model_path = ENCODER("bert"), .texts = texts, .want = SV_ENCODE_CLS});
    ask_vectors(b, &classes, &(sv_encode_opts){.model_path = ENCODER("bert-classifier"), .texts = pairs, .want = SV_ENCODE_LOGITS});
    ask(b, &a, &(sv_gen_opts){.model_path = TINY("f32"), .prompt = SV_STR("AbcDEf"), .max_tokens = 20}); /* on the same connection */
    run(b);
    assert_int_equal(a.rc, SV_OK);

    const vectors *both[] = {&mean, &cls};
    for (int k = 0; k < 2; k++) {
        float want[2][256];
        int32_t n_tokens = 0;
        the_encoder_alone(want[0], &n_tokens, ENCODER("bert"), "bread and water", NULL, k == 0 ? SV_WANT_MEAN : SV_WANT_CLS);
        the_encoder_alone(want[1], &n_tokens, ENCODER("bert"), "a river", NULL, k == 0 ? SV_WANT_MEAN : SV_WANT_CLS);
        assert_int_equal(both[k]->rc, SV_OK);
        assert_int_equal(both[k]->n, 2);
        assert_int_equal(both[k]->n_tokens, n_tokens);
        assert_string_equal(sv_buf_cstr(&both[k]->labels), "[]");
        for (int32_t i = 0; i < 2; i++) {
            double sum = 0;
            for (int32_t d = 0; d < both[k]->dim; d++)
                sum += (double)want[i][d] * (double)want[i][d];
            for (int32_t d = 0; d < both[k]->dim; d++) /* rounding: one reciprocal of float32, and that of the length */
                assert_true(fabs(((const float *)both[k]->v.p)[i * both[k]->dim + d] - (double)want[i][d] / sqrt(sum)) < 1e-6);
        }
    }
    float want[2][8];
    int32_t n_tokens = 0;
    the_encoder_alone(want[0], &n_tokens, ENCODER("bert-classifier"), "this film", "is great", SV_WANT_LOGITS);
    the_encoder_alone(want[1], &n_tokens, ENCODER("bert-classifier"), "music", NULL, SV_WANT_LOGITS);
    assert_int_equal(classes.rc, SV_OK);
    assert_int_equal(classes.n, 2);
    assert_int_equal(classes.n_tokens, n_tokens);
    for (int i = 0; i < 2; i++)
        assert_memory_equal((const float *)classes.v.p + i * classes.dim, want[i], (size_t)classes.dim * sizeof(float));
    SV_AUTO(sv_json_decrefp) json_t *labels = json_loads(sv_buf_cstr(&classes.labels), 0, NULL);
    assert_int_equal(json_array_size(labels), classes.dim);
    done(&a);
    vectors_done(&mean);
    vectors_done(&cls);
    vectors_done(&classes);
    bench_close(b);
}

static void refusals_of_encoders_leave_the_connection_as_it_is(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    char absent[128];
    snprintf(absent, sizeof absent, "%s/absent", b->dir);
    SV_AUTO(sv_json_decrefp) json_t *one = copies_of("x", 1);
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, 0);
    for (int i = 0; i < 100; i++)
        sv_buf_adds(&text, "a river ");
    SV_AUTO(sv_json_decrefp) json_t *longer = copies_of(sv_buf_cstr(&text), 1);
    const struct { sv_encode_opts o; sv_rc rc; int api_code; const char *word; } cases[] = {
        {{.model_path = absent, .texts = one}, SV_ENOENT, 0, "absent"},
        {{.model_path = TINY("f32"), .texts = one}, SV_EFORMAT, 0, "no text encoder"},
        {{.model_path = ENCODER("bert"), .texts = one, .want = SV_ENCODE_LOGITS}, SV_EINVAL, 0, "no classes"},
        {{.model_path = ENCODER("bert"), .texts = longer}, SV_ELIMIT, 5021, "tokens"},
        {{.model_path = ENCODER("bert"), .texts = longer, .cut = true}, SV_OK, 0, ""},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        vectors a = {0};
        ask_vectors(b, &a, &cases[i].o);
        run(b);
        assert_int_equal(a.rc, cases[i].rc);
        assert_int_equal(a.err.api_code, cases[i].api_code);
        if (!strstr(a.err.msg, cases[i].word))
            fail_msg("'%s' does not say '%s'", a.err.msg, cases[i].word);
        vectors_done(&a);
    }
    sv_err err = {0};
    sv_gen *g = NULL;
    SV_AUTO(sv_json_decrefp) json_t *many = copies_of("x", SV_ENCODE_MAX_TEXTS + 1);
    assert_int_equal(sv_engine_encode(&g, b->client, &(sv_encode_opts){.model_path = ENCODER("bert"), .texts = many, .on_done = on_vectors}, &err), SV_EINVAL);
    assert_int_equal(stat_of(b, "connections"), 1);
    bench_close(b);
}

static void a_canceled_encoding_leaves_the_others_alone(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    SV_AUTO(sv_json_decrefp) json_t *one = copies_of("a river", 1), *many = copies_of("a river", SV_ENCODE_MAX_TEXTS);
    vectors victim = {0}, other = {0}, first = {.victim = &victim};
    ask_vectors(b, &first, &(sv_encode_opts){.model_path = ENCODER("bert"), .texts = one});
    ask_vectors(b, &victim, &(sv_encode_opts){.model_path = ENCODER("bert"), .texts = many});
    ask_vectors(b, &other, &(sv_encode_opts){.model_path = ENCODER("bert"), .texts = many});
    run(b);
    assert_int_equal(victim.n_done, 0);
    assert_int_equal(first.rc, SV_OK);
    assert_int_equal(other.rc, SV_OK);
    assert_int_equal(other.n, SV_ENCODE_MAX_TEXTS);
    vectors_done(&first);
    vectors_done(&other);
    bench_close(b);
}

static void sigterm_lets_encodings_finish_and_sends_new_ones_to_the_next_engine(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    SV_AUTO(sv_json_decrefp) json_t *one = copies_of("a river", 1), *many = copies_of("a river", SV_ENCODE_MAX_TEXTS);
    vectors a[4] = {0}, first = {0}, next = {0};
    ask_vectors(b, &first, &(sv_encode_opts){.model_path = ENCODER("bert"), .texts = one});
    for (size_t i = 0; i < SV_LEN(a); i++)
        ask_vectors(b, &a[i], &(sv_encode_opts){.model_path = ENCODER("bert"), .texts = many});
    wait_for(b, &first.n_done);
    pid_t old = b->pid;
    kill(old, SIGTERM);
    start_engine(b);
    ask_vectors(b, &next, &(sv_encode_opts){.model_path = ENCODER("distilbert"), .texts = one});
    run(b);
    int status;
    assert_int_equal(waitpid(old, &status, 0), old);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (size_t i = 0; i < SV_LEN(a); i++) {
        assert_int_equal(a[i].rc, SV_OK);
        assert_int_equal(a[i].n, SV_ENCODE_MAX_TEXTS);
        vectors_done(&a[i]);
    }
    assert_int_equal(next.rc, SV_OK);
    vectors_done(&first);
    vectors_done(&next);
    bench_close(b);
}

static void kill_9_repeats_encodings_with_the_next_engine(void **state)
{
    (void)state;
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    SV_AUTO(sv_json_decrefp) json_t *one = copies_of("a river", 1), *many = copies_of("a river", SV_ENCODE_MAX_TEXTS);
    vectors a[4] = {0}, first = {0};
    ask_vectors(b, &first, &(sv_encode_opts){.model_path = ENCODER("bert"), .texts = one});
    for (size_t i = 0; i < SV_LEN(a); i++)
        ask_vectors(b, &a[i], &(sv_encode_opts){.model_path = ENCODER("bert"), .texts = many});
    wait_for(b, &first.n_done);
    (void)stop_engine(b, SIGKILL);
    start_engine(b);
    run(b);
    for (size_t i = 0; i < SV_LEN(a); i++) {
        assert_int_equal(a[i].rc, SV_OK);
        assert_int_equal(a[i].n_done, 1);
        assert_int_equal(a[i].n, SV_ENCODE_MAX_TEXTS);
        vectors_done(&a[i]);
    }
    vectors_done(&first);
    bench_close(b);
}

/* Folder `to`: a tiny classifier whose head has n_labels classes, with weights of 0. */
static void make_wide_classifier(const char *to, int n_labels)
{
    static const char *const texts[] = {"tokenizer.json", "tokenizer_config.json"};
    char path[256], from[512];
    sv_err err = {0};
    uint64_t n = 0, n_data, n_head = (uint64_t)n_labels * 36 * sizeof(float), n_bias = (uint64_t)n_labels * sizeof(float);
    SV_AUTO(sv_buf_donep) sv_buf file;
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_json_decrefp) json_t *header = NULL, *config = NULL;
    sv_buf_init(&file, 0);
    sv_buf_init(&text, 0);
    assert_int_equal(sv_mkdir_p(to, 0700, &err), SV_OK);
    for (size_t i = 0; i < SV_LEN(texts); i++) {
        snprintf(path, sizeof path, "%s/%s", to, texts[i]);
        snprintf(from, sizeof from, ENCODER("bert-classifier") "/%s", texts[i]);
        assert_int_equal(symlink(from, path), 0);
    }
    assert_int_equal(sv_file_read(&text, ENCODER("bert-classifier") "/config.json", &err), SV_OK);
    assert_int_equal(sv_json_parse(&config, sv_buf_str(&text), &err), SV_OK);
    json_object_del(config, "id2label");
    json_object_set_new(config, "num_labels", json_integer(n_labels));
    char *dumped = json_dumps(config, 0);
    snprintf(path, sizeof path, "%s/config.json", to);
    assert_int_equal(sv_file_replace(path, dumped, strlen(dumped), 0600, &err), SV_OK);
    free(dumped);

    /* The old head's bytes stay, of no tensor; the new one lies behind all. */
    assert_int_equal(sv_file_read(&file, ENCODER("bert-classifier") "/model.safetensors", &err), SV_OK);
    memcpy(&n, file.p, sizeof n);
    n_data = file.n - sizeof n - n;
    assert_int_equal(sv_json_parse(&header, (sv_str){file.p + sizeof n, n}, &err), SV_OK);
    json_object_set_new(header, "classifier.weight", json_pack("{s:s,s:[i,i],s:[I,I]}", "dtype", "F32", "shape", n_labels, 36, "data_offsets",
                                                               (json_int_t)n_data, (json_int_t)(n_data + n_head)));
    json_object_set_new(header, "classifier.bias", json_pack("{s:s,s:[i],s:[I,I]}", "dtype", "F32", "shape", n_labels, "data_offsets",
                                                             (json_int_t)(n_data + n_head), (json_int_t)(n_data + n_head + n_bias)));
    dumped = json_dumps(header, JSON_COMPACT);
    uint64_t n_header = strlen(dumped);
    sv_buf_reset(&text);
    sv_buf_add(&text, &n_header, sizeof n_header);
    sv_buf_adds(&text, dumped);
    sv_buf_add(&text, file.p + sizeof n + n, n_data);
    for (uint64_t i = 0; i < n_head + n_bias; i++)
        sv_buf_addc(&text, 0);
    free(dumped);
    snprintf(path, sizeof path, "%s/model.safetensors", to);
    assert_int_equal(sv_file_replace(path, text.p, text.n, 0600, &err), SV_OK);
}

/* Requests of one size end in one batch; their answers together are more than waits for a connection. */
static void answers_of_megabytes_that_end_together_all_arrive(void **state)
{
    (void)state;
    enum { N = 8, TEXTS = 500, CLASSES = 4096 };
    char path[128];
    bench *b = bench_open(&(sv_engine_opts){.n_threads = 1});
    SV_AUTO(sv_json_decrefp) json_t *texts = copies_of("x", TEXTS), *more = copies_of("x", SV_ENCODE_MAX_TEXTS);
    vectors a[N] = {0}, large = {0};
    snprintf(path, sizeof path, "%s/wide", b->dir);
    make_wide_classifier(path, CLASSES);
    for (int i = 0; i < N; i++)
        ask_vectors(b, &a[i], &(sv_encode_opts){.model_path = path, .texts = texts, .want = SV_ENCODE_LOGITS});
    ask_vectors(b, &large, &(sv_encode_opts){.model_path = path, .texts = more, .want = SV_ENCODE_LOGITS});
    run(b);
    for (int i = 0; i < N; i++) {
        if (a[i].rc != SV_OK)
            fail_msg("%s", a[i].err.msg);
        assert_int_equal(a[i].n, TEXTS);
        assert_int_equal(a[i].v.n, TEXTS * CLASSES * sizeof(float));
        vectors_done(&a[i]);
    }
    assert_int_equal(large.rc, SV_OK); /* about as large as a frame may be */
    assert_int_equal(large.v.n, SV_ENCODE_MAX_TEXTS * CLASSES * sizeof(float));
    vectors_done(&large);
    bench_close(b);
}

static void count_stats(const json_t *stats, void *arg)
{
    assert_non_null(stats);
    ++*(int *)arg;
}

/* The patience of a drain is over, or the clients are gone: what is in a model's thread and in its queue ends canceled, and the process ends well. */
static void an_engine_ends_with_encodings_under_way_and_queued(void **state)
{
    (void)state;
    enum { N = 100 }; /* more than a thread has in hand */
    SV_AUTO(sv_json_decrefp) json_t *many = copies_of("a river a river a river", SV_ENCODE_MAX_TEXTS);
    for (int client_goes = 0; client_goes < 2; client_goes++) {
        bench *b = bench_open(&(sv_engine_opts){.n_threads = 1, .drain_ms = 1});
        static vectors a[N];
        memset(a, 0, sizeof a);
        for (int i = 0; i < N; i++)
            ask_vectors(b, &a[i], &(sv_encode_opts){.model_path = ENCODER("bert"), .texts = many});
        int n_stats = 0;
        sv_engine_stats(b->client, count_stats, &n_stats);
        wait_for(b, &n_stats); /* the answer says that the requests before it were taken */
        if (client_goes)
            b->client = sv_engine_client_free(b->client);
        int status = stop_engine(b, SIGTERM);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        b->client = sv_engine_client_free(b->client);
        for (int i = 0; i < N; i++)
            vectors_done(&a[i]);
        bench_close(b);
    }
}

static void inspect_tells_what_a_file_is(void **state)
{
    (void)state;
    sv_model_facts f;
    sv_err err = {0};
    assert_int_equal(sv_engine_inspect(TINY("q8_0"), &f, &err), SV_OK);
    assert_string_equal(f.arch, "llama");
    assert_string_equal(f.weights, "Q8_0");
    assert_int_equal(f.n_vocab, 160);
    assert_int_equal(f.n_ctx, 128);
    assert_false(f.has_template);
    assert_true(f.n_params > 0 && f.size_bytes > 0);
    assert_int_equal(sv_engine_inspect("/nonexistent.gguf", &f, &err), SV_ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_text_is_that_of_one_sequence_computed_alone),
        cmocka_unit_test(the_story_model_tells_the_published_story),
        cmocka_unit_test(company_and_threads_do_not_change_a_text),
        cmocka_unit_test(a_canceled_request_computes_no_further_step),
        cmocka_unit_test(a_client_that_is_gone_cancels_what_it_asked),
        cmocka_unit_test(kill_9_ends_streams_with_eio_and_repeats_what_had_not_begun),
        cmocka_unit_test(a_request_that_kills_two_engines_is_not_sent_to_a_third),
        cmocka_unit_test(a_callback_may_cancel_others_and_start_new_ones),
        cmocka_unit_test(without_an_engine_requests_end_after_some_seconds),
        cmocka_unit_test(an_engine_that_never_says_hello_is_given_up),
        cmocka_unit_test(probabilities_come_with_the_tokens),
        cmocka_unit_test(refusals_say_what_is_wrong),
        cmocka_unit_test(a_full_queue_refuses_with_3040_and_serves_the_rest),
        cmocka_unit_test(few_pages_make_requests_wait_and_not_fail),
        cmocka_unit_test(a_file_replaced_by_rename_is_loaded_again),
        cmocka_unit_test(models_go_when_idle_or_when_another_needs_the_room),
        cmocka_unit_test(sigterm_lets_streams_finish_and_sends_new_ones_to_the_next_engine),
        cmocka_unit_test(several_clients_and_models_at_once),
        cmocka_unit_test(rubbish_on_the_socket_ends_that_connection_only),
        cmocka_unit_test(a_client_that_asks_and_never_reads_is_cut_off),
        cmocka_unit_test(vectors_and_classes_come_through_the_socket_as_computed_alone),
        cmocka_unit_test(refusals_of_encoders_leave_the_connection_as_it_is),
        cmocka_unit_test(a_canceled_encoding_leaves_the_others_alone),
        cmocka_unit_test(sigterm_lets_encodings_finish_and_sends_new_ones_to_the_next_engine),
        cmocka_unit_test(kill_9_repeats_encodings_with_the_next_engine),
        cmocka_unit_test(answers_of_megabytes_that_end_together_all_arrive),
        cmocka_unit_test(an_engine_ends_with_encodings_under_way_and_queued),
        cmocka_unit_test(inspect_tells_what_a_file_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
