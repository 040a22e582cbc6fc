/* tokenizer_suite_test.c - real vocabularies against what their original tokenizers gave
 *
 * All of it is shared test data: ids that Hugging Face's Rust library, the models' own Python and .NET's tokenizers computed.
 * Each test is skipped where that data is absent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/map.h"
#include "models/tokenizer_impl.h"
#include "models/vocab_testing.h"

#define NO_LIMIT (1u << 30)

/* ---- reading ---- */

static void shared_path(char out[512], const char *name)
{
    const char *data = getenv("SV_SHARED_DATA");
    snprintf(out, 512, "%s/%s", data ? data : SV_SOURCE_ROOT "/../shared/data", name);
    if (!sv_file_exists(out)) {
        print_message("skipped: %s is not there\n", out);
        skip();
    }
}

static void read_shared(sv_buf *out, const char *name)
{
    char path[512];
    sv_err err = {0};
    shared_path(path, name);
    sv_buf_init(out, 0);
    if (sv_file_read(out, path, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static json_t *json_shared(const char *name)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    json_t *j = NULL;
    sv_err err = {0};
    read_shared(&text, name);
    if (sv_json_parse(&j, sv_buf_str(&text), &err) != SV_OK)
        fail_msg("%s: %s", name, err.msg);
    return j;
}

static sv_tokenizer *from_gguf(const char *name)
{
    char path[512];
    sv_err err = {0};
    SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
    sv_tokenizer *t = NULL;
    shared_path(path, name);
    if (sv_gguf_open(&g, path, &err) != SV_OK || sv_tokenizer_from_gguf(&t, g, &err) != SV_OK)
        fail_msg("%s: %s", name, err.msg);
    return t;
}

static sv_tokenizer *from_json(const char *name)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_err err = {0};
    sv_tokenizer *t = NULL;
    read_shared(&text, name);
    if (sv_tokenizer_from_json(&t, sv_buf_str(&text), SV_STR(""), &err) != SV_OK)
        fail_msg("%s: %s", name, err.msg);
    return t;
}

/* ---- comparing ---- */

static int n_wrong;

static void expect(bool same, const char *what, sv_str text)
{
    if (!same && n_wrong++ < 10)
        print_message("%s differs: '%.*s'\n", what, (int)text.n, text.p);
}

static bool encodes_to(const sv_tokenizer *t, sv_str text, int flags, const json_t *ids)
{
    sv_tokens got = {0};
    sv_err err = {0};
    if (sv_tokenizer_encode(t, text, flags, NO_LIMIT, &got, &err) != SV_OK)
        fail_msg("%s", err.msg);
    bool same = got.n == json_array_size(ids);
    for (size_t i = 0; i < got.n && same; i++)
        same = got.v[i] == json_integer_value(json_array_get(ids, i));
    if (!same && n_wrong < 3)
        for (size_t i = 0; i < got.n && i < 60; i++)
            print_message("%d%s", got.v[i], i + 1 < got.n && i < 59 ? " " : "\n");
    free(got.v);
    return same;
}

/* Streamed, one token at a time, never half a character. */
static bool decodes_to(const sv_tokenizer *t, const json_t *ids, sv_str want)
{
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_detok d = {0};
    size_t i;
    const json_t *id;
    sv_buf_init(&out, 0);
    json_array_foreach(ids, i, id) {
        sv_detok_feed(&d, t, (int32_t)json_integer_value(id), &out);
        if (!sv_utf8_valid(sv_buf_str(&out)))
            fail_msg("half a character after %zu tokens", i + 1);
    }
    sv_detok_finish(&d, &out);
    bool same = sv_str_eq(sv_buf_str(&out), want);
    if (!same && n_wrong < 3)
        print_message("'%s', not '%.*s'\n", sv_buf_cstr(&out), (int)want.n, want.p);
    return same;
}

static sv_str member(const json_t *j, const char *key)
{
    const json_t *s = json_object_get(j, key);
    return (sv_str){json_string_value(s), json_string_length(s)};
}

/* ---- llama.cpp: base.inp holds texts, base.out a line of ids for each ---- */

static void run_inp_out(const char *name)
{
    static const char sep[] = "\n__ggml_vocab_test__\n";
    char base[256], file[300];
    SV_AUTO(sv_buf_donep) sv_buf inp = {0}, out = {0};
    snprintf(base, sizeof base, "tokenizers/llama.cpp/ggml-vocab-%s.gguf", name);
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = from_gguf(base);
    snprintf(file, sizeof file, "%s.inp", base);
    read_shared(&inp, file);
    snprintf(file, sizeof file, "%s.out", base);
    read_shared(&out, file);
    n_wrong = 0;
    int n_texts = 0;
    char *line = out.p;
    for (char *p = inp.p, *end; p < inp.p + inp.n; p = end + sizeof sep - 1, n_texts++) {
        end = strstr(p, sep);
        sv_str text = {p, end ? (size_t)(end - p) : (size_t)(inp.p + inp.n - p)};
        SV_AUTO(sv_json_decrefp) json_t *ids = json_array();
        for (char *stop; *line && *line != '\n'; line = stop) {
            long id = strtol(line, &stop, 10);
            if (stop == line)
                stop = line + 1;
            else
                json_array_append_new(ids, json_integer(id));
        }
        line += *line == '\n';
        expect(encodes_to(t, text, 0, ids), name, text);
        if (strcmp(name, "bert-bge") != 0)
            expect(decodes_to(t, ids, text), "decode", text);
        if (!end)
            break;
    }
    assert_true(n_texts > 40);
    assert_int_equal(n_wrong, 0);
}

static void gpt2_gguf(void **state) { (void)state; run_inp_out("gpt-2"); }
static void falcon_gguf(void **state) { (void)state; run_inp_out("falcon"); }
static void deepseek_coder_gguf(void **state) { (void)state; run_inp_out("deepseek-coder"); }
static void llama_spm_gguf(void **state) { (void)state; run_inp_out("llama-spm"); }
static void bert_bge_gguf(void **state) { (void)state; run_inp_out("bert-bge"); }

/* ---- Hugging Face: ids with and without the template, and the text back ---- */

static void run_hf(const char *name)
{
    char file[256];
    snprintf(file, sizeof file, "tokenizers/hf/%s/tokenizer.json", name);
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = from_json(file);
    snprintf(file, sizeof file, "tokenizers/expected/hf/%s.json", name);
    SV_AUTO(sv_json_decrefp) json_t *all = json_shared(file);
    size_t i;
    const json_t *one;
    n_wrong = 0;
    json_array_foreach(all, i, one) {
        sv_str text = member(one, "text");
        expect(encodes_to(t, text, SV_TOK_SPECIAL | SV_TOK_BOS | SV_TOK_EOS, json_object_get(one, "ids")), "with template", text);
        expect(encodes_to(t, text, SV_TOK_SPECIAL, json_object_get(one, "ids_plain")), "plain", text);
        expect(decodes_to(t, json_object_get(one, "ids"), member(one, "decoded")), "decode", text);
    }
    assert_true(json_array_size(all) > 40);
    assert_int_equal(n_wrong, 0);
}

static void minilm_json(void **state) { (void)state; run_hf("all-MiniLM-L6-v2"); }
static void bert_uncased_json(void **state) { (void)state; run_hf("bert-base-uncased"); }
static void falcon_json(void **state) { (void)state; run_hf("falcon"); }
static void phi2_json(void **state) { (void)state; run_hf("phi-2"); }
static void t5_json(void **state) { (void)state; run_hf("t5-small"); }
static void whisper_json(void **state) { (void)state; run_hf("whisper-tiny"); }

/* ---- a French text, and a list of short ones, for vocabularies that are here under another name ---- */

static void run_french(const char *file, const sv_tokenizer *t, int flags)
{
    char path[256];
    snprintf(path, sizeof path, "tokenizers/expected/%s", file);
    SV_AUTO(sv_json_decrefp) json_t *j = json_shared(path);
    n_wrong = 0;
    expect(encodes_to(t, member(j, "text"), flags, json_object_get(j, "token_ids")), file, member(j, "text"));
    assert_int_equal(n_wrong, 0);
}

static void french_texts(void **state)
{
    static const struct { const char *file, *vocabulary; } texts[] = {
        {"bert_uncased_encoded.json", "tokenizers/hf/bert-base-uncased/tokenizer.json"},
        {"falcon_encoded.json", "tokenizers/hf/falcon/tokenizer.json"},
        {"falcon_encoded.json", "tokenizers/llama.cpp/ggml-vocab-falcon.gguf"},
        {"gpt2_encoded_tokens.json", "tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf"},
        {"llama_encoded.json", "tokenizers/hf/llama2/tokenizer.json"},
        {"llama_encoded.json", "tokenizers/llama.cpp/ggml-vocab-llama-spm.gguf"},
        {"t5_base_encoded.json", "tokenizers/hf/t5-small/tokenizer.json"},
    };
    (void)state;
    for (size_t i = 0; i < SV_LEN(texts); i++) {
        bool gguf = strstr(texts[i].vocabulary, ".gguf");
        SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = gguf ? from_gguf(texts[i].vocabulary) : from_json(texts[i].vocabulary);
        run_french(texts[i].file, t, SV_TOK_SPECIAL | SV_TOK_BOS | SV_TOK_EOS);
    }
}

/* These decoded texts went through one more step, in Python, over the whole text; compared is what it makes of both. */
static void clean_up(sv_buf *out, sv_str s)
{
    static const char *const glued[][2] = {{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"},
                                           {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    SV_AUTO(sv_buf_donep) sv_buf in;
    sv_buf_init(&in, 0);
    sv_buf_add(&in, s.p, s.n);
    for (size_t k = 0; k < SV_LEN(glued); k++) {
        sv_buf_reset(out);
        for (const char *p = sv_buf_cstr(&in), *hit; *p; p = hit + strlen(glued[k][0])) {
            hit = strstr(p, glued[k][0]);
            sv_buf_add(out, p, hit ? (size_t)(hit - p) : strlen(p));
            if (!hit)
                break;
            sv_buf_adds(out, glued[k][1]);
        }
        sv_buf_reset(&in);
        sv_buf_add(&in, sv_buf_cstr(out), out->n);
    }
}

static bool decodes_to_cleaned(const sv_tokenizer *t, const json_t *ids, sv_str want)
{
    SV_AUTO(sv_buf_donep) sv_buf out, a, b;
    sv_detok d = {0};
    sv_buf_init(&out, 0), sv_buf_init(&a, 0), sv_buf_init(&b, 0);
    for (size_t i = 0; i < json_array_size(ids); i++)
        sv_detok_feed(&d, t, (int32_t)json_integer_value(json_array_get(ids, i)), &out);
    sv_detok_finish(&d, &out);
    clean_up(&a, sv_buf_str(&out));
    clean_up(&b, want);
    return sv_str_eq(sv_buf_str(&a), sv_buf_str(&b));
}

static void short_texts(void **state)
{
    static const struct { const char *name, *vocabulary; } sets[] = {
        {"bert-base-uncased", "tokenizers/hf/bert-base-uncased/tokenizer.json"},
        {"google-bert/bert-base-uncased", "tokenizers/hf/bert-base-uncased/tokenizer.json"},
        {"distilgpt2", "tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf"},
        {"coreml-projects/Llama-2-7b-chat-coreml", "tokenizers/llama.cpp/ggml-vocab-llama-spm.gguf"},
        {"coreml-projects/Llama-2-7b-chat-coreml", "tokenizers/hf/llama2/tokenizer.json"},
        {"tiiuae/falcon-7b", "tokenizers/hf/falcon/tokenizer.json"},
        {"openai/whisper-large-v2", "tokenizers/hf/whisper-tiny/tokenizer.json"},
        {"t5-base", "tokenizers/hf/t5-small/tokenizer.json"},
    };
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *all = json_shared("tokenizers/expected/tokenizer_tests.json");
    n_wrong = 0;
    for (size_t k = 0; k < SV_LEN(sets); k++) {
        bool gguf = strstr(sets[k].vocabulary, ".gguf");
        SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = gguf ? from_gguf(sets[k].vocabulary) : from_json(sets[k].vocabulary);
        const json_t *list = json_object_get(all, sets[k].name), *one;
        size_t i;
        assert_true(json_array_size(list) >= 18);
        json_array_foreach(list, i, one) {
            const json_t *ids = json_object_get(json_object_get(one, "encoded"), "input_ids");
            sv_str text = member(one, "input");
            if (strstr(sets[k].vocabulary, "llama2") && memmem(text.p, text.n, "\xc2\xa0", 2))
                continue; /* that file has lost its U+00A0: "\xc2\xa0\xc2\xa0" became two spaces in it */
            expect(encodes_to(t, text, SV_TOK_SPECIAL | SV_TOK_BOS | SV_TOK_EOS, ids), sets[k].name, text);
            expect(decodes_to_cleaned(t, ids, member(one, "decoded_without_special")), "decode", text);
        }
    }
    assert_int_equal(n_wrong, 0);
}

/* The questions themselves are not there; their words are, in normal form, and normal form is not changed by normalizing. */
static void squad_questions(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = from_json("tokenizers/hf/bert-base-uncased/tokenizer.json");
    SV_AUTO(sv_json_decrefp) json_t *words = json_shared("tokenizers/expected/squad_basic_tokenized_questions.json");
    SV_AUTO(sv_json_decrefp) json_t *ids = json_shared("tokenizers/expected/squad_tokenized_questions.json");
    size_t i, k;
    const json_t *question, *word;
    n_wrong = 0;
    assert_int_equal(json_array_size(words), json_array_size(ids));
    json_array_foreach(words, i, question) {
        SV_AUTO(sv_buf_donep) sv_buf text;
        sv_buf_init(&text, 0);
        json_array_foreach(question, k, word) {
            sv_buf_adds(&text, k ? " " : "");
            sv_buf_add(&text, json_string_value(word), json_string_length(word));
        }
        expect(encodes_to(t, sv_buf_str(&text), 0, json_array_get(ids, i)), "SQuAD", sv_buf_str(&text));
    }
    assert_true(i > 10000);
    assert_int_equal(n_wrong, 0);
}

/* ---- .NET: a source file of 24 kB ---- */

static void a_source_file_in_gpt2(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = from_gguf("tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf");
    SV_AUTO(sv_json_decrefp) json_t *ids = json_shared("tokenizers/expected/dotnet/tokens_gpt2.json");
    SV_AUTO(sv_buf_donep) sv_buf text = {0};
    read_shared(&text, "tokenizers/expected/dotnet/lib.rs.txt");
    n_wrong = 0;
    expect(encodes_to(t, sv_buf_str(&text), 0, ids), "gpt-2", SV_STR("lib.rs"));
    expect(decodes_to(t, ids, sv_buf_str(&text)), "decode", SV_STR("lib.rs"));
    assert_int_equal(n_wrong, 0);
}

/* ---- tiktoken: a file of ranks; the merges that it implies, and the cuts of GPT-4, which GGUF files know under other names ---- */

typedef struct ranks {
    sv_buf bytes;   /* of all tokens, in order */
    sv_str *token;
    size_t n;
    sv_smap *rank;  /* to the token's place in `token` */
} ranks;

static void ranks_done(ranks *r)
{
    sv_smap_free(r->rank);
    free(r->token);
    sv_buf_done(&r->bytes);
}

static void read_ranks(ranks *r, const char *name)
{
    SV_AUTO(sv_buf_donep) sv_buf text = {0};
    sv_err err = {0};
    read_shared(&text, name);
    sv_buf_init(&r->bytes, 0);
    r->token = sv_xcalloc(text.n / 4, sizeof *r->token);
    r->rank = sv_smap_new();
    assert_non_null(sv_buf_room(&r->bytes, text.n)); /* so that it does not move */
    for (char *line = text.p, *end; (end = strchr(line, '\n')); line = end + 1) {
        char *space = strchr(line, ' ');
        size_t at = r->bytes.n;
        assert_int_equal(sv_base64_decode(&r->bytes, (sv_str){line, (size_t)(space - line)}, &err), SV_OK);
        assert_int_equal(strtol(space, NULL, 10), r->n);
        r->token[r->n] = (sv_str){r->bytes.p + at, r->bytes.n - at};
        sv_smap_put(r->rank, r->token[r->n], &r->token[r->n]);
        r->n++;
    }
}

static size_t rank_of(const ranks *r, const char *p, size_t n)
{
    const sv_str *t = sv_smap_get(r->rank, (sv_str){p, n});
    return t ? (size_t)(t - r->token) : SIZE_MAX;
}

/* Where the last of the joins that make the token is: those of lower rank come first. */
static size_t last_join(const ranks *r, sv_str token)
{
    size_t cut[256], n = token.n;
    assert_true(n < SV_LEN(cut));
    for (size_t i = 0; i <= n; i++)
        cut[i] = i;
    while (n > 2) {
        size_t best = SIZE_MAX, at = 0;
        for (size_t i = 0; i + 2 <= n; i++) {
            size_t rank = rank_of(r, token.p + cut[i], cut[i + 2] - cut[i]);
            if (rank < best)
                best = rank, at = i;
        }
        assert_true(best < rank_of(r, token.p, token.n));
        memmove(cut + at + 1, cut + at + 2, (n - at - 1) * sizeof *cut);
        n--;
    }
    return cut[1];
}

static void add_byte_chars(sv_buf *b, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char u[4];
        sv_buf_add(b, u, sv_uni_put(u, sv_tok_byte_char((uint8_t)p[i])));
    }
}

static sv_tokenizer *from_ranks(const char *name, const char *pre)
{
    ranks r = {0};
    vocab_file f = {0};
    sv_err err = {0};
    size_t n_merges = 0;
    SV_AUTO(sv_buf_donep) sv_buf s;
    SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
    sv_tokenizer *t = NULL;
    read_ranks(&r, name);
    sv_buf_init(&s, 0);
    sv_buf_init(&f.kv, 0);
    vocab_str(&f, "tokenizer.ggml.model", "gpt2");
    vocab_str(&f, "tokenizer.ggml.pre", pre);
    vocab_array(&f, "tokenizer.ggml.tokens", 8, r.n);
    for (size_t i = 0; i < r.n; i++) {
        sv_buf_reset(&s);
        add_byte_chars(&s, r.token[i].p, r.token[i].n);
        vocab_put_str(&f, s.p, s.n);
        n_merges += r.token[i].n > 1;
    }
    vocab_array(&f, "tokenizer.ggml.merges", 8, n_merges);
    for (size_t i = 0; i < r.n; i++) {
        if (r.token[i].n < 2)
            continue;
        size_t cut = last_join(&r, r.token[i]);
        sv_buf_reset(&s);
        add_byte_chars(&s, r.token[i].p, cut);
        sv_buf_addc(&s, ' ');
        add_byte_chars(&s, r.token[i].p + cut, r.token[i].n - cut);
        vocab_put_str(&f, s.p, s.n);
    }
    if (vocab_open(&f, &g, &err) != SV_OK || sv_tokenizer_from_gguf(&t, g, &err) != SV_OK)
        fail_msg("%s", err.msg);
    vocab_done(&f);
    ranks_done(&r);
    return t;
}

static void a_source_file_in_cl100k(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = from_ranks("tokenizers/tiktoken/cl100k_base.tiktoken", "dbrx");
    SV_AUTO(sv_json_decrefp) json_t *ids = json_shared("tokenizers/expected/dotnet/tokens.json");
    SV_AUTO(sv_buf_donep) sv_buf text = {0};
    read_shared(&text, "tokenizers/expected/dotnet/lib.rs.txt");
    n_wrong = 0;
    expect(encodes_to(t, sv_buf_str(&text), 0, ids), "cl100k", SV_STR("lib.rs"));
    expect(decodes_to(t, ids, sv_buf_str(&text)), "decode", SV_STR("lib.rs"));
    assert_int_equal(n_wrong, 0);
}

static void added_tokens_with_holes_in_the_ids(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = from_json("tokenizers/hf/added-tokens/tokenizer.json");
    SV_AUTO(sv_json_decrefp) json_t *ids = json_pack("[iii]", 32010, 0, 1);
    assert_int_equal(sv_tokenizer_n_vocab(t), 32011);
    n_wrong = 0;
    expect(encodes_to(t, SV_STR("<|user|>hello<s>"), SV_TOK_SPECIAL, ids), "added", SV_STR("<|user|>"));
    assert_int_equal(n_wrong, 0);
    assert_int_equal(sv_tokenizer_piece(t, 20000).n, 0); /* a hole */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_gguf),
        cmocka_unit_test(falcon_gguf),
        cmocka_unit_test(deepseek_coder_gguf),
        cmocka_unit_test(llama_spm_gguf),
        cmocka_unit_test(bert_bge_gguf),
        cmocka_unit_test(minilm_json),
        cmocka_unit_test(bert_uncased_json),
        cmocka_unit_test(falcon_json),
        cmocka_unit_test(phi2_json),
        cmocka_unit_test(t5_json),
        cmocka_unit_test(whisper_json),
        cmocka_unit_test(french_texts),
        cmocka_unit_test(short_texts),
        cmocka_unit_test(squad_questions),
        cmocka_unit_test(a_source_file_in_gpt2),
        cmocka_unit_test(a_source_file_in_cl100k),
        cmocka_unit_test(added_tokens_with_holes_in_the_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
