/* kernels.c - chooses the instruction set, cuts work into tasks, and does what needs no vectors
 *
 * A pass is cut by output columns (matmul) or by groups of queries (attention). Each task computes whole sums, so the cut
 * decides only who computes a number, never the number itself: tasks may be sized for speed, by rows and by threads.
 *
 * Too small a task costs more to hand over than to do (about 1 us, and cold caches); a decode step of a small model is full of
 * such. Hence TASK_WORK multiply-adds a task, and a pass of less than two of them runs where it is. */
#include "nn/kernels_impl.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif
#include <math.h>
#include <stdatomic.h>

enum {
    TASK_WORK = 1 << 17,  /* multiply-adds: about 10 us on one core */
    TASK_COLUMNS = 4,     /* columns of a task are a multiple of it: what the kernels take at once */
    MIN_SHARED_COLUMNS = 32,
    MAX_TASK_COLUMNS = 64,
    PACKED_COLUMNS = 64, /* four groups */
    MAX_OPS = 8,
};

/* What this CPU and its kernel allow. Here and not beside the kernels, since nothing of those files, which are compiled for newer
 * CPUs, may run before the answer is known. */
static bool always(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    unsigned a, b, c, d; /* gcc 12 and clang 14 disagree about whether __builtin_cpu_supports knows F16C */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static bool has_avx512vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

static bool has_avxvnni(void)
{
    unsigned a, b, c, d; /* bit 4 of EAX; neither compiler knows its name */
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 16) != 0;
}
#elif defined(__aarch64__)
static bool has_dot_product(void)
{
    return (getauxval(AT_HWCAP) & 1 << 20) != 0; /* HWCAP_ASIMDDP */
}
#endif

typedef struct instruction_set {
    const char *name;
    const sv_kernel_set *floats;
    const sv_packed_set *bytes;
    bool (*supported)(void);
} instruction_set;
static const instruction_set sets[] = { /* the best first */
#if defined(__x86_64__)
    {"avx512vnni", &sv_kernels_avx512, &sv_packed_avx512vnni, has_avx512vnni},
    {"avx512", &sv_kernels_avx512, &sv_packed_avx512, has_avx512},
    {"avxvnni", &sv_kernels_avx2, &sv_packed_avxvnni, has_avxvnni},
    {"avx2", &sv_kernels_avx2, &sv_packed_avx2, has_avx2},
#elif defined(__aarch64__)
    {"neondot", &sv_kernels_neon, &sv_packed_neon, has_dot_product},
    {"neon", &sv_kernels_neon, &sv_packed_portable, always},
#endif
    {"portable", &sv_kernels_portable, &sv_packed_portable, always},
};
static const instruction_set *_Atomic selected;

bool sv_kernels_select(const char *name)
{
    for (size_t i = 0; i < SV_LEN(sets); i++)
        if ((!name || strcmp(name, sets[i].name) == 0) && sets[i].supported()) {
            atomic_store(&selected, &sets[i]);
            return true;
        }
    return false;
}

static const instruction_set *kernels(void)
{
    const instruction_set *k = atomic_load_explicit(&selected, memory_order_acquire);
    if (k)
        return k;
    SV_ASSERT(sv_kernels_select(NULL));
    return atomic_load(&selected);
}

const char *sv_kernels_name(void)
{
    return kernels()->name;
}

/* --- matmul ------------------------------------------------------------------------------------------------------- */

typedef struct matmul_pass {
    const instruction_set *k;
    const sv_matmul *ops;
    int32_t n_ops;
    int64_t columns[MAX_OPS];     /* a task's, by op */
    int32_t first_task[MAX_OPS + 1];
} matmul_pass;

static void columns_of(const instruction_set *k, const sv_matmul *op, int64_t begin, int64_t end)
{
    if (op->w->layout == SV_LAYOUT_PACKED)
        k->bytes->matmul(op, begin, end);
    else
        k->floats->matmul(op, begin, end);
}

static void matmul_task(void *arg, int32_t i_task)
{
    const matmul_pass *p = arg;
    int32_t i = 0;
    while (i_task >= p->first_task[i + 1])
        i++;
    const sv_matmul *op = &p->ops[i];
    int64_t begin = (int64_t)(i_task - p->first_task[i]) * p->columns[i], end = begin + p->columns[i];
    columns_of(p->k, op, begin, end < op->w->dims[1] ? end : op->w->dims[1]);
}

/* How many columns make TASK_WORK, within what keeps tasks many; with many rows, what shares a row of x from the cache. */
static int64_t task_columns(const sv_matmul *op)
{
    if (op->w->layout == SV_LAYOUT_PACKED)
        return PACKED_COLUMNS;
    int64_t n = sv_round_up(TASK_WORK / (op->w->dims[0] * op->n_rows), TASK_COLUMNS);
    int64_t min = op->n_rows == 1 ? TASK_COLUMNS : MIN_SHARED_COLUMNS;
    return n < min ? min : n > MAX_TASK_COLUMNS ? MAX_TASK_COLUMNS : n;
}

