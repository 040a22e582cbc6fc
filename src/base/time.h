/* time.h - clocks and their text form. Any thread. */
#ifndef SV_BASE_TIME_H
#define SV_BASE_TIME_H

#include <stdbool.h>
#include <stdint.h>

int64_t sv_now_ms(void);      /* wall clock, ms since 1970 */
int64_t sv_mono_ms(void);     /* monotonic */
int64_t sv_mono_us(void);
/* "2026-11-25T02:43:58.123456Z" (micros zero-filled from ms); out has room for 32. */
void sv_iso8601(char out[32], int64_t unix_ms);

#endif
