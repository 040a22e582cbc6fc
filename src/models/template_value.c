/* template_value.c - what template values are: Python's, as far as a template can tell
 *
 * A JSON context becomes these values once, before the render; strings are borrowed from it. Lists and dicts never change after
 * they are made (the sandbox that templates are written for forbids append and its like), so values are shared freely and cycles
 * cannot exist; only namespaces change, and they hold no way to be walked.
 *
 * Dicts are arrays in order of insertion, searched from front to back: the ones in a chat are small, and each search burns fuel for
 * what it passes. */
#include <errno.h>
#include <math.h>

#include "models/template_impl.h"

/* ---- making ---- */

bool sv_tpl_burn(trun *r, size_t n)
{
    r->fuel -= (int64_t)n;
    if (r->fuel < 0 && r->rc == SV_OK)
        r->rc = sv_fail(r->err, SV_ELIMIT, "line %d: too many steps", r->line);
    return r->rc == SV_OK;
}

void *sv_tpl_alloc(trun *r, size_t n, size_t size)
{
    void *p = r->rc == SV_OK && sv_tpl_burn(r, 1 + n * size / 64) ? sv_arena_alloc(r->mem, n ? n : 1, size) : NULL;
    if (!p && r->rc == SV_OK)
        r->rc = sv_fail(r->err, SV_ELIMIT, "line %d: it needs too much memory", r->line);
    return p;
}

tval sv_tpl_str(trun *r, const char *p, size_t n)
{
    char *to = sv_tpl_alloc(r, n + 1, 1);
    if (!to)
        return TV_NONE;
    if (n > 0)
        memcpy(to, p, n);
    return TV_STR(((sv_str){to, n}));
}

tval sv_tpl_take(trun *r, sv_buf *b)
{
    if (b->failed && r->rc == SV_OK)
        r->rc = sv_fail(r->err, SV_ELIMIT, "line %d: more than %zu bytes of text", r->line, r->max_out);
    sv_str s = sv_buf_str(b);
    return sv_tpl_str(r, s.p, s.n);
}

tval sv_tpl_seq(trun *r, tseq_kind kind, size_t cap)
{
    tseq *s = sv_tpl_alloc(r, 1, sizeof *s);
    tval *v = s && cap > 0 ? sv_tpl_alloc(r, cap, sizeof *v) : NULL;
    if (!s || (cap > 0 && !v))
        return TV_NONE;
    *s = (tseq){v, 0, cap};
    return (tval){.kind = T_SEQ, .why = (uint8_t)kind, .seq = s};
}

bool sv_tpl_push(trun *r, tval *seq, tval v)
{
    if (r->rc != SV_OK || seq->kind != T_SEQ)
        return false;
    tseq *s = seq->seq;
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 8;
        tval *more = sv_tpl_alloc(r, cap, sizeof *more);
        if (!more)
            return false;
        if (s->n > 0)
            memcpy(more, s->v, s->n * sizeof *more);
        s->v = more;
        s->cap = cap;
    }
    s->v[s->n++] = v;
    return true;
}

tval sv_tpl_dict(trun *r)
{
    tdict *d = sv_tpl_alloc(r, 1, sizeof *d);
    return d ? (tval){.kind = T_DICT, .dict = d} : TV_NONE;
}

const tval *sv_tpl_get(trun *r, const tdict *d, const tval *k)
{
    if (k->kind == T_SEQ || k->kind == T_DICT) {
        if (k->kind == T_DICT || k->why == SEQ_LIST)
            sv_tpl_fail(r, "unhashable type: '%s'", sv_tpl_type(k));
        return NULL;
    }
    sv_tpl_burn(r, d->n / 8);
    for (size_t i = 0; i < d->n; i++)
        if (sv_tpl_equal(r, &d->k[i], k))
            return &d->v[i];
    return NULL;
}

const tval *sv_tpl_gets(trun *r, const tdict *d, sv_str k)
{
    sv_tpl_burn(r, d->n / 8);
    for (size_t i = 0; i < d->n; i++)
        if (d->k[i].kind == T_STR && sv_str_eq(d->k[i].s, k))
            return &d->v[i];
    return NULL;
}

