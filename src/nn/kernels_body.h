/* kernels_body.h - the vector kernels, written once; each instruction set's file includes it after kernels_vec.h
 *
 * The including file defines
 *     v_fma(a, b, c)    a * b + c
 *     sum16(const vec *) the 16 lanes added pairwise: l and l + 8, then 4, 2, 1
 *     TILE_OUT, TILE_ROWS, TILE_CASES(X), STREAM_ROWS, STREAM_CASES(X), TILE_QUERIES, QUERY_CASES(X)   what the registers hold at once
 *     max_lane(vec)     the largest lane
 *     FUSED(X)          X(type, prepare, load, span, span_bytes) for each type it unpacks in registers, exactly as sv_dequantize
 *                       would; see `loader`
 *     KERNEL_SET
 *
 * Invariants, which make results independent of company:
 *   1. A sum over k has 16 lanes; lane l adds the products of k = l (mod 16) in rising order, one v_fma each. A row that
 *      is no multiple of 32 is continued with zeros.
 *   2. Tiles of outputs and rows only interleave such sums. Few rows (unpacked in registers, streaming the weights) and many
 *      rows (unpacked once into a panel, then used from the L2 cache by all rows) give the same bits.
 *   3. Attention adds a query's positions in rising order and rescales at page borders only; queries are computed together only
 *      where each of them sees the same slots of the page. */

enum { STREAM_COLUMNS = 4 }; /* columns of weights streamed at once for one row; half of it for more */

static ALWAYS_INLINE acc16 acc_zero(void)
{
    acc16 a;
    UNROLL
    for (int i = 0; i < NV; i++)
        a.v[i] = v_set1(0.0f);
    return a;
}

/* inv. 1 */
static ALWAYS_INLINE acc16 acc_fma(acc16 a, group w, group x)
{
    UNROLL
    for (int i = 0; i < GV; i++)
        a.v[i % NV] = v_fma(w.v[i], x.v[i], a.v[i % NV]);
    return a;
}

/* The last n < 32 floats of a row, continued with zeros. */
static ALWAYS_INLINE group group_tail(const float *p, int64_t n)
{
    float t[GROUP] = {0};
    memcpy(t, p, (size_t)n * sizeof *t);
    return group_load(t);
}

/* --- matmul ------------------------------------------------------------------------------------------------------- */

/* How one type is unpacked: in spans of `span` groups and `span_bytes` bytes at p. What the groups of a span share is prepared once;
 * s is a constant wherever load is called, so that its shifts are too. */
typedef struct loader {
    void (*prepare)(scales *sc, const uint8_t *p);
    group (*load)(const uint8_t *p, int s, const scales *sc);
    int span, span_bytes;
} loader;

static ALWAYS_INLINE void prepare_none(scales *sc, const uint8_t *p)
{
    (void)sc;
    (void)p;
}

static ALWAYS_INLINE group load_f32(const uint8_t *p, int s, const scales *sc)
{
    (void)s;
    (void)sc;
    return group_load((const float *)(const void *)p);
}

static ALWAYS_INLINE void put(const sv_matmul *op, int32_t row, int64_t column, float v)
{
    float *y = op->y_rows ? op->y_rows[row] : op->y + (int64_t)row * op->w->dims[1];
    if (op->bias)
        v += op->bias[column];
    y[column] = op->add ? y[column] + v : v;
}

/* n_out columns for n_rows rows of x, weights unpacked in registers as they stream by. Where `next`, the columns after these are
 * fetched meanwhile: a row of some kilobytes ends before the CPU's own prefetching has understood it (Q8_0, 4096 a row, one
 * core of a Zen 5: 10 GB/s without, 21 with). */
