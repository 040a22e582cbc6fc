/* links: r2 */
/* aws-chunked bodies, signed (with a key of zeros) and not, in two pieces: decoded bytes are never more than came, and a refusal says why. */
#include <string.h>

#include "r2/aws_chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    sv_aws_chunks_opts o = {.is_signed = p[0] & 1, .trailer = p[0] & 2, .date = "20130524T000000Z", .scope = SV_STR("20130524/auto/s3/aws4_request")};
    sv_aws_chunks *c = sv_aws_chunks_new(&o);
    sv_err err = {0};
    size_t cut = 2 + p[1] % (n - 1 ? n - 1 : 1), total = 0, got = 0;
    if (cut > n)
        cut = n;
    char *body = sv_xcalloc(n, 1);
    memcpy(body, p + 2, n - 2);
    sv_rc rc = sv_aws_chunks_decode(c, body, cut - 2, &got, &err);
    total += rc == SV_OK ? got : 0;
    if (rc == SV_OK && (rc = sv_aws_chunks_decode(c, body + cut - 2, n - cut, &got, &err)) == SV_OK)
        total += got;
    SV_ASSERT(total <= n - 2);
    SV_ASSERT(rc == SV_OK || (err.msg[0] && err.api_code));
    if (rc == SV_OK && sv_aws_chunks_end(c, &err) == SV_OK)
        sv_aws_chunks_trailer(c, "x-amz-checksum-crc32");
    free(body);
    sv_aws_chunks_free(c);
    return 0;
}
