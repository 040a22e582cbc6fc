/* template_lib.c - filters, tests, global functions, and methods of lists and dicts
 *
 * What Jinja 3.1 and the transformers library offer and chat templates use. Their filters that need a random source, a clock of
 * their own, HTML or a URL are left out; a template that reaches one gets "No filter named ...".
 *
 * strftime_now goes by local time, as Python's does. */
#include <math.h>
#include <time.h>

#include "models/template_impl.h"

/* ---- arguments ---- */

const tval *sv_tpl_arg(const targv *a, size_t i, const char *name)
{
    if (i < a->n_pos)
        return &a->pos[i];
    for (size_t k = 0; name && k < a->n_kw; k++)
        if (sv_str_is(a->kw_name[k], name))
            return &a->kw[k];
    return NULL;
}

bool sv_tpl_arg_true(const targv *a, size_t i, const char *name, bool otherwise)
{
    const tval *v = sv_tpl_arg(a, i, name);
    return v ? sv_tpl_true(v) : otherwise;
}

static sv_str arg_str(trun *r, const targv *a, size_t i, const char *name, sv_str otherwise)
{
    const tval *v = sv_tpl_arg(a, i, name);
    return v ? sv_tpl_to_str(r, v) : otherwise;
}

static int64_t arg_int(trun *r, const targv *a, size_t i, const char *name, int64_t otherwise)
{
    const tval *v = sv_tpl_arg(a, i, name);
    if (v && !sv_tpl_integer(v, &otherwise))
        sv_tpl_fail(r, "an integer expected as argument, not %s", sv_tpl_type(v));
    return otherwise;
}

/* The arguments from position i on, as a call of its own; named ones go along. */
static targv rest_of(const targv *a, size_t i)
{
    targv b = *a;
    i = i < a->n_pos ? i : a->n_pos;
    b.pos += i;
    b.n_pos -= i;
    return b;
}

static const tbuiltin *find_in(const tbuiltin *list, size_t n, sv_str name)
{
    for (size_t i = 0; i < n; i++)
        if (sv_str_is(name, list[i].name))
            return &list[i];
    return NULL;
}

/* ---- tests ---- */

#define TEST(fn, expr)                                          \
    static tval fn(trun *r, const tval *v, const targv *a)      \
    {                                                           \
        (void)r;                                                \
        (void)a;                                                \
        return TV_BOOL(expr);                                   \
    }
TEST(t_defined, v->kind != T_UNDEF)
TEST(t_undefined, v->kind == T_UNDEF)
TEST(t_none, v->kind == T_NONE)
TEST(t_boolean, v->kind == T_BOOL)
TEST(t_true, v->kind == T_BOOL && v->b)
TEST(t_false, v->kind == T_BOOL && !v->b)
TEST(t_integer, v->kind == T_INT)
TEST(t_float, v->kind == T_FLOAT)
TEST(t_number, v->kind == T_INT || v->kind == T_FLOAT || v->kind == T_BOOL)
TEST(t_string, v->kind == T_STR)
TEST(t_mapping, v->kind == T_DICT)
TEST(t_callable, v->kind == T_FUNC || v->kind == T_METHOD || v->kind == T_MACRO)
TEST(t_iterable, v->kind == T_STR || v->kind == T_SEQ || v->kind == T_DICT || v->kind == T_UNDEF)
/* Undefined has a length and items as far as Jinja can tell. */
TEST(t_sequence, v->kind == T_STR || v->kind == T_DICT || v->kind == T_UNDEF || (v->kind == T_SEQ && v->why < SEQ_GEN))

static int order_to(trun *r, const tval *v, const targv *a)
{
    const tval *to = sv_tpl_arg(a, 0, NULL);
    if (!to)
        sv_tpl_fail(r, "a comparison wants an argument");
    return to ? sv_tpl_order(r, v, to) : 0;
}
static tval t_equal(trun *r, const tval *v, const targv *a)
{
    const tval *to = sv_tpl_arg(a, 0, NULL);
    return to ? TV_BOOL(sv_tpl_equal(r, v, to)) : sv_tpl_fail(r, "a comparison wants an argument");
}
static tval t_unequal(trun *r, const tval *v, const targv *a)
{
    tval same = t_equal(r, v, a);
    return TV_BOOL(!same.b);
}
TEST(t_less, order_to(r, v, a) < 0)
TEST(t_at_most, order_to(r, v, a) <= 0)
TEST(t_more, order_to(r, v, a) > 0)
TEST(t_at_least, order_to(r, v, a) >= 0)

