/* task_test.c - the tasks besides text generation, over HTTP, with a real engine and small random models
 *
 * The models are tests/reference/encoders; the numbers are those of transformers (encoders_tiny.py), as encoders-tiny.json has them. */
#include "ai/node_testing.h"

#include <math.h>


#define BGE "@cf/baai/bge-small-en-v1.5"
#define M3 "@cf/baai/bge-m3"
#define OWN "me/embedder"
#define QWEN "@cf/qwen/qwen3-embedding-0.6b"
#define M2M "@cf/meta/m2m100-1.2b"
#define BART "@cf/facebook/bart-large-cnn"
#define SST "@cf/huggingface/distilbert-sst-2-int8"
#define RERANKER "@cf/baai/bge-reranker-base"

static node *real;
static json_t *goldens;

static void bring(const char *folder, const char *id)
{
    sv_err err = {0};
    SV_AUTO(sv_freep) char *path = sv_xasprintf(SV_SOURCE_ROOT "/tests/reference/%s%s", strchr(folder, '/') ? "" : "encoders/", folder);
    if (sv_catalogue_import(real->catalogue, &(sv_import_opts){.path = path, .id = id}, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static int start(void **state)
{
    sv_buf b;
    sv_err err = {0};
    (void)state;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_file_read(&b, SV_SOURCE_ROOT "/tests/reference/encoders-tiny.json", &err), SV_OK);
    assert_int_equal(sv_json_parse(&goldens, sv_buf_str(&b), &err), SV_OK);
    sv_buf_reset(&b);
    assert_int_equal(sv_file_read(&b, SV_SOURCE_ROOT "/tests/reference/embedders-tiny.json", &err), SV_OK);
    SV_AUTO(sv_json_decrefp) json_t *decoders = NULL;
    assert_int_equal(sv_json_parse(&decoders, sv_buf_str(&b), &err), SV_OK);
    json_object_update(goldens, decoders);
    sv_buf_done(&b);
    real = node_start(true);
    bring("bert", BGE);
    bring("bert", OWN);
    bring("xlm-roberta", M3);
    bring("qwen3-embedding", QWEN);
    bring("seq2seq/m2m_100", M2M);
    bring("seq2seq/bart", BART);
    bring("distilbert", SST);
    bring("xlm-roberta-reranker", RERANKER);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    node_stop(real);
    json_decref(goldens);
    return 0;
}

/* The golden of a text alone, length 1. */
static void wanted(const char *model, const char *text, const char *what, double *out, size_t *n)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(json_object_get(goldens, model), "cases"), i, c) {
        const json_t *texts = json_object_get(c, "texts"), *v = json_object_get(c, what);
        if (json_array_size(texts) != 1 || strcmp(json_string_value(json_array_get(texts, 0)), text) != 0)
            continue;
        double sum = 0;
        *n = json_array_size(v);
        for (size_t k = 0; k < *n; k++) {
            out[k] = json_number_value(json_array_get(v, k));
            sum += out[k] * out[k];
        }
        for (size_t k = 0; k < *n; k++)
            out[k] /= sqrt(sum);
        return;
    }
    fail_msg("no golden of '%s'", text);
}

static void check_vector(const char *model, const char *text, const char *what, const json_t *v)
{
    double want[64];
    size_t n;
    wanted(model, text, what, want, &n);
    assert_int_equal(json_array_size(v), n);
    for (size_t k = 0; k < n; k++)
        if (!(fabs(json_number_value(json_array_get(v, k)) - want[k]) < 1e-4))
            fail_msg("%s, '%s', %s: number %zu is %g, wanted %g", model, text, what, k, json_number_value(json_array_get(v, k)), want[k]);
}

static json_t *ok(answer a)
{
    if (a.status != 200)
        fail_msg("%d: %s", a.status, sv_buf_cstr(&a.body));
    json_t *j = json_of(&a);
    answer_done(&a);
    return j;
}

static const json_t *at(const json_t *list, size_t i) { return json_array_get(list, i); }

