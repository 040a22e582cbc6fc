/* r2_s3.c - the S3 endpoint: /s3/ACCOUNT/BUCKET/KEY, who calls, what goes wrong, and which operation it is
 *
 * A request is authenticated before a byte of its body is read: by the signature in its head, which covers the hash of the body, or the seed
 * of the chain that covers its chunks; the intake then holds the body to that. A refusal in the head is answered at once.
 *
 * Every route goes through one handler, because S3 tells its operations apart by query and headers, and because a key may end in a slash or
 * hold two in a row, which routes do not see. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/time.h"
#include "r2/r2_rules.h"
#include "r2/r2_s3_impl.h"

const char *const sv_s3_fields[6][3] = {
    {"content-type", "contentType", "response-content-type"},
    {"content-language", "contentLanguage", "response-content-language"},
    {"content-disposition", "contentDisposition", "response-content-disposition"},
    {"content-encoding", "contentEncoding", "response-content-encoding"},
    {"cache-control", "cacheControl", "response-cache-control"},
    {"expires", "cacheExpiry", "response-expires"},
};

sv_str sv_s3_query(sv_req *r, const char *name)
{
    sv_str s;
    return sv_req_query(r, name, 0, &s) ? (sv_str){s.p ? s.p : "", s.n} : (sv_str){0};
}

bool sv_s3_has(sv_req *r, const char *name) { return sv_s3_query(r, name).p != NULL; }

/* ---- answers ---- */

static void add_cors(sv_req *r, const sv_s3 *s)
{
    SV_AUTO(sv_buf_donep) sv_buf b = {0};
    size_t i;
    json_t *h;
    if (!s || !s->cors)
        return;
    sv_buf_init(&b, 16 << 10);
    sv_buf_add(&b, s->origin.p, s->origin.n);
    sv_req_add_header(r, "Access-Control-Allow-Origin", sv_buf_cstr(&b));
    sv_req_add_header(r, "Vary", "Origin");
    sv_buf_reset(&b);
    json_array_foreach (json_object_get(s->cors, "exposeHeaders"), i, h)
        sv_buf_addf(&b, "%s%s", i ? ", " : "", json_string_value(h));
    if (b.n)
        sv_req_add_header(r, "Access-Control-Expose-Headers", sv_buf_cstr(&b));
}

void sv_s3_headers(sv_req *r, const sv_r2_call *c)
{
    sv_req_add_header(r, "x-amz-request-id", sv_req_id(r));
    add_cors(r, c ? sv_s3_of(c) : NULL);
}

