/* sampler_test.c - draws against probabilities computed in float64 from the definition (sampler.h)
 *
 * Tolerance: of n draws, a token of probability p comes n p times, give or take sqrt(n p (1 - p)). Five of those and one draw more are allowed;
 * with some hundred comparisons and fixed seeds that fails only if the sampler is wrong. */
#include "engine/sampler.h"

#include <math.h>
#include <string.h>

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
        cmocka_unit_test(draws_follow_the_distribution_of_every_combination),
        cmocka_unit_test(all_zeros_is_greedy_and_ties_go_to_the_lowest_id),
        cmocka_unit_test(penalties_do_what_their_formulas_say),
        cmocka_unit_test(the_seed_alone_decides_the_draws),
        cmocka_unit_test(numbers_that_are_none_are_never_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