static void texts_become_vectors_in_every_dialect(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *rest = ok(post(real, ACCOUNT "/ai/run/" BGE, "{\"text\":[\"the quiet river\",\"the quiet river\"]}"));
    const json_t *r = json_object_get(rest, "result"), *data = json_object_get(r, "data");
    assert_true(json_is_true(json_object_get(rest, "success")));
    assert_int_equal(json_integer_value(at(json_object_get(r, "shape"), 0)), 2);
    assert_int_equal(json_integer_value(at(json_object_get(r, "shape"), 1)), 36);
    assert_string_equal(sv_json_cstr(r, "pooling"), "mean");
    check_vector("bert", "the quiet river", "mean", at(data, 0));
    assert_true(json_equal((json_t *)(uintptr_t)at(data, 0), (json_t *)(uintptr_t)at(data, 1)));

    SV_AUTO(sv_json_decrefp) json_t *bound = ok(bind_run(real, BGE, "{\"inputs\":{\"text\":\"the quiet river\",\"pooling\":\"cls\"},\"options\":{}}"));
    assert_string_equal(sv_json_cstr(bound, "pooling"), "cls");
    check_vector("bert", "the quiet river", "cls", at(json_object_get(bound, "data"), 0));

    SV_AUTO(sv_json_decrefp) json_t *ai = ok(post(real, ACCOUNT "/ai/v1/embeddings", "{\"model\":\"" OWN "\",\"input\":\"the quiet river\"}"));
    const json_t *first = at(json_object_get(ai, "data"), 0);
    assert_string_equal(sv_json_cstr(ai, "object"), "list");
    assert_string_equal(sv_json_cstr(first, "object"), "embedding");
    check_vector("bert", "the quiet river", "mean", json_object_get(first, "embedding"));
    assert_true(json_integer_value(json_object_get(json_object_get(ai, "usage"), "prompt_tokens")) > 2);
}

static void base64_has_the_same_numbers(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *j =
        ok(post(real, ACCOUNT "/ai/v1/embeddings", "{\"model\":\"" OWN "\",\"input\":[\"the quiet river\"],\"encoding_format\":\"base64\",\"dimensions\":36}"));
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_err err = {0};
    float v[36];
    double want[64];
    size_t n;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_base64_decode(&b, sv_str_of(sv_json_cstr(at(json_object_get(j, "data"), 0), "embedding")), &err), SV_OK);
    assert_int_equal(b.n, sizeof v);
    memcpy(v, b.p, sizeof v);
    wanted("bert", "the quiet river", "mean", want, &n);
    for (size_t i = 0; i < n; i++)
        assert_true(fabs((double)v[i] - want[i]) < 1e-4);
}

static void m3_scores_contexts_by_their_cosine(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *scores = ok(post(real, ACCOUNT "/ai/run/" M3, "{\"query\":\"the quiet river\",\"contexts\":[{\"text\":\"a stone\"},{\"text\":\"the quiet river\"}]}"));
    const json_t *list = json_object_get(json_object_get(scores, "result"), "response");
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(json_integer_value(json_object_get(at(list, 0), "id")), 1); /* best first */
    assert_true(fabs(json_number_value(json_object_get(at(list, 0), "score")) - 1) < 1e-5);
    assert_true(json_number_value(json_object_get(at(list, 1), "score")) < 0.99999);

    SV_AUTO(sv_json_decrefp) json_t *plain = ok(post(real, ACCOUNT "/ai/run/" M3, "{\"contexts\":[{\"text\":\"the quiet river\"}]}"));
    const json_t *r = json_object_get(plain, "result");
    assert_string_equal(sv_json_cstr(r, "pooling"), "cls"); /* what this model was trained for */
    check_vector("xlm-roberta", "the quiet river", "cls", at(json_object_get(r, "response"), 0));
}