static void send_error(sv_req *r, const sv_err *err, sv_str resource)
{
    int status = sv_r2_status(err);
    const sv_r2_error *e = sv_r2_error_of(err->api_code);
    const char *name = e && !err->ours ? e->s3 : status == 503 ? "ServiceUnavailable" : status == 507 ? "InsufficientStorage" : "InternalError";
    SV_AUTO(sv_buf_donep) sv_buf b = {0};
    sv_buf_init(&b, 64 << 10);
    if (sv_err_is_ours(err) || status >= 500)
        sv_log(status == 501 ? SV_INFO : SV_ERROR, "r2.s3", "id=%s rc=%s error='%s'", sv_req_id(r), sv_rc_name(err->code), err->msg);
    if (status == 304) {
        sv_req_send(r, 304, NULL, (sv_str){0});
        return;
    }
    sv_buf_addf(&b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code>", name);
    bool hidden = sv_err_is_ours(err);
    sv_xml_element(&b, "Message", hidden ? SV_STR("We encountered an internal error. Please try again.") : sv_str_of(err->msg));
    if (resource.n)
        sv_xml_element(&b, "Resource", resource);
    sv_buf_addf(&b, "<RequestId>%s</RequestId></Error>", sv_req_id(r));
    sv_req_send(r, status, "application/xml", sv_buf_str(&b));
}

void sv_s3_fail(sv_req *r, sv_r2_call *c)
{
    const char *method = sv_req_method(r);
    char range[48];
    bool look = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    sv_s3_headers(r, c);
    if (c->err.api_code == SV_R2_PRECONDITION && c->not_modified && look) {
        char etag[64];
        snprintf(etag, sizeof etag, "\"%s\"", c->obj.etag);
        sv_req_add_header(r, "ETag", etag);
        sv_r2_fail(&c->err, SV_S3_NOT_MODIFIED);
    }
    if (c->err.api_code == SV_R2_UNEQUAL_PARTS)
        sv_r2_failf(&c->err, SV_R2_UNEQUAL_PARTS, "All non-trailing parts must have the same length.");
    if (c->err.api_code == SV_R2_BAD_RANGE) {
        snprintf(range, sizeof range, "bytes */%lld", (long long)c->obj.size);
        sv_req_add_header(r, "Content-Range", range);
    }
    send_error(r, &c->err, c->bucket);
}

void sv_s3_empty(sv_req *r, sv_r2_call *c, int status)
{
    sv_s3_headers(r, c);
    sv_req_send(r, status, NULL, (sv_str){0});
}

void sv_s3_begin_xml(sv_r2_call *c, const char *root)
{
    sv_buf_addf(&c->answer, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<%s xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", root);
}

void sv_s3_xml(sv_req *r, sv_r2_call *c)
{
    sv_s3_headers(r, c);
    sv_r2_call_send_answer(r, c, 200, "application/xml");
}

void sv_s3_add_date(sv_buf *b, const char *name, int64_t ms)
{
    char at[32];
    sv_iso8601_ms(at, ms);
    sv_buf_addf(b, "<%s>%s</%s>", name, at, name);
}

void sv_s3_add_name(sv_r2_call *c, const char *name, sv_str key)
{
    SV_AUTO(sv_buf_donep) sv_buf b = {0};
    if (!sv_s3_of(c)->encode_url) {
        sv_xml_element(&c->answer, name, key);
        return;
    }
    sv_buf_init(&b, 16 << 10);
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] == '/')
            sv_buf_addc(&b, '/');
        else
            sv_percent_encode(&b, (sv_str){key.p + i, 1});
    sv_xml_element(&c->answer, name, sv_buf_str(&b));
}

/* ---- bodies ---- */

static void bad_digest(sv_r2_call *c, const char *header)
{
    if (!c->err.code)
        sv_r2_failf(&c->err, SV_R2_INVALID_DIGEST, "Value for %s header is invalid.", header);
}

/* x-amz-checksum-crc32 and its sisters: one of them at most. */
static void read_checksums(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    for (int i = SV_SUM_SHA1; i < SV_N_SUMS; i++) {
        char name[40];
        SV_AUTO(sv_buf_donep) sv_buf b = {0};
        sv_err why = {0};
        snprintf(name, sizeof name, "x-amz-checksum-%s", sv_sum_name((sv_sum)i));
        sv_str v = sv_req_header(r, name);
        if (!v.p)
            continue;
        sv_buf_init(&b, 256);
        if (sv_base64_decode(&b, v, &why) != SV_OK || b.n != sv_sum_bytes((sv_sum)i)) {
            bad_digest(c, name);
            return;
        }
        memcpy(s->sums.v[i], b.p, b.n);
        s->sums.mask |= 1u << i;
    }
    if ((s->sums.mask & (s->sums.mask - 1)) && !c->err.code)
        sv_r2_failf(&c->err, SV_S3_INVALID_REQUEST, "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.");
}

static void read_md5(sv_r2_call *c, sv_req *r)
{
    sv_str v = sv_req_header(r, "content-md5");
    SV_AUTO(sv_buf_donep) sv_buf b = {0};
    sv_err why = {0};
    if (!v.p)
        return;
    sv_buf_init(&b, 256);
    if (sv_base64_decode(&b, v, &why) != SV_OK || b.n != 16) {
        bad_digest(c, "content-md5");
        return;
    }
    memcpy(c->in.expect.v[SV_SUM_MD5], b.p, 16);
    c->in.expect.mask |= 1u << SV_SUM_MD5;
}

