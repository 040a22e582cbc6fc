/* unicode.c - categories, case and the four normalization forms, from tables made by unicode/generate.py
 *
 * Normalization follows UAX #15: every code point is replaced by its full decomposition, runs of marks are put in the order of
 * their combining classes, and the C forms then join each starter with the marks behind it that are not blocked. Hangul is
 * arithmetic (Unicode 16, section 3.12). A stranger may send a megabyte of combining marks, which an insertion sort would
 * answer in hours; long runs are counted instead.
 *
 * Broken UTF-8 is not refused: the tokenizers that can represent single bytes want to see them. Such a byte is a code point past
 * the end of Unicode, has no properties and comes out as it went in. */
#include "models/unicode.h"

#include <string.h>

#include "base/mem.h"
#include "models/unicode/tables.h"

int sv_uni_category(uint32_t c)
{
    return c > SV_UNI_MAX ? SV_UNI_CN : sv_uni_category_row[256u * sv_uni_category_page[c >> 8] + (c & 255)];
}

int sv_uni_category_run(uint32_t c, uint32_t *last)
{
    size_t lo = 0, hi = sv_uni_category_n_runs; /* runs[lo] begins at or before c, runs[hi] behind it */
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        if (sv_uni_category_runs[mid] >> 8 <= c)
            lo = mid;
        else
            hi = mid;
    }
    *last = hi < sv_uni_category_n_runs ? (sv_uni_category_runs[hi] >> 8) - 1 : SV_UNI_MAX;
    return sv_uni_category_runs[lo] & 255;
}

static uint8_t class_of(uint32_t c)
{
    return c > SV_UNI_MAX ? 0 : sv_uni_class_row[256u * sv_uni_class_page[c >> 8] + (c & 255)];
}

bool sv_uni_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static const sv_uni_map *find(const sv_uni_map *map, size_t n, uint32_t c)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (map[mid].from < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && map[lo].from == c ? &map[lo] : NULL;
}

static size_t change_case(uint32_t c, uint32_t out[3], const sv_uni_map *map, size_t n, const uint32_t *to)
{
    const sv_uni_map *m = find(map, n, c);
    out[0] = c;
    if (!m)
        return 1;
    for (size_t i = 0; i < m->n; i++)
        out[i] = to[m->start + i];
    return m->n;
}

size_t sv_uni_lower(uint32_t c, uint32_t out[3])
{
    if (c < 0x80) {
        out[0] = c >= 'A' && c <= 'Z' ? c + 32 : c;
        return 1;
    }
    return change_case(c, out, sv_uni_map_lower, sv_uni_map_lower_n, sv_uni_map_lower_to);
}

size_t sv_uni_upper(uint32_t c, uint32_t out[3])
{
    return change_case(c, out, sv_uni_map_upper, sv_uni_map_upper_n, sv_uni_map_upper_to);
}

size_t sv_uni_get(const char *p, size_t n, uint32_t *cp)
{
    const uint8_t *s = (const uint8_t *)p;
    size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    uint32_t c = len == 1 ? s[0] : len ? s[0] & (0x7fu >> len) : 0;

    *cp = SV_UNI_BROKEN + s[0];
    if (len == 0 || len > n)
        return 1;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 1;
        c = c << 6 | (s[i] & 0x3f);
    }
    /* Overlong forms of 2 bytes ended at the lead byte already. */
    if ((len == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) || (len == 4 && (c < 0x10000 || c > SV_UNI_MAX)))
        return 1;
    *cp = c;
    return len;
}

size_t sv_uni_put(char out[4], uint32_t c)
{
    if (c < 0x80 || c >= SV_UNI_BROKEN) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00u >> n & 0xff) | c);
    return n;
}

/* ---- normalization ---- */

enum { L0 = 0x1100, V0 = 0x1161, T0 = 0x11a7, S0 = 0xac00, N_L = 19, N_V = 21, N_T = 28, N_S = N_L * N_V * N_T };

typedef struct points {
    uint32_t *v;
    size_t n, cap;
} points;

static void points_donep(points *p)
{
    free(p->v);
}

static bool add(points *p, uint32_t c)
{
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 64;
        uint32_t *v = sv_try_realloc(p->v, cap, sizeof *v);
        if (!v)
            return false;
        p->v = v;
        p->cap = cap;
    }
    p->v[p->n++] = c;
    return true;
}

static bool add_all(points *p, const uint32_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!add(p, v[i]))
            return false;
    return true;
}

