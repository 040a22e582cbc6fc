/* Whisper's encoder, decoder and files, checked against transformers in float32 (tests/reference/whisper_tiny.py) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "models/whisper_impl.h"

#define REFERENCE SV_SOURCE_ROOT "/tests/reference/"

static json_t *goldens;

static int read_goldens(void **state)
{
    sv_buf b;
    sv_err err = {0};
    (void)state;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_file_read(&b, REFERENCE "whisper-tiny.json", &err), SV_OK);
    assert_int_equal(sv_json_parse(&goldens, sv_buf_str(&b), &err), SV_OK);
    sv_buf_done(&b);
    return 0;
}

static int drop_goldens(void **state)
{
    (void)state;
    json_decref(goldens);
    return 0;
}

static sv_whisper *open_ok(const char *name)
{
    sv_whisper *m = NULL;
    sv_err err = {0};
    SV_AUTO(sv_freep) char *path = sv_xasprintf(REFERENCE "whisper/%s", name);
    assert_true(sv_whisper_is(path));
    if (sv_whisper_open(&m, path, &err) != SV_OK)
        fail_msg("%s: %s", name, err.msg);
    return m;
}

/* As the script makes them, turned: [frame][mel]. */
static float *features(const sv_whisper_info *info)
{
    float *x = sv_xcalloc((size_t)info->n_audio_ctx * 2 * (size_t)info->n_mels, sizeof *x);
    for (int32_t i = 0; i < 2 * info->n_audio_ctx; i++)
        for (int32_t k = 0; k < info->n_mels; k++)
            x[i * info->n_mels + k] = (float)((k * 37 + i * 11 + k * i % 13) % 41 - 20) / 20;
    return x;
}

static void encode(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool)
{
    SV_AUTO(sv_freep) float *mel = features(sv_whisper_get_info(m));
    sv_whisper_encode_begin(m, ws, pool, mel);
    for (int32_t i = 0; i < sv_whisper_get_info(m)->n_audio_layer; i++)
        sv_whisper_encode_layer(m, ws, pool, i);
    sv_whisper_encode_end(m, ws, pool);
}

/* Within 1e-4 of the row's largest number. */
static void check_row(const char *what, const json_t *want, const float *v, int32_t n)
{
    double largest = 0, worst = 0;
    assert_int_equal(json_array_size(want), n);
    for (int32_t i = 0; i < n; i++) {
        double w = json_number_value(json_array_get(want, (size_t)i)), d = fabs(w - (double)v[i]);
        largest = fmax(largest, fabs(w));
        worst = d > worst || isnan(d) ? d : worst;
    }
    if (!(worst <= 1e-4 * largest))
        fail_msg("%s: off by %g of %g", what, worst, largest);
}

static void check_model(const char *name, const json_t *golden, int n_threads)
{
    SV_AUTO(sv_whisper_closep) sv_whisper *m = open_ok(name);
    SV_AUTO(sv_whisper_ws_freep) sv_whisper_ws *ws = NULL;
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(n_threads);
    const sv_whisper_info *info = sv_whisper_get_info(m);
    const json_t *rows = json_object_get(golden, "rows"), *at = json_object_get(golden, "at"), *tokens = json_object_get(golden, "tokens");
    sv_err err = {0};
    int32_t ids[64], n = (int32_t)json_array_size(tokens);
    assert_int_equal(sv_whisper_ws_new(&ws, m, &err), SV_OK);
    encode(m, ws, pool);
    for (size_t i = 0; i < json_array_size(rows); i++)
        check_row("states", json_array_get(json_object_get(golden, "states"), i),
                  sv_whisper_states(ws) + json_integer_value(json_array_get(rows, i)) * info->n_audio_state, info->n_audio_state);
    for (int32_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(tokens, (size_t)i));

    SV_AUTO(sv_freep) float *all = sv_xcalloc((size_t)n * (size_t)info->n_vocab, sizeof *all);
    SV_AUTO(sv_freep) float *last = sv_xcalloc((size_t)info->n_vocab, sizeof *last);
    sv_whisper_decode(m, ws, pool, &(sv_whisper_chunk){.tokens = ids, .n_tokens = n, .all = all, .logits = last}, 1, NULL);
    for (size_t i = 0; i < json_array_size(at); i++)
        check_row("logits", json_array_get(json_object_get(golden, "logits"), i), all + json_integer_value(json_array_get(at, i)) * info->n_vocab, info->n_vocab);
    assert_memory_equal(last, all + (n - 1) * info->n_vocab, (size_t)info->n_vocab * sizeof *last);

    /* One at a time, in another sequence, is the same to the bit; and so is a copy of its first half beside another text. */
    for (int32_t i = 0; i < n; i++) {
        sv_whisper_decode(m, ws, pool, &(sv_whisper_chunk){.tokens = ids + i, .n_tokens = 1, .pos = i, .seq = 3, .logits = last}, 1, NULL);
        assert_memory_equal(last, all + i * info->n_vocab, (size_t)info->n_vocab * sizeof *last);
    }
    sv_whisper_copy_seq(m, ws, 5, 3, n / 2);
    SV_AUTO(sv_freep) float *other = sv_xcalloc((size_t)info->n_vocab, sizeof *other);
    sv_whisper_decode(m, ws, pool, (sv_whisper_chunk[]){{.tokens = ids + 4, .n_tokens = 2, .seq = 1, .logits = other},
                                                       {.tokens = ids + n / 2, .n_tokens = n - n / 2, .pos = n / 2, .seq = 5, .logits = last}}, 2, NULL);
    assert_memory_equal(last, all + (n - 1) * info->n_vocab, (size_t)info->n_vocab * sizeof *last);
}