static ALWAYS_INLINE void stream(const sv_matmul *op, loader l, int64_t column, int n_out, int n_rows, bool next)
{
    int64_t n = op->w->dims[0], k = 0;
    size_t row_bytes = sv_type_bytes(op->w->type, n);
    const uint8_t *w = (const uint8_t *)op->w->data + (size_t)column * row_bytes;
    const float *x = op->x;
    acc16 acc[STREAM_ROWS][STREAM_COLUMNS];
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int o = 0; o < n_out; o++)
            acc[r][o] = acc_zero();
    }
    for (int64_t at = 0; k + GROUP * l.span <= n; k += GROUP * l.span, at += l.span_bytes) {
        scales sc[STREAM_COLUMNS];
        UNROLL
        for (int o = 0; o < n_out; o++) {
            l.prepare(&sc[o], w + (size_t)o * row_bytes + at);
            for (int i = 0; next && i < l.span_bytes; i += 64)
                __builtin_prefetch(w + (size_t)(n_out + o) * row_bytes + at + i, 0, 2);
        }
        UNROLL
        for (int s = 0; s < l.span; s++) {
            group xs[STREAM_ROWS];
            UNROLL
            for (int r = 0; r < n_rows; r++)
                xs[r] = group_load(x + r * n + k + s * GROUP);
            UNROLL
            for (int o = 0; o < n_out; o++) {
                group g = l.load(w + (size_t)o * row_bytes + at, s, &sc[o]);
                UNROLL
                for (int r = 0; r < n_rows; r++)
                    acc[r][o] = acc_fma(acc[r][o], g, xs[r]);
            }
        }
    }
    for (int r = 0; r < n_rows && k < n; r++) { /* only types with blocks of one element */
        group xs = group_tail(x + r * n + k, n - k);
        for (int o = 0; o < n_out; o++) {
            float t[GROUP] = {0};
            sv_dequantize(t, op->w->type, w + (size_t)o * row_bytes + sv_type_bytes(op->w->type, k), n - k);
            acc[r][o] = acc_fma(acc[r][o], group_load(t), xs);
        }
    }
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int o = 0; o < n_out; o++)
            put(op, r, column + o, sum16(acc[r][o].v));
    }
}

static ALWAYS_INLINE void stream_columns(const sv_matmul *op, loader l, int64_t begin, int64_t end, int n_rows)
{
    const int n_out = n_rows == 1 ? STREAM_COLUMNS : STREAM_COLUMNS / 2;
    for (; begin + n_out <= end; begin += n_out)
        stream(op, l, begin, n_out, n_rows, begin + 2 * n_out <= end);
    for (; begin < end; begin++)
        stream(op, l, begin, 1, n_rows, false);
}

/* inv. 2, the side of few rows */
static ALWAYS_INLINE void stream_matmul(const sv_matmul *op, loader l, int64_t begin, int64_t end)
{
    switch (op->n_rows) {
#define CASE(r) case r: stream_columns(op, l, begin, end, r); return;
        STREAM_CASES(CASE)
#undef CASE
    default: SV_ASSERT(!"1 to STREAM_ROWS rows are streamed");
    }
}

/* One row of weights to float32, continued with zeros to a multiple of 32. */
static ALWAYS_INLINE void unpack_row(float *dst, const sv_tensor *w, const uint8_t *row, loader l)
{
    int64_t n = w->dims[0], k = 0;
    for (int64_t at = 0; k + GROUP * l.span <= n; k += GROUP * l.span, at += l.span_bytes) {
        scales sc;
        l.prepare(&sc, row + at);
        UNROLL
        for (int s = 0; s < l.span; s++) {
            group g = l.load(row + at, s, &sc);
            UNROLL
            for (int i = 0; i < GV; i++)
                v_store(dst + k + s * GROUP + i * LANES, g.v[i]);
        }
    }
    if (k < n) {
        memset(dst + k, 0, GROUP * sizeof *dst);
        sv_dequantize(dst + k, w->type, row + sv_type_bytes(w->type, k), n - k);
    }
}

static void unpack_any(float *dst, const sv_tensor *w, const uint8_t *row)
{
    switch (w->type) {
#define CASE(type, ...)                                \
    case type:                                         \
        unpack_row(dst, w, row, (loader){__VA_ARGS__}); \
        return;
        FUSED(CASE)
#undef CASE
    default: {
        int64_t n = w->dims[0];
        sv_dequantize(dst, w->type, row, n);
        memset(dst + n, 0, (size_t)(sv_round_up(n, GROUP) - n) * sizeof *dst);
    }
    }
}

