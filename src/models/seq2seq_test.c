/* BART and M2M100, checked against numbers and texts of transformers in float32 (tests/reference/seq2seq_tiny.py) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "models/seq2seq.h"

#define REFERENCE SV_SOURCE_ROOT "/tests/reference/"

static json_t *goldens;
static sv_pool *pool;

static int set_up(void **state)
{
    sv_buf b;
    sv_err err = {0};
    (void)state;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_file_read(&b, REFERENCE "seq2seq-tiny.json", &err), SV_OK);
    assert_int_equal(sv_json_parse(&goldens, sv_buf_str(&b), &err), SV_OK);
    sv_buf_done(&b);
    pool = sv_pool_new(2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(goldens);
    sv_pool_free(pool);
    return 0;
}

static sv_seq2seq *open_tiny(const char *name)
{
    sv_seq2seq *m = NULL;
    sv_err err = {0};
    SV_AUTO(sv_freep) char *path = sv_xasprintf(REFERENCE "seq2seq/%s", name);
    assert_true(sv_seq2seq_is(path));
    if (sv_seq2seq_open(&m, path, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return m;
}

static sv_seq2seq_text text_of(const sv_seq2seq *m, const json_t *c, int32_t n_beams)
{
    sv_seq2seq_text t = {.text = sv_str_of(sv_json_cstr(c, "text")), .n_beams = n_beams};
    if (sv_seq2seq_get_info(m)->translates)
        t.target = SV_STR("French");
    return t;
}

static void check_ids(const char *name, size_t i_case, const char *what, const json_t *want, sv_tokens got)
{
    assert_int_equal(json_array_size(want), got.n);
    for (size_t i = 0; i < got.n; i++)
        if (json_integer_value(json_array_get(want, i)) != got.v[i])
            fail_msg("%s, case %zu, %s: token %zu is %d, wanted %lld", name, i_case, what, i, got.v[i], (long long)json_integer_value(json_array_get(want, i)));
}

static sv_seq2seq_run *begin(const sv_seq2seq *m, const sv_seq2seq_text *t)
{
    sv_seq2seq_run *r = NULL;
    sv_err err = {0};
    if (sv_seq2seq_begin(&r, m, t, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return r;
}

static void logits_are_those_of_transformers(void **state)
{
    const char *name;
    json_t *cases;
    const json_t *c;
    size_t i;
    (void)state;
    json_object_foreach(goldens, name, cases) {
        SV_AUTO(sv_seq2seq_closep) sv_seq2seq *m = open_tiny(name);
        float *logits = sv_xcalloc((size_t)sv_seq2seq_get_info(m)->n_vocab, sizeof *logits);
        json_array_foreach(cases, i, c) {
            sv_seq2seq_text t = text_of(m, c, 0);
            sv_tokens ids = {0};
            sv_err err = {0};
            int32_t given[4];
            assert_int_equal(sv_seq2seq_tokens(m, &t, &ids, &err), SV_OK);
            check_ids(name, i, "source", json_object_get(c, "ids"), ids);
            free(ids.v);
            for (size_t k = 0; k < 4; k++)
                given[k] = (int32_t)json_integer_value(json_array_get(json_object_get(c, "given"), k));
            for (int32_t n = 3; n <= 4; n++) {
                SV_AUTO(sv_seq2seq_run_freep) sv_seq2seq_run *r = begin(m, &t);
                const json_t *want = json_array_get(json_object_get(c, "logits"), (size_t)n - 3);
                double largest = 0, worst = 0;
                sv_seq2seq_logits(r, pool, given, n, logits);
                for (size_t k = 0; k < json_array_size(want); k++) {
                    double w = json_number_value(json_array_get(want, k)), d = fabs(w - (double)logits[k]);
                    largest = fabs(w) > largest ? fabs(w) : largest;
                    worst = d > worst || isnan(d) ? d : worst;
                }
                if (!(worst <= 1e-4 * largest))
                    fail_msg("%s, case %zu: off by %g of %g", name, i, worst, largest);
            }
        }
        free(logits);
    }
}

static void texts_are_those_of_generate(void **state)
{
    const char *name;
    json_t *cases;
    const json_t *c;
    size_t i;
    (void)state;
    json_object_foreach(goldens, name, cases) {
        SV_AUTO(sv_seq2seq_closep) sv_seq2seq *m = open_tiny(name);
        json_array_foreach(cases, i, c) {
            sv_seq2seq_text t = text_of(m, c, 0);
            SV_AUTO(sv_seq2seq_run_freep) sv_seq2seq_run *r = begin(m, &t);
            SV_AUTO(sv_buf_donep) sv_buf text;
            sv_err err = {0};
            int32_t n_read, n_written;
            sv_buf_init(&text, 0);
            while (sv_seq2seq_step(r, pool))
                continue;
            check_ids(name, i, "beams", json_object_get(c, "out"), sv_seq2seq_ids(r));
            assert_int_equal(sv_seq2seq_written(r, &text, &n_read, &n_written, &err), SV_OK);
            assert_int_equal(n_read, json_array_size(json_object_get(c, "ids")));
            assert_string_equal(sv_buf_cstr(&text), sv_json_cstr(c, "written"));
            t.n_beams = 1;
            SV_AUTO(sv_seq2seq_run_freep) sv_seq2seq_run *one = begin(m, &t);
            while (sv_seq2seq_step(one, pool))
                continue;
            check_ids(name, i, "one beam", json_object_get(c, "greedy"), sv_seq2seq_ids(one));
        }
    }
}

static void an_unknown_language_is_refused_by_name(void **state)
{
    (void)state;
    SV_AUTO(sv_seq2seq_closep) sv_seq2seq *m = open_tiny("m2m_100");
    sv_seq2seq_run *r = NULL;
    sv_err err = {0};
    assert_int_equal(sv_seq2seq_begin(&r, m, &(sv_seq2seq_text){.text = SV_STR("a"), .target = SV_STR("klingon")}, &err), SV_EINVAL);
    assert_int_equal(err.api_code, 5006);
    assert_non_null(strstr(err.msg, "'/target_lang': 'klingon'"));
    assert_int_equal(sv_seq2seq_begin(&r, m, &(sv_seq2seq_text){.text = SV_STR("a"), .target = SV_STR("DE"), .source = SV_STR("xx")}, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "'/source_lang': 'xx'"));
}

static void a_long_text_is_cut_to_what_the_model_reads(void **state)
{
    (void)state;
    SV_AUTO(sv_seq2seq_closep) sv_seq2seq *m = open_tiny("bart");
    sv_tokens t = {0};
    sv_err err = {0};
    size_t n = 300000;
    char *text = malloc(n);
    memset(text, 'x', n);
    assert_int_equal(sv_seq2seq_tokens(m, &(sv_seq2seq_text){.text = {text, n}}, &t, &err), SV_OK);
    assert_int_equal(t.n, 80);
    assert_int_equal(t.v[79], 2); /* its end is still the last */
    free(t.v);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_transformers),
        cmocka_unit_test(texts_are_those_of_generate),
        cmocka_unit_test(an_unknown_language_is_refused_by_name),
        cmocka_unit_test(a_long_text_is_cut_to_what_the_model_reads),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
