/* links: engine; seconds: 60 */
/* utf8_fuzz.c - bytes that claim to be text: through the UTF-8 functions, the normal forms, byte-level tokenizers and the streaming decoder,
 * each against a decoder written here from Unicode's table 3-7 and against what the standard says of the forms (UAX #15, section 1.2)
 *
 * The first byte picks where pieces of a stream end, the rest is the text. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "engine/stops.h"
#include "models/unicode.h"
#include "models/vocab_testing.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* ---- the decoder to compare with: a row of the table at a time ---- */

static const struct row { uint8_t first_lo, first_hi, n, second_lo, second_hi; } table[] = {
    {0x00, 0x7f, 1, 0, 0},       {0xc2, 0xdf, 2, 0x80, 0xbf}, {0xe0, 0xe0, 3, 0xa0, 0xbf}, {0xe1, 0xec, 3, 0x80, 0xbf}, {0xed, 0xed, 3, 0x80, 0x9f},
    {0xee, 0xef, 3, 0x80, 0xbf}, {0xf0, 0xf0, 4, 0x90, 0xbf}, {0xf1, 0xf3, 4, 0x80, 0xbf}, {0xf4, 0xf4, 4, 0x80, 0x8f},
};

/* How many bytes of a character's row stand at p (the maximal subpart, 1 at least), and whether they are all of it. */
static size_t subpart(const uint8_t *p, size_t n, bool *whole)
{
    *whole = false;
    for (size_t i = 0; i < SV_LEN(table); i++) {
        const struct row *r = &table[i];
        if (p[0] < r->first_lo || p[0] > r->first_hi)
            continue;
        size_t k = 1;
        while (k < r->n && k < n && p[k] >= (k == 1 ? r->second_lo : 0x80) && p[k] <= (k == 1 ? r->second_hi : 0xbf))
            k++;
        *whole = k == r->n;
        return k;
    }
    return 1;
}

/* The text with one U+FFFD for each maximal subpart that is no character (Unicode, "U+FFFD Substitution"). *n_chars counts characters. */
static bool lossy(sv_buf *out, const uint8_t *p, size_t n, size_t *n_chars)
{
    bool all = true, whole;
    for (size_t i = 0, k; i < n; i += k, ++*n_chars) {
        k = subpart(p + i, n - i, &whole);
        sv_buf_add(out, whole ? (const char *)p + i : "\xef\xbf\xbd", whole ? k : 3);
        all = all && whole;
    }
    return all;
}

static bool same(const sv_buf *a, const sv_buf *b)
{
    return a->n == b->n && memcmp(sv_buf_cstr(a), sv_buf_cstr(b), a->n) == 0;
}

/* ---- base/str.h and models/unicode.h ---- */

static void check_functions(const uint8_t *p, size_t n, bool valid, size_t n_chars)
{
    sv_str s = {(const char *)p, n};
    SV_ASSERT(sv_utf8_valid(s) == valid && (!valid || sv_utf8_len(s) == n_chars));
    size_t whole = sv_utf8_whole(s), tail = n - whole;
    bool complete;
    SV_ASSERT(whole <= n && (!valid || tail == 0));
    if (tail > 0) /* what is cut off is a beginning of one character, and goes to the very end */
        SV_ASSERT(tail < 4 && subpart(p + whole, tail, &complete) == tail && !complete);
    for (size_t i = 0, k; i < n; i += k) {
        char again[4];
        uint32_t cp;
        k = sv_uni_get(s.p + i, n - i, &cp);
        size_t want = subpart(p + i, n - i, &complete);
        SV_ASSERT(k == (complete ? want : 1) && (cp < SV_UNI_BROKEN) == complete);
        SV_ASSERT(sv_uni_put(again, cp) == k && memcmp(again, p + i, k) == 0);
        SV_ASSERT(sv_uni_category(cp) >= 0 && sv_uni_category(cp) < SV_UNI_N_CATEGORIES);
        uint32_t out[3];
        SV_ASSERT(sv_uni_lower(cp, out) - 1 < 3 && sv_uni_upper(cp, out) - 1 < 3);
    }
}

static void normalize(sv_buf *out, const sv_buf *in, sv_uni_form form)
{
    sv_err err = {0};
    sv_buf_init(out, 0);
    SV_ASSERT(sv_uni_normalize(out, sv_buf_str(in), form, &err) == SV_OK);
}

/* toX(toX(s)) = toX(s); toNFC(toNFD(s)) = toNFC(s) and the other way, the same of the K forms; K of canonical equals K. */
static void check_forms(const sv_buf *text, bool valid)
{
    sv_buf form[4], again[4], from[4], k[4];
    for (int f = 0; f < 4; f++) {
        normalize(&form[f], text, (sv_uni_form)f);
        normalize(&again[f], &form[f], (sv_uni_form)f);
        SV_ASSERT(same(&form[f], &again[f]) && sv_utf8_valid(sv_buf_str(&form[f])) == valid);
    }
    for (int f = 0; f < 4; f++) {
        normalize(&from[f], &form[f ^ 1], (sv_uni_form)f);
        normalize(&k[f], &form[f & 1], (sv_uni_form)(f | 2));
        SV_ASSERT(same(&form[f], &from[f]) && same(&form[f | 2], &k[f]));
    }
    for (int f = 0; f < 4; f++)
        sv_buf_done(&form[f]), sv_buf_done(&again[f]), sv_buf_done(&from[f]), sv_buf_done(&k[f]);
}

/* ---- tokenizers: every byte has a token, so that any bytes come back ---- */