static void numbers_are_those_of_transformers(void **state)
{
    (void)state;
    check_model("multi", json_object_get(goldens, "multi"), 1);
    check_model("multi", json_object_get(goldens, "multi"), 3);
    check_model("odd", json_object_get(goldens, "odd"), 2);
}

static void a_file_of_whisper_cpp_is_the_same_model(void **state)
{
    SV_AUTO(sv_whisper_closep) sv_whisper *a = open_ok("multi");
    SV_AUTO(sv_whisper_closep) sv_whisper *b = open_ok("ggml-multi.bin");
    const sv_whisper_info *i = sv_whisper_get_info(a), *k = sv_whisper_get_info(b);
    static const char *const texts[] = {"the sound and the one word", " and; (strange) -- \"signs\" ♪♪", "x\xff\xfe y", "is12  's", ""};
    (void)state;
    check_model("ggml-multi.bin", json_object_get(goldens, "multi"), 2);
    assert_memory_equal(sv_whisper_get_tokens(a), sv_whisper_get_tokens(b), sizeof(sv_whisper_tokens));
    assert_int_equal(i->n_langs, 4);
    assert_true(i->multilingual && k->multilingual && i->n_vocab == k->n_vocab && i->n_text_ctx == k->n_text_ctx);
    assert_string_equal(i->weights, "F16");
    for (size_t t = 0; t < SV_LEN(texts); t++) {
        sv_tokens x = {0}, y = {0};
        sv_err err = {0};
        assert_int_equal(sv_tokenizer_encode(sv_whisper_tokenizer(a), sv_str_of(texts[t]), 0, 256, &x, &err), SV_OK);
        assert_int_equal(sv_tokenizer_encode(sv_whisper_tokenizer(b), sv_str_of(texts[t]), 0, 256, &y, &err), SV_OK);
        assert_int_equal(x.n, y.n);
        if (x.n)
            assert_memory_equal(x.v, y.v, x.n * sizeof *x.v);
        free(x.v);
        free(y.v);
    }
}

static int by_value(const void *a, const void *b) { return *(const int32_t *)a - *(const int32_t *)b; }

