/* links: models */
/* tokenizer_fuzz.c - texts through a small vocabulary and back, and vocabularies that a stranger made
 *
 * The first byte picks: 'V' takes the rest as a GGUF file, anything else as the flags for a text. */
#include "models/vocab_testing.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static const vocab_word words[] = {
    {"\xe2\x96\x81", -1, 1}, {"a", -2, 1}, {"b", -3, 1}, {"ab", -10, 1}, {"ba", -9, 1}, {"\xe2\x96\x81" "a", -11, 1}, {"aba", -12, 1},
    {"<|im_start|>", 0, 3}, {"<|im_end|>", 0, 3}, {"<|im", 0, 4}, {"\xc3\xa4", -4, 1}, {"<", -5, 1}, {"\n\n", 0, 4}, {"aaaa", 1, 1},
};

static sv_tokenizer *small_vocabulary(void)
{
    vocab_file f = {0};
    sv_err err = {0};
    SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
    sv_tokenizer *t = NULL;
    sv_buf_init(&f.kv, 0);
    vocab_spm(&f, true, words, SV_LEN(words));
    SV_ASSERT(vocab_open(&f, &g, &err) == SV_OK && sv_tokenizer_from_gguf(&t, g, &err) == SV_OK);
    vocab_done(&f);
    return t;
}

/* Without special tokens every byte comes back, but for U+2581, which is a space in such vocabularies. */
static void round_trip(const sv_tokenizer *t, sv_str text, int flags)
{
    SV_AUTO(sv_buf_donep) sv_buf back, shown;
    sv_err err = {0};
    sv_tokens toks = {0};
    sv_detok d = {0};
    sv_buf_init(&back, 0);
    sv_buf_init(&shown, 0);
    SV_ASSERT(sv_tokenizer_encode(t, text, flags, text.n + 2, &toks, &err) == SV_OK || err.code == SV_ELIMIT);
    for (size_t i = 0; i < toks.n; i++) {
        sv_str s = sv_tokenizer_piece(t, toks.v[i]);
        sv_buf_add(&back, s.p, s.n);
        sv_detok_feed(&d, t, toks.v[i], &shown);
        SV_ASSERT(sv_utf8_valid(sv_buf_str(&shown)));
    }
    sv_detok_finish(&d, &shown);
    SV_ASSERT(sv_utf8_valid(sv_buf_str(&shown)));
    bool lossless = !(flags & SV_TOK_SPECIAL) && !memmem(text.p, text.n, "\xe2\x96\x81", 3) &&
                    !memmem(text.p, text.n, "<|im", 4) && !memmem(text.p, text.n, "\n\n", 2);
    if (lossless && err.code == SV_OK && text.n > 0)
        SV_ASSERT(back.n == text.n + 1 && memcmp(back.p + 1, text.p, text.n) == 0);
    free(toks.v);
}

static void open_strange(const uint8_t *p, size_t n)
{
    sv_err err = {0};
    SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = NULL;
    SV_AUTO(sv_freep) void *copy = sv_try_aligned(n + 32, 32);
    sv_tokens toks = {0};
    SV_ASSERT(copy);
    memcpy(copy, p, n);
    if (sv_gguf_parse(&g, copy, n, &err) != SV_OK || sv_tokenizer_from_gguf(&t, g, &err) != SV_OK) {
        SV_ASSERT(err.msg[0] != '\0'); /* a refusal says why */
        return;
    }
    static const char text[] = "Hello <s> 123  w\xc3\xb6rld</s>\n\xff don't";
    if (sv_tokenizer_encode(t, SV_STR(text), SV_TOK_BOS | SV_TOK_SPECIAL, 1000, &toks, &err) == SV_OK)
        for (size_t i = 0; i < toks.n; i++)
            SV_ASSERT(toks.v[i] >= 0 && toks.v[i] < sv_tokenizer_n_vocab(t));
    free(toks.v);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static sv_tokenizer *t;
    if (!t)
        t = small_vocabulary();
    if (n > 0 && p[0] == 'V')
        open_strange(p + 1, n - 1);
    else if (n > 0)
        round_trip(t, (sv_str){(const char *)p + 1, n - 1}, p[0] & 3);
    return 0;
}
