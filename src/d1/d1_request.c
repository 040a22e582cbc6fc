/* d1_request.c - the JSON of a query, read without a tree
 *
 * A blob travels as an array of numbers, and a general reader makes an object of each: 2 MB of blob would be 100 MB of tree, and a hostile body
 * of the allowed size would be a gigabyte. Here a number of a blob becomes a byte at once, so that a request never takes more memory than
 * about twice its text. What is not asked for is checked as JSON and skipped, to a fixed depth.
 *
 * A string may hold "\u0000"; as a parameter it is kept, in a statement it is refused, because SQLite's text ends there. A lone surrogate
 * becomes U+FFFD, as everywhere where JavaScript's strings become UTF-8. */
#include "d1/d1_request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "account/limits.h"

enum { MAX_DEPTH = 64, MAX_NUMBER = 400 };

typedef struct reader {
    const char *start, *p, *end;
    sv_arena *a;
    sv_err *err;
} reader;

static sv_rc broken(reader *r, const char *what)
{
    return sv_fail(r->err, SV_EFORMAT, "the body is not the JSON that was expected: %s at byte %zu", what, (size_t)(r->p - r->start));
}

static sv_rc too_much(reader *r) { return sv_fail(r->err, SV_ELIMIT, "the request is larger than one may be"); }

static char peek(reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
    return r->p < r->end ? *r->p : '\0';
}

static bool take(reader *r, char c)
{
    if (peek(r) != c || r->p == r->end)
        return false;
    r->p++;
    return true;
}

static bool word(reader *r, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, w, n) != 0)
        return false;
    r->p += n;
    return true;
}

/* ---- strings ---- */

static int hex4(const char *p, const char *end)
{
    uint8_t b[2];
    return end - p >= 4 && sv_unhex(b, 2, (sv_str){p, 4}) ? b[0] << 8 | b[1] : -1;
}

static char *put_utf8(char *o, uint32_t c)
{
    if (c < 0x80) {
        *o++ = (char)c;
    } else if (c < 0x800) {
        *o++ = (char)(0xc0 | c >> 6);
        *o++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *o++ = (char)(0xe0 | c >> 12);
        *o++ = (char)(0x80 | (c >> 6 & 0x3f));
        *o++ = (char)(0x80 | (c & 0x3f));
    } else {
        *o++ = (char)(0xf0 | c >> 18);
        *o++ = (char)(0x80 | (c >> 12 & 0x3f));
        *o++ = (char)(0x80 | (c >> 6 & 0x3f));
        *o++ = (char)(0x80 | (c & 0x3f));
    }
    return o;
}