static void decoders_give_the_last_tokens_vector(void **state)
{
    (void)state;
    const char *run = ACCOUNT "/ai/run/" QWEN;
    SV_AUTO(sv_json_decrefp) json_t *text = ok(post(real, run, "{\"text\":[\"the quiet river\",\"x\"]}"));
    const json_t *r = json_object_get(text, "result");
    assert_null(json_object_get(r, "pooling"));
    assert_int_equal(json_integer_value(at(json_object_get(r, "shape"), 1)), 48);
    check_vector("qwen3-embedding", "the quiet river", "last", at(json_object_get(r, "data"), 0));
    check_vector("qwen3-embedding", "x", "last", at(json_object_get(r, "data"), 1));

    SV_AUTO(sv_json_decrefp) json_t *documents = ok(post(real, run, "{\"documents\":\"the quiet river\"}"));
    check_vector("qwen3-embedding", "the quiet river", "last", at(json_object_get(json_object_get(documents, "result"), "data"), 0));
    SV_AUTO(sv_json_decrefp) json_t *query = ok(post(real, run, "{\"queries\":\"river\",\"instruction\":\"Find\"}"));
    SV_AUTO(sv_json_decrefp) json_t *same = ok(post(real, run, "{\"text\":\"Instruct: Find\\nQuery:river\"}"));
    assert_true(json_equal(json_object_get(query, "result"), json_object_get(same, "result")));
    refused(post(real, run, "{}"), 400, 5006, "'text', 'queries' or 'documents'");
    refused(post(real, run, "{\"text\":\"a\",\"queries\":\"a\"}"), 400, 5006, "one of text, queries and documents");
    refused(post(real, run, "{\"queries\":[\"\"]}"), 400, 5006, "'/queries/0' must have at least 1 character");

    SV_AUTO(sv_json_decrefp) json_t *ai = ok(post(real, ACCOUNT "/ai/v1/embeddings", "{\"model\":\"" QWEN "\",\"input\":\"the quiet river\",\"dimensions\":16}"));
    const json_t *v = json_object_get(at(json_object_get(ai, "data"), 0), "embedding");
    double want[64], sum = 0;
    size_t n;
    wanted("qwen3-embedding", "the quiet river", "last", want, &n);
    for (size_t i = 0; i < 16; i++)
        sum += want[i] * want[i];
    assert_int_equal(json_array_size(v), 16);
    for (size_t i = 0; i < 16; i++)
        assert_true(fabs(json_number_value(at(v, i)) - want[i] / sqrt(sum)) < 1e-4);
    refused(post(real, ACCOUNT "/ai/v1/embeddings", "{\"model\":\"" QWEN "\",\"input\":\"a\",\"dimensions\":49}"), 400, 5006, "cannot be longer");
}

static char *long_text(const char *before, size_t n_words, const char *after)
{
    sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_adds(&b, before);
    for (size_t i = 0; i < n_words; i++)
        sv_buf_adds(&b, "river ");
    sv_buf_adds(&b, after);
    char *s = sv_xstrdup(sv_buf_cstr(&b));
    sv_buf_done(&b);
    return s;
}

static void long_texts_are_cut_or_refused_as_the_model_says(void **state)
{
    (void)state;
    SV_AUTO(sv_freep) char *whole = long_text("{\"text\":\"", 300000, "\"}"), *cut = long_text("{\"text\":\"", 60, "\"}");
    SV_AUTO(sv_freep) char *truncate = long_text("{\"text\":\"", 300000, "\",\"truncate_inputs\":true}");
    SV_AUTO(sv_json_decrefp) json_t *a = ok(post(real, ACCOUNT "/ai/run/" BGE, whole));
    SV_AUTO(sv_json_decrefp) json_t *b = ok(post(real, ACCOUNT "/ai/run/" BGE, cut));
    assert_true(json_equal(json_object_get(a, "result"), json_object_get(b, "result"))); /* the model reads the same of both */
    refused(post(real, ACCOUNT "/ai/run/" M3, whole), 400, 5021, "tokens");
    SV_AUTO(sv_json_decrefp) json_t *c = ok(post(real, ACCOUNT "/ai/run/" M3, truncate));
    assert_non_null(json_object_get(json_object_get(c, "result"), "data"));
}