static tval t_same(trun *r, const tval *v, const targv *a)
{
    const tval *to = sv_tpl_arg(a, 0, NULL);
    return to ? TV_BOOL(v->kind == to->kind && sv_tpl_equal(r, v, to)) : sv_tpl_fail(r, "sameas wants an argument");
}

static tval t_in(trun *r, const tval *v, const targv *a)
{
    const tval *in = sv_tpl_arg(a, 0, "seq");
    return in ? TV_BOOL(sv_tpl_contains(r, in, v)) : sv_tpl_fail(r, "in wants an argument");
}

static tval remainder_is(trun *r, const tval *v, int64_t by, int64_t wanted)
{
    int64_t i;
    if (!sv_tpl_integer(v, &i) || by == 0)
        return v->kind == T_UNDEF ? sv_tpl_fail_undef(r, v) : sv_tpl_fail(r, "an integer and a divisor other than 0 expected");
    int64_t rest = by == -1 ? 0 : i % by;
    return TV_BOOL((rest < 0 ? -rest : rest) == wanted);
}
static tval t_even(trun *r, const tval *v, const targv *a) { (void)a; return remainder_is(r, v, 2, 0); }
static tval t_odd(trun *r, const tval *v, const targv *a) { (void)a; return remainder_is(r, v, 2, 1); }
static tval t_divisible(trun *r, const tval *v, const targv *a) { return remainder_is(r, v, arg_int(r, a, 0, "num", 0), 0); }

static tval case_test(trun *r, const tval *v, const char *method)
{
    tval s = TV_STR(sv_tpl_to_str(r, v));
    return sv_tpl_find_str_method(sv_str_of(method))->fn(r, &s, &(targv){0});
}
static tval t_lower(trun *r, const tval *v, const targv *a) { (void)a; return case_test(r, v, "islower"); }
static tval t_upper(trun *r, const tval *v, const targv *a) { (void)a; return case_test(r, v, "isupper"); }

const tbuiltin *sv_tpl_find_test(sv_str name)
{
    static const tbuiltin tests[] = {
        {"boolean", t_boolean}, {"callable", t_callable}, {"defined", t_defined}, {"divisibleby", t_divisible}, {"eq", t_equal},
        {"equalto", t_equal}, {"==", t_equal}, {"even", t_even}, {"false", t_false}, {"float", t_float}, {"ge", t_at_least},
        {">=", t_at_least}, {"gt", t_more}, {"greaterthan", t_more}, {">", t_more}, {"in", t_in}, {"integer", t_integer},
        {"iterable", t_iterable}, {"le", t_at_most}, {"<=", t_at_most}, {"lessthan", t_less}, {"lower", t_lower}, {"lt", t_less},
        {"<", t_less}, {"mapping", t_mapping}, {"ne", t_unequal}, {"!=", t_unequal}, {"none", t_none}, {"number", t_number},
        {"odd", t_odd}, {"sameas", t_same}, {"sequence", t_sequence}, {"string", t_string}, {"true", t_true},
        {"undefined", t_undefined}, {"upper", t_upper},
    };
    return find_in(tests, SV_LEN(tests), name);
}

/* ---- filters: text ---- */

static tval f_string(trun *r, const tval *v, const targv *a)
{
    (void)a;
    return TV_STR(sv_tpl_to_str(r, v));
}

static tval cased(trun *r, const tval *v, tcase how) { return sv_tpl_case(r, sv_tpl_to_str(r, v), how); }
static tval f_lower(trun *r, const tval *v, const targv *a) { (void)a; return cased(r, v, CASE_LOWER); }
static tval f_upper(trun *r, const tval *v, const targv *a) { (void)a; return cased(r, v, CASE_UPPER); }
static tval f_capitalize(trun *r, const tval *v, const targv *a) { (void)a; return cased(r, v, CASE_CAPITALIZE); }
static tval f_title(trun *r, const tval *v, const targv *a) { (void)a; return cased(r, v, CASE_WORDS); }

static tval f_trim(trun *r, const tval *v, const targv *a)
{
    const tval *chars = sv_tpl_arg(a, 0, "chars");
    sv_str s = sv_tpl_to_str(r, v), set = chars && chars->kind == T_STR ? chars->s : SV_STR("");
    return TV_STR(sv_tpl_strip(s, chars && chars->kind == T_STR ? &set : NULL, true, true));
}

static tval f_replace(trun *r, const tval *v, const targv *a)
{
    const tval *count = sv_tpl_arg(a, 2, "count");
    sv_str old = arg_str(r, a, 0, "old", SV_STR("")), new = arg_str(r, a, 1, "new", SV_STR(""));
    return sv_tpl_replace(r, sv_tpl_to_str(r, v), old, new, count && count->kind != T_NONE ? arg_int(r, a, 2, "count", -1) : -1);
}

