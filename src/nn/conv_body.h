/* conv_body.h - convolutions, written once; each instruction set's file includes it after kernels_vec.h
 *
 * The including file defines v_fma, v_splat, TILE_PIXELS (what the registers hold beside two vectors of weights), PIXEL_CASES, CONV_SET and CONV_NAME.
 *
 * A tile is some pixels by two vectors of output channels: one load of weights serves all pixels, one number of the input (spread over a vector)
 * both vectors. Pixels are wherever their pointers say, so a tile goes on in the next row, and a map of 7 x 7 wastes nothing. Where taps of a
 * row lie beside each other (no dilation), a row of the kernel is one run of kw * n_in numbers: the first layer of a network, with its three
 * channels, has long loops too.
 *
 * Invariant: an output is one chain over (ky, kx, channel) from its bias on; tiles only interleave chains. */

enum { VB = SV_CONV_BLOCK / LANES, TV = VB < 2 ? 1 : 2 };

typedef struct spot { const float *x; const float *add; float *y; } spot; /* of one pixel */

static inline spot spot_of(const sv_conv_pass *p, int32_t i)
{
    const sv_conv *c = p->c;
    int32_t y = i / p->y->w, x = i % p->y->w;
    return (spot){.x = sv_fmap_at(p->x, y * c->stride - c->pad_y, x * c->stride - c->pad_x), .y = sv_fmap_at(p->y, y, x),
                  .add = p->add ? sv_fmap_at(p->add, y, x) : NULL};
}

/* acc[i][v] += the taps of one run, for pixels whose numbers begin `at` behind xs[i]. */
static ALWAYS_INLINE void run_taps(vec acc[][TV], const float *const *xs, int64_t at, const float *w, int64_t n, int n_pixels, int n_vec)
{
    const float *x[TILE_PIXELS];
    vec a[TILE_PIXELS][TV];
    UNROLL
    for (int i = 0; i < n_pixels; i++) {
        x[i] = xs[i] + at;
        UNROLL
        for (int v = 0; v < n_vec; v++)
            a[i][v] = acc[i][v];
    }
    for (int64_t k = 0; k < n; k++, w += SV_CONV_BLOCK) {
        vec wv[TV];
        UNROLL
        for (int v = 0; v < n_vec; v++)
            wv[v] = v_load(w + v * LANES);
        UNROLL
        for (int i = 0; i < n_pixels; i++) {
            vec b = v_splat(x[i][k]);
            UNROLL
            for (int v = 0; v < n_vec; v++)
                a[i][v] = v_fma(b, wv[v], a[i][v]);
        }
    }
    UNROLL
    for (int i = 0; i < n_pixels; i++) {
        UNROLL
        for (int v = 0; v < n_vec; v++)
            acc[i][v] = a[i][v];
    }
}

/* Functions of their own, so that a compiler has all registers for this loop and nothing around it: inlined into loops over rows of the kernel, gcc 12 keeps
 * the sums in memory, at a third of the speed. */
typedef void (*taps_fn)(vec acc[][TV], const float *const *xs, int64_t at, const float *w, int64_t n);
#define TAPS(p)                                                                                                                                 \
    static __attribute__((noinline)) void taps_one_##p(vec acc[][TV], const float *const *xs, int64_t at, const float *w, int64_t n)            \
    {                                                                                                                                           \
        run_taps(acc, xs, at, w, n, p, 1);                                                                                                      \
    }                                                                                                                                           \
    static __attribute__((noinline)) void taps_all_##p(vec acc[][TV], const float *const *xs, int64_t at, const float *w, int64_t n)            \
    {                                                                                                                                           \
        run_taps(acc, xs, at, w, n, p, TV);                                                                                                     \
    }
PIXEL_CASES(TAPS)
#undef TAPS
#define ONE(p) [p] = taps_one_##p,
#define ALL(p) [p] = taps_all_##p,
static const taps_fn taps_one[TILE_PIXELS + 1] = {PIXEL_CASES(ONE)}, taps_all[TILE_PIXELS + 1] = {PIXEL_CASES(ALL)};
#undef ONE
#undef ALL

static void finish(const sv_conv_pass *p, const spot *s, const vec *acc, int32_t at, int n_vec)
{
    int32_t n = p->c->n_out - at < n_vec * LANES ? p->c->n_out - at : n_vec * LANES;
    if (n == n_vec * LANES && p->act <= SV_ACT_RELU) { /* nearly always */
        for (int v = 0; v < n_vec; v++) {
            vec o = s->add ? acc[v] + v_load(s->add + at + v * LANES) : acc[v];
            if (p->act == SV_ACT_RELU)
                o = v_select(o > v_set1(0.0f), o, v_set1(0.0f));
            v_store(s->y + at + v * LANES, o);
        }
        return;
    }
    float t[TV * LANES];
    for (int v = 0; v < n_vec; v++)
        v_store(t + v * LANES, acc[v]);
    for (int32_t i = 0; s->add && i < n; i++)
        t[i] += s->add[at + i];
    sv_act_run(t, n, p->act);
    memcpy(s->y + at, t, (size_t)n * sizeof *t);
}

