/* d1_request.h - what a client asks of a database: statements and their parameters, read from JSON
 *
 * Threads: values; any thread. */
#ifndef SV_D1_REQUEST_H
#define SV_D1_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

typedef enum sv_d1_type { SV_D1_NULL, SV_D1_INT, SV_D1_REAL, SV_D1_TEXT, SV_D1_BLOB } sv_d1_type;
typedef struct sv_d1_value {
    sv_d1_type type;
    union {
        int64_t i;
        double f;
        sv_str s; /* text and blob */
    };
} sv_d1_value;

typedef struct sv_d1_query {
    sv_str sql; /* NUL-terminated, without a NUL inside */
    sv_d1_value *params;
    size_t n_params;
} sv_d1_query;

typedef struct sv_d1_request {
    sv_d1_query *queries;
    size_t n_queries; /* at least 1 */
    bool list;        /* it came as an array or as "batch" */
} sv_d1_request;

/* {"sql", "params"}, an array of such objects, or {"batch": [...]}. Unknown members are skipped. A parameter is null, a number, a string, a
 * boolean (1 or 0), or an array of numbers 0 to 255 (a blob). Everything in *out lies in the arena. SV_EFORMAT, SV_EINVAL; SV_ELIMIT: more
 * parameters or statements than the limits allow, or more than the arena holds. */
SV_MUST sv_rc sv_d1_request_parse(sv_d1_request *out, sv_arena *a, sv_str json, sv_err *err);

#endif
