/* tokenizer.c - a vocabulary from a model file, special tokens, and the way back to text
 *
 * Encoding is two steps. First the special tokens are cut out: control tokens (<s>, <|im_end|>) only where the caller says that
 * the text is a rendered template, since a user who types "</s>" must not end his own prompt; user-defined tokens always. At each
 * position the longest one wins, found by narrowing a range of the byte-sorted list, so a text of nothing but "<" costs no more
 * than any other. The stretches in between go to the encoder of the vocabulary's family.
 *
 * Text to id is a flat table of our own and not base/map.h: the keys already lie in the vocabulary, and a quarter of a million
 * small allocations would be most of the time it takes to open a model.
 *
 * Decoding concatenates pieces. One character may span several tokens (byte fallback, byte-level vocabularies), so sv_detok keeps
 * up to three bytes back until they are a character or cannot become one.
 *
 * Invariants:
 *   1. Ids handed out are in [0, n_vocab); bos, eos and unk are so or -1.
 *   2. max_piece >= 1 bounds from above how many bytes of text one token can stand for. */
#include "models/tokenizer_impl.h"

#include "base/mem.h"

#define MAX_VOCAB (1 << 24)

size_t sv_tok_char(const char *p, size_t n, uint32_t *cp)
{
    const uint8_t *s = (const uint8_t *)p;
    size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    uint32_t c = len == 1 ? s[0] : len ? s[0] & (0x7fu >> len) : 0;

    *cp = SV_TOK_BROKEN;
    if (len == 0 || len > n)
        return 1;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 1;
        c = c << 6 | (s[i] & 0x3f);
    }
    /* Overlong forms of 2 bytes ended at the lead byte already. */
    if ((len == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) || (len == 4 && (c < 0x10000 || c > 0x10ffff)))
        return 1;
    *cp = c;
    return len;
}

/* ---- text to id ---- */

static uint32_t hash_bytes(const char *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a: keys are a few bytes long */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)p[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32);
}

int32_t sv_tok_find(const sv_tokenizer *t, const char *p, size_t n)
{
    if (n > t->max_text)
        return -1;
    for (uint32_t i = hash_bytes(p, n) & t->slot_mask; t->slots[i]; i = (i + 1) & t->slot_mask) {
        sv_str have = t->text[t->slots[i] - 1];
        if (have.n == n && memcmp(have.p, p, n) == 0)
            return (int32_t)t->slots[i] - 1;
    }
    return -1;
}

static sv_rc build_index(sv_tokenizer *t, sv_err *err)
{
    uint32_t n_slots = 16;
    while (n_slots < 2 * (uint32_t)t->n_vocab)
        n_slots *= 2;
    t->slots = sv_try_calloc(n_slots, sizeof *t->slots);
    if (!t->slots)
        return sv_fail(err, SV_ENOMEM, "no memory to index %d tokens", t->n_vocab);
    t->slot_mask = n_slots - 1;
    for (int32_t id = 0; id < t->n_vocab; id++) {
        sv_str s = t->text[id];
        uint32_t i = hash_bytes(s.p, s.n) & t->slot_mask;
        /* Of two tokens with one text the first is found: padding and reserved ones come last. */
        while (t->slots[i] && !sv_str_eq(t->text[t->slots[i] - 1], s))
            i = (i + 1) & t->slot_mask;
        if (!t->slots[i])
            t->slots[i] = (uint32_t)id + 1;
    }
    return SV_OK;
}

/* ---- loading ---- */

/* "<0x0A>" */
static int byte_of(sv_str text)
{
    uint8_t b;
    if (text.n != 6 || memcmp(text.p, "<0x", 3) != 0 || text.p[5] != '>' || !sv_unhex(&b, 1, (sv_str){text.p + 3, 2}))
        return -1;
    return b;
}

static bool is_special(const sv_tokenizer *t, int32_t id)
{
    return t->type[id] == TOK_CONTROL || t->type[id] == TOK_UNKNOWN || t->type[id] == TOK_USER;
}

/* Writes the piece of id at `to`, which has room for its text; returns its length. */
static size_t write_piece(const sv_tokenizer *t, int32_t id, char *to)
{
    sv_str s = t->text[id];
    size_t n = 0;
    switch (t->type[id]) {
    case TOK_CONTROL: return 0;
    case TOK_UNKNOWN: return 0;
    case TOK_BYTE:
        if (byte_of(s) < 0)
            return 0;
        to[0] = (char)byte_of(s);
        return 1;
    case TOK_USER: memcpy(to, s.p, s.n); return s.n;
    default: break;
    }
    for (size_t i = 0; i < s.n; n++) {
        bool space = s.n - i >= 3 && memcmp(s.p + i, "\xe2\x96\x81", 3) == 0;
        to[n] = space ? ' ' : s.p[i];
        i += space ? 3 : 1;
    }
    return n;
}