/* The folder says them; of the file they are found by encoding the signs. */
static void what_is_no_speech_is_found_without_a_list(void **state)
{
    SV_AUTO(sv_whisper_closep) sv_whisper *m = open_ok("ggml-multi.bin");
    const json_t *want = json_object_get(goldens, "suppressed");
    size_t n;
    (void)state;
    const int32_t *ids = sv_whisper_suppressed(m, &n);
    assert_int_equal(n, json_array_size(want));
    SV_AUTO(sv_freep) int32_t *sorted = sv_xcalloc(n, sizeof *sorted);
    memcpy(sorted, ids, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(sorted[i], json_integer_value(json_array_get(want, i)));
    ids = sv_whisper_begin_suppressed(m, &n);
    assert_int_equal(n, 2);
    assert_int_equal(ids[1], sv_whisper_get_tokens(m)->eot);
}

static void languages_are_found_by_code_and_name(void **state)
{
    SV_AUTO(sv_whisper_closep) sv_whisper *m = open_ok("multi");
    (void)state;
    assert_int_equal(sv_whisper_find_lang(m, SV_STR("en")), 0);
    assert_int_equal(sv_whisper_find_lang(m, SV_STR("German")), 2);
    assert_int_equal(sv_whisper_find_lang(m, SV_STR("DE")), 2);
    assert_int_equal(sv_whisper_find_lang(m, SV_STR("fr")), -1); /* Whisper has it, this model not */
    assert_int_equal(sv_whisper_find_lang(m, SV_STR("")), -1);
}

static void open_fails(const char *path, sv_rc rc, const char *words)
{
    sv_whisper *m = NULL;
    sv_err err = {0};
    assert_int_equal(sv_whisper_open(&m, path, &err), rc);
    if (!strstr(err.msg, words))
        fail_msg("'%s' does not say '%s'", err.msg, words);
    assert_null(m);
}

static void broken_files_are_refused_by_name(void **state)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_err err = {0};
    char path[] = "/tmp/whisper-test-XXXXXX";
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    close(fd);
    sv_buf_init(&b, 0);
    assert_int_equal(sv_file_read(&b, REFERENCE "whisper/ggml-multi.bin", &err), SV_OK);
    for (size_t n = 0; n < b.n; n += 1 + n / 7) { /* cut at many places: never more than is there */
        wsp_ggml *g = NULL;
        SV_AUTO(sv_freep) char *part = malloc(n ? n : 1);
        memcpy(part, b.p, n);
        if (wsp_ggml_parse(&g, part, n, &err) == SV_OK)
            wsp_ggml_close(g);
    }
    struct { size_t at; uint8_t v; const char *words; } breaks[] = {
        {4, 1, "ids"}, {12, 25, "states of 25 in the encoder"}, {16, 5, "heads"}, {40, 81, "mel filters"}, {47, 9, ""}, {20, 3, "tensor 'encoder.blocks.2"}};
    for (size_t i = 0; i < SV_LEN(breaks); i++) {
        uint8_t was = (uint8_t)b.p[breaks[i].at];
        b.p[breaks[i].at] = (char)breaks[i].v;
        assert_int_equal(sv_file_replace(path, b.p, b.n, 0600, &err), SV_OK);
        if (breaks[i].words[0])
            open_fails(path, SV_EFORMAT, breaks[i].words);
        b.p[breaks[i].at] = (char)was;
    }
    unlink(path);
    open_fails(REFERENCE "encoders/bert", SV_EFORMAT, "config.json");
    open_fails("/nowhere", SV_ENOENT, "/nowhere");
    assert_false(sv_whisper_is(REFERENCE "encoders/bert") || sv_whisper_is(REFERENCE "gpt2.gguf") || sv_whisper_is("/nowhere"));
}

static char *shared(const char *name)
{
    const char *data = getenv("SV_SHARED_DATA");
    char *path = data ? sv_xasprintf("%s/%s", data, name) : NULL;
    if (!path || !sv_file_exists(path)) {
        print_message("skipped: no shared data\n");
        free(path);
        return NULL;
    }
    return path;
}

/* The heads of real files: everything parses, no tensor follows. */
static void real_heads_parse_and_their_tensors_are_missed(void **state)
{
    static const struct { const char *name; int32_t n_state, n_layer, n_words; } files[] = {
        {"tiny", 384, 4, 50257}, {"tiny.en", 384, 4, 50257}, {"base", 512, 6, 50257}, {"large", 1280, 32, 50257}};
    (void)state;
    for (size_t i = 0; i < SV_LEN(files); i++) {
        SV_AUTO(sv_freep) char *name = sv_xasprintf("models/whisper-headers/for-tests-ggml-%s.bin", files[i].name);
        SV_AUTO(sv_freep) char *path = shared(name);
        SV_AUTO(wsp_ggml_closep) wsp_ggml *g = NULL;
        sv_err err = {0};
        if (!path)
            skip();
        assert_int_equal(wsp_ggml_open(&g, path, &err), SV_OK);
        assert_true(g->n_audio_state == files[i].n_state && g->n_audio_layer == files[i].n_layer && g->n_words == files[i].n_words);
        SV_AUTO(sv_mel_freep) sv_mel *mel = sv_mel_new(80, NULL);
        double worst = 0;
        for (int k = 0; k < 80 * SV_MEL_BINS; k++) { /* the filters are those that we compute */
            float f;
            memcpy(&f, g->filters + 4 * k, 4);
            worst = fmax(worst, fabs((double)(f - sv_mel_filters(mel)[k])));
        }
        assert_true(worst < 1e-7);
        open_fails(path, SV_EFORMAT, "tensor 'encoder.conv1.weight' is missing");
    }
}

/* Words as tiktoken has them, a base64 and a rank a line. */
static void read_ranks(wsp_ggml *g, sv_str text, sv_buf *bytes)
{
    sv_err err = {0};
    size_t n = 0, at[60000] = {0};
    for (const char *p = text.p, *end = text.p + text.n; p < end && n < SV_LEN(at) - 1; p = strchr(p, '\n') + 1) {
        const char *space = strchr(p, ' ');
        assert_int_equal(sv_base64_decode(bytes, (sv_str){p, (size_t)(space - p)}, &err), SV_OK);
        at[++n] = bytes->n;
    }
    g->n_words = (int32_t)n;
    g->words = sv_xcalloc(n, sizeof *g->words);
    for (size_t i = 0; i < n; i++)
        g->words[i] = (sv_str){bytes->p + at[i], at[i + 1] - at[i]};
}

