/* template_str.c - what templates do with strings: their methods, %-formatting, case
 *
 * Strings are valid UTF-8 and counted in code points, as in Python. Results that are a part of their input borrow it. Case goes by
 * the C library's tables, one code point for one: German sharp s stays where Python writes SS. */
#include <locale.h>
#include <pthread.h>
#include <wctype.h>

#include "models/template_impl.h"

/* ---- code points ---- */

static size_t next_char(sv_str s, size_t at, uint32_t *cp)
{
    uint8_t c = (uint8_t)s.p[at];
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    *cp = n == 1 ? c : c & (0x7fu >> n);
    for (size_t i = 1; i < n && at + i < s.n; i++)
        *cp = *cp << 6 | ((uint8_t)s.p[at + i] & 0x3f);
    return at + n < s.n ? at + n : s.n;
}

/* The border before the character that ends at `end` > 0. */
static size_t char_before(sv_str s, size_t end)
{
    do
        end--;
    while (end > 0 && ((uint8_t)s.p[end] & 0xc0) == 0x80);
    return end;
}

bool sv_tpl_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static bool in_set(uint32_t cp, const sv_str *chars)
{
    if (!chars)
        return sv_tpl_is_space(cp);
    uint32_t c;
    for (size_t i = 0; i < chars->n;) {
        i = next_char(*chars, i, &c);
        if (c == cp)
            return true;
    }
    return false;
}

sv_str sv_tpl_strip(sv_str s, const sv_str *chars, bool left, bool right)
{
    uint32_t cp;
    for (size_t to; left && s.n > 0; s.p += to, s.n -= to) {
        to = next_char(s, 0, &cp);
        if (!in_set(cp, chars))
            break;
    }
    while (right && s.n > 0) {
        size_t from = char_before(s, s.n);
        next_char(s, from, &cp);
        if (!in_set(cp, chars))
            break;
        s.n = from;
    }
    return s;
}

static locale_t utf8;
static void make_locale(void) { utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0); }

/* Of one code point; only ASCII where the system has no UTF-8 tables. */
static uint32_t to_case(uint32_t c, bool upper)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (c < 0x80)
        return upper ? c - (c >= 'a' && c <= 'z') * 32u : c + (c >= 'A' && c <= 'Z') * 32u;
    pthread_once(&once, make_locale);
    return !utf8 ? c : upper ? (uint32_t)towupper_l((wint_t)c, utf8) : (uint32_t)towlower_l((wint_t)c, utf8);
}

static bool is_cased(uint32_t c) { return to_case(c, true) != to_case(c, false); }

static void put_char(sv_buf *b, uint32_t c)
{
    char u[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6)
        u[i] = (char)(0x80 | (c & 0x3f));
    u[0] = (char)(n == 1 ? c : (0xf00u >> n & 0xff) | c);
    sv_buf_add(b, u, n);
}

tval sv_tpl_case(trun *r, sv_str s, tcase how)
{
    SV_TPL_BUF(r, b);
    bool word = false; /* inside one */
    uint32_t c;
    sv_tpl_burn(r, s.n / 8);
    for (size_t i = 0; i < s.n;) {
        i = next_char(s, i, &c);
        put_char(&b, to_case(c, how == CASE_UPPER || (how >= CASE_CAPITALIZE && !word)));
        word = how == CASE_CAPITALIZE || (how == CASE_TITLE ? is_cased(c) : !sv_tpl_is_space(c) && !(c < 0x80 && strchr("-({[<", (int)c)));
    }
    return sv_tpl_take(r, &b);
}

/* ---- search ---- */

/* From which byte `what` stands in s, first or last; s.n + 1: nowhere. */
static size_t find(sv_str s, sv_str what, bool last)
{
    size_t none = s.n + 1;
    if (what.n > s.n)
        return none;
    if (!last) {
        const char *p = what.n ? memmem(s.p, s.n, what.p, what.n) : s.p;
        return p ? (size_t)(p - s.p) : none;
    }
    for (size_t i = s.n - what.n + 1; i-- > 0;)
        if (memcmp(s.p + i, what.p, what.n) == 0)
            return i;
    return none;
}

