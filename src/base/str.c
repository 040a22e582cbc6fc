/* str.c - views, buffers, and the encodings of the wire */
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

bool sv_str_eq(sv_str a, sv_str b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }
bool sv_str_is(sv_str a, const char *s) { return sv_str_eq(a, sv_str_of(s)); }
bool sv_str_ieq(sv_str a, const char *s) { return a.n == strlen(s) && (a.n == 0 || strncasecmp(a.p, s, a.n) == 0); }

bool sv_str_starts(sv_str a, const char *prefix)
{
    size_t n = strlen(prefix);
    return a.n >= n && (n == 0 || memcmp(a.p, prefix, n) == 0);
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

sv_str sv_str_trim(sv_str a)
{
    while (a.n && is_space(a.p[0]))
        a.p++, a.n--;
    while (a.n && is_space(a.p[a.n - 1]))
        a.n--;
    return a;
}

bool sv_str_to_i64(sv_str a, int64_t *out)
{
    size_t i = 0;
    bool negative = a.n > 0 && a.p[0] == '-';
    if (negative)
        i++;
    if (i == a.n)
        return false;
    int64_t v = 0; /* counted downwards: INT64_MIN has no positive */
    for (; i < a.n; i++) {
        if (a.p[i] < '0' || a.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(v, (int64_t)10, &v) || __builtin_sub_overflow(v, (int64_t)(a.p[i] - '0'), &v))
            return false;
    }
    if (!negative && __builtin_mul_overflow(v, (int64_t)-1, &v))
        return false;
    *out = v;
    return true;
}

/* ---- buffers ---- */

void sv_buf_init(sv_buf *b, size_t max) { *b = (sv_buf){.max = max ? max : (size_t)64 << 20}; }

void sv_buf_done(sv_buf *b)
{
    free(b->p);
    *b = (sv_buf){.max = b->max};
}

void sv_buf_reset(sv_buf *b)
{
    b->n = 0;
    b->failed = false;
    if (b->p)
        b->p[0] = 0;
}

char *sv_buf_room(sv_buf *b, size_t n)
{
    if (b->failed)
        return NULL;
    size_t max = b->max ? b->max : (size_t)64 << 20;
    if (n > max || b->n > max - n) {
        b->failed = true;
        return NULL;
    }
    if (b->n + n + 1 > b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 256;
        if (cap < b->n + n + 1)
            cap = b->n + n + 1;
        char *p = realloc(b->p, cap);
        if (!p) {
            b->failed = true;
            return NULL;
        }
        b->p = p;
        b->cap = cap;
        p[b->n] = 0;
    }
    return b->p + b->n;
}

bool sv_buf_add(sv_buf *b, const void *p, size_t n)
{
    char *to = sv_buf_room(b, n);
    if (!to)
        return false;
    if (n)
        memcpy(to, p, n);
    to[n] = 0;
    b->n += n;
    return true;
}

bool sv_buf_adds(sv_buf *b, const char *s) { return sv_buf_add(b, s, strlen(s)); }
bool sv_buf_addc(sv_buf *b, char c) { return sv_buf_add(b, &c, 1); }

bool sv_buf_addf(sv_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    char small[512];
    int n = vsnprintf(small, sizeof small, fmt, ap);
    bool ok = false;
    if (n < 0) {
        b->failed = true;
    } else if ((size_t)n < sizeof small) {
        ok = sv_buf_add(b, small, (size_t)n);
    } else {
        char *to = sv_buf_room(b, (size_t)n);
        if (to) {
            vsnprintf(to, (size_t)n + 1, fmt, again);
            b->n += (size_t)n;
            ok = true;
        }
    }
    va_end(again);
    va_end(ap);
    return ok;
}

char *sv_buf_take(sv_buf *b)
{
    char *p = b->p ? b->p : sv_xcalloc(1, 1);
    *b = (sv_buf){.max = b->max};
    return p;
}

/* ---- hex, base64, percent ---- */

void sv_hex(char *out, const void *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[b[i] >> 4];
        out[2 * i + 1] = digits[b[i] & 15];
    }
    out[2 * n] = 0;
}

