/* company_test.c - a request's tokens are the same bits alone and in any company
 *
 * Each model's requests are first run alone: one scheduler each, an empty cache, one thread. Then random schedules: who comes when, beside whom, for
 * which tenant, with which batch and how few pages, into a cold cache or one that holds what others left, with one thread or two; some are canceled in
 * between. What comes out must be the same tokens with the same log probabilities of the chosen and of the likeliest ones, bit for bit, which is to say
 * the same logits. That the schedules do meet preemption and kept prefixes is counted and asserted.
 *
 * SV_SCHEDULES sets their number (1,000; 100 where a sanitizer slows all down), SV_SCHEDULE runs that one alone: everything random follows from its number. */
#include "engine/sched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "models/type_model_testing.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SCHEDULES = 100, N_TYPES = 4 };
#else
enum { SCHEDULES = 1000, N_TYPES = 26 };
#endif
enum { N_REQS = 12, N_CTX = 128, MAX_COMPANY = 9, N_TENANTS = 2, TOP = 3 };

/* Each family with what its files may ask for, then Llama in every weight type. */
static const char *const files[] = {
    "llama-f32.gguf", "llama-f16.gguf", "llama-bf16.gguf", "llama-q8_0.gguf", "llama-q4_0.gguf", "llama-q4_k.gguf", "mistral.gguf", "qwen2.gguf",
    "qwen3-00001-of-00002.gguf", "gpt2.gguf", "ministral.gguf", "qwen2-window.gguf", "qwen3-bias", "llama-bias", "gpt2-gelu",
};
static const char *const set_names[] = {"portable", "avx2", "avxvnni", "avx512", "avx512vnni"};
enum { N_FILES = SV_LEN(files), N_MODELS = N_FILES + N_TYPES, MAX_PATHS = SV_LEN(set_names) };
static const char *paths[MAX_PATHS]; /* those that this CPU has */
static int n_paths;

static uint32_t random_state;

static int32_t dice(int32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (int32_t)((random_state >> 8) % (uint32_t)n);
}

/* --- requests ------------------------------------------------------------------------------------------------------- */

typedef struct request {
    int32_t tokens[N_CTX], n_tokens, max_tokens;
    sv_sampling sampling;
    sv_str stop;
} request;

typedef struct answer {
    sv_buf probs, text; /* packed */
    _Atomic bool cancel;
    int n_started, n_ended;
    sv_rc rc;
    sv_finish finish;
    sv_usage usage;
} answer;

static const sv_logit_bias some_bias[] = {{9, 2.5f}, {11, -100}, {40, 1}};

/* Three beginnings that several share for one to three pages; greedy and drawn, with all that remembers what was written. */
static void make_requests(request *r, int32_t n_vocab, int32_t most)
{
    for (int i = 0; i < N_REQS; i++) {
        int32_t shared = dice(3) ? 5 + dice(40) : 40 + dice(40), own = 1 + dice(20), beginning = i % 3;
        r[i] = (request){.n_tokens = shared + own, .max_tokens = 1 + dice(N_CTX - shared - own < most ? N_CTX - shared - own : most)};
        for (int32_t t = 0; t < r[i].n_tokens; t++)
            r[i].tokens[t] = t == 0 ? 1 : 3 + (t < shared ? t * 31 + beginning * 17 : dice(1000)) % (n_vocab - 3);
        r[i].sampling = (sv_sampling){.logprobs = true, .top_logprobs = TOP, .has_seed = true, .seed = (uint64_t)i};
        if (i % 2) {
            r[i].sampling.temperature = 1.5f;
            r[i].sampling.top_k = i % 4 == 1 ? 30 : 0;
            r[i].sampling.top_p = i % 3 == 1 ? 0.9f : 0;
            r[i].sampling.frequency_penalty = 0.3f;
            r[i].sampling.repetition_penalty = 1.1f;
        } else if (i % 4 == 2) {
            r[i].sampling.logit_bias = some_bias;
            r[i].sampling.n_logit_bias = SV_LEN(some_bias);
        }
        r[i].stop = i % 5 == 4 ? SV_STR("e") : (sv_str){0};
    }
}

static void on_start(void *arg, const sv_usage *usage)
{
    answer *a = arg;
    a->n_started++;
    assert_true(usage->cached_tokens < usage->prompt_tokens);
}