/* count < 0: all. */
tval sv_tpl_replace(trun *r, sv_str s, sv_str from, sv_str to, int64_t count)
{
    SV_TPL_BUF(r, b);
    size_t i = 0;
    uint32_t cp;
    sv_tpl_burn(r, s.n / 32);
    for (; count != 0 && sv_tpl_burn(r, 1 + to.n / 32) && !b.failed; count--) {
        size_t at = find((sv_str){s.p + i, s.n - i}, from, false), step = from.n;
        if (at > s.n - i)
            break;
        sv_buf_add(&b, s.p + i, at);
        sv_buf_add(&b, to.p, to.n);
        i += at;
        if (from.n == 0) { /* before each character, and at the end */
            if (i == s.n)
                break;
            step = next_char((sv_str){s.p + i, s.n - i}, 0, &cp);
            sv_buf_add(&b, s.p + i, step);
        }
        i += step;
    }
    sv_buf_add(&b, s.p + i, s.n - i);
    return sv_tpl_take(r, &b);
}

tval sv_tpl_lines(trun *r, sv_str s, bool keep_ends)
{
    tval out = sv_tpl_seq(r, SEQ_LIST, 0);
    for (size_t i = 0, from = 0; i < s.n && r->rc == SV_OK; from = i) {
        uint32_t c = 0;
        size_t end = i;
        while (i < s.n && !((c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029)) {
            end = i;
            i = next_char(s, i, &c);
        }
        bool ended = (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
        if (c == '\r' && i < s.n && s.p[i] == '\n')
            i++;
        end = keep_ends || !ended ? i : end;
        sv_tpl_push(r, &out, TV_STR(((sv_str){s.p + from, end - from})));
    }
    return out;
}

/* ---- formatting ---- */

typedef struct tspec { char flags[8]; int width, precision; char kind; } tspec;

/* After the '%', or the part of "{...}" after ':'; returns the bytes read, 0: not a form that is known. */
static size_t read_spec(tspec *f, const char *p, size_t n)
{
    size_t i = 0, n_flags = 0;
    *f = (tspec){.precision = -1};
    for (; i < n && strchr("-+ 0#", p[i]) && p[i] && n_flags < 5; i++)
        f->flags[n_flags++] = p[i];
    for (; i < n && p[i] >= '0' && p[i] <= '9'; i++)
        f->width = f->width > 1000 ? 1000 : f->width * 10 + p[i] - '0';
    if (i < n && p[i] == '.')
        for (i++, f->precision = 0; i < n && p[i] >= '0' && p[i] <= '9'; i++)
            f->precision = f->precision > 100 ? 100 : f->precision * 10 + p[i] - '0';
    f->kind = i < n ? p[i] : 0;
    return f->kind && strchr("sdiufFeEgGxXor%", f->kind) ? i + 1 : 0;
}

static void pad(sv_buf *b, const tspec *f, sv_str s)
{
    size_t n = sv_tpl_chars(s), fill = (size_t)f->width > n ? (size_t)f->width - n : 0;
    bool left = strchr(f->flags, '-');
    for (size_t i = 0; i < fill && !left; i++)
        sv_buf_addc(b, ' ');
    sv_buf_add(b, s.p, s.n);
    for (size_t i = 0; i < fill && left; i++)
        sv_buf_addc(b, ' ');
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static void put_spec(trun *r, sv_buf *b, const tspec *f, const tval *v)
{
    char form[40];
    int64_t i = 0;
    double x = 0;
    if (f->kind == 's' || f->kind == 'r') {
        SV_TPL_BUF(r, text);
        if (f->kind == 's')
            sv_tpl_text(r, &text, v);
        else
            sv_tpl_repr(r, &text, v);
        sv_str s = sv_buf_str(&text);
        for (size_t at = 0, n = 0; f->precision >= 0 && at < s.n; n++) {
            uint32_t cp;
            if (n == (size_t)f->precision)
                s.n = at;
            else
                at = next_char(s, at, &cp);
        }
        pad(b, f, s);
        return;
    }
    if (!sv_tpl_number(v, &x)) {
        if (v->kind == T_UNDEF)
            sv_tpl_fail_undef(r, v);
        else
            sv_tpl_fail(r, "%%%c format: a number is required, not %s", f->kind, sv_tpl_type(v));
        return;
    }
    int precision = f->precision < 0 ? 6 : f->precision;
    if (strchr("fFeEgG", f->kind)) {
        snprintf(form, sizeof form, "%%%s*.*%c", f->flags, f->kind);
        sv_buf_addf(b, form, f->width, precision, x);
        return;
    }
    if (!sv_tpl_integer(v, &i)) {
        if (strchr("xXo", f->kind) || !(x > -9e18 && x < 9e18)) {
            sv_tpl_fail(r, "%%%c format: an integer is required, not %s", f->kind, sv_tpl_type(v));
            return;
        }
        i = (int64_t)x;
    }
    bool minus = i < 0 && strchr("xXo", f->kind); /* Python has no unsigned view: -0xff */
    char kind = f->kind == 'i' || f->kind == 'u' ? 'd' : f->kind;
    snprintf(form, sizeof form, "%s%%%s*ll%c", minus ? "-" : "", f->flags, kind);
    sv_buf_addf(b, form, f->width, minus ? (long long)(0 - (uint64_t)i) : (long long)i);
}
#pragma GCC diagnostic pop

tval sv_tpl_percent(trun *r, sv_str fmt, const tval *args)
{
    SV_TPL_BUF(r, b);
    bool many = args->kind == T_SEQ && args->why == SEQ_TUPLE;
    size_t n = many ? args->seq->n : 1, used = 0;
    for (size_t i = 0; i < fmt.n && sv_tpl_burn(r, 1);) {
        const char *next = memchr(fmt.p + i, '%', fmt.n - i);
        size_t to = next ? (size_t)(next - fmt.p) : fmt.n;
        sv_buf_add(&b, fmt.p + i, to - i);
        if (!next)
            break;
        i = to + 1;
        const tval *v = NULL;
        if (i < fmt.n && fmt.p[i] == '(') {
            const char *close = memchr(fmt.p + i, ')', fmt.n - i);
            if (!close || args->kind != T_DICT)
                return sv_tpl_fail(r, "format requires a mapping");
            sv_str key = {fmt.p + i + 1, (size_t)(close - fmt.p) - i - 1};
            v = sv_tpl_gets(r, args->dict, key);
            if (!v)
                return sv_tpl_fail(r, "KeyError: '%.*s'", (int)(key.n < 60 ? key.n : 60), key.p);
            i = (size_t)(close - fmt.p) + 1;
        }
        tspec f;
        size_t took = read_spec(&f, fmt.p + i, fmt.n - i);
        if (took == 0)
            return sv_tpl_fail(r, "unsupported format character");
        i += took;
        if (f.kind == '%') {
            sv_buf_addc(&b, '%');
            continue;
        }
        if (!v && used == n)
            return sv_tpl_fail(r, "not enough arguments for format string");
        put_spec(r, &b, &f, v ? v : many ? &args->seq->v[used++] : (used++, args));
    }
    if (used < n && args->kind != T_DICT)
        return sv_tpl_fail(r, "not all arguments converted during string formatting");
    return sv_tpl_take(r, &b);
}

/* "{}", "{0}", "{name}" with an optional ":spec" of width and precision. */
static tval format_method(trun *r, const tval *self, const targv *a)
{
    SV_TPL_BUF(r, b);
    sv_str s = self->s;
    size_t i_next = 0;
    for (size_t i = 0; i < s.n && sv_tpl_burn(r, 1);) {
        char c = s.p[i];
        if (c != '{' && c != '}') {
            sv_buf_addc(&b, s.p[i++]);
            continue;
        }
        if (i + 1 < s.n && s.p[i + 1] == c) {
            sv_buf_addc(&b, c);
            i += 2;
            continue;
        }
        const char *close = c == '{' ? memchr(s.p + i, '}', s.n - i) : NULL;
        if (!close)
            return sv_tpl_fail(r, "a single '%c' in a format string", c);
        sv_str field = {s.p + i + 1, (size_t)(close - s.p) - i - 1}, spec = {0};
        const char *colon = memchr(field.p, ':', field.n);
        if (colon) {
            spec = (sv_str){colon + 1, field.n - (size_t)(colon + 1 - field.p)};
            field.n = (size_t)(colon - field.p);
        }
        int64_t at = (int64_t)i_next;
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(field.n < 63 ? field.n : 63), field.p);
        bool numbered = field.n == 0 || sv_str_to_i64(field, &at);
        const tval *v = numbered ? (at >= 0 && (size_t)at < a->n_pos ? &a->pos[at] : NULL) : sv_tpl_arg(a, SIZE_MAX, name);
        i_next += field.n == 0;
        if (!v)
            return sv_tpl_fail(r, "no argument for '{%s}'", name);
        tspec f = {.kind = 's', .precision = -1};
        bool is_text = spec.n == 0 || (spec.p[spec.n - 1] >= '0' && spec.p[spec.n - 1] <= '9');
        char text[64];
        snprintf(text, sizeof text, "%.*s%s", (int)(spec.n < 60 ? spec.n : 60), spec.p ? spec.p : "", is_text ? "s" : "");
        if (spec.n > 0 && read_spec(&f, text, strlen(text)) != strlen(text))
            return sv_tpl_fail(r, "a format '%s' is not supported", text);
        if (is_text && v->kind == T_STR && !strchr(f.flags, '-'))
            strcat(f.flags, "-"); /* text stands left in its field, numbers right */
        put_spec(r, &b, &f, v);
        i = (size_t)(close - s.p) + 1;
    }
    return sv_tpl_take(r, &b);
}

/* ---- methods ---- */

/* A string argument; NULL where absent or None. */
static bool str_arg(trun *r, const targv *a, size_t i, const char *name, bool required, sv_str *out, bool *given)
{
    const tval *v = sv_tpl_arg(a, i, name);
    *given = v && v->kind != T_NONE;
    *out = SV_STR("");
    if (*given && v->kind == T_STR)
        *out = v->s;
    else if (*given && v->kind == T_UNDEF)
        sv_tpl_fail_undef(r, v);
    else if (*given || required)
        sv_tpl_fail(r, "a string expected as argument, not %s", v ? sv_tpl_type(v) : "nothing");
    return r->rc == SV_OK;
}

static int64_t int_arg(trun *r, const targv *a, size_t i, const char *name, int64_t otherwise)
{
    const tval *v = sv_tpl_arg(a, i, name);
    if (v && !sv_tpl_integer(v, &otherwise))
        sv_tpl_fail(r, "an integer expected as argument, not %s", sv_tpl_type(v));
    return otherwise;
}

static tval strip_side(trun *r, const tval *self, const targv *a, bool left, bool right)
{
    sv_str chars;
    bool given;
    if (!str_arg(r, a, 0, "chars", false, &chars, &given))
        return TV_NONE;
    sv_tpl_burn(r, self->s.n / 64 * (given ? 1 + chars.n : 1));
    return TV_STR(sv_tpl_strip(self->s, given ? &chars : NULL, left, right));
}
static tval m_strip(trun *r, const tval *self, const targv *a) { return strip_side(r, self, a, true, true); }
static tval m_lstrip(trun *r, const tval *self, const targv *a) { return strip_side(r, self, a, true, false); }
static tval m_rstrip(trun *r, const tval *self, const targv *a) { return strip_side(r, self, a, false, true); }

static tval m_lower(trun *r, const tval *self, const targv *a) { (void)a; return sv_tpl_case(r, self->s, CASE_LOWER); }
static tval m_upper(trun *r, const tval *self, const targv *a) { (void)a; return sv_tpl_case(r, self->s, CASE_UPPER); }
static tval m_title(trun *r, const tval *self, const targv *a) { (void)a; return sv_tpl_case(r, self->s, CASE_TITLE); }
static tval m_capitalize(trun *r, const tval *self, const targv *a) { (void)a; return sv_tpl_case(r, self->s, CASE_CAPITALIZE); }

static bool at_end(sv_str s, sv_str what, bool end)
{
    return what.n <= s.n && (what.n == 0 || memcmp(end ? s.p + s.n - what.n : s.p, what.p, what.n) == 0);
}

static tval affix(trun *r, const tval *self, const targv *a, bool end)
{
    const tval *v = sv_tpl_arg(a, 0, NULL);
    sv_str what;
    bool given;
    if (v && v->kind == T_SEQ && v->why == SEQ_TUPLE) {
        for (size_t i = 0; i < v->seq->n; i++)
            if (v->seq->v[i].kind == T_STR && at_end(self->s, v->seq->v[i].s, end))
                return TV_BOOL(true);
        return TV_BOOL(false);
    }
    return str_arg(r, a, 0, NULL, true, &what, &given) ? TV_BOOL(at_end(self->s, what, end)) : TV_NONE;
}
static tval m_startswith(trun *r, const tval *self, const targv *a) { return affix(r, self, a, false); }
static tval m_endswith(trun *r, const tval *self, const targv *a) { return affix(r, self, a, true); }

static tval remove_affix(trun *r, const tval *self, const targv *a, bool end)
{
    sv_str what, s = self->s;
    bool given;
    if (!str_arg(r, a, 0, NULL, true, &what, &given) || !at_end(s, what, end))
        return *self;
    return TV_STR(((sv_str){s.p + (end ? 0 : what.n), s.n - what.n}));
}
static tval m_removeprefix(trun *r, const tval *self, const targv *a) { return remove_affix(r, self, a, false); }
static tval m_removesuffix(trun *r, const tval *self, const targv *a) { return remove_affix(r, self, a, true); }

static tval position(trun *r, const tval *self, const targv *a, bool last, bool must)
{
    sv_str what;
    bool given;
    if (!str_arg(r, a, 0, NULL, true, &what, &given))
        return TV_NONE;
    sv_tpl_burn(r, 1 + self->s.n / 32);
    size_t at = find(self->s, what, last);
    if (at > self->s.n)
        return must ? sv_tpl_fail(r, "substring not found") : TV_INT(-1);
    return TV_INT((int64_t)sv_tpl_chars((sv_str){self->s.p, at}));
}
static tval m_find(trun *r, const tval *self, const targv *a) { return position(r, self, a, false, false); }
static tval m_rfind(trun *r, const tval *self, const targv *a) { return position(r, self, a, true, false); }
static tval m_index(trun *r, const tval *self, const targv *a) { return position(r, self, a, false, true); }

static tval m_count(trun *r, const tval *self, const targv *a)
{
    sv_str what, s = self->s;
    bool given;
    int64_t n = 0;
    if (!str_arg(r, a, 0, NULL, true, &what, &given))
        return TV_NONE;
    sv_tpl_burn(r, 1 + s.n / 32);
    if (what.n == 0)
        return TV_INT((int64_t)sv_tpl_chars(s) + 1);
    for (size_t at; (at = find(s, what, false)) <= s.n; n++, s.p += at + what.n, s.n -= at + what.n)
        ;
    return TV_INT(n);
}

static tval m_replace(trun *r, const tval *self, const targv *a)
{
    sv_str from, to;
    bool given;
    if (!str_arg(r, a, 0, "old", true, &from, &given) || !str_arg(r, a, 1, "new", true, &to, &given))
        return TV_NONE;
    return sv_tpl_replace(r, self->s, from, to, int_arg(r, a, 2, "count", -1));
}

/* Words between white space; after `left` of them the rest stays whole. */
static tval split_space(trun *r, sv_str s, int64_t left)
{
    tval out = sv_tpl_seq(r, SEQ_LIST, 0);
    for (;;) {
        uint32_t cp;
        size_t end = 0;
        s = sv_tpl_strip(s, NULL, true, false);
        if (s.n == 0 || !sv_tpl_burn(r, 1))
            return out;
        for (size_t to; end < s.n && left > 0; end = to) {
            to = next_char(s, end, &cp);
            if (sv_tpl_is_space(cp))
                break;
        }
        if (left-- == 0)
            end = s.n;
        sv_tpl_push(r, &out, TV_STR(((sv_str){s.p, end})));
        s.p += end;
        s.n -= end;
    }
}

static tval m_split(trun *r, const tval *self, const targv *a)
{
    sv_str sep, s = self->s;
    bool given;
    int64_t left = int_arg(r, a, 1, "maxsplit", -1);
    if (!str_arg(r, a, 0, "sep", false, &sep, &given))
        return TV_NONE;
    sv_tpl_burn(r, s.n / 32);
    if (!given)
        return split_space(r, s, left < 0 ? INT64_MAX : left);
    if (sep.n == 0)
        return sv_tpl_fail(r, "empty separator");
    tval out = sv_tpl_seq(r, SEQ_LIST, 0);
    for (size_t at; left != 0 && (at = find(s, sep, false)) <= s.n && r->rc == SV_OK; left--) {
        sv_tpl_push(r, &out, TV_STR(((sv_str){s.p, at})));
        s.p += at + sep.n;
        s.n -= at + sep.n;
    }
    sv_tpl_push(r, &out, TV_STR(s));
    return out;
}

/* With a separator only; from white space, rsplit without a limit is split. */
static tval m_rsplit(trun *r, const tval *self, const targv *a)
{
    sv_str sep, s = self->s;
    bool given;
    int64_t left = int_arg(r, a, 1, "maxsplit", -1);
    if (!str_arg(r, a, 0, "sep", false, &sep, &given))
        return TV_NONE;
    if (left < 0)
        return m_split(r, self, a);
    if (!given || sep.n == 0)
        return sv_tpl_fail(r, "rsplit with a limit wants a separator");
    tval back = sv_tpl_seq(r, SEQ_LIST, 0), out = sv_tpl_seq(r, SEQ_LIST, 0);
    for (size_t at; left != 0 && sv_tpl_burn(r, 1 + s.n / 32) && (at = find(s, sep, true)) <= s.n; left--) {
        sv_tpl_push(r, &back, TV_STR(((sv_str){s.p + at + sep.n, s.n - at - sep.n})));
        s.n = at;
    }
    sv_tpl_push(r, &out, TV_STR(s));
    for (size_t i = r->rc == SV_OK ? back.seq->n : 0; i-- > 0;)
        sv_tpl_push(r, &out, back.seq->v[i]);
    return out;
}

static tval parts(trun *r, const tval *self, const targv *a, bool last)
{
    sv_str sep, s = self->s, empty = SV_STR("");
    bool given;
    if (!str_arg(r, a, 0, "sep", true, &sep, &given))
        return TV_NONE;
    if (sep.n == 0)
        return sv_tpl_fail(r, "empty separator");
    sv_tpl_burn(r, s.n / 32);
    size_t at = find(s, sep, last);
    bool found = at <= s.n;
    tval out = sv_tpl_seq(r, SEQ_TUPLE, 3);
    sv_str head = found ? (sv_str){s.p, at} : last ? empty : s;
    sv_str tail = found ? (sv_str){s.p + at + sep.n, s.n - at - sep.n} : last ? s : empty;
    sv_tpl_push(r, &out, TV_STR(head));
    sv_tpl_push(r, &out, TV_STR(found ? sep : empty));
    sv_tpl_push(r, &out, TV_STR(tail));
    return out;
}
static tval m_partition(trun *r, const tval *self, const targv *a) { return parts(r, self, a, false); }
static tval m_rpartition(trun *r, const tval *self, const targv *a) { return parts(r, self, a, true); }

static tval m_splitlines(trun *r, const tval *self, const targv *a)
{
    return sv_tpl_lines(r, self->s, sv_tpl_arg_true(a, 0, "keepends", false));
}

static tval m_join(trun *r, const tval *self, const targv *a)
{
    SV_TPL_BUF(r, b);
    const tval *v = sv_tpl_arg(a, 0, NULL);
    if (!v)
        return sv_tpl_fail(r, "join() wants a list");
    const tseq *s = sv_tpl_iter(r, v);
    for (size_t i = 0; i < s->n && sv_tpl_burn(r, 1); i++) {
        if (s->v[i].kind != T_STR)
            return sv_tpl_fail(r, "sequence item %zu: expected str instance, %s found", i, sv_tpl_type(&s->v[i]));
        if (i > 0)
            sv_tpl_text(r, &b, self);
        sv_tpl_text(r, &b, &s->v[i]);
    }
    return sv_tpl_take(r, &b);
}

/* All characters of a kind, and at least one. */
static tval all_of(trun *r, sv_str s, bool (*is)(uint32_t c))
{
    sv_tpl_burn(r, s.n / 32);
    for (size_t i = 0; i < s.n;) {
        uint32_t c;
        i = next_char(s, i, &c);
        if (!is(c))
            return TV_BOOL(false);
    }
    return TV_BOOL(s.n > 0);
}
static bool is_digit(uint32_t c) { return c >= '0' && c <= '9'; }
static bool is_alpha(uint32_t c) { return to_case(c, true) != to_case(c, false) || (c >= 0x80 && utf8 && iswalpha_l((wint_t)c, utf8)); }
static bool is_alnum(uint32_t c) { return is_digit(c) || is_alpha(c); }
static tval m_isdigit(trun *r, const tval *self, const targv *a) { (void)a; return all_of(r, self->s, is_digit); }
static tval m_isalpha(trun *r, const tval *self, const targv *a) { (void)a; return all_of(r, self->s, is_alpha); }
static tval m_isalnum(trun *r, const tval *self, const targv *a) { (void)a; return all_of(r, self->s, is_alnum); }
static tval m_isspace(trun *r, const tval *self, const targv *a) { (void)a; return all_of(r, self->s, sv_tpl_is_space); }

/* Some cased character, and none of the other case. */
static tval all_case(trun *r, sv_str s, bool upper)
{
    bool some = false;
    sv_tpl_burn(r, s.n / 8);
    for (size_t i = 0; i < s.n;) {
        uint32_t c;
        i = next_char(s, i, &c);
        if (is_cased(c) && to_case(c, upper) != c)
            return TV_BOOL(false);
        some |= is_cased(c);
    }
    return TV_BOOL(some);
}
static tval m_isupper(trun *r, const tval *self, const targv *a) { (void)a; return all_case(r, self->s, true); }
static tval m_islower(trun *r, const tval *self, const targv *a) { (void)a; return all_case(r, self->s, false); }

const tbuiltin *sv_tpl_find_str_method(sv_str name)
{
    static const tbuiltin methods[] = {
        {"capitalize", m_capitalize}, {"count", m_count}, {"endswith", m_endswith}, {"find", m_find}, {"format", format_method},
        {"index", m_index}, {"isalnum", m_isalnum}, {"isalpha", m_isalpha}, {"isdigit", m_isdigit}, {"islower", m_islower},
        {"isspace", m_isspace}, {"isupper", m_isupper}, {"join", m_join}, {"lower", m_lower}, {"lstrip", m_lstrip},
        {"partition", m_partition}, {"removeprefix", m_removeprefix}, {"removesuffix", m_removesuffix}, {"replace", m_replace},
        {"rfind", m_rfind}, {"rpartition", m_rpartition}, {"rsplit", m_rsplit}, {"rstrip", m_rstrip}, {"split", m_split},
        {"splitlines", m_splitlines}, {"startswith", m_startswith}, {"strip", m_strip}, {"title", m_title}, {"upper", m_upper},
    };
    for (size_t i = 0; i < SV_LEN(methods); i++)
        if (sv_str_is(name, methods[i].name))
            return &methods[i];
    return NULL;
}