/* n_out columns by n_rows rows; panel holds the columns' weights, `stride` floats each. */
static ALWAYS_INLINE void tile(const sv_matmul *op, const float *panel, int64_t stride, int64_t column, int32_t row, int n_out, int n_rows)
{
    int64_t n = op->w->dims[0], k = 0;
    const float *x = op->x + (int64_t)row * n;
    acc16 acc[TILE_ROWS][TILE_OUT];
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int o = 0; o < n_out; o++)
            acc[r][o] = acc_zero();
    }
    for (; k + 16 <= n; k += 16) {
        UNROLL
        for (int i = 0; i < NV; i++) {
            vec w[TILE_OUT];
            UNROLL
            for (int o = 0; o < n_out; o++)
                w[o] = v_load(panel + o * stride + k + i * LANES);
            UNROLL
            for (int r = 0; r < n_rows; r++) {
                vec xv = v_load(x + r * n + k + i * LANES);
                UNROLL
                for (int o = 0; o < n_out; o++)
                    acc[r][o].v[i] = v_fma(w[o], xv, acc[r][o].v[i]);
            }
        }
    }
    for (; k < stride; k += 16) /* the zeros too (inv. 1): adding one turns a sum of -0 into 0 */
        for (int r = 0; r < n_rows; r++) {
            float t[16] = {0};
            if (k < n)
                memcpy(t, x + r * n + k, (size_t)(n - k) * sizeof *t);
            for (int o = 0; o < n_out; o++)
                for (int i = 0; i < NV; i++)
                    acc[r][o].v[i] = v_fma(v_load(panel + o * stride + k + i * LANES), v_load(t + i * LANES), acc[r][o].v[i]);
        }
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int o = 0; o < n_out; o++)
            put(op, row + r, column + o, sum16(acc[r][o].v));
    }
}

static void tile_rows(const sv_matmul *op, const float *panel, int64_t stride, int64_t column, int32_t row, int n_rows, bool whole)
{
    switch (whole ? n_rows : -n_rows) {
#define CASE(r)                                                    \
    case r: tile(op, panel, stride, column, row, TILE_OUT, r); return; \
    case -r: tile(op, panel, stride, column, row, 1, r); return;
        TILE_CASES(CASE)
#undef CASE
    default: SV_ASSERT(!"a tile has 1 to TILE_ROWS rows");
    }
}

/* inv. 2, the side of many rows */
static void panel_matmul(const sv_matmul *op, int64_t begin, int64_t end)
{
    _Alignas(64) float panel[SV_PANEL_FLOATS];
    size_t row_bytes = sv_type_bytes(op->w->type, op->w->dims[0]);
    int64_t stride = sv_round_up(op->w->dims[0], GROUP), n_fit = SV_PANEL_FLOATS / stride;
    if (n_fit >= TILE_OUT)
        n_fit -= n_fit % TILE_OUT;
    for (; begin < end; begin += n_fit) {
        int64_t n = end - begin < n_fit ? end - begin : n_fit;
        for (int64_t o = 0; o < n; o++)
            unpack_any(panel + o * stride, op->w, (const uint8_t *)op->w->data + (size_t)(begin + o) * row_bytes);
        for (int32_t row = 0; row < op->n_rows; row += TILE_ROWS) {
            int n_rows = op->n_rows - row < TILE_ROWS ? op->n_rows - row : TILE_ROWS;
            int64_t o = 0;
            for (; o + TILE_OUT <= n; o += TILE_OUT)
                tile_rows(op, panel + o * stride, stride, begin + o, row, n_rows, true);
            for (; o < n; o++)
                tile_rows(op, panel + o * stride, stride, begin + o, row, n_rows, false);
        }
    }
}