bool sv_tpl_put(trun *r, tdict *d, tval k, tval v)
{
    tval *have = (tval *)sv_tpl_get(r, d, &k);
    if (r->rc != SV_OK)
        return false;
    if (have) {
        *have = v;
        return true;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 8;
        tval *more = sv_tpl_alloc(r, 2 * cap, sizeof *more);
        if (!more)
            return false;
        if (d->n > 0) {
            memcpy(more, d->k, d->n * sizeof *more);
            memcpy(more + cap, d->v, d->n * sizeof *more);
        }
        d->k = more;
        d->v = more + cap;
        d->cap = cap;
    }
    d->k[d->n] = k;
    d->v[d->n++] = v;
    return true;
}

static tval list_of(trun *r, const json_t *j)
{
    size_t i;
    json_t *x;
    tval v = sv_tpl_seq(r, SEQ_LIST, json_array_size(j));
    json_array_foreach(j, i, x)
        if (!sv_tpl_push(r, &v, sv_tpl_from_json(r, x)))
            break;
    return v;
}

static tval dict_of(trun *r, const json_t *j)
{
    size_t cap = json_object_size(j);
    tval v = sv_tpl_dict(r), *room = v.kind == T_DICT ? sv_tpl_alloc(r, 2 * cap, sizeof *room) : NULL;
    if (!room)
        return TV_NONE;
    *v.dict = (tdict){.k = room, .v = room + cap, .cap = cap};
    /* The members of a JSON object differ already: no search for each. */
    for (void *it = json_object_iter((json_t *)j); it; it = json_object_iter_next((json_t *)j, it)) {
        v.dict->k[v.dict->n] = TV_STR(((sv_str){json_object_iter_key(it), json_object_iter_key_len(it)}));
        v.dict->v[v.dict->n++] = sv_tpl_from_json(r, json_object_iter_value(it));
    }
    return v;
}

tval sv_tpl_from_json(trun *r, const json_t *j)
{
    tval v = TV_NONE;
    if (r->rc != SV_OK)
        return v;
    if (!sv_tpl_deeper(r)) {
        r->depth--;
        return v;
    }
    switch (json_typeof(j)) {
    case JSON_OBJECT: v = dict_of(r, j); break;
    case JSON_ARRAY: v = list_of(r, j); break;
    case JSON_STRING: v = TV_STR(((sv_str){json_string_value(j), json_string_length(j)})); break;
    case JSON_INTEGER: v = TV_INT(json_integer_value(j)); break;
    case JSON_REAL: v = TV_FLOAT(json_real_value(j)); break;
    case JSON_TRUE: v = TV_BOOL(true); break;
    case JSON_FALSE: v = TV_BOOL(false); break;
    case JSON_NULL: break;
    }
    r->depth--;
    return v;
}

/* ---- truth, equality, order ---- */

const char *sv_tpl_type(const tval *v)
{
    static const char *const seq[] = {"list", "tuple", "range", "generator", "dict_items", "dict_keys", "dict_values"};
    switch ((tkind)v->kind) {
    case T_UNDEF: return "Undefined";
    case T_NONE: return "NoneType";
    case T_BOOL: return "bool";
    case T_INT: return "int";
    case T_FLOAT: return "float";
    case T_STR: return "str";
    case T_SEQ: return seq[v->why];
    case T_DICT: return "dict";
    case T_NS: return "Namespace";
    case T_MACRO: return "Macro";
    case T_FUNC: return "function";
    case T_METHOD: return "method";
    case T_LOOP: return "LoopContext";
    }
    return "object";
}

bool sv_tpl_integer(const tval *v, int64_t *i)
{
    if (v->kind != T_INT && v->kind != T_BOOL)
        return false;
    *i = v->kind == T_INT ? v->i : v->b;
    return true;
}

bool sv_tpl_number(const tval *v, double *f)
{
    int64_t i;
    if (v->kind == T_FLOAT)
        *f = v->f;
    else if (sv_tpl_integer(v, &i))
        *f = (double)i;
    else
        return false;
    return true;
}

bool sv_tpl_true(const tval *v)
{
    switch ((tkind)v->kind) {
    case T_UNDEF:
    case T_NONE: return false;
    case T_BOOL: return v->b;
    case T_INT: return v->i != 0;
    case T_FLOAT: return v->f != 0;
    case T_STR: return v->s.n > 0;
    case T_SEQ: return v->why == SEQ_GEN || v->seq->n > 0;
    case T_DICT: return v->dict->n > 0;
    default: return true;
    }
}