static void on_text(void *arg, sv_str text, int32_t n_tokens)
{
    answer *a = arg;
    assert_true(a->n_started == 1 && n_tokens > 0);
    sv_buf_add(&a->text, text.p, text.n);
}

static void on_probs(void *arg, sv_str packed)
{
    answer *a = arg;
    sv_buf_add(&a->probs, packed.p, packed.n);
}

static void on_end(void *arg, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err)
{
    answer *a = arg;
    (void)err;
    a->n_ended++;
    a->rc = rc;
    a->finish = finish;
    a->usage = *usage;
}

static const sv_sched_events events = {.on_start = on_start, .on_text = on_text, .on_probs = on_probs, .on_end = on_end};

static void ask(sv_sched *s, const request *r, answer *a, const char *tenant)
{
    sv_err err = {0};
    *a = (answer){0};
    sv_rc rc = sv_sched_add(s, &(sv_sched_req){.tenant = tenant, .tokens = r->tokens, .n_tokens = r->n_tokens, .max_tokens = r->max_tokens,
                                               .sampling = r->sampling, .stop = &r->stop, .n_stops = r->stop.n > 0, .cancel = &a->cancel, .arg = a}, &err);
    if (rc != SV_OK)
        fail_msg("%s", err.msg);
}

static void run(sv_sched *s)
{
    for (int i = 0; sv_sched_busy(s); i++) {
        assert_true(i < 20000);
        sv_sched_step(s);
    }
}

static void done(answer *a)
{
    sv_buf_done(&a->probs);
    sv_buf_done(&a->text);
}

/* --- alone ---------------------------------------------------------------------------------------------------------- */

typedef struct bench { /* of one model */
    sv_llm *m;
    request reqs[N_REQS];
    answer alone[MAX_PATHS][N_REQS];
    bool ready[MAX_PATHS];
} bench;

static bench benches[N_MODELS];

/* The weight type of models after the files. */
static sv_type type_of(int model)
{
    uint32_t type = 0;
    for (int n = model - N_FILES; type < SV_N_TYPES; type++)
        if (sv_type_get(type)->computable && n-- == 0)
            break;
    assert_true(type < SV_N_TYPES);
    return (sv_type)type;
}

static const char *name_of(int model)
{
    return model < N_FILES ? files[model] : sv_type_get(type_of(model))->name;
}

static void open_model(bench *b, int model)
{
    char path[512];
    sv_err err = {0};
    if (model < N_FILES) {
        snprintf(path, sizeof path, SV_SOURCE_ROOT "/tests/reference/%s", files[model]);
        if (sv_llm_open(&b->m, path, &err) != SV_OK)
            fail_msg("%s", err.msg);
    } else {
        type_model_draw(type_of(model));
        b->m = type_model_new(type_of(model), false);
    }
    if (sv_llm_pack(b->m, NULL, &err) != SV_OK)
        fail_msg("%s", err.msg);
    assert_true(sv_llm_get_info(b->m)->n_ctx >= N_CTX);
    random_state = 7;
    make_requests(b->reqs, sv_llm_get_info(b->m)->n_vocab, model < N_FILES ? 70 : 14); /* types in portable code are slow */
}

static void run_alone(bench *b, int path)
{
    sv_err err = {0};
    SV_AUTO(sv_compute_freep) sv_compute *compute = sv_compute_new(1);
    for (int i = 0; i < N_REQS; i++) {
        SV_AUTO(sv_sched_freep) sv_sched *s = NULL;
        assert_int_equal(sv_sched_new(&s, b->m, compute, &events, &(sv_sched_opts){0}, &err), SV_OK);
        ask(s, &b->reqs[i], &b->alone[path][i], "alone");
        run(s);
        assert_int_equal(b->alone[path][i].rc, SV_OK);
        assert_int_equal(b->alone[path][i].usage.cached_tokens, 0);
    }
    b->ready[path] = true;
}

static bench *opened(int model)
{
    bench *b = &benches[model];
    if (!b->m)
        open_model(b, model);
    return b;
}

static bench *bench_of(int model, int path)
{
    bench *b = opened(model);
    if (!b->ready[path])
        run_alone(b, path);
    return b;
}

