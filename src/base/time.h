/* time.h - clocks and their text form. Any thread. */
#ifndef SV_BASE_TIME_H
#define SV_BASE_TIME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

int64_t sv_now_ms(void);      /* wall clock, ms since 1970 */
int64_t sv_mono_ms(void);     /* monotonic */
int64_t sv_mono_us(void);
/* "2026-11-25T02:43:58.123456Z" (micros zero-filled from ms); out has room for 32. */
void sv_iso8601(char out[32], int64_t unix_ms);
void sv_iso8601_ms(char out[32], int64_t unix_ms); /* "2026-11-25T02:43:58.123Z" */
/* "2026-11-25T02:43:58Z", with a fraction, with a zone like +01:00, or the date alone (midnight UTC). */
bool sv_parse_iso8601(sv_str text, int64_t *unix_ms);
/* "Wed, 25 Nov 2026 02:43:58 GMT" */
void sv_http_date_text(char out[32], int64_t unix_s);
bool sv_parse_http_date(sv_str text, int64_t *unix_s); /* the three forms of RFC 9110 5.6.7 */

#endif