void sv_matmul_run(sv_pool *pool, const sv_matmul *ops, int32_t n_ops)
{
    matmul_pass p = {.k = kernels(), .ops = ops, .n_ops = n_ops};
    int64_t work = 0;
    SV_ASSERT(n_ops >= 1 && n_ops <= MAX_OPS);
    for (int32_t i = 0; i < n_ops; i++) {
        const sv_tensor *w = ops[i].w;
        SV_ASSERT(w->layout == SV_LAYOUT_FILE || ops[i].xq);
        SV_ASSERT(ops[i].n_rows > 0 && w->dims[0] <= SV_MAX_ROW && sv_type_get(w->type)->computable);
        p.columns[i] = task_columns(&ops[i]);
        p.first_task[i + 1] = p.first_task[i] + (int32_t)((w->dims[1] + p.columns[i] - 1) / p.columns[i]);
        work += w->dims[0] * w->dims[1] * ops[i].n_rows;
    }
    if (work >= 2 * TASK_WORK) {
        sv_pool_run(pool, p.first_task[n_ops], matmul_task, &p);
        return;
    }
    for (int32_t i = 0; i < n_ops; i++)
        columns_of(p.k, &ops[i], 0, ops[i].w->dims[1]);
}

void sv_quantise(sv_q8 *dst, const float *x, int64_t n)
{
    kernels()->bytes->quantise(dst, x, n);
}

/* --- norms, positions, activations -------------------------------------------------------------------------------- */

static float sum_lanes(float lanes[16])
{
    for (int w = 8; w > 0; w /= 2)
        for (int l = 0; l < w; l++)
            lanes[l] += lanes[l + w];
    return lanes[0];
}

/* The sum of (x - from)^2. */
static float sum_squares(const float *x, float from, int32_t n)
{
    float lanes[16] = {0};
    int32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++)
            lanes[l] += (x[i + l] - from) * (x[i + l] - from);
    for (int l = 0; i < n; i++, l++)
        lanes[l] += (x[i] - from) * (x[i] - from);
    return sum_lanes(lanes);
}

static float sum(const float *x, int32_t n)
{
    float lanes[16] = {0};
    int32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++)
            lanes[l] += x[i + l];
    for (int l = 0; i < n; i++, l++)
        lanes[l] += x[i];
    return sum_lanes(lanes);
}

void sv_rms_norm(float *y, const float *x, const float *w, int32_t n_rows, int32_t n_embd, float eps)
{
    for (int32_t r = 0; r < n_rows; r++, x += n_embd, y += n_embd) {
        float scale = 1.0f / sqrtf(sum_squares(x, 0.0f, n_embd) / (float)n_embd + eps);
        for (int32_t i = 0; i < n_embd; i++)
            y[i] = x[i] * scale * w[i];
    }
}

void sv_layer_norm(float *y, const float *x, const float *w, const float *b, int32_t n_rows, int32_t n_embd, float eps)
{
    for (int32_t r = 0; r < n_rows; r++, x += n_embd, y += n_embd) {
        float mean = sum(x, n_embd) / (float)n_embd;
        float scale = 1.0f / sqrtf(sum_squares(x, mean, n_embd) / (float)n_embd + eps);
        for (int32_t i = 0; i < n_embd; i++)
            y[i] = (x[i] - mean) * scale * w[i] + b[i];
    }
}

void sv_rope_table(float *cos_sin, const double *freqs, double scale, int32_t n_pairs, int32_t pos)
{
    for (int32_t i = 0; i < n_pairs; i++) {
        double angle = (double)pos * freqs[i];
        cos_sin[2 * i] = (float)(cos(angle) * scale);
        cos_sin[2 * i + 1] = (float)(sin(angle) * scale);
    }
}

void sv_rope(float *x, const float *cos_sin, int32_t n_pairs, int32_t n_head, int32_t head_dim)
{
    for (int32_t h = 0; h < n_head; h++, x += head_dim)
        for (int32_t i = 0; i < n_pairs; i++) {
            float c = cos_sin[2 * i], s = cos_sin[2 * i + 1], a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = a * c - b * s;
            x[2 * i + 1] = a * s + b * c;
        }
}

void sv_rope_halves(float *x, const float *cos_sin, int32_t n_pairs, int32_t n_head, int32_t head_dim)
{
    for (int32_t h = 0; h < n_head; h++, x += head_dim)
        for (int32_t i = 0; i < n_pairs; i++) {
            float c = cos_sin[2 * i], s = cos_sin[2 * i + 1], a = x[i], b = x[i + n_pairs];
            x[i] = a * c - b * s;
            x[i + n_pairs] = a * s + b * c;
        }
}

void sv_swiglu(float *y, const float *gate, const float *up, int64_t n)
{
    kernels()->floats->swiglu(y, gate, up, n);
}

