/* r2_s3_objects.c - S3's operations on one object and on the uploads that make one */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/time.h"
#include "r2/r2_s3_impl.h"

/* ---- metadata: in by headers, out by headers ---- */

static bool ascii(sv_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || (unsigned char)s.p[i] > 0x7e)
            return false;
    return true;
}

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1; }

/* RFC 2047: "=?UTF-8?B?...?=" and "=?UTF-8?Q?...?="; whatever is none of these stays as it is. */
static void decode_word(sv_str s, sv_buf *out)
{
    sv_err why = {0};
    bool word = s.n > 12 && sv_str_ieq((sv_str){s.p, 8}, "=?utf-8?") && memcmp(s.p + s.n - 2, "?=", 2) == 0 && s.p[9] == '?';
    char kind = word ? (char)(s.p[8] | 32) : 0;
    sv_str body = word ? (sv_str){s.p + 10, s.n - 12} : s;
    size_t before = out->n;
    if (kind == 'b' && sv_base64_decode(out, body, &why) == SV_OK)
        return;
    out->n = before;
    if (kind != 'q') {
        sv_buf_add(out, s.p, s.n);
        return;
    }
    for (size_t i = 0; i < body.n; i++) {
        int hi = body.p[i] == '=' && i + 2 < body.n ? hex_digit(body.p[i + 1]) : -1, lo = hi >= 0 ? hex_digit(body.p[i + 2]) : -1;
        if (lo >= 0)
            sv_buf_addc(out, (char)(hi << 4 | lo));
        else
            sv_buf_addc(out, body.p[i] == '_' ? ' ' : body.p[i]);
        i += lo >= 0 ? 2 : 0;
    }
}

static json_t *value_of(sv_str v)
{
    SV_AUTO(sv_buf_donep) sv_buf b = {0};
    sv_buf_init(&b, 64 << 10);
    decode_word(v, &b);
    if (sv_utf8_valid(sv_buf_str(&b)))
        return json_stringn(sv_buf_cstr(&b), b.n);
    SV_AUTO(sv_buf_donep) sv_buf utf = {0}; /* bytes that are no UTF-8 are Latin-1, as HTTP has it */
    sv_buf_init(&utf, 128 << 10);
    for (size_t i = 0; i < b.n; i++) {
        unsigned char c = (unsigned char)b.p[i];
        if (c >= 0x80)
            sv_buf_addc(&utf, (char)(0xc0 | c >> 6));
        sv_buf_addc(&utf, (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c));
    }
    return json_stringn(sv_buf_cstr(&utf), utf.n);
}

static json_t *custom_of(sv_req *r)
{
    json_t *all = json_object();
    sv_str name, value;
    char low[256];
    for (int i = 0; i < sv_req_n_headers(r); i++) {
        sv_req_header_at(r, i, &name, &value);
        if (name.n <= 11 || name.n - 11 >= sizeof low || strncasecmp(name.p, "x-amz-meta-", 11) != 0)
            continue;
        for (size_t k = 11; k <= name.n; k++)
            low[k - 11] = k == name.n ? 0 : (char)(name.p[k] >= 'A' && name.p[k] <= 'Z' ? name.p[k] + 32 : name.p[k]);
        json_object_set_new(all, low, value_of(value));
    }
    return all;
}

/* "aws-chunked" is the body's coding on the wire, not the object's. */
static void set_encoding(json_t *http, sv_str v)
{
    SV_AUTO(sv_buf_donep) sv_buf b = {0};
    sv_buf_init(&b, 64 << 10);
    while (v.n) {
        const char *comma = memchr(v.p, ',', v.n);
        sv_str one = sv_str_trim((sv_str){v.p, comma ? (size_t)(comma - v.p) : v.n});
        v = comma ? (sv_str){comma + 1, v.n - (size_t)(comma + 1 - v.p)} : (sv_str){0};
        if (one.n && !sv_str_ieq(one, "aws-chunked"))
            sv_buf_addf(&b, "%s%.*s", b.n ? ", " : "", (int)one.n, one.p);
    }
    if (b.n)
        json_object_set_new(http, "contentEncoding", json_stringn(b.p, b.n));
}

static json_t *http_of(sv_req *r)
{
    json_t *all = json_object();
    int64_t s;
    char ms[24];
    for (size_t i = 0; i < SV_LEN(sv_s3_fields); i++) {
        sv_str v = sv_req_header(r, sv_s3_fields[i][0]);
        if (!v.n || !sv_utf8_valid(v))
            continue;
        if (strcmp(sv_s3_fields[i][0], "content-encoding") == 0) {
            set_encoding(all, v);
        } else if (strcmp(sv_s3_fields[i][0], "expires") == 0) {
            snprintf(ms, sizeof ms, "%lld", sv_parse_http_date(v, &s) ? (long long)s * 1000 : -1);
            if (ms[0] != '-')
                json_object_set_new(all, "cacheExpiry", json_string(ms));
        } else {
            json_object_set_new(all, sv_s3_fields[i][1], json_stringn(v.p, v.n));
        }
    }
    return all;
}