static void read_trailer(sv_r2_call *c, sv_req *r)
{
    sv_str name = sv_req_header(r, "x-amz-trailer");
    sv_sum sum;
    if (!name.p || c->err.code)
        return;
    if (name.n <= 15 || !sv_str_ieq((sv_str){name.p, 15}, "x-amz-checksum-") || !sv_sum_of_name((sv_str){name.p + 15, name.n - 15}, &sum))
        sv_r2_failf(&c->err, SV_S3_INVALID_REQUEST, "The value specified in the x-amz-trailer header is not supported");
    else
        c->in.trailer_sum = (int)sum;
}

static void read_framing(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    const char *p = s->auth.payload;
    sv_str length = sv_req_header(r, "content-length"), decoded = sv_req_header(r, "x-amz-decoded-content-length");
    bool streaming = strncmp(p, "STREAMING-", 10) == 0;
    bool is_signed = strncmp(p, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", 34) == 0;
    if (!streaming && strcmp(p, "UNSIGNED-PAYLOAD") != 0) {
        if (strlen(p) != 64 || !sv_unhex(c->in.expect.v[SV_SUM_SHA256], 32, sv_str_of(p))) {
            sv_r2_failf(&c->err, SV_S3_INVALID_REQUEST, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-... or a SHA-256 in hex");
            return;
        }
        if (!(c->in.expect.mask & 1u << SV_SUM_SHA256))
            c->in.expect_sha256_payload = true;
        c->in.expect.mask |= 1u << SV_SUM_SHA256;
    }
    if (streaming && !is_signed && strcmp(p, "STREAMING-UNSIGNED-PAYLOAD-TRAILER") != 0) {
        sv_r2_failf(&c->err, SV_S3_NOT_IMPLEMENTED, "the payload signature '%.70s' is not supported", p);
        return;
    }
    sv_str n = streaming ? decoded : length;
    if (!sv_str_to_i64(n, &c->in.want_n) || c->in.want_n < 0) {
        bool put = strcmp(sv_req_method(r), "PUT") == 0;
        c->in.want_n = -1;
        if (put)
            sv_r2_fail(&c->err, SV_R2_NO_LENGTH);
        return;
    }
    if (c->in.want_n > c->in.max)
        sv_r2_fail(&c->err, SV_R2_TOO_LARGE);
    if (!streaming)
        return;
    sv_aws_chunks_opts o = {.is_signed = is_signed, .trailer = strstr(p, "-TRAILER") != NULL, .scope = sv_str_of(s->auth.scope)};
    memcpy(o.key, s->key, sizeof o.key);
    memcpy(o.date, s->auth.date, sizeof o.date);
    memcpy(o.seed, s->auth.signature, sizeof o.seed);
    c->in.chunks = sv_aws_chunks_new(&o);
    explicit_bzero(&o, sizeof o);
}

void sv_s3_body(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    read_md5(c, r);
    if (!s->whole_sums)
        read_checksums(c, r);
    c->in.want |= s->sums.mask;
    for (int i = 0; i < SV_N_SUMS; i++)
        if (s->sums.mask & 1u << i) {
            memcpy(c->in.expect.v[i], s->sums.v[i], SV_SUM_BYTES);
            c->in.expect.mask |= 1u << i;
        }
    uint8_t sha[32];
    bool both = c->in.expect.mask & 1u << SV_SUM_SHA256;
    memcpy(sha, c->in.expect.v[SV_SUM_SHA256], 32);
    read_trailer(c, r);
    if (!c->err.code)
        read_framing(c, r);
    if (!c->err.code && both && memcmp(sha, c->in.expect.v[SV_SUM_SHA256], 32) != 0) /* the two hashes of the head cannot both be right */
        sv_r2_fail(&c->err, SV_R2_BAD_DIGEST);
}

void sv_s3_receive_xml(sv_r2_call *c, sv_req *r, sv_rc (*ready)(sv_r2_call *c), sv_r2_answer answer)
{
    c->in.max = SV_S3_MAX_XML;
    sv_s3_body(c, r);
    if (c->err.code) {
        sv_s3_fail(r, c);
        sv_r2_call_free(c);
        return;
    }
    c->write.op = (sv_r2_op)SV_R2_NOTHING;
    sv_r2_call_receive(c, r, ready, answer);
}

sv_rc sv_s3_parse(sv_r2_call *c, sv_arena **a, sv_xml **out)
{
    sv_map map = {0};
    sv_str body;
    *a = sv_arena_create(SV_S3_XML_ARENA);
    if (sv_spool_view(c->spool, &map, &body, &c->err) != SV_OK)
        return c->err.code;
    sv_rc rc = sv_xml_parse(out, *a, body, &c->err);
    sv_map_close(&map);
    return rc;
}

/* ---- who calls ---- */

static void header_at(void *ctx, int i, sv_str *name, sv_str *value) { sv_req_header_at(ctx, i, name, value); }

static sv_rc authenticate(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    sv_err *err = &c->err;
    sv_s3_key k = {0};
    sv_err why = {0};
    sv_str target = sv_req_target(r), path = sv_req_path(r);
    const char *q = memchr(target.p, '?', target.n);
    sv_sigv4_req sr = {.method = sv_req_method(r), .path = path, .query = q ? (sv_str){q + 1, target.n - (size_t)(q + 1 - target.p)} : (sv_str){0},
                       .n_headers = sv_req_n_headers(r), .header_at = header_at, .ctx = r};
    if (!sv_sigv4_present(&sr))
        return sv_r2_fail(err, SV_R2_ACCESS_DENIED);
    if (sv_sigv4_parse(&s->auth, &sr, err) != SV_OK)
        return err->code;
    if (sv_req_header(r, "x-amz-security-token").n || sv_s3_has(r, "X-Amz-Security-Token"))
        return sv_r2_fail(err, SV_S3_INVALID_TOKEN);
    if (sv_accounts_s3_key(c->h->accounts, sv_str_of(s->auth.key_id), &k, &why) != SV_OK)
        return sv_r2_fail(err, SV_S3_NO_ACCESS_KEY);
    sv_rc rc = sv_sigv4_verify(&s->auth, &sr, k.secret, sv_now_ms() / 1000, s->key, err);
    sv_str owner = sv_req_header(r, "x-amz-expected-bucket-owner");
    if (rc == SV_OK && (!sv_str_is(c->account, k.who.account_id) || (owner.n && !sv_str_is(owner, k.who.account_id))))
        rc = sv_r2_fail(err, SV_R2_ACCESS_DENIED);
    explicit_bzero(&k, sizeof k);
    return rc;
}

/* ---- CORS ---- */

static void load_cors(void *arg)
{
    sv_r2_call *c = arg;
    sv_r2_bucket b;
    sv_err why = {0};
    if (sv_r2_bucket_find(c->h->r2, c->account, c->bucket, &b, &why) != SV_OK)
        return;
    if (b.cors && sv_json_parse(&c->json, sv_str_of(b.cors), &why) != SV_OK)
        c->json = NULL;
    sv_r2_bucket_done(&b);
}

static void answer_preflight(sv_req *r, sv_r2_call *c)
{
    sv_s3 *s = sv_s3_of(c);
    sv_r2_cors ask = {.origin = s->origin, .method = sv_r2_call_copy(c, sv_req_header(r, "access-control-request-method")),
                      .headers = sv_r2_call_copy(c, sv_req_header(r, "access-control-request-headers"))};
    const json_t *rule = ask.origin.n && ask.method.n ? sv_r2_cors_match(c->json, &ask) : NULL;
    SV_AUTO(sv_buf_donep) sv_buf b = {0};
    size_t i;
    json_t *m;
    int64_t age = 0;
    sv_err why = {0};
    if (!rule) {
        if (!ask.origin.n || !ask.method.n)
            sv_r2_failf(&c->err, SV_S3_INVALID_REQUEST, "Insufficient information. Origin and Access-Control-Request-Method request headers needed.");
        else
            sv_r2_fail(&c->err, SV_S3_NO_CORS_MATCH);
        sv_s3_fail(r, c);
        return;
    }
    s->cors = (json_t *)(uintptr_t)rule;
    sv_buf_init(&b, 16 << 10);
    json_array_foreach (json_object_get(json_object_get(rule, "allowed"), "methods"), i, m)
        sv_buf_addf(&b, "%s%s", i ? ", " : "", json_string_value(m));
    sv_req_add_header(r, "Access-Control-Allow-Methods", sv_buf_cstr(&b));
    sv_buf_reset(&b);
    sv_buf_add(&b, ask.headers.p, ask.headers.n);
    if (b.n)
        sv_req_add_header(r, "Access-Control-Allow-Headers", sv_buf_cstr(&b));
    sv_buf_reset(&b);
    if (sv_json_int(rule, "maxAgeSeconds", 0, INT64_MAX, &age, &why) == SV_OK && age) {
        sv_buf_addf(&b, "%lld", (long long)age);
        sv_req_add_header(r, "Access-Control-Max-Age", sv_buf_cstr(&b));
    }
    sv_s3_empty(r, c, 204);
}

/* ---- which operation ---- */

static void dispatch(sv_r2_call *c, sv_req *r)
{
    if (!c->bucket.n)
        sv_s3_root(c, r);
    else if (!c->key.n)
        sv_s3_bucket(c, r);
    else
        sv_s3_object(c, r);
}

static void cors_known(sv_req *r, void *arg)
{
    sv_r2_call *c = arg;
    if (!r) {
        sv_r2_call_free(c);
        return;
    }
    if (c->json)
        sv_s3_of(c)->cors = (json_t *)(uintptr_t)sv_r2_cors_match(
            c->json, &(sv_r2_cors){.origin = sv_s3_of(c)->origin, .method = sv_str_of(sv_req_method(r))});
    dispatch(c, r);
}

/* "/s3/ACCOUNT[/BUCKET[/KEY]]" */
static void cut(sv_str path, sv_str part[3])
{
    sv_str rest = {path.p + 4, path.n - 4};
    for (int i = 0; i < 3; i++) {
        const char *slash = i < 2 && rest.n ? memchr(rest.p, '/', rest.n) : NULL;
        part[i] = (sv_str){rest.p, slash ? (size_t)(slash - rest.p) : rest.n};
        rest = slash ? (sv_str){slash + 1, rest.n - part[i].n - 1} : (sv_str){rest.p, 0};
    }
}

static void handle(sv_req *r, void *ctx)
{
    sv_str part[3], key = {0};
    sv_err err = {0};
    cut(sv_req_path(r), part);
    sv_rc rc = part[2].n ? sv_percent_decode(&key, sv_req_arena(r), part[2], &err) : SV_OK;
    sv_r2_call *c = sv_r2_call_new(ctx, part[0], part[1], key, sv_s3_fail);
    sv_s3 *s = sv_arena_new(c->arena, sv_s3, 1);
    c->own = s;
    s->origin = sv_r2_call_copy(c, sv_req_header(r, "origin"));
    bool preflight = strcmp(sv_req_method(r), "OPTIONS") == 0;
    if (preflight && c->bucket.n) {
        sv_r2_call_work(c, r, load_cors, answer_preflight);
        return;
    }
    if (authenticate(c, r) == SV_OK && (rc != SV_OK || (c->key.n && sv_r2_check_key(c->key, &c->err) != SV_OK)))
        sv_r2_fail(&c->err, SV_R2_BAD_KEY);
    if (c->err.code) {
        sv_s3_fail(r, c);
        sv_r2_call_free(c);
    } else if (s->origin.n && c->bucket.n) {
        if (!sv_req_work(r, c->h->jobs, load_cors, cors_known, c))
            dispatch(c, r);
    } else {
        dispatch(c, r);
    }
}

void sv_r2_s3_routes(sv_http *s, sv_r2_http *h)
{
    sv_http_route(s, &(sv_route){.method = "*", .path = "/s3/*rest", .fn = handle, .flags = SV_ROUTE_STREAM}, h);
}
