/* sigv4.c - signatures
 *
 *     key        HMAC("AWS4" secret, day) -> HMAC(region) -> HMAC("s3") -> HMAC("aws4_request")
 *     canonical  method LF path LF query LF (name:value LF)* LF signed names LF payload's hash
 *     signature  HMAC(key, "AWS4-HMAC-SHA256" LF date LF scope LF SHA-256 of the canonical request)
 *
 * A path is signed as it is encoded once; but clients differ in what they leave bare on the wire ('+', '=', '!'), and sign what they would
 * have encoded. So a path and a query are decoded and encoded again the one right way; where that does not fit, they are taken as they came.
 * Both are bound to the same request, so that the second look gives nothing away.
 *
 * A replayed request is not told from the first one: the signature says who and until when (15 minutes, or the URL's expiry), as on S3. */
#include "r2/sigv4.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/hash.h"
#include "base/time.h"
#include "r2/r2_errors.h"

/* ---- finding things ---- */

static sv_str header(const sv_sigv4_req *r, const char *name)
{
    sv_str n, v, found = {0};
    for (int i = 0; i < r->n_headers; i++) {
        r->header_at(r->ctx, i, &n, &v);
        if (sv_str_ieq(n, name))
            found = v;
    }
    return found;
}

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1; }

/* Decodes %XX, and '+' where it is a space; what is no escape stays. */
static void decode(sv_buf *out, sv_str s, bool plus)
{
    for (size_t i = 0; i < s.n; i++) {
        int hi = s.p[i] == '%' && i + 2 < s.n ? digit(s.p[i + 1]) : -1, lo = hi >= 0 ? digit(s.p[i + 2]) : -1;
        if (lo >= 0) {
            sv_buf_addc(out, (char)(hi << 4 | lo));
            i += 2;
        } else {
            sv_buf_addc(out, plus && s.p[i] == '+' ? ' ' : s.p[i]);
        }
    }
}

static void encode(sv_buf *out, sv_str s, bool keep_slash)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~' || (keep_slash && c == '/'))
            sv_buf_addc(out, c);
        else
            sv_buf_addf(out, "%%%02X", (unsigned char)c);
    }
}

/* The next name=value of a query; false at the end. */
static bool next_pair(sv_str *rest, sv_str *name, sv_str *value)
{
    while (rest->n) {
        const char *amp = memchr(rest->p, '&', rest->n);
        sv_str one = {rest->p, amp ? (size_t)(amp - rest->p) : rest->n};
        *rest = amp ? (sv_str){amp + 1, rest->n - one.n - 1} : (sv_str){0};
        if (one.n == 0)
            continue;
        const char *eq = memchr(one.p, '=', one.n);
        *name = (sv_str){one.p, eq ? (size_t)(eq - one.p) : one.n};
        *value = eq ? (sv_str){eq + 1, one.n - name->n - 1} : (sv_str){one.p + one.n, 0};
        return true;
    }
    return false;
}

/* A parameter of the query, decoded, into out; false: absent or too long. */
static bool parameter(const sv_sigv4_req *r, const char *name, char *out, size_t size)
{
    sv_str rest = r->query, n, v;
    while (next_pair(&rest, &n, &v)) {
        if (!sv_str_ieq(n, name))
            continue;
        SV_AUTO(sv_buf_donep) sv_buf b = {0};
        sv_buf_init(&b, 8192);
        decode(&b, v, true);
        if (b.failed || b.n >= size || memchr(sv_buf_cstr(&b), 0, b.n))
            return false;
        memcpy(out, sv_buf_cstr(&b), b.n);
        out[b.n] = 0;
        return true;
    }
    return false;
}

bool sv_sigv4_present(const sv_sigv4_req *r)
{
    char any[32];
    return header(r, "authorization").n || parameter(r, "x-amz-algorithm", any, sizeof any) || parameter(r, "x-amz-signature", any, sizeof any) ||
           memmem(r->query.p ? r->query.p : "", r->query.n, "X-Amz-", 6) != NULL;
}

