/* sampler_test.c - draws against probabilities computed in float64 from the definition (sampler.h)
 *
 * tests/reference/sampler.py has computed some of them, each filter alone and together, with the chi-squared value that a right sampler stays
 * under; here they are drawn. The rest are many combinations, checked against a second computation in this file.
 *
 * Tolerance: of n draws, a token of probability p comes n p times, give or take sqrt(n p (1 - p)). Five of those and one draw more are allowed;
 * with some hundred comparisons and fixed seeds that fails only if the sampler is wrong. */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { N = 50, DRAWS = 20000 };

/* --- the reference: whole sorts, float64 --------------------------------------------------------------------------- */

typedef struct ref { double p; int id; } ref;

static int by_p(const void *a, const void *b)
{
    const ref *x = a, *y = b;
    return x->p > y->p ? -1 : x->p < y->p ? 1 : x->id - y->id;
}

static void reference(double p[N], const float *logits, const sv_sampling *o)
{
    ref r[N];
    int n = N;
    double sum = 0, reached = 0;
    for (int i = 0; i < N; i++)
        r[i] = (ref){(double)logits[i] / (double)o->temperature, i};
    qsort(r, N, sizeof *r, by_p);
    for (int i = N - 1; i >= 0; i--)
        r[i].p = exp(r[i].p - r[0].p);
    if (o->top_k > 0 && o->top_k < n)
        n = o->top_k;
    for (int i = 0; i < n; i++)
        sum += r[i].p;
    for (int i = 0; i < n && o->top_p > 0 && o->top_p < 1; i++) {
        reached += r[i].p;
        if (reached >= (double)o->top_p * sum)
            n = i + 1;
    }
    int kept = 0;
    while (kept < n && (kept == 0 || r[kept].p >= (double)o->min_p))
        kept++;
    sum = 0;
    for (int i = 0; i < kept; i++)
        sum += r[i].p;
    memset(p, 0, N * sizeof *p);
    for (int i = 0; i < kept; i++)
        p[r[i].id] = r[i].p / sum;
}

static void some_logits(float *logits, uint32_t random, float scale)
{
    for (int i = 0; i < N; i++) {
        random = random * 1664525 + 1013904223;
        logits[i] = (float)(int32_t)random / (float)INT32_MAX * scale;
    }
}

static void draws_match(const float *logits, const sv_sampling *o)
{
    double p[N];
    int count[N] = {0};
    sv_err err = {0};
    SV_AUTO(sv_sampler_freep) sv_sampler *s = NULL;
    assert_int_equal(sv_sampler_new(&s, o, N, &err), SV_OK);
    reference(p, logits, o);
    for (int d = 0; d < DRAWS; d++) {
        float scratch[N];
        memcpy(scratch, logits, sizeof scratch);
        int32_t id = sv_sampler_next(s, scratch);
        assert_in_range(id, 0, N - 1);
        count[id]++;
    }
    for (int i = 0; i < N; i++) {
        double want = DRAWS * p[i], slack = p[i] > 0 ? 5 * sqrt(want * (1 - p[i])) + 1 : 0;
        if (fabs(count[i] - want) > slack)
            fail_msg("token %d: %d draws, %.1f expected (+- %.1f)", i, count[i], want, slack);
    }
}

static void draws_follow_the_distribution_of_every_combination(void **state)
{
    (void)state;
    static const float temperatures[] = {0.3f, 1, 2.5f}, top_ps[] = {0, 0.5f, 0.95f}, min_ps[] = {0, 0.1f};
    static const int32_t top_ks[] = {0, 1, 7, N, 1000};
    uint32_t seed = 1;
    float logits[N];
    for (size_t t = 0; t < SV_LEN(temperatures); t++)
        for (size_t p = 0; p < SV_LEN(top_ps); p++)
            for (size_t m = 0; m < SV_LEN(min_ps); m++)
                for (size_t k = 0; k < SV_LEN(top_ks); k++) {
                    some_logits(logits, ++seed, 4);
                    draws_match(logits, &(sv_sampling){.temperature = temperatures[t], .top_p = top_ps[p], .min_p = min_ps[m], .top_k = top_ks[k],
                                                       .has_seed = true, .seed = seed});
                }
}

/* --- what Python computed ------------------------------------------------------------------------------------------- */

enum { GOLDEN_N = 40, MAX_SEEN = 16, EQUAL = 1024 };

static json_t *goldens(void)
{
    json_t *j = NULL;
    sv_err err = {0};
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, 1 << 20);
    if (sv_file_read(&text, SV_SOURCE_ROOT "/tests/reference/sampler.json", &err) != SV_OK || sv_json_parse(&j, sv_buf_str(&text), &err) != SV_OK)
        fail_msg("%s", err.msg);
    return j;
}

