/* filter.c - metadata filters
 *
 * A filter is a list of conditions that must all hold, one a key, and a condition is either a set of values (with $ne and $nin: its
 * complement) or a range. That is all the language has, so this is all the tree there is, and both shapes are intervals of ranks to a
 * sorted index (fields.c).
 *
 * Values are looked up in the metadata's own text. It was checked when it came in, so the walk below only finds its way: it skips
 * strings by their quotes and counts brackets, and reads one value in the end. Where a key comes twice the last one counts, as for
 * everybody who parses it. */
#include "vec/filter_impl.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "base/json.h"

/* --- values inside text --------------------------------------------------------------------------------------------- */

static size_t skip_space(sv_str t, size_t i)
{
    while (i < t.n && (t.p[i] == ' ' || t.p[i] == '\t' || t.p[i] == '\n' || t.p[i] == '\r'))
        i++;
    return i;
}

/* t.p[i] is the opening quote; the place behind the closing one. */
static size_t skip_string(sv_str t, size_t i)
{
    for (i++; i < t.n && t.p[i] != '"'; i++)
        if (t.p[i] == '\\')
            i++;
    return i < t.n ? i + 1 : t.n;
}

static size_t skip_value(sv_str t, size_t i)
{
    size_t depth = 0;
    while (i < t.n) {
        char c = t.p[i];
        if (c == '"') {
            i = skip_string(t, i);
            if (depth == 0)
                return i;
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            return i;
        if (c == '{' || c == '[')
            depth++;
        i++;
        if ((c == '}' || c == ']') && --depth == 0)
            return i;
    }
    return i;
}

static unsigned hex4(const char *p)
{
    unsigned v = 0;
    for (int i = 0; i < 4; i++)
        v = v * 16 + (unsigned)(p[i] <= '9' ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
    return v & 0xffff;
}

static size_t put_utf8(char *to, unsigned c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | c);
    return n;
}

/* Decodes whole characters of a string (the text between its quotes) into at most `max` bytes; *whole: all of it went in. */
static size_t decode_string(char *to, size_t max, sv_str s, bool *whole)
{
    size_t n = 0, i = 0;
    *whole = false;
    while (i < s.n) {
        char c[4] = {s.p[i]};
        size_t from = 1, k = 1;
        if (s.p[i] == '\\') {
            char e = i + 1 < s.n ? s.p[i + 1] : 0;
            const char *at = e ? strchr("\"\\/bfnrt", e) : NULL;
            from = 2;
            if (at)
                c[0] = "\"\\/\b\f\n\r\t"[at - "\"\\/bfnrt"]; /* the table above, decoded */
            else if (e == 'u' && i + 6 <= s.n) {
                unsigned u = hex4(s.p + i + 2);
                from = 6;
                if (u >= 0xD800 && u < 0xDC00 && i + 12 <= s.n && s.p[i + 6] == '\\') {
                    u = 0x10000 + ((u & 0x3ff) << 10) + (hex4(s.p + i + 8) & 0x3ff);
                    from = 12;
                }
                k = put_utf8(c, u);
            }
        } else if ((uint8_t)c[0] >= 0xC0) {
            k = (uint8_t)c[0] >= 0xF0 ? 4 : (uint8_t)c[0] >= 0xE0 ? 3 : 2;
            if (i + k > s.n)
                return n;
            memcpy(c, s.p + i, k);
            from = k;
        }
        if (n + k > max)
            return n;
        memcpy(to + n, c, k);
        n += k;
        i += from;
    }
    *whole = true;
    return n;
}

static bool key_is(sv_str raw, sv_str key)
{
    if (!memchr(raw.p, '\\', raw.n))
        return sv_str_eq(raw, key);
    char text[SV_VEC_MAX_KEY];
    bool whole;
    size_t n = decode_string(text, sizeof text, raw, &whole);
    return whole && sv_str_eq((sv_str){text, n}, key);
}

/* The text of member `key` of the object that begins at t.p[i]; n 0: none. */
static sv_str find_member(sv_str t, size_t i, sv_str key)
{
    sv_str found = {t.p, 0};
    for (i = skip_space(t, i + 1); i < t.n && t.p[i] == '"';) {
        size_t end = skip_string(t, i);
        sv_str raw = {t.p + i + 1, end - i >= 2 ? end - i - 2 : 0};
        i = skip_space(t, end);
        if (i >= t.n || t.p[i] != ':')
            break;
        i = skip_space(t, i + 1);
        end = skip_value(t, i);
        if (key_is(raw, key))
            found = (sv_str){t.p + i, end - i};
        i = skip_space(t, end);
        if (i >= t.n || t.p[i] != ',')
            break;
        i = skip_space(t, i + 1);
    }
    return found;
}

/* Whole numbers of up to 15 digits are exact as they are; the rest is libc's. */
static double read_number(sv_str t)
{
    size_t i = t.n > 0 && t.p[0] == '-', n = 0;
    int64_t v = 0;
    for (; i + n < t.n && n < 16 && isdigit((unsigned char)t.p[i + n]); n++)
        v = v * 10 + (t.p[i + n] - '0');
    if (n < 16 && (i + n == t.n || (t.p[i + n] != '.' && (t.p[i + n] | 0x20) != 'e')))
        return i ? -(double)v : (double)v;
    char text[512];
    size_t k = t.n < sizeof text - 1 ? t.n : sizeof text - 1;
    memcpy(text, t.p, k);
    text[k] = 0;
    return strtod(text, NULL);
}

void sv_vec_value_find(sv_vec_value *out, sv_str metadata, sv_str path)
{
    sv_str at = {metadata.p, metadata.n};
    size_t i = skip_space(at, 0);
    out->kind = SV_VEC_VALUE_NULL;
    out->n = 0;
    for (;;) {
        if (i >= at.n || at.p[i] != '{')
            return;
        const char *dot = memchr(path.p, '.', path.n);
        size_t n = dot ? (size_t)(dot - path.p) : path.n;
        at = find_member(at, i, (sv_str){path.p, n});
        i = 0;
        if (!dot)
            break;
        path = (sv_str){dot + 1, path.n - n - 1};
    }
    if (at.n == 0)
        return;
    switch (at.p[0]) {
    case 'n':
        return;
    case 't':
    case 'f':
        out->kind = SV_VEC_VALUE_BOOLEAN;
        out->number = at.p[0] == 't';
        return;
    case '{':
    case '[':
        out->kind = SV_VEC_VALUE_OTHER;
        return;
    case '"': {
        bool whole;
        out->kind = SV_VEC_VALUE_STRING;
        out->n = (uint8_t)decode_string(out->text, sizeof out->text, (sv_str){at.p + 1, at.n >= 2 ? at.n - 2 : 0}, &whole);
        return;
    }
    default:
        out->kind = SV_VEC_VALUE_NUMBER;
        out->number = read_number(at);
    }
}

int sv_vec_value_compare(const sv_vec_value *a, const sv_vec_value *b)
{
    if (a->kind == SV_VEC_VALUE_STRING) {
        int c = memcmp(a->text, b->text, a->n < b->n ? a->n : b->n);
        return c ? c : (int)a->n - (int)b->n;
    }
    return a->number < b->number ? -1 : a->number > b->number;
}

bool sv_vec_value_equal(const sv_vec_value *a, const sv_vec_value *b)
{
    if (a->kind != b->kind || a->kind == SV_VEC_VALUE_OTHER)
        return false;
    return a->kind == SV_VEC_VALUE_NULL || sv_vec_value_compare(a, b) == 0;
}

/* --- conditions ----------------------------------------------------------------------------------------------------- */

bool sv_vec_condition_holds(const sv_vec_condition *c, const sv_vec_value *v)
{
    if (!c->is_range) {
        for (size_t i = 0; i < c->n_values; i++)
            if (sv_vec_value_equal(&c->values[i], v))
                return !c->none_of;
        return c->none_of;
    }
    if (v->kind != (c->has_lower ? c->lower.kind : c->upper.kind))
        return false;
    if (c->has_lower) {
        int d = sv_vec_value_compare(v, &c->lower);
        if (d < 0 || (d == 0 && c->lower_open))
            return false;
    }
    if (!c->has_upper)
        return true;
    int d = sv_vec_value_compare(v, &c->upper);
    return d < 0 || (d == 0 && !c->upper_open);
}

bool sv_vec_filter_matches(const sv_vec_filter *f, sv_str metadata)
{
    sv_vec_value v;
    for (size_t i = 0; i < f->n; i++) {
        sv_vec_value_find(&v, metadata, f->conditions[i].path);
        if (!sv_vec_condition_holds(&f->conditions[i], &v))
            return false;
    }
    return true;
}

/* --- parsing -------------------------------------------------------------------------------------------------------- */

static sv_rc read_value(sv_vec_value *out, const json_t *j, const char *key, const char *op, sv_err *err)
{
    *out = (sv_vec_value){.kind = SV_VEC_VALUE_NULL};
    if (json_is_string(j)) {
        sv_str s = {json_string_value(j), json_string_length(j)};
        size_t n = s.n;
        if (n > SV_VEC_INDEXED_BYTES) /* cut at a character, as its counterpart in the metadata is */
            for (n = SV_VEC_INDEXED_BYTES; n > 0 && ((uint8_t)s.p[n] & 0xC0) == 0x80; n--)
                continue;
        out->kind = SV_VEC_VALUE_STRING;
        out->n = (uint8_t)n;
        memcpy(out->text, s.p, n);
    } else if (json_is_number(j)) {
        out->kind = SV_VEC_VALUE_NUMBER;
        out->number = json_number_value(j);
    } else if (json_is_boolean(j)) {
        out->kind = SV_VEC_VALUE_BOOLEAN;
        out->number = json_is_true(j);
    } else if (!json_is_null(j)) {
        return sv_fail(err, SV_EINVAL, "filter: %s of '%s' takes a string, number, boolean or null", op, key);
    }
    return SV_OK;
}

static sv_rc read_set(sv_vec_filter *f, sv_vec_condition *c, const json_t *j, const char *key, const char *op, sv_err *err)
{
    bool list = op[1] == 'i' || op[2] == 'i'; /* $in, $nin */
    c->none_of = op[1] == 'n';
    if (list && !json_is_array(j))
        return sv_fail(err, SV_EINVAL, "filter: %s of '%s' takes an array", op, key);
    c->n_values = list ? json_array_size(j) : 1;
    c->values = sv_arena_new(f->arena, sv_vec_value, c->n_values + 1);
    if (!c->values)
        return sv_fail(err, SV_ENOMEM, "no memory for a filter");
    for (size_t i = 0; i < c->n_values; i++)
        if (read_value(&c->values[i], list ? json_array_get(j, i) : j, key, op, err) != SV_OK)
            return err->code;
    return SV_OK;
}

static sv_rc read_bound(sv_vec_condition *c, const json_t *j, const char *key, const char *op, sv_err *err)
{
    bool lower = op[1] == 'g', open = op[3] == 0; /* $gt, not $gte */
    sv_vec_value *v = lower ? &c->lower : &c->upper;
    bool *has = lower ? &c->has_lower : &c->has_upper;
    if (!json_is_string(j) && !json_is_number(j))
        return sv_fail(err, SV_EINVAL, "filter: %s of '%s' takes a string or a number", op, key);
    if (*has)
        return sv_fail(err, SV_EINVAL, "filter: '%s' has two %s bounds", key, lower ? "lower" : "upper");
    if (read_value(v, j, key, op, err) != SV_OK)
        return err->code;
    *has = c->is_range = true;
    *(lower ? &c->lower_open : &c->upper_open) = open;
    if (c->has_lower && c->has_upper && c->lower.kind != c->upper.kind)
        return sv_fail(err, SV_EINVAL, "filter: the bounds of '%s' are of different types", key);
    return SV_OK;
}

static sv_rc read_operators(sv_vec_filter *f, sv_vec_condition *c, json_t *j, const char *key, sv_err *err)
{
    static const char *const sets[] = {"$eq", "$ne", "$in", "$nin"}, *const bounds[] = {"$lt", "$lte", "$gt", "$gte"};
    const char *op;
    json_t *value;
    size_t n = json_object_size(j);
    if (n == 0)
        return sv_fail(err, SV_EINVAL, "filter: '%s' has no operator", key);
    json_object_foreach(j, op, value) {
        bool is_set = false, is_bound = false;
        for (size_t i = 0; i < 4; i++) {
            is_set |= strcmp(op, sets[i]) == 0;
            is_bound |= strcmp(op, bounds[i]) == 0;
        }
        if (!is_set && !is_bound)
            return sv_fail(err, SV_EINVAL, op[0] == '$' ? "filter: '%s' has an unknown operator '%.32s'"
                                                        : "filter: '%s' holds an object with '%.32s'; nested keys are written with a dot", key, op);
        if (is_set && n > 1)
            return sv_fail(err, SV_EINVAL, "filter: %s of '%s' cannot be combined with another operator", op, key);
        if ((is_set ? read_set(f, c, value, key, op, err) : read_bound(c, value, key, op, err)) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

static sv_rc check_key(const char *key, sv_err *err)
{
    size_t n = strlen(key);
    if (n == 0)
        return sv_fail(err, SV_EINVAL, "filter: a key is empty");
    if (sv_utf8_len((sv_str){key, n}) > SV_VEC_MAX_KEY || n > SV_VEC_MAX_KEY)
        return sv_fail(err, SV_ELIMIT, "filter: a key of %zu bytes is over %d", n, SV_VEC_MAX_KEY);
    if (key[0] == '$')
        return sv_fail(err, SV_EINVAL, "filter: the key '%.40s' begins with '$'", key);
    if (strpbrk(key, "\"|"))
        return sv_fail(err, SV_EINVAL, "filter: the key '%.40s' holds '\"' or '|'", key);
    if (key[0] == '.' || key[n - 1] == '.' || strstr(key, ".."))
        return sv_fail(err, SV_EINVAL, "filter: the key '%.40s' has an empty part between its dots", key);
    return SV_OK;
}

sv_vec_filter *sv_vec_filter_free(sv_vec_filter *f)
{
    if (f)
        sv_arena_free(f->arena);
    free(f);
    return NULL;
}

static sv_rc check_size(const json_t *j, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf compact;
    sv_buf_init(&compact, 1 << 20);
    sv_json_add_value(&compact, j);
    if (compact.failed || compact.n >= SV_VEC_MAX_FILTER)
        return sv_fail(err, SV_ELIMIT, "filter: %zu bytes of compact JSON, %d are too many", compact.n, SV_VEC_MAX_FILTER);
    return SV_OK;
}

sv_rc sv_vec_filter_parse(sv_vec_filter **out, sv_str json, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *j = NULL;
    if (json.n > 16 * SV_VEC_MAX_FILTER) /* white space included */
        return sv_fail(err, SV_ELIMIT, "filter: %zu bytes are too many", json.n);
    if (sv_json_parse(&j, json, err) != SV_OK)
        return sv_wrap(err, "filter");
    if (!json_is_object(j) || json_object_size(j) == 0)
        return sv_fail(err, SV_EINVAL, "filter: it must be an object with at least one key");
    if (check_size(j, err) != SV_OK)
        return err->code;

    SV_AUTO(sv_vec_filter_freep) sv_vec_filter *f = sv_xnew0(sv_vec_filter);
    f->arena = sv_arena_create(1 << 20);
    f->conditions = sv_arena_new(f->arena, sv_vec_condition, json_object_size(j));
    if (!f->conditions)
        return sv_fail(err, SV_ENOMEM, "no memory for a filter");
    const char *key;
    json_t *value;
    json_object_foreach(j, key, value) {
        sv_vec_condition *c = &f->conditions[f->n++];
        if (check_key(key, err) != SV_OK)
            return err->code;
        c->path = sv_str_of(sv_arena_strndup(f->arena, key, strlen(key)));
        if (json_is_array(value))
            return sv_fail(err, SV_EINVAL, "filter: '%s' is an array; $in takes one", key);
        if (!c->path.p || (json_is_object(value) ? read_operators(f, c, value, key, err) : read_set(f, c, value, key, "$eq", err)) != SV_OK)
            return c->path.p ? err->code : sv_fail(err, SV_ENOMEM, "no memory for a filter");
    }
    *out = SV_TAKE(f);
    return SV_OK;
}