static tval f_format(trun *r, const tval *v, const targv *a)
{
    tval args = sv_tpl_seq(r, SEQ_TUPLE, a->n_pos);
    for (size_t i = 0; i < a->n_pos; i++)
        sv_tpl_push(r, &args, a->pos[i]);
    if (a->n_kw > 0)
        args = sv_tpl_dict(r);
    for (size_t i = 0; i < a->n_kw && r->rc == SV_OK; i++)
        sv_tpl_put(r, args.dict, TV_STR(a->kw_name[i]), a->kw[i]);
    return r->rc == SV_OK ? sv_tpl_percent(r, sv_tpl_to_str(r, v), &args) : TV_NONE;
}

static tval f_escape(trun *r, const tval *v, const targv *a)
{
    static const char from[] = "&<>'\"";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    (void)a;
    SV_TPL_BUF(r, b);
    sv_str s = sv_tpl_to_str(r, v);
    sv_tpl_burn(r, s.n / 16);
    for (size_t i = 0; i < s.n; i++) {
        const char *at = memchr(from, s.p[i], sizeof from - 1);
        if (at)
            sv_buf_adds(&b, to[at - from]);
        else
            sv_buf_addc(&b, s.p[i]);
    }
    return sv_tpl_take(r, &b);
}

static tval f_indent(trun *r, const tval *v, const targv *a)
{
    SV_TPL_BUF(r, b);
    const tval *width = sv_tpl_arg(a, 0, "width");
    bool first = sv_tpl_arg_true(a, 1, "first", false), blank = sv_tpl_arg_true(a, 2, "blank", false);
    char spaces[64];
    sv_str indent = SV_STR("    "), s = sv_tpl_to_str(r, v);
    if (width && width->kind == T_STR) {
        indent = width->s;
    } else if (width) {
        int64_t n = arg_int(r, a, 0, "width", 4);
        indent.n = n < 0 ? 0 : n < 64 ? (size_t)n : 64;
        memset(spaces, ' ', indent.n);
        indent.p = spaces;
    }
    for (bool begin = true; r->rc == SV_OK && sv_tpl_burn(r, 1); begin = false) {
        const char *nl = memchr(s.p, '\n', s.n);
        size_t n = nl ? (size_t)(nl - s.p) : s.n;
        if (begin ? first : blank || n > 0)
            sv_buf_add(&b, indent.p, indent.n);
        sv_buf_add(&b, s.p, nl ? n + 1 : n);
        if (!nl)
            break;
        s.p += n + 1;
        s.n -= n + 1;
    }
    return sv_tpl_take(r, &b);
}

static tval f_tojson(trun *r, const tval *v, const targv *a)
{
    SV_TPL_BUF(r, b);
    const tval *indent = sv_tpl_arg(a, 1, "indent"), *sep = sv_tpl_arg(a, 2, "separators");
    tjson how = {.ascii = sv_tpl_arg_true(a, 0, "ensure_ascii", false), .sort = sv_tpl_arg_true(a, 3, "sort_keys", false),
                 .pretty = indent && indent->kind != T_NONE, .comma = SV_STR(", "), .colon = SV_STR(": ")};
    char spaces[65];
    if (how.pretty && indent->kind == T_STR) {
        how.indent = indent->s;
    } else if (how.pretty) {
        int64_t n = arg_int(r, a, 1, "indent", 0);
        n = n < 0 ? 0 : n > 64 ? 64 : n;
        memset(spaces, ' ', (size_t)n);
        how.indent = (sv_str){spaces, (size_t)n};
    }
    if (how.pretty)
        how.comma = SV_STR(",");
    if (sep && sep->kind == T_SEQ && sep->seq->n == 2) {
        how.comma = sv_tpl_to_str(r, &sep->seq->v[0]);
        how.colon = sv_tpl_to_str(r, &sep->seq->v[1]);
    }
    sv_tpl_json(r, &b, v, &how, 0);
    return sv_tpl_take(r, &b);
}

/* ---- filters: numbers ---- */

/* Text that int() would take: sign, digits, white space around. */
static bool int_of(sv_str s, int64_t *i)
{
    s = sv_tpl_strip(s, NULL, true, true);
    return sv_str_to_i64(s.n > 1 && s.p[0] == '+' ? (sv_str){s.p + 1, s.n - 1} : s, i);
}

static bool float_of(sv_str s, double *f)
{
    char text[64], *end;
    s = sv_tpl_strip(s, NULL, true, true);
    if (s.n == 0 || s.n >= sizeof text || memchr(s.p, 'x', s.n) || memchr(s.p, 'X', s.n))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    *f = strtod(text, &end);
    return *end == 0;
}

