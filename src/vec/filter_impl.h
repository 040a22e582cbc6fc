/* filter_impl.h - a parsed filter as the planner sees it, and values inside metadata text */
#ifndef SV_VEC_FILTER_IMPL_H
#define SV_VEC_FILTER_IMPL_H

#include <stdint.h>

#include "vec/filter.h"

typedef enum sv_vec_value_kind {
    SV_VEC_VALUE_NULL,  /* also: absent */
    SV_VEC_VALUE_OTHER, /* an array or object */
    SV_VEC_VALUE_STRING,
    SV_VEC_VALUE_NUMBER,
    SV_VEC_VALUE_BOOLEAN,
} sv_vec_value_kind;

typedef struct sv_vec_value {
    sv_vec_value_kind kind;
    uint8_t n; /* bytes of text */
    char text[SV_VEC_INDEXED_BYTES];
    double number; /* BOOLEAN: 0 or 1 */
} sv_vec_value;

/* The property at a dotted path of a JSON object. Text that is no JSON gives some value, never a crash. */
void sv_vec_value_find(sv_vec_value *out, sv_str metadata, sv_str path);
/* Of one kind, which is ordered: negative, 0, positive. */
int sv_vec_value_compare(const sv_vec_value *a, const sv_vec_value *b);
bool sv_vec_value_equal(const sv_vec_value *a, const sv_vec_value *b);

typedef struct sv_vec_condition {
    sv_str path;
    bool is_range;
    /* one of, or with `none_of` not one of */
    bool none_of;
    sv_vec_value *values;
    size_t n_values;
    /* a range: of lower.kind or upper.kind, which are the same where both are set */
    bool has_lower, has_upper, lower_open, upper_open;
    sv_vec_value lower, upper;
} sv_vec_condition;

bool sv_vec_condition_holds(const sv_vec_condition *c, const sv_vec_value *v);

struct sv_vec_filter {
    sv_arena *arena;
    sv_vec_condition *conditions; /* all must hold */
    size_t n;
};

#endif