static double number(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

static int32_t int_list(const json_t *list, int32_t *out, size_t max)
{
    assert_true(json_array_size(list) <= max);
    for (size_t i = 0; i < json_array_size(list); i++)
        out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return (int32_t)json_array_size(list);
}

static sv_sampling options_of(const json_t *o, sv_logit_bias *bias)
{
    size_t i;
    const json_t *pair, *list = json_object_get(o, "logit_bias");
    json_array_foreach(list, i, pair)
        bias[i] = (sv_logit_bias){(int32_t)json_integer_value(json_array_get(pair, 0)), (float)json_number_value(json_array_get(pair, 1))};
    return (sv_sampling){
        .temperature = (float)number(o, "temperature"), .top_k = (int32_t)number(o, "top_k"), .top_p = (float)number(o, "top_p"),
        .min_p = (float)number(o, "min_p"), .typical_p = (float)number(o, "typical_p"),
        .repetition_penalty = (float)number(o, "repetition_penalty"), .frequency_penalty = (float)number(o, "frequency_penalty"),
        .presence_penalty = (float)number(o, "presence_penalty"), .logit_bias = bias, .n_logit_bias = (int32_t)json_array_size(list),
        .has_seed = true, .seed = 2024};
}

/* Pearson's, with the tokens that are rarely expected taken together, as the script counts its degrees of freedom. */
static double chi_squared(const int *count, const double *p, int draws)
{
    double chi = 0, few = 0, few_drawn = 0;
    for (int i = 0; i < GOLDEN_N; i++) {
        double want = p[i] * draws;
        if (p[i] <= 0) {
            if (count[i] > 0)
                fail_msg("token %d came %d times and is none of those left", i, count[i]);
        } else if (want < 5) {
            few += want;
            few_drawn += count[i];
        } else {
            chi += (count[i] - want) * (count[i] - want) / want;
        }
    }
    return chi + (few > 0 ? (few_drawn - few) * (few_drawn - few) / few : 0);
}

static void draw_case(const json_t *c, size_t i, int draws)
{
    int32_t prompt[MAX_SEEN], text[MAX_SEEN];
    int32_t n_prompt = int_list(json_object_get(c, "prompt"), prompt, MAX_SEEN), n_text = int_list(json_object_get(c, "text"), text, MAX_SEEN);
    sv_logit_bias bias[8];
    const sv_sampling o = options_of(json_object_get(c, "options"), bias);
    float logits[GOLDEN_N];
    double p[GOLDEN_N];
    int count[GOLDEN_N] = {0};
    sv_err err = {0};
    SV_AUTO(sv_sampler_freep) sv_sampler *s = NULL;
    for (size_t t = 0; t < GOLDEN_N; t++) {
        logits[t] = (float)json_number_value(json_array_get(json_object_get(c, "logits"), t));
        p[t] = json_number_value(json_array_get(json_object_get(c, "p"), t));
    }
    assert_int_equal(sv_sampler_new(&s, &o, GOLDEN_N, &err), SV_OK);
    sv_sampler_see(s, prompt, n_prompt, true);
    sv_sampler_see(s, text, n_text, false);
    for (int d = 0; d < draws; d++) {
        float scratch[GOLDEN_N];
        memcpy(scratch, logits, sizeof scratch);
        count[sv_sampler_next(s, scratch)]++;
    }
    double chi = chi_squared(count, p, draws), limit = number(c, "chi2");
    if (chi > limit && limit > 0)
        fail_msg("case %zu: chi-squared is %.1f, over %.1f", i, chi, limit);
}

static void draws_follow_the_distributions_that_python_computed(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *j = goldens();
    size_t i;
    const json_t *c;
    assert_true(json_array_size(json_object_get(j, "cases")) >= 30);
    json_array_foreach(json_object_get(j, "cases"), i, c)
        draw_case(c, i, (int)number(j, "draws"));
}

/* What a seed means is a contract: a client that stored one gets the same draws from every version. */
static void a_seed_gives_the_numbers_of_splitmix64(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *j = goldens();
    size_t i;
    const json_t *c;
    json_array_foreach(json_object_get(j, "seeds"), i, c) {
        const sv_sampling o = {.temperature = 0.7f, .has_seed = true, .seed = strtoull(sv_json_cstr(c, "seed"), NULL, 10)};
        const json_t *tokens = json_object_get(c, "tokens");
        sv_err err = {0};
        SV_AUTO(sv_sampler_freep) sv_sampler *s = NULL;
        assert_int_equal(sv_sampler_new(&s, &o, EQUAL, &err), SV_OK);
        for (size_t t = 0; t < json_array_size(tokens); t++) {
            float logits[EQUAL] = {0};
            assert_int_equal(sv_sampler_next(s, logits), json_integer_value(json_array_get(tokens, t)));
        }
    }
}

static void log_probabilities_are_the_models_whatever_is_asked_of_the_sampler(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *j = goldens();
    static const sv_logit_bias bias[] = {{3, 50}, {5, -100}};
    static const int32_t seen[] = {1, 2, 3};
    const json_t *g = json_object_get(j, "logprobs");
    float logits[GOLDEN_N];
    double want[GOLDEN_N];
    for (size_t t = 0; t < GOLDEN_N; t++) {
        logits[t] = (float)json_number_value(json_array_get(json_object_get(g, "logits"), t));
        want[t] = json_number_value(json_array_get(json_object_get(g, "logprobs"), t));
    }
    const sv_sampling all[] = {
        {.logprobs = true},
        {.logprobs = true, .top_logprobs = 5},
        {.logprobs = true, .top_logprobs = 20, .temperature = 2, .top_k = 3, .has_seed = true},
        {.logprobs = true, .top_logprobs = 20, .logit_bias = bias, .n_logit_bias = 2, .repetition_penalty = 1.5f},
    };
    for (size_t i = 0; i < SV_LEN(all); i++) {
        sv_err err = {0};
        SV_AUTO(sv_sampler_freep) sv_sampler *s = NULL;
        assert_int_equal(sv_sampler_new(&s, &all[i], GOLDEN_N, &err), SV_OK);
        sv_sampler_see(s, seen, 3, false);
        float scratch[GOLDEN_N];
        memcpy(scratch, logits, sizeof scratch);
        int32_t id = sv_sampler_next(s, scratch);
        const sv_token_probs *p = sv_sampler_probs(s);
        assert_int_equal(p->chosen.token, id);
        assert_true(fabs((double)p->chosen.logprob - want[id]) < 1e-5);
        assert_int_equal(p->n_top, all[i].top_logprobs);
        for (int32_t t = 0; t < p->n_top; t++) {
            assert_true(fabs((double)p->top[t].logprob - want[p->top[t].token]) < 1e-5);
            assert_true(t == 0 || logits[p->top[t].token] <= logits[p->top[t - 1].token]);
        }
        int32_t better = 0; /* those before the last of the list are all in it */
        for (int32_t t = 0; t < GOLDEN_N && p->n_top > 0; t++)
            better += logits[t] > logits[p->top[p->n_top - 1].token];
        assert_true(better < p->n_top || p->n_top == 0);
    }
    float strange[GOLDEN_N];
    for (int i = 0; i < GOLDEN_N; i++)
        strange[i] = i % 2 ? NAN : -INFINITY;
    strange[4] = 3;
    sv_err err = {0};
    SV_AUTO(sv_sampler_freep) sv_sampler *s = NULL;
    assert_int_equal(sv_sampler_new(&s, &all[1], GOLDEN_N, &err), SV_OK);
    assert_int_equal(sv_sampler_next(s, strange), 4);
    assert_true(sv_sampler_probs(s)->chosen.logprob == 0 && sv_sampler_probs(s)->n_top == 1);
}

static int32_t next_of(const sv_sampling *o, const float *logits, const int32_t *prompt, int32_t n_prompt, const int32_t *text, int32_t n_text)
{
    float scratch[N];
    sv_err err = {0};
    SV_AUTO(sv_sampler_freep) sv_sampler *s = NULL;
    assert_int_equal(sv_sampler_new(&s, o, N, &err), SV_OK);
    sv_sampler_see(s, prompt, n_prompt, true);
    for (int32_t i = 0; i < n_text; i++)
        sv_sampler_see(s, &text[i], 1, false);
    memcpy(scratch, logits, sizeof scratch);
    return sv_sampler_next(s, scratch);
}

static void all_zeros_is_greedy_and_ties_go_to_the_lowest_id(void **state)
{
    (void)state;
    float logits[N] = {0};
    logits[7] = logits[30] = 2;
    assert_int_equal(next_of(&(sv_sampling){0}, logits, NULL, 0, NULL, 0), 7);
    assert_int_equal(next_of(&(sv_sampling){.top_k = 3, .top_p = 0.5f}, logits, NULL, 0, NULL, 0), 7);
    assert_int_equal(next_of(&(sv_sampling){.temperature = 1, .top_k = 1}, logits, NULL, 0, NULL, 0), 7);
}

static void penalties_do_what_their_formulas_say(void **state)
{
    (void)state;
    float logits[N];
    const int32_t prompt[] = {1, 2, 2}, text[] = {2, 3, 3, 3};
    for (int i = 0; i < N; i++)
        logits[i] = -100;
    logits[1] = 4, logits[2] = 4.1f, logits[3] = 4.2f, logits[9] = 3;
    assert_int_equal(next_of(&(sv_sampling){0}, logits, prompt, 3, text, 4), 3);
    /* 3 was written three times, 2 once, 1 never: 4.2 - 3 f, 4.1 - f, 4 */
    assert_int_equal(next_of(&(sv_sampling){.frequency_penalty = 0.07f}, logits, prompt, 3, text, 4), 2);
    assert_int_equal(next_of(&(sv_sampling){.frequency_penalty = 0.2f}, logits, prompt, 3, text, 4), 1); /* the prompt does not count */
    assert_int_equal(next_of(&(sv_sampling){.presence_penalty = 0.15f}, logits, prompt, 3, text, 4), 3); /* once, however often */
    assert_int_equal(next_of(&(sv_sampling){.presence_penalty = 0.25f}, logits, prompt, 3, text, 4), 1);
    assert_int_equal(next_of(&(sv_sampling){.repetition_penalty = 1.5f}, logits, prompt, 3, text, 4), 9); /* 4.2 / 1.5 < 3; the prompt counts */
    assert_int_equal(next_of(&(sv_sampling){.frequency_penalty = -1}, logits, prompt, 3, text, 4), 3);
    /* Negative logits get further from zero. */
    for (int i = 0; i < N; i++)
        logits[i] = -100;
    logits[1] = -1, logits[9] = -1.5f;
    assert_int_equal(next_of(&(sv_sampling){.repetition_penalty = 2}, logits, prompt, 3, text, 4), 9);
}

static void the_seed_alone_decides_the_draws(void **state)
{
    (void)state;
    enum { LEN = 200 };
    int32_t text[4][LEN];
    for (int run = 0; run < 4; run++) {
        const sv_sampling o = {.temperature = 1, .has_seed = run < 3, .seed = run < 2 ? 77 : 78};
        sv_err err = {0};
        SV_AUTO(sv_sampler_freep) sv_sampler *s = NULL;
        assert_int_equal(sv_sampler_new(&s, &o, N, &err), SV_OK);
        for (int i = 0; i < LEN; i++) {
            float logits[N];
            some_logits(logits, (uint32_t)i, 2);
            text[run][i] = sv_sampler_next(s, logits);
        }
    }
    assert_memory_equal(text[0], text[1], sizeof text[0]);
    assert_memory_not_equal(text[0], text[2], sizeof text[0]);
    assert_memory_not_equal(text[0], text[3], sizeof text[0]);
}

static void numbers_that_are_none_are_never_chosen(void **state)
{
    (void)state;
    float logits[N];
    for (int i = 0; i < N; i++)
        logits[i] = i % 3 ? NAN : -INFINITY;
    const sv_sampling all[] = {{0}, {.temperature = 1}, {.temperature = 1, .top_k = 5}, {.temperature = 1, .top_p = 0.9f}, {.temperature = 1e-30f}};
    for (size_t o = 0; o < SV_LEN(all); o++) {
        assert_int_equal(next_of(&all[o], logits, NULL, 0, NULL, 0), -1);
        logits[11] = -3e38f;
        assert_int_equal(next_of(&all[o], logits, NULL, 0, NULL, 0), 11);
        logits[12] = INFINITY;
        assert_int_equal(next_of(&all[o], logits, NULL, 0, NULL, 0), 12);
        logits[11] = logits[12] = NAN;
    }
    some_logits(logits, 3, 1);
    logits[20] = 1.5f;
    assert_int_equal(next_of(&(sv_sampling){.temperature = 1e-30f}, logits, NULL, 0, NULL, 0), 20); /* no overflow, no NaN */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_distributions_that_python_computed),
        cmocka_unit_test(draws_follow_the_distribution_of_every_combination),
        cmocka_unit_test(a_seed_gives_the_numbers_of_splitmix64),
        cmocka_unit_test(log_probabilities_are_the_models_whatever_is_asked_of_the_sampler),
        cmocka_unit_test(all_zeros_is_greedy_and_ties_go_to_the_lowest_id),
        cmocka_unit_test(penalties_do_what_their_formulas_say),
        cmocka_unit_test(the_seed_alone_decides_the_draws),
        cmocka_unit_test(numbers_that_are_none_are_never_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
