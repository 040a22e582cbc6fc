/* kernels_x86_loads.h - 32 weights as floats, where AVX2 and AVX-512 do alike; the including file has defined `group widen(bytes32)` */

static ALWAYS_INLINE group load_q8_0(const uint8_t *p, int s, const scales *sc)
{
    (void)s;
    (void)sc;
    float d = x86_half(p);
    group g = widen((bytes32){x86_load(p + 2), x86_load(p + 18)});
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] *= d;
    return g;
}

static ALWAYS_INLINE group load_q6_k(const uint8_t *p, int s, const scales *sc)
{
    group g = widen(x86_q6_k(p, s));
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] *= sc->d[2 * s + i / (GV / 2)];
    return g;
}
