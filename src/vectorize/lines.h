/* lines.h - vectors as they come in: one JSON object a line
 *
 *     {"id": "a", "values": [0.1, 0.2], "namespace": "n", "metadata": {"k": 1}}
 *
 * No tree is built: values go straight into float32, metadata stays the text it is. Other members are read over. Threads: none of its own. */
#ifndef SV_VECTORIZE_LINES_H
#define SV_VECTORIZE_LINES_H

#include "account/limits.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "vec/vec.h"

/* Walks one JSON object, member by member; what is not looked at in detail is still checked to be JSON. */
typedef struct sv_scan { const char *p, *end; bool begun; } sv_scan;
SV_MUST sv_rc sv_scan_begin(sv_scan *s, sv_str text, sv_err *err);
/* The next member's key, decoded into `a` where it has escapes; the scan then stands at its value. *more false: the object and the text
 * have ended. Keys and strings: SV_EFORMAT where they are not UTF-8. */
SV_MUST sv_rc sv_scan_member(sv_scan *s, sv_arena *a, sv_str *key, bool *more, sv_err *err);
SV_MUST sv_rc sv_scan_string(sv_scan *s, sv_arena *a, sv_str *out, sv_err *err);
SV_MUST sv_rc sv_scan_floats(sv_scan *s, float *out, size_t max, size_t *n, sv_err *err); /* sv_floats_read */
SV_MUST sv_rc sv_scan_value(sv_scan *s, sv_str *raw, sv_err *err); /* the value's text, where it ends by its brackets; its inside is not checked */
bool sv_scan_null(sv_scan *s); /* reads over a null that stands here */

typedef struct sv_vz_lines {
    sv_vec_item *items; /* point into text, values and arena */
    size_t n;           /* vectors */
    size_t n_dropped;   /* lines not taken, with `discard` */
    sv_buf messages;    /* JSON array that names them */
    float *values;
    sv_arena *arena;
} sv_vz_lines;

/* Reads a body whole or not at all; text must outlive the lines. discard: lines that are no vectors in JSON are left out and named in
 * `messages`; ids, sizes and dimensions that do not fit refuse the body even then. v: checks each item against it (NULL in tests).
 * SV_EFORMAT and SV_EINVAL say which line, and that no line was taken. Start from {0}; done after SV_OK. */
SV_MUST sv_rc sv_vz_lines_read(sv_vz_lines *out, sv_str text, const sv_vec *v, int32_t dimensions, sv_limit_id most, bool discard, sv_err *err);
void sv_vz_lines_done(sv_vz_lines *l);

#endif