static void inputs_that_are_none_are_refused_in_words(void **state)
{
    (void)state;
    const char *run = ACCOUNT "/ai/run/" BGE, *m3 = ACCOUNT "/ai/run/" M3, *openai = ACCOUNT "/ai/v1/embeddings";
    sv_buf many;
    sv_buf_init(&many, 0);
    sv_buf_adds(&many, "{\"text\":[\"a\"");
    for (int i = 0; i < 100; i++)
        sv_buf_adds(&many, ",\"a\"");
    sv_buf_adds(&many, "]}");
    refused(post(real, run, sv_buf_cstr(&many)), 400, 5006, "'/text' must have 1 to 100 texts, got 101");
    sv_buf_done(&many);
    refused(post(real, run, "{}"), 400, 5006, "required properties at '/' are 'text'");
    refused(post(real, run, "{\"text\":\"\"}"), 400, 5006, "'/text' must have at least 1 character");
    refused(post(real, run, "{\"text\":[]}"), 400, 5006, "got 0");
    refused(post(real, run, "{\"text\":[\"a\",\"\"]}"), 400, 5006, "'/text/1' must have at least 1 character");
    refused(post(real, run, "{\"text\":[\"a\",5]}"), 400, 5006, "Type mismatch of '/text/1', 'number' not in 'string'");
    refused(post(real, run, "{\"text\":5}"), 400, 5006, "Type mismatch of '/text'");
    refused(post(real, run, "{\"text\":\"a\",\"pooling\":\"max\"}"), 400, 5006, "'/pooling' must be one of mean, cls");
    refused(post(real, run, "{\"text\":\"\xff\xfe\"}"), 400, 5006, "no JSON");
    refused(post(real, run, "\x89PNG"), 400, 5006, "no binary input");
    refused(post(real, run, ""), 400, 3003, "no body");
    refused(post(real, m3, "{}"), 400, 5006, "'text' or 'contexts'");
    refused(post(real, m3, "{\"contexts\":[]}"), 400, 5006, "1 to 100 items");
    refused(post(real, m3, "{\"contexts\":[{\"text\":\"\"}]}"), 400, 5006, "'/contexts/0' needs 'text'");
    refused(post(real, m3, "{\"contexts\":[\"a\"]}"), 400, 5006, "Type mismatch of '/contexts/0'");
    refused(post(real, m3, "{\"query\":\"\",\"contexts\":[{\"text\":\"a\"}]}"), 400, 5006, "'/query' must have at least 1 character");
    refused(post(real, openai, "{\"input\":\"a\"}"), 400, 5006, "'model'");
    refused(post(real, openai, "{\"model\":\"" BGE "\"}"), 400, 5006, "'input'");
    refused(post(real, openai, "{\"model\":\"" BGE "\",\"input\":[1,2]}"), 400, 5006, "a list of tokens");
    refused(post(real, openai, "{\"model\":\"" BGE "\",\"input\":\"a\",\"dimensions\":8}"), 400, 5006, "'/dimensions' must be 36");
    refused(post(real, openai, "{\"model\":\"" BGE "\",\"input\":\"a\",\"encoding_format\":\"hex\"}"), 400, 5006, "float, base64");
    refused(post(real, openai, "{\"model\":\"" TINY "\",\"input\":\"a\"}"), 400, 5007, "it is a model for Text Generation");
    refused(post(real, ACCOUNT "/ai/v1/chat/completions", "{\"model\":\"" BGE "\",\"messages\":[]}"), 400, 5007, "it is a model for Text Embeddings");
    refused(bind_run(real, BGE, "{\"inputs\":{\"prompt\":\"a\"},\"options\":{}}"), 400, 5006, "'text'");
    refused(post(real, ACCOUNT "/ai/run/@cf/leonardo/lucid-origin", "{\"prompt\":\"a\"}"), 400, 5007, "does not run the task Text-to-Image");
}

/* The first case of a golden with so many texts. */
static const json_t *golden_case(const char *model, size_t n_texts)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(json_object_get(goldens, model), "cases"), i, c)
        if (json_array_size(json_object_get(c, "texts")) == n_texts)
            return c;
    fail_msg("no golden of %zu texts", n_texts);
    return NULL;
}

static void a_text_gets_a_score_for_each_class(void **state)
{
    (void)state;
    const json_t *c = golden_case("distilbert", 1), *logits = json_object_get(c, "logits");
    SV_AUTO(sv_json_decrefp) json_t *body = json_pack("{s:O}", "text", at(json_object_get(c, "texts"), 0));
    SV_AUTO(sv_freep) char *text = json_dumps(body, 0);
    SV_AUTO(sv_json_decrefp) json_t *j = ok(post(real, ACCOUNT "/ai/run/" SST, text));
    const json_t *r = json_object_get(j, "result");
    double sum = 0;
    assert_int_equal(json_array_size(r), json_array_size(logits));
    for (size_t i = 0; i < json_array_size(logits); i++)
        sum += exp(json_number_value(at(logits, i)));
    for (size_t i = 0; i < json_array_size(logits); i++) {
        assert_true(fabs(json_number_value(json_object_get(at(r, i), "score")) - exp(json_number_value(at(logits, i))) / sum) < 1e-4);
        assert_non_null(sv_json_cstr(at(r, i), "label"));
    }
    refused(post(real, ACCOUNT "/ai/run/" SST, "{}"), 400, 5006, "required properties at '/' are 'text'");
    refused(post(real, ACCOUNT "/ai/run/" SST, "{\"text\":\"\"}"), 400, 5006, "'/text' must have at least 1 character");
    refused(post(real, ACCOUNT "/ai/run/" SST, "{\"text\":[\"a\"]}"), 400, 5006, "Type mismatch of '/text', 'array' not in 'string'");
}