static void matmul(const sv_matmul *op, int64_t begin, int64_t end)
{
    if (op->n_rows <= STREAM_ROWS)
        switch (op->w->type) {
#define CASE(type, ...)                                         \
    case type:                                                  \
        stream_matmul(op, (loader){__VA_ARGS__}, begin, end);   \
        return;
            FUSED(CASE)
#undef CASE
        default: break;
        }
    panel_matmul(op, begin, end);
}

/* --- exp and what uses it ----------------------------------------------------------------------------------------- */

/* exp(x) for x in [-87, 88], clamped outside: x = n ln 2 + r with |r| <= ln 2 / 2, the Taylor series of r to the seventh power
 * (the next term is below 6e-9), n added to the exponent. ln 2 is split so that n times its upper part is exact. */
static ALWAYS_INLINE vec v_exp(vec x)
{
    const vec round = v_set1(0x1.8p23f); /* adding it leaves the nearest integer in the low bits */
    x = v_select(x > v_set1(-87.0f), x, v_set1(-87.0f));
    x = v_select(x < v_set1(88.0f), x, v_set1(88.0f));
    vec t = v_fma(x, v_set1(0x1.715476p0f), round);
    vec n = t - round;
    vec r = v_fma(n, v_set1(0x1.bd0106p-13f), v_fma(n, v_set1(-0x1.63p-1f), x));
    vec p = v_fma(r, v_set1(1.0f / 5040), v_set1(1.0f / 720));
    p = v_fma(r, p, v_set1(1.0f / 120));
    p = v_fma(r, p, v_set1(1.0f / 24));
    p = v_fma(r, p, v_set1(1.0f / 6));
    p = v_fma(r, p, v_set1(0.5f));
    p = v_fma(r, p, v_set1(1.0f));
    p = v_fma(r, p, v_set1(1.0f));
    ivec exponent = ((ivec)t - (ivec)round + 127) << 23;
    return p * (vec)exponent;
}

static ALWAYS_INLINE vec v_swiglu(vec gate, vec up)
{
    return gate / (v_set1(1.0f) + v_exp(-gate)) * up;
}

static void swiglu(float *y, const float *gate, const float *up, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(y + i, v_swiglu(v_load(gate + i), v_load(up + i)));
    if (i < n) {
        float g[LANES] = {0}, u[LANES] = {0};
        memcpy(g, gate + i, (size_t)(n - i) * sizeof *g);
        memcpy(u, up + i, (size_t)(n - i) * sizeof *u);
        v_store(g, v_swiglu(v_load(g), v_load(u)));
        memcpy(y + i, g, (size_t)(n - i) * sizeof *g);
    }
}

/* --- attention ---------------------------------------------------------------------------------------------------- */

enum { PV = SV_KV_PAGE / LANES };

typedef struct query {
    const float *q;  /* [head_dim] */
    float *out;      /* [head_dim] */
    int32_t pos;
    float max, sum;  /* of the softmax so far */
    float keep;      /* what the page before it is worth after this page's maximum */
    float p[SV_KV_PAGE];            /* this page's scores, then weights */
    float acc[SV_MAX_HEAD_DIM];     /* the weighted values so far, padded to 16 */
} query;

/* p[j] = q . key j for n queries over the page's slots; keys [head_dim, SV_KV_PAGE]. */
static ALWAYS_INLINE void score(query *const *qs, int n, const float *keys, const float *next, int32_t head_dim)
{
    vec s[TILE_QUERIES][PV];
    UNROLL
    for (int i = 0; i < n; i++) {
        UNROLL
        for (int v = 0; v < PV; v++)
            s[i][v] = v_set1(0.0f);
    }
    for (int32_t d = 0; d < head_dim; d++, keys += SV_KV_PAGE, next += SV_KV_PAGE) {
        vec k[PV];
        __builtin_prefetch(next, 0, 3);
        __builtin_prefetch(next + SV_KV_PAGE / 2, 0, 3);
        UNROLL
        for (int v = 0; v < PV; v++)
            k[v] = v_load(keys + v * LANES);
        UNROLL
        for (int i = 0; i < n; i++) {
            vec qd = v_set1(qs[i]->q[d]);
            UNROLL
            for (int v = 0; v < PV; v++)
                s[i][v] = v_fma(qd, k[v], s[i][v]);
        }
    }
    UNROLL
    for (int i = 0; i < n; i++) {
        UNROLL
        for (int v = 0; v < PV; v++)
            v_store(qs[i]->p + v * LANES, s[i][v]);
    }
}

