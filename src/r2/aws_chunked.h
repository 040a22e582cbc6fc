/* aws_chunked.h - takes the framing off a body in "aws-chunked" encoding, signed or not, with or without trailers
 *
 * Threads: values; one thread at a time. */
#ifndef SV_R2_AWS_CHUNKED_H
#define SV_R2_AWS_CHUNKED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef struct sv_aws_chunks sv_aws_chunks;

typedef struct sv_aws_chunks_opts {
    bool is_signed, trailer;      /* each chunk carries a signature; trailers may follow the last */
    uint8_t key[32];              /* signed: the day's signing key, */
    char date[17];                /* "20261125T024358Z", */
    sv_str scope;                 /* "20261125/auto/s3/aws4_request", copied, */
    char seed[65];                /* and the signature of the head */
} sv_aws_chunks_opts;

sv_aws_chunks *sv_aws_chunks_new(const sv_aws_chunks_opts *o);
sv_aws_chunks *sv_aws_chunks_free(sv_aws_chunks *c); /* NULL is fine */
SV_DEFINE_AUTO(sv_aws_chunks, sv_aws_chunks_free)

/* Decodes n bytes in place, in pieces of any size; *out: how many bytes of p are the body's. Refusals carry R2's numbers: a size that is no
 * number, a line without end, bytes behind the end, a signature that is not right. */
SV_MUST sv_rc sv_aws_chunks_decode(sv_aws_chunks *c, char *p, size_t n, size_t *out, sv_err *err);
SV_MUST sv_rc sv_aws_chunks_end(const sv_aws_chunks *c, sv_err *err); /* the body has ended: was it whole? */
/* A trailer's value, by its name in lower case; {NULL, 0}: absent. Borrowed. */
sv_str sv_aws_chunks_trailer(const sv_aws_chunks *c, const char *name);

#endif
