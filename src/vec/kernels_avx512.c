/* kernels_avx512.c - AVX-512 as every such CPU since 2017 has it */
#define SET sv_vec_kernels_avx512
#define SET_NAME "avx512"
#define SET_VNNI 0
#include "vec/kernels_avx512_body.h"