/* The slots of one page that a query sees: [begin, end), or none where end is 0. */
typedef struct slots { int begin, end; } slots;

/* One page's step of the online softmax for n queries: the scores of the slots seen become weights, those of the others 0, whatever they held;
 * maximum and sum are brought up to date. Queries go side by side, since each step waits long for the one before it. */
static ALWAYS_INLINE void soften(query *const *qs, int n, slots seen, float scale)
{
    vec s[TILE_QUERIES][PV];
    ivec slot, valid[PV];
    float now[TILE_QUERIES], fall[LANES] = {0};
    for (int l = 0; l < LANES; l++)
        slot[l] = l;
    UNROLL
    for (int v = 0; v < PV; v++)
        valid[v] = (slot + v * LANES < seen.end) & (slot + v * LANES >= seen.begin);
    UNROLL
    for (int i = 0; i < n; i++) {
        vec max = v_set1(qs[i]->max);
        UNROLL
        for (int v = 0; v < PV; v++) {
            s[i][v] = v_load(qs[i]->p + v * LANES) * scale;
            max = v_select((s[i][v] > max) & valid[v], s[i][v], max);
        }
        now[i] = max_lane(max);
        fall[i] = qs[i]->max - now[i];
    }
    v_store(fall, v_exp(v_load(fall)));
    UNROLL
    for (int i = 0; i < n; i++) {
        acc16 sum = acc_zero();
        UNROLL
        for (int v = 0; v < PV; v++) {
            vec e = v_select(valid[v], v_exp(s[i][v] - now[i]), v_set1(0.0f));
            sum.v[v % NV] += e;
            v_store(qs[i]->p + v * LANES, e);
        }
        qs[i]->keep = qs[i]->sum == 0.0f ? 0.0f : fall[i];
        qs[i]->sum = qs[i]->sum * qs[i]->keep + sum16(sum.v);
        qs[i]->max = now[i];
    }
}

/* acc = acc * keep + sum of p[j] * value j, for n queries and n_vecs vectors from d on; values [SV_KV_PAGE, stride]. */
static ALWAYS_INLINE void gather_at(query *const *qs, int n, const float *values, const float *next, int64_t stride, int64_t d, int n_vecs, slots seen)
{
    vec acc[TILE_QUERIES][2];
    UNROLL
    for (int i = 0; i < n; i++) {
        UNROLL
        for (int v = 0; v < n_vecs; v++)
            acc[i][v] = v_load(qs[i]->acc + d + v * LANES) * v_set1(qs[i]->keep);
    }
    for (int j = seen.begin; j < seen.end; j++) {
        vec value[2];
        UNROLL
        for (int v = 0; v < n_vecs; v++) {
            value[v] = v_load(values + j * stride + d + v * LANES);
            if (v * LANES % 16 == 0)
                __builtin_prefetch(next + j * stride + d + v * LANES, 0, 3);
        }
        UNROLL
        for (int i = 0; i < n; i++) {
            UNROLL
            for (int v = 0; v < n_vecs; v++)
                acc[i][v] = v_fma(v_set1(qs[i]->p[j]), value[v], acc[i][v]);
        }
    }
    UNROLL
    for (int i = 0; i < n; i++) {
        UNROLL
        for (int v = 0; v < n_vecs; v++)
            v_store(qs[i]->acc + d + v * LANES, acc[i][v]);
    }
}

static ALWAYS_INLINE void gather(query *const *qs, int n, const float *values, const float *next, int64_t stride, slots seen)
{
    int64_t d = 0;
    for (; d + 2 * LANES <= stride; d += 2 * LANES)
        gather_at(qs, n, values, next, stride, d, 2, seen);
    if (d < stride)
        gather_at(qs, n, values, next, stride, d, 1, seen);
}

