/* floats.c - float32 text both ways
 *
 * Vectors are most of the JSON that this program moves, and strtod and printf move it at a tenth of the speed of everything around it.
 *
 * In. A number is at most 19 significant digits w, eight a step, and a power of ten; w * 10^e is computed in double. Three
 * roundings (w, the table's power, the product) are off by less than 4 units in the last of double's 53 bits, and a float32 keeps 24 of
 * them: the 29 below decide only how to round. Unless they lie within 8 of the half way between two floats, our double rounds to the same float32 as
 * the right one; where they do (once in 30 million random numbers), and outside float32's normal range, strtod decides. Digits past the 19th
 * are worth less than 2^-59 of the number and are covered by the same margin. By way of double, and not straight to the nearest float32,
 * because who sends 17 digits has a double that is half way and a text that is not: it must become what its own cast makes of it.
 *
 * Out. The shortest digits inside the interval that rounds to x, found by Schubfach (R. Giulietti, "The Schubfach way to render doubles",
 * 2020): scaled by a power of ten the interval is 4 to 40 units wide, so at most one multiple of ten and at most two
 * integers compete; three 64 by 32 bit products in which the lost bits are kept as one sticky bit decide exactly.
 *
 * Invariants: 1. nothing past text.n is read; 2. sv_float_write stays below SV_FLOAT_TEXT although it copies 16 bytes at a time. */
#include "base/floats.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- in ---- */

enum { POW_MIN = -64, POW_MAX = 38, MAX_W_DIGITS = 19, HALF_WINDOW = 8 };

static const double pow10_d[] = {
    1e-64, 1e-63, 1e-62, 1e-61, 1e-60, 1e-59, 1e-58, 1e-57, 1e-56, 1e-55, 1e-54, 1e-53, 1e-52, 1e-51, 1e-50,
    1e-49, 1e-48, 1e-47, 1e-46, 1e-45, 1e-44, 1e-43, 1e-42, 1e-41, 1e-40, 1e-39, 1e-38, 1e-37, 1e-36, 1e-35,
    1e-34, 1e-33, 1e-32, 1e-31, 1e-30, 1e-29, 1e-28, 1e-27, 1e-26, 1e-25, 1e-24, 1e-23, 1e-22, 1e-21, 1e-20,
    1e-19, 1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9,  1e-8,  1e-7,  1e-6,  1e-5,
    1e-4,  1e-3,  1e-2,  1e-1,  1e0,   1e1,   1e2,   1e3,   1e4,   1e5,   1e6,   1e7,   1e8,   1e9,   1e10,
    1e11,  1e12,  1e13,  1e14,  1e15,  1e16,  1e17,  1e18,  1e19,  1e20,  1e21,  1e22,  1e23,  1e24,  1e25,
    1e26,  1e27,  1e28,  1e29,  1e30,  1e31,  1e32,  1e33,  1e34,  1e35,  1e36,  1e37,  1e38};

static inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Eight digits as bytes 0 to 9, first one lowest, to their number. */
static inline uint32_t eight(uint64_t v)
{
    v = v * 10 + (v >> 8); /* pairs in every second byte */
    return (uint32_t)((((v & 0x000000ff000000ffu) * 0x000f424000000064u) + (((v >> 16) & 0x000000ff000000ffu) * 0x0000271000000001u)) >> 32);
}