/* Headers of features that R2 does not have: better refused than forgotten. */
static void refuse_features(sv_r2_call *c, sv_req *r)
{
    static const char *const no[] = {"x-amz-tagging", "x-amz-website-redirect-location", "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date",
                                     "x-amz-object-lock-legal-hold", "x-amz-server-side-encryption-aws-kms-key-id", "x-amz-server-side-encryption-context"};
    for (size_t i = 0; i < SV_LEN(no); i++)
        if (sv_req_header(r, no[i]).n && !c->err.code)
            sv_r2_failf(&c->err, SV_S3_NOT_IMPLEMENTED, "Header '%s' is not implemented", no[i]);
    sv_str sse = sv_req_header(r, "x-amz-server-side-encryption");
    if (sse.n && !sv_str_is(sse, "AES256") && !c->err.code)
        sv_r2_failf(&c->err, SV_S3_NOT_IMPLEMENTED, "Header 'x-amz-server-side-encryption' with value '%.*s' is not implemented", (int)(sse.n < 40 ? sse.n : 40), sse.p);
}

static void metadata(sv_r2_call *c, sv_req *r)
{
    sv_str class = sv_req_header(r, "x-amz-storage-class");
    refuse_features(c, r);
    c->write.http = c->http = http_of(r);
    c->write.custom = c->custom = custom_of(r);
    if (sv_str_is(class, "STANDARD"))
        c->write.class = SV_R2_STANDARD;
    else if (sv_str_is(class, "STANDARD_IA"))
        c->write.class = SV_R2_INFREQUENT;
    else if (class.n && !c->err.code)
        sv_r2_failf(&c->err, SV_S3_INVALID_REQUEST, "The storage class you specified is not valid: STANDARD or STANDARD_IA");
    if (!c->err.code) {
        sv_rc rc = sv_r2_check_metadata(c->custom, &c->err);
        (void)rc; /* it is in the call */
    }
}

static void add_metadata(sv_req *r, const json_t *custom)
{
    const char *name;
    json_t *v;
    int missing = 0;
    char text[16];
    json_object_foreach ((json_t *)(uintptr_t)custom, name, v) {
        SV_AUTO(sv_buf_donep) sv_buf h = {0}, b = {0};
        sv_str s = {json_string_value(v), json_string_length(v)};
        sv_buf_init(&h, 16 << 10);
        sv_buf_init(&b, 64 << 10);
        if (!ascii(sv_str_of(name)) || strpbrk(name, " ()<>@,;:\\\"/[]?={}\t")) {
            missing++;
            continue;
        }
        sv_buf_addf(&h, "x-amz-meta-%s", name);
        if (ascii(s)) {
            sv_buf_add(&b, s.p, s.n);
        } else {
            sv_buf_adds(&b, "=?UTF-8?B?");
            sv_base64_encode(&b, s.p, s.n);
            sv_buf_adds(&b, "?=");
        }
        sv_req_add_header(r, sv_buf_cstr(&h), sv_buf_cstr(&b));
    }
    snprintf(text, sizeof text, "%d", missing);
    if (missing)
        sv_req_add_header(r, "x-amz-missing-meta", text);
}

static void add_sums(sv_req *r, const sv_sum_values *v, bool composite, int32_t n_parts)
{
    char name[40];
    for (int i = SV_SUM_SHA1; i < SV_N_SUMS; i++) {
        SV_AUTO(sv_buf_donep) sv_buf b = {0};
        if (!(v->mask & 1u << i) || i == SV_SUM_SHA384 || i == SV_SUM_SHA512)
            continue;
        sv_buf_init(&b, 256);
        sv_base64_encode(&b, v->v[i], sv_sum_bytes((sv_sum)i));
        if (composite)
            sv_buf_addf(&b, "-%d", n_parts);
        snprintf(name, sizeof name, "x-amz-checksum-%s", sv_sum_name((sv_sum)i));
        sv_req_add_header(r, name, sv_buf_cstr(&b));
        sv_req_add_header(r, "x-amz-checksum-type", composite ? "COMPOSITE" : "FULL_OBJECT");
        return; /* one */
    }
}

static void add_etag(sv_req *r, const char *etag)
{
    char text[64];
    snprintf(text, sizeof text, "\"%s\"", etag);
    sv_req_add_header(r, "ETag", text);
}

static void add_ssec(sv_req *r, const char *md5)
{
    if (!md5[0])
        return;
    sv_req_add_header(r, "x-amz-server-side-encryption-customer-algorithm", "AES256");
    sv_req_add_header(r, "x-amz-server-side-encryption-customer-key-MD5", md5);
}

/* ---- conditions, keys ---- */

static void condition(sv_r2_call *c, sv_req *r, const char *prefix, sv_r2_cond *out)
{
    char name[64];
    int64_t s;
    sv_str v;
#define HEADER(text) (snprintf(name, sizeof name, "%s" text, prefix), sv_req_header(r, name))
    v = HEADER("if-match");
    if (v.n)
        sv_r2_call_etags(c, v, &out->match, &out->n_match, &out->has_match);
    v = HEADER("if-none-match");
    if (v.n)
        sv_r2_call_etags(c, v, &out->none, &out->n_none, &out->has_none);
    v = HEADER("if-modified-since");
    if (v.n && sv_parse_http_date(v, &s) && s * 1000 <= sv_now_ms()) { /* RFC 9110: one in the future says nothing */
        out->has_after = true;
        out->after_ms = s * 1000;
    }
    v = HEADER("if-unmodified-since");
    if (v.n && sv_parse_http_date(v, &s)) {
        out->has_before = true;
        out->before_ms = s * 1000;
    }
#undef HEADER
    out->seconds = out->inclusive = true;
}

