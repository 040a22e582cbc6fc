/* tokenizer_test.c - vocabularies made here for the rules, real ones for the truth
 *
 * The real ones are the shared test data: stories260K, and the llama.cpp vocabularies with the ids that their original
 * tokenizers gave for 46 awkward strings. Where that data is absent, those tests are skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "models/vocab_testing.h"

#define NO_LIMIT (1u << 30)

static uint64_t rng_state = 0x9e3779b97f4a7c15u;

static uint64_t rng(void) /* xorshift64*, fixed seed: a failure repeats */
{
    rng_state ^= rng_state >> 12;
    rng_state ^= rng_state << 25;
    rng_state ^= rng_state >> 27;
    return rng_state * 0x2545f4914f6cdd1du;
}

static void shared_path(char out[512], const char *name)
{
    const char *data = getenv("SV_SHARED_DATA");
    snprintf(out, 512, "%s/%s", data ? data : SV_SOURCE_ROOT "/../shared/data", name);
    if (!sv_file_exists(out)) {
        print_message("skipped: %s is not there\n", out);
        skip();
    }
}

static sv_tokenizer *open_shared(const char *name)
{
    char path[512];
    sv_err err = {0};
    SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
    SV_AUTO(sv_buf_donep) sv_buf json;
    sv_tokenizer *t = NULL;
    shared_path(path, name);
    sv_buf_init(&json, 0);
    if (strstr(name, ".json")) {
        if (sv_file_read(&json, path, &err) != SV_OK || sv_tokenizer_from_json(&t, sv_buf_str(&json), SV_STR(""), &err) != SV_OK)
            fail_msg("%s", err.msg);
        return t;
    }
    if (sv_gguf_open(&g, path, &err) != SV_OK || sv_tokenizer_from_gguf(&t, g, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return t;
}

static sv_tokenizer *open_vocab(vocab_file *f)
{
    sv_err err = {0};
    SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
    sv_tokenizer *t = NULL;
    if (vocab_open(f, &g, &err) != SV_OK || sv_tokenizer_from_gguf(&t, g, &err) != SV_OK)
        fail_msg("%s", err.msg);
    vocab_done(f);
    return t;
}

static sv_tokens encode(const sv_tokenizer *t, sv_str text, int flags)
{
    sv_tokens toks = {0};
    sv_err err = {0};
    if (sv_tokenizer_encode(t, text, flags, NO_LIMIT, &toks, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return toks;
}

static void assert_ids(const sv_tokenizer *t, const char *text, int flags, const int32_t *want, size_t n)
{
    sv_tokens got = encode(t, sv_str_of(text), flags);
    bool same = got.n == n && (n == 0 || memcmp(got.v, want, n * sizeof *want) == 0);
    for (size_t i = 0; !same && i < got.n; i++)
        print_message("%d '%.*s'\n", got.v[i], (int)sv_tokenizer_piece(t, got.v[i]).n, sv_tokenizer_piece(t, got.v[i]).p);
    if (!same)
        fail_msg("'%s': %zu ids, not the %zu expected", text, got.n, n);
    free(got.v);
}
#define IDS(t, text, flags, ...) \
    assert_ids(t, text, flags, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* All tokens through the streaming decoder, one character border at a time. */
static void decode(const sv_tokenizer *t, const sv_tokens *toks, bool started, sv_buf *out)
{
    sv_detok d = {.started = started};
    sv_buf_reset(out);
    for (size_t i = 0; i < toks->n; i++) {
        sv_detok_feed(&d, t, toks->v[i], out);
        assert_true(sv_utf8_valid(sv_buf_str(out))); /* never a half character */
    }
    sv_detok_finish(&d, out);
}

/* ---- rules, on a vocabulary made here ---- */

#define SP "\xe2\x96\x81"
static const vocab_word words[] = {
    {SP, -1, 1},        /* 259 */
    {"a", -2, 1},       /* 260 */
    {"b", -3, 1},       /* 261 */
    {"ab", -10, 1},     /* 262 */
    {"ba", -9, 1},      /* 263 */
    {SP "a", -11, 1},   /* 264 */
    {"aba", -12, 1},    /* 265 */
    {"<|im_start|>", 0, 3}, /* 266 */
    {"<|im_end|>", 0, 3},   /* 267 */
    {"<|im", 0, 4},     /* 268 */
    {"\xc3\xa4", -4, 1}, /* 269, U+00E4 */
    {"<", -5, 1},       /* 270 */
    {"s", -6, 1},       /* 271 */
    {"<s", -7, 1},      /* 272 */
    {">", -8, 1},       /* 273 */
};

static sv_tokenizer *small_spm(void)
{
    vocab_file f = {0};
    sv_buf_init(&f.kv, 0);
    vocab_spm(&f, true, words, SV_LEN(words));
    vocab_u32(&f, "tokenizer.ggml.eos_token_id", 2);
    vocab_u32(&f, "tokenizer.ggml.eot_token_id", 267);
    vocab_u32(&f, "tokenizer.ggml.padding_token_id", UINT32_MAX);
    return open_vocab(&f);
}

static void spm_joins_the_best_score_first_and_the_leftmost_among_equals(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = small_spm();
    IDS(t, "ba", 0, 259, 263);           /* the space in front joins only what is a piece */
    IDS(t, "bab", 0, 259, 263, 261);     /* "ba" (-9) before "ab" (-10), though both fit */
    IDS(t, "a", SV_TOK_BOS, 1, 264);
    IDS(t, "aba", 0, 264, 263);          /* "ba" is best, then "_a"; "aba" never gets its turn */
    IDS(t, "babba", 0, 259, 263, 261, 263);
    IDS(t, "", SV_TOK_BOS, 1);           /* no space in front of nothing */
    assert_ids(t, "", 0, NULL, 0);
}

static void characters_without_a_piece_become_bytes(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = small_spm();
    IDS(t, "\xc3\xa4", 0, 259, 269);
    IDS(t, "\xe2\x82\xac", 0, 259, 3 + 0xe2, 3 + 0x82, 3 + 0xac); /* the euro sign */
    IDS(t, "\xff\xc3", 0, 259, 3 + 0xff, 3 + 0xc3);               /* broken UTF-8 */
    IDS(t, "\n", 0, 259, 3 + '\n');
}

static void without_byte_tokens_the_unknown_token_stands_in(void **state)
{
    (void)state;
    vocab_file f = {0};
    sv_buf_init(&f.kv, 0);
    vocab_spm(&f, false, words, 4);
    vocab_bool(&f, "tokenizer.ggml.add_space_prefix", false);
    vocab_bool(&f, "tokenizer.ggml.add_bos_token", false);
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = open_vocab(&f);
    IDS(t, "a\xe2\x82\xac" "b", SV_TOK_BOS, 4, 0, 5);
    assert_false(sv_tokenizer_adds_bos(t));
}

static void control_tokens_count_only_where_the_caller_says_so(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = small_spm();
    IDS(t, "<|im_start|>a<|im_end|>", SV_TOK_SPECIAL, 266, 264, 267); /* longest match, space in front after a special token */
    IDS(t, "<s>", SV_TOK_SPECIAL, 1);
    IDS(t, "<s>", 0, 259, 272, 273);      /* plain text, not the control token */
    IDS(t, "<|im", 0, 268);               /* user-defined tokens always count */
    IDS(t, "b<|im<|im_end|", SV_TOK_SPECIAL, 259, 261, 268, 268, 259, 3 + '_', 3 + 'e', 3 + 'n', 3 + 'd', 3 + '|');
}

static void generation_ends_at_eos_eot_and_the_turn_ends_that_files_do_not_name(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = small_spm();
    assert_true(sv_tokenizer_is_eog(t, 2));
    assert_true(sv_tokenizer_is_eog(t, 267));
    assert_false(sv_tokenizer_is_eog(t, 1));
    assert_false(sv_tokenizer_is_eog(t, -1));
    assert_false(sv_tokenizer_is_eog(t, 1 << 20));
    assert_int_equal(sv_tokenizer_bos(t), 1);
    assert_int_equal(sv_tokenizer_eos(t), 2);
}

static void streaming_never_splits_a_character(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = small_spm();
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, 0);
    sv_detok d = {0};
    sv_detok_feed(&d, t, 1, &out); /* BOS is no text */
    sv_detok_feed(&d, t, 264, &out);
    assert_string_equal(sv_buf_cstr(&out), "a"); /* the first leading space went in at encode */
    sv_detok_feed(&d, t, 264, &out);
    assert_string_equal(sv_buf_cstr(&out), "a a");
    sv_detok_feed(&d, t, 3 + 0xe2, &out);
    sv_detok_feed(&d, t, 3 + 0x82, &out);
    assert_string_equal(sv_buf_cstr(&out), "a a");
    sv_detok_feed(&d, t, 3 + 0xac, &out);
    assert_string_equal(sv_buf_cstr(&out), "a a\xe2\x82\xac");

    sv_buf_reset(&out);
    const int32_t broken[] = {3 + 0xe2, 3 + 0x82, 260, 3 + 0xff, 3 + 0xc0, 3 + 0xf0, 3 + 0x80, 3 + 0xed, 3 + 0xa0, -5, 9999, 3 + 0xe2};
    for (size_t i = 0; i < SV_LEN(broken); i++)
        sv_detok_feed(&d, t, broken[i], &out);
    sv_detok_finish(&d, &out);
#define FFFD "\xef\xbf\xbd"
    assert_string_equal(sv_buf_cstr(&out), FFFD "a" FFFD FFFD FFFD FFFD FFFD FFFD FFFD);
}

static void a_text_that_continues_another_keeps_its_space(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = small_spm();
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, 0);
    sv_detok d = {.started = true};
    sv_detok_feed(&d, t, 264, &out);
    assert_string_equal(sv_buf_cstr(&out), " a");
}

static void too_many_tokens_are_refused_and_leave_what_was_there(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = small_spm();
    sv_tokens toks = encode(t, SV_STR("a"), 0);
    sv_err err = {0};
    assert_int_equal(sv_tokenizer_encode(t, SV_STR("bbbbb"), 0, 5, &toks, &err), SV_ELIMIT);
    assert_non_null(strstr(err.msg, "more than 5 tokens"));
    assert_int_equal(toks.n, 1);
    err = (sv_err){0};
    assert_int_equal(sv_tokenizer_encode(t, SV_STR("bbbb"), 0, 6, &toks, &err), SV_OK);
    assert_int_equal(toks.n, 6);
    /* refused by its size alone */
    static char big[1000];
    memset(big, 'b', sizeof big);
    assert_int_equal(sv_tokenizer_encode(t, (sv_str){big, sizeof big}, 0, 10, &toks, &err), SV_ELIMIT);
    assert_non_null(strstr(err.msg, "1000 bytes"));
    free(toks.v);
}

static void broken_vocabularies_are_refused_by_key(void **state)
{
    static const struct { const char *key; uint32_t value; const char *says; } bad[] = {
        {"tokenizer.ggml.eos_token_id", 5000, "tokenizer.ggml.eos_token_id: 5000"},
        {"tokenizer.ggml.bos_token_id", 274, "tokenizer.ggml.bos_token_id: 274"},
        {"tokenizer.ggml.eot_token_id", 0x7fffffff, "tokenizer.ggml.eot_token_id"},
    };
    (void)state;
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        vocab_file f = {0};
        sv_buf_init(&f.kv, 0);
        vocab_spm(&f, true, words, SV_LEN(words));
        vocab_u32(&f, bad[i].key, bad[i].value);
        sv_err err = {0};
        SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
        sv_tokenizer *t = NULL;
        assert_int_equal(vocab_open(&f, &g, &err), SV_OK);
        assert_int_equal(sv_tokenizer_from_gguf(&t, g, &err), SV_EFORMAT);
        assert_non_null(strstr(err.msg, bad[i].says));
        assert_null(t);
        vocab_done(&f);
    }
    vocab_file f = {0};
    sv_buf_init(&f.kv, 0);
    vocab_str(&f, "tokenizer.ggml.model", "llama");
    sv_err err = {0};
    SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
    sv_tokenizer *t = NULL;
    assert_int_equal(vocab_open(&f, &g, &err), SV_OK);
    assert_int_equal(sv_tokenizer_from_gguf(&t, g, &err), SV_EFORMAT);
    assert_non_null(strstr(err.msg, "tokenizer.ggml.tokens"));
    vocab_done(&f);
}

/* ---- real vocabularies ---- */

static void stories260k_encodes_the_prompt_as_llama2_c_does(void **state)
{
    (void)state;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = open_shared("models/stories260K/stories260K.gguf");
    assert_int_equal(sv_tokenizer_n_vocab(t), 512);
    sv_tokens toks = encode(t, SV_STR("Once upon a time"), SV_TOK_BOS);
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, 0);
    decode(t, &toks, false, &out);
    assert_string_equal(sv_buf_cstr(&out), "Once upon a time");
    assert_int_equal(toks.v[0], 1);
    assert_true(toks.n < 10);
    free(toks.v);
}

/* Random text out of ranges that meet different rules: ASCII, spaces, Latin, CJK, emoji, combining marks. No U+2581: it is
 * the space of these vocabularies. */
static void random_text(sv_buf *b, size_t n_chars)
{
    static const uint32_t ranges[][2] = {{0x20, 0x7e}, {0x20, 0x20}, {0x09, 0x0d}, {0xa1, 0x24f}, {0x300, 0x36f},
                                         {0x400, 0x4ff}, {0x600, 0x6ff}, {0x1780, 0x17ff}, {0x4e00, 0x9fff}, {0xac00, 0xd7a3},
                                         {0x1f300, 0x1f64f}, {0x10000, 0x10ffff}, {0x61, 0x7a}, {0x30, 0x39}};
    sv_buf_reset(b);
    for (size_t i = 0; i < n_chars; i++) {
        const uint32_t *r = ranges[rng() % SV_LEN(ranges)];
        uint32_t c = r[0] + (uint32_t)(rng() % (r[1] - r[0] + 1));
        char u[4];
        size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        for (size_t k = n; k-- > 1; c >>= 6)
            u[k] = (char)(0x80 | (c & 0x3f));
        u[0] = (char)(n == 1 ? c : (0xf0u << (4 - n) & 0xff) | c);
        sv_buf_add(b, u, n);
    }
}

static void round_trip(const char *vocabulary, int n_texts)
{
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = open_shared(vocabulary);
    SV_AUTO(sv_buf_donep) sv_buf text, back;
    sv_buf_init(&text, 0);
    sv_buf_init(&back, 0);
    sv_tokens toks = {0};
    sv_err err = {0};
    for (int i = 0; i < n_texts; i++) {
        random_text(&text, rng() % 24);
        toks.n = 0;
        if (sv_tokenizer_encode(t, sv_buf_str(&text), SV_TOK_BOS, NO_LIMIT, &toks, &err) != SV_OK)
            fail_msg("%s", err.msg);
        decode(t, &toks, false, &back);
        if (!sv_str_eq(sv_buf_str(&text), sv_buf_str(&back)))
            fail_msg("'%s' came back as '%s'", sv_buf_cstr(&text), sv_buf_cstr(&back));
    }
    free(toks.v);
}

/* A million texts, some seconds; a sanitizer makes each ten times slower and finds what it finds in fewer. */
static void lossless_tokenizers_give_random_unicode_back(void **state)
{
    static const char *const lossless[] = {
        "models/stories260K/stories260K.gguf",           "tokenizers/llama.cpp/ggml-vocab-llama-spm.gguf",
        "tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf",    "tokenizers/llama.cpp/ggml-vocab-deepseek-coder.gguf",
        "tokenizers/hf/phi-2/tokenizer.json",            "tokenizers/hf/whisper-tiny/tokenizer.json",
        "tokenizers/hf/llama2/tokenizer.json",
    };
#ifdef __SANITIZE_ADDRESS__
    enum { N_TEXTS = 20000 };
#else
    enum { N_TEXTS = 1000000 };
#endif
    (void)state;
    for (size_t i = 0; i < SV_LEN(lossless); i++)
        round_trip(lossless[i], N_TEXTS / (int)SV_LEN(lossless) + 1);
}

/* Of this thread: what else the machine does is not counted. */
static int64_t cpu_ms(void)
{
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A quadratic encoder needs minutes for any of these. */
static void assert_megabytes_are_quick(const char *vocabulary)
{
    static const char *const units[] = {"a", " ", "<", "ab", "hello world ", "\n", "\xe6\x88\x91", "\xff", "0", "'s", " \n", "a ",
                                        "\xcc\x88\xcc\xa3", "\xef\xb7\xba", "!", "\xc2\xa0", "[CLS", "<|endoftext|>"};
    enum { SIZE = 1 << 20, LIMIT_MS = 20000 }; /* under 1 s each where measured, sanitizers on top */
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = open_shared(vocabulary);
    SV_AUTO(sv_freep) char *big = sv_try_calloc(SIZE, 1);
    assert_non_null(big);
    for (size_t u = 0; u < SV_LEN(units); u++) {
        size_t n = strlen(units[u]);
        for (size_t i = 0; i < SIZE; i++)
            big[i] = units[u][i % n];
        int64_t t0 = cpu_ms();
        sv_tokens toks = encode(t, (sv_str){big, SIZE / n * n}, SV_TOK_SPECIAL);
        int64_t ms = cpu_ms() - t0;
        if (ms > LIMIT_MS)
            fail_msg("%s: 1 MiB of '%s' took %lld ms", vocabulary, units[u], (long long)ms);
        free(toks.v);
    }
}

static void a_megabyte_of_anything_takes_bounded_time(void **state)
{
    static const char *const vocabularies[] = {
        "tokenizers/llama.cpp/ggml-vocab-llama-spm.gguf",      "tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf",
        "tokenizers/llama.cpp/ggml-vocab-deepseek-coder.gguf", "tokenizers/llama.cpp/ggml-vocab-bert-bge.gguf",
        "tokenizers/hf/falcon/tokenizer.json",                 "tokenizers/hf/t5-small/tokenizer.json",
        "tokenizers/hf/phi-2/tokenizer.json",                  "tokenizers/hf/bert-base-uncased/tokenizer.json",
    };
    (void)state;
    for (size_t i = 0; i < SV_LEN(vocabularies); i++)
        assert_megabytes_are_quick(vocabularies[i]);
}

/* A rule of the file writes 1 MB for a letter: what 100 added tokens of one letter may cost has an end. */
static void added_tokens_that_a_normalizer_blows_up_are_refused(void **state)
{
    (void)state;
    enum { N = 1000000 };
    sv_tokenizer *t = NULL;
    sv_err err = {0};
    char *much = sv_xcalloc(N + 1, 1);
    memset(much, 'b', N);
    json_t *added = json_array();
    for (int i = 0; i < 100; i++) {
        char content[8];
        snprintf(content, sizeof content, "a%d", i);
        json_array_append_new(added, json_pack("{s:i,s:s,s:b}", "id", i + 1, "content", content, "normalized", 1));
    }
    SV_AUTO(sv_json_decrefp) json_t *root = json_pack("{s:o,s:{s:s,s:{s:s},s:s},s:{s:s,s:{s:i},s:[]}}", "added_tokens", added, "normalizer", "type", "Replace", "pattern",
                                                      "String", "a", "content", much, "model", "type", "BPE", "vocab", "x", 0, "merges");
    SV_AUTO(sv_freep) char *json = json_dumps(root, 0);
    assert_int_equal(sv_tokenizer_from_json(&t, sv_str_of(json), SV_STR(""), &err), SV_EFORMAT);
    if (!strstr(err.msg, "the added tokens have more than 64 MiB"))
        fail_msg("%s", err.msg);
    json_array_clear(added);
    free(json);
    json = json_dumps(root, 0);
    assert_int_equal(sv_tokenizer_from_json(&t, sv_str_of(json), SV_STR(""), &err), SV_OK);
    sv_tokenizer_free(t);
    free(much);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spm_joins_the_best_score_first_and_the_leftmost_among_equals),
        cmocka_unit_test(characters_without_a_piece_become_bytes),
        cmocka_unit_test(without_byte_tokens_the_unknown_token_stands_in),
        cmocka_unit_test(control_tokens_count_only_where_the_caller_says_so),
        cmocka_unit_test(generation_ends_at_eos_eot_and_the_turn_ends_that_files_do_not_name),
        cmocka_unit_test(streaming_never_splits_a_character),
        cmocka_unit_test(a_text_that_continues_another_keeps_its_space),
        cmocka_unit_test(too_many_tokens_are_refused_and_leave_what_was_there),
        cmocka_unit_test(broken_vocabularies_are_refused_by_key),
        cmocka_unit_test(stories260k_encodes_the_prompt_as_llama2_c_does),
        cmocka_unit_test(lossless_tokenizers_give_random_unicode_back),
        cmocka_unit_test(a_megabyte_of_anything_takes_bounded_time),
        cmocka_unit_test(added_tokens_that_a_normalizer_blows_up_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
