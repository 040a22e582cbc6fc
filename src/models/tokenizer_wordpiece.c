/* tokenizer_wordpiece.c - BERT's WordPiece: of each word the longest token it begins with, then of the rest
 *
 * The splitter has made words. Tokens that begin a word and tokens that continue one are different strings in the vocabulary
 * ("##ing" continues); our pieces have a space in front of the former, so that a text is pieces side by side, and the trie holds
 * pieces. A word that does not come out even is unknown as a whole, and so is one of more than max_word characters, which also
 * bounds the time a word takes. Wu et al. 2016, arXiv:1609.08144. */
#include "models/tokenizer_impl.h"

#include "base/mem.h"

static bool too_long(const sv_tokenizer *t, sv_str word)
{
    uint32_t n = 0, cp;
    for (size_t i = 0; i < word.n; i += sv_uni_get(word.p + i, word.n - i, &cp))
        if (++n > t->max_word)
            return true;
    return false;
}

sv_rc sv_tok_encode_wordpiece(const sv_tokenizer *t, sv_str word, tok_sink *sink)
{
    size_t before = sink->out->n;
    bool known = !too_long(t, word);
    for (size_t i = 0; i < word.n && known;) {
        uint32_t node = i == 0 ? sv_tok_trie_next(&t->trie, 0, ' ') : 0;
        int32_t id = -1;
        size_t end = i;
        for (size_t k = i; k < word.n && (k > 0 || node != 0); k++) {
            node = sv_tok_trie_next(&t->trie, node, (uint8_t)word.p[k]);
            if (node == 0)
                break;
            if (t->trie.id[node] >= 0) {
                id = t->trie.id[node];
                end = k + 1;
            }
        }
        known = id >= 0;
        if (known && sv_tok_push(sink, id) != SV_OK)
            return sink->err->code;
        i = end;
    }
    if (known)
        return SV_OK;
    sink->out->n = before;
    return t->unk >= 0 ? sv_tok_push(sink, t->unk) : SV_OK;
}
