/* tokenizer_steps.c - the normalizer and the splitter of a tokenizer, as lists of small steps
 *
 * A loader translates what its file says ("type": "BertNormalizer", or "qwen2") into these few operations; nothing here knows a
 * model's name. The normalizer runs over a stretch of text as a whole. The splitter starts from one piece, the stretch, and each
 * of its steps cuts every piece, or writes every piece anew (Metaspace puts U+2581 in front of each word).
 *
 * Pieces are spans in a buffer. Cutting leaves the buffer alone and makes new spans; rewriting fills the other of two buffers.
 * Every step is linear in the text, and what one step may make of it is bounded by the caps of the buffers.
 *
 * Invariant: spans are in order, do not overlap, and are never empty. */
#include "models/tokenizer_impl.h"

#include <string.h>

#include "base/mem.h"

/* ---- making lists ---- */

static void step_done(tok_step *s)
{
    sv_pattern_free(s->pattern);
    sv_tok_charsmap_free(s->map);
    free(s->text);
    free(s->with);
}

void sv_tok_steps_done(tok_steps *s)
{
    for (size_t i = 0; i < s->n; i++)
        step_done(&s->v[i]);
    free(s->v);
}

sv_rc sv_tok_step_add(tok_steps *s, tok_step step, sv_err *err)
{
    if (s->n == SV_TOK_MAX_STEPS) {
        step_done(&step);
        return sv_fail(err, SV_EFORMAT, "more than %d steps", SV_TOK_MAX_STEPS);
    }
    s->v = sv_xrealloc(s->v, s->n + 1, sizeof *s->v);
    s->v[s->n++] = step;
    return SV_OK;
}

sv_rc sv_tok_step_split(tok_steps *s, const char *pattern, tok_keep how, bool invert, sv_err *err)
{
    tok_step step = {.op = STEP_SPLIT, .keep = how, .invert = invert};
    if (sv_pattern_compile(&step.pattern, sv_str_of(pattern), err) != SV_OK)
        return err->code;
    return sv_tok_step_add(s, step, err);
}

sv_rc sv_tok_step_replace(tok_steps *s, sv_str text, sv_str with, sv_err *err)
{
    if (text.n == 0)
        return sv_fail(err, SV_EFORMAT, "a replacement of the empty text");
    return sv_tok_step_add(s, (tok_step){.op = STEP_REPLACE, .text = sv_xstrndup(text.p, text.n), .n_text = text.n,
                                         .with = sv_xstrndup(with.p, with.n), .n_with = with.n}, err);
}

sv_rc sv_tok_step_prepend(tok_steps *s, sv_str text, bool unless_there, bool only_first, sv_err *err)
{
    return sv_tok_step_add(s, (tok_step){.op = STEP_PREPEND, .text = sv_xstrndup(text.p, text.n), .n_text = text.n,
                                         .unless_there = unless_there, .only_first = only_first}, err);
}

sv_rc sv_tok_steps_bert(sv_tokenizer *t, bool clean, bool cjk, bool strip, bool lower, sv_err *err)
{
    tok_steps *s = &t->normalizer;
    tok_step marks = {.op = STEP_REPLACE, .with = NULL};
    if ((clean && sv_tok_step_add(s, (tok_step){.op = STEP_CLEAN}, err) != SV_OK) ||
        (cjk && sv_tok_step_add(s, (tok_step){.op = STEP_SPACE_CJK}, err) != SV_OK))
        return err->code;
    if (strip && (sv_tok_step_add(s, (tok_step){.op = STEP_NORMALIZE, .form = SV_UNI_NFD}, err) != SV_OK ||
                  sv_pattern_compile(&marks.pattern, SV_STR("\\p{Mn}"), err) != SV_OK || sv_tok_step_add(s, marks, err) != SV_OK))
        return err->code;
    return lower ? sv_tok_step_add(s, (tok_step){.op = STEP_LOWER}, err) : SV_OK;
}