static sv_rc load_tokens(sv_tokenizer *t, const sv_gguf *g, sv_err *err)
{
    const sv_str *text;
    const float *score;
    const int32_t *type;
    size_t n, n_score, n_type, n_bytes = 0;
    if (sv_gguf_arr_str(g, "tokenizer.ggml.tokens", &text, &n, err) != SV_OK ||
        sv_gguf_arr_f32(g, "tokenizer.ggml.scores", &score, &n_score, err) != SV_OK ||
        sv_gguf_arr_i32(g, "tokenizer.ggml.token_type", &type, &n_type, err) != SV_OK)
        return err->code;
    if (n == 0 || n > MAX_VOCAB)
        return sv_fail(err, SV_EFORMAT, "tokenizer.ggml.tokens: %zu tokens, must be 1 to %d", n, MAX_VOCAB);
    if (n_score != 0 && n_score != n)
        return sv_fail(err, SV_EFORMAT, "tokenizer.ggml.scores: %zu entries for %zu tokens", n_score, n);
    if (n_type != 0 && n_type != n)
        return sv_fail(err, SV_EFORMAT, "tokenizer.ggml.token_type: %zu entries for %zu tokens", n_type, n);

    for (size_t i = 0; i < n; i++)
        n_bytes += text[i].n;
    t->n_vocab = (int32_t)n;
    t->text = sv_try_calloc(n, sizeof *t->text);
    t->piece = sv_try_calloc(n, sizeof *t->piece);
    t->type = sv_try_calloc(n, sizeof *t->type);
    t->score = sv_try_calloc(n, sizeof *t->score);
    t->eog = sv_try_calloc(n / 64 + 1, sizeof *t->eog);
    t->bytes = sv_try_calloc(2 * n_bytes + 1, 1);
    if (!t->text || !t->piece || !t->type || !t->score || !t->eog || !t->bytes)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu tokens of %zu bytes", n, n_bytes);

    char *to = t->bytes;
    for (size_t i = 0; i < n; i++) {
        memcpy(to, text[i].p, text[i].n);
        t->text[i] = (sv_str){to, text[i].n};
        to += text[i].n;
        t->type[i] = n_type && type[i] >= TOK_NORMAL && type[i] <= TOK_BYTE ? (uint8_t)type[i] : TOK_NORMAL;
        t->score[i] = n_score ? score[i] : 0;
        t->piece[i] = (sv_str){to, write_piece(t, (int32_t)i, to)};
        to += t->piece[i].n;
        t->max_text = text[i].n > t->max_text ? text[i].n : t->max_text;
    }
    t->max_piece = t->max_text > 4 ? t->max_text : 4; /* inv. 2: no piece is longer than its text; 4: a character without one */
    return SV_OK;
}

/* A token id from the metadata. Files write -1 and 4294967295 for "none". */
static sv_rc load_id(const sv_tokenizer *t, const sv_gguf *g, const char *key, int32_t *out, sv_err *err)
{
    int64_t id = *out;
    if (sv_gguf_i64(g, key, -1, UINT32_MAX, &id, err) != SV_OK)
        return err->code;
    if (id == -1 || id == UINT32_MAX) {
        *out = -1;
        return SV_OK;
    }
    if (id >= t->n_vocab) /* inv. 1 */
        return sv_fail(err, SV_EFORMAT, "%s: %lld, the vocabulary has %d tokens", key, (long long)id, t->n_vocab);
    *out = (int32_t)id;
    return SV_OK;
}

static void mark_eog(sv_tokenizer *t, int32_t id)
{
    if (id >= 0)
        t->eog[id / 64] |= 1ull << (id % 64);
}

/* End of generation: what the file names, and, since many files name only eos, the control tokens by which the known chat formats
 * end a turn. */
