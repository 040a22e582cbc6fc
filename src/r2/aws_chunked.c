/* aws_chunked.c - the body encoding of AWS SDKs that do not know a stream's sum before they send it
 *
 *     <hex size>[;chunk-signature=<64 hex>] CRLF <bytes> CRLF   ...   0[;chunk-signature=...] CRLF [trailer lines] CRLF
 *
 * A signed chunk's signature covers the SHA-256 of its bytes and the signature before it, the first one that of the request's head: so a
 * chunk can neither be changed, left out nor moved. Trailers are signed in the same chain by the line x-amz-trailer-signature.
 *
 * A machine that keeps one line at most and writes over what it has read: its output is never longer than its input. */
#include "r2/aws_chunked.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "r2/r2_errors.h"

enum { MAX_LINE = 4096, MAX_TRAILERS = 16384 };
enum state { SIZE, DATA, DATA_END, TRAILER, OVER };

struct sv_aws_chunks {
    sv_aws_chunks_opts o;
    char *scope;
    enum state state;
    sv_buf line;              /* up to its LF */
    uint64_t left;            /* of the chunk */
    char signature[65];       /* that the chunk claims */
    char before[65];          /* the one before it */
    EVP_MD_CTX *sha;          /* of the chunk's bytes */
    sv_buf trailers;          /* "name:value\n" each, names in lower case, as they are signed */
    bool trailer_signed;
};

sv_aws_chunks *sv_aws_chunks_new(const sv_aws_chunks_opts *o)
{
    sv_aws_chunks *c = sv_xnew0(sv_aws_chunks);
    c->o = *o;
    c->scope = sv_xstrndup(o->scope.n ? o->scope.p : "", o->scope.n);
    memcpy(c->before, o->seed, sizeof c->before);
    sv_buf_init(&c->line, MAX_LINE);
    sv_buf_init(&c->trailers, MAX_TRAILERS);
    c->sha = EVP_MD_CTX_new();
    SV_ASSERT(c->sha);
    return c;
}

sv_aws_chunks *sv_aws_chunks_free(sv_aws_chunks *c)
{
    if (!c)
        return NULL;
    EVP_MD_CTX_free(c->sha);
    sv_buf_done(&c->line);
    sv_buf_done(&c->trailers);
    explicit_bzero(&c->o, sizeof c->o);
    free(c->scope);
    free(c);
    return NULL;
}

static sv_rc bad(sv_err *err, const char *what) { return sv_r2_failf(err, SV_R2_INCOMPLETE_BODY, "The aws-chunked body is broken: %s", what); }

/* ---- signatures ---- */

/* middle: the line between the signature before and the sum; NULL: none. */
static void sign(const sv_aws_chunks *c, const char *kind, const char *middle, const char *sum, char out[65])
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    uint8_t mac[32];
    sv_buf_init(&text, 4096);
    sv_buf_addf(&text, "%s\n%s\n%s\n%s\n", kind, c->o.date, c->scope, c->before);
    if (middle)
        sv_buf_addf(&text, "%s\n", middle);
    sv_buf_adds(&text, sum);
    sv_hmac_sha256(mac, c->o.key, sizeof c->o.key, text.p, text.n);
    sv_hex(out, mac, sizeof mac);
}

static sv_rc check(sv_aws_chunks *c, const char *kind, const char *middle, const char *sum, sv_err *err)
{
    char right[65];
    sign(c, kind, middle, sum, right);
    if (!sv_equal_ct(right, c->signature, 64))
        return sv_r2_fail(err, SV_R2_BAD_SIGNATURE);
    memcpy(c->before, right, sizeof right);
    return SV_OK;
}

