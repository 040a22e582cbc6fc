/* floats.h - arrays of float32 as JSON text, both ways, several times faster than the C library's conversions
 *
 * Reading gives the nearest double of the text, cast to float32 (what `new Float32Array(JSON.parse(text))` has); writing gives the
 * shortest text that reads back as the same float32. Threads: no state; any thread. */
#ifndef SV_BASE_FLOATS_H
#define SV_BASE_FLOATS_H

#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

enum {
    SV_FLOAT_TEXT = 40,        /* room that sv_float_write wants; it uses at most 24 bytes of it */
    SV_FLOAT_MAX_DIGITS = 320, /* characters of one number; longer ones are refused */
};

/* Reads the JSON array of numbers that `text` begins with ('[' first). *n is how many numbers it has, of which the first `max` are in
 * out; *used is the length of the array's text. SV_EFORMAT names the number, counted from 0, and what is wrong: not JSON's grammar,
 * null, not representable (over float32's range), end of text inside. out may be written to then, too. */
SV_MUST sv_rc sv_floats_read(float *out, size_t max, sv_str text, size_t *n, size_t *used, sv_err *err);

/* The text of one number, without NUL; returns its length. Forms as JavaScript prints: 0.1, 16777216, 1e-7, 3.4028235e+38. NaN and
 * infinities, which JSON does not have, become null. */
size_t sv_float_write(char out[SV_FLOAT_TEXT], float x);
/* "[1,2.5,...]" at the end of out; out->failed where it does not fit. */
void sv_floats_write(sv_buf *out, const float *x, size_t n);

#endif