static void contexts_are_ranked_by_the_query(void **state)
{
    (void)state;
    const json_t *c = golden_case("xlm-roberta-reranker", 2), *texts = json_object_get(c, "texts");
    SV_AUTO(sv_json_decrefp) json_t *body = json_pack("{s:O, s:[{s:O}, {s:s}, {s:s}]}", "query", at(texts, 0), "contexts", "text", at(texts, 1), "text", "river", "text", "a");
    SV_AUTO(sv_freep) char *text = json_dumps(body, 0);
    SV_AUTO(sv_json_decrefp) json_t *j = ok(post(real, ACCOUNT "/ai/run/" RERANKER, text));
    const json_t *r = json_object_get(json_object_get(j, "result"), "response");
    double want = 1 / (1 + exp(-json_number_value(at(json_object_get(c, "logits"), 0)))), last = 1;
    bool seen = false;
    assert_int_equal(json_array_size(r), 3);
    for (size_t i = 0; i < 3; i++) {
        double score = json_number_value(json_object_get(at(r, i), "score"));
        assert_true(score <= last);
        last = score;
        if (json_integer_value(json_object_get(at(r, i), "id")) == 0) {
            assert_true(fabs(score - want) < 1e-4);
            seen = true;
        }
    }
    assert_true(seen);
    json_object_set_new(body, "top_k", json_integer(1));
    SV_AUTO(sv_freep) char *top = json_dumps(body, 0);
    SV_AUTO(sv_json_decrefp) json_t *one = ok(post(real, ACCOUNT "/ai/run/" RERANKER, top));
    const json_t *best = json_object_get(json_object_get(one, "result"), "response");
    assert_int_equal(json_array_size(best), 1);
    assert_true(json_equal((json_t *)(uintptr_t)at(best, 0), (json_t *)(uintptr_t)at(r, 0)));
    const char *run = ACCOUNT "/ai/run/" RERANKER;
    refused(post(real, run, "{\"contexts\":[{\"text\":\"a\"}]}"), 400, 5006, "required properties at '/' are 'query'");
    refused(post(real, run, "{\"query\":\"a\"}"), 400, 5006, "required properties at '/' are 'contexts'");
    refused(post(real, run, "{\"query\":\"a\",\"contexts\":[]}"), 400, 5006, "1 to 100 items");
    refused(post(real, run, "{\"query\":\"a\",\"contexts\":[{\"text\":\"a\"}],\"top_k\":0}"), 400, 5006, "'/top_k' must be >= 1");
}

static void texts_are_translated_and_summed_up(void **state)
{
    (void)state;
    const char *name, *m2m = ACCOUNT "/ai/run/" M2M, *bart = ACCOUNT "/ai/run/" BART;
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_json_decrefp) json_t *golden = NULL;
    sv_err err = {0};
    json_t *cases;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_file_read(&b, SV_SOURCE_ROOT "/tests/reference/seq2seq-tiny.json", &err), SV_OK);
    assert_int_equal(sv_json_parse(&golden, sv_buf_str(&b), &err), SV_OK);
    json_object_foreach(golden, name, cases) {
        bool translates = strcmp(name, "m2m_100") == 0;
        SV_AUTO(sv_json_decrefp) json_t *body = json_pack("{s:O}", translates ? "text" : "input_text", json_object_get(at(cases, 1), "text"));
        if (translates)
            json_object_set_new(body, "target_lang", json_string("french"));
        SV_AUTO(sv_freep) char *text = json_dumps(body, 0);
        SV_AUTO(sv_json_decrefp) json_t *j = ok(post(real, translates ? m2m : bart, text));
        assert_string_equal(sv_json_cstr(json_object_get(j, "result"), translates ? "translated_text" : "summary"), sv_json_cstr(at(cases, 1), "written"));
    }
    SV_AUTO(sv_json_decrefp) json_t *brief = ok(post(real, bart, "{\"input_text\":\"the quiet river\",\"max_length\":5}"));
    assert_non_null(sv_json_cstr(json_object_get(brief, "result"), "summary"));
    refused(post(real, m2m, "{\"text\":\"a\"}"), 400, 5006, "required properties at '/' are 'target_lang'");
    refused(post(real, m2m, "{\"target_lang\":\"fr\"}"), 400, 5006, "required properties at '/' are 'text'");
    refused(post(real, m2m, "{\"text\":\"\",\"target_lang\":\"fr\"}"), 400, 5006, "'/text' must have at least 1 character");
    refused(post(real, m2m, "{\"text\":\"a\",\"target_lang\":\"klingon\"}"), 400, 5006, "'/target_lang': 'klingon' is no language");
    refused(post(real, bart, "{\"input_text\":\"\"}"), 400, 5006, "'/input_text' must have at least 1 character");
    refused(post(real, bart, "{\"input_text\":\"a\",\"max_length\":0}"), 400, 5006, "'/max_length' must be >= 1");
}