static tval f_int(trun *r, const tval *v, const targv *a)
{
    int64_t i;
    double f;
    if (sv_tpl_integer(v, &i) || (v->kind == T_STR && int_of(v->s, &i)))
        return TV_INT(i);
    if ((v->kind == T_FLOAT && (f = v->f, true)) || (v->kind == T_STR && float_of(v->s, &f)))
        if (f > -9.2e18 && f < 9.2e18)
            return TV_INT((int64_t)f);
    return TV_INT(arg_int(r, a, 0, "default", 0));
}

static tval f_float(trun *r, const tval *v, const targv *a)
{
    double f;
    const tval *otherwise = sv_tpl_arg(a, 0, "default");
    (void)r;
    if (sv_tpl_number(v, &f) || (v->kind == T_STR && float_of(v->s, &f)))
        return TV_FLOAT(f);
    return otherwise ? *otherwise : TV_FLOAT(0);
}

static tval f_abs(trun *r, const tval *v, const targv *a)
{
    int64_t i;
    (void)a;
    if (sv_tpl_integer(v, &i) && i != INT64_MIN)
        return TV_INT(i < 0 ? -i : i);
    return v->kind == T_FLOAT ? TV_FLOAT(fabs(v->f)) : sv_tpl_fail(r, "abs() of '%s'", sv_tpl_type(v));
}

/* Python's round(): to the digits written, half to even in what the binary value is. */
static tval f_round(trun *r, const tval *v, const targv *a)
{
    double f;
    char text[400];
    int64_t n = arg_int(r, a, 0, "precision", 0);
    sv_str how = arg_str(r, a, 1, "method", SV_STR("common"));
    if (!sv_tpl_number(v, &f))
        return sv_tpl_fail(r, "round() of '%s'", sv_tpl_type(v));
    if (n < 0 || n > 60 || !isfinite(f))
        return n == 0 ? TV_FLOAT(f) : sv_tpl_fail(r, "round() to %lld digits", (long long)n);
    if (sv_str_is(how, "ceil") || sv_str_is(how, "floor"))
        return TV_FLOAT((sv_str_is(how, "ceil") ? ceil : floor)(f * pow(10, (double)n)) / pow(10, (double)n));
    if (v->kind == T_INT)
        return *v;
    snprintf(text, sizeof text, "%.*f", (int)n, f);
    return TV_FLOAT(strtod(text, NULL));
}

/* ---- filters: sequences ---- */

static tval f_length(trun *r, const tval *v, const targv *a)
{
    (void)a;
    return TV_INT(sv_tpl_len(r, v));
}

static tval f_default(trun *r, const tval *v, const targv *a)
{
    const tval *otherwise = sv_tpl_arg(a, 0, "default_value");
    bool falsy = sv_tpl_arg_true(a, 1, "boolean", false);
    (void)r;
    if (v->kind != T_UNDEF && !(falsy && !sv_tpl_true(v)))
        return *v;
    return otherwise ? *otherwise : TV_STR(SV_STR(""));
}

static tval copy_seq(trun *r, tseq_kind kind, const tval *v, bool backwards)
{
    const tseq *s = sv_tpl_iter(r, v);
    tval out = sv_tpl_seq(r, kind, s->n);
    for (size_t i = 0; i < s->n && r->rc == SV_OK; i++)
        sv_tpl_push(r, &out, s->v[backwards ? s->n - 1 - i : i]);
    return out;
}

static tval f_list(trun *r, const tval *v, const targv *a)
{
    (void)a;
    return copy_seq(r, SEQ_LIST, v, false);
}

static tval f_reverse(trun *r, const tval *v, const targv *a)
{
    (void)a;
    if (v->kind != T_STR)
        return copy_seq(r, SEQ_GEN, v, true);
    return sv_tpl_slice(r, v, (tval[]){TV_NONE, TV_NONE, TV_INT(-1)});
}

static tval end_of(trun *r, const tval *v, bool last)
{
    const tseq *s = sv_tpl_iter(r, v);
    if (s->n == 0)
        return TV_UNDEF(UNDEF_EMPTY, SV_STR("No first or last item, sequence was empty."));
    return s->v[last ? s->n - 1 : 0];
}
static tval f_first(trun *r, const tval *v, const targv *a) { (void)a; return end_of(r, v, false); }
static tval f_last(trun *r, const tval *v, const targv *a) { (void)a; return end_of(r, v, true); }

