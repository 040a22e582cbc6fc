/* fields.c - checks of a client's fields
 *
 * No general JSON Schema validator: tasks have a handful of fields each, with a type and a range, and a straight line of checks gives better
 * messages. */
#include "ai/fields.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *sv_field_type(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "object";
    case JSON_ARRAY: return "array";
    case JSON_STRING: return "string";
    case JSON_INTEGER:
    case JSON_REAL: return "number";
    case JSON_TRUE:
    case JSON_FALSE: return "boolean";
    default: return "null";
    }
}

void sv_field_blame(sv_fields *f, const char *field)
{
    snprintf(f->bad, SV_FIELD_BAD, "%.63s", field);
}

sv_rc sv_field_mismatch(sv_fields *f, const char *field, const json_t *v, const char *want)
{
    sv_field_blame(f, field);
    return sv_fail_api(f->err, SV_EINVAL, 5006, "Type mismatch of '/%s', '%s' not in '%s'", field, sv_field_type(v), want);
}

sv_rc sv_field_refuse(sv_fields *f, const char *field, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sv_field_blame(f, field);
    return sv_fail_api(f->err, SV_EINVAL, 5006, "'/%s' %s", field, text);
}

sv_rc sv_field_missing(sv_fields *f, const char *key)
{
    sv_field_blame(f, key);
    return sv_fail_api(f->err, SV_EINVAL, 5006, "required properties at '/' are '%s'", key);
}

const json_t *sv_field_of(const sv_fields *f, const char *key)
{
    const json_t *v = json_object_get(f->obj, key);
    return v && !json_is_null(v) ? v : NULL;
}

sv_rc sv_field_number(sv_fields *f, const char *key, double min, double max, double *out)
{
    const json_t *v = sv_field_of(f, key);
    if (!v)
        return SV_OK;
    if (!json_is_number(v))
        return sv_field_mismatch(f, key, v, "number");
    double d = json_number_value(v);
    if (d < min)
        return sv_field_refuse(f, key, "must be >= %g, got %g", min, d);
    if (d > max)
        return sv_field_refuse(f, key, "must be <= %g, got %g", max, d);
    *out = d;
    return SV_OK;
}

sv_rc sv_field_integer(sv_fields *f, const char *key, int64_t min, int64_t max, int64_t *out, bool *given)
{
    const json_t *v = sv_field_of(f, key);
    if (!v)
        return SV_OK;
    if (!json_is_number(v))
        return sv_field_mismatch(f, key, v, "integer");
    double d = json_number_value(v);
    if (d != floor(d))
        return sv_field_refuse(f, key, "must be an integer, got %g", d);
    if (d < (double)min)
        return sv_field_refuse(f, key, "must be >= %lld, got %.0f", (long long)min, d);
    if (d > (double)max)
        return sv_field_refuse(f, key, "must be <= %lld, got %.0f", (long long)max, d);
    *out = json_is_integer(v) ? (int64_t)json_integer_value(v) : (int64_t)d;
    if (given)
        *given = true;
    return SV_OK;
}

sv_rc sv_field_boolean(sv_fields *f, const char *key, bool *out)
{
    const json_t *v = sv_field_of(f, key);
    if (!v)
        return SV_OK;
    if (!json_is_boolean(v))
        return sv_field_mismatch(f, key, v, "boolean");
    *out = json_is_true(v);
    return SV_OK;
}

sv_rc sv_field_string(sv_fields *f, const char *key, sv_str *out)
{
    const json_t *v = sv_field_of(f, key);
    if (!v)
        return SV_OK;
    if (!json_is_string(v))
        return sv_field_mismatch(f, key, v, "string");
    *out = (sv_str){json_string_value(v), json_string_length(v)};
    return SV_OK;
}

sv_rc sv_field_word(sv_fields *f, const char *key, const char *const *words, int *out)
{
    sv_str v = {0};
    char all[160] = "";
    if (sv_field_string(f, key, &v) != SV_OK || !v.p)
        return f->err->code;
    for (int i = 0; words[i]; i++) {
        if (sv_str_is(v, words[i])) {
            *out = i;
            return SV_OK;
        }
        size_t n = strlen(all);
        snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "", words[i]);
    }
    return sv_field_refuse(f, key, "must be one of %s; got '%.*s'", all, (int)(v.n > 32 ? 32 : v.n), v.p);
}

sv_rc sv_field_text(sv_fields *f, const char *key, sv_str *out)
{
    if (!sv_field_of(f, key))
        return sv_field_missing(f, key);
    if (sv_field_string(f, key, out) != SV_OK)
        return f->err->code;
    return out->n == 0 ? sv_field_refuse(f, key, "must have at least 1 character") : SV_OK;
}