sv_rc sv_tok_steps_bert_split(sv_tokenizer *t, sv_err *err)
{
    if (sv_tok_step_split(&t->splitter, "\\s", KEEP_NOT, false, err) != SV_OK)
        return err->code;
    return sv_tok_step_split(&t->splitter, "[\\p{P}!-/:-@\\[-`{-~]", KEEP_APART, false, err);
}

/* ---- rewriting: each appends to out ---- */

static void put(sv_buf *out, uint32_t c)
{
    char u[4];
    sv_buf_add(out, u, sv_uni_put(u, c));
}

static void lower(sv_buf *out, sv_str s)
{
    for (size_t i = 0; i < s.n;) {
        uint32_t c, to[3];
        i += sv_uni_get(s.p + i, s.n - i, &c);
        size_t n = sv_uni_lower(c, to);
        for (size_t k = 0; k < n; k++)
            put(out, to[k]);
    }
}

/* Control characters as the library that ships BERT's vocabularies sees them: the assigned ones of category C but for white space, and
 * what stands for broken text. */
static void clean(sv_buf *out, sv_str s)
{
    for (size_t i = 0; i < s.n;) {
        uint32_t c;
        i += sv_uni_get(s.p + i, s.n - i, &c);
        int k = sv_uni_category(c);
        bool other = k == SV_UNI_CC || k == SV_UNI_CF || k == SV_UNI_CO || c >= SV_UNI_BROKEN;
        if (c == '\t' || c == '\n' || c == '\r')
            other = false;
        if (!other && c != 0xfffd)
            put(out, sv_uni_is_space(c) ? ' ' : c);
    }
}

static bool is_cjk(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static void space_cjk(sv_buf *out, sv_str s)
{
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t c;
        n = sv_uni_get(s.p + i, s.n - i, &c);
        bool apart = is_cjk(c);
        if (apart)
            sv_buf_addc(out, ' ');
        sv_buf_add(out, s.p + i, n);
        if (apart)
            sv_buf_addc(out, ' ');
    }
}

static void trim(sv_buf *out, sv_str s, bool left, bool right)
{
    size_t from = 0, to = s.n, kept = 0;
    bool started = !left;
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t c;
        n = sv_uni_get(s.p + i, s.n - i, &c);
        bool space = sv_uni_is_space(c);
        if (!started && space)
            from = i + n;
        started = started || !space;
        if (!space)
            kept = i + n;
    }
    to = right ? (kept > from ? kept : from) : to;
    sv_buf_add(out, s.p + from, to - from);
}

static void replace(sv_buf *out, sv_str s, const tok_step *step)
{
    sv_pattern_memo memo = {0};
    size_t done = 0;
    for (;;) {
        size_t from, to;
        if (step->pattern) {
            if (!sv_pattern_find(step->pattern, s, done, s.n, &memo, &from, &to))
                break;
        } else {
            const char *hit = memmem(s.p + done, s.n - done, step->text, step->n_text);
            if (!hit)
                break;
            from = (size_t)(hit - s.p);
            to = from + step->n_text;
        }
        sv_buf_add(out, s.p + done, from - done);
        if (step->n_with > 0)
            sv_buf_add(out, step->with, step->n_with);
        done = to;
    }
    sv_buf_add(out, s.p + done, s.n - done);
    free(memo.v);
}

static void apply_charsmap(sv_buf *out, sv_str s, const tok_charsmap *map)
{
    for (size_t i = 0, n; i < s.n; i += n) {
        sv_str to;
        uint32_t c;
        if (sv_tok_charsmap_find(map, (sv_str){s.p + i, s.n - i}, &n, &to)) {
            sv_buf_add(out, to.p, to.n);
            continue;
        }
        n = sv_uni_get(s.p + i, s.n - i, &c);
        if (c >= SV_UNI_BROKEN)
            put(out, 0xfffd);
        else
            sv_buf_add(out, s.p + i, n);
    }
}

