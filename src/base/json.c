/* json.c - jansson reads; depth and number of containers are checked before it: recursion is stack and its own bound is fixed at compile time,
 * and an empty object is 3 bytes of text and 230 of memory, so that a body of 32 MiB could ask for 2.6 GB
 *
 * Numbers are written by trying 15, 16 and 17 significant digits: the first that reads back is nearly always the shortest, and where
 * it is not it is still exact. Vectors, where speed matters, have a writer of their own. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 512, MAX_CONTAINERS = 1 << 20 };

/* Brackets in strings are not counted; the text need not be valid. */
static sv_rc check_shape(sv_str text, sv_err *err)
{
    int depth = 0, n = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > MAX_DEPTH)
                return sv_fail(err, SV_EFORMAT, "nested deeper than %d", MAX_DEPTH);
            if (++n > MAX_CONTAINERS)
                return sv_fail(err, SV_EFORMAT, "more than %d lists and objects", MAX_CONTAINERS);
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return SV_OK;
}

sv_rc sv_json_parse(json_t **out, sv_str text, sv_err *err)
{
    if (check_shape(text, err) != SV_OK)
        return err->code;
    json_error_t e;
    json_t *j = json_loadb(text.p ? text.p : "", text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!j)
        return sv_fail(err, SV_EFORMAT, "line %d, column %d: %s", e.line, e.column, e.text);
    *out = j;
    return SV_OK;
}

sv_rc sv_json_parse_lax(json_t **out, sv_str text, sv_err *err)
{
    json_error_t e;
    if (sv_json_parse(out, text, err) == SV_OK)
        return SV_OK;
    json_t *j = check_shape(text, err) != SV_OK ? NULL : json_loadb(text.p ? text.p : "", text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
    if (!j)
        return err->code;
    *err = (sv_err){0};
    *out = j;
    return SV_OK;
}

static const json_t *member(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    return json_is_null(v) ? NULL : v;
}

/* The value as a refusal quotes it: short, and for strings and containers only what it is (it may be a prompt). */
static const char *shown(const json_t *v, char out[64])
{
    switch (json_typeof(v)) {
    case JSON_STRING: return "a string";
    case JSON_ARRAY: return "an array";
    case JSON_OBJECT: return "an object";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_INTEGER: snprintf(out, 64, "%lld", (long long)json_integer_value(v)); return out;
    case JSON_REAL: snprintf(out, 64, "%.6g", json_real_value(v)); return out;
    default: return "null";
    }
}

sv_rc sv_json_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *out, sv_err *err)
{
    const json_t *v = member(obj, key);
    char text[64];
    if (!v)
        return SV_OK;
    /* 2.0 is the integer 2, as every JavaScript client believes */
    double real = json_real_value(v);
    bool whole = json_is_real(v) && real == floor(real) && fabs(real) < 9e15;
    if (!json_is_integer(v) && !whole)
        return sv_fail(err, SV_EINVAL, "'%s': %s is not an integer", key, shown(v, text));
    int64_t i = whole ? (int64_t)real : json_integer_value(v);
    if (i < min || i > max)
        return sv_fail(err, SV_EINVAL, "'%s': %s is not in [%lld, %lld]", key, shown(v, text), (long long)min, (long long)max);
    *out = i;
    return SV_OK;
}

sv_rc sv_json_num(const json_t *obj, const char *key, double min, double max, double *out, sv_err *err)
{
    const json_t *v = member(obj, key);
    char text[64];
    if (!v)
        return SV_OK;
    if (!json_is_number(v))
        return sv_fail(err, SV_EINVAL, "'%s': %s is not a number", key, shown(v, text));
    double d = json_number_value(v);
    if (!(d >= min && d <= max))
        return sv_fail(err, SV_EINVAL, "'%s': %s is not in [%g, %g]", key, shown(v, text), min, max);
    *out = d;
    return SV_OK;
}

sv_rc sv_json_bool(const json_t *obj, const char *key, bool *out, sv_err *err)
{
    const json_t *v = member(obj, key);
    char text[64];
    if (!v)
        return SV_OK;
    if (!json_is_boolean(v))
        return sv_fail(err, SV_EINVAL, "'%s': %s is not true or false", key, shown(v, text));
    *out = json_is_true(v);
    return SV_OK;
}

