/* kernels_avx512_vnni.c - AVX-512 with VNNI and VPOPCNTDQ: four byte products or eight popcounts a lane in one instruction */
#define SET sv_vec_kernels_avx512_vnni
#define SET_NAME "avx512-vnni"
#define SET_VNNI 1
#include "vec/kernels_avx512_body.h"