/* ---- reading the claim ---- */

static sv_rc malformed(sv_err *err, const char *what) { return sv_r2_failf(err, SV_S3_MALFORMED_AUTH, "The authorization of the request is malformed: %s", what); }

/* "ID/20261125/auto/s3/aws4_request" */
static sv_rc read_credential(sv_sigv4 *out, sv_str s, sv_err *err)
{
    sv_str part[5];
    int n = 0;
    for (sv_str rest = s; n < 5; n++) {
        const char *slash = rest.n ? memchr(rest.p, '/', rest.n) : NULL;
        part[n] = (sv_str){rest.p, slash && n < 4 ? (size_t)(slash - rest.p) : rest.n};
        if (!slash || n == 4) {
            n++;
            break;
        }
        rest = (sv_str){slash + 1, rest.n - part[n].n - 1};
    }
    if (n != 5 || part[0].n == 0 || part[0].n >= sizeof out->key_id || part[1].n != 8 || part[2].n >= sizeof out->region || !sv_str_is(part[3], "s3") ||
        !sv_str_is(part[4], "aws4_request"))
        return malformed(err, "the credential must be ID/DAY/REGION/s3/aws4_request");
    snprintf(out->key_id, sizeof out->key_id, "%.*s", (int)part[0].n, part[0].p);
    snprintf(out->day, sizeof out->day, "%.*s", 8, part[1].p);
    snprintf(out->region, sizeof out->region, "%.*s", (int)part[2].n, part[2].n ? part[2].p : "");
    snprintf(out->scope, sizeof out->scope, "%s/%s/s3/aws4_request", out->day, out->region);
    return SV_OK;
}

static sv_rc read_signature(sv_sigv4 *out, sv_str s, sv_err *err)
{
    if (s.n != 64)
        return malformed(err, "the signature must have 64 hex digits");
    for (size_t i = 0; i < 64; i++)
        if (digit(s.p[i]) < 0 || (s.p[i] >= 'A' && s.p[i] <= 'F'))
            return malformed(err, "the signature must have 64 hex digits");
    memcpy(out->signature, s.p, 64);
    out->signature[64] = 0;
    return SV_OK;
}

static sv_rc read_signed(sv_sigv4 *out, sv_str s, sv_err *err)
{
    if (s.n == 0 || s.n >= sizeof out->signed_headers)
        return malformed(err, "the list of signed headers is missing or too long");
    snprintf(out->signed_headers, sizeof out->signed_headers, "%.*s", (int)s.n, s.p);
    return SV_OK;
}

sv_rc sv_sigv4_parse_header(sv_sigv4 *out, sv_str text, sv_err *err)
{
    static const char algorithm[] = "AWS4-HMAC-SHA256";
    bool credential = false, names = false, signature = false;
    text = sv_str_trim(text);
    if (sv_str_starts(text, "AWS "))
        return sv_r2_failf(err, SV_S3_INVALID_REQUEST, "Signature version 2 is not supported: please use AWS4-HMAC-SHA256.");
    if (!sv_str_starts(text, algorithm) || text.n <= sizeof algorithm || (text.p[sizeof algorithm - 1] != ' '))
        return malformed(err, "it must begin with AWS4-HMAC-SHA256");
    for (sv_str rest = {text.p + sizeof algorithm, text.n - sizeof algorithm}; rest.n;) {
        const char *comma = memchr(rest.p, ',', rest.n);
        sv_str one = sv_str_trim((sv_str){rest.p, comma ? (size_t)(comma - rest.p) : rest.n});
        rest = comma ? (sv_str){comma + 1, rest.n - (size_t)(comma + 1 - rest.p)} : (sv_str){0};
        sv_rc rc = SV_OK;
        if (sv_str_starts(one, "Credential=") && (credential = true))
            rc = read_credential(out, (sv_str){one.p + 11, one.n - 11}, err);
        else if (sv_str_starts(one, "SignedHeaders=") && (names = true))
            rc = read_signed(out, (sv_str){one.p + 14, one.n - 14}, err);
        else if (sv_str_starts(one, "Signature=") && (signature = true))
            rc = read_signature(out, (sv_str){one.p + 10, one.n - 10}, err);
        if (rc != SV_OK)
            return rc;
    }
    return credential && names && signature ? SV_OK : malformed(err, "it needs Credential, SignedHeaders and Signature");
}

