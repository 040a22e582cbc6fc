/* lines.c - NDJSON of vectors, read in one pass
 *
 * A batch is 5,000 lines of 10 KB. A JSON library would make a tree node of each number and convert it at libc's speed, so the objects are
 * walked here: keys and short strings by hand, "values" by base/floats.c, metadata by its brackets only, because the index checks that text
 * itself. Members that nobody knows go through the library, so that a line is taken only if it is JSON.
 *
 * Memory: float32 values for as many lines as there are (at most the call's limit), and decoded strings, which are no longer than the text. */
#include "vectorize/lines.h"

#include <stdio.h>

#include "base/floats.h"
#include "base/json.h"
#include "vectorize/vectorize_impl.h"

enum { MAX_NAMED = 100 }; /* dropped lines that are named one by one */

/* ---- one object ---- */

static void space(sv_scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool take(sv_scan *s, char c)
{
    space(s);
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

sv_rc sv_scan_begin(sv_scan *s, sv_str text, sv_err *err)
{
    *s = (sv_scan){.p = text.p, .end = text.p + text.n};
    return take(s, '{') ? SV_OK : sv_fail(err, SV_EFORMAT, "not a JSON object");
}

/* Behind the closing quote; NULL where there is none. */
static const char *string_end(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\' && ++p == end)
            return NULL;
    return p < end ? p + 1 : NULL;
}

static bool is_plain(sv_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == '\\')
            return false;
    return sv_utf8_valid(s);
}

sv_rc sv_scan_string(sv_scan *s, sv_arena *a, sv_str *out, sv_err *err)
{
    space(s);
    const char *from = s->p, *to = from < s->end && *from == '"' ? string_end(from, s->end) : NULL;
    if (!to)
        return sv_fail(err, SV_EFORMAT, from < s->end && *from == '"' ? "a string does not end" : "not a string");
    sv_str inside = {from + 1, (size_t)(to - from) - 2};
    if (is_plain(inside)) {
        *out = inside;
        s->p = to;
        return SV_OK;
    }
    SV_AUTO(sv_json_decrefp) json_t *j = NULL;
    if (sv_json_parse(&j, (sv_str){from, (size_t)(to - from)}, err) != SV_OK)
        return err->code;
    char *copy = sv_arena_strndup(a, json_string_value(j), json_string_length(j));
    if (!copy)
        return sv_fail(err, SV_ENOMEM, "no memory for the strings of the body");
    *out = (sv_str){copy, json_string_length(j)};
    s->p = to;
    return SV_OK;
}

sv_rc sv_scan_member(sv_scan *s, sv_arena *a, sv_str *key, bool *more, sv_err *err)
{
    bool first = !s->begun;
    s->begun = true;
    if (take(s, '}')) {
        space(s);
        *more = false;
        return s->p == s->end ? SV_OK : sv_fail(err, SV_EFORMAT, "something follows the JSON object");
    }
    if (!first && !take(s, ','))
        return sv_fail(err, SV_EFORMAT, s->p == s->end ? "the JSON object does not end" : "',' or '}' is missing in the JSON object");
    space(s);
    if (s->p == s->end)
        return sv_fail(err, SV_EFORMAT, "the JSON object does not end");
    if (sv_scan_string(s, a, key, err) != SV_OK)
        return sv_wrap(err, "a key of the JSON object");
    if (!take(s, ':'))
        return sv_fail(err, SV_EFORMAT, "':' is missing behind '%.*s'", (int)(key->n > 40 ? 40 : key->n), key->p);
    space(s);
    *more = true;
    return SV_OK;
}

sv_rc sv_scan_floats(sv_scan *s, float *out, size_t max, size_t *n, sv_err *err)
{
    size_t used = 0;
    if (sv_floats_read(out, max, (sv_str){s->p, (size_t)(s->end - s->p)}, n, &used, err) != SV_OK)
        return err->code;
    s->p += used;
    return SV_OK;
}

sv_rc sv_scan_value(sv_scan *s, sv_str *raw, sv_err *err)
{
    size_t depth = 0;
    const char *p = s->p;
    while (p < s->end) {
        char c = *p;
        if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            break;
        if (c == '"') {
            if (!(p = string_end(p, s->end)))
                return sv_fail(err, SV_EFORMAT, "a string does not end");
        } else {
            depth += c == '{' || c == '[';
            depth -= c == '}' || c == ']';
            p++;
        }
        if (depth == 0 && (c == '"' || c == '}' || c == ']'))
            break;
    }
    if (depth)
        return sv_fail(err, SV_EFORMAT, "a bracket is not closed");
    *raw = sv_str_trim((sv_str){s->p, (size_t)(p - s->p)});
    if (raw->n == 0)
        return sv_fail(err, SV_EFORMAT, "a value is missing");
    s->p = p;
    return SV_OK;
}

bool sv_scan_null(sv_scan *s)
{
    if (s->end - s->p < 4 || memcmp(s->p, "null", 4) != 0)
        return false;
    s->p += 4;
    return true;
}

/* ---- one line ---- */

static sv_rc read_over(sv_scan *s, sv_err *err)
{
    sv_str raw;
    SV_AUTO(sv_json_decrefp) json_t *j = NULL;
    if (sv_scan_value(s, &raw, err) != SV_OK)
        return err->code;
    return sv_json_parse(&j, raw, err);
}

static sv_rc read_metadata(sv_scan *s, sv_str *out, sv_err *err)
{
    sv_str raw;
    if (s->p < s->end && *s->p != '{')
        return sv_fail(err, SV_EFORMAT, "not a JSON object");
    if (sv_scan_value(s, &raw, err) != SV_OK)
        return err->code;
    *out = raw;
    return SV_OK;
}

static sv_rc read_member(sv_scan *s, sv_arena *a, sv_str key, sv_vec_item *item, float *values, size_t dimensions, size_t *n_values, sv_err *err)
{
    if (sv_str_is(key, "values")) {
        item->values = values;
        return sv_scan_floats(s, values, dimensions, n_values, err);
    }
    if (sv_str_is(key, "id"))
        return sv_scan_string(s, a, &item->id, err);
    if (sv_str_is(key, "namespace"))
        return sv_scan_null(s) ? SV_OK : sv_scan_string(s, a, &item->ns, err);
    if (sv_str_is(key, "metadata"))
        return sv_scan_null(s) ? SV_OK : read_metadata(s, &item->metadata, err);
    return read_over(s, err);
}

static sv_rc check_limits(const sv_vec_item *item, size_t dimensions, size_t n_values, sv_err *err)
{
    if (sv_limit_check(SV_LIMIT_VEC_ID_BYTES, (int64_t)item->id.n, "the id", err) != SV_OK ||
        sv_limit_check(SV_LIMIT_VEC_NAMESPACE_BYTES, (int64_t)item->ns.n, "the namespace", err) != SV_OK)
        return err->code;
    if (n_values != dimensions)
        return sv_fail_api(err, SV_EINVAL, 40012, "invalid vector for id=\"%.*s\", expected %zu dimensions, and got %zu dimensions", (int)item->id.n,
                           item->id.p, dimensions, n_values);
    return sv_limit_check(SV_LIMIT_VEC_METADATA_BYTES, (int64_t)item->metadata.n, "the metadata", err);
}

static sv_rc read_line(sv_scan *s, sv_arena *a, sv_str line, sv_vec_item *item, float *values, size_t dimensions, sv_err *err)
{
    sv_str key;
    bool more = true;
    size_t n_values = 0;
    if (sv_scan_begin(s, line, err) != SV_OK)
        return err->code;
    while (true) {
        if (sv_scan_member(s, a, &key, &more, err) != SV_OK)
            return err->code;
        if (!more)
            break;
        if (read_member(s, a, key, item, values, dimensions, &n_values, err) != SV_OK)
            return sv_wrap(err, "'%.*s'", (int)(key.n > 40 ? 40 : key.n), key.p);
    }
    if (item->id.n == 0 || !item->values)
        return sv_fail(err, SV_EFORMAT, item->values ? "the vector has no id" : "the vector has no values");
    return check_limits(item, dimensions, n_values, err);
}

/* ---- a body ---- */

static bool next_line(sv_str *rest, sv_str *line)
{
    if (rest->n == 0)
        return false;
    const char *nl = memchr(rest->p, '\n', rest->n);
    size_t n = nl ? (size_t)(nl - rest->p) : rest->n;
    *line = sv_str_trim((sv_str){rest->p, n});
    rest->p += n + (nl != NULL);
    rest->n -= n + (nl != NULL);
    return true;
}

static size_t count_lines(sv_str text)
{
    size_t n = 0;
    for (sv_str line; next_line(&text, &line);)
        n += line.n > 0;
    return n;
}

static void name_dropped(sv_vz_lines *l, size_t i_line, const sv_err *why)
{
    if (++l->n_dropped > MAX_NAMED)
        return;
    char text[600];
    snprintf(text, sizeof text, "line %zu was not taken: %s", i_line, why->msg);
    sv_buf_addf(&l->messages, "%s{\"code\":%d,\"message\":", l->n_dropped > 1 ? "," : "[", SV_VZ_EBODY);
    sv_json_add_str(&l->messages, sv_str_of(text));
    sv_buf_addc(&l->messages, '}');
}

static sv_rc refuse_line(const sv_err *why, size_t i_line, sv_err *err)
{
    return sv_fail_api(err, why->code, why->api_code ? why->api_code : SV_VZ_EBODY, "line %zu: %s. No line of this call was taken", i_line, why->msg);
}

static sv_rc read_all(sv_vz_lines *l, sv_str text, const sv_vec *v, size_t dimensions, bool discard, sv_err *err)
{
    size_t i_line = 0;
    for (sv_str line; next_line(&text, &line);) {
        i_line++;
        if (line.n == 0)
            continue;
        sv_scan s;
        sv_err why = {0};
        sv_vec_item *item = &l->items[l->n];
        *item = (sv_vec_item){0};
        sv_rc rc = read_line(&s, l->arena, line, item, l->values + l->n * dimensions, dimensions, &why);
        if (rc == SV_OK && v)
            rc = sv_vec_check_item(v, item, &why);
        if (rc == SV_OK)
            l->n++;
        else if (rc == SV_EFORMAT && discard)
            name_dropped(l, i_line, &why);
        else
            return refuse_line(&why, i_line, err);
    }
    if (l->n_dropped > MAX_NAMED)
        sv_buf_addf(&l->messages, ",{\"code\":%d,\"message\":\"%zu more lines were not taken\"}", SV_VZ_EBODY, l->n_dropped - MAX_NAMED);
    sv_buf_adds(&l->messages, l->n_dropped ? "]" : "[]");
    return SV_OK;
}

sv_rc sv_vz_lines_read(sv_vz_lines *out, sv_str text, const sv_vec *v, int32_t dimensions, sv_limit_id most, bool discard, sv_err *err)
{
    sv_vz_lines l = {0};
    size_t n = count_lines(text), dim = (size_t)dimensions;
    if (sv_limit_check(most, (int64_t)n, "vectors of one call", err) != SV_OK)
        return err->code;
    l.items = sv_try_calloc(n + 1, sizeof *l.items);
    l.values = n ? sv_try_aligned(n * dim * sizeof(float), 64) : NULL;
    l.arena = sv_arena_create(text.n + (64 << 10));
    sv_buf_init(&l.messages, 1 << 20);
    sv_rc rc = l.items && (l.values || !n) ? read_all(&l, text, v, dim, discard, err)
                                           : sv_fail(err, SV_ENOMEM, "no memory for %zu vectors of %zu dimensions", n, dim);
    if (rc != SV_OK) {
        sv_vz_lines_done(&l);
        return rc;
    }
    *out = l;
    return SV_OK;
}

void sv_vz_lines_done(sv_vz_lines *l)
{
    free(l->items);
    free(l->values);
    sv_arena_free(l->arena);
    sv_buf_done(&l->messages);
    *l = (sv_vz_lines){0};
}