static void tile(const sv_conv_pass *p, const spot *s, const float *w, int32_t at, int n_pixels, int n_vec)
{
    const sv_conv *c = p->c;
    int64_t row = (int64_t)(p->x->w + 2 * p->x->pad) * p->x->c;
    int64_t n_runs = c->dilation == 1 ? 1 : c->kw, n = (int64_t)c->n_in * (c->dilation == 1 ? c->kw : 1);
    taps_fn taps = n_vec == 1 ? taps_one[n_pixels] : taps_all[n_pixels];
    const float *xs[TILE_PIXELS];
    vec acc[TILE_PIXELS][TV];
    for (int i = 0; i < n_pixels; i++) {
        xs[i] = s[i].x;
        for (int v = 0; v < n_vec; v++)
            acc[i][v] = v_load(c->bias + at + v * LANES);
    }
    for (int32_t ky = 0; ky < c->kh; ky++)
        for (int64_t r = 0; r < n_runs; r++, w += n * SV_CONV_BLOCK)
            taps(acc, xs, ky * c->dilation * row + r * c->dilation * c->n_in, w, n);
    for (int i = 0; i < n_pixels; i++)
        finish(p, &s[i], acc[i], at, n_vec);
}

static void dense(const sv_conv_pass *p, int32_t i_block, int32_t begin, int32_t end)
{
    const sv_conv *c = p->c;
    const float *w = c->w + (int64_t)i_block * c->kh * c->kw * c->n_in * SV_CONV_BLOCK;
    spot s[TILE_PIXELS];
    for (int32_t i = begin; i < end; i += TILE_PIXELS) {
        int n = end - i < TILE_PIXELS ? end - i : TILE_PIXELS;
        for (int k = 0; k < n; k++)
            s[k] = spot_of(p, i + k);
        for (int32_t v = 0; v < VB; v += TV) {
            int32_t at = i_block * SV_CONV_BLOCK + v * LANES;
            if (at < c->n_out)
                tile(p, s, w + v * LANES, at, n, c->n_out - at > LANES ? TV : 1);
        }
    }
}

/* Vectors of channels; the last one may be short. */
static void depthwise(const sv_conv_pass *p, int32_t begin, int32_t end)
{
    const sv_conv *c = p->c;
    int64_t row = (int64_t)(p->x->w + 2 * p->x->pad) * c->n_in;
    for (int32_t i = begin; i < end; i++) {
        spot s = spot_of(p, i);
        int32_t at = 0;
        for (; at + LANES <= c->n_out; at += LANES) {
            vec acc = v_load(c->bias + at);
            const float *w = c->w + at;
            for (int32_t ky = 0; ky < c->kh; ky++)
                for (int32_t kx = 0; kx < c->kw; kx++, w += c->n_out)
                    acc = v_fma(v_load(s.x + ky * c->dilation * row + (int64_t)kx * c->dilation * c->n_in + at), v_load(w), acc);
            if (s.add)
                acc += v_load(s.add + at);
            v_store(s.y + at, acc);
        }
        if (at < c->n_out) {
            int32_t n = c->n_out - at;
            float t[LANES] = {0}, tw[LANES] = {0};
            memcpy(t, c->bias + at, (size_t)n * sizeof *t);
            vec acc = v_load(t);
            const float *w = c->w + at;
            for (int32_t ky = 0; ky < c->kh; ky++)
                for (int32_t kx = 0; kx < c->kw; kx++, w += c->n_out) {
                    memcpy(t, s.x + ky * c->dilation * row + (int64_t)kx * c->dilation * c->n_in + at, (size_t)n * sizeof *t);
                    memcpy(tw, w, (size_t)n * sizeof *tw);
                    acc = v_fma(v_load(t), v_load(tw), acc);
                }
            v_store(t, acc);
            for (int32_t k = 0; s.add && k < n; k++)
                t[k] += s.add[at + k];
            memcpy(s.y + at, t, (size_t)n * sizeof *t);
        }
        sv_act_run(s.y, c->n_out, p->act);
    }
}

const sv_conv_set CONV_SET = {.name = CONV_NAME, .dense = dense, .depthwise = depthwise};