static void close_models(void)
{
    for (int i = 0; i < N_MODELS; i++) {
        for (int p = 0; p < n_paths; p++)
            for (int r = 0; r < N_REQS; r++)
                done(&benches[i].alone[p][r]);
        benches[i].m = sv_llm_unref(benches[i].m);
    }
    type_model_drop();
}

/* --- in company ----------------------------------------------------------------------------------------------------- */

static struct { int64_t preempted, cached, compared, canceled, tokens; } met;

static bool same(const answer *a, const answer *b)
{
    return a->finish == b->finish && a->usage.prompt_tokens == b->usage.prompt_tokens && a->usage.completion_tokens == b->usage.completion_tokens &&
           sv_str_eq(sv_buf_str(&a->text), sv_buf_str(&b->text)) && sv_str_eq(sv_buf_str(&a->probs), sv_buf_str(&b->probs));
}

static void check(const answer *a, const answer *alone, int schedule, int r)
{
    assert_int_equal(a->n_ended, 1);
    if (a->rc == SV_ECANCELED) {
        assert_true(a->cancel);
        met.canceled++;
        return;
    }
    assert_int_equal(a->rc, SV_OK);
    met.compared++;
    met.tokens += a->usage.completion_tokens;
    if (!same(a, alone))
        fail_msg("schedule %d, %s: request %d in company is not what it is alone (%d and %d tokens, %zu and %zu bytes of probabilities)", schedule, name_of(schedule % N_MODELS), r,
                 a->usage.completion_tokens, alone->usage.completion_tokens, a->probs.n, alone->probs.n);
}

/* From too few pages for two to enough for all. */
static size_t some_budget(const bench *b)
{
    int32_t most = (N_CTX + SV_KV_PAGE - 1) / SV_KV_PAGE;
    return sv_llm_kv_page_bytes(b->m) * (size_t)(dice(4) ? most + dice(4) : most * MAX_COMPANY);
}

static void crowd(sv_sched *s, const bench *b, int path, int schedule)
{
    static const char *const tenants[N_TENANTS] = {"a", "b"};
    int n = 2 + dice(MAX_COMPANY - 1), who[MAX_COMPANY];
    answer *a = sv_xcalloc((size_t)n, sizeof *a);
    int pause = dice(3) ? 4 : 60; /* steps between arrivals; with many, the later ones find what the earlier ones left */
    for (int i = 0; i < n; i++) {
        who[i] = dice(N_REQS);
        ask(s, &b->reqs[who[i]], &a[i], tenants[dice(N_TENANTS)]);
        for (int steps = dice(pause); steps > 0 && sv_sched_busy(s); steps--)
            sv_sched_step(s);
        if (dice(12) == 0)
            a[dice(i + 1)].cancel = true;
        if (dice(20) == 0)
            sv_sched_trim(s); /* may come at any time */
    }
    run(s);
    for (int i = 0; i < n; i++) {
        check(&a[i], &b->alone[path][who[i]], schedule, who[i]);
        done(&a[i]);
    }
    free(a);
}

static void one_schedule(int i, sv_compute *const compute[2])
{
    int path = i / N_MODELS % n_paths;
    assert_true(sv_kernels_select(paths[path]));
    bench *b = bench_of(i % N_MODELS, path);
    sv_err err = {0};
    sv_sched_stats stats;
    SV_AUTO(sv_sched_freep) sv_sched *s = NULL;
    random_state = (uint32_t)i * 2654435761u;
    const sv_sched_opts o = {.max_rows = 1 + dice(dice(2) ? 12 : 100), .max_active = 1 + dice(12), .max_queued = MAX_COMPANY, .step_ms = 1000000,
                             .kv_bytes = some_budget(b)};
    assert_int_equal(sv_sched_new(&s, b->m, compute[i / (N_MODELS * n_paths) % 2], &events, &o, &err), SV_OK);
    for (int rounds = 1 + dice(2); rounds > 0; rounds--) /* the second finds a warm cache */
        crowd(s, b, path, i);
    sv_sched_get_stats(s, &stats);
    assert_int_equal(stats.kv_pages_used, 0);
    met.preempted += stats.preempted;
    met.cached += stats.cached_tokens;
}