/* "20261125T024358Z" */
static bool read_date(sv_sigv4 *out, sv_str s)
{
    struct tm tm = {0};
    char text[17];
    if (s.n != 16)
        return false;
    memcpy(text, s.p, 16);
    text[16] = 0;
    const char *end = strptime(text, "%Y%m%dT%H%M%SZ", &tm);
    if (!end || *end)
        return false;
    memcpy(out->date, text, sizeof text);
    out->at_s = (int64_t)timegm(&tm);
    return true;
}

static sv_rc parse_query(sv_sigv4 *out, const sv_sigv4_req *r, sv_err *err)
{
    char text[1200] = "", hash[80];
    out->presigned = true;
    if (!parameter(r, "x-amz-algorithm", text, sizeof text) || strcmp(text, "AWS4-HMAC-SHA256") != 0)
        return malformed(err, "X-Amz-Algorithm must be AWS4-HMAC-SHA256");
    if (!parameter(r, "x-amz-credential", text, sizeof text))
        return malformed(err, "X-Amz-Credential is missing");
    if (read_credential(out, sv_str_of(text), err) != SV_OK)
        return err->code;
    if (!parameter(r, "x-amz-signedheaders", text, sizeof text))
        return malformed(err, "X-Amz-SignedHeaders is missing");
    if (read_signed(out, sv_str_of(text), err) != SV_OK)
        return err->code;
    if (!parameter(r, "x-amz-signature", text, sizeof text))
        return malformed(err, "X-Amz-Signature is missing");
    if (read_signature(out, sv_str_of(text), err) != SV_OK)
        return err->code;
    if (!parameter(r, "x-amz-date", text, sizeof text) || !read_date(out, sv_str_of(text)))
        return malformed(err, "X-Amz-Date must be like 20261125T024358Z");
    if (!parameter(r, "x-amz-expires", text, sizeof text) || !sv_str_to_i64(sv_str_of(text), &out->expires_s) || out->expires_s < 1 ||
        out->expires_s > SV_SIGV4_MAX_EXPIRES_S)
        return malformed(err, "X-Amz-Expires must be a number of seconds from 1 to 604800");
    sv_str sum = header(r, "x-amz-content-sha256");
    if (parameter(r, "x-amz-content-sha256", hash, sizeof hash))
        sum = sv_str_of(hash);
    if (sum.n >= sizeof out->payload)
        return malformed(err, "X-Amz-Content-Sha256 is no hash");
    snprintf(out->payload, sizeof out->payload, "%.*s", (int)sum.n, sum.n ? sum.p : "");
    if (!sum.n)
        snprintf(out->payload, sizeof out->payload, "UNSIGNED-PAYLOAD");
    return SV_OK;
}

