/* fields.h - a client's JSON, field by field: type and range, in words that a person can act on
 *
 * null counts as absent, for every field: SDKs send it for options that the user did not set. Integers may be written 5.0, as JSON Schema has it.
 * A refusal has api_code 5006 and names field and limit, in the words that clients of the hosted service know from its own validator
 * ("Type mismatch of '/max_tokens', 'string' not in 'integer'").
 * Threads: values; any. */
#ifndef SV_AI_FIELDS_H
#define SV_AI_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

enum { SV_FIELD_BAD = 64 };
typedef struct sv_fields {
    const json_t *obj;
    char *bad;   /* [SV_FIELD_BAD]: after a refusal the field, "messages/0/role" */
    sv_err *err;
} sv_fields;

const json_t *sv_field_of(const sv_fields *f, const char *key); /* NULL: absent or null */

/* Absent: *out keeps its value. */
SV_MUST sv_rc sv_field_number(sv_fields *f, const char *key, double min, double max, double *out);
SV_MUST sv_rc sv_field_integer(sv_fields *f, const char *key, int64_t min, int64_t max, int64_t *out, bool *given); /* given: or NULL */
SV_MUST sv_rc sv_field_boolean(sv_fields *f, const char *key, bool *out);
SV_MUST sv_rc sv_field_string(sv_fields *f, const char *key, sv_str *out); /* borrowed; may be empty */
/* One of the words, a NULL-terminated list; *out is its index. */
SV_MUST sv_rc sv_field_word(sv_fields *f, const char *key, const char *const *words, int *out);
/* A string of one character or more, which must be there. */
SV_MUST sv_rc sv_field_text(sv_fields *f, const char *key, sv_str *out);

const char *sv_field_type(const json_t *v); /* "object", "number" */

/* Refusals, for checks of one's own. */
void sv_field_blame(sv_fields *f, const char *field);
sv_rc sv_field_mismatch(sv_fields *f, const char *field, const json_t *v, const char *want);
sv_rc sv_field_refuse(sv_fields *f, const char *field, const char *fmt, ...) SV_PRINTF(3, 4); /* "'/field' ..." */
sv_rc sv_field_missing(sv_fields *f, const char *key);

#endif
