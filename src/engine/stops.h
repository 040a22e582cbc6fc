/* stops.h - stop strings over a text that arrives in pieces
 * Threads: one at a time. */
#ifndef SV_ENGINE_STOPS_H
#define SV_ENGINE_STOPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

typedef struct sv_stops {
    char **stop;      /* owned, none empty, whole characters */
    int32_t n_stops;
    sv_buf held;      /* text that may be the start of a stop string */
} sv_stops;

void sv_stops_init(sv_stops *s, const sv_str *stop, int32_t n_stops); /* copies; no string holds a NUL past its first byte */
void sv_stops_done(sv_stops *s);
/* Adds a piece (whole characters) and appends to out what is certain to be text now. True: a stop string is complete; out then has what
 * was before the one that was complete first, wherever the pieces end, and the rest is dropped. */
bool sv_stops_feed(sv_stops *s, sv_str piece, sv_buf *out);
void sv_stops_finish(sv_stops *s, sv_buf *out); /* the text is over: what was held is text */

#endif