sv_rc sv_sigv4_parse(sv_sigv4 *out, const sv_sigv4_req *r, sv_err *err)
{
    sv_str auth = header(r, "authorization"), date = header(r, "x-amz-date"), sum = header(r, "x-amz-content-sha256");
    *out = (sv_sigv4){0};
    if (!auth.n)
        return parse_query(out, r, err);
    if (sv_sigv4_parse_header(out, auth, err) != SV_OK)
        return err->code;
    if (date.n ? !read_date(out, date) : !sv_parse_http_date(header(r, "date"), &out->at_s))
        return sv_r2_failf(err, SV_R2_ACCESS_DENIED, "AWS authentication requires a valid Date or x-amz-date header.");
    if (!date.n) {
        struct tm tm;
        time_t s = (time_t)out->at_s;
        gmtime_r(&s, &tm);
        strftime(out->date, sizeof out->date, "%Y%m%dT%H%M%SZ", &tm);
    }
    if (sum.n == 0 || sum.n >= sizeof out->payload)
        return sv_r2_failf(err, SV_S3_INVALID_REQUEST, "Missing required header for this request: x-amz-content-sha256");
    snprintf(out->payload, sizeof out->payload, "%.*s", (int)sum.n, sum.p);
    return SV_OK;
}

/* ---- the canonical request ---- */

typedef struct pair { char *name, *value; } pair;

static int by_name(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c ? c : strcmp(x->value, y->value);
}

static char *again(sv_str s, bool as_sent)
{
    sv_buf plain, out;
    if (as_sent)
        return sv_xstrndup(s.p, s.n);
    sv_buf_init(&plain, 4 * SV_SIGV4_MAX_QUERY);
    sv_buf_init(&out, 4 * SV_SIGV4_MAX_QUERY);
    decode(&plain, s, true);
    encode(&out, sv_buf_str(&plain), false);
    sv_buf_done(&plain);
    return sv_buf_take(&out);
}

/* false: more parameters than are signed here; what is not signed must not be there. */
static bool add_query(sv_buf *out, sv_str query, bool as_sent)
{
    enum { MOST = 256 };
    pair v[MOST];
    size_t n = 0;
    sv_str name, value;
    bool whole = true;
    while (whole && next_pair(&query, &name, &value)) {
        if (sv_str_ieq(name, "x-amz-signature"))
            continue;
        whole = n < MOST;
        if (whole)
            v[n++] = (pair){again(name, as_sent), again(value, as_sent)};
    }
    qsort(v, n, sizeof *v, by_name);
    for (size_t i = 0; i < n; i++) {
        sv_buf_addf(out, "%s%s=%s", i ? "&" : "", v[i].name, v[i].value);
        free(v[i].name);
        free(v[i].value);
    }
    return whole;
}

static void add_path(sv_buf *out, sv_str path, bool as_sent)
{
    SV_AUTO(sv_buf_donep) sv_buf plain = {0};
    if (as_sent) {
        sv_buf_add(out, path.p, path.n);
        return;
    }
    sv_buf_init(&plain, 128 << 10);
    decode(&plain, path, false);
    encode(out, sv_buf_str(&plain), true);
}

/* All values of the header, a comma between them, inner runs of spaces as one. */
static bool add_header(sv_buf *out, const sv_sigv4_req *r, sv_str name)
{
    sv_str n, v;
    bool found = false;
    sv_buf_add(out, name.p, name.n);
    sv_buf_addc(out, ':');
    for (int i = 0; i < r->n_headers; i++) {
        r->header_at(r->ctx, i, &n, &v);
        if (n.n != name.n || strncasecmp(n.p, name.p, n.n) != 0)
            continue;
        if (found)
            sv_buf_addc(out, ',');
        found = true;
        for (size_t k = 0; k < v.n; k++)
            if (v.p[k] != ' ' || k == 0 || v.p[k - 1] != ' ')
                sv_buf_addc(out, v.p[k]);
    }
    sv_buf_addc(out, '\n');
    return found;
}

