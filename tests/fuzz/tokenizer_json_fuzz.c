/* links: models; seconds: 60 */
/* tokenizer_json_fuzz.c - tokenizer.json files that a stranger made, and texts through those that open */
#include "base/mem.h"
#include "models/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void encode_and_decode(const sv_tokenizer *t, sv_str text, int flags)
{
    SV_AUTO(sv_buf_donep) sv_buf shown;
    sv_err err = {0};
    sv_tokens toks = {0};
    sv_detok d = {0};
    sv_buf_init(&shown, 0);
    if (sv_tokenizer_encode(t, text, flags, 10000, &toks, &err) != SV_OK)
        SV_ASSERT(err.msg[0] != '\0' && toks.n == 0);
    for (size_t i = 0; i < toks.n; i++) {
        SV_ASSERT(toks.v[i] >= 0 && toks.v[i] < sv_tokenizer_n_vocab(t));
        sv_detok_feed(&d, t, toks.v[i], &shown);
        SV_ASSERT(sv_utf8_valid(sv_buf_str(&shown)));
    }
    sv_detok_finish(&d, &shown);
    SV_ASSERT(sv_utf8_valid(sv_buf_str(&shown)));
    free(toks.v);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char text[] = "Hello <s> 123  w\xc3\xb6rld</s>\n\xff don't  \xe4\xb8\xad\xef\xb7\xba e\xcc\x81\xe2\x96\x81 [CLS]";
    sv_err err = {0};
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = NULL;
    if (sv_tokenizer_from_json(&t, (sv_str){(const char *)p, n}, SV_STR("{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}}"),
                               &err) != SV_OK) {
        SV_ASSERT(err.msg[0] != '\0'); /* a refusal says why */
        return 0;
    }
    encode_and_decode(t, SV_STR(text), SV_TOK_BOS | SV_TOK_SPECIAL | SV_TOK_EOS);
    encode_and_decode(t, (sv_str){(const char *)p, n < 2000 ? n : 2000}, 0);
    return 0;
}