static void customer_key(sv_r2_call *c, sv_req *r, const char *prefix, sv_r2_key *out)
{
    char name[80];
    SV_AUTO(sv_buf_donep) sv_buf b = {0};
    sv_err why = {0};
#define HEADER(text) (snprintf(name, sizeof name, "x-amz-%sserver-side-encryption-customer-" text, prefix), sv_req_header(r, name))
    sv_str algorithm = HEADER("algorithm"), key = HEADER("key"), md5 = HEADER("key-md5");
#undef HEADER
    if ((!algorithm.p && !key.p && !md5.p) || c->err.code)
        return;
    sv_buf_init(&b, 256);
    if (!sv_str_is(algorithm, "AES256")) {
        sv_r2_failf(&c->err, SV_S3_INVALID_REQUEST, "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm.");
        return;
    }
    if (sv_base64_decode(&b, key, &why) != SV_OK || b.n != 32) {
        sv_r2_failf(&c->err, SV_S3_INVALID_REQUEST, "The secret key was invalid for the specified algorithm.");
        return;
    }
    sv_r2_key_set(out, (const uint8_t *)b.p);
    explicit_bzero(b.p, b.n);
    if (!md5.n || !sv_str_is(md5, out->md5))
        sv_r2_failf(&c->err, SV_S3_INVALID_REQUEST, "The calculated MD5 hash of the key did not match the hash that was provided.");
}

static bool stop(sv_r2_call *c, sv_req *r)
{
    if (!c->err.code)
        return false;
    sv_s3_fail(r, c);
    sv_r2_call_free(c);
    return true;
}

/* ---- get, head ---- */

static void add_object(sv_req *r, sv_r2_call *c, bool partial)
{
    const sv_r2_obj *o = &c->obj;
    const sv_s3 *s = sv_s3_of(c);
    char text[96];
    int64_t ms;
    for (size_t i = 0; i < SV_LEN(sv_s3_fields); i++) {
        const char *v = s->fixed[i] ? s->fixed[i] : sv_json_cstr(o->http, sv_s3_fields[i][1]);
        if (i == 5 && !s->fixed[i] && v && sv_str_to_i64(sv_str_of(v), &ms)) {
            sv_http_date_text(text, ms / 1000);
            v = text;
        }
        if (v)
            sv_req_add_header(r, sv_s3_fields[i][0], v);
        else if (i == 0)
            sv_req_add_header(r, "content-type", "application/octet-stream");
    }
    add_etag(r, o->etag);
    sv_http_date_text(text, o->uploaded_ms / 1000);
    sv_req_add_header(r, "Last-Modified", text);
    sv_req_add_header(r, "Accept-Ranges", "bytes");
    if (o->class == SV_R2_INFREQUENT)
        sv_req_add_header(r, "x-amz-storage-class", "STANDARD_IA");
    add_metadata(r, o->custom);
    add_ssec(r, o->ssec_md5);
    if (s->want_sums && !partial)
        add_sums(r, &o->sums, o->composite, o->n_parts);
    if (partial) {
        snprintf(text, sizeof text, "bytes %lld-%lld/%lld", (long long)c->at, (long long)(c->at + c->n - 1), (long long)o->size);
        sv_req_add_header(r, "Content-Range", text);
    }
    if (c->get.range.kind == SV_R2_PART && o->n_parts) {
        snprintf(text, sizeof text, "%d", o->n_parts);
        sv_req_add_header(r, "x-amz-mp-parts-count", text);
    }
}

static void answer_object(sv_req *r, sv_r2_call *c)
{
    bool partial = c->get.range.kind != SV_R2_WHOLE && c->n > 0;
    sv_s3_headers(r, c);
    add_object(r, c, partial);
    sv_req_begin(r, partial ? 206 : 200, NULL, c->n);
    sv_r2_call_send(r, c, (sv_str){0});
}

static void get(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    sv_str range = sv_req_header(r, "range"), part = sv_s3_query(r, "partNumber"), if_range = sv_req_header(r, "if-range");
    int64_t n = 0;
    c->get.head = strcmp(sv_req_method(r), "HEAD") == 0;
    condition(c, r, "", &c->get.cond);
    customer_key(c, r, "", &c->get.ssec);
    s->want_sums = sv_str_ieq(sv_req_header(r, "x-amz-checksum-mode"), "ENABLED") || sv_str_ieq(sv_s3_query(r, "x-amz-checksum-mode"), "ENABLED");
    if (range.n && !if_range.n && sv_r2_range_parse(range, &c->get.range))
        part = (sv_str){0};
    if (part.p && (!sv_str_to_i64(part, &n) || n < 1 || n > SV_R2_MAX_PARTS))
        sv_r2_fail(&c->err, SV_S3_BAD_PART_NUMBER);
    else if (part.p)
        c->get.range = (sv_r2_range){.kind = SV_R2_PART, .offset = n};
    for (size_t i = 0; i < SV_LEN(sv_s3_fields); i++) {
        sv_str v = sv_r2_call_copy(c, sv_s3_query(r, sv_s3_fields[i][2]));
        s->fixed[i] = v.p;
    }
    sv_r2_call_work(c, r, sv_r2_call_get, answer_object);
}