static bool decompose(points *p, uint32_t c, bool compat)
{
    const sv_uni_map *m;
    if (c < 0x80)
        return add(p, c);
    if (c >= S0 && c < S0 + N_S) {
        uint32_t s = c - S0, t = s % N_T;
        return add(p, L0 + s / (N_V * N_T)) && add(p, V0 + s % (N_V * N_T) / N_T) && (t == 0 || add(p, T0 + t));
    }
    if (compat && (m = find(sv_uni_map_nfkd, sv_uni_map_nfkd_n, c)))
        return add_all(p, sv_uni_map_nfkd_to + m->start, m->n);
    if ((m = find(sv_uni_map_nfd, sv_uni_map_nfd_n, c)))
        return add_all(p, sv_uni_map_nfd_to + m->start, m->n);
    return add(p, c);
}

/* Stable, by combining class. */
static bool sort_marks(uint32_t *v, size_t n)
{
    if (n <= 32) {
        for (size_t i = 1; i < n; i++) {
            uint32_t c = v[i];
            size_t k = i;
            for (; k > 0 && class_of(v[k - 1]) > class_of(c); k--)
                v[k] = v[k - 1];
            v[k] = c;
        }
        return true;
    }
    size_t at[257] = {0};
    SV_AUTO(sv_freep) uint32_t *copy = sv_try_calloc(n, sizeof *copy);
    if (!copy)
        return false;
    memcpy(copy, v, n * sizeof *v);
    for (size_t i = 0; i < n; i++)
        at[class_of(v[i]) + 1]++;
    for (size_t k = 0; k < 256; k++)
        at[k + 1] += at[k];
    for (size_t i = 0; i < n; i++)
        v[at[class_of(copy[i])]++] = copy[i];
    return true;
}

static bool sort_all(points *p)
{
    for (size_t i = 0; i < p->n;) {
        size_t from = i;
        while (i < p->n && class_of(p->v[i]) != 0)
            i++;
        if (i - from > 1 && !sort_marks(p->v + from, i - from))
            return false;
        i += i == from;
    }
    return true;
}

/* The two joined, or 0. */
static uint32_t join(uint32_t a, uint32_t b)
{
    if (a >= L0 && a < L0 + N_L && b >= V0 && b < V0 + N_V)
        return S0 + ((a - L0) * N_V + (b - V0)) * N_T;
    if (a >= S0 && a < S0 + N_S && (a - S0) % N_T == 0 && b > T0 && b < T0 + N_T)
        return a + (b - T0);
    size_t lo = 0, hi = sv_uni_compose_n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const sv_uni_pair *p = &sv_uni_compose[mid];
        if (p->first < a || (p->first == a && p->second < b))
            lo = mid + 1;
        else
            hi = mid;
    }
    const sv_uni_pair *p = &sv_uni_compose[lo];
    return lo < sv_uni_compose_n && p->first == a && p->second == b ? p->composed : 0;
}

static void compose(points *p)
{
    size_t n = 0, starter = SIZE_MAX;
    int last = -1; /* class of the code point kept last after the starter; -1: none is */
    for (size_t i = 0; i < p->n; i++) {
        uint32_t c = p->v[i], joined;
        int class = class_of(c);
        /* Blocked (D115): something between, and of a class that is not lower. */
        if (starter != SIZE_MAX && last < class && (joined = join(p->v[starter], c)) != 0) {
            p->v[starter] = joined;
            continue;
        }
        if (class == 0) {
            starter = n;
            last = -1;
        } else {
            last = class;
        }
        p->v[n++] = c;
    }
    p->n = n;
}

sv_rc sv_uni_normalize(sv_buf *out, sv_str text, sv_uni_form form, sv_err *err)
{
    SV_AUTO(points_donep) points p = {0};
    bool ok = true, compat = form == SV_UNI_NFKC || form == SV_UNI_NFKD;
    for (size_t i = 0; i < text.n && ok;) {
        uint32_t c;
        i += sv_uni_get(text.p + i, text.n - i, &c);
        ok = decompose(&p, c, compat);
    }
    if (!ok || !sort_all(&p))
        return sv_fail(err, SV_ENOMEM, "no memory to normalize %zu bytes", text.n);
    if (form == SV_UNI_NFC || form == SV_UNI_NFKC)
        compose(&p);
    for (size_t i = 0; i < p.n; i++) {
        char u[4];
        if (!sv_buf_add(out, u, sv_uni_put(u, p.v[i])))
            return sv_fail(err, SV_ELIMIT, "a text of %zu bytes grows over %zu when normalized", text.n, out->max);
    }
    return SV_OK;
}
