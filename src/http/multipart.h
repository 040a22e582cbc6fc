/* multipart.h - multipart/form-data in one collected body (RFC 7578, as undici, curl and the SDKs send it)
 * Parts are views into the body, which must outlive them. Any thread. */
#ifndef SV_HTTP_MULTIPART_H
#define SV_HTTP_MULTIPART_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

typedef struct sv_part {
    sv_str name, filename, content_type; /* decoded from the part's head; {NULL, 0} when absent */
    sv_str data;
} sv_part;
typedef struct sv_parts { sv_part *v; size_t n; } sv_parts;

/* content_type: the request's header. When it names no boundary (some SDKs), the boundary is taken from the body's
 * first line. At most 10,000 parts. SV_EFORMAT says which part and what is wrong with it. */
SV_MUST sv_rc sv_multipart_parse(sv_parts *out, sv_arena *a, sv_str content_type, sv_str body, sv_err *err);
const sv_part *sv_parts_find(const sv_parts *p, const char *name); /* first of that name or NULL */

#endif