/* ---- put ---- */

static void answer_put(sv_req *r, sv_r2_call *c)
{
    const sv_r2_obj *o = &c->write.out;
    sv_s3_headers(r, c);
    add_etag(r, o->etag);
    add_sums(r, c->write.op == SV_R2_PUT_PART ? &c->write.sums : &o->sums, false, 0);
    add_ssec(r, c->write.ssec.given ? c->write.ssec.md5 : "");
    sv_req_send(r, 200, NULL, (sv_str){0});
}

static sv_rc put_ready(sv_r2_call *c)
{
    c->write.op = SV_R2_PUT;
    return SV_OK;
}

/* PutObject and CreateMultipartUpload of R2 make the bucket where they are asked to. In the pool. */
static void make_bucket(sv_r2_call *c)
{
    sv_r2_bucket b = {0};
    sv_err why = {0};
    if (sv_r2_bucket_create(c->h->r2, c->account, c->bucket, (sv_str){0}, (sv_str){0}, SV_R2_STANDARD, &b, &why) == SV_OK)
        sv_r2_bucket_done(&b);
}

static sv_rc put_ready_with_bucket(sv_r2_call *c)
{
    make_bucket(c);
    return put_ready(c);
}

static bool wants_bucket(sv_req *r) { return sv_str_ieq(sv_req_header(r, "cf-create-bucket-if-missing"), "true"); }

static void put(sv_r2_call *c, sv_req *r)
{
    metadata(c, r);
    condition(c, r, "", &c->write.cond);
    customer_key(c, r, "", &c->in.ssec);
    if (!c->err.code)
        sv_s3_body(c, r);
    if (!stop(c, r))
        sv_r2_call_receive(c, r, wants_bucket(r) ? put_ready_with_bucket : put_ready, answer_put);
}

/* ---- copy ---- */

/* "/bucket/key", "bucket/key", encoded. */
static void read_source(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    sv_str raw = sv_req_header(r, "x-amz-copy-source"), path = {0};
    const char *q = raw.n ? memchr(raw.p, '?', raw.n) : NULL;
    if (q)
        raw.n = (size_t)(q - raw.p);
    if (c->err.code || sv_percent_decode(&path, c->arena, raw, &c->err) != SV_OK) {
        sv_r2_fail(&c->err, SV_R2_BAD_KEY);
        return;
    }
    path = sv_r2_call_copy(c, path);
    if (path.n && path.p[0] == '/')
        path = (sv_str){path.p + 1, path.n - 1};
    const char *slash = path.n ? memchr(path.p, '/', path.n) : NULL;
    if (!slash || slash + 1 == path.p + path.n) {
        sv_r2_failf(&c->err, SV_R2_BAD_ARGUMENT, "Invalid copy source object key");
        return;
    }
    size_t n = (size_t)(slash - path.p);
    s->from = (sv_r2_get){.account = c->account, .bucket = {path.p, n}, .key = {slash + 1, path.n - n - 1}};
    condition(c, r, "x-amz-copy-source-", &s->from.cond);
    customer_key(c, r, "copy-source-", &s->from.ssec);
}

/* What the source has and the request does not change. In the pool. */
static sv_rc merge_metadata(sv_r2_call *c)
{
    sv_r2_get head = sv_s3_of(c)->from;
    sv_r2_obj o = {0};
    sv_r2_reader *body = NULL;
    int64_t at, n;
    bool nm;
    head.head = true;
    sv_rc rc = sv_r2_get_object(c->h->r2, &head, &o, &body, &at, &n, &nm, &c->err);
    if (rc == SV_OK && o.http)
        json_object_update_missing(c->http, o.http);
    if (rc == SV_OK && o.custom)
        json_object_update_missing(c->custom, o.custom);
    sv_r2_obj_done(&o);
    return rc;
}

static void copy_work(void *arg)
{
    sv_r2_call *c = arg;
    sv_s3 *s = sv_s3_of(c);
    if (s->merge && merge_metadata(c) != SV_OK)
        return;
    sv_rc rc = sv_r2_copy(c->h->r2, &s->from, &c->write, s->keep, &c->err);
    (void)rc; /* c->err tells */
}

static void answer_copy(sv_req *r, sv_r2_call *c)
{
    const char *root = c->write.op == SV_R2_PUT_PART ? "CopyPartResult" : "CopyObjectResult";
    char etag[64];
    snprintf(etag, sizeof etag, "\"%s\"", c->write.out.etag);
    sv_s3_begin_xml(c, root);
    sv_xml_element(&c->answer, "ETag", sv_str_of(etag));
    sv_s3_add_date(&c->answer, "LastModified", c->write.out.uploaded_ms);
    sv_buf_addf(&c->answer, "</%s>", root);
    add_ssec(r, c->write.ssec.given ? c->write.ssec.md5 : "");
    sv_s3_xml(r, c);
}

