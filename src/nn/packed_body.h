/* packed_body.h - integer matmul over packed weights, written once; each instruction set's file includes it after kernels_vec.h
 *
 * The including file defines
 *     bvec                 a vector of 4 * LANES unsigned bytes
 *     v_fma(a, b, c)       a * b + c
 *     dot4(acc, w, x, wide) each lane of acc plus its 4 unsigned bytes of w times its 4 signed bytes of x; where `wide`, bytes of w go up to
 *                          255, else up to 63
 *     widen_halves(p)      LANES float16 as floats
 *     WIDE_IS_SIGNED       1: where `wide`, dot4 subtracts the zero of 128 by itself
 *     GROUPS               groups of 16 outputs computed at once; a row alone takes them one by one, which is one stream from memory
 *     ROW_TILES(X), MOST_ROWS   X(n) for the numbers of rows computed at once, from MOST_ROWS down to 1
 *     PACKED_SET, PACKED_NAME
 *
 * Invariants, which make results independent of company:
 *   1. An output's sum goes over blocks of 32 inputs in rising order: the integer sum of products, exact; times (weight scale *
 *      activation scale), rounded once, by one v_fma; then, where the type has minimums, minimum * activation sum by another.
 *      Q6_K does so for each half block.
 *   2. Tiles of outputs and rows only interleave such sums. */

typedef bvec ubvec __attribute__((aligned(1), may_alias));
typedef uint16_t hvec __attribute__((vector_size(4 * LANES)));
typedef uint32_t wvec __attribute__((vector_size(4 * LANES)));
typedef struct bytes16 { bvec v[NV]; } bytes16; /* a line: 4 inputs of 16 outputs */
typedef struct ints16 { ivec v[NV]; } ints16;

enum { BLOCK = SV_PACK_BLOCK, SPAN = SV_PACK_SPAN, ROWS = SV_PACK_ROWS, AHEAD = 4096 };

/* Scales and minimums of a span of one group, by block or half block. */
typedef struct span_scales { _Alignas(64) float d[2 * SPAN][ROWS], m[SPAN][ROWS]; } span_scales;

#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)

static ALWAYS_INLINE void store16(float *p, acc16 a)
{
    EACH(i, NV) v_store(p + i * LANES, a.v[i]);
}

static ALWAYS_INLINE acc16 load16(const float *p)
{
    acc16 a;
    EACH(i, NV) a.v[i] = v_load(p + i * LANES);
    return a;
}

static ALWAYS_INLINE acc16 halves16(const uint8_t *p)
{
    acc16 a;
    EACH(i, NV) a.v[i] = widen_halves(p + 2 * i * LANES);
    return a;
}

/* Byte `at` of each output's word, signed or not, as floats times d. */
static ALWAYS_INLINE acc16 byte_of_words(const ints16 words, int at, bool is_signed, acc16 d)
{
    acc16 a;
    EACH(i, NV)
    {
        ivec left = words.v[i] << (24 - 8 * at);
        a.v[i] = d.v[i] * __builtin_convertvector(is_signed ? left >> 24 : (ivec)((wvec)left >> 24), vec);
    }
    return a;
}

static ALWAYS_INLINE ints16 words16(const uint8_t *p)
{
    ints16 w;
    memcpy(&w, p, sizeof w);
    return w;
}

/* The eight 6-bit scales and minimums of 16 outputs: see k_scale in tensor.c. */
static void expand_k(span_scales *s, const uint8_t *p)
{
    ints16 a = words16(p + 64), b = words16(p + 128), c = words16(p + 192), scale[2], min[2];
    acc16 d = halves16(p), dmin = halves16(p + 32);
    EACH(i, NV)
    {
        wvec wa = (wvec)a.v[i], wb = (wvec)b.v[i], wc = (wvec)c.v[i];
        scale[0].v[i] = (ivec)(wa & 0x3f3f3f3fu);
        min[0].v[i] = (ivec)(wb & 0x3f3f3f3fu);
        scale[1].v[i] = (ivec)((wc & 0x0f0f0f0fu) | (wa >> 6 & 0x03030303u) << 4);
        min[1].v[i] = (ivec)((wc >> 4 & 0x0f0f0f0fu) | (wb >> 6 & 0x03030303u) << 4);
        dmin.v[i] = -dmin.v[i];
    }
    EACH(at, 8)
    {
        store16(s->d[at], byte_of_words(scale[at / 4], at % 4, false, d));
        store16(s->m[at], byte_of_words(min[at / 4], at % 4, false, dmin));
    }
}