/* "a.b.0" of an item, as attribute= of filters means it: subscripts first, then attributes. */
static tval path_of(trun *r, tval v, const tval *path)
{
    if (path->kind != T_STR)
        return sv_tpl_item(r, &v, path);
    for (sv_str rest = path->s; r->rc == SV_OK;) {
        const char *dot = memchr(rest.p, '.', rest.n);
        sv_str part = {rest.p, dot ? (size_t)(dot - rest.p) : rest.n};
        int64_t i;
        tval key = part.n > 0 && part.p[0] >= '0' && part.p[0] <= '9' && sv_str_to_i64(part, &i) ? TV_INT(i) : TV_STR(part);
        v = sv_tpl_item(r, &v, &key);
        if (!dot)
            return v;
        rest.p += part.n + 1;
        rest.n -= part.n + 1;
    }
    return TV_NONE;
}

static tval f_join(trun *r, const tval *v, const targv *a)
{
    SV_TPL_BUF(r, b);
    sv_str sep = arg_str(r, a, 0, "d", SV_STR(""));
    const tval *path = sv_tpl_arg(a, 1, "attribute");
    const tseq *s = sv_tpl_iter(r, v);
    for (size_t i = 0; i < s->n && sv_tpl_burn(r, 1 + sep.n / 32); i++) {
        tval item = path && path->kind != T_NONE ? path_of(r, s->v[i], path) : s->v[i];
        if (i > 0)
            sv_buf_add(&b, sep.p, sep.n);
        if (r->rc == SV_OK)
            sv_tpl_text(r, &b, &item);
    }
    return sv_tpl_take(r, &b);
}

static tval pair(trun *r, tval k, tval v)
{
    tval t = sv_tpl_seq(r, SEQ_TUPLE, 2);
    sv_tpl_push(r, &t, k);
    sv_tpl_push(r, &t, v);
    return t;
}

static tval items_of(trun *r, tseq_kind kind, const tdict *d)
{
    tval out = sv_tpl_seq(r, kind, d->n);
    for (size_t i = 0; i < d->n && r->rc == SV_OK; i++)
        sv_tpl_push(r, &out, pair(r, d->k[i], d->v[i]));
    return out;
}

static tval f_items(trun *r, const tval *v, const targv *a)
{
    (void)a;
    if (v->kind == T_UNDEF)
        return sv_tpl_seq(r, SEQ_GEN, 0);
    return v->kind == T_DICT ? items_of(r, SEQ_GEN, v->dict) : sv_tpl_fail(r, "Can only get item pairs from a mapping.");
}

/* ---- filters: order ---- */

typedef struct tsort { trun *r; const tval *key; bool backwards; } tsort;

static int by_key(const void *a, const void *b, void *arg)
{
    const tsort *s = arg;
    size_t i = *(const size_t *)a, k = *(const size_t *)b;
    sv_tpl_burn(s->r, 1);
    int c = s->r->rc == SV_OK ? sv_tpl_order(s->r, &s->key[i], &s->key[k]) : 0;
    return c ? (s->backwards ? -c : c) : (i > k) - (i < k); /* stable */
}

/* What items are compared by: an attribute where path is given, and text without regard to case unless by_case. */
static tval *sort_keys(trun *r, const tseq *s, const tval *path, bool by_case)
{
    tval *key = sv_tpl_alloc(r, s->n, sizeof *key);
    for (size_t i = 0; key && i < s->n && r->rc == SV_OK; i++) {
        key[i] = path && path->kind != T_NONE ? path_of(r, s->v[i], path) : s->v[i];
        if (!by_case && key[i].kind == T_STR)
            key[i] = sv_tpl_case(r, key[i].s, CASE_LOWER);
    }
    return r->rc == SV_OK ? key : NULL;
}

static tval sorted(trun *r, const tseq *s, const tval *key, bool backwards)
{
    size_t *order = key ? sv_tpl_alloc(r, s->n, sizeof *order) : NULL;
    if (!order)
        return TV_NONE;
    for (size_t i = 0; i < s->n; i++)
        order[i] = i;
    qsort_r(order, s->n, sizeof *order, by_key, &(tsort){r, key, backwards});
    tval out = sv_tpl_seq(r, SEQ_LIST, s->n);
    for (size_t i = 0; i < s->n && r->rc == SV_OK; i++)
        sv_tpl_push(r, &out, s->v[order[i]]);
    return out;
}

static tval f_sort(trun *r, const tval *v, const targv *a)
{
    const tseq *s = sv_tpl_iter(r, v);
    const tval *key = sort_keys(r, s, sv_tpl_arg(a, 2, "attribute"), sv_tpl_arg_true(a, 1, "case_sensitive", false));
    return sorted(r, s, key, sv_tpl_arg_true(a, 0, "reverse", false));
}

