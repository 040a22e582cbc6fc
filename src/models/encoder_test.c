/* Text encoders, checked against numbers of transformers in float32 (tests/reference/encoders_tiny.py, embedders_tiny.py) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "models/encoder.h"

#define REFERENCE SV_SOURCE_ROOT "/tests/reference/"

enum { MAX_CASES = 32 };

static json_t *goldens;

static int read_goldens(void **state)
{
    (void)state;
    sv_buf b;
    sv_err err = {0};
    sv_buf_init(&b, 0);
    assert_int_equal(sv_file_read(&b, REFERENCE "encoders-tiny.json", &err), SV_OK);
    assert_int_equal(sv_json_parse(&goldens, sv_buf_str(&b), &err), SV_OK);
    sv_buf_reset(&b);
    assert_int_equal(sv_file_read(&b, REFERENCE "embedders-tiny.json", &err), SV_OK);
    SV_AUTO(sv_json_decrefp) json_t *decoders = NULL;
    assert_int_equal(sv_json_parse(&decoders, sv_buf_str(&b), &err), SV_OK);
    json_object_update(goldens, decoders);
    sv_buf_done(&b);
    return 0;
}

static int drop_goldens(void **state)
{
    (void)state;
    json_decref(goldens);
    return 0;
}

static sv_encoder *open_tiny(const char *name)
{
    sv_encoder *e = NULL;
    sv_err err = {0};
    SV_AUTO(sv_freep) char *path = sv_xasprintf(REFERENCE "encoders/%s", name);
    assert_true(sv_encoder_is(path));
    if (sv_encoder_open(&e, path, &err) != SV_OK)
        fail_msg("%s: %s", name, err.msg);
    return e;
}

static sv_str text_at(const json_t *c, size_t i)
{
    const json_t *t = json_array_get(json_object_get(c, "texts"), i);
    return (sv_str){json_string_value(t), json_string_length(t)};
}

static void tokens_of(const sv_encoder *e, const json_t *c, sv_tokens *out, int32_t *n_first)
{
    sv_err err = {0};
    sv_str pair = text_at(c, 1);
    bool has_pair = json_array_size(json_object_get(c, "texts")) == 2;
    if (sv_encoder_tokens(e, &(sv_encoder_text){.text = text_at(c, 0), .pair = has_pair ? &pair : NULL, .cut = true}, out, n_first, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static void check_ids(const char *name, size_t i_case, const json_t *c, const sv_tokens *t)
{
    const json_t *want = json_object_get(c, "ids");
    if (json_array_size(want) != t->n)
        fail_msg("%s, case %zu: %zu tokens, wanted %zu", name, i_case, t->n, json_array_size(want));
    for (size_t i = 0; i < t->n; i++)
        if (json_integer_value(json_array_get(want, i)) != t->v[i])
            fail_msg("%s, case %zu: token %zu is %d, wanted %lld", name, i_case, i, t->v[i], (long long)json_integer_value(json_array_get(want, i)));
}

/* Within 1e-4 of the largest number of the vector. */
static void check_vector(const char *name, size_t i_case, const char *what, const json_t *c, const float *v, int32_t n)
{
    const json_t *want = json_object_get(c, what);
    double largest = 0, worst = 0;
    assert_int_equal(json_array_size(want), n);
    for (int32_t i = 0; i < n; i++) {
        double w = json_number_value(json_array_get(want, (size_t)i)), d = fabs(w - (double)v[i]);
        largest = fabs(w) > largest ? fabs(w) : largest;
        worst = d > worst || isnan(d) ? d : worst;
    }
    if (!(worst <= 1e-4 * largest))
        fail_msg("%s, case %zu, %s: off by %g of %g", name, i_case, what, worst, largest);
}

static void run(const sv_encoder *e, int n_threads, const sv_encoder_seq *seqs, int32_t n, sv_encoder_want want)
{
    SV_AUTO(sv_encoder_ws_freep) sv_encoder_ws *ws = NULL;
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(n_threads);
    sv_err err = {0};
    assert_int_equal(sv_encoder_ws_new(&ws, e, 1024, &err), SV_OK);
    sv_encoder_run(e, ws, pool, seqs, n, want);
}