static void from_byte_chars(sv_buf *out, sv_str s)
{
    for (size_t i = 0; i < s.n;) {
        uint32_t c;
        i += sv_uni_get(s.p + i, s.n - i, &c);
        int b = sv_tok_char_byte(c);
        if (b >= 0)
            sv_buf_addc(out, (char)b);
    }
}

static sv_rc rewrite(const tok_step *step, sv_str s, bool first, sv_buf *out, sv_err *err)
{
    switch (step->op) {
    case STEP_NORMALIZE: return sv_uni_normalize(out, s, step->form, err);
    case STEP_LOWER: lower(out, s); break;
    case STEP_TRIM: trim(out, s, step->left, step->right); break;
    case STEP_REPLACE: replace(out, s, step); break;
    case STEP_CLEAN: clean(out, s); break;
    case STEP_SPACE_CJK: space_cjk(out, s); break;
    case STEP_CHARSMAP: apply_charsmap(out, s, step->map); break;
    case STEP_FROM_BYTE_CHARS: from_byte_chars(out, s); break;
    case STEP_TO_BYTE_CHARS:
        for (size_t i = 0; i < s.n; i++)
            put(out, sv_tok_byte_char((uint8_t)s.p[i]));
        break;
    case STEP_PREPEND: {
        bool there = s.n >= step->n_text && memcmp(s.p, step->text, step->n_text) == 0;
        if (s.n > 0 && !(step->unless_there && there) && !(step->only_first && !first))
            sv_buf_add(out, step->text, step->n_text);
        sv_buf_add(out, s.p, s.n);
        break;
    }
    case STEP_SPLIT: SV_ASSERT(!"a split rewrites nothing");
    }
    return SV_OK;
}

static sv_rc check(const sv_buf *b, sv_err *err)
{
    return b->failed ? sv_fail(err, SV_ELIMIT, "the text grows over %zu bytes, or memory is gone", b->max) : SV_OK;
}

sv_rc sv_tok_normalize(const sv_tokenizer *t, sv_str text, tok_work *w, sv_str *out, sv_err *err)
{
    *out = text;
    for (size_t i = 0; i < t->normalizer.n; i++) {
        sv_buf *to = &w->text[i % 2];
        sv_buf_reset(to);
        if (rewrite(&t->normalizer.v[i], *out, true, to, err) != SV_OK || check(to, err) != SV_OK)
            return err->code;
        *out = sv_buf_str(to);
    }
    if (t->normalizer.n > 0) { /* the splitter wants text[0] and text[1] */
        sv_buf *last = &w->text[(t->normalizer.n - 1) % 2], tmp = *last;
        *last = w->text[2];
        w->text[2] = tmp;
    }
    return SV_OK;
}

/* ---- splitting ---- */

typedef struct cutter {
    tok_work *w;
    sv_err *err;
    const tok_step *step;
    size_t n;          /* spans made, in spans[1] */
    size_t n_of_piece; /* of them from the piece at hand */
    tok_span pending;  /* KEEP_WITH_NEXT: a match that waits; n 0: none */
    bool last_matched;
    bool first;        /* the piece at hand begins the text */
    size_t at;         /* where it begins */
} cutter;

static sv_rc push_span(cutter *c, size_t at, size_t n)
{
    tok_work *w = c->w;
    if (n == 0)
        return SV_OK;
    if (c->n == w->cap_spans[1] &&
        sv_tok_reserve((void **)&w->spans[1], &w->cap_spans[1], c->n + 1, sizeof **w->spans, c->err) != SV_OK)
        return c->err->code;
    w->spans[1][c->n++] = (tok_span){at, n, c->first && at == c->at};
    c->n_of_piece++;
    return SV_OK;
}