/* Half of 1 + tanh(u) is 1 / (1 + exp(-2u)), so with g = 2u = x (a + b x^2) it is silu(g) / (a + b x^2): what swiglu computes. */
void sv_gelu_tanh(float *x, int64_t n)
{
    enum { PART = 256 };
    const float a = 1.5957691f, b = 0.071354816f; /* 2 sqrt(2/pi), and 0.044715 times that */
    for (int64_t at = 0; at < n; at += PART) {
        float up[PART];
        int64_t part = n - at < PART ? n - at : PART;
        for (int64_t i = 0; i < part; i++) {
            float t = a + b * (x[at + i] * x[at + i]);
            up[i] = 1.0f / t;
            x[at + i] *= t;
        }
        kernels()->floats->swiglu(x + at, x + at, up, part);
    }
}

/* erf(z) for |z| < 3.92 as z P(z^2) / Q(z^2), fitted for the least relative error (3e-8, in float32 4e-7); beyond it is +-1 in float32. No calls
 * and no branches, so that compilers make vectors of it. */
static float erf_of(float z)
{
    float t = z * z;
    t = t < 16.0f ? t : 16.0f;
    float p = ((((2.00150956e-06f * t + 0.000282831576f) * t + 0.00380330777f) * t + 0.0528522565f) * t + 0.191670247f) * t + 1.12837916f;
    float q = ((((3.74832946e-05f * t + 0.00116634878f) * t + 0.0150459225f) * t + 0.114573827f) * t + 0.503196229f) * t + 1.0f;
    float e = z * p / q;
    e = z > 3.92f ? 1.0f : e;
    return z < -3.92f ? -1.0f : e;
}

void sv_gelu_erf(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = 0.5f * x[i] * (1.0f + erf_of(x[i] * 0.70710678f));
}

/* --- attention ---------------------------------------------------------------------------------------------------- */

static int64_t value_stride(int32_t head_dim)
{
    return sv_round_up(head_dim, 16);
}

size_t sv_kv_layer_floats(int32_t n_head_kv, int32_t head_dim)
{
    return (size_t)n_head_kv * SV_KV_PAGE * (size_t)(head_dim + value_stride(head_dim));
}

void sv_kv_write(const sv_kv_layout *kv, void *page, int32_t slot, const float *k, const float *v)
{
    float *keys = (float *)page + kv->k_at, *values = (float *)page + kv->v_at;
    int64_t stride = value_stride(kv->head_dim);
    for (int32_t h = 0; h < kv->n_head_kv; h++, k += kv->head_dim, v += kv->head_dim) {
        float *hk = keys + (int64_t)h * kv->head_dim * SV_KV_PAGE + slot;
        float *hv = values + ((int64_t)h * SV_KV_PAGE + slot) * stride;
        for (int32_t d = 0; d < kv->head_dim; d++)
            hk[(int64_t)d * SV_KV_PAGE] = k[d];
        memcpy(hv, v, (size_t)kv->head_dim * sizeof *hv);
        memset(hv + kv->head_dim, 0, (size_t)(stride - kv->head_dim) * sizeof *hv);
    }
}

typedef struct attn_pass {
    const sv_kernel_set *k;
    const sv_attn *a;
} attn_pass;

/* Blocks of queries that a chunk has for one kv head. */
static int32_t n_blocks(const sv_attn *a, const sv_attn_chunk *c)
{
    int32_t n = c->n_rows * (a->n_head / a->kv.n_head_kv);
    return (n + SV_ATTN_QUERIES - 1) / SV_ATTN_QUERIES;
}

static void attn_task(void *arg, int32_t i_task)
{
    const attn_pass *p = arg;
    const sv_attn *a = p->a;
    const sv_attn_chunk *c = a->chunks;
    int32_t n = n_blocks(a, c) * a->kv.n_head_kv;
    while (i_task >= n) {
        i_task -= n;
        n = n_blocks(a, ++c) * a->kv.n_head_kv;
    }
    int32_t n_queries = c->n_rows * (a->n_head / a->kv.n_head_kv);
    int32_t first = i_task / a->kv.n_head_kv * SV_ATTN_QUERIES, rest = n_queries - first;
    p->k->attend(a, c, i_task % a->kv.n_head_kv, first, rest < SV_ATTN_QUERIES ? rest : SV_ATTN_QUERIES);
}

void sv_attention(sv_pool *pool, const sv_attn *a)
{
    attn_pass p = {kernels()->floats, a};
    int32_t n_tasks = 0;
    int64_t work = 0;
    SV_ASSERT(a->kv.head_dim <= SV_MAX_HEAD_DIM && a->n_head % a->kv.n_head_kv == 0);
    for (int32_t i = 0; i < a->n_chunks; i++) {
        const sv_attn_chunk *c = &a->chunks[i];
        n_tasks += n_blocks(a, c) * a->kv.n_head_kv;
        work += (int64_t)c->n_rows * (c->pos + c->n_rows) * a->n_head * a->kv.head_dim;
    }
    if (work >= TASK_WORK) {
        sv_pool_run(pool, n_tasks, attn_task, &p);
        return;
    }
    for (int32_t i = 0; i < n_tasks; i++)
        attn_task(&p, i);
}