bool sv_tpl_deeper(trun *r)
{
    if (++r->depth > SV_TPL_MAX_DEPTH && r->rc == SV_OK)
        r->rc = sv_fail(r->err, SV_ELIMIT, "line %d: nested too deeply", r->line);
    return r->rc == SV_OK;
}

static bool equal_seqs(trun *r, const tseq *a, const tseq *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n && sv_tpl_burn(r, 1); i++)
        same = sv_tpl_equal(r, &a->v[i], &b->v[i]);
    return same;
}

static bool equal_dicts(trun *r, const tdict *a, const tdict *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n && r->rc == SV_OK; i++) {
        const tval *other = sv_tpl_get(r, b, &a->k[i]);
        same = other && sv_tpl_equal(r, &a->v[i], other);
    }
    return same;
}

bool sv_tpl_equal(trun *r, const tval *a, const tval *b)
{
    int64_t i, k;
    double x, y;
    if (sv_tpl_integer(a, &i) && sv_tpl_integer(b, &k))
        return i == k;
    if (sv_tpl_number(a, &x) && sv_tpl_number(b, &y))
        return x == y;
    if (a->kind != b->kind)
        return false;
    bool same = false;
    switch ((tkind)a->kind) {
    case T_UNDEF:
    case T_NONE: return true;
    case T_STR: return a->s.n == b->s.n && sv_tpl_burn(r, a->s.n / 256) && sv_str_eq(a->s, b->s);
    case T_SEQ:
        same = a->seq == b->seq || (sv_tpl_deeper(r) && a->why == b->why && equal_seqs(r, a->seq, b->seq));
        break;
    case T_DICT: same = a->dict == b->dict || (sv_tpl_deeper(r) && equal_dicts(r, a->dict, b->dict)); break;
    default: return a->loop == b->loop; /* one and the same object */
    }
    if (a->loop != b->loop)
        r->depth--;
    return same;
}

int sv_tpl_order(trun *r, const tval *a, const tval *b)
{
    double x, y;
    int64_t i, k;
    if (sv_tpl_integer(a, &i) && sv_tpl_integer(b, &k))
        return (i > k) - (i < k);
    if (sv_tpl_number(a, &x) && sv_tpl_number(b, &y))
        return (x > y) - (x < y);
    if (a->kind == T_STR && b->kind == T_STR) { /* UTF-8 sorts as code points do */
        int c = memcmp(a->s.p, b->s.p, a->s.n < b->s.n ? a->s.n : b->s.n);
        return c ? c : (a->s.n > b->s.n) - (a->s.n < b->s.n);
    }
    if (a->kind == T_SEQ && b->kind == T_SEQ && a->why == b->why && a->why <= SEQ_TUPLE) {
        for (size_t n = 0; n < a->seq->n && n < b->seq->n && sv_tpl_burn(r, 1); n++)
            if (!sv_tpl_equal(r, &a->seq->v[n], &b->seq->v[n])) {
                int c = sv_tpl_deeper(r) ? sv_tpl_order(r, &a->seq->v[n], &b->seq->v[n]) : 0;
                r->depth--;
                return c;
            }
        return (a->seq->n > b->seq->n) - (a->seq->n < b->seq->n);
    }
    if (a->kind == T_UNDEF || b->kind == T_UNDEF)
        sv_tpl_fail_undef(r, a->kind == T_UNDEF ? a : b);
    else
        sv_tpl_fail(r, "'<' not supported between instances of '%s' and '%s'", sv_tpl_type(a), sv_tpl_type(b));
    return 0;
}

bool sv_tpl_contains(trun *r, const tval *in, const tval *v)
{
    switch ((tkind)in->kind) {
    case T_UNDEF: return false;
    case T_STR:
        if (v->kind != T_STR) {
            sv_tpl_fail(r, "'in <string>' requires string as left operand, not %s", sv_tpl_type(v));
            return false;
        }
        sv_tpl_burn(r, in->s.n / 64);
        return v->s.n == 0 || memmem(in->s.p, in->s.n, v->s.p, v->s.n);
    case T_DICT: return sv_tpl_get(r, in->dict, v);
    case T_SEQ:
        for (size_t i = 0; i < in->seq->n && sv_tpl_burn(r, 1); i++)
            if (sv_tpl_equal(r, &in->seq->v[i], v))
                return true;
        return false;
    default: sv_tpl_fail(r, "argument of type '%s' is not iterable", sv_tpl_type(in)); return false;
    }
}

