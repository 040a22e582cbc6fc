/* r2_check.c - the words and numbers of refusals, and the rules that all dialects share */
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "r2/r2_impl.h"

static const sv_r2_error errors[] = {
    {SV_R2_INTERNAL, SV_EIO, 500, "InternalError", "We encountered an internal error. Please try again."},
    {SV_R2_UNAUTHORIZED, SV_EINVAL, 401, "Unauthorized", "Unauthorized"},
    {SV_R2_ACCESS_DENIED, SV_EINVAL, 403, "AccessDenied", "Access Denied"},
    {SV_R2_BUCKET_EXISTS, SV_ECONFLICT, 409, "BucketAlreadyOwnedByYou", "The bucket you tried to create already exists, and you own it."},
    {SV_R2_BAD_BUCKET_NAME, SV_EINVAL, 400, "InvalidBucketName",
     "The specified bucket name is not valid: 3 to 63 lower-case letters, digits and hyphens, none at its ends."},
    {SV_R2_NO_BUCKET, SV_ENOENT, 404, "NoSuchBucket", "The specified bucket does not exist."},
    {SV_R2_NO_KEY, SV_ENOENT, 404, "NoSuchKey", "The specified key does not exist."},
    {SV_R2_NOT_EMPTY, SV_ECONFLICT, 409, "BucketNotEmpty", "The bucket you tried to delete is not empty."},
    {SV_R2_TOO_MANY_BUCKETS, SV_ELIMIT, 400, "TooManyBuckets", "You have attempted to create more buckets than allowed."},
    {SV_R2_TOO_SMALL, SV_EINVAL, 400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size."},
    {SV_R2_METADATA_TOO_LARGE, SV_EINVAL, 400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size."},
    {SV_R2_INCOMPLETE_BODY, SV_EINVAL, 400, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header."},
    {SV_R2_INVALID_DIGEST, SV_EINVAL, 400, "InvalidDigest", "The Content-MD5 or checksum value that you specified is not valid."},
    {SV_R2_EXPIRED, SV_EINVAL, 400, "ExpiredRequest", "Request has expired."},
    {SV_R2_BAD_KEY, SV_EINVAL, 400, "InvalidObjectName", "The specified object name is not valid."},
    {SV_R2_BAD_MAX_KEYS, SV_EINVAL, 400, "InvalidArgument", "MaxKeys params must be positive integer <= 1000."},
    {SV_R2_NO_UPLOAD, SV_ENOENT, 404, "NoSuchUpload", "The specified multipart upload does not exist."},
    {SV_R2_BAD_PART, SV_EINVAL, 400, "InvalidPart", "One or more of the specified parts could not be found."},
    {SV_R2_BAD_ARGUMENT, SV_EINVAL, 400, "InvalidArgument", "Metadata missing or invalid"},
    {SV_R2_PRECONDITION, SV_ECONFLICT, 412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold."},
    {SV_R2_NO_LENGTH, SV_EINVAL, 411, "MissingContentLength", "You must provide the Content-Length HTTP header."},
    {SV_R2_BAD_SIGNATURE, SV_EINVAL, 403, "SignatureDoesNotMatch",
     "The request signature we calculated does not match the signature you provided. Check your secret access key and signing method."},
    {SV_R2_BAD_DIGEST, SV_EINVAL, 400, "BadDigest", "The checksum you specified did not match what we received."},
    {SV_R2_BAD_RANGE, SV_EINVAL, 416, "InvalidRange", "The requested range is not satisfiable"},
    {SV_R2_BAD_JSON, SV_EFORMAT, 400, "MalformedXML", "The JSON you provided was not well formed."},
    {SV_R2_UNAVAILABLE, SV_ELIMIT, 503, "ServiceUnavailable", "Too much is waiting; try again in a moment."},
    {SV_R2_UNEQUAL_PARTS, SV_EINVAL, 400, "InvalidPart", "There was a problem with the multipart upload."},
    {SV_R2_TOO_MANY, SV_ELIMIT, 429, "TooManyRequests", "Reduce your rate of requests."},
    {SV_R2_NO_CORS, SV_ENOENT, 404, "NoSuchCORSConfiguration", "The CORS configuration does not exist."},
    {SV_R2_LOCKED, SV_EINVAL, 403, "ObjectLockedByBucketPolicy", "The object is locked by a rule of its bucket."},
    {SV_R2_NO_NOTIFICATION, SV_ENOENT, 404, "NoSuchConfiguration", "There is no event notification configuration for this bucket or queue."},
    {SV_R2_TOO_LARGE, SV_EINVAL, 400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size."},
    {SV_S3_MALFORMED_XML, SV_EFORMAT, 400, "MalformedXML", "The XML you provided was not well formed or did not validate against our published schema."},
    {SV_S3_NOT_IMPLEMENTED, SV_EINVAL, 501, "NotImplemented", "This operation is not implemented."},
    {SV_S3_NO_ACCESS_KEY, SV_EINVAL, 403, "InvalidAccessKeyId", "The access key id you provided does not exist in our records."},
    {SV_S3_MALFORMED_AUTH, SV_EINVAL, 400, "AuthorizationHeaderMalformed", "The authorization header that you provided is not valid."},
    {SV_S3_SKEWED, SV_EINVAL, 403, "RequestTimeTooSkewed", "The difference between the request time and the server's time is too large."},
    {SV_S3_NO_LIFECYCLE, SV_ENOENT, 404, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist."},
    {SV_S3_SHA256_MISMATCH, SV_EINVAL, 400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."},
    {SV_S3_METHOD, SV_EINVAL, 405, "MethodNotAllowed", "The specified method is not allowed against this resource."},
    {SV_S3_PART_ORDER, SV_EINVAL, 400, "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number."},
    {SV_S3_INVALID_REQUEST, SV_EINVAL, 400, "InvalidRequest", "Invalid Request"},
    {SV_S3_MISSING_KEY, SV_EINVAL, 400, "InvalidRequest",
     "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."},
    {SV_S3_NOT_MODIFIED, SV_EINVAL, 304, "NotModified", "Not Modified"},
    {SV_S3_INVALID_TOKEN, SV_EINVAL, 400, "InvalidToken", "The provided token is malformed or otherwise invalid."},
    {SV_S3_OWNED_BY_YOU, SV_ECONFLICT, 409, "BucketAlreadyOwnedByYou", "The bucket you tried to create already exists, and you own it."},
    {SV_S3_BAD_TRAILER, SV_EINVAL, 400, "MalformedTrailerError", "The request contained trailing data that was not well formed."},
    {SV_S3_BAD_LOCATION, SV_EINVAL, 400, "InvalidLocationConstraint", "The specified location constraint is not valid."},
    {SV_S3_BAD_PART_NUMBER, SV_EINVAL, 400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive."},
    {SV_S3_NO_ENCRYPTION, SV_ENOENT, 404, "ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found."},
    {SV_S3_NO_CORS_MATCH, SV_EINVAL, 403, "AccessForbidden", "CORSResponse: This CORS request is not allowed."},
};

const sv_r2_error *sv_r2_error_of(int code)
{
    for (size_t i = 0; i < SV_LEN(errors); i++)
        if (errors[i].code == code)
            return &errors[i];
    return NULL;
}

sv_rc sv_r2_fail(sv_err *err, int code)
{
    const sv_r2_error *e = sv_r2_error_of(code);
    SV_ASSERT(e);
    return sv_fail_api(err, e->rc, code, "%s", e->text);
}

sv_rc sv_r2_failf(sv_err *err, int code, const char *fmt, ...)
{
    char text[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const sv_r2_error *e = sv_r2_error_of(code);
    SV_ASSERT(e);
    return sv_fail_api(err, e->rc, code, "%s", text);
}

int sv_r2_status(const sv_err *err)
{
    const sv_r2_error *e = sv_r2_error_of(err->api_code);
    if (e && !err->ours)
        return e->status;
    switch (err->code) {
    case SV_EINVAL: case SV_EFORMAT: return err->ours ? 500 : 400;
    case SV_ELIMIT: return err->ours ? 507 : 429;
    case SV_ENOMEM: return 503;
    default: return 500;
    }
}

const char *sv_r2_class_name(sv_r2_class c) { return c == SV_R2_INFREQUENT ? "InfrequentAccess" : "Standard"; }

/* ---- names ---- */

sv_rc sv_r2_check_key(sv_str key, sv_err *err)
{
    if (key.n == 0 || key.n > SV_R2_MAX_KEY || memchr(key.p, 0, key.n) || !sv_utf8_valid(key))
        return sv_r2_fail(err, SV_R2_BAD_KEY);
    return SV_OK;
}

sv_rc sv_r2_check_bucket_name(sv_str name, sv_err *err)
{
    bool good = name.n >= 3 && name.n <= SV_R2_MAX_BUCKET_NAME && name.p[0] != '-' && name.p[name.n - 1] != '-';
    for (size_t i = 0; good && i < name.n; i++)
        good = (name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '-';
    return good ? SV_OK : sv_r2_fail(err, SV_R2_BAD_BUCKET_NAME);
}

/* As the hosted service counts: characters, each of two bytes once one of them is above U+00FF. */
static size_t counted(const char *p, size_t n)
{
    size_t units = 0;
    bool wide = false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        units += ((c & 0xc0) != 0x80) + (c >= 0xf0);
        wide |= c >= 0xc4;
    }
    return wide ? units * 2 : units;
}

sv_rc sv_r2_check_metadata(const json_t *custom, sv_err *err)
{
    size_t n = 0;
    const char *name;
    json_t *v;
    json_object_foreach ((json_t *)(uintptr_t)custom, name, v)
        n += counted(name, strlen(name)) + counted(json_string_value(v), json_string_length(v));
    return n <= SV_R2_MAX_METADATA ? SV_OK : sv_r2_fail(err, SV_R2_METADATA_TOO_LARGE);
}

void sv_r2_key_set(sv_r2_key *k, const uint8_t key[32])
{
    sv_sum_values v;
    SV_AUTO(sv_buf_donep) sv_buf b = {0};
    sv_buf_init(&b, 0);
    memcpy(k->key, key, 32);
    sv_sums_of(&v, 1u << SV_SUM_MD5, key, 32);
    sv_base64_encode(&b, v.v[SV_SUM_MD5], 16);
    snprintf(k->md5, sizeof k->md5, "%s", sv_buf_cstr(&b));
    k->given = true;
}

/* ---- conditions ---- */

static bool includes(const sv_r2_etag *v, size_t n, const char *etag, bool weakly)
{
    for (size_t i = 0; i < n; i++)
        if (v[i].any || ((weakly || !v[i].weak) && sv_str_is(v[i].value, etag)))
            return true;
    return false;
}

static int64_t grain(const sv_r2_cond *c, int64_t ms) { return c->seconds ? ms - (ms % 1000 + 1000) % 1000 : ms; }

/* RFC 9110, 13.2.2: a date counts only where the tag of its kind is absent. */
bool sv_r2_cond_holds(const sv_r2_cond *c, const sv_r2_obj *o, bool *not_modified)
{
    *not_modified = false;
    if (!o)
        return !c->has_match && !c->has_after;
    bool match = !c->has_match || includes(c->match, c->n_match, o->etag, false);
    bool none = !c->has_none || !includes(c->none, c->n_none, o->etag, true);
    int64_t at = grain(c, o->uploaded_ms), before = grain(c, c->before_ms);
    bool after = !c->has_after || grain(c, c->after_ms) < at || (c->has_none && none);
    bool early = !c->has_before || at < before || (c->inclusive && at == before) || (c->has_match && match);
    *not_modified = match && early && !(none && after);
    return match && none && after && early;
}

/* ---- ranges ---- */

sv_rc sv_r2_range_of(const sv_r2_range *r, int64_t size, int64_t *at, int64_t *n, sv_err *err)
{
    int64_t offset = 0, length = size;
    if (r->kind == SV_R2_SUFFIX) {
        if (r->length <= 0)
            return sv_r2_fail(err, SV_R2_BAD_RANGE);
        length = r->length < size ? r->length : size;
        offset = size - length;
    } else if (r->kind == SV_R2_FROM) {
        offset = r->offset;
        if (offset < 0 || offset > size)
            return sv_r2_fail(err, SV_R2_BAD_RANGE);
        length = r->length < 0 || r->length > size - offset ? size - offset : r->length;
        if (length <= 0 || r->length == 0)
            return sv_r2_fail(err, SV_R2_BAD_RANGE);
    }
    *at = offset;
    *n = length;
    return SV_OK;
}

/* "bytes=a-b", "bytes=a-", "bytes=-n". Anything else, several ranges too, is as no range at all (RFC 9110, 14.2). */
bool sv_r2_range_parse(sv_str text, sv_r2_range *out)
{
    int64_t a = 0, b = 0;
    text = sv_str_trim(text);
    if (text.n < 7 || !sv_str_ieq((sv_str){text.p, 6}, "bytes="))
        return false;
    text = (sv_str){text.p + 6, text.n - 6};
    const char *dash = memchr(text.p, '-', text.n);
    if (!dash || memchr(text.p, ',', text.n))
        return false;
    sv_str left = sv_str_trim((sv_str){text.p, (size_t)(dash - text.p)}), right = sv_str_trim((sv_str){dash + 1, text.n - (size_t)(dash - text.p) - 1});
    if ((left.n && (!sv_str_to_i64(left, &a) || a < 0)) || (right.n && (!sv_str_to_i64(right, &b) || b < 0)) || (!left.n && !right.n))
        return false;
    if (!left.n)
        *out = (sv_r2_range){.kind = SV_R2_SUFFIX, .length = b};
    else if (!right.n)
        *out = (sv_r2_range){.kind = SV_R2_FROM, .offset = a, .length = -1};
    else if (b < a)
        return false;
    else
        *out = (sv_r2_range){.kind = SV_R2_FROM, .offset = a, .length = b - a + 1 > 0 ? b - a + 1 : INT64_MAX};
    return true;
}

/* ---- SSE-C: AES-256 in counter mode, so that any range can be read; a nonce of its own for each piece (r2_impl.h) ---- */

void sv_r2_crypt(const sv_r2_key *k, const uint8_t iv[16], int64_t at, char *p, size_t n)
{
    uint8_t counter[16], skip[16] = {0};
    memcpy(counter, iv, 16);
    uint64_t block = (uint64_t)at / 16;
    for (int i = 15; i >= 0 && block; i--) { /* counter += block, big-endian */
        uint64_t sum = counter[i] + (block & 0xff);
        counter[i] = (uint8_t)sum;
        block = (block >> 8) + (sum >> 8);
    }
    int out = 0;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    SV_ASSERT(c && EVP_EncryptInit_ex(c, EVP_aes_256_ctr(), NULL, k->key, counter) == 1);
    if (at % 16)
        SV_ASSERT(EVP_EncryptUpdate(c, skip, &out, skip, (int)(at % 16)) == 1);
    for (size_t i = 0; i < n; i += 1 << 20) {
        int piece = (int)(n - i < 1 << 20 ? n - i : 1 << 20);
        SV_ASSERT(EVP_EncryptUpdate(c, (uint8_t *)p + i, &out, (uint8_t *)p + i, piece) == 1);
    }
    EVP_CIPHER_CTX_free(c);
}

/* ---- values in a row: a mask of two bytes, then the values in order ---- */

size_t sv_r2_pack_sums(const sv_sum_values *v, uint8_t out[SV_R2_SUMS_MAX])
{
    size_t n = 2;
    out[0] = (uint8_t)(v->mask & 0xff);
    out[1] = (uint8_t)(v->mask >> 8);
    for (int i = 0; i < SV_N_SUMS; i++)
        if (v->mask & 1u << i) {
            memcpy(out + n, v->v[i], sv_sum_bytes((sv_sum)i));
            n += sv_sum_bytes((sv_sum)i);
        }
    return n;
}

void sv_r2_unpack_sums(sv_sum_values *v, sv_str from)
{
    *v = (sv_sum_values){0};
    if (from.n < 2)
        return;
    unsigned mask = (unsigned char)from.p[0] | (unsigned)(unsigned char)from.p[1] << 8;
    size_t at = 2;
    for (int i = 0; i < SV_N_SUMS; i++)
        if (mask & 1u << i) {
            size_t n = sv_sum_bytes((sv_sum)i);
            if (at + n > from.n)
                return;
            memcpy(v->v[i], from.p + at, n);
            v->mask |= 1u << i;
            at += n;
        }
}
