/* tokenizer.c - the way of a text through a tokenizer, and the way back
 *
 *     text ─► added tokens cut out ─► normalizer ─► added tokens, those looked for in normal form ─► splitter ─► model ─► ids
 *
 * Added tokens are of two kinds. Control tokens (<s>, <|im_end|>) count only where the caller says that the text is a rendered
 * template, since a user who types "</s>" must not end his own prompt; the others always count. At each position the longest one
 * wins, found by narrowing a range of the byte-sorted list, so a text of nothing but "<" costs no more than any other.
 *
 * Decoding concatenates pieces. One character may span several tokens (byte fallback, byte-level vocabularies), so sv_detok keeps
 * up to three bytes back until they are a character or cannot become one.
 *
 * Invariants:
 *   1. Ids handed out are in [0, n_vocab); bos, eos and unk are so or -1. The loaders check what they read.
 *   2. max_piece, where it is not 0, bounds from above how many bytes of text one token can stand for. */
#include "models/tokenizer_impl.h"

#include <string.h>

#include "base/mem.h"

sv_tokenizer *sv_tokenizer_free(sv_tokenizer *t)
{
    if (t) {
        free(t->text);
        free(t->piece);
        free(t->type);
        free(t->score);
        free(t->eog);
        free(t->bytes);
        free(t->slots);
        free(t->raw.v);
        free(t->normalized.v);
        free(t->added_bytes);
        sv_tok_steps_done(&t->normalizer);
        sv_tok_steps_done(&t->splitter);
        free(t->merges);
        sv_tok_trie_done(&t->trie);
        free(t->word_end);
        free(t);
    }
    return NULL;
}

/* ---- where ids go ---- */

sv_rc sv_tok_reserve(void **v, size_t *cap, size_t n, size_t size, sv_err *err)
{
    if (n <= *cap)
        return SV_OK;
    size_t want = 2 * *cap > n ? 2 * *cap : n + 64;
    void *more = sv_try_realloc(*v, want, size);
    if (!more)
        return sv_fail(err, SV_ENOMEM, "no memory to tokenize: %zu entries of %zu bytes", want, size);
    *v = more;
    *cap = want;
    return SV_OK;
}

static void work_donep(tok_work *w)
{
    free(w->syms);
    free(w->heap);
    free(w->spans[0]);
    free(w->spans[1]);
    free(w->best);
    for (size_t i = 0; i < SV_LEN(w->text); i++)
        sv_buf_done(&w->text[i]);
    sv_buf_done(&w->word);
}

sv_rc sv_tok_push(tok_sink *sink, int32_t id)
{
    sv_tokens *out = sink->out;
    if (out->n >= sink->max)
        return sv_fail(sink->err, SV_ELIMIT, "the text has more than %zu tokens", sink->max);
    if (out->n == out->cap) {
        void *v = out->v;
        if (sv_tok_reserve(&v, &out->cap, out->n + 1, sizeof *out->v, sink->err) != SV_OK)
            return sink->err->code;
        out->v = v;
    }
    out->v[out->n++] = id;
    return SV_OK;
}

sv_rc sv_tok_push_bytes(const sv_tokenizer *t, const char *p, size_t n, tok_sink *sink)
{
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[(uint8_t)p[i]];
        if (id < 0)
            return t->unk >= 0 ? sv_tok_push(sink, t->unk) : SV_OK;
        if (sv_tok_push(sink, id) != SV_OK)
            return sink->err->code;
    }
    return SV_OK;
}

/* ---- added tokens ---- */

/* The first index in list[lo..hi) whose byte at `at` is >= b. All of them share the bytes before `at`, so their bytes there are
 * in order; a text that ends there comes first. */