static tval f_dictsort(trun *r, const tval *v, const targv *a)
{
    if (v->kind != T_DICT)
        return v->kind == T_UNDEF ? sv_tpl_fail_undef(r, v) : sv_tpl_fail(r, "'%s' object has no attribute 'items'", sv_tpl_type(v));
    tval items = items_of(r, SEQ_LIST, v->dict), by = TV_INT(sv_str_is(arg_str(r, a, 1, "by", SV_STR("key")), "value"));
    if (r->rc != SV_OK)
        return TV_NONE;
    const tval *key = sort_keys(r, items.seq, &by, sv_tpl_arg_true(a, 0, "case_sensitive", false));
    return sorted(r, items.seq, key, sv_tpl_arg_true(a, 2, "reverse", false));
}

static tval extreme(trun *r, const tval *v, const targv *a, bool largest)
{
    const tseq *s = sv_tpl_iter(r, v);
    const tval *key = sort_keys(r, s, sv_tpl_arg(a, 1, "attribute"), sv_tpl_arg_true(a, 0, "case_sensitive", false));
    size_t best = 0;
    if (s->n == 0)
        return TV_UNDEF(UNDEF_EMPTY, SV_STR("No aggregated item, sequence was empty."));
    for (size_t i = 1; key && i < s->n && r->rc == SV_OK; i++) {
        int c = sv_tpl_order(r, &key[i], &key[best]);
        if (largest ? c > 0 : c < 0)
            best = i;
    }
    return s->v[best];
}
static tval f_min(trun *r, const tval *v, const targv *a) { return extreme(r, v, a, false); }
static tval f_max(trun *r, const tval *v, const targv *a) { return extreme(r, v, a, true); }

static tval f_unique(trun *r, const tval *v, const targv *a)
{
    const tseq *s = sv_tpl_iter(r, v);
    const tval *key = sort_keys(r, s, sv_tpl_arg(a, 1, "attribute"), sv_tpl_arg_true(a, 0, "case_sensitive", false));
    tval out = sv_tpl_seq(r, SEQ_GEN, 0), seen = sv_tpl_dict(r);
    for (size_t i = 0; key && i < s->n && r->rc == SV_OK; i++) {
        if (!sv_tpl_get(r, seen.dict, &key[i]))
            sv_tpl_push(r, &out, s->v[i]);
        sv_tpl_put(r, seen.dict, key[i], TV_NONE);
    }
    return out;
}

static tval f_sum(trun *r, const tval *v, const targv *a)
{
    const tseq *s = sv_tpl_iter(r, v);
    const tval *path = sv_tpl_arg(a, 0, "attribute"), *start = sv_tpl_arg(a, 1, "start");
    int64_t whole = 0, i;
    double sum = 0, f;
    bool real = start && start->kind == T_FLOAT;
    if (start && (!sv_tpl_number(start, &sum) || (!real && !sv_tpl_integer(start, &whole))))
        return sv_tpl_fail(r, "sum() starts with a number");
    for (size_t k = 0; k < s->n && r->rc == SV_OK; k++) {
        tval item = path && path->kind != T_NONE ? path_of(r, s->v[k], path) : s->v[k];
        if (!sv_tpl_number(&item, &f))
            return sv_tpl_fail(r, "sum() of '%s'", sv_tpl_type(&item));
        real |= item.kind == T_FLOAT;
        sum += f;
        if (sv_tpl_integer(&item, &i) && __builtin_add_overflow(whole, i, &whole))
            return sv_tpl_fail(r, "a number over 64 bits");
    }
    return real ? TV_FLOAT(sum) : TV_INT(whole);
}

/* ---- filters that take filters and tests ---- */

static const tbuiltin *named_by(trun *r, const targv *a, size_t i, bool filter)
{
    const tval *name = sv_tpl_arg(a, i, NULL);
    sv_str s = name && name->kind == T_STR ? name->s : SV_STR("");
    const tbuiltin *b = filter ? sv_tpl_find_filter(s) : sv_tpl_find_test(s);
    if (!b)
        sv_tpl_fail(r, "No %s named '%.*s'.", filter ? "filter" : "test", (int)(s.n < 60 ? s.n : 60), s.p);
    return b;
}

static tval f_map(trun *r, const tval *v, const targv *a)
{
    const tseq *s = sv_tpl_iter(r, v);
    const tval *path = a->n_pos == 0 ? sv_tpl_arg(a, SIZE_MAX, "attribute") : NULL, *otherwise = sv_tpl_arg(a, SIZE_MAX, "default");
    const tbuiltin *filter = path ? NULL : named_by(r, a, 0, true);
    targv rest = rest_of(a, 1);
    tval out = sv_tpl_seq(r, SEQ_GEN, s->n);
    for (size_t i = 0; i < s->n && sv_tpl_burn(r, 1); i++) {
        tval item = path ? path_of(r, s->v[i], path) : filter->fn(r, &s->v[i], &rest);
        sv_tpl_push(r, &out, path && otherwise && item.kind == T_UNDEF ? *otherwise : item);
    }
    return out;
}

