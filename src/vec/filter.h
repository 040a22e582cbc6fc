/* filter.h - metadata filters: parsed once from JSON, asked of any metadata text
 *
 * {"genre": "drama", "year": {"$gte": 1990, "$lt": 2000}, "a.b": {"$in": ["x", null]}}: all keys must hold. Operators: $eq (also
 * implied), $ne, $in, $nin with strings, numbers, booleans and null; $lt, $lte, $gt, $gte with strings and numbers, alone or one
 * upper with one lower bound. A dot in a key goes into a nested object.
 *
 * A value and an operand are equal when they have one type and are the same; strings are looked at by their first 64 bytes, cut at
 * a character, as the original's indexes do, and ordered byte by byte; numbers are float64. A property that is absent equals null.
 * $ne and $nin are true exactly where $eq and $in are false. Bounds hold for values of the operand's type only. Arrays and objects
 * equal nothing and have no order.
 * Threads: immutable once parsed. */
#ifndef SV_VEC_FILTER_H
#define SV_VEC_FILTER_H

#include <stdbool.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

enum {
    SV_VEC_MAX_FILTER = 2048,  /* bytes of compact JSON, refused at this size and over */
    SV_VEC_MAX_KEY = 512,      /* characters of a key are at most this many bytes here */
    SV_VEC_INDEXED_BYTES = 64, /* of a string that a filter looks at */
};

typedef struct sv_vec_filter sv_vec_filter;
/* SV_EINVAL or SV_ELIMIT with a sentence that names key and operator. */
SV_MUST sv_rc sv_vec_filter_parse(sv_vec_filter **out, sv_str json, sv_err *err);
sv_vec_filter *sv_vec_filter_free(sv_vec_filter *f); /* NULL is fine */
SV_DEFINE_AUTO(sv_vec_filter, sv_vec_filter_free)
/* metadata: JSON text of an object, or empty. */
bool sv_vec_filter_matches(const sv_vec_filter *f, sv_str metadata);

#endif