static sv_rc load_eog(sv_tokenizer *t, const sv_gguf *g, sv_err *err)
{
    static const char *const turn_ends[] = {"<|eot_id|>",      "<|eom_id|>", "<|im_end|>",  "<end_of_turn>", "<|endoftext|>",
                                            "<|end_of_text|>", "<|end|>",    "<|end_of_turn|>"};
    int32_t eot = -1, eom = -1;
    if (load_id(t, g, "tokenizer.ggml.eot_token_id", &eot, err) != SV_OK ||
        load_id(t, g, "tokenizer.ggml.eom_token_id", &eom, err) != SV_OK)
        return err->code;
    mark_eog(t, t->eos);
    mark_eog(t, eot);
    mark_eog(t, eom);
    for (size_t i = 0; i < SV_LEN(turn_ends); i++) {
        int32_t id = sv_tok_find(t, turn_ends[i], strlen(turn_ends[i]));
        if (id >= 0 && is_special(t, id))
            mark_eog(t, id);
    }
    return SV_OK;
}

static int by_bytes(sv_str a, sv_str b)
{
    int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int special_order(const void *a, const void *b, void *t)
{
    return by_bytes(((sv_tokenizer *)t)->text[*(const int32_t *)a], ((sv_tokenizer *)t)->text[*(const int32_t *)b]);
}

static sv_rc collect_special(sv_tokenizer *t, sv_err *err)
{
    t->special = sv_try_calloc((size_t)t->n_vocab, sizeof *t->special);
    if (!t->special)
        return sv_fail(err, SV_ENOMEM, "no memory for %d special tokens", t->n_vocab);
    for (int32_t id = 0; id < t->n_vocab; id++)
        if (is_special(t, id) && t->text[id].n > 0) {
            t->special[t->n_special++] = id;
            t->special_first[(uint8_t)t->text[id].p[0]] = true;
        }
    qsort_r(t->special, (size_t)t->n_special, sizeof *t->special, special_order, t);
    return SV_OK;
}

static void collect_bytes(sv_tokenizer *t)
{
    memset(t->byte_id, -1, sizeof t->byte_id);
    for (int32_t id = t->n_vocab - 1; id >= 0; id--)
        if (t->type[id] == TOK_BYTE && byte_of(t->text[id]) >= 0)
            t->byte_id[byte_of(t->text[id])] = id;
}

static sv_rc load_kind(sv_tokenizer *t, const sv_gguf *g, sv_err *err)
{
    sv_str model = SV_STR("");
    if (sv_gguf_str(g, "tokenizer.ggml.model", &model, err) != SV_OK)
        return err->code;
    if (sv_str_is(model, "llama")) {
        t->kind = KIND_SPM;
        t->add_bos = t->add_space_prefix = true;
        t->unk = 0;
        t->bos = t->n_vocab > 1 ? 1 : -1;
        t->eos = t->n_vocab > 2 ? 2 : -1;
        return SV_OK;
    }
    return sv_fail(err, SV_EFORMAT, "tokenizer.ggml.model: '%.*s' is not known, 'llama' is",
                   (int)(model.n < 40 ? model.n : 40), model.p);
}

sv_rc sv_tokenizer_from_gguf(sv_tokenizer **out, const sv_gguf *g, sv_err *err)
{
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = sv_xnew0(sv_tokenizer);
    if (load_tokens(t, g, err) != SV_OK || load_kind(t, g, err) != SV_OK || build_index(t, err) != SV_OK ||
        load_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos, err) != SV_OK ||
        load_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos, err) != SV_OK ||
        load_id(t, g, "tokenizer.ggml.unknown_token_id", &t->unk, err) != SV_OK ||
        sv_gguf_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos, err) != SV_OK ||
        sv_gguf_bool(g, "tokenizer.ggml.add_space_prefix", &t->add_space_prefix, err) != SV_OK ||
        load_eog(t, g, err) != SV_OK || collect_special(t, err) != SV_OK)
        return err->code;
    collect_bytes(t);
    *out = SV_TAKE(t);
    return SV_OK;
}

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
        free(t->special);
        free(t);
    }
    return NULL;
}

/* ---- encode ---- */

