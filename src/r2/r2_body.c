/* r2_body.c - the intake */
#include "r2/r2_body.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "r2/r2_impl.h"

enum { MAX_HEAD = 1 << 20 };

void sv_r2_intake_init(sv_r2_intake *in)
{
    *in = (sv_r2_intake){.trailer_sum = -1, .want_n = -1, .max = SV_R2_MAX_UPLOAD};
    sv_buf_init(&in->head, MAX_HEAD);
}

void sv_r2_intake_done(sv_r2_intake *in)
{
    sv_buf_done(&in->head);
    sv_aws_chunks_free(in->chunks);
    sv_sums_free(in->sums);
    explicit_bzero(&in->ssec, sizeof in->ssec);
    in->chunks = NULL;
    in->sums = NULL;
}

static sv_rc take_head(sv_r2_intake *in, sv_buf *piece, sv_err *err)
{
    size_t n = in->skip - in->head.n < piece->n ? in->skip - in->head.n : piece->n;
    if (!sv_buf_add(&in->head, piece->p, n))
        return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "the request's metadata has %zu bytes, at most %d", in->skip, MAX_HEAD);
    memmove(piece->p, piece->p + n, piece->n - n);
    piece->n -= n;
    return in->head.n == in->skip ? in->on_head(in->arg, err) : SV_OK;
}

static void begin(sv_r2_intake *in)
{
    if (in->trailer_sum >= 0)
        in->want |= 1u << in->trailer_sum;
    in->sums = sv_sums_new(in->want | in->expect.mask | 1u << SV_SUM_MD5);
    if (in->ssec.given)
        sv_random(in->iv, sizeof in->iv);
}

sv_rc sv_r2_intake_feed(void *arg, sv_buf *piece, sv_err *err)
{
    sv_r2_intake *in = arg;
    if (in->head.n < in->skip && take_head(in, piece, err) != SV_OK)
        return err->code;
    if (in->head.n < in->skip)
        return SV_OK;
    if (!in->sums)
        begin(in);
    if (in->chunks && sv_aws_chunks_decode(in->chunks, piece->p, piece->n, &piece->n, err) != SV_OK)
        return err->code;
    if (in->n + (int64_t)piece->n > in->max)
        return sv_r2_fail(err, SV_R2_TOO_LARGE);
    if (in->want_n >= 0 && in->n + (int64_t)piece->n > in->want_n)
        return sv_r2_fail(err, SV_R2_INCOMPLETE_BODY);
    if (piece->n == 0)
        return SV_OK;
    sv_sums_add(in->sums, piece->p, piece->n);
    if (in->ssec.given)
        sv_r2_crypt(&in->ssec, in->iv, in->n, piece->p, piece->n);
    in->n += (int64_t)piece->n;
    return SV_OK;
}

static sv_rc trailer(sv_r2_intake *in, sv_err *err)
{
    char name[40];
    sv_sum s = (sv_sum)in->trailer_sum;
    SV_AUTO(sv_buf_donep) sv_buf value = {0};
    sv_err why = {0};
    sv_buf_init(&value, 256);
    snprintf(name, sizeof name, "x-amz-checksum-%s", sv_sum_name(s));
    for (char *p = name; *p; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
    sv_str text = sv_aws_chunks_trailer(in->chunks, name);
    if (!text.p)
        return sv_r2_failf(err, SV_S3_BAD_TRAILER, "The trailer %s, which the request announced, did not come.", name);
    if (sv_base64_decode(&value, text, &why) != SV_OK || value.n != sv_sum_bytes(s))
        return sv_r2_failf(err, SV_R2_INVALID_DIGEST, "Value for %s trailer is invalid.", name);
    memcpy(in->expect.v[s], value.p, value.n);
    in->expect.mask |= 1u << s;
    return SV_OK;
}

static sv_rc mismatch(const sv_r2_intake *in, sv_sum s, sv_err *err)
{
    static const char *const names[] = {"MD5", "SHA-1", "SHA-256", "SHA-384", "SHA-512", "CRC32", "CRC32C", "CRC64NVME"};
    char gave[2 * SV_SUM_BYTES + 1], got[2 * SV_SUM_BYTES + 1];
    if (s == SV_SUM_SHA256 && in->expect_sha256_payload)
        return sv_r2_fail(err, SV_S3_SHA256_MISMATCH);
    sv_hex(gave, in->expect.v[s], sv_sum_bytes(s));
    sv_hex(got, in->got.v[s], sv_sum_bytes(s));
    return sv_r2_failf(err, SV_R2_BAD_DIGEST,
                       "The %s checksum you specified did not match what we received.\nYou provided a %s checksum with value: %s\nActual %s was: %s", names[s],
                       names[s], gave, names[s], got);
}

sv_rc sv_r2_intake_end(sv_r2_intake *in, sv_err *err)
{
    if (in->head.n < in->skip)
        return sv_r2_fail(err, SV_R2_INCOMPLETE_BODY);
    if (!in->sums)
        begin(in);
    if (in->chunks && sv_aws_chunks_end(in->chunks, err) != SV_OK)
        return err->code;
    if (in->want_n >= 0 && in->n != in->want_n)
        return sv_r2_fail(err, SV_R2_INCOMPLETE_BODY);
    if (in->trailer_sum >= 0 && in->chunks && trailer(in, err) != SV_OK)
        return err->code;
    sv_sums_end(in->sums, &in->got);
    for (int i = 0; i < SV_N_SUMS; i++)
        if ((in->expect.mask & 1u << i) && memcmp(in->expect.v[i], in->got.v[i], sv_sum_bytes((sv_sum)i)) != 0)
            return mismatch(in, (sv_sum)i, err);
    return SV_OK;
}
