/* tokenizer_spm.c - SentencePiece BPE: characters joined by the scores of the pieces they make
 *
 * A space is written U+2581 inside the vocabulary, so words carry the space before them, and a text gets one more space in
 * front ("Hello" and " Hello" inside a sentence are the same piece); the normalizer has done both. The training order of the
 * merges is not in the file: the score of a piece stands for it, and any two neighbours whose joined text is a piece may join.
 * Characters without a piece become their UTF-8 bytes as <0x00> to <0xFF>.
 * Kudo & Richardson 2018, arXiv:1808.06226. */
#include "models/tokenizer_impl.h"

#include "base/mem.h"

static bool is_text(const sv_tokenizer *t, int32_t id)
{
    return id >= 0 && (t->type[id] == TOK_NORMAL || t->type[id] == TOK_USER || t->type[id] == TOK_UNUSED);
}

/* "<s>" typed by a user is three characters, whatever the vocabulary calls that text. */
static bool join_by_score(const sv_tokenizer *t, const char *text, const tok_sym *a, const tok_sym *b, int32_t *id, float *priority)
{
    int32_t found = sv_tok_find(t, text + a->start, (size_t)a->len + b->len);
    if (!is_text(t, found))
        return false;
    *id = found;
    *priority = t->score[found];
    return true;
}

sv_rc sv_tok_encode_spm(const sv_tokenizer *t, sv_str text, tok_sink *sink)
{
    tok_work *w = sink->work;
    size_t n = 0;
    if (sv_tok_reserve((void **)&w->syms, &w->cap_syms, text.n, sizeof *w->syms, sink->err) != SV_OK)
        return sink->err->code;
    for (size_t i = 0; i < text.n; n++) {
        uint32_t cp;
        size_t len = sv_uni_get(text.p + i, text.n - i, &cp);
        int32_t id = sv_tok_find(t, text.p + i, len);
        w->syms[n] = (tok_sym){(uint32_t)i, (uint32_t)len, (int32_t)n - 1, (int32_t)n + 1, is_text(t, id) ? id : -1};
        i += len;
    }
    w->syms[n - 1].next = -1;
    if (sv_tok_merge(t, text.p, n, join_by_score, w, sink->err) != SV_OK)
        return sink->err->code;

    for (int32_t i = 0; i >= 0; i = w->syms[i].next) {
        sv_rc rc = w->syms[i].id >= 0 ? sv_tok_push(sink, w->syms[i].id)
                                      : sv_tok_push_bytes(t, text.p + w->syms[i].start, w->syms[i].len, sink);
        if (rc != SV_OK)
            return rc;
    }
    return SV_OK;
}