static void expand_16(span_scales *s, const uint8_t *p)
{
    acc16 d = halves16(p + 256);
    for (int i = 0; i < 4; i++) {
        ints16 w = words16(p + 64 * i);
        EACH(at, 4) store16(s->d[4 * i + at], byte_of_words(w, at, true, d));
    }
}

/* Not inlined, for the compiler's sake: one call a span and group. */
static __attribute__((noinline)) void expand(span_scales *s, sv_pack_scales kind, const uint8_t *p, int n_blocks)
{
    if (kind == SV_SCALES_K)
        expand_k(s, p);
    else if (kind == SV_SCALES_16)
        expand_16(s, p);
    else
        for (int b = 0; b < n_blocks; b++) {
            store16(s->d[b], halves16(p));
            p += 32;
            if (kind == SV_SCALES_HALF_MIN) {
                store16(s->m[b], halves16(p));
                p += 32;
            }
        }
}

/* Lines 2 i and 2 i + 1 of a block. */
static ALWAYS_INLINE void two_lines(bytes16 w[2], sv_pack_format f, const uint8_t *block, int i)
{
    const uint8_t *low = block + (f.bits == 5 ? 64 : f.bits == 6 ? 128 : 0);
    EACH(v, NV)
    {
        const size_t at = (size_t)v * sizeof(bvec);
        if (f.bits == 8) {
            w[0].v[v] = *(const ubvec *)(block + 128 * i + at);
            w[1].v[v] = *(const ubvec *)(block + 128 * i + 64 + at);
            continue;
        }
        bvec q = *(const ubvec *)(low + 64 * i + at);
        w[0].v[v] = q & 15;
        w[1].v[v] = (bvec)((hvec)q >> 4) & 15;
        if (f.bits == 5) {
            hvec h = (hvec) * (const ubvec *)(block + at);
            w[0].v[v] |= (bvec)(i < 2 ? h << (4 - 2 * i) : h >> (2 * i - 4)) & 16;
            w[1].v[v] |= (bvec)(i < 2 ? h << (3 - 2 * i) : h >> (2 * i - 3)) & 16;
        } else if (f.bits == 6) {
            hvec h = (hvec) * (const ubvec *)(block + 64 * (i / 2) + at);
            w[0].v[v] |= (bvec)(i % 2 == 0 ? h << 4 : h) & 48;
            w[1].v[v] |= (bvec)(i % 2 == 0 ? h << 2 : h >> 2) & 48;
        }
    }
}

static ALWAYS_INLINE ivec four_inputs(const int8_t *q)
{
    int32_t x;
    memcpy(&x, q, sizeof x);
    return (ivec){0} + x;
}

/* inv. 1: what the sum of half h of a block (whole: of all) begins with, so that the weights' zero is subtracted. */
static ALWAYS_INLINE ivec zero_part(sv_pack_format f, const sv_q8 *x, int h, bool whole)
{
    if (f.zero_shift == 0 || (WIDE_IS_SIGNED && f.bits == 8))
        return (ivec){0};
    int32_t minus = whole ? x->minus[0] + x->minus[1] : x->minus[h];
    return ((ivec){0} + minus) << f.zero_shift;
}

typedef struct tile_at { /* of n_groups groups and n_rows rows */
    const sv_q8 *x;
    int64_t x_stride; /* blocks a row */
    const uint8_t *w;
    size_t group_bytes;
} tile_at;

