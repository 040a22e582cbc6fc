/* sigv4.h - AWS Signature Version 4 as S3 uses it: in the Authorization header, or in the query of a presigned URL
 *
 * Threads: pure functions. */
#ifndef SV_R2_SIGV4_H
#define SV_R2_SIGV4_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* The request as it came: nothing decoded. */
typedef struct sv_sigv4_req {
    const char *method;
    sv_str path, query;
    int n_headers;
    void (*header_at)(void *ctx, int i, sv_str *name, sv_str *value);
    void *ctx;
} sv_sigv4_req;

enum { SV_SIGV4_MAX_QUERY = 16 << 10, SV_SIGV4_MAX_SIGNED = 64, SV_SIGV4_MAX_EXPIRES_S = 604800, SV_SIGV4_SKEW_S = 900 };

typedef struct sv_sigv4 {
    char key_id[129];
    char day[9], region[65];
    char scope[100];          /* "20261125/auto/s3/aws4_request" */
    char signed_headers[1025];
    char signature[65];
    char date[17];            /* "20261125T024358Z" */
    int64_t at_s;             /* the same, since 1970 */
    bool presigned;
    int64_t expires_s;        /* of a presigned URL */
    char payload[80];         /* x-amz-content-sha256: 64 hex digits, or one of its words */
} sv_sigv4;

/* Whether the request claims to be signed at all. */
bool sv_sigv4_present(const sv_sigv4_req *r);
/* Reads the claim: SV_S3_MALFORMED_AUTH, SV_S3_INVALID_REQUEST (a signature of another version). */
SV_MUST sv_rc sv_sigv4_parse(sv_sigv4 *out, const sv_sigv4_req *r, sv_err *err);
/* "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...": the header's part of it. */
SV_MUST sv_rc sv_sigv4_parse_header(sv_sigv4 *out, sv_str authorization, sv_err *err);
/* Checks the claim: SV_S3_SKEWED, SV_R2_EXPIRED, SV_R2_BAD_SIGNATURE. key: the day's signing key, which chunks are signed with too. */
SV_MUST sv_rc sv_sigv4_verify(const sv_sigv4 *a, const sv_sigv4_req *r, const char secret[65], int64_t now_s, uint8_t key[32], sv_err *err);

#endif