static slots slots_seen(const query *q, int32_t page, int32_t window)
{
    int64_t first = (int64_t)page * SV_KV_PAGE, begin = window > 0 ? (int64_t)q->pos + 1 - window - first : 0, end = (int64_t)q->pos + 1 - first;
    if (end <= 0 || begin >= SV_KV_PAGE)
        return (slots){0, 0};
    return (slots){begin > 0 ? (int)begin : 0, end < SV_KV_PAGE ? (int)end : SV_KV_PAGE};
}

/* A head's part of a page, and of the one after it, which is fetched meanwhile: pages lie anywhere, so the CPU cannot guess it. */
typedef struct page_part { const float *keys, *values, *next_keys, *next_values; } page_part;

static page_part part_of(const sv_attn *a, const sv_attn_chunk *c, int32_t head_kv, int32_t page, int32_t last)
{
    int64_t hd = a->kv.head_dim, stride = sv_round_up(hd, 16);
    const float *base = c->pages[page], *next = c->pages[page < last ? page + 1 : page];
    size_t keys = a->kv.k_at + (size_t)(head_kv * hd * SV_KV_PAGE), values = a->kv.v_at + (size_t)(head_kv * SV_KV_PAGE * stride);
    return (page_part){base + keys, base + values, next + keys, next + values};
}

/* n queries that see the same slots of one page (inv. 3). */
static ALWAYS_INLINE void attend_page(query *const *qs, int n, const page_part *p, const sv_attn *a, slots seen)
{
    score(qs, n, p->keys, p->next_keys, a->kv.head_dim);
    soften(qs, n, seen, a->scale);
    gather(qs, n, p->values, p->next_values, sv_round_up(a->kv.head_dim, 16), seen);
}

static void attend(const sv_attn *a, const sv_attn_chunk *c, int32_t head_kv, int32_t first, int32_t n)
{
    query queries[SV_ATTN_QUERIES], *qs[SV_ATTN_QUERIES];
    int32_t hd = a->kv.head_dim, group_size = a->n_head / a->kv.n_head_kv;
    int64_t stride = sv_round_up(hd, 16);
    for (int32_t i = 0; i < n; i++) {
        int32_t row = (first + i) / group_size, head = head_kv * group_size + (first + i) % group_size;
        int64_t at = ((int64_t)(c->row + row) * a->n_head + head) * hd;
        query *q = qs[i] = &queries[i];
        q->q = a->q + at;
        q->out = a->out + at;
        q->pos = c->pos + (a->full ? c->n_rows - 1 : row);
        q->max = -INFINITY;
        q->sum = 0.0f;
        memset(q->acc, 0, (size_t)stride * sizeof *q->acc);
    }
    int32_t last = queries[n - 1].pos; /* the highest */
    int32_t out_of_sight = a->window > 0 && queries[0].pos >= a->window ? queries[0].pos + 1 - a->window : 0;
    for (int32_t page = out_of_sight / SV_KV_PAGE; page <= last / SV_KV_PAGE; page++) {
        const page_part part = part_of(a, c, head_kv, page, last / SV_KV_PAGE);
        for (int32_t i = 0, m; i < n; i += m) {
            slots seen = slots_seen(qs[i], page, a->window);
            for (m = 1; m < TILE_QUERIES && i + m < n; m++) {
                slots other = slots_seen(qs[i + m], page, a->window);
                if (seen.begin != other.begin || seen.end != other.end)
                    break;
            }
            switch (seen.end > 0 ? m : 0) {
#define CASE(k) case k: attend_page(qs + i, k, &part, a, seen); break;
                QUERY_CASES(CASE)
#undef CASE
            default: break; /* it sees nothing here */
            }
        }
    }
    for (int32_t i = 0; i < n; i++)
        for (int32_t d = 0; d < hd; d++)
            qs[i]->out[d] = qs[i]->acc[d] / qs[i]->sum;
}

const sv_kernel_set KERNEL_SET = {
    .matmul = matmul,
    .attend = attend,
    .swiglu = swiglu,
};