/* r->p is behind "\u". Six bytes of text or more become at most four. */
static sv_rc read_unicode(reader *r, char **o)
{
    int c = hex4(r->p, r->end);
    if (c < 0)
        return broken(r, "a broken \\u escape");
    r->p += 4;
    uint32_t u = (uint32_t)c;
    if (c >= 0xd800 && c < 0xdc00 && r->end - r->p >= 6 && r->p[0] == '\\' && r->p[1] == 'u') {
        int low = hex4(r->p + 2, r->end);
        if (low >= 0xdc00 && low < 0xe000) {
            u = 0x10000 + (((uint32_t)c - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
            r->p += 6;
        }
    }
    *o = put_utf8(*o, u >= 0xd800 && u < 0xe000 ? 0xfffd : u);
    return SV_OK;
}

static sv_rc read_escape(reader *r, char **o)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = r->p < r->end ? *r->p++ : '\0';
    const char *at = c ? strchr(from, c) : NULL;
    if (at) {
        *(*o)++ = to[at - from];
        return SV_OK;
    }
    return c == 'u' ? read_unicode(r, o) : broken(r, "an unknown escape");
}

/* r->p is at the opening quote. The closing one is looked for first: it bounds what the result needs. */
static sv_rc read_string(reader *r, sv_str *out)
{
    const char *close = ++r->p;
    while (close < r->end && *close != '"')
        close += *close == '\\' ? 2 : 1;
    if (close >= r->end)
        return broken(r, "a string without an end");
    char *s = sv_arena_alloc(r->a, (size_t)(close - r->p) + 1, 1), *o = s;
    if (!s)
        return too_much(r);
    while (r->p < close) {
        const char *plain = r->p;
        while (r->p < close && *r->p != '\\' && (unsigned char)*r->p >= 0x20)
            r->p++;
        memcpy(o, plain, (size_t)(r->p - plain));
        o += r->p - plain;
        if (r->p == close)
            break;
        if (*r->p++ != '\\')
            return broken(r, "a control character inside a string");
        if (read_escape(r, &o) != SV_OK)
            return r->err->code;
    }
    r->p = close + 1;
    *o = '\0';
    *out = (sv_str){s, (size_t)(o - s)};
    return sv_utf8_valid(*out) ? SV_OK : broken(r, "a string that is not UTF-8 before this,");
}

/* ---- numbers ---- */

static sv_rc read_number(reader *r, sv_d1_value *out)
{
    char text[MAX_NUMBER + 1];
    size_t n = 0;
    bool whole = true, digit = false;
    while (r->p < r->end && n < MAX_NUMBER && strchr("+-.eE0123456789", *r->p) && *r->p) {
        whole &= strchr(".eE", *r->p) == NULL;
        digit |= *r->p >= '0' && *r->p <= '9';
        text[n++] = *r->p++;
    }
    text[n] = '\0';
    int64_t i;
    if (!digit || n == MAX_NUMBER || text[0] == '+')
        return broken(r, "no value");
    if (whole && sv_str_to_i64((sv_str){text, n}, &i)) {
        *out = (sv_d1_value){.type = SV_D1_INT, .i = i};
        return SV_OK;
    }
    char *end;
    double f = strtod(text, &end); /* the process keeps the "C" locale */
    if (*end || isinf(f) || isnan(f))
        return broken(r, "no number");
    *out = (sv_d1_value){.type = SV_D1_REAL, .f = f};
    return SV_OK;
}

/* r->p is behind '['. Every byte takes at least two characters of text, which bounds the room. */
static sv_rc read_blob(reader *r, sv_d1_value *out)
{
    size_t n = 1, i = 0;
    for (const char *p = r->p; p < r->end && *p != ']'; p++)
        n += *p == ',';
    uint8_t *bytes = sv_arena_alloc(r->a, n, 1);
    if (!bytes)
        return too_much(r);
    if (!take(r, ']'))
        do {
            sv_d1_value v;
            peek(r);
            if (read_number(r, &v) != SV_OK)
                return r->err->code;
            double d = v.type == SV_D1_INT ? (double)v.i : v.f;
            if (i == n || !(d >= 0 && d <= 255) || d != floor(d))
                return sv_fail(r->err, SV_EINVAL, "an array as a parameter is a blob, and its elements are whole numbers from 0 to 255");
            bytes[i++] = (uint8_t)d;
        } while (take(r, ','));
    else
        r->p--;
    if (!take(r, ']'))
        return broken(r, "no end of an array");
    *out = (sv_d1_value){.type = SV_D1_BLOB, .s = {(char *)bytes, i}};
    return SV_OK;
}

static sv_rc read_value(reader *r, sv_d1_value *out)
{
    char c = peek(r);
    *out = (sv_d1_value){.type = SV_D1_NULL};
    if (c == '"') {
        out->type = SV_D1_TEXT;
        return read_string(r, &out->s);
    }
    if (c == '[') {
        r->p++;
        return read_blob(r, out);
    }
    if (word(r, "null"))
        return SV_OK;
    if (word(r, "true") || word(r, "false")) {
        *out = (sv_d1_value){.type = SV_D1_INT, .i = c == 't'};
        return SV_OK;
    }
    if (c == '{')
        return sv_fail(r->err, SV_EINVAL, "a parameter is null, a number, a string or an array of bytes, not an object");
    return read_number(r, out);
}

/* ---- what nobody asked for ---- */

/* Without recursion: `open` is the stack of brackets. */
static sv_rc skip_value(reader *r)
{
    char open[MAX_DEPTH];
    int depth = 0;
    do {
        char c = peek(r);
        if (r->p == r->end)
            return broken(r, "no value");
        if (c == '{' || c == '[') {
            if (depth == MAX_DEPTH)
                return broken(r, "nested too deeply");
            open[depth++] = c;
            r->p++;
        } else if (c == '}' || c == ']') {
            if (depth == 0 || open[depth - 1] != (c == '}' ? '{' : '['))
                return broken(r, "a bracket that closes nothing");
            depth--;
            r->p++;
        } else if (c == '"') {
            sv_str s;
            if (read_string(r, &s) != SV_OK)
                return r->err->code;
        } else if (depth && (c == ',' || c == ':')) {
            r->p++;
        } else if (!word(r, "null") && !word(r, "true") && !word(r, "false")) {
            sv_d1_value v;
            if (read_number(r, &v) != SV_OK)
                return r->err->code;
        }
    } while (depth);
    return SV_OK;
}

/* ---- statements ---- */

static sv_rc read_params(reader *r, sv_d1_query *q)
{
    size_t max = (size_t)sv_limit_value(SV_LIMIT_D1_PARAMS);
    if (peek(r) == 'n' && word(r, "null"))
        return SV_OK;
    if (!take(r, '['))
        return sv_fail(r->err, SV_EINVAL, "'params' is an array");
    if (take(r, ']'))
        return SV_OK;
    sv_d1_value v[256];
    size_t n = 0;
    do {
        if (n == max || n == SV_LEN(v))
            return sv_fail(r->err, SV_ELIMIT, "too many SQL variables: SQLITE_ERROR");
        if (read_value(r, &v[n++]) != SV_OK)
            return r->err->code;
    } while (take(r, ','));
    if (!take(r, ']'))
        return broken(r, "no end of 'params'");
    q->params = sv_arena_new(r->a, sv_d1_value, n);
    if (!q->params)
        return too_much(r);
    memcpy(q->params, v, n * sizeof *v);
    q->n_params = n;
    return SV_OK;
}

static sv_rc read_sql(reader *r, sv_d1_query *q)
{
    if (peek(r) != '"')
        return sv_fail(r->err, SV_EINVAL, "'sql' is a string");
    if (read_string(r, &q->sql) != SV_OK)
        return r->err->code;
    return memchr(q->sql.p, '\0', q->sql.n) ? sv_fail(r->err, SV_EINVAL, "a NUL character inside 'sql'") : SV_OK;
}

typedef struct list { sv_d1_query *q; size_t n, cap; } list;

static sv_rc add_query(reader *r, list *l, sv_d1_query q)
{
    if (!q.sql.p)
        return sv_fail(r->err, SV_EINVAL, "a statement without 'sql'");
    if (l->n == (size_t)sv_limit_value(SV_LIMIT_D1_BATCH))
        return sv_fail(r->err, SV_ELIMIT, "more than %zu statements in one request", l->n);
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        sv_d1_query *grown = sv_arena_new(r->a, sv_d1_query, cap);
        if (!grown)
            return too_much(r);
        if (l->n)
            memcpy(grown, l->q, l->n * sizeof *grown);
        l->q = grown;
        l->cap = cap;
    }
    l->q[l->n++] = q;
    return SV_OK;
}