static int number_of(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text && *text ? atoi(text) : otherwise;
}

static void tokens_are_the_same_bits_alone_and_in_any_company(void **state)
{
    (void)state;
    int n = number_of("SV_SCHEDULES", SCHEDULES), only = number_of("SV_SCHEDULE", -1);
    sv_compute *compute[2] = {sv_compute_new(1), sv_compute_new(2)};
    for (int i = 0; i < n; i++)
        if (only < 0 || only == i)
            one_schedule(i, compute);
    sv_kernels_select(NULL);
    sv_compute_free(compute[0]);
    sv_compute_free(compute[1]);
    print_message("%lld requests of %lld tokens compared, %lld canceled; %lld preemptions, %lld prompt tokens from the cache\n", (long long)met.compared,
                  (long long)met.tokens, (long long)met.canceled, (long long)met.preempted, (long long)met.cached);
    if (only < 0 && n >= 100) {
        assert_true(met.preempted > n / 8);
        assert_true(met.cached > 16 * n);
        assert_true(met.tokens > 40 * n);
    }
}

/* --- pages ---------------------------------------------------------------------------------------------------------- */

enum { LEN = 2 * SV_KV_PAGE };

static void fill_pages(const sv_llm *m, void *pages[2], const int32_t *tokens, int32_t cut, sv_pool *pool)
{
    sv_err err = {0};
    SV_AUTO(sv_llm_ws_freep) sv_llm_ws *ws = NULL;
    assert_int_equal(sv_llm_ws_new(&ws, m, LEN, &err), SV_OK);
    for (int i = 0; i < 2; i++) {
        pages[i] = sv_try_aligned(sv_llm_kv_page_bytes(m), 64);
        memset(pages[i], 0, sv_llm_kv_page_bytes(m));
    }
    for (int32_t at = 0; at < LEN; at += cut) {
        int32_t n = LEN - at < cut ? LEN - at : cut;
        sv_llm_step(m, ws, pool, &(sv_llm_chunk){.tokens = tokens + at, .n_tokens = n, .pos = at, .pages = pages}, 1);
    }
}

/* What lets a written page be shared: it does not matter whether a prompt or a text wrote it, nor in which pieces. */
static void a_page_holds_the_same_bits_whichever_way_it_was_written(void **state)
{
    (void)state;
    static const int32_t cuts[] = {1, 7, 32, 45};
    for (int model = 0; model < N_MODELS; model++)
        for (int path = 0; path < n_paths; path++) {
            assert_true(sv_kernels_select(paths[path]));
            bench *b = opened(model);
            size_t n_bytes = sv_llm_kv_page_bytes(b->m);
            void *whole[2], *parts[2];
            int32_t tokens[LEN];
            SV_AUTO(sv_pool_freep) sv_pool *one = sv_pool_new(1);
            SV_AUTO(sv_pool_freep) sv_pool *two = sv_pool_new(2);
            for (int i = 0; i < LEN; i++)
                tokens[i] = 3 + i * 7 % (sv_llm_get_info(b->m)->n_vocab - 3);
            fill_pages(b->m, whole, tokens, LEN, one);
            for (size_t c = 0; c < SV_LEN(cuts); c++) {
                fill_pages(b->m, parts, tokens, cuts[c], c % 2 ? one : two);
                for (int i = 0; i < 2; i++) {
                    if (memcmp(whole[i], parts[i], n_bytes) != 0)
                        fail_msg("%s, %s: page %d in pieces of %d is another one", name_of(model), paths[path], i, cuts[c]);
                    free(parts[i]);
                }
            }
            free(whole[0]);
            free(whole[1]);
        }
    sv_kernels_select(NULL);
}

static int find_paths(void **state)
{
    (void)state;
    for (size_t i = 0; i < SV_LEN(set_names); i++)
        if (sv_kernels_select(set_names[i]))
            paths[n_paths++] = set_names[i];
    return !sv_kernels_select(NULL);
}

static int close_all(void **state)
{
    (void)state;
    close_models();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_holds_the_same_bits_whichever_way_it_was_written),
        cmocka_unit_test(tokens_are_the_same_bits_alone_and_in_any_company),
    };
    return cmocka_run_group_tests(tests, find_paths, close_all);
}
