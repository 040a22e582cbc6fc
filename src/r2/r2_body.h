/* r2_body.h - what happens to the bytes of an upload on their way to the store: unframed, summed, compared, encrypted
 *
 * Threads: one thread at a time; pieces come in order. */
#ifndef SV_R2_R2_BODY_H
#define SV_R2_R2_BODY_H

#include "r2/aws_chunked.h"
#include "r2/r2.h"

typedef struct sv_r2_intake {
    /* The first `skip` bytes are no payload but a document (the binding's): collected in `head`, which on_head reads once it is whole, and
     * may set what follows here. */
    size_t skip;
    sv_buf head;
    sv_rc (*on_head)(void *arg, sv_err *err);
    void *arg;

    sv_aws_chunks *chunks;        /* owned; NULL: the bytes come as they are */
    unsigned want;                /* sums to compute, MD5 besides */
    sv_sum_values expect;         /* those that must come out */
    bool expect_sha256_payload;   /* ... of which SHA-256 is the signature's, with a refusal of its own */
    int trailer_sum;              /* an sv_sum whose value is in the trailer "x-amz-checksum-...", -1: none */
    int64_t want_n;               /* bytes of the payload, -1: not known */
    int64_t max;                  /* SV_R2_TOO_LARGE over it */
    sv_r2_key ssec;
    uint8_t iv[16];

    int64_t n;                    /* bytes of the payload so far */
    sv_sum_values got;            /* after the end */
    sv_sums *sums;
} sv_r2_intake;
void sv_r2_intake_init(sv_r2_intake *in);
void sv_r2_intake_done(sv_r2_intake *in);
/* For sv_spool_opts.filter: the piece becomes what is stored. */
SV_MUST sv_rc sv_r2_intake_feed(void *in, sv_buf *piece, sv_err *err);
/* The body has ended: it must have been whole, and the sums right. SV_R2_BAD_DIGEST, SV_S3_SHA256_MISMATCH, SV_R2_INCOMPLETE_BODY. */
SV_MUST sv_rc sv_r2_intake_end(sv_r2_intake *in, sv_err *err);

#endif