/* ---- text ---- */

/* Python's repr of a float: the shortest digits that read back, an exponent below 1e-4 and from 1e16 on. */
void sv_tpl_float(sv_buf *b, double f)
{
    char digits[40], *e;
    if (!isfinite(f)) {
        sv_buf_adds(b, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    for (int p = 0; p < 17; p++) {
        snprintf(digits, sizeof digits, "%.*e", p, f);
        if (strtod(digits, NULL) == f)
            break;
    }
    e = strchr(digits, 'e');
    int exp = atoi(e + 1), n_digits = (int)(e - digits) - (digits[0] == '-') - (strchr(digits, '.') != NULL);
    if (exp >= -4 && exp < 16) {
        int decimals = n_digits - 1 - exp;
        sv_buf_addf(b, "%.*f", decimals > 1 ? decimals : 1, f);
    } else {
        *e = 0;
        sv_buf_addf(b, "%se%c%02d", digits, exp < 0 ? '-' : '+', abs(exp));
    }
}

static void repr_str(trun *r, sv_buf *b, sv_str s)
{
    char quote = memchr(s.p, '\'', s.n) && !memchr(s.p, '"', s.n) ? '"' : '\'';
    sv_tpl_burn(r, s.n / 32);
    sv_buf_addc(b, quote);
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '\n' || c == '\r' || c == '\t')
            sv_buf_addf(b, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (c == quote || c == '\\')
            sv_buf_addf(b, "\\%c", c);
        else if ((uint8_t)c < 0x20 || c == 0x7f)
            sv_buf_addf(b, "\\x%02x", (unsigned)c);
        else
            sv_buf_addc(b, c);
    }
    sv_buf_addc(b, quote);
}

static void repr_items(trun *r, sv_buf *b, const tseq *s)
{
    for (size_t i = 0; i < s->n && r->rc == SV_OK && !b->failed; i++) {
        if (i > 0)
            sv_buf_adds(b, ", ");
        sv_tpl_repr(r, b, &s->v[i]);
    }
}

static void repr_range(sv_buf *b, const tseq *s)
{
    int64_t step = s->n > 1 ? s->v[1].i - s->v[0].i : 1, start = s->n > 0 ? s->v[0].i : 0;
    sv_buf_addf(b, "range(%lld, %lld", (long long)start, (long long)(start + step * (int64_t)s->n));
    if (step != 1)
        sv_buf_addf(b, ", %lld", (long long)step);
    sv_buf_addc(b, ')');
}

static void repr_seq(trun *r, sv_buf *b, const tval *v)
{
    bool tuple = v->why == SEQ_TUPLE, view = v->why > SEQ_GEN;
    if (v->why == SEQ_RANGE) {
        repr_range(b, v->seq);
        return;
    }
    if (v->why == SEQ_GEN) {
        sv_buf_adds(b, "<generator object>");
        return;
    }
    if (view)
        sv_buf_addf(b, "%s(", sv_tpl_type(v));
    sv_buf_addc(b, tuple ? '(' : '[');
    repr_items(r, b, v->seq);
    sv_buf_adds(b, !tuple ? "]" : v->seq->n == 1 ? ",)" : ")");
    if (view)
        sv_buf_addc(b, ')');
}

static void repr_dict(trun *r, sv_buf *b, const tdict *d)
{
    sv_buf_addc(b, '{');
    for (size_t i = 0; i < d->n && r->rc == SV_OK && !b->failed; i++) {
        if (i > 0)
            sv_buf_adds(b, ", ");
        sv_tpl_repr(r, b, &d->k[i]);
        sv_buf_adds(b, ": ");
        sv_tpl_repr(r, b, &d->v[i]);
    }
    sv_buf_addc(b, '}');
}

void sv_tpl_repr(trun *r, sv_buf *b, const tval *v)
{
    if (!sv_tpl_burn(r, 1) || !sv_tpl_deeper(r))
        return;
    switch ((tkind)v->kind) {
    case T_UNDEF: sv_buf_adds(b, "Undefined"); break;
    case T_NONE: sv_buf_adds(b, "None"); break;
    case T_BOOL: sv_buf_adds(b, v->b ? "True" : "False"); break;
    case T_INT: sv_buf_addf(b, "%lld", (long long)v->i); break;
    case T_FLOAT: sv_tpl_float(b, v->f); break;
    case T_STR: repr_str(r, b, v->s); break;
    case T_SEQ: repr_seq(r, b, v); break;
    case T_DICT: repr_dict(r, b, v->dict); break;
    default: sv_buf_addf(b, "<%s>", sv_tpl_type(v)); break;
    }
    r->depth--;
}

void sv_tpl_text(trun *r, sv_buf *b, const tval *v)
{
    if (v->kind == T_STR) {
        sv_tpl_burn(r, v->s.n / 32);
        sv_buf_add(b, v->s.p, v->s.n);
    } else if (v->kind != T_UNDEF) {
        sv_tpl_repr(r, b, v);
    }
}

sv_str sv_tpl_to_str(trun *r, const tval *v)
{
    if (v->kind == T_STR)
        return v->s;
    SV_TPL_BUF(r, b);
    sv_tpl_text(r, &b, v);
    tval s = sv_tpl_take(r, &b);
    return s.kind == T_STR ? s.s : SV_STR("");
}

/* ---- JSON, as Python's json.dumps writes it ---- */

static void json_str(trun *r, sv_buf *b, sv_str s, bool ascii)
{
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    sv_tpl_burn(r, s.n / 32);
    sv_buf_addc(b, '"');
    for (size_t i = 0, run; i < s.n; i += run) {
        uint8_t c = (uint8_t)s.p[i];
        const char *known = c ? memchr(from, c, sizeof from - 1) : NULL;
        run = 1;
        if (known) {
            sv_buf_addf(b, "\\%c", to[known - from]);
        } else if (c < 0x20) {
            sv_buf_addf(b, "\\u%04x", c);
        } else if (c >= 0x80 && ascii) {
            run = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
            uint32_t cp = c & (0x7fu >> run);
            for (size_t k = 1; k < run && i + k < s.n; k++)
                cp = cp << 6 | ((uint8_t)s.p[i + k] & 0x3f);
            if (cp >= 0x10000)
                sv_buf_addf(b, "\\u%04x\\u%04x", 0xd7c0 + (cp >> 10), 0xdc00 + (cp & 0x3ff));
            else
                sv_buf_addf(b, "\\u%04x", cp);
        } else {
            while (i + run < s.n && (uint8_t)s.p[i + run] >= 0x20 && s.p[i + run] != '"' && s.p[i + run] != '\\' &&
                   (!ascii || (uint8_t)s.p[i + run] < 0x80))
                run++;
            sv_buf_add(b, s.p + i, run);
        }
    }
    sv_buf_addc(b, '"');
}

static void json_break(sv_buf *b, const tjson *how, int level)
{
    if (!how->pretty)
        return;
    sv_buf_addc(b, '\n');
    for (int i = 0; i < level; i++)
        sv_buf_add(b, how->indent.p, how->indent.n);
}

static int by_key(const void *a, const void *b, void *pairs)
{
    const tdict *d = ((void **)pairs)[1];
    return sv_tpl_order(((void **)pairs)[0], &d->k[*(const size_t *)a], &d->k[*(const size_t *)b]);
}

static void json_key(trun *r, sv_buf *b, const tval *k, const tjson *how)
{
    switch ((tkind)k->kind) {
    case T_STR: json_str(r, b, k->s, how->ascii); return;
    case T_INT:
    case T_FLOAT:
    case T_BOOL:
    case T_NONE:
        sv_buf_addc(b, '"');
        sv_tpl_json(r, b, k, how, 0);
        sv_buf_addc(b, '"');
        return;
    default: sv_tpl_fail(r, "keys must be str, int, float, bool or None, not %s", sv_tpl_type(k));
    }
}

static void json_members(trun *r, sv_buf *b, const tdict *d, const tjson *how, int level)
{
    size_t *order = sv_tpl_alloc(r, d->n, sizeof *order);
    if (!order)
        return;
    for (size_t i = 0; i < d->n; i++)
        order[i] = i;
    if (how->sort)
        qsort_r(order, d->n, sizeof *order, by_key, (void *[]){r, (void *)d});
    sv_buf_addc(b, '{');
    for (size_t i = 0; i < d->n && r->rc == SV_OK && !b->failed; i++) {
        if (i > 0)
            sv_buf_add(b, how->comma.p, how->comma.n);
        json_break(b, how, level + 1);
        json_key(r, b, &d->k[order[i]], how);
        sv_buf_add(b, how->colon.p, how->colon.n);
        sv_tpl_json(r, b, &d->v[order[i]], how, level + 1);
    }
    if (d->n > 0)
        json_break(b, how, level);
    sv_buf_addc(b, '}');
}

static void json_elements(trun *r, sv_buf *b, const tseq *s, const tjson *how, int level)
{
    sv_buf_addc(b, '[');
    for (size_t i = 0; i < s->n && r->rc == SV_OK && !b->failed; i++) {
        if (i > 0)
            sv_buf_add(b, how->comma.p, how->comma.n);
        json_break(b, how, level + 1);
        sv_tpl_json(r, b, &s->v[i], how, level + 1);
    }
    if (s->n > 0)
        json_break(b, how, level);
    sv_buf_addc(b, ']');
}

void sv_tpl_json(trun *r, sv_buf *b, const tval *v, const tjson *how, int level)
{
    if (!sv_tpl_burn(r, 1) || !sv_tpl_deeper(r))
        return;
    bool plain = true;
    switch ((tkind)v->kind) {
    case T_NONE: sv_buf_adds(b, "null"); break;
    case T_BOOL: sv_buf_adds(b, v->b ? "true" : "false"); break;
    case T_INT: sv_buf_addf(b, "%lld", (long long)v->i); break;
    case T_FLOAT:
        if (isfinite(v->f))
            sv_tpl_float(b, v->f);
        else
            sv_buf_adds(b, isnan(v->f) ? "NaN" : v->f < 0 ? "-Infinity" : "Infinity");
        break;
    case T_STR: json_str(r, b, v->s, how->ascii); break;
    case T_DICT: json_members(r, b, v->dict, how, level); break;
    case T_SEQ:
        plain = v->why <= SEQ_TUPLE;
        if (plain)
            json_elements(r, b, v->seq, how, level);
        break;
    default: plain = false; break;
    }
    r->depth--;
    if (!plain)
        sv_tpl_fail(r, "Object of type %s is not JSON serializable", sv_tpl_type(v));
}

/* ---- parts ---- */

size_t sv_tpl_chars(sv_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((uint8_t)s.p[i] & 0xc0) != 0x80;
    return n;
}

/* The byte offset of character i; s.n past the end. */
static size_t char_at(sv_str s, size_t i)
{
    size_t at = 0;
    for (; at < s.n; at++)
        if (((uint8_t)s.p[at] & 0xc0) != 0x80 && i-- == 0)
            break;
    return at;
}

static sv_str one_char(sv_str s, size_t i)
{
    size_t from = char_at(s, i), to = from;
    while (to < s.n && (to == from || ((uint8_t)s.p[to] & 0xc0) == 0x80))
        to++;
    return (sv_str){s.p + from, to - from};
}

int64_t sv_tpl_len(trun *r, const tval *v)
{
    switch ((tkind)v->kind) {
    case T_UNDEF: return 0;
    case T_STR: sv_tpl_burn(r, v->s.n / 64); return (int64_t)sv_tpl_chars(v->s);
    case T_DICT: return (int64_t)v->dict->n;
    case T_SEQ:
        if (v->why != SEQ_GEN)
            return (int64_t)v->seq->n;
        break;
    default: break;
    }
    sv_tpl_fail(r, "object of type '%s' has no len()", sv_tpl_type(v));
    return 0;
}

const tseq *sv_tpl_iter(trun *r, const tval *v)
{
    static const tseq none = {0};
    tval out;
    switch ((tkind)v->kind) {
    case T_SEQ: return v->seq;
    case T_UNDEF: return &none;
    case T_DICT:
        out = sv_tpl_seq(r, SEQ_LIST, v->dict->n);
        for (size_t i = 0; i < v->dict->n; i++)
            sv_tpl_push(r, &out, v->dict->k[i]);
        return out.kind == T_SEQ ? out.seq : &none;
    case T_STR:
        out = sv_tpl_seq(r, SEQ_LIST, sv_tpl_chars(v->s));
        for (size_t i = 0; i < v->s.n && r->rc == SV_OK;) {
            sv_str c = one_char((sv_str){v->s.p + i, v->s.n - i}, 0);
            sv_tpl_push(r, &out, TV_STR(c));
            i += c.n;
        }
        return out.kind == T_SEQ ? out.seq : &none;
    default: sv_tpl_fail(r, "'%s' object is not iterable", sv_tpl_type(v)); return &none;
    }
}

static tval no_attr(const tval *v, sv_str name)
{
    tval u = TV_UNDEF(UNDEF_ATTR, name);
    u.owner = v->kind == T_SEQ && v->why != SEQ_LIST ? 0x80 | v->why : v->kind;
    return u;
}

static tval method_of(trun *r, const tval *v, const tbuiltin *f)
{
    tmethod *m = sv_tpl_alloc(r, 1, sizeof *m);
    if (!m)
        return TV_NONE;
    *m = (tmethod){f, *v};
    return (tval){.kind = T_METHOD, .method = m};
}

/* Methods that change their object: the sandbox refuses them. */
static bool is_unsafe(const tval *v, sv_str name)
{
    static const char *const list[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
    static const char *const dict[] = {"clear", "pop", "popitem", "setdefault", "update"};
    if (name.n > 1 && name.p[0] == '_' && name.p[1] == '_')
        return true;
    if (v->kind != T_DICT && (v->kind != T_SEQ || v->why != SEQ_LIST))
        return false;
    size_t n = v->kind == T_DICT ? SV_LEN(dict) : SV_LEN(list);
    for (size_t i = 0; i < n; i++)
        if (sv_str_is(name, v->kind == T_DICT ? dict[i] : list[i]))
            return true;
    return false;
}

static tval loop_attr(const tval *v, sv_str name)
{
    const tloop *l = v->loop;
    const struct { const char *name; tval v; } have[] = {
        {"index", TV_INT((int64_t)l->i + 1)},
        {"index0", TV_INT((int64_t)l->i)},
        {"revindex", TV_INT((int64_t)(l->seq->n - l->i))},
        {"revindex0", TV_INT((int64_t)(l->seq->n - l->i) - 1)},
        {"first", TV_BOOL(l->i == 0)},
        {"last", TV_BOOL(l->i + 1 == l->seq->n)},
        {"length", TV_INT((int64_t)l->seq->n)},
        {"depth", TV_INT(1)}, /* Jinja counts recursive loops only, which the parser refuses */
        {"depth0", TV_INT(0)},
        {"previtem", l->i > 0 ? l->seq->v[l->i - 1] : TV_UNDEF(UNDEF_EMPTY, SV_STR("there is no previous item"))},
        {"nextitem", l->i + 1 < l->seq->n ? l->seq->v[l->i + 1] : TV_UNDEF(UNDEF_EMPTY, SV_STR("there is no next item"))},
    };
    for (size_t i = 0; i < SV_LEN(have); i++)
        if (sv_str_is(name, have[i].name))
            return have[i].v;
    return no_attr(v, name);
}

tval sv_tpl_attr(trun *r, const tval *v, sv_str name)
{
    const tbuiltin *f = NULL;
    const tval *member = NULL;
    if (v->kind == T_UNDEF)
        return sv_tpl_fail_undef(r, v);
    bool unsafe = is_unsafe(v, name);
    switch ((tkind)v->kind) {
    case T_STR: f = sv_tpl_find_str_method(name); break;
    case T_SEQ: f = sv_tpl_find_seq_method(name); break;
    case T_LOOP:
        f = sv_tpl_find_loop_method(name);
        if (!f)
            return loop_attr(v, name);
        break;
    case T_DICT:
        f = sv_tpl_find_dict_method(name);
        if (!f && !unsafe)
            member = sv_tpl_gets(r, v->dict, name);
        break;
    case T_NS: member = sv_tpl_gets(r, v->dict, name); break;
    case T_MACRO:
        if (sv_str_is(name, "name"))
            return TV_STR(v->macro->node->s);
        break;
    default: break;
    }
    if (unsafe) {
        tval u = no_attr(v, name);
        u.why = UNDEF_UNSAFE;
        return u;
    }
    return f ? method_of(r, v, f) : member ? *member : no_attr(v, name);
}

static tval no_item(trun *r, const tval *v, const tval *key)
{
    if (key->kind == T_STR) {
        tval u = no_attr(v, key->s);
        return u;
    }
    tval u = no_attr(v, sv_tpl_to_str(r, key));
    u.why = UNDEF_ITEM;
    return u;
}

tval sv_tpl_item(trun *r, const tval *v, const tval *key)
{
    int64_t i;
    const tval *member;
    if (v->kind == T_UNDEF)
        return sv_tpl_fail_undef(r, v);
    if (key->kind == T_UNDEF && v->kind != T_DICT)
        return no_item(r, v, key);
    switch ((tkind)v->kind) {
    case T_DICT:
        member = sv_tpl_get(r, v->dict, key);
        if (member || r->rc != SV_OK)
            return member ? *member : TV_NONE;
        break;
    case T_SEQ:
        if (v->why >= SEQ_GEN || !sv_tpl_integer(key, &i))
            break;
        i += i < 0 ? (int64_t)v->seq->n : 0;
        if (i >= 0 && i < (int64_t)v->seq->n)
            return v->seq->v[i];
        break;
    case T_STR: {
        if (!sv_tpl_integer(key, &i))
            break;
        sv_tpl_burn(r, v->s.n / 64);
        int64_t n = (int64_t)sv_tpl_chars(v->s);
        i += i < 0 ? n : 0;
        if (i >= 0 && i < n)
            return TV_STR(one_char(v->s, (size_t)i));
        break;
    }
    default: break;
    }
    return key->kind == T_STR ? sv_tpl_attr(r, v, key->s) : no_item(r, v, key);
}

/* Python's slice.indices: *start, and how many items a step apart. */
static bool slice_range(trun *r, const tval part[3], int64_t n, int64_t *start, int64_t *step, int64_t *count)
{
    int64_t x[3] = {0, 0, 1};
    for (int i = 0; i < 3; i++)
        if (part[i].kind != T_NONE && !sv_tpl_integer(&part[i], &x[i])) {
            sv_tpl_fail(r, "slice indices must be integers or None");
            return false;
        }
    if (x[2] == 0) {
        sv_tpl_fail(r, "slice step cannot be zero");
        return false;
    }
    int64_t low = x[2] > 0 ? 0 : -1, high = x[2] > 0 ? n : n - 1, bound[2];
    for (int i = 0; i < 2; i++) {
        if (part[i].kind == T_NONE)
            bound[i] = (i == 0) == (x[2] > 0) ? low : high;
        else if (x[i] < 0)
            bound[i] = x[i] < low - n ? low : x[i] + n < low ? low : x[i] + n;
        else
            bound[i] = x[i] > high ? high : x[i];
    }
    int64_t span = x[2] > 0 ? bound[1] - bound[0] : bound[0] - bound[1];
    uint64_t stride = x[2] > 0 ? (uint64_t)x[2] : 0 - (uint64_t)x[2];
    *start = bound[0];
    *step = x[2];
    *count = span > 0 ? (int64_t)(((uint64_t)span - 1) / stride) + 1 : 0;
    return true;
}

tval sv_tpl_slice(trun *r, const tval *v, const tval part[3])
{
    int64_t start, step, count;
    if (v->kind == T_UNDEF)
        return sv_tpl_fail_undef(r, v);
    if (v->kind == T_STR) {
        sv_tpl_burn(r, v->s.n / 64);
        if (!slice_range(r, part, (int64_t)sv_tpl_chars(v->s), &start, &step, &count))
            return TV_NONE;
        if (count == 0)
            return TV_STR(SV_STR(""));
        if (step == 1) {
            size_t from = char_at(v->s, (size_t)start);
            sv_str rest = {v->s.p + from, v->s.n - from};
            return TV_STR(((sv_str){rest.p, char_at(rest, (size_t)count)}));
        }
        const tseq *chars = sv_tpl_iter(r, v);
        SV_TPL_BUF(r, b);
        for (int64_t i = 0; i < count && r->rc == SV_OK; i++) {
            sv_str c = chars->v[start + i * step].s;
            sv_buf_add(&b, c.p, c.n);
        }
        return sv_tpl_take(r, &b);
    }
    if (v->kind != T_SEQ || v->why >= SEQ_GEN)
        return sv_tpl_fail(r, "'%s' object is not subscriptable", sv_tpl_type(v));
    if (!slice_range(r, part, (int64_t)v->seq->n, &start, &step, &count))
        return TV_NONE;
    tval out = sv_tpl_seq(r, (tseq_kind)v->why, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        sv_tpl_push(r, &out, v->seq->v[start + i * step]);
    return out;
}