static size_t lower(const tok_added_list *list, size_t lo, size_t hi, size_t at, int b)
{
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        sv_str s = list->v[mid].text;
        if (s.n > at && (uint8_t)s.p[at] >= b)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* The longest added token at the start of s, or NULL. */
static const tok_added *longest(const tok_added_list *list, sv_str s, bool special_too)
{
    const tok_added *best = NULL;
    size_t lo = 0, hi = list->n;
    if (!list->first[(uint8_t)s.p[0]])
        return NULL;
    for (size_t at = 0; at < s.n && lo < hi; at++) {
        int b = (uint8_t)s.p[at];
        lo = lower(list, lo, hi, at, b);
        hi = lower(list, lo, hi, at, b + 1);
        for (size_t i = lo; i < hi && list->v[i].text.n == at + 1; i++)
            if ((special_too || !list->v[i].special) && (!best || best->text.n <= at))
                best = &list->v[i];
    }
    return best;
}

static bool is_word(uint32_t c)
{
    int k = sv_uni_category(c);
    return (k >= SV_UNI_LL && k <= SV_UNI_NL) || k == SV_UNI_PC; /* letters, marks, numbers but No, connectors */
}

static size_t char_before(sv_str s, size_t at, uint32_t *c)
{
    size_t n = 1;
    while (n < 4 && n < at && ((uint8_t)s.p[at - n] & 0xc0) == 0x80)
        n++;
    if (sv_uni_get(s.p + at - n, n, c) == n)
        return n;
    *c = SV_UNI_BROKEN;
    return 1;
}

static bool stands_alone(sv_str s, size_t from, size_t to)
{
    uint32_t c;
    if (from > 0 && (char_before(s, from, &c), is_word(c)))
        return false;
    return to == s.n || (sv_uni_get(s.p + to, s.n - to, &c), !is_word(c));
}

/* The first added token in s from *from on: its start in *from and its end in *to, white space it swallows included. */
static const tok_added *find_added(const tok_added_list *list, sv_str s, bool special_too, size_t *from, size_t *to)
{
    size_t floor = *from;
    for (size_t i = floor; list->n > 0 && i < s.n; i++) {
        const tok_added *a = longest(list, (sv_str){s.p + i, s.n - i}, special_too);
        if (!a)
            continue;
        size_t end = i + a->text.n, n;
        uint32_t c;
        if (a->word && !stands_alone(s, i, end))
            continue;
        for (; a->left && i > floor && (n = char_before(s, i, &c), sv_uni_is_space(c)); i -= n)
            ;
        for (; a->right && end < s.n && (n = sv_uni_get(s.p + end, s.n - end, &c), sv_uni_is_space(c)); end += n)
            ;
        *from = i;
        *to = end;
        return a;
    }
    *from = s.n;
    return NULL;
}

/* ---- encode ---- */

static sv_rc encode_piece(const sv_tokenizer *t, sv_str piece, tok_sink *sink)
{
    switch (t->kind) {
    case KIND_SPM: return sv_tok_encode_spm(t, piece, sink);
    case KIND_BPE: return sv_tok_encode_bpe(t, piece, sink);
    case KIND_UNIGRAM: return sv_tok_encode_unigram(t, piece, sink);
    case KIND_WORDPIECE: return sv_tok_encode_wordpiece(t, piece, sink);
    }
    return SV_OK;
}

static sv_rc encode_normal(const sv_tokenizer *t, sv_str text, bool at_start, tok_sink *sink)
{
    sv_str cut;
    if (text.n == 0)
        return SV_OK;
    if (sv_tok_split(t, text, at_start, sink->work, &cut, sink->err) != SV_OK)
        return sink->err->code;
    for (size_t i = 0; i < sink->work->n_spans; i++) {
        tok_span s = sink->work->spans[0][i];
        if (encode_piece(t, (sv_str){cut.p + s.at, s.n}, sink) != SV_OK)
            return sink->err->code;
    }
    return SV_OK;
}

static sv_rc encode_stretch(const sv_tokenizer *t, sv_str text, bool at_start, bool special_too, tok_sink *sink)
{
    sv_str normal;
    if (text.n == 0)
        return SV_OK;
    if (sv_tok_normalize(t, text, sink->work, &normal, sink->err) != SV_OK)
        return sink->err->code;
    for (size_t done = 0, to = 0; done < normal.n; done = to) {
        size_t from = done;
        const tok_added *a = find_added(&t->normalized, normal, special_too, &from, &to);
        if (encode_normal(t, (sv_str){normal.p + done, from - done}, at_start && done == 0, sink) != SV_OK)
            return sink->err->code;
        if (!a)
            break;
        if (sv_tok_push(sink, a->id) != SV_OK)
            return sink->err->code;
    }
    return SV_OK;
}

static sv_rc encode_all(const sv_tokenizer *t, sv_str text, int flags, tok_sink *sink)
{
    bool special_too = flags & SV_TOK_SPECIAL;
    for (int i = 0; (flags & SV_TOK_BOS) && i < t->n_prefix; i++)
        if (sv_tok_push(sink, t->prefix[i]) != SV_OK)
            return sink->err->code;
    for (size_t done = 0, to = 0; done < text.n; done = to) {
        size_t from = done;
        const tok_added *a = find_added(&t->raw, text, special_too, &from, &to);
        if (encode_stretch(t, (sv_str){text.p + done, from - done}, done == 0, special_too, sink) != SV_OK)
            return sink->err->code;
        if (!a)
            break;
        if (sv_tok_push(sink, a->id) != SV_OK)
            return sink->err->code;
    }
    for (int i = 0; (flags & SV_TOK_EOS) && i < t->n_suffix; i++)
        if (sv_tok_push(sink, t->suffix[i]) != SV_OK)
            return sink->err->code;
    return SV_OK;
}

sv_rc sv_tokenizer_encode(const sv_tokenizer *t, sv_str text, int flags, size_t max_tokens, sv_tokens *out, sv_err *err)
{
    size_t before = out->n, room = max_tokens > before ? max_tokens - before : 0;
    if (t->max_piece > 0 && text.n / t->max_piece > room) /* inv. 2; and nobody makes us chew 100 MB for a context of 4096 */
        return sv_fail(err, SV_ELIMIT, "the text has %zu bytes and so more than %zu tokens", text.n, max_tokens);
    if (text.n > INT32_MAX / 32)
        return sv_fail(err, SV_ELIMIT, "the text has %zu bytes, at most %d are tokenized at once", text.n, INT32_MAX / 32);
    SV_AUTO(work_donep) tok_work work = {0};
    for (size_t i = 0; i < SV_LEN(work.text); i++)
        sv_buf_init(&work.text[i], 20 * text.n + (1 << 16)); /* no step makes more of it: U+FDFA becomes 33 bytes of its 3 */
    sv_buf_init(&work.word, 4 * text.n + 64);
    tok_sink sink = {out, max_tokens, &work, err};
    sv_rc rc = encode_all(t, text, flags, &sink);
    if (rc != SV_OK)
        out->n = before;
    return rc;
}

/* ---- decode ---- */

sv_str sv_tokenizer_text(const sv_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_vocab ? t->text[id] : SV_STR("");
}

sv_str sv_tokenizer_piece(const sv_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_vocab ? t->piece[id] : SV_STR("");
}

int32_t sv_tokenizer_n_vocab(const sv_tokenizer *t) { return t->n_vocab; }
int32_t sv_tokenizer_bos(const sv_tokenizer *t) { return t->bos; }
int32_t sv_tokenizer_eos(const sv_tokenizer *t) { return t->eos; }
bool sv_tokenizer_adds_bos(const sv_tokenizer *t) { return t->n_prefix > 0 && t->prefix[0] == t->bos; }

bool sv_tokenizer_is_eog(const sv_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_vocab && (t->eog[id / 64] >> (id % 64) & 1);
}

void sv_tokenizer_add_eog(sv_tokenizer *t, int32_t id) { sv_tok_mark_eog(t, id); }

/* Can s[0..n), n < 4, still become a character? Only the second byte is special (Unicode, table 3-7). */
static bool may_become_char(const uint8_t *s, size_t n)
{
    uint8_t lo = 0x80, hi = 0xbf;
    size_t len = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (s[0] == 0xe0)
        lo = 0xa0;
    else if (s[0] == 0xed)
        hi = 0x9f;
    else if (s[0] == 0xf0)
        lo = 0x90;
    else if (s[0] == 0xf4)
        hi = 0x8f;
    return n < len && (n < 2 || (s[1] >= lo && s[1] <= hi)) && (n < 3 || (s[2] & 0xc0) == 0x80);
}

static const char REPLACEMENT[] = "\xef\xbf\xbd"; /* U+FFFD */

static void feed_byte(sv_detok *d, char b, sv_buf *out)
{
    uint32_t cp;
    d->pending[d->n_pending++] = b;
    if (sv_uni_get(d->pending, d->n_pending, &cp) == d->n_pending && cp < SV_UNI_BROKEN) {
        sv_buf_add(out, d->pending, d->n_pending);
        d->n_pending = 0;
    } else if (!may_become_char((const uint8_t *)d->pending, d->n_pending)) {
        /* The bytes before b were a beginning, b did not go on with it: one U+FFFD for them, and b starts anew. */
        bool again = d->n_pending > 1;
        sv_buf_add(out, REPLACEMENT, 3);
        d->n_pending = 0;
        if (again)
            feed_byte(d, b, out);
    }
}

void sv_detok_feed(sv_detok *d, const sv_tokenizer *t, int32_t id, sv_buf *out)
{
    sv_str s = sv_tokenizer_piece(t, id);
    if (s.n == 0)
        return;
    if (!d->started && t->first_verbatim) /* "##ing" continues nothing here */
        s = t->text[id];
    size_t i = !d->started && t->drops_first_space && s.p[0] == ' ' ? 1 : 0;
    d->started = true;
    for (; i < s.n; i++)
        feed_byte(d, s.p[i], out);
}

void sv_detok_finish(sv_detok *d, sv_buf *out)
{
    if (d->n_pending > 0)
        sv_buf_add(out, REPLACEMENT, 3);
    d->n_pending = 0;
}