static sv_rc add_headers(sv_buf *out, const sv_sigv4 *a, const sv_sigv4_req *r, sv_err *err)
{
    bool host = false;
    int n = 0;
    for (sv_str rest = sv_str_of(a->signed_headers); rest.n; n++) {
        const char *semi = memchr(rest.p, ';', rest.n);
        sv_str name = {rest.p, semi ? (size_t)(semi - rest.p) : rest.n};
        rest = semi ? (sv_str){semi + 1, rest.n - name.n - 1} : (sv_str){0};
        host |= sv_str_is(name, "host");
        if (n == SV_SIGV4_MAX_SIGNED || !add_header(out, r, name))
            return sv_r2_failf(err, SV_R2_BAD_SIGNATURE, "The signed header '%.*s' did not come.", (int)(name.n < 60 ? name.n : 60), name.p);
    }
    return host ? SV_OK : malformed(err, "the host must be among the signed headers");
}

static sv_rc canonical(sv_buf *out, const sv_sigv4 *a, const sv_sigv4_req *r, bool as_sent, sv_err *err)
{
    sv_buf_addf(out, "%s\n", r->method);
    add_path(out, r->path, as_sent);
    sv_buf_addc(out, '\n');
    if (!add_query(out, r->query, as_sent))
        return malformed(err, "the query has more than 256 parameters");
    sv_buf_addc(out, '\n');
    if (add_headers(out, a, r, err) != SV_OK)
        return err->code;
    sv_buf_addf(out, "\n%s\n%s", a->signed_headers, a->payload);
    return out->failed ? malformed(err, "the request is too large to be signed") : SV_OK;
}

/* ---- checking ---- */

static void signing_key(const sv_sigv4 *a, const char *secret, uint8_t out[32])
{
    char first[80];
    int n = snprintf(first, sizeof first, "AWS4%s", secret);
    sv_hmac_sha256(out, first, (size_t)n, a->day, strlen(a->day));
    sv_hmac_sha256(out, out, 32, a->region, strlen(a->region));
    sv_hmac_sha256(out, out, 32, "s3", 2);
    sv_hmac_sha256(out, out, 32, "aws4_request", 12);
    explicit_bzero(first, sizeof first);
}

static sv_rc check_time(const sv_sigv4 *a, int64_t now_s, sv_err *err)
{
    if (strncmp(a->day, a->date, 8) != 0)
        return malformed(err, "the credential's day is not the date's");
    if (a->presigned && a->at_s > now_s + SV_SIGV4_SKEW_S)
        return sv_r2_failf(err, SV_R2_ACCESS_DENIED, "Request is not yet valid.");
    if (a->presigned && a->at_s + a->expires_s < now_s)
        return sv_r2_fail(err, SV_R2_EXPIRED);
    if (!a->presigned && (a->at_s > now_s + SV_SIGV4_SKEW_S || a->at_s < now_s - SV_SIGV4_SKEW_S))
        return sv_r2_fail(err, SV_S3_SKEWED);
    return SV_OK;
}

sv_rc sv_sigv4_verify(const sv_sigv4 *a, const sv_sigv4_req *r, const char secret[65], int64_t now_s, uint8_t key[32], sv_err *err)
{
    if (r->query.n > SV_SIGV4_MAX_QUERY)
        return malformed(err, "the query is too long");
    if (check_time(a, now_s, err) != SV_OK)
        return err->code;
    signing_key(a, secret, key);
    for (int as_sent = 0; as_sent < 2; as_sent++) {
        SV_AUTO(sv_buf_donep) sv_buf text = {0};
        uint8_t sum[32], mac[32];
        char hex[65], right[65];
        sv_buf_init(&text, 512 << 10);
        if (canonical(&text, a, r, as_sent, err) != SV_OK)
            return err->code;
        sv_sha256(sum, text.p, text.n);
        sv_hex(hex, sum, sizeof sum);
        sv_buf_reset(&text);
        sv_buf_addf(&text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", a->date, a->scope, hex);
        sv_hmac_sha256(mac, key, 32, text.p, text.n);
        sv_hex(right, mac, sizeof mac);
        if (sv_equal_ct(right, a->signature, 64))
            return SV_OK;
    }
    return sv_r2_fail(err, SV_R2_BAD_SIGNATURE);
}
