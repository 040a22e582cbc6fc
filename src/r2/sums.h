/* sums.h - the digests and CRCs that R2 keeps of an object, all in one pass over its bytes
 *
 * Threads: values; one thread at a time. */
#ifndef SV_R2_SUMS_H
#define SV_R2_SUMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef enum sv_sum {
    SV_SUM_MD5, SV_SUM_SHA1, SV_SUM_SHA256, SV_SUM_SHA384, SV_SUM_SHA512,
    SV_SUM_CRC32, SV_SUM_CRC32C, SV_SUM_CRC64NVME,
    SV_N_SUMS,
} sv_sum;
enum { SV_SUM_BYTES = 64 }; /* of the longest */

size_t sv_sum_bytes(sv_sum s);
const char *sv_sum_name(sv_sum s);          /* "MD5", "CRC64NVME" */
bool sv_sum_of_name(sv_str name, sv_sum *out); /* any case, also "SHA-256" */

/* Values of those in `mask` (1 << sv_sum). CRCs are big-endian, as they travel. */
typedef struct sv_sum_values { unsigned mask; uint8_t v[SV_N_SUMS][SV_SUM_BYTES]; } sv_sum_values;

typedef struct sv_sums sv_sums;
sv_sums *sv_sums_new(unsigned mask);
void sv_sums_add(sv_sums *s, const void *p, size_t n);
void sv_sums_end(sv_sums *s, sv_sum_values *out); /* nothing is added after it */
sv_sums *sv_sums_free(sv_sums *s);                /* NULL is fine */
SV_DEFINE_AUTO(sv_sums, sv_sums_free)
void sv_sums_of(sv_sum_values *out, unsigned mask, const void *p, size_t n);

/* The CRC of A followed by B from the CRCs of both and the length of B. which: one of the CRCs; out may be a. */
void sv_sum_crc_join(sv_sum which, uint8_t *out, const uint8_t *a, const uint8_t *b, uint64_t n_b);

#endif
