/* Convolutions of every instruction set of this CPU against float64 loops, and the same bits in any company */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "nn/conv.h"
#include "nn/kernels.h"

static const char *const set_names[] = {"portable", "avx2", "avx512"};

static uint64_t seed = 1;

static float random_float(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(int32_t)(seed >> 32) / 2147483648.0);
}

static float *random_floats(size_t n)
{
    float *v = malloc((n + 1) * sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = random_float();
    return v;
}

static sv_fmap new_map(int32_t h, int32_t w, int32_t c, int32_t pad)
{
    sv_fmap f = {random_floats(sv_fmap_floats(h, w, c, pad)), h, w, c, pad};
    sv_fmap_clear_border(&f);
    return f;
}

typedef struct layer { int32_t h, w, n_in, n_out, kh, kw, stride, dilation, pad_y, pad_x, out_h, out_w; bool depthwise, norm; sv_act act; bool add; } layer;

static const layer layers[] = {
    {.h = 9, .w = 11, .n_in = 3, .n_out = 40, .kh = 7, .kw = 7, .stride = 2, .dilation = 1, .pad_y = 3, .pad_x = 3, .out_h = 5, .out_w = 6, .norm = true, .act = SV_ACT_RELU},
    {.h = 7, .w = 7, .n_in = 24, .n_out = 64, .kh = 1, .kw = 1, .stride = 1, .dilation = 1, .out_h = 7, .out_w = 7, .add = true, .act = SV_ACT_RELU},
    {.h = 8, .w = 6, .n_in = 16, .n_out = 17, .kh = 3, .kw = 3, .stride = 1, .dilation = 1, .pad_y = 1, .pad_x = 1, .out_h = 8, .out_w = 6, .act = SV_ACT_NONE, .add = true},
    {.h = 9, .w = 9, .n_in = 5, .n_out = 33, .kh = 3, .kw = 3, .stride = 1, .dilation = 2, .pad_y = 2, .pad_x = 2, .out_h = 9, .out_w = 9, .norm = true, .act = SV_ACT_RELU6},
    {.h = 8, .w = 10, .n_in = 3, .n_out = 8, .kh = 3, .kw = 3, .stride = 2, .dilation = 1, .pad_y = 0, .pad_x = 0, .out_h = 4, .out_w = 5, .act = SV_ACT_SILU}, /* only below and right */
    {.h = 9, .w = 13, .n_in = 3, .n_out = 48, .kh = 4, .kw = 4, .stride = 4, .dilation = 1, .out_h = 2, .out_w = 3, .act = SV_ACT_NONE},
    {.h = 1, .w = 1, .n_in = 70, .n_out = 100, .kh = 1, .kw = 1, .stride = 1, .dilation = 1, .out_h = 1, .out_w = 1, .act = SV_ACT_GELU},
    {.h = 10, .w = 7, .n_in = 37, .n_out = 37, .kh = 3, .kw = 3, .stride = 1, .dilation = 1, .pad_y = 1, .pad_x = 1, .out_h = 10, .out_w = 7, .depthwise = true, .norm = true, .act = SV_ACT_RELU6},
    {.h = 10, .w = 7, .n_in = 16, .n_out = 16, .kh = 5, .kw = 3, .stride = 2, .dilation = 1, .pad_y = 2, .pad_x = 1, .out_h = 5, .out_w = 4, .depthwise = true, .act = SV_ACT_NONE, .add = true},
    {.h = 12, .w = 12, .n_in = 9, .n_out = 9, .kh = 3, .kw = 3, .stride = 1, .dilation = 2, .pad_y = 2, .pad_x = 2, .out_h = 12, .out_w = 12, .depthwise = true, .act = SV_ACT_LEAKY},
    {.h = 40, .w = 41, .n_in = 64, .n_out = 96, .kh = 3, .kw = 3, .stride = 1, .dilation = 1, .pad_y = 1, .pad_x = 1, .out_h = 40, .out_w = 41, .act = SV_ACT_RELU}, /* many tasks */
};

typedef struct data { sv_fmap x, add; float *w, *bias; double *scale, *shift; sv_conv c; } data;

static data make(const layer *l)
{
    size_t n = (size_t)l->n_out * (size_t)(l->depthwise ? 1 : l->n_in) * (size_t)(l->kh * l->kw);
    data d = {.x = new_map(l->h, l->w, l->n_in, 3), .add = new_map(l->out_h, l->out_w, l->n_out, 2), .w = random_floats(n), .bias = random_floats((size_t)l->n_out)};
    sv_err err = {0};
    if (l->norm) {
        d.scale = malloc((size_t)l->n_out * sizeof *d.scale);
        d.shift = malloc((size_t)l->n_out * sizeof *d.shift);
        for (int32_t i = 0; i < l->n_out; i++) {
            d.scale[i] = 1 + 0.5 * (double)random_float();
            d.shift[i] = (double)random_float();
        }
    }
    d.c = (sv_conv){.n_in = l->n_in, .n_out = l->n_out, .kh = l->kh, .kw = l->kw, .stride = l->stride, .dilation = l->dilation, .pad_y = l->pad_y, .pad_x = l->pad_x,
                    .depthwise = l->depthwise};
    assert_int_equal(sv_conv_pack(&d.c, d.w, d.bias, d.scale, d.shift, &err), SV_OK);
    return d;
}

static void drop(data *d)
{
    free(d->x.v);
    free(d->add.v);
    free(d->w);
    free(d->bias);
    free(d->scale);
    free(d->shift);
    sv_conv_done(&d->c);
}

static double act_of(double v, sv_act act)
{
    switch (act) {
    case SV_ACT_NONE: return v;
    case SV_ACT_RELU: return v > 0 ? v : 0;
    case SV_ACT_RELU6: return v < 0 ? 0 : v > 6 ? 6 : v;
    case SV_ACT_SILU: return v / (1 + exp(-v));
    case SV_ACT_GELU: return v / 2 * (1 + erf(v / sqrt(2)));
    case SV_ACT_LEAKY: return v > 0 ? v : 0.01 * v;
    default: return NAN;
    }
}

/* The number, and the sum of magnitudes that its rounding errors are relative to. */
static double reference(const layer *l, const data *d, int32_t y, int32_t x, int32_t o, double *size)
{
    double s = d->scale ? d->scale[o] : 1, sum = (double)d->bias[o] * s + (d->shift ? d->shift[o] : 0);
    *size = fabs(sum);
    for (int32_t ky = 0; ky < l->kh; ky++)
        for (int32_t kx = 0; kx < l->kw; kx++)
            for (int32_t i = 0; i < (l->depthwise ? 1 : l->n_in); i++) {
                int32_t sy = y * l->stride - l->pad_y + ky * l->dilation, sx = x * l->stride - l->pad_x + kx * l->dilation, ci = l->depthwise ? o : i;
                if (sy < 0 || sx < 0 || sy >= l->h || sx >= l->w)
                    continue;
                double w = (double)d->w[((o * (l->depthwise ? 1 : l->n_in) + i) * l->kh + ky) * l->kw + kx] * s;
                double t = w * (double)sv_fmap_at(&d->x, sy, sx)[ci];
                sum += t;
                *size += fabs(t);
            }
    if (l->add) {
        double a = (double)sv_fmap_at(&d->add, y, x)[o];
        sum += a;
        *size += fabs(a);
    }
    return act_of(sum, l->act);
}

/* A chain of n roundings errs by n / 2 ulp of the sum of magnitudes at the very most; in practice by far less. */
static void convolutions_are_those_of_float64_loops(void **state)
{
    (void)state;
    for (size_t s = 0; s < SV_LEN(set_names); s++) {
        if (!sv_kernels_select(set_names[s]))
            continue;
        for (size_t k = 0; k < SV_LEN(layers); k++) {
            const layer *l = &layers[k];
            SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(2);
            data d = make(l);
            sv_fmap y = new_map(l->out_h, l->out_w, l->n_out, 1);
            sv_conv_run(pool, &d.c, &d.x, &y, l->add ? &d.add : NULL, l->act);
            for (int32_t i = 0; i < l->out_h * l->out_w; i += l->h >= 40 ? 37 : 1)
                for (int32_t o = 0; o < l->n_out; o++) {
                    double size, want = reference(l, &d, i / l->out_w, i % l->out_w, o, &size), got = (double)sv_fmap_at(&y, i / l->out_w, i % l->out_w)[o];
                    if (!(fabs(got - want) <= 2e-6 * size))
                        fail_msg("%s, layer %zu, pixel %d, channel %d: %g, wanted %g", set_names[s], k, i, o, got, want);
                }
            for (int32_t i = -1; i <= l->out_w; i++) /* the border of the output is as it was */
                for (int32_t o = 0; o < l->n_out; o++)
                    assert_true(sv_fmap_at(&y, -1, i)[o] == 0 && sv_fmap_at(&y, l->out_h, i)[o] == 0);
            free(y.v);
            drop(&d);
        }
    }
    sv_kernels_select(NULL);
}

static void bits_do_not_depend_on_threads_or_on_the_width_of_vectors(void **state)
{
    static const int threads[] = {1, 2, 3};
    (void)state;
    for (size_t k = 0; k < SV_LEN(layers); k++) {
        const layer *l = &layers[k];
        data d = make(l);
        sv_fmap first = new_map(l->out_h, l->out_w, l->n_out, 0);
        bool have = false;
        size_t n = sv_fmap_floats(l->out_h, l->out_w, l->n_out, 0) * sizeof(float);
        for (size_t s = 1; s < SV_LEN(set_names); s++) /* without fused multiply-add it is another sum */
            for (size_t t = 0; t < SV_LEN(threads) && sv_kernels_select(set_names[s]); t++) {
                SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(threads[t]);
                sv_fmap y = new_map(l->out_h, l->out_w, l->n_out, 0);
                sv_conv_run(pool, &d.c, &d.x, have ? &y : &first, l->add ? &d.add : NULL, l->act);
                if (have && memcmp(y.v, first.v, n) != 0)
                    fail_msg("%s, layer %zu, %d threads", set_names[s], k, threads[t]);
                have = true;
                free(y.v);
            }
        free(first.v);
        drop(&d);
    }
    sv_kernels_select(NULL);
}

static void a_sum_may_go_into_its_own_map(void **state)
{
    const layer *l = &layers[1];
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(2);
    (void)state;
    data d = make(l);
    sv_fmap y = new_map(l->out_h, l->out_w, l->n_out, 0);
    sv_conv_run(pool, &d.c, &d.x, &y, &d.add, l->act);
    sv_conv_run(pool, &d.c, &d.x, &d.add, &d.add, l->act);
    for (int32_t i = 0; i < l->out_h * l->out_w; i++)
        assert_memory_equal(sv_fmap_at(&y, i / l->out_w, i % l->out_w), sv_fmap_at(&d.add, i / l->out_w, i % l->out_w), (size_t)l->n_out * sizeof(float));
    free(y.v);
    drop(&d);
}

static void pools_take_the_largest_and_the_mean(void **state)
{
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(2);
    (void)state;
    sv_fmap x = new_map(9, 7, 5, 1), y = new_map(5, 4, 5, 1);
    for (int32_t i = 0; i < 9 * 7; i++) /* all below zero, so that a border taken for pixels would show */
        for (int32_t c = 0; c < 5; c++)
            sv_fmap_at(&x, i / 7, i % 7)[c] -= 2;
    sv_max_pool(pool, &x, &y, 3, 2, 1);
    for (int32_t i = 0; i < 5 * 4; i++)
        for (int32_t c = 0; c < 5; c++) {
            float want = -INFINITY;
            for (int32_t ky = -1; ky <= 1; ky++)
                for (int32_t kx = -1; kx <= 1; kx++) {
                    int32_t sy = i / 4 * 2 + ky, sx = i % 4 * 2 + kx;
                    if (sy >= 0 && sx >= 0 && sy < 9 && sx < 7)
                        want = fmaxf(want, sv_fmap_at(&x, sy, sx)[c]);
                }
            assert_true(sv_fmap_at(&y, i / 4, i % 4)[c] == want);
        }
    float mean[5];
    sv_mean_pool(&x, mean);
    for (int32_t c = 0; c < 5; c++) {
        double sum = 0;
        for (int32_t i = 0; i < 63; i++)
            sum += (double)sv_fmap_at(&x, i / 7, i % 7)[c];
        assert_float_equal(mean[c], sum / 63, 1e-6);
    }
    free(x.v);
    free(y.v);
}

static void activations_are_their_formulas(void **state)
{
    (void)state;
    static const sv_act acts[] = {SV_ACT_NONE, SV_ACT_RELU, SV_ACT_RELU6, SV_ACT_SILU, SV_ACT_GELU, SV_ACT_LEAKY};
    for (size_t a = 0; a < SV_LEN(acts); a++)
        for (int i = -200; i <= 200; i++) {
            float v = (float)i / 20;
            sv_act_run(&v, 1, acts[a]);
            assert_float_equal(v, act_of(i / 20.0, acts[a]), 2e-6);
        }
    for (int i = -200; i <= 200; i++) {
        float v = (float)i / 20, g = v;
        double x = i / 20.0, r = x + 3 < 0 ? 0 : x + 3 > 6 ? 6 : x + 3;
        sv_act_run(&v, 1, SV_ACT_HARD_SWISH);
        assert_float_equal(v, x * r / 6, 2e-6);
        sv_act_run(&g, 1, SV_ACT_GELU_TANH);
        assert_float_equal(g, x / 2 * (1 + tanh(0.7978845608 * (x + 0.044715 * x * x * x))), 3e-6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_are_those_of_float64_loops),
        cmocka_unit_test(bits_do_not_depend_on_threads_or_on_the_width_of_vectors),
        cmocka_unit_test(a_sum_may_go_into_its_own_map),
        cmocka_unit_test(pools_take_the_largest_and_the_mean),
        cmocka_unit_test(activations_are_their_formulas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