static sv_tokenizer *byte_level(const char *pre)
{
    static const char *const longer[] = {"th", "in", "\xc3\x83\xc2\xa4", "\xc4\xa0t", "\xc4\xa0th"}; /* in GPT-2's spelling */
    static const char *const merges[] = {"t h", "i n", "\xc3\x83 \xc2\xa4", "\xc4\xa0 t", "\xc4\xa0t h"};
    vocab_file f = {0};
    sv_err err = {0};
    SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
    sv_tokenizer *t = NULL;
    sv_buf_init(&f.kv, 0);
    vocab_str(&f, "tokenizer.ggml.model", "gpt2");
    vocab_str(&f, "tokenizer.ggml.pre", pre);
    vocab_array(&f, "tokenizer.ggml.tokens", 8, 256 + SV_LEN(longer));
    for (uint32_t b = 0; b < 256; b++) { /* printable bytes as themselves, the others from U+0100 on, in order */
        static uint32_t n_others;
        bool printable = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
        char u[4];
        uint32_t c = printable ? b : 0x100 + n_others++ % 68;
        vocab_put_str(&f, u, sv_uni_put(u, c));
    }
    for (size_t i = 0; i < SV_LEN(longer); i++)
        vocab_put_str(&f, longer[i], strlen(longer[i]));
    vocab_array(&f, "tokenizer.ggml.merges", 8, SV_LEN(merges));
    for (size_t i = 0; i < SV_LEN(merges); i++)
        vocab_put_str(&f, merges[i], strlen(merges[i]));
    if (vocab_open(&f, &g, &err) != SV_OK || sv_tokenizer_from_gguf(&t, g, &err) != SV_OK)
        sv_log(SV_ERROR, "fuzz.utf8", "%s", err.msg);
    SV_ASSERT(t);
    vocab_done(&f);
    return t;
}

/* Encoded, the tokens' bytes are the text's; streamed, the text is what the decoder above makes of it, and whole characters at every moment. */
static void check_tokenizer(const sv_tokenizer *t, const uint8_t *p, size_t n, const sv_buf *want)
{
    SV_AUTO(sv_buf_donep) sv_buf bytes, shown;
    sv_err err = {0};
    sv_tokens toks = {0};
    sv_detok d = {0};
    sv_buf_init(&bytes, 0);
    sv_buf_init(&shown, 0);
    SV_ASSERT(sv_tokenizer_encode(t, (sv_str){(const char *)p, n}, 0, n + 1, &toks, &err) == SV_OK);
    for (size_t i = 0; i < toks.n; i++) {
        sv_str piece = sv_tokenizer_piece(t, toks.v[i]);
        sv_buf_add(&bytes, piece.p, piece.n);
        sv_detok_feed(&d, t, toks.v[i], &shown);
        SV_ASSERT(sv_utf8_valid(sv_buf_str(&shown)));
    }
    sv_detok_finish(&d, &shown);
    SV_ASSERT(bytes.n == n && (n == 0 || memcmp(bytes.p, p, n) == 0));
    SV_ASSERT(same(&shown, want));
    free(toks.v);
}

/* ---- stop strings: where the pieces end makes no difference ---- */

static void check_stops(uint8_t seed, const sv_buf *text)
{
    SV_AUTO(sv_buf_donep) sv_buf whole, pieces;
    sv_stops once, parts;
    sv_buf_init(&whole, 0);
    sv_buf_init(&pieces, 0);
    const char *s = sv_buf_cstr(text);
    size_t at = text->n ? seed * 7u % text->n : 0, len = text->n - at < 5 ? text->n - at : 5;
    while (at > 0 && (s[at] & 0xc0) == 0x80)
        at--, len++;
    while (len > 0 && at + len < text->n && (s[at + len] & 0xc0) == 0x80)
        len--;
    if (len == 0 || memchr(s + at, 0, len))
        return;
    const sv_str stop[] = {{s + at, len}, SV_STR("\xc3\xa4\xc3\xa4"), SV_STR("aab")};
    sv_stops_init(&once, stop, SV_LEN(stop));
    sv_stops_init(&parts, stop, SV_LEN(stop));
    bool found = sv_stops_feed(&once, sv_buf_str(text), &whole), found_there = false;
    SV_ASSERT(found);
    for (size_t i = 0, k; i < text->n && !found_there; i += k) {
        for (k = 1; i + k < text->n && ((s[i + k] & 0xc0) == 0x80 || (k + seed) % 5 != 0);)
            k++;
        found_there = sv_stops_feed(&parts, (sv_str){s + i, k}, &pieces);
        SV_ASSERT(sv_utf8_valid(sv_buf_str(&pieces)));
    }
    SV_ASSERT(found_there && same(&whole, &pieces));
    sv_stops_done(&once);
    sv_stops_done(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const pre[] = {"gpt-2", "llama-bpe", "qwen2", "tekken", "deepseek-v3", "default"};
    static sv_tokenizer *t[SV_LEN(pre)];
    for (size_t i = 0; i < SV_LEN(pre) && !t[i]; i++)
        t[i] = byte_level(pre[i]);
    if (n == 0)
        return 0;
    uint8_t seed = p[0];
    size_t n_chars = 0;
    SV_AUTO(sv_buf_donep) sv_buf text, shown;
    sv_buf_init(&text, 0);
    sv_buf_init(&shown, 0);
    sv_buf_add(&text, p + 1, n - 1);
    bool valid = lossy(&shown, p + 1, n - 1, &n_chars);
    check_functions((const uint8_t *)sv_buf_cstr(&text), n - 1, valid, n_chars);
    check_forms(&text, valid);
    check_tokenizer(t[seed % SV_LEN(pre)], (const uint8_t *)sv_buf_cstr(&text), n - 1, &shown);
    check_stops(seed, &shown);
    return 0;
}