/* The merges that are found again make the ids of Hugging Face's tokenizer. */
static void the_vocabulary_of_a_file_is_the_one_of_hugging_face(void **state)
{
    SV_AUTO(sv_freep) char *path = shared("tokenizers/tiktoken/whisper-multilingual.tiktoken");
    SV_AUTO(sv_freep) char *expected = shared("tokenizers/expected/hf/whisper-tiny.json");
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = NULL;
    SV_AUTO(sv_buf_donep) sv_buf ranks;
    SV_AUTO(sv_buf_donep) sv_buf bytes;
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_json_decrefp) json_t *all = NULL;
    wsp_ggml g = {0};
    sv_err err = {0};
    const json_t *c;
    size_t i, n_checked = 0;
    (void)state;
    sv_buf_init(&ranks, 0);
    sv_buf_init(&bytes, 0);
    sv_buf_init(&b, 0);
    if (!path || !expected)
        skip();
    assert_int_equal(sv_file_read(&ranks, path, &err), SV_OK);
    read_ranks(&g, sv_buf_str(&ranks), &bytes);
    assert_int_equal(g.n_words, 50257);
    g.words[94] = SV_STR("\xef\xbf\xbd"); /* as early files have it */
    assert_int_equal(wsp_ggml_tokenizer(&t, &g, &err), SV_OK);
    free(g.words);
    assert_int_equal(sv_file_read(&b, expected, &err), SV_OK);
    assert_int_equal(sv_json_parse(&all, sv_buf_str(&b), &err), SV_OK);
    json_array_foreach(all, i, c) {
        const json_t *text = json_object_get(c, "text"), *ids = json_object_get(c, "ids_plain");
        sv_tokens x = {0};
        assert_int_equal(sv_tokenizer_encode(t, (sv_str){json_string_value(text), json_string_length(text)}, 0, 4096, &x, &err), SV_OK);
        bool same = x.n == json_array_size(ids);
        for (size_t k = 0; same && k < x.n; k++)
            same = x.v[k] == json_integer_value(json_array_get(ids, k));
        if (!same)
            fail_msg("case %zu: other ids", i);
        n_checked++;
        free(x.v);
    }
    assert_true(n_checked > 20);
}

static void heads_of_published_models_are_known_by_their_sizes(void **state)
{
    static const sv_whisper_info sizes[] = {
        {.n_text_layer = 4, .n_text_head = 6, .n_vocab = 51864}, {.n_text_layer = 4, .n_text_head = 6, .n_vocab = 51865},
        {.n_text_layer = 6, .n_text_head = 8, .n_vocab = 51865}, {.n_text_layer = 12, .n_text_head = 12, .n_vocab = 51864},
        {.n_text_layer = 24, .n_text_head = 16, .n_vocab = 51865}, {.n_text_layer = 32, .n_text_head = 20, .n_vocab = 51866},
        {.n_text_layer = 4, .n_text_head = 20, .n_vocab = 51866}};
    int32_t n = 0;
    (void)state;
    for (size_t i = 0; i < SV_LEN(sizes); i++) {
        const wsp_head *h = wsp_known_heads(&sizes[i], &n);
        assert_true(h && n >= 5);
        for (int32_t k = 0; k < n; k++) {
            assert_in_range(h[k].layer, 1, sizes[i].n_text_layer - 1);
            assert_in_range(h[k].head, 0, sizes[i].n_text_head - 1);
        }
    }
    assert_null(wsp_known_heads(&(sv_whisper_info){.n_text_layer = 32, .n_text_head = 20, .n_vocab = 51865}, &n)); /* large v1 or v2 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_transformers),
        cmocka_unit_test(a_file_of_whisper_cpp_is_the_same_model),
        cmocka_unit_test(what_is_no_speech_is_found_without_a_list),
        cmocka_unit_test(languages_are_found_by_code_and_name),
        cmocka_unit_test(broken_files_are_refused_by_name),
        cmocka_unit_test(heads_of_published_models_are_known_by_their_sizes),
        cmocka_unit_test(real_heads_parse_and_their_tensors_are_missed),
        cmocka_unit_test(the_vocabulary_of_a_file_is_the_one_of_hugging_face),
    };
    return cmocka_run_group_tests(tests, read_goldens, drop_goldens);
}
