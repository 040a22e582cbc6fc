/* tokenizer_bpe.c - byte-pair encoding by a list of merges: of all neighbours the pair that training joined first
 *
 * Byte-level vocabularies (GPT-2 and after) begin with single bytes, the others with characters. Both look up pairs of ids and
 * never build a text: a merge names two tokens, what they make is a third, and a table from pair to (rank, id) is all there is.
 * It is open addressing with 16 bytes an entry, since a prompt of a thousand words asks it some ten thousand times.
 *
 * A character that is no token becomes its UTF-8 bytes where the vocabulary has them as <0x00> to <0xFF> (they may take part in
 * merges), else the unknown token. Sennrich et al. 2016, arXiv:1508.07909. */
#include "models/tokenizer_impl.h"

#include <string.h>

#include "base/mem.h"

static uint32_t hash_pair(uint64_t pair)
{
    pair *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(pair >> 32) ^ (uint32_t)(pair >> 15);
}

sv_rc sv_tok_merges_init(sv_tokenizer *t, size_t n, sv_err *err)
{
    size_t n_slots = 16;
    if (n > SV_TOK_MAX_VOCAB)
        return sv_fail(err, SV_EFORMAT, "%zu merges, at most %d", n, SV_TOK_MAX_VOCAB);
    while (n_slots < 2 * n)
        n_slots *= 2;
    t->merges = sv_try_calloc(n_slots, sizeof *t->merges);
    if (!t->merges)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu merges", n);
    for (size_t i = 0; i < n_slots; i++)
        t->merges[i].id = -1;
    t->merge_mask = (uint32_t)(n_slots - 1);
    return SV_OK;
}

void sv_tok_merges_add(sv_tokenizer *t, sv_str left, sv_str right, uint32_t rank)
{
    char joined[512];
    int32_t a = sv_tok_find(t, left.p, left.n), b = sv_tok_find(t, right.p, right.n);
    if (a < 0 || b < 0 || left.n + right.n > t->max_text)
        return;
    SV_AUTO(sv_freep) char *big = left.n + right.n > sizeof joined ? sv_try_calloc(left.n + right.n, 1) : NULL;
    char *both = big ? big : joined;
    if (!big && left.n + right.n > sizeof joined)
        return;
    memcpy(both, left.p, left.n);
    memcpy(both + left.n, right.p, right.n);
    int32_t id = sv_tok_find(t, both, left.n + right.n);
    if (id < 0)
        return;
    uint64_t pair = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    uint32_t i = hash_pair(pair) & t->merge_mask;
    for (; t->merges[i].id >= 0; i = (i + 1) & t->merge_mask)
        if (t->merges[i].pair == pair)
            return; /* the first of two counts */
    t->merges[i] = (tok_merge){pair, id, rank};
}

static bool join_by_rank(const sv_tokenizer *t, const char *text, const tok_sym *a, const tok_sym *b, int32_t *id, float *priority)
{
    (void)text;
    if (a->id < 0 || b->id < 0)
        return false;
    uint64_t pair = (uint64_t)(uint32_t)a->id << 32 | (uint32_t)b->id;
    for (uint32_t i = hash_pair(pair) & t->merge_mask; t->merges[i].id >= 0; i = (i + 1) & t->merge_mask)
        if (t->merges[i].pair == pair) {
            *id = t->merges[i].id;
            *priority = -(float)t->merges[i].rank; /* exact: ranks are below 2^24 */
            return true;
        }
    return false;
}

/* The piece as the vocabulary would spell it, in work->word where that differs. */
static sv_str spell(const sv_tokenizer *t, sv_str text, tok_work *w)
{
    if (!t->byte_level)
        return text;
    sv_buf_reset(&w->word);
    for (size_t i = 0; i < text.n; i++) {
        char u[4];
        sv_buf_add(&w->word, u, sv_uni_put(u, sv_tok_byte_char((uint8_t)text.p[i])));
    }
    return sv_buf_str(&w->word);
}

static int32_t whole(const sv_tokenizer *t, sv_str text, tok_work *w)
{
    if (text.n > t->max_text)
        return -1;
    sv_str s = spell(t, text, w);
    int32_t id = sv_tok_find(t, s.p, s.n);
    return id >= 0 && t->type[id] == TOK_NORMAL ? id : -1;
}

/* The id of one byte or character, the last of a piece where `last`. */
static int32_t symbol_id(const sv_tokenizer *t, const char *p, size_t n, bool last)
{
    char u[64];
    size_t k = n;
    if (t->byte_level && !(last && t->word_end))
        return t->byte_id[(uint8_t)*p];
    if (t->byte_level)
        k = sv_uni_put(u, sv_tok_byte_char((uint8_t)*p));
    else
        memcpy(u, p, n);
    if (last && t->word_end) { /* at most 32 bytes, the loader saw to it */
        memcpy(u + k, t->word_end, strlen(t->word_end));
        k += strlen(t->word_end);
    }
    int32_t id = sv_tok_find(t, u, k);
    return id >= 0 && (t->type[id] == TOK_NORMAL || t->type[id] == TOK_USER || t->type[id] == TOK_UNUSED) ? id : -1;
}

static bool has_bytes(const sv_tokenizer *t, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (t->byte_id[(uint8_t)p[i]] < 0)
            return false;
    return true;
}

static size_t make_symbols(const sv_tokenizer *t, sv_str text, tok_sym *syms)
{
    size_t n = 0;
    for (size_t i = 0, len; i < text.n; i += len) {
        uint32_t cp;
        len = t->byte_level ? 1 : sv_uni_get(text.p + i, text.n - i, &cp);
        int32_t id = symbol_id(t, text.p + i, len, i + len == text.n);
        if (id < 0 && t->byte_level && t->unk < 0)
            continue; /* a vocabulary without this byte: its own library does not see it either */
        bool as_bytes = id < 0 && !t->byte_level && has_bytes(t, text.p + i, len);
        size_t parts = as_bytes ? len : 1;
        for (size_t k = 0; k < parts; k++, n++)
            syms[n] = (tok_sym){(uint32_t)(i + k), (uint32_t)(len / parts), (int32_t)n - 1, (int32_t)n + 1,
                                as_bytes ? t->byte_id[(uint8_t)text.p[i + k]] : id};
    }
    if (n > 0)
        syms[n - 1].next = -1;
    return n;
}

sv_rc sv_tok_encode_bpe(const sv_tokenizer *t, sv_str text, tok_sink *sink)
{
    tok_work *w = sink->work;
    int32_t id;
    if (t->ignore_merges && (id = whole(t, text, w)) >= 0)
        return sv_tok_push(sink, id);
    if (sv_tok_reserve((void **)&w->syms, &w->cap_syms, text.n, sizeof *w->syms, sink->err) != SV_OK)
        return sink->err->code;
    size_t n = make_symbols(t, text, w->syms);
    if (n == 0 || sv_tok_merge(t, text.p, n, join_by_rank, w, sink->err) != SV_OK)
        return n == 0 ? SV_OK : sink->err->code;
    bool after_unknown = false;
    for (int32_t i = 0; i >= 0; i = w->syms[i].next) {
        bool unknown = w->syms[i].id < 0;
        id = unknown ? t->unk : w->syms[i].id;
        if (id >= 0 && !(unknown && after_unknown && t->fuse_unk) && sv_tok_push(sink, id) != SV_OK)
            return sink->err->code;
        after_unknown = unknown;
    }
    return SV_OK;
}
