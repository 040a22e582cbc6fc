/* json.h - JSON in by jansson with our limits, out by a writer that streams into a buffer
 *
 * Reading gives a jansson tree (json_t, json_decref it). Getters name the member in their message, so that a refusal
 * reads "'max_tokens': 2.5 is not an integer". */
#ifndef SV_BASE_JSON_H
#define SV_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* Any JSON value; nesting at most 512 (jansson's own bound is higher), at most 1,048,576 lists and objects in all, duplicate keys: last wins,
 * NUL in strings allowed (use json_string_length). SV_EFORMAT: "line 1, column 17: ...". */
SV_MUST sv_rc sv_json_parse(json_t **out, sv_str text, sv_err *err);
/* The same for files of which only texts and names are read: a whole number beyond 64 bits is no error, but then all numbers are reals. */
SV_MUST sv_rc sv_json_parse_lax(json_t **out, sv_str text, sv_err *err);
static inline void sv_json_decrefp(json_t **j) { json_decref(*j); }

/* Members of an object. `*out` keeps its value (the default) when the member is absent or null.
 * SV_EINVAL when it has another type or is out of [min, max]. */
SV_MUST sv_rc sv_json_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *out, sv_err *err);
SV_MUST sv_rc sv_json_num(const json_t *obj, const char *key, double min, double max, double *out, sv_err *err);
SV_MUST sv_rc sv_json_bool(const json_t *obj, const char *key, bool *out, sv_err *err);
SV_MUST sv_rc sv_json_str(const json_t *obj, const char *key, sv_str *out, sv_err *err); /* borrowed from obj */
/* Borrowed; NULL when absent or no string. */
const char *sv_json_cstr(const json_t *obj, const char *key);

void sv_json_add_str(sv_buf *out, sv_str s);   /* quoted and escaped; invalid UTF-8 becomes U+FFFD */
void sv_json_add_num(sv_buf *out, double v);   /* shortest form that reads back; NaN and infinities become null */
void sv_json_add_value(sv_buf *out, const json_t *v); /* compact */

#endif