/* One block. */
static ALWAYS_INLINE void add_block(acc16 sum[][GROUPS], sv_pack_format f, const tile_at *t, const uint8_t *block, const span_scales *s, int64_t k, int b,
                                    int n_groups, int n_rows)
{
    const int n_parts = f.scales == SV_SCALES_16 ? 2 : 1;
    ints16 acc[MOST_ROWS][GROUPS];
    EACH(part, n_parts)
    {
        EACH(r, n_rows)
        {
            ivec zero = zero_part(f, t->x + r * t->x_stride + k, part, n_parts == 1);
            EACH(g, n_groups) EACH(v, NV) acc[r][g].v[v] = zero;
        }
        EACH(i, 4 / n_parts)
        {
            const int pair = part * 2 + i;
            bytes16 w[GROUPS][2];
            EACH(g, n_groups) two_lines(w[g], f, block + (size_t)g * t->group_bytes, pair);
            EACH(r, n_rows)
            {
                const int8_t *q = t->x[r * t->x_stride + k].q + 8 * pair;
                EACH(half, 2)
                {
                    ivec x = four_inputs(q + 4 * half);
                    EACH(g, n_groups) EACH(v, NV) acc[r][g].v[v] = dot4(acc[r][g].v[v], w[g][half].v[v], x, f.bits == 8);
                }
            }
        }
        EACH(r, n_rows)
        {
            const sv_q8 *x = t->x + r * t->x_stride + k;
            const vec scale = v_set1(x->scale), x_sum = v_set1(x->sum);
            EACH(g, n_groups) EACH(v, NV)
            {
                vec d = v_load(s[g].d[n_parts * b + part] + v * LANES) * scale;
                sum[r][g].v[v] = v_fma(__builtin_convertvector(acc[r][g].v[v], vec), d, sum[r][g].v[v]);
                if (f.scales == SV_SCALES_K || f.scales == SV_SCALES_HALF_MIN)
                    sum[r][g].v[v] = v_fma(v_load(s[g].m[b] + v * LANES), x_sum, sum[r][g].v[v]);
            }
        }
    }
}

/* The results of one row of a tile. */
static __attribute__((noinline)) void put(const sv_matmul *op, int32_t row, int64_t column, const float *sums, int64_t n)
{
    float *y = (op->y_rows ? op->y_rows[row] : op->y + (int64_t)row * op->w->dims[1]) + column;
    n = op->w->dims[1] - column < n ? op->w->dims[1] - column : n;
    for (int64_t i = 0; i < n; i++) {
        float v = op->bias ? sums[i] + op->bias[column + i] : sums[i];
        y[i] = op->add ? y[i] + v : v;
    }
}

/* Memory answers late. CPUs fetch ahead by themselves, but not over the borders of pages, and not far enough where blocks take long to unpack
 * (one row, [2048, 8192], one core of a Zen 5: Q4_K 21 GB/s without and 38 with, Q8_0 38 both ways). */
static ALWAYS_INLINE void fetch(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i += 64)
        __builtin_prefetch(p + i, 0, 3);
}

