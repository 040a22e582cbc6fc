/* kernels_vec.h - names for vectors of LANES floats; the including file has defined
 *     LANES, vec   floats a vector, and its type: a GNU vector, so that + - * / work on it
 *     UNROLL       stands before loops whose count is a constant once inlined */

#define ALWAYS_INLINE __attribute__((always_inline)) inline

enum { NV = 16 / LANES, GROUP = 32, GV = GROUP / LANES };
typedef vec uvec __attribute__((aligned(4), may_alias)); /* loads and stores anywhere */
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef struct group { vec v[GV]; } group;  /* 32 weights or activations */
typedef struct acc16 { vec v[NV]; } acc16;  /* the 16 lanes of one sum */

static ALWAYS_INLINE vec v_load(const float *p)
{
    return *(const uvec *)p;
}

static ALWAYS_INLINE void v_store(float *p, vec v)
{
    *(uvec *)p = v;
}

static ALWAYS_INLINE vec v_set1(float f)
{
    return (vec){0} + f;
}

static ALWAYS_INLINE vec v_select(ivec mask, vec yes, vec no)
{
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

static ALWAYS_INLINE group group_load(const float *p)
{
    group g;
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] = v_load(p + i * LANES);
    return g;
}