static void copy(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    sv_str directive = sv_req_header(r, "x-amz-metadata-directive");
    read_source(c, r);
    metadata(c, r);
    condition(c, r, "cf-copy-destination-", &c->write.cond);
    customer_key(c, r, "", &c->write.ssec);
    s->merge = sv_str_is(directive, "MERGE");
    s->keep = !s->merge && !sv_str_is(directive, "REPLACE");
    if (s->keep && directive.n && !sv_str_is(directive, "COPY") && !c->err.code)
        sv_r2_failf(&c->err, SV_R2_BAD_ARGUMENT, "Unknown metadata directive: COPY, REPLACE or MERGE");
    if (s->keep && c->write.class == SV_R2_CLASS_OF_BUCKET && !c->write.ssec.given && sv_str_eq(s->from.bucket, c->bucket) && sv_str_eq(s->from.key, c->key) && !c->err.code)
        sv_r2_failf(&c->err, SV_S3_INVALID_REQUEST,
                    "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class or encryption.");
    c->write.op = SV_R2_PUT;
    c->write.copy_bucket = s->from.bucket;
    c->write.copy_key = s->from.key;
    sv_r2_call_work(c, r, copy_work, answer_copy);
}

/* ---- uploads in parts ---- */

static void upload_id(sv_r2_call *c, sv_req *r)
{
    sv_str id = sv_s3_query(r, "uploadId");
    if (id.n == 64)
        snprintf(c->write.upload, sizeof c->write.upload, "%.*s", 64, id.p);
    else if (!c->err.code)
        sv_r2_fail(&c->err, SV_R2_NO_UPLOAD);
}

static void part_number(sv_r2_call *c, sv_req *r)
{
    int64_t n = 0;
    if (sv_str_to_i64(sv_s3_query(r, "partNumber"), &n) && n >= 1 && n <= SV_R2_MAX_PARTS)
        c->write.part = (int32_t)n;
    else if (!c->err.code)
        sv_r2_fail(&c->err, SV_S3_BAD_PART_NUMBER);
}

static void apply_work(void *arg)
{
    sv_r2_call *c = arg;
    sv_rc rc = sv_r2_apply(c->h->r2, &c->write, &c->err);
    (void)rc; /* c->err tells */
}

static void create_work(void *arg)
{
    sv_r2_call *c = arg;
    if (sv_s3_of(c)->keep) /* cf-create-bucket-if-missing */
        make_bucket(c);
    apply_work(c);
}

static void answer_create(sv_req *r, sv_r2_call *c)
{
    const sv_r2_write *w = &c->write;
    sv_s3_begin_xml(c, "InitiateMultipartUploadResult");
    sv_xml_element(&c->answer, "Bucket", c->bucket);
    sv_xml_element(&c->answer, "Key", c->key);
    sv_xml_element(&c->answer, "UploadId", sv_str_of(w->upload));
    sv_buf_adds(&c->answer, "</InitiateMultipartUploadResult>");
    if (w->sum >= 0) {
        sv_req_add_header(r, "x-amz-checksum-algorithm", sv_sum_name((sv_sum)w->sum));
        sv_req_add_header(r, "x-amz-checksum-type", w->composite ? "COMPOSITE" : "FULL_OBJECT");
    }
    add_ssec(r, w->ssec.given ? w->ssec.md5 : "");
    sv_s3_xml(r, c);
}

static void create(sv_r2_call *c, sv_req *r)
{
    sv_str algorithm = sv_req_header(r, "x-amz-checksum-algorithm"), type = sv_req_header(r, "x-amz-checksum-type");
    sv_sum sum = SV_SUM_MD5;
    metadata(c, r);
    customer_key(c, r, "", &c->write.ssec);
    c->write.op = SV_R2_CREATE;
    sv_s3_of(c)->keep = wants_bucket(r);
    if (algorithm.n && (!sv_sum_of_name(algorithm, &sum) || sum == SV_SUM_MD5 || sum == SV_SUM_SHA384 || sum == SV_SUM_SHA512) && !c->err.code)
        sv_r2_failf(&c->err, SV_S3_INVALID_REQUEST, "Checksum algorithm provided is unsupported. Please try again with any of the valid types: CRC32, CRC32C, CRC64NVME, SHA1, SHA256");
    bool crc = sum >= SV_SUM_CRC32;
    c->write.sum = algorithm.n ? (int)sum : -1;
    c->write.composite = algorithm.n && (type.n ? sv_str_ieq(type, "COMPOSITE") : sum != SV_SUM_CRC64NVME);
    if (algorithm.n && ((c->write.composite && sum == SV_SUM_CRC64NVME) || (!c->write.composite && !crc)) && !c->err.code)
        sv_r2_failf(&c->err, SV_S3_INVALID_REQUEST, "The %s checksum type cannot be used with the %s checksum algorithm.", c->write.composite ? "COMPOSITE" : "FULL_OBJECT", sv_sum_name(sum));
    sv_r2_call_work(c, r, create_work, answer_create);
}

static sv_rc part_ready(sv_r2_call *c)
{
    c->write.op = SV_R2_PUT_PART;
    return SV_OK;
}

static void upload_part(sv_r2_call *c, sv_req *r)
{
    upload_id(c, r);
    part_number(c, r);
    customer_key(c, r, "", &c->in.ssec);
    if (!c->err.code)
        sv_s3_body(c, r);
    if (!stop(c, r))
        sv_r2_call_receive(c, r, part_ready, answer_put);
}