static ALWAYS_INLINE void packed_tile(const sv_matmul *op, sv_pack_format f, int64_t at, int32_t row, int n_groups, int n_rows)
{
    int64_t n_blocks = op->w->dims[0] / BLOCK;
    tile_at t = {.x = op->xq + row * n_blocks, .x_stride = n_blocks, .group_bytes = sv_pack_group_bytes(f, op->w->dims[0])};
    t.w = (const uint8_t *)op->w->data + (size_t)at * t.group_bytes;
    acc16 sum[MOST_ROWS][GROUPS];
    span_scales s[GROUPS];
    EACH(r, n_rows) EACH(g, n_groups) EACH(v, NV) sum[r][g].v[v] = v_set1(0.0f);
    for (int64_t k = 0; k < n_blocks; k += SPAN) {
        int n = n_blocks - k < SPAN ? (int)(n_blocks - k) : SPAN;
        EACH(g, n_groups) expand(&s[g], f.scales, t.w + (size_t)g * t.group_bytes, n);
        const uint8_t *block = t.w + sv_pack_head_bytes(f, n);
        for (int b = 0; b < n; b++, block += sv_pack_block_bytes(f)) {
            if (row == 0) /* the first to come by */
                EACH(g, n_groups) fetch(block + (size_t)g * t.group_bytes + AHEAD, sv_pack_block_bytes(f));
            add_block(sum, f, &t, block, s, k + b, b, n_groups, n_rows);
        }
        t.w = block;
    }
    float out[MOST_ROWS][GROUPS * ROWS];
    EACH(r, n_rows) EACH(g, n_groups) store16(out[r] + g * ROWS, sum[r][g]);
    for (int r = 0; r < n_rows; r++)
        put(op, row + r, at * ROWS, out[r], n_groups * ROWS);
}

/* Groups [at, end) for all rows, GROUPS at once (inv. 2). Few shapes of tiles, since each is some kilobytes of code for each type: what is
 * left of the rows is done by the next smaller one, and a last odd group row by row. */
#define MATMUL_OF(type, ...)                                                                        \
    static void matmul_##type(const sv_matmul *op, int64_t at, int64_t end)                         \
    {                                                                                               \
        const sv_pack_format f = {__VA_ARGS__};                                                     \
        for (; op->n_rows == 1 && at < end; at++)                                                   \
            packed_tile(op, f, at, 0, 1, 1);                                                        \
        for (; at + GROUPS <= end; at += GROUPS) {                                                  \
            int32_t row = 0;                                                                        \
            ROW_TILES(ROWS_OF)                                                                      \
        }                                                                                           \
        for (; GROUPS > 1 && at < end; at++)                                                        \
            for (int32_t row = 0; row < op->n_rows; row++)                                          \
                packed_tile(op, f, at, row, 1, 1);                                                  \
    }
#define ROWS_OF(n)                            \
    for (; row + n <= op->n_rows; row += n)   \
        packed_tile(op, f, at, row, GROUPS, n);
SV_PACK_FORMATS(MATMUL_OF)

static void packed_matmul(const sv_matmul *op, int64_t begin, int64_t end)
{
    int64_t at = begin / ROWS, last = (end + ROWS - 1) / ROWS;
    switch (op->w->type) {
#define CASE(type, ...) case type: matmul_##type(op, at, last); return;
        SV_PACK_FORMATS(CASE)
#undef CASE
    default: SV_ASSERT(!"the type has a packed form");
    }
}

/* --- activations -------------------------------------------------------------------------------------------------- */

static ALWAYS_INLINE void quantise_block(sv_q8 *dst, const float *x)
{
    const float round = 0x1.8p23f; /* adding it leaves the nearest integer, ties to even, in the low bits */
    float max = 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        float a = x[i] < 0.0f ? -x[i] : x[i];
        max = a > max ? a : max;
    }
    float inverse = max > 0x1p-100f ? 127.0f / max : 0.0f;
    int32_t sums[2] = {0, 0}, q[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        float v = x[i] * inverse + round;
        int32_t bits;
        memcpy(&bits, &v, sizeof bits);
        q[i] = (int8_t)bits;
    }
    for (int i = 0; i < BLOCK / 2; i++) {
        sums[0] += q[i];
        sums[1] += q[i + BLOCK / 2];
    }
    for (int i = 0; i < BLOCK; i++)
        dst->q[i] = (int8_t)q[i];
    dst->scale = max * (1.0f / 127.0f);
    dst->sum = dst->scale * (float)(sums[0] + sums[1]);
    dst->minus[0] = -sums[0];
    dst->minus[1] = -sums[1];
}

static void quantise(sv_q8 *dst, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n / BLOCK; i++)
        quantise_block(dst + i, x + i * BLOCK);
}

const sv_packed_set PACKED_SET = {.matmul = packed_matmul, .quantise = quantise};