sv_rc sv_json_str(const json_t *obj, const char *key, sv_str *out, sv_err *err)
{
    const json_t *v = member(obj, key);
    char text[64];
    if (!v)
        return SV_OK;
    if (!json_is_string(v))
        return sv_fail(err, SV_EINVAL, "'%s': %s is not a string", key, shown(v, text));
    *out = (sv_str){json_string_value(v), json_string_length(v)};
    return SV_OK;
}

const char *sv_json_cstr(const json_t *obj, const char *key) { return json_string_value(json_object_get(obj, key)); }

/* ---- writing ---- */

static void add_escaped(sv_buf *out, unsigned char c)
{
    switch (c) {
    case '"': sv_buf_adds(out, "\\\""); break;
    case '\\': sv_buf_adds(out, "\\\\"); break;
    case '\n': sv_buf_adds(out, "\\n"); break;
    case '\r': sv_buf_adds(out, "\\r"); break;
    case '\t': sv_buf_adds(out, "\\t"); break;
    default: sv_buf_addf(out, "\\u%04x", c);
    }
}

void sv_json_add_str(sv_buf *out, sv_str s)
{
    sv_buf_addc(out, '"');
    size_t from = 0;
    bool ascii = true;
    for (size_t i = 0; i <= s.n; i++) {
        unsigned char c = i < s.n ? (unsigned char)s.p[i] : '"';
        if (c >= 0x20 && c != '"' && c != '\\') {
            ascii &= c < 0x80;
            continue;
        }
        if (ascii || sv_utf8_valid((sv_str){s.p + from, i - from})) {
            sv_buf_add(out, s.p + from, i - from);
        } else {
            for (size_t k = from; k < i;) { /* character by character */
                size_t len = 1;
                while (len <= 4 && k + len <= i && !sv_utf8_valid((sv_str){s.p + k, len}))
                    len++;
                bool good = len <= 4 && k + len <= i;
                sv_buf_add(out, good ? s.p + k : "\xEF\xBF\xBD", good ? len : 3);
                k += good ? len : 1;
            }
        }
        if (i < s.n)
            add_escaped(out, c);
        from = i + 1;
        ascii = true;
    }
    sv_buf_addc(out, '"');
}

void sv_json_add_num(sv_buf *out, double v)
{
    char text[40];
    if (!isfinite(v)) {
        sv_buf_adds(out, "null");
        return;
    }
    if (v == floor(v) && fabs(v) < 1e15) {
        sv_buf_addf(out, "%.0f", v == 0 ? 0.0 : v);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    sv_buf_adds(out, text);
}

void sv_json_add_value(sv_buf *out, const json_t *v)
{
    const char *key;
    size_t i = 0, n = json_array_size(v);
    json_t *item;
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT:
        sv_buf_addc(out, '{');
        json_object_foreach((json_t *)(uintptr_t)v, key, item) {
            if (i++)
                sv_buf_addc(out, ',');
            sv_json_add_str(out, sv_str_of(key));
            sv_buf_addc(out, ':');
            sv_json_add_value(out, item);
        }
        sv_buf_addc(out, '}');
        break;
    case JSON_ARRAY:
        sv_buf_addc(out, '[');
        for (; i < n; i++) {
            if (i)
                sv_buf_addc(out, ',');
            sv_json_add_value(out, json_array_get(v, i));
        }
        sv_buf_addc(out, ']');
        break;
    case JSON_STRING: sv_json_add_str(out, (sv_str){json_string_value(v), json_string_length(v)}); break;
    case JSON_INTEGER: sv_buf_addf(out, "%lld", (long long)json_integer_value(v)); break;
    case JSON_REAL: sv_json_add_num(out, json_real_value(v)); break;
    case JSON_TRUE: sv_buf_adds(out, "true"); break;
    case JSON_FALSE: sv_buf_adds(out, "false"); break;
    default: sv_buf_adds(out, "null");
    }
}