sv_rc sv_tok_push(tok_sink *sink, int32_t id)
{
    sv_tokens *out = sink->out;
    if (out->n >= sink->max)
        return sv_fail(sink->err, SV_ELIMIT, "the text has more than %zu tokens", sink->max);
    if (out->n == out->cap) {
        size_t cap = out->cap ? 2 * out->cap : 64;
        int32_t *v = sv_try_realloc(out->v, cap, sizeof *v);
        if (!v)
            return sv_fail(sink->err, SV_ENOMEM, "no memory for %zu token ids", cap);
        out->v = v;
        out->cap = cap;
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

/* The first index in special[lo..hi) whose byte at `at` is >= b. All of them share the bytes before `at`, so their bytes there are
 * in order; a text that ends there comes first. */
static int32_t lower(const sv_tokenizer *t, int32_t lo, int32_t hi, size_t at, int b)
{
    while (lo < hi) {
        int32_t mid = lo + (hi - lo) / 2;
        sv_str s = t->text[t->special[mid]];
        if (s.n > at && (uint8_t)s.p[at] >= b)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* The longest special token at the start of s, or -1. */
static int32_t match_special(const sv_tokenizer *t, sv_str s, bool control_too)
{
    int32_t best = -1, lo = 0, hi = t->n_special;
    if (!t->special_first[(uint8_t)s.p[0]])
        return -1;
    for (size_t at = 0; at < s.n && lo < hi; at++) {
        int b = (uint8_t)s.p[at];
        lo = lower(t, lo, hi, at, b);
        hi = lower(t, lo, hi, at, b + 1);
        for (int32_t i = lo; i < hi && t->text[t->special[i]].n == at + 1; i++)
            if (control_too || t->type[t->special[i]] == TOK_USER)
                best = t->special[i];
    }
    return best;
}

static sv_rc encode_plain(const sv_tokenizer *t, sv_str text, bool at_start, tok_sink *sink)
{
    if (text.n == 0)
        return SV_OK;
    return sv_tok_encode_spm(t, text, at_start, sink);
}

static sv_rc encode_all(const sv_tokenizer *t, sv_str text, int flags, tok_sink *sink)
{
    size_t from = 0; /* of the plain stretch that ends at i */
    if ((flags & SV_TOK_BOS) && t->add_bos && t->bos >= 0 && sv_tok_push(sink, t->bos) != SV_OK)
        return sink->err->code;
    bool at_start = true;
    for (size_t i = 0; i < text.n;) {
        int32_t id = match_special(t, (sv_str){text.p + i, text.n - i}, flags & SV_TOK_SPECIAL);
        if (id < 0) {
            i++;
            continue;
        }
        if (encode_plain(t, (sv_str){text.p + from, i - from}, at_start, sink) != SV_OK || sv_tok_push(sink, id) != SV_OK)
            return sink->err->code;
        at_start = true;
        i += t->text[id].n;
        from = i;
    }
    return encode_plain(t, (sv_str){text.p + from, text.n - from}, at_start, sink);
}

sv_rc sv_tokenizer_encode(const sv_tokenizer *t, sv_str text, int flags, size_t max_tokens, sv_tokens *out, sv_err *err)
{
    size_t before = out->n, room = max_tokens > before ? max_tokens - before : 0;
    if (text.n / t->max_piece > room) /* inv. 2; and nobody makes us chew 100 MB for a context of 4096 */
        return sv_fail(err, SV_ELIMIT, "the text has %zu bytes and so more than %zu tokens", text.n, max_tokens);
    if (text.n > INT32_MAX / 4)
        return sv_fail(err, SV_ELIMIT, "the text has %zu bytes, at most %d are tokenized at once", text.n, INT32_MAX / 4);
    tok_sink sink = {out, max_tokens, err};
    sv_rc rc = encode_all(t, text, flags, &sink);
    if (rc != SV_OK)
        out->n = before;
    return rc;
}

/* ---- decode ---- */

sv_str sv_tokenizer_piece(const sv_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_vocab ? t->piece[id] : SV_STR("");
}

sv_str sv_tokenizer_text(const sv_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_vocab ? t->text[id] : SV_STR("");
}

int32_t sv_tokenizer_n_vocab(const sv_tokenizer *t) { return t->n_vocab; }
int32_t sv_tokenizer_bos(const sv_tokenizer *t) { return t->bos; }
int32_t sv_tokenizer_eos(const sv_tokenizer *t) { return t->eos; }
bool sv_tokenizer_adds_bos(const sv_tokenizer *t) { return t->add_bos && t->bos >= 0; }

bool sv_tokenizer_is_eog(const sv_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_vocab && (t->eog[id / 64] >> (id % 64) & 1);
}

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
    if (sv_tok_char(d->pending, d->n_pending, &cp) == d->n_pending && cp != SV_TOK_BROKEN) {
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
    size_t i = !d->started && t->add_space_prefix && s.p[0] == ' ' ? 1 : 0;
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
