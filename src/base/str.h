/* str.h - views, growing buffers, and the text encodings that everybody needs
 *
 * sv_str is memory that somebody else keeps. sv_buf owns its bytes, keeps a NUL past its end, and has a cap from its
 * init on, since everything that a client can grow has a limit. */
#ifndef SV_BASE_STR_H
#define SV_BASE_STR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

typedef struct sv_str { const char *p; size_t n; } sv_str;
#define SV_STR(lit) ((sv_str){(lit), sizeof(lit) - 1})
static inline sv_str sv_str_of(const char *s) { return (sv_str){s, s ? strlen(s) : 0}; }
bool sv_str_eq(sv_str a, sv_str b);
bool sv_str_is(sv_str a, const char *s);
bool sv_str_ieq(sv_str a, const char *s); /* ASCII case-insensitive */
bool sv_str_starts(sv_str a, const char *prefix);
sv_str sv_str_trim(sv_str a); /* ASCII space and tab, CR, LF */
bool sv_str_to_i64(sv_str a, int64_t *out); /* whole view, decimal, no overflow */

typedef struct sv_buf { char *p; size_t n, cap, max; bool failed; } sv_buf;
/* max 0: 64 MiB. Holds nothing until the first append. */
void sv_buf_init(sv_buf *b, size_t max);
void sv_buf_done(sv_buf *b);   /* frees; b is empty and usable again with the same max */
void sv_buf_reset(sv_buf *b);  /* empty it, keep the memory */
/* Appends return false and set failed when max is passed or memory is gone; later appends then do nothing,
 * so a writer may append blindly and look at `failed` once. */
bool sv_buf_add(sv_buf *b, const void *p, size_t n);
bool sv_buf_adds(sv_buf *b, const char *s);
bool sv_buf_addc(sv_buf *b, char c);
bool sv_buf_addf(sv_buf *b, const char *fmt, ...) SV_PRINTF(2, 3);
char *sv_buf_room(sv_buf *b, size_t n); /* n writable bytes past the end, NULL as above; then b->n += used */
static inline sv_str sv_buf_str(const sv_buf *b) { return (sv_str){b->p ? b->p : "", b->n}; }
static inline const char *sv_buf_cstr(const sv_buf *b) { return b->p ? b->p : ""; }
char *sv_buf_take(sv_buf *b);   /* the bytes, NUL-terminated, now the caller's; never NULL */
static inline void sv_buf_donep(sv_buf *b) { sv_buf_done(b); }

void sv_hex(char *out /* 2n+1 */, const void *p, size_t n);
bool sv_unhex(void *out, size_t n, sv_str hex); /* exactly 2n digits */
void sv_base64_encode(sv_buf *out, const void *p, size_t n);
void sv_base64url_encode(sv_buf *out, const void *p, size_t n); /* no padding */
/* Either alphabet, padding optional, ASCII white space skipped. SV_EFORMAT with the offset. */
SV_MUST sv_rc sv_base64_decode(sv_buf *out, sv_str in, sv_err *err);
/* %XX only; '+' stays. SV_EFORMAT for a broken escape or a NUL. The result is in the arena. */
SV_MUST sv_rc sv_percent_decode(sv_str *out, sv_arena *a, sv_str in, sv_err *err);
/* form encoding: '+' is a space. */
SV_MUST sv_rc sv_form_decode(sv_str *out, sv_arena *a, sv_str in, sv_err *err);
void sv_percent_encode(sv_buf *out, sv_str in); /* everything but A-Za-z0-9-._~ */

bool sv_utf8_valid(sv_str s);
size_t sv_utf8_len(sv_str s); /* code points; s must be valid */
/* Bytes of the longest prefix of s that ends on a character border (a broken byte counts as a character). */
size_t sv_utf8_whole(sv_str s);

#endif