static void numbers_are_those_of_transformers(void **state)
{
    const char *name;
    json_t *golden;
    const json_t *c;
    size_t i;
    (void)state;
    json_object_foreach(goldens, name, golden) {
        SV_AUTO(sv_encoder_closep) sv_encoder *e = open_tiny(name);
        const sv_encoder_info *info = sv_encoder_get_info(e);
        assert_int_equal(info->n_ctx, json_integer_value(json_object_get(golden, "n_ctx")));
        json_array_foreach(json_object_get(golden, "cases"), i, c) {
            sv_tokens t = {0};
            float v[64];
            sv_encoder_seq seq = {.out = v};
            tokens_of(e, c, &t, &seq.n_first);
            check_ids(name, i, c, &t);
            seq.tokens = t.v;
            seq.n_tokens = (int32_t)t.n;
            run(e, 2, &seq, 1, SV_WANT_CLS);
            check_vector(name, i, info->pooling == SV_POOL_LAST ? "last" : "cls", c, v, info->n_embd);
            run(e, 2, &seq, 1, SV_WANT_MEAN);
            check_vector(name, i, info->pooling == SV_POOL_LAST ? "last" : "mean", c, v, info->n_embd);
            if (info->n_labels > 0) {
                run(e, 2, &seq, 1, SV_WANT_LOGITS);
                check_vector(name, i, "logits", c, v, info->n_labels);
            }
            free(t.v);
        }
    }
}

/* All cases alone, then all together, in both orders, on one thread and on three. */
static void company_changes_no_bit(void **state)
{
    const char *name;
    json_t *golden;
    (void)state;
    json_object_foreach(goldens, name, golden) {
        SV_AUTO(sv_encoder_closep) sv_encoder *e = open_tiny(name);
        const json_t *cases = json_object_get(golden, "cases");
        int32_t n = (int32_t)json_array_size(cases), n_embd = sv_encoder_get_info(e)->n_embd;
        sv_tokens t[MAX_CASES] = {{0}};
        sv_encoder_seq alone[MAX_CASES], together[MAX_CASES];
        static float a[MAX_CASES][64], b[MAX_CASES][64];
        assert_in_range(n, 2, MAX_CASES);
        for (int32_t i = 0; i < n; i++) {
            alone[i] = (sv_encoder_seq){.out = a[i]};
            tokens_of(e, json_array_get(cases, (size_t)i), &t[i], &alone[i].n_first);
            alone[i].tokens = t[i].v;
            alone[i].n_tokens = (int32_t)t[i].n;
            run(e, 1, &alone[i], 1, SV_WANT_MEAN);
        }
        for (int turn = 0; turn < 4; turn++) {
            for (int32_t i = 0; i < n; i++) {
                int32_t from = turn % 2 ? n - 1 - i : i;
                together[i] = alone[from];
                together[i].out = b[from];
            }
            memset(b, 0, sizeof b);
            run(e, turn < 2 ? 1 : 3, together, n, SV_WANT_MEAN);
            for (int32_t i = 0; i < n; i++)
                if (memcmp(a[i], b[i], (size_t)n_embd * sizeof(float)) != 0)
                    fail_msg("%s: case %d differs in turn %d", name, i, turn);
        }
        for (int32_t i = 0; i < n; i++)
            free(t[i].v);
    }
}