static tval chosen(trun *r, const tval *v, const targv *a, bool by_attr, bool wanted)
{
    const tseq *s = sv_tpl_iter(r, v);
    const tval *path = by_attr ? sv_tpl_arg(a, 0, "attribute") : NULL;
    const tbuiltin *test = a->n_pos > by_attr ? named_by(r, a, by_attr, false) : NULL; /* none: truth */
    targv rest = rest_of(a, 1 + (size_t)by_attr);
    tval out = sv_tpl_seq(r, SEQ_GEN, 0);
    if (by_attr && !path)
        return sv_tpl_fail(r, "Missing parameter for attribute name");
    for (size_t i = 0; i < s->n && sv_tpl_burn(r, 1); i++) {
        tval item = path ? path_of(r, s->v[i], path) : s->v[i];
        if (test && r->rc == SV_OK)
            item = test->fn(r, &item, &rest);
        if (sv_tpl_true(&item) == wanted)
            sv_tpl_push(r, &out, s->v[i]);
    }
    return out;
}
static tval f_select(trun *r, const tval *v, const targv *a) { return chosen(r, v, a, false, true); }
static tval f_reject(trun *r, const tval *v, const targv *a) { return chosen(r, v, a, false, false); }
static tval f_selectattr(trun *r, const tval *v, const targv *a) { return chosen(r, v, a, true, true); }
static tval f_rejectattr(trun *r, const tval *v, const targv *a) { return chosen(r, v, a, true, false); }

const tbuiltin *sv_tpl_find_filter(sv_str name)
{
    static const tbuiltin filters[] = {
        {"abs", f_abs}, {"capitalize", f_capitalize}, {"count", f_length}, {"d", f_default}, {"default", f_default},
        {"dictsort", f_dictsort}, {"e", f_escape}, {"escape", f_escape}, {"first", f_first}, {"float", f_float}, {"format", f_format},
        {"indent", f_indent}, {"int", f_int}, {"items", f_items}, {"join", f_join}, {"last", f_last}, {"length", f_length},
        {"list", f_list}, {"lower", f_lower}, {"map", f_map}, {"max", f_max}, {"min", f_min}, {"reject", f_reject},
        {"rejectattr", f_rejectattr}, {"replace", f_replace}, {"reverse", f_reverse}, {"round", f_round}, {"safe", f_string},
        {"select", f_select}, {"selectattr", f_selectattr}, {"sort", f_sort}, {"string", f_string}, {"sum", f_sum},
        {"title", f_title}, {"tojson", f_tojson}, {"trim", f_trim}, {"unique", f_unique}, {"upper", f_upper},
    };
    return find_in(filters, SV_LEN(filters), name);
}

/* ---- global functions ---- */

static tval dict_of(trun *r, const targv *a, tkind kind)
{
    tval v = sv_tpl_dict(r);
    const tval *from = sv_tpl_arg(a, 0, NULL);
    v.kind = r->rc == SV_OK ? (uint8_t)kind : T_NONE;
    if (from && from->kind != T_DICT)
        return sv_tpl_fail(r, "a dict expected as argument, not %s", sv_tpl_type(from));
    for (size_t i = 0; from && i < from->dict->n && r->rc == SV_OK; i++)
        sv_tpl_put(r, v.dict, from->dict->k[i], from->dict->v[i]);
    for (size_t i = 0; i < a->n_kw && r->rc == SV_OK; i++)
        sv_tpl_put(r, v.dict, TV_STR(a->kw_name[i]), a->kw[i]);
    return v;
}
static tval g_namespace(trun *r, const tval *self, const targv *a) { (void)self; return dict_of(r, a, T_NS); }
static tval g_dict(trun *r, const tval *self, const targv *a) { (void)self; return dict_of(r, a, T_DICT); }