static int unhex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool sv_unhex(void *out, size_t n, sv_str hex)
{
    if (hex.n / 2 != n || hex.n % 2 != 0)
        return false;
    uint8_t *b = out;
    for (size_t i = 0; i < n; i++) {
        int hi = unhex_digit(hex.p[2 * i]), lo = unhex_digit(hex.p[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        b[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

static void base64(sv_buf *out, const uint8_t *p, size_t n, const char *alphabet, bool pad)
{
    for (size_t i = 0; i < n; i += 3) {
        size_t k = n - i < 3 ? n - i : 3;
        uint32_t v = (uint32_t)p[i] << 16 | (k > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (k > 2 ? p[i + 2] : 0);
        char four[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63], k > 1 ? alphabet[v >> 6 & 63] : '=',
                        k > 2 ? alphabet[v & 63] : '='};
        sv_buf_add(out, four, pad ? 4 : k + 1);
    }
}

void sv_base64_encode(sv_buf *out, const void *p, size_t n)
{
    base64(out, p, n, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", true);
}

void sv_base64url_encode(sv_buf *out, const void *p, size_t n)
{
    base64(out, p, n, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", false);
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

sv_rc sv_base64_decode(sv_buf *out, sv_str in, sv_err *err)
{
    while (in.n && (in.p[in.n - 1] == '=' || is_space(in.p[in.n - 1])))
        in.n--;
    char *to = sv_buf_room(out, in.n / 4 * 3 + 3);
    if (!to)
        return sv_fail(err, SV_ELIMIT, "base64 of %zu bytes is too long", in.n);
    uint32_t v = 0;
    size_t n_digits = 0, n = 0;
    for (size_t i = 0; i < in.n; i++) {
        if (is_space(in.p[i]))
            continue;
        int d = base64_digit(in.p[i]);
        if (d < 0)
            return sv_fail(err, SV_EFORMAT, "not base64 at byte %zu", i);
        v = v << 6 | (uint32_t)d;
        if (++n_digits % 4 == 0) {
            to[n++] = (char)(v >> 16);
            to[n++] = (char)(v >> 8);
            to[n++] = (char)v;
            v = 0;
        }
    }
    if (n_digits % 4 == 1)
        return sv_fail(err, SV_EFORMAT, "base64 ends inside a byte, at byte %zu", in.n);
    if (n_digits % 4 >= 2)
        to[n++] = (char)(n_digits % 4 == 2 ? v >> 4 : v >> 10);
    if (n_digits % 4 == 3)
        to[n++] = (char)(v >> 2);
    to[n] = 0;
    out->n += n;
    return SV_OK;
}

static sv_rc percent(sv_str *out, sv_arena *a, sv_str in, bool plus, sv_err *err)
{
    char *to = sv_arena_strndup(a, in.p, in.n);
    if (!to)
        return sv_fail(err, SV_ELIMIT, "%zu bytes to decode are too many", in.n);
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        if (in.p[i] == '%') {
            int hi = i + 2 < in.n ? unhex_digit(in.p[i + 1]) : -1;
            int lo = i + 2 < in.n ? unhex_digit(in.p[i + 2]) : -1;
            if (hi < 0 || lo < 0)
                return sv_fail(err, SV_EFORMAT, "broken %%-escape at byte %zu", i);
            if ((hi << 4 | lo) == 0)
                return sv_fail(err, SV_EFORMAT, "%%00 at byte %zu", i);
            to[n++] = (char)(hi << 4 | lo);
            i += 2;
        } else {
            to[n++] = plus && in.p[i] == '+' ? ' ' : in.p[i];
        }
    }
    to[n] = 0;
    *out = (sv_str){to, n};
    return SV_OK;
}

sv_rc sv_percent_decode(sv_str *out, sv_arena *a, sv_str in, sv_err *err) { return percent(out, a, in, false, err); }
sv_rc sv_form_decode(sv_str *out, sv_arena *a, sv_str in, sv_err *err) { return percent(out, a, in, true, err); }

void sv_percent_encode(sv_buf *out, sv_str in)
{
    for (size_t i = 0; i < in.n; i++) {
        unsigned char c = (unsigned char)in.p[i];
        if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-._~", c)))
            sv_buf_addc(out, (char)c);
        else
            sv_buf_addf(out, "%%%02X", c);
    }
}

/* ---- UTF-8 ---- */

/* Length of the valid character at p (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF); 0: broken; -1: cut off by the end. */
static int utf8_char(const unsigned char *p, size_t n)
{
    unsigned char c = p[0];
    if (c < 0x80)
        return 1;
    int len = c >= 0xC2 && c <= 0xDF ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    unsigned char lo = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, hi = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    for (int i = 1; i < len; i++) {
        if ((size_t)i >= n)
            return -1;
        if (p[i] < lo || p[i] > hi)
            return 0;
        lo = 0x80, hi = 0xBF;
    }
    return len;
}

bool sv_utf8_valid(sv_str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    for (size_t i = 0; i < s.n;) {
        int len = utf8_char(p + i, s.n - i);
        if (len <= 0)
            return false;
        i += (size_t)len;
    }
    return true;
}

size_t sv_utf8_len(sv_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

size_t sv_utf8_whole(sv_str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    for (size_t back = 1; back <= 3 && back <= s.n; back++) {
        size_t i = s.n - back;
        if ((p[i] & 0xC0) == 0x80)
            continue; /* a continuation: the start lies further back */
        return utf8_char(p + i, back) == -1 ? i : s.n;
    }
    return s.n;
}