/* The bytes of the source's range become a part: read, summed and written, in the pool. */
static sv_rc copy_part(sv_r2_call *c, sv_r2_reader *body, sv_err *err)
{
    enum { PIECE = 256 << 10 };
    sv_spool file = {0};
    SV_AUTO(sv_buf_donep) sv_buf piece = {0};
    char name[33];
    sv_random_hex(name, 16);
    snprintf(file.path, sizeof file.path, "%s/%s", sv_r2_folder(c->h->r2), name);
    SV_AUTO(sv_fd_closep) int fd = open(file.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return sv_fail_errno(err, "make '%s'", file.path);
    sv_buf_init(&piece, PIECE + 64);
    sv_rc rc = SV_OK;
    for (;;) {
        sv_buf_reset(&piece);
        char *to = sv_buf_room(&piece, PIECE);
        ssize_t n = to ? sv_r2_read(body, to, PIECE) : -1;
        if (n == 0)
            break;
        if (n < 0) {
            rc = sv_fail(err, SV_EIO, "a part of an object could not be read");
            break;
        }
        piece.n = (size_t)n;
        if ((rc = sv_r2_intake_feed(&c->in, &piece, err)) != SV_OK || (rc = sv_write_all(fd, piece.p, piece.n, err)) != SV_OK)
            break;
    }
    if (rc == SV_OK)
        rc = sv_r2_intake_end(&c->in, err);
    if (rc == SV_OK)
        rc = sv_r2_keep(c->h->r2, file.path, &c->piece, c->in.n, err);
    if (rc != SV_OK)
        unlink(file.path);
    return rc;
}

static void copy_part_work(void *arg)
{
    sv_r2_call *c = arg;
    sv_s3 *s = sv_s3_of(c);
    sv_r2_write *w = &c->write;
    sv_r2_upload u;
    bool nm;
    if (sv_r2_upload_find(c->h->r2, c->account, c->bucket, c->key, sv_str_of(w->upload), &u, &c->err) != SV_OK ||
        sv_r2_get_object(c->h->r2, &s->from, &c->obj, &c->body, &c->at, &c->n, &nm, &c->err) != SV_OK)
        return;
    if (s->from.range.kind == SV_R2_FROM && s->from.range.offset + s->from.range.length > c->obj.size) {
        sv_r2_fail(&c->err, SV_R2_BAD_RANGE);
        return;
    }
    c->in.want = u.sum >= 0 ? 1u << u.sum : 0;
    if (copy_part(c, c->body, &c->err) != SV_OK)
        return;
    memcpy(c->piece.iv, c->in.iv, sizeof c->piece.iv);
    w->sums = c->in.got;
    w->ssec = c->in.ssec;
    w->pieces = &c->piece;
    w->n_pieces = 1;
    apply_work(c);
}

static void upload_part_copy(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    sv_str range = sv_req_header(r, "x-amz-copy-source-range");
    upload_id(c, r);
    part_number(c, r);
    read_source(c, r);
    customer_key(c, r, "", &c->in.ssec);
    c->write.op = SV_R2_PUT_PART;
    if (range.n && (!sv_r2_range_parse(range, &s->from.range) || s->from.range.kind != SV_R2_FROM || s->from.range.length < 0) && !c->err.code)
        sv_r2_failf(&c->err, SV_R2_BAD_ARGUMENT, "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy");
    sv_r2_call_work(c, r, copy_part_work, answer_copy);
}

static void answer_nothing(sv_req *r, sv_r2_call *c) { sv_s3_empty(r, c, 204); }

static void abort_upload(sv_r2_call *c, sv_req *r)
{
    upload_id(c, r);
    c->write.op = SV_R2_ABORT;
    sv_r2_call_work(c, r, apply_work, answer_nothing);
}

static sv_rc read_part_sums(const sv_xml *part, sv_r2_chosen *out, sv_err *err)
{
    char name[32];
    for (int i = SV_SUM_SHA1; i < SV_N_SUMS; i++) {
        snprintf(name, sizeof name, "Checksum%s", sv_sum_name((sv_sum)i));
        sv_str v = sv_xml_text(part, name);
        SV_AUTO(sv_buf_donep) sv_buf b = {0};
        sv_err why = {0};
        if (!v.n)
            continue;
        sv_buf_init(&b, 256);
        if (sv_base64_decode(&b, v, &why) != SV_OK || b.n != sv_sum_bytes((sv_sum)i))
            return sv_r2_fail(err, SV_R2_BAD_PART);
        memcpy(out->sums.v[i], b.p, b.n);
        out->sums.mask |= 1u << i;
    }
    return SV_OK;
}

static sv_rc read_parts(sv_r2_call *c, const sv_xml *root, sv_err *err)
{
    size_t n = 0;
    int64_t last = 0, number;
    for (const sv_xml *p = root->first; p; p = p->next)
        n += strcmp(p->name, "Part") == 0;
    if (strcmp(root->name, "CompleteMultipartUpload") != 0 || n == 0 || n > SV_R2_MAX_PARTS)
        return sv_r2_fail(err, SV_S3_MALFORMED_XML);
    c->write.parts = sv_try_calloc(n, sizeof *c->write.parts);
    if (!c->write.parts)
        return sv_fail(err, SV_ENOMEM, "no memory for a list of parts");
    for (const sv_xml *p = root->first; p; p = p->next) {
        if (strcmp(p->name, "Part") != 0)
            continue;
        sv_r2_chosen *out = &c->write.parts[c->write.n_chosen++];
        sv_str etag = sv_xml_text(p, "ETag");
        if (!sv_str_to_i64(sv_xml_text(p, "PartNumber"), &number) || number < 1 || number > SV_R2_MAX_PARTS || !etag.p)
            return sv_r2_fail(err, SV_S3_MALFORMED_XML);
        if (number <= last)
            return sv_r2_fail(err, SV_S3_PART_ORDER);
        last = number;
        if (etag.n >= 2 && etag.p[0] == '"' && etag.p[etag.n - 1] == '"')
            etag = (sv_str){etag.p + 1, etag.n - 2};
        out->part = (int32_t)number;
        snprintf(out->etag, sizeof out->etag, "%.*s", etag.n < 39 ? (int)etag.n : 39, etag.p);
        if (read_part_sums(p, out, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

static sv_rc complete_ready(sv_r2_call *c)
{
    SV_AUTO(sv_arena_freep) sv_arena *a = NULL;
    sv_xml *root = NULL;
    sv_rc rc = sv_s3_parse(c, &a, &root);
    if (rc == SV_OK)
        rc = read_parts(c, root, &c->err);
    if (rc == SV_OK)
        rc = sv_r2_apply(c->h->r2, &c->write, &c->err);
    free(c->write.parts);
    c->write.parts = NULL;
    c->write.op = (sv_r2_op)SV_R2_NOTHING;
    return rc;
}

static sv_rc complete_begin(sv_r2_call *c)
{
    c->write.op = SV_R2_COMPLETE;
    return complete_ready(c);
}

static void answer_complete(sv_req *r, sv_r2_call *c)
{
    const sv_r2_obj *o = &c->write.out;
    char etag[64], name[32];
    snprintf(etag, sizeof etag, "\"%s\"", o->etag);
    sv_s3_begin_xml(c, "CompleteMultipartUploadResult");
    sv_buf_adds(&c->answer, "<Location>/s3/");
    sv_xml_add(&c->answer, c->account);
    sv_buf_addc(&c->answer, '/');
    sv_xml_add(&c->answer, c->bucket);
    sv_buf_addc(&c->answer, '/');
    sv_xml_add(&c->answer, c->key);
    sv_buf_adds(&c->answer, "</Location>");
    sv_xml_element(&c->answer, "Bucket", c->bucket);
    sv_xml_element(&c->answer, "Key", c->key);
    sv_xml_element(&c->answer, "ETag", sv_str_of(etag));
    for (int i = SV_SUM_SHA1; i < SV_N_SUMS; i++)
        if (o->sums.mask & 1u << i) {
            SV_AUTO(sv_buf_donep) sv_buf b = {0};
            sv_buf_init(&b, 256);
            sv_base64_encode(&b, o->sums.v[i], sv_sum_bytes((sv_sum)i));
            if (o->composite)
                sv_buf_addf(&b, "-%d", o->n_parts);
            snprintf(name, sizeof name, "Checksum%s", sv_sum_name((sv_sum)i));
            sv_xml_element(&c->answer, name, sv_buf_str(&b));
            sv_xml_element(&c->answer, "ChecksumType", o->composite ? SV_STR("COMPOSITE") : SV_STR("FULL_OBJECT"));
        }
    sv_buf_adds(&c->answer, "</CompleteMultipartUploadResult>");
    sv_s3_xml(r, c);
}

/* Checksums in the head are the whole object's here, not the body's. */
static void complete(sv_r2_call *c, sv_req *r)
{
    upload_id(c, r);
    condition(c, r, "", &c->write.cond);
    if (stop(c, r))
        return;
    for (int i = SV_SUM_CRC32; i < SV_N_SUMS; i++) {
        char name[40];
        SV_AUTO(sv_buf_donep) sv_buf b = {0};
        sv_err why = {0};
        snprintf(name, sizeof name, "x-amz-checksum-%s", sv_sum_name((sv_sum)i));
        sv_buf_init(&b, 256);
        if (sv_base64_decode(&b, sv_req_header(r, name), &why) == SV_OK && b.n == sv_sum_bytes((sv_sum)i)) {
            memcpy(c->write.whole.v[i], b.p, b.n);
            c->write.whole.mask |= 1u << i;
        }
    }
    sv_s3_of(c)->whole_sums = true;
    sv_s3_receive_xml(c, r, complete_begin, answer_complete);
}

static void add_part(void *arg, const sv_r2_part *p)
{
    sv_r2_call *c = arg;
    char text[64], name[32];
    sv_s3_of(c)->after = p->part;
    sv_buf_addf(&c->answer, "<Part><PartNumber>%d</PartNumber>", p->part);
    sv_s3_add_date(&c->answer, "LastModified", p->modified_ms);
    snprintf(text, sizeof text, "\"%s\"", p->etag);
    sv_xml_element(&c->answer, "ETag", sv_str_of(text));
    sv_buf_addf(&c->answer, "<Size>%lld</Size>", (long long)p->n);
    for (int i = SV_SUM_SHA1; i < SV_N_SUMS; i++)
        if (p->sums.mask & 1u << i) {
            SV_AUTO(sv_buf_donep) sv_buf b = {0};
            sv_buf_init(&b, 256);
            sv_base64_encode(&b, p->sums.v[i], sv_sum_bytes((sv_sum)i));
            snprintf(name, sizeof name, "Checksum%s", sv_sum_name((sv_sum)i));
            sv_xml_element(&c->answer, name, sv_buf_str(&b));
        }
    sv_buf_adds(&c->answer, "</Part>");
}

static void list_parts_work(void *arg)
{
    sv_r2_call *c = arg;
    sv_s3 *s = sv_s3_of(c);
    sv_r2_upload u;
    bool more = false;
    int64_t marker = s->after;
    if (sv_r2_upload_find(c->h->r2, c->account, c->bucket, c->key, sv_str_of(c->write.upload), &u, &c->err) != SV_OK)
        return;
    sv_s3_begin_xml(c, "ListPartsResult");
    sv_xml_element(&c->answer, "Bucket", c->bucket);
    sv_s3_add_name(c, "Key", c->key);
    sv_xml_element(&c->answer, "UploadId", sv_str_of(u.upload));
    sv_buf_addf(&c->answer, "<PartNumberMarker>%lld</PartNumberMarker><MaxParts>%lld</MaxParts>", (long long)marker, (long long)s->limit);
    if (sv_r2_part_list(c->h->r2, &u, (int32_t)marker, s->limit, add_part, c, &more, &c->err) != SV_OK)
        return;
    sv_buf_addf(&c->answer, "<NextPartNumberMarker>%lld</NextPartNumberMarker><IsTruncated>%s</IsTruncated><StorageClass>%s</StorageClass>", (long long)s->after,
                more ? "true" : "false", u.class == SV_R2_INFREQUENT ? "STANDARD_IA" : "STANDARD");
    if (u.sum >= 0)
        sv_buf_addf(&c->answer, "<ChecksumAlgorithm>%s</ChecksumAlgorithm><ChecksumType>%s</ChecksumType>", sv_sum_name((sv_sum)u.sum),
                    u.composite ? "COMPOSITE" : "FULL_OBJECT");
    sv_buf_adds(&c->answer, "<Initiator><ID>");
    sv_xml_add(&c->answer, c->account);
    sv_buf_adds(&c->answer, "</ID></Initiator><Owner><ID>");
    sv_xml_add(&c->answer, c->account);
    sv_buf_adds(&c->answer, "</ID></Owner></ListPartsResult>");
}

static void list_parts(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    sv_str most = sv_s3_query(r, "max-parts"), marker = sv_s3_query(r, "part-number-marker");
    upload_id(c, r);
    s->limit = 1000;
    if (((most.n && (!sv_str_to_i64(most, &s->limit) || s->limit < 0)) || (marker.n && (!sv_str_to_i64(marker, &s->after) || s->after < 0 || s->after > SV_R2_MAX_PARTS))) &&
        !c->err.code)
        sv_r2_failf(&c->err, SV_R2_BAD_ARGUMENT, "max-parts and part-number-marker must be numbers from 0 on");
    if (s->limit > 1000)
        s->limit = 1000;
    sv_r2_call_work(c, r, list_parts_work, sv_s3_xml);
}

/* ---- delete ---- */

static void delete_object(sv_r2_call *c, sv_req *r)
{
    c->write.op = SV_R2_DELETE;
    c->write.keys = &c->key;
    c->write.n_keys = 1;
    sv_r2_call_work(c, r, apply_work, answer_nothing);
}

static void refuse(sv_r2_call *c, sv_req *r, int code)
{
    sv_r2_fail(&c->err, code);
    stop(c, r);
}

void sv_s3_object(sv_r2_call *c, sv_req *r)
{
    static const char *const no[] = {"acl", "tagging", "retention", "legal-hold", "torrent", "restore", "select", "attributes", "object-lock"};
    const char *m = sv_req_method(r);
    bool upload = sv_s3_has(r, "uploadId"), copies = sv_req_header(r, "x-amz-copy-source").n > 0;
    for (size_t i = 0; i < SV_LEN(no); i++)
        if (sv_s3_has(r, no[i])) {
            refuse(c, r, SV_S3_NOT_IMPLEMENTED);
            return;
        }
    if (sv_s3_query(r, "versionId").n && !sv_str_is(sv_s3_query(r, "versionId"), "null"))
        refuse(c, r, SV_S3_NOT_IMPLEMENTED);
    else if (strcmp(m, "GET") == 0)
        (upload ? list_parts : get)(c, r);
    else if (strcmp(m, "HEAD") == 0)
        get(c, r);
    else if (strcmp(m, "PUT") == 0 && upload)
        (copies ? upload_part_copy : upload_part)(c, r);
    else if (strcmp(m, "PUT") == 0)
        (copies ? copy : put)(c, r);
    else if (strcmp(m, "POST") == 0 && sv_s3_has(r, "uploads"))
        create(c, r);
    else if (strcmp(m, "POST") == 0 && upload)
        complete(c, r);
    else if (strcmp(m, "DELETE") == 0)
        (upload ? abort_upload : delete_object)(c, r);
    else
        refuse(c, r, strcmp(m, "POST") == 0 ? SV_S3_NOT_IMPLEMENTED : SV_S3_METHOD);
}