/* One stretch of the piece, a match or what lies between two. */
static sv_rc cut(cutter *c, size_t at, size_t n, bool match)
{
    tok_work *w = c->w;
    if (n == 0)
        return SV_OK;
    match = match != c->step->invert;
    bool extend = false;
    switch (c->step->keep) {
    case KEEP_APART: break;
    case KEEP_NOT:
        if (match)
            return SV_OK;
        break;
    case KEEP_TOGETHER: extend = c->n_of_piece > 0 && c->last_matched == match; break;
    case KEEP_WITH_PREVIOUS: extend = c->n_of_piece > 0 && match && !c->last_matched; break;
    case KEEP_WITH_NEXT:
        if (match) {
            sv_rc rc = push_span(c, c->pending.at, c->pending.n);
            c->pending = (tok_span){.at = at, .n = n};
            return rc;
        }
        if (c->pending.n > 0) {
            n += at - c->pending.at;
            at = c->pending.at;
            c->pending.n = 0;
        }
        break;
    }
    c->last_matched = match;
    if (extend) {
        w->spans[1][c->n - 1].n += n;
        return SV_OK;
    }
    return push_span(c, at, n);
}

static sv_rc cut_piece(cutter *c, sv_str text, tok_span piece, sv_pattern_memo *memo)
{
    size_t done = piece.at, to = piece.at + piece.n, from, end;
    c->n_of_piece = 0;
    c->pending.n = 0;
    c->last_matched = false;
    c->first = piece.first;
    c->at = piece.at;
    while (sv_pattern_find(c->step->pattern, text, done, to, memo, &from, &end)) {
        if (cut(c, done, from - done, false) != SV_OK || cut(c, from, end - from, true) != SV_OK)
            return c->err->code;
        done = end;
    }
    if (cut(c, done, to - done, false) != SV_OK)
        return c->err->code;
    return push_span(c, c->pending.at, c->pending.n);
}

static sv_rc split_all(const tok_step *step, sv_str text, tok_work *w, sv_err *err)
{
    cutter c = {.w = w, .err = err, .step = step};
    sv_pattern_memo memo = {0};
    sv_rc rc = SV_OK;
    for (size_t i = 0; i < w->n_spans && rc == SV_OK; i++)
        rc = cut_piece(&c, text, w->spans[0][i], &memo);
    free(memo.v);
    w->n_spans = c.n;
    return rc;
}

static sv_rc rewrite_all(const tok_step *step, sv_str text, sv_buf *to, tok_work *w, sv_err *err)
{
    cutter c = {.w = w, .err = err, .step = step};
    sv_buf_reset(to);
    for (size_t i = 0; i < w->n_spans; i++) {
        tok_span s = w->spans[0][i];
        size_t at = to->n;
        c.first = s.first;
        c.at = at;
        if (rewrite(step, (sv_str){text.p + s.at, s.n}, s.first, to, err) != SV_OK || check(to, err) != SV_OK ||
            push_span(&c, at, to->n - at) != SV_OK)
            return err->code;
    }
    w->n_spans = c.n;
    return SV_OK;
}

sv_rc sv_tok_split(const sv_tokenizer *t, sv_str text, bool at_start, tok_work *w, sv_str *out, sv_err *err)
{
    if (sv_tok_reserve((void **)&w->spans[0], &w->cap_spans[0], 1, sizeof **w->spans, err) != SV_OK)
        return err->code;
    w->spans[0][0] = (tok_span){0, text.n, at_start};
    w->n_spans = text.n > 0;
    *out = text;
    int k = 0;
    for (size_t i = 0; i < t->splitter.n; i++) {
        const tok_step *step = &t->splitter.v[i];
        bool split = step->op == STEP_SPLIT;
        if ((split ? split_all(step, *out, w, err) : rewrite_all(step, *out, &w->text[k], w, err)) != SV_OK)
            return err->code;
        if (!split) {
            *out = sv_buf_str(&w->text[k]);
            k = 1 - k;
        }
        tok_span *spans = w->spans[0];
        size_t cap = w->cap_spans[0];
        w->spans[0] = w->spans[1];
        w->cap_spans[0] = w->cap_spans[1];
        w->spans[1] = spans;
        w->cap_spans[1] = cap;
    }
    return SV_OK;
}