/* Appends the digits at p to *w, which wraps when they are more than 19 (the caller counts them). Returns the place behind. */
static inline const char *digits(const char *p, const char *end, uint64_t *w)
{
    static const uint32_t pow10_i[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    while (end - p >= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        v ^= 0x3030303030303030u;
        /* high bit of the bytes over 9; a carry can only spoil bytes behind the first of them */
        uint64_t bad = ((v + 0x7676767676767676u) | v) & 0x8080808080808080u;
        if (bad == 0) {
            *w = *w * 100000000 + eight(v);
            p += 8;
            continue;
        }
        int n = __builtin_ctzll(bad) >> 3;
        if (n == 0)
            return p;
        *w = *w * pow10_i[n] + eight(v << (64 - 8 * n));
        return p + n;
    }
    for (; p < end && is_digit(*p); p++)
        *w = *w * 10 + (uint64_t)(*p - '0');
    return p;
}

typedef struct number {
    const char *at, *end; /* its text */
    uint64_t w; /* its digits, or the first 19 */
    int exp10;
    bool negative;
} number;

/* The first 19 significant digits of a text that has more; the number of digits dropped goes to the exponent. */
static void long_digits(number *x, const char *from, const char *to, int written_exp)
{
    int kept = 0, dropped = 0, after_point = 0;
    bool point = false;
    x->w = 0;
    for (const char *p = from; p < to; p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        after_point += point;
        if (kept == MAX_W_DIGITS)
            dropped++;
        else if (kept || *p != '0') {
            x->w = x->w * 10 + (uint64_t)(*p - '0');
            kept++;
        }
    }
    x->exp10 = written_exp - after_point + dropped;
}

static const char *exponent(const char *p, const char *end, int *out)
{
    bool minus = false;
    if (p < end && (*p == '+' || *p == '-'))
        minus = *p++ == '-';
    if (p == end || !is_digit(*p))
        return NULL;
    int e = 0;
    for (; p < end && is_digit(*p); p++)
        e = e < 100000 ? e * 10 + (*p - '0') : e;
    *out = minus ? -e : e;
    return p;
}

/* JSON's grammar of a number at p. false: it is none. */
static inline bool scan(number *x, const char *p, const char *end)
{
    x->at = p;
    x->w = 0;
    int exp = 0, after_point = 0;
    x->negative = p < end && *p == '-';
    p += x->negative;
    const char *first = p, *significant = p;
    if (p < end && *p == '0')
        significant = ++p;
    else
        p = digits(p, end, &x->w);
    if (p == first || (x->w == 0 && p < end && is_digit(*p)))
        return false;
    long n_digits = p - significant;
    if (p < end && *p == '.') {
        const char *point = ++p;
        if (x->w == 0 && n_digits == 0)
            while (p < end && *p == '0')
                p++;
        significant = p;
        p = digits(p, end, &x->w);
        if (p == point)
            return false;
        n_digits += p - significant;
        after_point = (int)(p - point > SV_FLOAT_MAX_DIGITS ? SV_FLOAT_MAX_DIGITS : p - point);
    }
    const char *mantissa_end = p;
    if (p < end && (*p == 'e' || *p == 'E') && !(p = exponent(p + 1, end, &exp)))
        return false;
    x->end = p;
    x->exp10 = exp - after_point;
    if (n_digits > MAX_W_DIGITS && x->end - x->at <= SV_FLOAT_MAX_DIGITS)
        long_digits(x, first, mantissa_end, exp);
    return true;
}

/* libc's word on what the short way cannot decide. The text is a number of JSON's grammar, and short enough. */
static bool by_libc(const number *x, float *out)
{
    char text[SV_FLOAT_MAX_DIGITS + 1];
    size_t n = (size_t)(x->end - x->at);
    memcpy(text, x->at, n);
    text[n] = '\0';
    *out = (float)strtod(text, NULL);
    return isfinite(*out);
}

static inline bool convert(const number *x, float *out)
{
    if (x->w == 0) {
        *out = x->negative ? -0.0f : 0.0f;
        return true;
    }
    if (x->exp10 < POW_MIN || x->exp10 > POW_MAX)
        return by_libc(x, out);
    double d = (double)x->w * pow10_d[x->exp10 - POW_MIN];
    uint64_t bits;
    memcpy(&bits, &d, 8);
    uint32_t below = (uint32_t)bits & 0x1fffffff;
    if (below - (0x10000000u - HALF_WINDOW) <= 2 * HALF_WINDOW || d < 0x1.000002p-126 || d > 0x1.fffffep127)
        return by_libc(x, out);
    *out = (float)(x->negative ? -d : d);
    return true;
}

static inline const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

static sv_rc not_a_number(const char *p, const char *end, size_t i, sv_err *err)
{
    size_t n = 0;
    while (n < 24 && p + n < end && strchr(",] \t\r\n\"{[", p[n]) == NULL && (unsigned char)p[n] >= 0x20 && (unsigned char)p[n] < 0x7f)
        n++;
    if (p == end)
        return sv_fail(err, SV_EFORMAT, "the text ends at number %zu of the array", i);
    if (n == 0)
        return sv_fail(err, SV_EFORMAT, "entry %zu of the array is no number", i);
    if (n == 4 && memcmp(p, "null", 4) == 0) /* what JSON.stringify makes of NaN and infinities */
        return sv_fail(err, SV_EFORMAT, "entry %zu of the array is null; NaN and infinities are not taken", i);
    return sv_fail(err, SV_EFORMAT, "entry %zu of the array is no number: '%.*s'", i, (int)n, p);
}

sv_rc sv_floats_read(float *out, size_t max, sv_str text, size_t *n, size_t *used, sv_err *err)
{
    const char *p = text.p, *end = text.p + text.n;
    size_t i = 0;
    if (text.n == 0 || *p != '[')
        return sv_fail(err, SV_EFORMAT, "not an array of numbers");
    p = skip_space(p + 1, end);
    if (p < end && *p == ']') {
        *n = 0;
        *used = (size_t)(p + 1 - text.p);
        return SV_OK;
    }
    for (;; i++) {
        number x;
        float f;
        if (!scan(&x, p, end))
            return not_a_number(p, end, i, err);
        if (x.end - x.at > SV_FLOAT_MAX_DIGITS)
            return sv_fail(err, SV_EFORMAT, "number %zu of the array has %td characters, at most %d", i, x.end - x.at, SV_FLOAT_MAX_DIGITS);
        if (!convert(&x, &f))
            return sv_fail(err, SV_EFORMAT, "number %zu of the array is over the range of float32: '%.*s'", i, (int)(x.end - x.at > 40 ? 40 : x.end - x.at), x.at);
        if (i < max)
            out[i] = f;
        p = x.end;
        if (p < end && *p != ',' && *p != ']')
            p = skip_space(p, end);
        if (p < end && *p == ']')
            break;
        if (p == end || *p != ',')
            return p == end ? not_a_number(p, end, i, err) : sv_fail(err, SV_EFORMAT, "number %zu of the array is followed by neither ',' nor ']'", i);
        p++;
        if (p < end && *p <= ' ')
            p = skip_space(p, end);
    }
    *n = i + 1;
    *used = (size_t)(p + 1 - text.p);
    return SV_OK;
}

/* ---- out ---- */

/* 10^k for k = -31 to 46, scaled to 64 bits with the highest set, rounded up. Computed with rationals. */
enum { G_MIN = -31 };
static const uint64_t pow10_g[] = {
    0x81ceb32c4b43fcf5, 0xa2425ff75e14fc32, 0xcad2f7f5359a3b3f, 0xfd87b5f28300ca0e, 0x9e74d1b791e07e49, 0xc612062576589ddb,
    0xf79687aed3eec552, 0x9abe14cd44753b53, 0xc16d9a0095928a28, 0xf1c90080baf72cb2, 0x971da05074da7bef, 0xbce5086492111aeb,
    0xec1e4a7db69561a6, 0x9392ee8e921d5d08, 0xb877aa3236a4b44a, 0xe69594bec44de15c, 0x901d7cf73ab0acda, 0xb424dc35095cd810,
    0xe12e13424bb40e14, 0x8cbccc096f5088cc, 0xafebff0bcb24aaff, 0xdbe6fecebdedd5bf, 0x89705f4136b4a598, 0xabcc77118461cefd,
    0xd6bf94d5e57a42bd, 0x8637bd05af6c69b6, 0xa7c5ac471b478424, 0xd1b71758e219652c, 0x83126e978d4fdf3c, 0xa3d70a3d70a3d70b,
    0xcccccccccccccccd, 0x8000000000000000, 0xa000000000000000, 0xc800000000000000, 0xfa00000000000000, 0x9c40000000000000,
    0xc350000000000000, 0xf424000000000000, 0x9896800000000000, 0xbebc200000000000, 0xee6b280000000000, 0x9502f90000000000,
    0xba43b74000000000, 0xe8d4a51000000000, 0x9184e72a00000000, 0xb5e620f480000000, 0xe35fa931a0000000, 0x8e1bc9bf04000000,
    0xb1a2bc2ec5000000, 0xde0b6b3a76400000, 0x8ac7230489e80000, 0xad78ebc5ac620000, 0xd8d726b7177a8000, 0x878678326eac9000,
    0xa968163f0a57b400, 0xd3c21bcecceda100, 0x84595161401484a0, 0xa56fa5b99019a5c8, 0xcecb8f27f4200f3a, 0x813f3978f8940985,
    0xa18f07d736b90be6, 0xc9f2c9cd04674edf, 0xfc6f7c4045812297, 0x9dc5ada82b70b59e, 0xc5371912364ce306, 0xf684df56c3e01bc7,
    0x9a130b963a6c115d, 0xc097ce7bc90715b4, 0xf0bdc21abb48db21, 0x96769950b50d88f5, 0xbc143fa4e250eb32, 0xeb194f8e1ae525fe,
    0x92efd1b8d0cf37bf, 0xb7abc627050305ae, 0xe596b7b0c643c71a, 0x8f7e32ce7bea5c70, 0xb35dbf821ae4f38c, 0xe0352f62a19e306f};

/* floor(log2(10^e)), floor(log10(2^e)), floor(log10(3/4 * 2^e)) in fixed point: exact for |e| below 1,000. */
static inline int log2_pow10(int e) { return (e * 1741647) >> 19; }
static inline int log10_pow2(int e) { return (e * 1262611) >> 22; }
static inline int log10_three_quarters(int e) { return (e * 1262611 - 524031) >> 22; }

/* g * x / 2^64 with everything below as one sticky bit: "round to odd" keeps comparisons right. */
static inline uint32_t scaled(uint64_t g, uint32_t x)
{
    unsigned __int128 p = (unsigned __int128)g * x;
    uint32_t high = (uint32_t)(p >> 64), low = (uint32_t)((uint64_t)p >> 32);
    return high | (low > 1);
}

typedef struct decimal { uint32_t digits; int exp10; } decimal; /* digits * 10^exp10 */

/* c * 2^q, with c the 24-bit significand; narrow: the float below is half as far away as the one above. */
static decimal shortest(uint32_t c, int q, bool narrow)
{
    bool odd = c & 1;
    int k = narrow ? log10_three_quarters(q) : log10_pow2(q);
    int h = q + log2_pow10(-k) + 1;
    uint64_t g = pow10_g[-k - G_MIN];
    uint32_t lower = scaled(g, (4 * c - (narrow ? 1 : 2)) << h) + odd, v = scaled(g, (4 * c) << h),
             upper = scaled(g, (4 * c + 2) << h) - odd, s = v / 4;
    if (s >= 10) {
        uint32_t tens = s / 10;
        bool down = lower <= 40 * tens, up = 40 * tens + 40 <= upper;
        if (down != up)
            return (decimal){tens + up, k + 1};
    }
    bool down = lower <= 4 * s, up = 4 * s + 4 <= upper;
    if (down != up)
        return (decimal){s + up, k};
    uint32_t middle = 4 * s + 2;
    return (decimal){s + (v > middle || (v == middle && (s & 1))), k};
}

/* Nine digits with leading zeros. */
static inline void nine(char *to, uint32_t x)
{
    uint32_t first = x / 100000000, rest = x - first * 100000000, high = rest / 10000;
    uint64_t v = high | (uint64_t)(rest - high * 10000) << 32;
    uint64_t t = ((v * 10486) >> 20) & 0x0000007f0000007fu; /* hundreds of both halves */
    v = t | (v - t * 100) << 16;
    t = ((v * 103) >> 10) & 0x000f000f000f000fu; /* tens of all four */
    v = (t | (v - t * 10) << 8) + 0x3030303030303030u;
    to[0] = (char)('0' + first);
    memcpy(to + 1, &v, 8);
}

static inline int n_digits(uint32_t x)
{
    if (x >= 10000000)
        return x >= 100000000 ? 9 : 8;
    return x >= 100000 ? (x >= 1000000 ? 7 : 6) : x >= 1000 ? (x >= 10000 ? 5 : 4) : x >= 100 ? 3 : x >= 10 ? 2 : 1;
}

/* `point` digits stand before the decimal point: JavaScript's rule for which form a number takes. */
static size_t layout(char *out, decimal d)
{
    char text[32] = {0};
    while (d.digits % 10 == 0) {
        d.digits /= 10;
        d.exp10++;
    }
    int n = n_digits(d.digits), point = n + d.exp10;
    nine(text, d.digits);
    const char *first = text + 9 - n;
    if (point > -6 && point <= 0) { /* 0.00123 */
        memcpy(out, "0.000000", 8);
        memcpy(out + 2 - point, first, 16);
        return (size_t)(2 - point + n);
    }
    if (point > 0 && point < n) { /* 1.23 */
        memcpy(out, first, 16);
        out[point] = '.';
        memcpy(out + point + 1, first + point, 16);
        return (size_t)n + 1;
    }
    if (point > 0 && point <= 21) { /* 12300 */
        memcpy(out, first, 16);
        memset(out + n, '0', (size_t)(point - n));
        return (size_t)point;
    }
    size_t at = 1;
    out[0] = first[0];
    if (n > 1) {
        out[at++] = '.';
        memcpy(out + at, first + 1, 16);
        at += (size_t)n - 1;
    }
    int e = point - 1;
    out[at++] = 'e';
    out[at++] = e < 0 ? '-' : '+';
    e = e < 0 ? -e : e;
    if (e >= 10)
        out[at++] = (char)('0' + e / 10);
    out[at++] = (char)('0' + e % 10);
    return at;
}

size_t sv_float_write(char out[SV_FLOAT_TEXT], float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint32_t fraction = bits & 0x7fffff, biased = bits >> 23 & 0xff;
    if (biased == 0xff) {
        memcpy(out, "null", 4);
        return 4;
    }
    size_t at = 0;
    if (bits >> 31)
        out[at++] = '-';
    if (biased == 0 && fraction == 0) {
        out[at++] = '0';
        return at;
    }
    /* The one float32 whose shortest text, 7.038531e-26, lies so near its border that the nearest double is on it (found by trying all). */
    if ((bits & 0x7fffffff) == 0x15ae43fd)
        return at + layout(out + at, (decimal){70385307, -33});
    uint32_t c = biased ? fraction | 0x800000 : fraction;
    int q = (biased ? (int)biased : 1) - 150;
    if (q <= 0 && q > -24 && (c & ((1u << -q) - 1)) == 0) /* a whole number below 2^24: its digits are the shortest */
        return at + layout(out + at, (decimal){c >> -q, 0});
    return at + layout(out + at, shortest(c, q, fraction == 0 && biased > 1));
}

void sv_floats_write(sv_buf *out, const float *x, size_t n)
{
    enum { BLOCK = 256 }; /* numbers a piece: one look at the buffer for each */
    sv_buf_addc(out, '[');
    for (size_t i = 0; i < n; i += BLOCK) {
        size_t to = n - i > BLOCK ? i + BLOCK : n;
        char *p = sv_buf_room(out, BLOCK * 25 + SV_FLOAT_TEXT), *from = p;
        if (!p)
            return;
        for (size_t k = i; k < to; k++) {
            if (k)
                *p++ = ',';
            p += sv_float_write(p, x[k]);
        }
        out->n += (size_t)(p - from);
    }
    sv_buf_addc(out, ']');
}
