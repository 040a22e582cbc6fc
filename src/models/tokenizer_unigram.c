/* tokenizer_unigram.c - SentencePiece unigram: of all ways to cut a text into tokens the one with the best sum of scores
 *
 * Scores are log probabilities, so the best cut is found by one pass from the left (Viterbi): the best way to each position is
 * the best way to some earlier one and a token from there to here. Time is the text times the longest token that fits.
 *
 * Where no token is one character long, that character is unknown, at a score 10 below the worst token, as in SentencePiece;
 * unknown characters side by side are one unknown token, or bytes where the vocabulary has byte tokens. Of two cuts that are
 * equally good the one whose last token is longest wins, as in SentencePiece. Kudo 2018, arXiv:1804.10959. */
#include "models/tokenizer_impl.h"

#include "base/mem.h"

static void reach(tok_best *best, size_t at, float score, int32_t id, size_t from)
{
    if (best[at].id == -2 || score > best[at].score)
        best[at] = (tok_best){score, id, (uint32_t)from};
}

/* best[i] for each i: how text[0..i) is cut best; id -1 is an unknown character, -2 no way at all. */
static void find_best(const sv_tokenizer *t, sv_str text, tok_best *best)
{
    for (size_t i = 0; i <= text.n; i++)
        best[i] = (tok_best){0, -2, 0};
    best[0].id = -1;
    for (size_t i = 0, len; i < text.n; i += len) {
        uint32_t cp, node = 0;
        len = sv_uni_get(text.p + i, text.n - i, &cp);
        bool single = false;
        for (size_t k = i; k < text.n; k++) {
            node = sv_tok_trie_next(&t->trie, node, (uint8_t)text.p[k]);
            if (node == 0)
                break;
            int32_t id = t->trie.id[node];
            if (id < 0)
                continue;
            single = single || k + 1 - i == len;
            reach(best, k + 1, best[i].score + t->score[id], id, i);
        }
        if (!single)
            reach(best, i + len, best[i].score + t->unk_score, -1, i);
    }
}

sv_rc sv_tok_encode_unigram(const sv_tokenizer *t, sv_str text, tok_sink *sink)
{
    tok_work *w = sink->work;
    size_t n = 0;
    if (sv_tok_reserve((void **)&w->best, &w->cap_best, text.n + 1, sizeof *w->best, sink->err) != SV_OK ||
        sv_tok_reserve((void **)&w->syms, &w->cap_syms, text.n, sizeof *w->syms, sink->err) != SV_OK)
        return sink->err->code;
    find_best(t, text, w->best);
    for (size_t at = text.n; at > 0; at = w->best[at].from)
        w->syms[n++] = (tok_sym){.start = w->best[at].from, .len = (uint32_t)at - w->best[at].from, .id = w->best[at].id};
    for (bool after_unknown = false; n-- > 0;) {
        const tok_sym *s = &w->syms[n];
        sv_rc rc = SV_OK;
        if (s->id >= 0)
            rc = sv_tok_push(sink, s->id);
        else if (t->byte_id[(uint8_t)text.p[s->start]] >= 0)
            rc = sv_tok_push_bytes(t, text.p + s->start, s->len, sink);
        else if (!(after_unknown && t->fuse_unk) && t->unk >= 0)
            rc = sv_tok_push(sink, t->unk);
        if (rc != SV_OK)
            return rc;
        after_unknown = s->id < 0;
    }
    return SV_OK;
}