static sv_rc check_chunk(sv_aws_chunks *c, sv_err *err)
{
    static const char empty[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    uint8_t sum[32];
    char hex[65];
    if (!c->o.is_signed)
        return SV_OK;
    EVP_DigestFinal_ex(c->sha, sum, NULL);
    sv_hex(hex, sum, sizeof sum);
    return check(c, "AWS4-HMAC-SHA256-PAYLOAD", empty, hex, err);
}

/* ---- lines ---- */

static bool take_signature(sv_aws_chunks *c, sv_str s)
{
    if (s.n != 64 || strspn(s.p, "0123456789abcdef") < 64)
        return false;
    memcpy(c->signature, s.p, 64);
    return true;
}

static sv_rc read_size(sv_aws_chunks *c, sv_str line, sv_err *err)
{
    const char *semi = memchr(line.p, ';', line.n);
    sv_str digits = sv_str_trim((sv_str){line.p, semi ? (size_t)(semi - line.p) : line.n});
    if (digits.n == 0 || digits.n > 16)
        return bad(err, "a chunk's size is no number of 1 to 16 hex digits");
    c->left = 0;
    for (size_t i = 0; i < digits.n; i++) {
        char d = digits.p[i];
        int v = d >= '0' && d <= '9' ? d - '0' : (d | 32) >= 'a' && (d | 32) <= 'f' ? (d | 32) - 'a' + 10 : -1;
        if (v < 0)
            return bad(err, "a chunk's size is no number of 1 to 16 hex digits");
        c->left = c->left << 4 | (uint64_t)v;
    }
    if (c->left > (uint64_t)1 << 50)
        return bad(err, "a chunk's size is absurd");
    sv_str ext = semi ? sv_str_trim((sv_str){semi + 1, line.n - (size_t)(semi + 1 - line.p)}) : (sv_str){0};
    if (c->o.is_signed && (!sv_str_starts(ext, "chunk-signature=") || !take_signature(c, (sv_str){ext.p + 16, ext.n - 16})))
        return bad(err, "a chunk has no signature");
    if (c->o.is_signed)
        SV_ASSERT(EVP_DigestInit_ex(c->sha, EVP_sha256(), NULL) == 1);
    if (c->left > 0) {
        c->state = DATA;
        return SV_OK;
    }
    c->state = TRAILER; /* which the last empty line ends, also where there are none */
    return check_chunk(c, err);
}

static sv_rc end_trailers(sv_aws_chunks *c, sv_err *err)
{
    uint8_t sum[32];
    char hex[65];
    c->state = OVER;
    if (!c->o.is_signed || !c->o.trailer)
        return SV_OK;
    if (!c->trailer_signed)
        return sv_r2_fail(err, SV_S3_BAD_TRAILER);
    sv_sha256(sum, c->trailers.n ? c->trailers.p : "", c->trailers.n);
    sv_hex(hex, sum, sizeof sum);
    return check(c, "AWS4-HMAC-SHA256-TRAILER", NULL, hex, err);
}

static sv_rc read_trailer(sv_aws_chunks *c, sv_str line, sv_err *err)
{
    static const char signature[] = "x-amz-trailer-signature";
    if (line.n == 0)
        return end_trailers(c, err);
    const char *colon = memchr(line.p, ':', line.n);
    if (!c->o.trailer || !colon || colon == line.p)
        return sv_r2_fail(err, SV_S3_BAD_TRAILER);
    sv_str name = sv_str_trim((sv_str){line.p, (size_t)(colon - line.p)}), value = sv_str_trim((sv_str){colon + 1, line.n - (size_t)(colon + 1 - line.p)});
    if (sv_str_ieq(name, signature)) {
        c->trailer_signed = take_signature(c, value);
        return c->trailer_signed ? SV_OK : sv_r2_fail(err, SV_S3_BAD_TRAILER);
    }
    for (size_t i = 0; i < name.n; i++)
        sv_buf_addc(&c->trailers, (char)(name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] + 32 : name.p[i]));
    sv_buf_addc(&c->trailers, ':');
    sv_buf_add(&c->trailers, value.p, value.n);
    sv_buf_addc(&c->trailers, '\n');
    return c->trailers.failed ? sv_r2_fail(err, SV_S3_BAD_TRAILER) : SV_OK;
}

static sv_rc read_line(sv_aws_chunks *c, sv_err *err)
{
    sv_str line = sv_buf_str(&c->line);
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    sv_rc rc = SV_OK;
    if (c->state == SIZE)
        rc = read_size(c, line, err);
    else if (c->state == TRAILER)
        rc = read_trailer(c, line, err);
    else if (line.n)
        rc = bad(err, "a chunk is longer than it says");
    else
        c->state = SIZE;
    sv_buf_reset(&c->line);
    return rc;
}

/* ---- the machine ---- */

sv_rc sv_aws_chunks_decode(sv_aws_chunks *c, char *p, size_t n, size_t *out, sv_err *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < n;) {
        if (c->state == OVER)
            return bad(err, "bytes follow its end");
        if (c->state == DATA) {
            size_t k = n - i < c->left ? n - i : (size_t)c->left;
            if (c->o.is_signed)
                EVP_DigestUpdate(c->sha, p + i, k);
            memmove(p + kept, p + i, k);
            kept += k;
            i += k;
            c->left -= k;
            if (c->left == 0) {
                c->state = DATA_END;
                if (check_chunk(c, err) != SV_OK)
                    return err->code;
            }
            continue;
        }
        const char *lf = memchr(p + i, '\n', n - i);
        size_t k = lf ? (size_t)(lf - (p + i)) : n - i;
        if (!sv_buf_add(&c->line, p + i, k))
            return bad(err, "a line has no end");
        i += k + (lf != NULL);
        if (lf && read_line(c, err) != SV_OK)
            return err->code;
    }
    *out = kept;
    return SV_OK;
}

sv_rc sv_aws_chunks_end(const sv_aws_chunks *c, sv_err *err)
{
    if (c->state == OVER)
        return SV_OK;
    /* Some senders leave the last empty line out. */
    if (c->state == TRAILER && c->line.n == 0 && c->trailers.n == 0 && !c->o.trailer)
        return SV_OK;
    return bad(err, "it ends before its last chunk");
}

sv_str sv_aws_chunks_trailer(const sv_aws_chunks *c, const char *name)
{
    sv_str rest = sv_buf_str(&c->trailers);
    size_t n = strlen(name);
    while (rest.n) {
        size_t end = (size_t)((const char *)memchr(rest.p, '\n', rest.n) - rest.p);
        if (end > n && memcmp(rest.p, name, n) == 0 && rest.p[n] == ':')
            return (sv_str){rest.p + n + 1, end - n - 1};
        rest = (sv_str){rest.p + end + 1, rest.n - end - 1};
    }
    return (sv_str){0};
}