static json_t *poll_until_done(const char *model, const char *id)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf(ACCOUNT "/ai/run/%s", model);
    SV_AUTO(sv_freep) char *body = sv_xasprintf("{\"request_id\":\"%s\"}", id);
    for (int i = 0; i < 500; i++) {
        json_t *j = ok(post(real, path, body)), *r = json_object_get(j, "result");
        if (json_object_get(r, "responses"))
            return j;
        const char *status = sv_json_cstr(r, "status");
        assert_true(status && (strcmp(status, "queued") == 0 || strcmp(status, "running") == 0));
        json_decref(j);
        usleep(20000);
    }
    fail_msg("the batch did not end");
    return NULL;
}

static void a_batch_is_queued_and_answered_entry_by_entry(void **state)
{
    (void)state;
    sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_adds(&b, "{\"requests\":[{\"text\":\"the quiet river\",\"external_reference\":\"first\"},{\"text\":\"\"}");
    for (int i = 0; i < 20; i++)
        sv_buf_adds(&b, ",{\"text\":[\"the quiet river\"],\"stream\":true}");
    sv_buf_adds(&b, "]}");
    SV_AUTO(sv_json_decrefp) json_t *queued = ok(post(real, ACCOUNT "/ai/run/" BGE "?queueRequest=true", sv_buf_cstr(&b)));
    sv_buf_done(&b);
    const json_t *r = json_object_get(queued, "result");
    const char *id = sv_json_cstr(r, "request_id");
    assert_string_equal(sv_json_cstr(r, "status"), "queued");
    assert_string_equal(sv_json_cstr(r, "model"), BGE);
    SV_AUTO(sv_json_decrefp) json_t *done = poll_until_done(BGE, id);
    const json_t *list = json_object_get(json_object_get(done, "result"), "responses");
    assert_int_equal(json_array_size(list), 22);
    for (size_t i = 0; i < 22; i++) {
        assert_int_equal(json_integer_value(json_object_get(at(list, i), "id")), i);
        assert_int_equal(json_is_true(json_object_get(at(list, i), "success")), i != 1);
    }
    assert_string_equal(sv_json_cstr(at(list, 0), "external_reference"), "first");
    check_vector("bert", "the quiet river", "mean", at(json_object_get(json_object_get(at(list, 0), "result"), "data"), 0));
    assert_int_equal(json_integer_value(json_object_get(at(json_object_get(at(list, 1), "errors"), 0), "code")), 5006);
    const json_t *usage = json_object_get(json_object_get(done, "result"), "usage");
    assert_true(json_integer_value(json_object_get(usage, "total_tokens")) >= 21 * 3);
}

static void batches_are_refused_where_they_make_no_sense(void **state)
{
    (void)state;
    const char *run = ACCOUNT "/ai/run/" BGE "?queueRequest=true";
    refused(post(real, run, "{}"), 400, 5006, "required properties at '/' are 'requests'");
    refused(post(real, run, "{\"requests\":{}}"), 400, 5006, "Type mismatch of '/requests'");
    refused(post(real, run, "{\"requests\":[]}"), 400, 5006, "1 to 10000 items, got 0");
    refused(post(real, run, "{\"requests\":[1]}"), 400, 5006, "Type mismatch of '/requests/0'");
    refused(post(real, ACCOUNT "/ai/run/" RERANKER "?queueRequest=true", "{\"requests\":[{}]}"), 400, 5006, "is not supported by " RERANKER);
    refused(post(real, ACCOUNT "/ai/run/@cf/no/such?queueRequest=true", "{\"requests\":[{}]}"), 400, 5007, "No such model");
    refused(post(real, ACCOUNT "/ai/run/" BGE, "{\"request_id\":\"00000000-0000-4000-8000-000000000000\"}"), 400, 5006, "names no batch");
    refused(post(real, ACCOUNT "/ai/run/" BGE, "{\"request_id\":\"\"}"), 400, 5006, "at least 1 character");
    refused(post(real, ACCOUNT "/ai/run/" BGE, "{\"request_id\":5}"), 400, 5006, "Type mismatch of '/request_id'");
}