static tval g_range(trun *r, const tval *self, const targv *a)
{
    (void)self;
    if (a->n_pos < 1 || a->n_pos > 3)
        return sv_tpl_fail(r, "range() takes 1 to 3 arguments");
    int64_t from = a->n_pos > 1 ? arg_int(r, a, 0, NULL, 0) : 0, to = arg_int(r, a, a->n_pos > 1, NULL, 0);
    int64_t step = arg_int(r, a, 2, NULL, 1);
    if (step == 0)
        return sv_tpl_fail(r, "range() arg 3 must not be zero");
    tval out = sv_tpl_seq(r, SEQ_RANGE, 0);
    for (int64_t i = from; r->rc == SV_OK && (step > 0 ? i < to : i > to);) {
        if (out.seq->n == 100000) /* the sandbox's bound */
            return sv_tpl_fail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
        sv_tpl_push(r, &out, TV_INT(i));
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    return out;
}

static tval g_raise(trun *r, const tval *self, const targv *a)
{
    (void)self;
    sv_str what = arg_str(r, a, 0, "message", SV_STR(""));
    if (r->rc == SV_OK) /* the template's own words, with nothing added */
        r->rc = sv_fail(r->err, SV_EINVAL, "%.*s", (int)(what.n < 400 ? what.n : 400), what.p);
    return TV_NONE;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static tval g_strftime_now(trun *r, const tval *self, const targv *a)
{
    (void)self;
    char form[128], text[512];
    struct tm tm;
    time_t now = (time_t)r->now_s;
    sv_str f = arg_str(r, a, 0, "format", SV_STR(""));
    if (f.n >= sizeof form || memchr(f.p, 0, f.n) || !localtime_r(&now, &tm))
        return sv_tpl_fail(r, "strftime_now() cannot write that format");
    memcpy(form, f.p, f.n);
    form[f.n] = 0;
    return sv_tpl_str(r, text, strftime(text, sizeof text, form, &tm));
}
#pragma GCC diagnostic pop

const tbuiltin *sv_tpl_find_global(sv_str name)
{
    static const tbuiltin globals[] = {
        {"dict", g_dict}, {"namespace", g_namespace}, {"raise_exception", g_raise}, {"range", g_range}, {"strftime_now", g_strftime_now},
    };
    return find_in(globals, SV_LEN(globals), name);
}

/* ---- methods of dicts, lists and loops ---- */

static tval m_get(trun *r, const tval *self, const targv *a)
{
    const tval *key = sv_tpl_arg(a, 0, NULL), *otherwise = sv_tpl_arg(a, 1, NULL);
    const tval *v = key ? sv_tpl_get(r, self->dict, key) : NULL;
    if (!key)
        return sv_tpl_fail(r, "get() wants a key");
    return v ? *v : otherwise ? *otherwise : TV_NONE;
}

static tval m_items(trun *r, const tval *self, const targv *a)
{
    (void)a;
    return items_of(r, SEQ_ITEMS, self->dict);
}

static tval m_keys(trun *r, const tval *self, const targv *a)
{
    (void)a;
    return copy_seq(r, SEQ_KEYS, self, false);
}

static tval m_values(trun *r, const tval *self, const targv *a)
{
    (void)a;
    tval out = sv_tpl_seq(r, SEQ_VALUES, self->dict->n);
    for (size_t i = 0; i < self->dict->n; i++)
        sv_tpl_push(r, &out, self->dict->v[i]);
    return out;
}

static tval m_copy(trun *r, const tval *self, const targv *a)
{
    (void)r;
    (void)a;
    return *self; /* nobody can change either */
}

const tbuiltin *sv_tpl_find_dict_method(sv_str name)
{
    static const tbuiltin methods[] = {{"copy", m_copy}, {"get", m_get}, {"items", m_items}, {"keys", m_keys}, {"values", m_values}};
    return find_in(methods, SV_LEN(methods), name);
}

static tval m_seq_index(trun *r, const tval *self, const targv *a)
{
    const tval *what = sv_tpl_arg(a, 0, NULL);
    for (size_t i = 0; what && i < self->seq->n && sv_tpl_burn(r, 1); i++)
        if (sv_tpl_equal(r, &self->seq->v[i], what))
            return TV_INT((int64_t)i);
    return sv_tpl_fail(r, "the value is not in list");
}

static tval m_seq_count(trun *r, const tval *self, const targv *a)
{
    const tval *what = sv_tpl_arg(a, 0, NULL);
    int64_t n = 0;
    for (size_t i = 0; what && i < self->seq->n && sv_tpl_burn(r, 1); i++)
        n += sv_tpl_equal(r, &self->seq->v[i], what);
    return TV_INT(n);
}

const tbuiltin *sv_tpl_find_seq_method(sv_str name)
{
    static const tbuiltin methods[] = {{"copy", m_copy}, {"count", m_seq_count}, {"index", m_seq_index}};
    return find_in(methods, SV_LEN(methods), name);
}

static tval m_cycle(trun *r, const tval *self, const targv *a)
{
    return a->n_pos > 0 ? a->pos[self->loop->i % a->n_pos] : sv_tpl_fail(r, "no items for cycling given");
}

const tbuiltin *sv_tpl_find_loop_method(sv_str name)
{
    static const tbuiltin methods[] = {{"cycle", m_cycle}};
    return find_in(methods, SV_LEN(methods), name);
}