/* 960 tokens are two steps, with a border inside of a sequence. */
static void a_decoder_computes_a_long_batch_in_steps(void **state)
{
    (void)state;
    SV_AUTO(sv_encoder_closep) sv_encoder *e = open_tiny("qwen3-embedding");
    SV_AUTO(sv_encoder_ws_freep) sv_encoder_ws *ws = NULL;
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(2);
    enum { N = 10 };
    float alone[48], v[N][48];
    sv_err err = {0};
    sv_tokens t = {0};
    sv_encoder_seq seqs[N], one;
    char text[400] = "";
    int32_t n_first;
    for (int i = 0; i < 90; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%d ", i % 10);
    assert_int_equal(sv_encoder_tokens(e, &(sv_encoder_text){.text = sv_str_of(text), .cut = true}, &t, &n_first, &err), SV_OK);
    assert_int_equal(t.n, 96);
    for (int i = 0; i < N; i++)
        seqs[i] = (sv_encoder_seq){.tokens = t.v, .n_tokens = 96, .n_first = 96, .out = v[i]};
    one = seqs[0];
    one.out = alone;
    assert_int_equal(sv_encoder_ws_new(&ws, e, 1024, &err), SV_OK);
    sv_encoder_run(e, ws, pool, &one, 1, SV_WANT_MEAN);
    assert_int_equal(sv_encoder_n_steps(e, ws), 1);
    sv_encoder_run(e, ws, pool, seqs, N, SV_WANT_MEAN);
    assert_int_equal(sv_encoder_n_steps(e, ws), 2);
    for (int i = 0; i < N; i++)
        assert_memory_equal(v[i], alone, sizeof alone);
    free(t.v);
}

static void labels_are_those_of_the_config(void **state)
{
    (void)state;
    SV_AUTO(sv_encoder_closep) sv_encoder *e = open_tiny("distilbert"), *plain = NULL;
    plain = open_tiny("bert");
    assert_int_equal(sv_encoder_get_info(e)->n_labels, 2);
    assert_string_equal(sv_encoder_label(e, 0), "NEGATIVE");
    assert_string_equal(sv_encoder_label(e, 1), "POSITIVE");
    assert_string_equal(sv_encoder_label(e, 2), "");
    assert_int_equal(sv_encoder_get_info(plain)->n_labels, 0);
    sv_encoder_close(plain);
    plain = NULL;
}

static void a_text_that_is_too_long_is_cut_or_refused_as_asked(void **state)
{
    (void)state;
    SV_AUTO(sv_encoder_closep) sv_encoder *e = open_tiny("bert");
    sv_tokens t = {0}, s = {0};
    sv_err err = {0};
    int32_t n_first;
    enum { N = 300000 };
    char *text = malloc(N * 4), *word = malloc(N);
    for (int i = 0; i < N; i++)
        memcpy(text + 4 * i, "the ", 4);
    memset(word, 'a', N);
    assert_int_equal(sv_encoder_tokens(e, &(sv_encoder_text){.text = {text, N * 4}}, &t, &n_first, &err), SV_ELIMIT);
    assert_int_equal(err.api_code, 5021);
    assert_int_equal(t.n, 0);
    assert_int_equal(sv_encoder_tokens(e, &(sv_encoder_text){.text = {text, N * 4}, .cut = true}, &t, &n_first, &err), SV_OK);
    assert_int_equal(t.n, 41);
    assert_int_equal(t.v[40], 3); /* [SEP] is still the last */
    t.n = 0;
    assert_int_equal(sv_encoder_tokens(e, &(sv_encoder_text){.text = {text, N * 4}, .cut = true, .max_tokens = 12}, &t, &n_first, &err), SV_OK);
    assert_int_equal(t.n, 12);
    t.n = 0;
    assert_int_equal(sv_encoder_tokens(e, &(sv_encoder_text){.text = {word, N}, .cut = true}, &t, &n_first, &err), SV_OK);
    assert_int_equal(t.n, 3); /* one unknown word, however long */
    t.n = 0;
    assert_int_equal(sv_encoder_tokens(e, &(sv_encoder_text){.text = SV_STR("\xff\xfe river \x80")}, &s, &n_first, &err), SV_OK);
    assert_true(s.n >= 3);
    free(text);
    free(word);
    free(t.v);
    free(s.v);
}

static char *copy_with(const char *from, const char *file, const char *content)
{
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json"};
    char tmpl[] = "/tmp/sv-encoder-XXXXXX";
    sv_err err = {0};
    char *dir = sv_xstrdup(mkdtemp(tmpl));
    for (size_t i = 0; i < SV_LEN(names); i++) {
        SV_AUTO(sv_buf_donep) sv_buf b;
        SV_AUTO(sv_freep) char *src = sv_xasprintf(REFERENCE "encoders/%s/%s", from, names[i]), *dst = sv_xasprintf("%s/%s", dir, names[i]);
        sv_buf_init(&b, 0);
        assert_int_equal(sv_file_read(&b, src, &err), SV_OK);
        FILE *f = fopen(dst, "wb");
        if (strcmp(file, names[i]) == 0)
            fputs(content, f);
        else
            fwrite(b.p, 1, b.n, f);
        fclose(f);
        free(dst);
        dst = NULL;
    }
    return dir;
}

static void refused(const char *file, const char *content, const char *words)
{
    sv_encoder *e = NULL;
    sv_err err = {0};
    char *dir = copy_with("bert", file, content);
    assert_int_equal(sv_encoder_open(&e, dir, &err), SV_EFORMAT);
    if (!strstr(err.msg, words))
        fail_msg("'%s' does not say '%s'", err.msg, words);
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json"};
    for (size_t i = 0; i < SV_LEN(names); i++) {
        SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
    free(dir);
}

static void what_does_not_fit_together_is_refused_by_name(void **state)
{
    (void)state;
#define C(more) "{\"model_type\":\"bert\",\"hidden_size\":36,\"num_hidden_layers\":2,\"num_attention_heads\":3,\"intermediate_size\":70," \
                "\"max_position_embeddings\":41,\"vocab_size\":156" more "}"
    refused("config.json", "{\"model_type\":\"bert\"}", "'hidden_size' is missing");
    refused("config.json", C(",\"hidden_act\":\"mish\""), "mish");
    refused("config.json", C(",\"position_embedding_type\":\"relative_key\""), "relative_key");
    refused("config.json", C(",\"is_decoder\":true"), "is_decoder");
    refused("config.json", C(",\"num_attention_heads\":5"), "divide");
    refused("config.json", C(",\"num_hidden_layers\":3"), "encoder.layer.2.");
    refused("config.json", C(",\"architectures\":[\"BertForSequenceClassification\"]"), "pooler");
    refused("config.json", C(",\"max_position_embeddings\":40"), "position_embeddings");
    refused("model.safetensors", "short", "");
    refused("tokenizer.json", "{}", "tokenizer.json");
#undef C
}

static void special_tokens_that_leave_no_room_for_a_text_are_refused(void **state)
{
    (void)state;
    enum { LEFT = 10 };
    sv_err err = {0};
    json_error_t ignored;
    sv_encoder *e = NULL;
    SV_AUTO(sv_json_decrefp) json_t *config = json_load_file(REFERENCE "encoders/xlm-roberta/config.json", 0, &ignored),
                                   *tokenizer = json_load_file(REFERENCE "encoders/xlm-roberta/tokenizer.json", 0, &ignored);
    int64_t n_positions = json_integer_value(json_object_get(config, "max_position_embeddings"));
    json_object_set_new(config, "pad_token_id", json_integer(n_positions - 1 - LEFT)); /* the first positions are the padding's */
    SV_AUTO(sv_freep) char *text = json_dumps(config, 0);
    SV_AUTO(sv_freep) char *dir = copy_with("xlm-roberta", "config.json", text);
    assert_int_equal(sv_encoder_open(&e, dir, &err), SV_OK);
    assert_int_equal(sv_encoder_get_info(e)->n_ctx, LEFT);
    sv_encoder_close(e);

    json_t *single = json_object_get(json_object_get(tokenizer, "post_processor"), "single");
    for (int i = 0; i < 3; i++)
        json_array_append(single, json_array_get(single, json_array_size(single) - 1));
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/tokenizer.json", dir);
    assert_int_equal(json_dump_file(tokenizer, path, 0), 0);
    assert_int_equal(sv_encoder_open(&e, dir, &err), SV_EFORMAT);
    if (!strstr(err.msg, "13 tokens around a pair") || !strstr(err.msg, dir))
        fail_msg("%s", err.msg);
    assert_int_equal(sv_remove_tree(dir, &err), SV_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_transformers),
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(a_decoder_computes_a_long_batch_in_steps),
        cmocka_unit_test(labels_are_those_of_the_config),
        cmocka_unit_test(a_text_that_is_too_long_is_cut_or_refused_as_asked),
        cmocka_unit_test(what_does_not_fit_together_is_refused_by_name),
        cmocka_unit_test(special_tokens_that_leave_no_room_for_a_text_are_refused),
    };
    return cmocka_run_group_tests_name("encoder", tests, read_goldens, drop_goldens);
}
