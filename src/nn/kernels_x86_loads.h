/* kernels_x86_loads.h - 32 weights of each quantised type as floats; the including file has defined `group widen(bytes32)` */

static ALWAYS_INLINE group load_q8_0(const uint8_t *row, int64_t k)
{
    float d;
    group g = widen(x86_q8_0(row, k, &d));
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] *= d;
    return g;
}

static ALWAYS_INLINE group load_q4_0(const uint8_t *row, int64_t k)
{
    float d;
    group g = widen(x86_q4_0(row, k, &d));
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] *= d;
    return g;
}

static ALWAYS_INLINE group load_q4_k(const uint8_t *row, int64_t k)
{
    float d, m;
    group g = widen(x86_q4_k(row, k, &d, &m));
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] = g.v[i] * d - m;
    return g;
}

static ALWAYS_INLINE group load_q6_k(const uint8_t *row, int64_t k)
{
    float d[2];
    group g = widen(x86_q6_k(row, k, d));
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] *= d[i / (GV / 2)];
    return g;
}