static sv_rc read_list(reader *r, list *l);

/* `batch`: NULL inside a list, where an object is a statement and nothing else. */
static sv_rc read_object(reader *r, list *l, bool *batch)
{
    sv_d1_query q = {0};
    bool seen_batch = false;
    if (!take(r, '{'))
        return broken(r, "no object");
    if (!take(r, '}')) {
        do {
            sv_str key;
            if (peek(r) != '"')
                return broken(r, "no member");
            if (read_string(r, &key) != SV_OK)
                return r->err->code;
            if (!take(r, ':'))
                return broken(r, "no ':'");
            sv_rc rc;
            if (sv_str_is(key, "sql"))
                rc = read_sql(r, &q);
            else if (sv_str_is(key, "params"))
                rc = read_params(r, &q);
            else if (batch && sv_str_is(key, "batch") && peek(r) == '[' && !seen_batch)
                seen_batch = true, rc = read_list(r, l);
            else
                rc = skip_value(r);
            if (rc != SV_OK)
                return rc;
        } while (take(r, ','));
        if (!take(r, '}'))
            return broken(r, "no end of an object");
    }
    if (!seen_batch)
        return add_query(r, l, q);
    *batch = true;
    return SV_OK;
}

static sv_rc read_list(reader *r, list *l)
{
    r->p++;
    if (take(r, ']'))
        return SV_OK;
    do
        if (read_object(r, l, NULL) != SV_OK)
            return r->err->code;
    while (take(r, ','));
    return take(r, ']') ? SV_OK : broken(r, "no end of the statements");
}

sv_rc sv_d1_request_parse(sv_d1_request *out, sv_arena *a, sv_str json, sv_err *err)
{
    reader r = {.start = json.p, .p = json.p, .end = json.p + json.n, .a = a, .err = err};
    list l = {0};
    bool is_list = peek(&r) == '[';
    sv_rc rc = is_list ? read_list(&r, &l) : read_object(&r, &l, &is_list);
    if (rc != SV_OK)
        return rc;
    if (peek(&r) != '\0' || r.p != r.end)
        return broken(&r, "something behind the value");
    if (l.n == 0)
        return sv_fail(err, SV_EINVAL, "No SQL statements detected.");
    *out = (sv_d1_request){.queries = l.q, .n_queries = l.n, .list = is_list};
    return SV_OK;
}
