/* tokenizer_spm.c - SentencePiece BPE: characters joined by the scores of the pieces they make
 *
 * A space is written U+2581 inside the vocabulary, so words carry the space before them, and a text gets one more space in
 * front ("Hello" and " Hello" inside a sentence are the same piece). The training order of the merges is not in the file: the
 * score of a piece stands for it, and any two neighbours whose joined text is a piece may join. Characters without a piece
 * become their UTF-8 bytes as <0x00> to <0xFF>.
 * Kudo & Richardson 2018, arXiv:1808.06226. */
#include "models/tokenizer_impl.h"

static const char SPACE[] = "\xe2\x96\x81"; /* U+2581 */

static bool join_by_score(const sv_tokenizer *t, const char *text, const tok_sym *a, const tok_sym *b, int32_t *id, float *priority)
{
    int32_t found = sv_tok_find(t, text + a->start, (size_t)a->len + b->len);
    /* "<s>" typed by a user is three characters, whatever the vocabulary calls that text. */
    if (found < 0 || t->type[found] == TOK_CONTROL || t->type[found] == TOK_UNKNOWN || t->type[found] == TOK_BYTE)
        return false;
    *id = found;
    *priority = t->score[found];
    return true;
}

static sv_rc escape_spaces(const sv_tokenizer *t, sv_str text, bool at_start, sv_buf *out, sv_err *err)
{
    if (at_start && t->add_space_prefix)
        sv_buf_add(out, SPACE, 3);
    for (size_t i = 0, run; i < text.n; i += run) {
        const char *sp = memchr(text.p + i, ' ', text.n - i);
        run = sp ? (size_t)(sp - text.p) - i : text.n - i;
        sv_buf_add(out, text.p + i, run);
        if (sp) {
            sv_buf_add(out, SPACE, 3);
            run++;
        }
    }
    return out->failed ? sv_fail(err, SV_ENOMEM, "no memory to tokenize %zu bytes", text.n) : SV_OK;
}

static int32_t char_id(const sv_tokenizer *t, const char *p, size_t n)
{
    int32_t id = sv_tok_find(t, p, n);
    return id >= 0 && (t->type[id] == TOK_NORMAL || t->type[id] == TOK_USER || t->type[id] == TOK_UNUSED) ? id : -1;
}

sv_rc sv_tok_encode_spm(const sv_tokenizer *t, sv_str text, bool at_start, tok_sink *sink)
{
    SV_AUTO(sv_buf_donep) sv_buf esc;
    sv_buf_init(&esc, 3 * text.n + 16);
    if (escape_spaces(t, text, at_start, &esc, sink->err) != SV_OK)
        return sink->err->code;

    SV_AUTO(sv_freep) tok_sym *syms = sv_try_calloc(esc.n, sizeof *syms);
    if (!syms)
        return sv_fail(sink->err, SV_ENOMEM, "no memory to tokenize %zu bytes", text.n);
    size_t n = 0;
    for (size_t i = 0; i < esc.n; n++) {
        uint32_t cp;
        size_t len = sv_tok_char(esc.p + i, esc.n - i, &cp);
        syms[n] = (tok_sym){(uint32_t)i, (uint32_t)len, (int32_t)n - 1, (int32_t)n + 1, char_id(t, esc.p + i, len)};
        i += len;
    }
    syms[n - 1].next = -1;
    if (sv_tok_merge(t, esc.p, syms, n, join_by_score, sink->err) != SV_OK)
        return sink->err->code;

    for (int32_t i = 0; i >= 0; i = syms[i].next) {
        sv_rc rc = syms[i].id >= 0 ? sv_tok_push(sink, syms[i].id)
                                   : sv_tok_push_bytes(t, esc.p + syms[i].start, syms[i].len, sink);
        if (rc != SV_OK)
            return rc;
    }
    return SV_OK;
}