static void batches_of_the_binding_are_of_the_same_kind(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *queued =
        ok(bind_run(real, TINY, "{\"inputs\":{\"requests\":[{\"prompt\":\"a\",\"max_tokens\":3},{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":2}]},"
                                "\"options\":{\"queueRequest\":true}}"));
    SV_AUTO(sv_json_decrefp) json_t *done = poll_until_done(TINY, sv_json_cstr(queued, "request_id"));
    const json_t *r = json_object_get(done, "result"), *list = json_object_get(r, "responses");
    json_int_t n = 0;
    for (size_t i = 0; i < 2; i++) {
        const json_t *result = json_object_get(at(list, i), "result");
        assert_true(json_is_string(json_object_get(result, "response")));
        n += json_integer_value(json_object_get(json_object_get(result, "usage"), "completion_tokens"));
    }
    assert_int_equal(json_integer_value(json_object_get(json_object_get(r, "usage"), "completion_tokens")), n);
    assert_in_range(n, 1, 5);
}

static double metric(const char *name, const char *model)
{
    SV_AUTO(sv_freep) char *key = sv_xasprintf("%s{model=\"%s\"} ", name, model);
    answer a = get(real, "/metrics");
    const char *p = strstr(sv_buf_cstr(&a.body), key);
    double v = p ? atof(p + strlen(key)) : 0;
    answer_done(&a);
    return v;
}

static void tokens_of_texts_are_metered(void **state)
{
    (void)state;
    double tokens = metric("selvedge_ai_prompt_tokens_total", BGE), neurons = metric("selvedge_ai_neurons_total", BGE);
    SV_AUTO(sv_json_decrefp) json_t *j = ok(post(real, ACCOUNT "/ai/v1/embeddings", "{\"model\":\"" BGE "\",\"input\":[\"the quiet river\",\"river\"]}"));
    double n = json_number_value(json_object_get(json_object_get(j, "usage"), "total_tokens"));
    assert_true(n > 0);
    assert_true(metric("selvedge_ai_prompt_tokens_total", BGE) == tokens + n);
    assert_true(fabs(metric("selvedge_ai_neurons_total", BGE) - neurons - n * 1841 / 1e6) < 1e-9);
    assert_true(metric("selvedge_ai_in_flight", BGE) == 0);
}

static void schemas_and_lists_say_the_task(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *schema = ok(get(real, ACCOUNT "/ai/models/schema?model=" BGE));
    assert_non_null(json_object_get(json_object_get(json_object_get(json_object_get(schema, "result"), "input"), "properties"), "text"));
    SV_AUTO(sv_json_decrefp) json_t *found = ok(get(real, ACCOUNT "/ai/models/search?search=" OWN));
    const json_t *m = at(json_object_get(found, "result"), 0);
    assert_string_equal(sv_json_cstr(json_object_get(m, "task"), "name"), "Text Embeddings");
}

int main(void)
{
    sv_log_init("task_test", SV_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_become_vectors_in_every_dialect),
        cmocka_unit_test(base64_has_the_same_numbers),
        cmocka_unit_test(m3_scores_contexts_by_their_cosine),
        cmocka_unit_test(decoders_give_the_last_tokens_vector),
        cmocka_unit_test(long_texts_are_cut_or_refused_as_the_model_says),
        cmocka_unit_test(inputs_that_are_none_are_refused_in_words),
        cmocka_unit_test(a_text_gets_a_score_for_each_class),
        cmocka_unit_test(contexts_are_ranked_by_the_query),
        cmocka_unit_test(texts_are_translated_and_summed_up),
        cmocka_unit_test(a_batch_is_queued_and_answered_entry_by_entry),
        cmocka_unit_test(batches_are_refused_where_they_make_no_sense),
        cmocka_unit_test(batches_of_the_binding_are_of_the_same_kind),
        cmocka_unit_test(tokens_of_texts_are_metered),
        cmocka_unit_test(schemas_and_lists_say_the_task),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
