/* r2_binding.c - what workerd's r2Bucket binding sends, on the Worker's own socket
 *
 * Every operation is a JSON document: of reads in a header, of writes in front of the body, whose first CF-R2-Metadata-Size bytes it is. An
 * answer is a document too, with the object's bytes behind it; a refusal is read from the header CF-R2-Error and nothing else, and a failed
 * condition of a get comes with the object's document all the same. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "r2/r2_call.h"
#include "r2/r2_impl.h"

enum { MAX_DOCUMENT = 900 << 10 }; /* workerd reads documents of up to 1 MiB */

/* ---- answers ---- */

static void add_checksums(sv_buf *b, const sv_r2_obj *o)
{
    char hex[2 * SV_SUM_BYTES + 1];
    const char *sep = "";
    sv_buf_adds(b, ",\"checksums\":{");
    for (int i = SV_SUM_MD5; i <= SV_SUM_SHA512 && !o->composite; i++)
        if (o->sums.mask & 1u << i) {
            sv_hex(hex, o->sums.v[i], sv_sum_bytes((sv_sum)i));
            sv_buf_addf(b, "%s\"%d\":\"%s\"", sep, i, hex);
            sep = ",";
        }
    sv_buf_addc(b, '}');
}

/* In a list those that were not asked for are empty. */
static void add_fields(sv_buf *b, const sv_r2_obj *o)
{
    const char *name, *sep = "";
    json_t *v;
    sv_buf_adds(b, ",\"httpFields\":");
    if (o->http)
        sv_json_add_value(b, o->http);
    else
        sv_buf_adds(b, "{}");
    sv_buf_adds(b, ",\"customFields\":[");
    json_object_foreach (o->custom, name, v) {
        sv_buf_addf(b, "%s{\"k\":", sep);
        sv_json_add_str(b, sv_str_of(name));
        sv_buf_adds(b, ",\"v\":");
        sv_json_add_value(b, v);
        sv_buf_addc(b, '}');
        sep = ",";
    }
    sv_buf_addc(b, ']');
}

/* at < 0: no range. */
static void add_document(sv_buf *b, const sv_r2_obj *o, int64_t at, int64_t n)
{
    sv_buf_adds(b, "{\"name\":");
    sv_json_add_str(b, (sv_str){o->key, o->n_key});
    sv_buf_addf(b, ",\"version\":\"%s\",\"size\":\"%lld\",\"etag\":\"%s\",\"uploaded\":\"%lld\"", o->version, (long long)o->size, o->etag, (long long)o->uploaded_ms);
    add_fields(b, o);
    add_checksums(b, o);
    if (at >= 0)
        sv_buf_addf(b, ",\"range\":{\"offset\":\"%lld\",\"length\":\"%lld\"}", (long long)at, (long long)n);
    sv_buf_addf(b, ",\"storageClass\":\"%s\"", sv_r2_class_name(o->class));
    if (o->ssec_md5[0])
        sv_buf_addf(b, ",\"ssec\":{\"algorithm\":\"AES256\",\"keyMd5\":\"%s\"}", o->ssec_md5);
    sv_buf_addc(b, '}');
}

static void add_size(sv_req *r, size_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%zu", n);
    sv_req_add_header(r, "CF-R2-Metadata-Size", text);
    sv_req_add_header(r, "Content-Type", "application/json");
}

static void fail(sv_req *r, sv_r2_call *c)
{
    const sv_err *err = &c->err;
    int status = sv_r2_status(err), code = err->api_code ? err->api_code : SV_R2_INTERNAL;
    const char *text = err->msg;
    char ours[80];
    if (code > SV_R2_S3_FIRST)
        code = SV_R2_BAD_ARGUMENT;
    if (sv_err_is_ours(err) || status >= 500) {
        sv_log(SV_ERROR, "r2.binding", "id=%s rc=%s error='%s'", sv_req_id(r), sv_rc_name(err->code), err->msg);
        snprintf(ours, sizeof ours, "internal error; the log has it under %s", sv_req_id(r));
        text = ours;
        code = SV_R2_INTERNAL;
    }
    SV_AUTO(sv_buf_donep) sv_buf b, doc;
    sv_buf_init(&b, 8192);
    sv_buf_init(&doc, MAX_DOCUMENT);
    sv_buf_addf(&b, "{\"version\":1,\"v4code\":%d,\"message\":", code);
    sv_json_add_str(&b, sv_str_of(text));
    sv_buf_addc(&b, '}');
    sv_req_add_header(r, "CF-R2-Error", sv_buf_cstr(&b));
    if (code == SV_R2_PRECONDITION && c->obj.key) {
        add_document(&doc, &c->obj, 0, c->obj.size);
        add_size(r, doc.n);
    }
    sv_req_send(r, status, NULL, sv_buf_str(&doc));
}

static void answer_object(sv_req *r, sv_r2_call *c)
{
    SV_AUTO(sv_buf_donep) sv_buf doc = {0};
    sv_buf_init(&doc, MAX_DOCUMENT);
    add_document(&doc, &c->obj, c->at, c->n);
    add_size(r, doc.n);
    sv_req_begin(r, 200, NULL, (int64_t)doc.n + (c->body ? c->n : 0));
    if (!c->body)
        c->n = 0;
    sv_r2_call_send(r, c, sv_buf_str(&doc));
}

static void answer_written(sv_req *r, sv_r2_call *c)
{
    const sv_r2_write *w = &c->write;
    if (w->op == SV_R2_PUT || w->op == SV_R2_COMPLETE)
        add_document(&c->answer, &w->out, -1, 0);
    else if (w->op == SV_R2_CREATE)
        sv_buf_addf(&c->answer, "{\"uploadId\":\"%s\"}", w->upload);
    else if (w->op == SV_R2_PUT_PART)
        sv_buf_addf(&c->answer, "{\"etag\":\"%s\"}", w->out.etag);
    else
        sv_buf_adds(&c->answer, "{}");
    add_size(r, c->answer.n);
    sv_req_send(r, 200, NULL, sv_buf_str(&c->answer));
}

/* ---- reading documents ---- */

static sv_rc bad(sv_err *err) { return sv_r2_fail(err, SV_R2_BAD_ARGUMENT); }
static sv_str text_of(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);
    return json_is_string(v) ? (sv_str){json_string_value(v), json_string_length(v)} : (sv_str){0};
}

/* A number, as a number or as text. *found false: absent. */
static sv_rc number(const json_t *o, const char *name, int64_t *out, bool *found, sv_err *err)
{
    const json_t *v = json_object_get(o, name);
    *found = v && !json_is_null(v);
    if (!*found)
        return SV_OK;
    if (json_is_integer(v))
        *out = json_integer_value(v);
    else if (json_is_real(v) && json_real_value(v) > -9e15 && json_real_value(v) < 9e15)
        *out = (int64_t)json_real_value(v);
    else if (!json_is_string(v) || !sv_str_to_i64(sv_str_of(json_string_value(v)), out))
        return bad(err);
    return SV_OK;
}

static sv_rc etags(sv_r2_call *c, const json_t *list, const sv_r2_etag **out, size_t *n, bool *has, sv_err *err)
{
    size_t i;
    const json_t *v;
    if (!list || json_is_null(list))
        return SV_OK;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return bad(err);
    sv_r2_etag *e = sv_arena_new(c->arena, sv_r2_etag, json_array_size(list));
    if (!e)
        return sv_fail(err, SV_ENOMEM, "no memory for conditions");
    json_array_foreach ((json_t *)(uintptr_t)list, i, v) {
        sv_str type = text_of(v, "type");
        e[i] = (sv_r2_etag){.value = text_of(v, "value"), .weak = sv_str_is(type, "weak"), .any = sv_str_is(type, "wildcard")};
    }
    *out = e;
    *n = json_array_size(list);
    *has = true;
    return SV_OK;
}

static sv_rc condition(sv_r2_call *c, const json_t *doc, sv_r2_cond *out, sv_err *err)
{
    const json_t *o = json_object_get(doc, "onlyIf");
    if (etags(c, json_object_get(o, "etagMatches"), &out->match, &out->n_match, &out->has_match, err) != SV_OK ||
        etags(c, json_object_get(o, "etagDoesNotMatch"), &out->none, &out->n_none, &out->has_none, err) != SV_OK ||
        number(o, "uploadedBefore", &out->before_ms, &out->has_before, err) != SV_OK || number(o, "uploadedAfter", &out->after_ms, &out->has_after, err) != SV_OK)
        return err->code;
    out->seconds = json_is_true(json_object_get(o, "secondsGranularity"));
    return SV_OK;
}

static sv_rc range(const json_t *doc, sv_r2_range *out, sv_err *err)
{
    const json_t *o = json_object_get(doc, "range");
    sv_str header = text_of(doc, "rangeHeader");
    int64_t offset = 0, length = -1, suffix = 0;
    bool has_offset, has_length, has_suffix;
    if (header.p) {
        sv_r2_range parsed;
        if (sv_r2_range_parse(header, &parsed))
            *out = parsed;
        return SV_OK;
    }
    if (!json_is_object(o))
        return SV_OK;
    if (number(o, "offset", &offset, &has_offset, err) != SV_OK || number(o, "length", &length, &has_length, err) != SV_OK ||
        number(o, "suffix", &suffix, &has_suffix, err) != SV_OK)
        return err->code;
    if (has_suffix)
        *out = (sv_r2_range){.kind = SV_R2_SUFFIX, .length = suffix};
    else if (has_length && length <= 0)
        return sv_r2_fail(err, SV_R2_BAD_RANGE);
    else if (has_offset || has_length)
        *out = (sv_r2_range){.kind = SV_R2_FROM, .offset = offset, .length = has_length ? length : -1};
    return SV_OK;
}

static sv_rc customer_key(const json_t *doc, sv_r2_key *out, sv_err *err)
{
    uint8_t key[32];
    const json_t *o = json_object_get(doc, "ssec");
    if (!json_is_object(o))
        return SV_OK;
    if (!sv_unhex(key, 32, text_of(o, "key")))
        return bad(err);
    sv_r2_key_set(out, key);
    explicit_bzero(key, sizeof key);
    return SV_OK;
}

static sv_rc http_fields(sv_r2_call *c, const json_t *doc, sv_err *err)
{
    static const char *const names[] = {"contentType", "contentLanguage", "contentDisposition", "contentEncoding", "cacheControl"};
    const json_t *o = json_object_get(doc, "httpFields");
    int64_t ms;
    bool found;
    char text[24];
    c->http = json_object();
    for (size_t i = 0; i < SV_LEN(names); i++)
        if (json_is_string(json_object_get(o, names[i])))
            json_object_set(c->http, names[i], json_object_get(o, names[i]));
    if (number(o, "cacheExpiry", &ms, &found, err) != SV_OK)
        return err->code;
    snprintf(text, sizeof text, "%lld", (long long)ms);
    if (found)
        json_object_set_new(c->http, "cacheExpiry", json_string(text));
    return SV_OK;
}

static sv_rc custom_fields(sv_r2_call *c, const json_t *doc, sv_err *err)
{
    const json_t *list = json_object_get(doc, "customFields"), *v;
    size_t i;
    c->custom = json_object();
    json_array_foreach ((json_t *)(uintptr_t)list, i, v) {
        sv_str k = text_of(v, "k");
        const json_t *value = json_object_get(v, "v");
        if (!k.p || !json_is_string(value) || memchr(k.p, 0, k.n))
            return bad(err);
        json_object_set(c->custom, k.p, (json_t *)(uintptr_t)value);
    }
    return SV_OK;
}

static sv_rc metadata(sv_r2_call *c, const json_t *doc, sv_err *err)
{
    sv_str class = text_of(doc, "storageClass");
    if (http_fields(c, doc, err) != SV_OK || custom_fields(c, doc, err) != SV_OK || sv_r2_check_metadata(c->custom, err) != SV_OK)
        return err->code;
    if (class.n && !sv_str_is(class, "Standard") && !sv_str_is(class, "InfrequentAccess"))
        return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "'%.*s' is no storage class: Standard or InfrequentAccess", class.n < 40 ? (int)class.n : 40, class.p);
    c->write.http = c->http;
    c->write.custom = c->custom;
    c->write.class = class.n == 0 ? SV_R2_CLASS_OF_BUCKET : sv_str_is(class, "Standard") ? SV_R2_STANDARD : SV_R2_INFREQUENT;
    return SV_OK;
}

static sv_rc hashes(sv_r2_call *c, const json_t *doc, sv_err *err)
{
    static const struct { const char *name; sv_sum s; } names[] = {{"sha1", SV_SUM_SHA1}, {"sha256", SV_SUM_SHA256}, {"sha384", SV_SUM_SHA384}, {"sha512", SV_SUM_SHA512}};
    sv_str md5 = text_of(doc, "md5");
    if (md5.p) {
        SV_AUTO(sv_buf_donep) sv_buf b = {0};
        sv_err why = {0};
        sv_buf_init(&b, 64);
        if (sv_base64_decode(&b, md5, &why) != SV_OK || b.n != 16)
            return bad(err);
        memcpy(c->in.expect.v[SV_SUM_MD5], b.p, 16);
        c->in.expect.mask |= 1u << SV_SUM_MD5;
    }
    for (size_t i = 0; i < SV_LEN(names); i++) {
        sv_str hex = text_of(doc, names[i].name);
        if (!hex.p)
            continue;
        if (!sv_unhex(c->in.expect.v[names[i].s], sv_sum_bytes(names[i].s), hex))
            return bad(err);
        c->in.expect.mask |= 1u << names[i].s;
    }
    return SV_OK;
}

/* ---- reads ---- */

typedef struct lister { sv_buf *b, prefixes; size_t n; } lister;

static void add_entry(void *arg, const sv_r2_obj *o, sv_str common)
{
    lister *l = arg;
    if (o) {
        if (l->n++)
            sv_buf_addc(l->b, ',');
        add_document(l->b, o, -1, 0);
        return;
    }
    if (l->prefixes.n)
        sv_buf_addc(&l->prefixes, ',');
    sv_json_add_str(&l->prefixes, common);
}

static void list_work(void *arg)
{
    sv_r2_call *c = arg;
    bool has_limit;
    size_t i;
    json_t *v;
    lister l = {.b = &c->answer};
    sv_r2_list how = {.account = c->account, .bucket = c->bucket, .prefix = text_of(c->json, "prefix"), .delimiter = text_of(c->json, "delimiter"),
                      .start_after = text_of(c->json, "startAfter"), .cursor = text_of(c->json, "cursor"), .limit = SV_R2_MAX_LIST, .max_bytes = MAX_DOCUMENT};
    if (number(c->json, "limit", &how.limit, &has_limit, &c->err) != SV_OK)
        return;
    if (how.limit < 1 || how.limit > SV_R2_MAX_LIST) {
        sv_r2_fail(&c->err, SV_R2_BAD_MAX_KEYS);
        return;
    }
    json_array_foreach (json_object_get(c->json, "include"), i, v) {
        how.http |= json_is_integer(v) && json_integer_value(v) == 0;
        how.custom |= json_is_integer(v) && json_integer_value(v) == 1;
    }
    SV_AUTO(sv_buf_donep) sv_buf next = {0};
    sv_buf_init(&next, 4096);
    sv_buf_init(&l.prefixes, 4 << 20);
    sv_buf_adds(&c->answer, "{\"objects\":[");
    if (sv_r2_list_objects(c->h->r2, &how, add_entry, &l, &next, &c->err) == SV_OK) {
        sv_buf_addf(&c->answer, "],\"truncated\":%s", next.n ? "true,\"cursor\":" : "false");
        if (next.n)
            sv_json_add_str(&c->answer, sv_buf_str(&next));
        sv_buf_addf(&c->answer, ",\"delimitedPrefixes\":[%s]}", sv_buf_cstr(&l.prefixes));
    }
    sv_buf_done(&l.prefixes);
}

static void answer_list(sv_req *r, sv_r2_call *c)
{
    char size[24];
    snprintf(size, sizeof size, "%zu", c->answer.n);
    sv_req_add_header(r, "CF-R2-Metadata-Size", size);
    sv_r2_call_send_answer(r, c, 200, "application/json");
}

static sv_r2_call *begin(sv_r2_http *h, sv_req *r)
{
    sv_str b = sv_req_header(r, "x-sv-binding"); /* "r2:NAME": the prefix brought us here */
    const sv_principal *who = sv_req_user(r);
    return sv_r2_call_new(h, sv_str_of(who ? who->account_id : ""), (sv_str){b.p + 3, b.n > 3 ? b.n - 3 : 0}, (sv_str){0}, fail);
}

static void take_key(sv_r2_call *c)
{
    c->key = sv_r2_call_copy(c, text_of(c->json, "object"));
    if (!c->key.p)
        c->key = SV_STR("");
    c->get.key = c->write.key = c->key;
}

static void read_op(sv_req *r, void *ctx)
{
    sv_r2_call *c = begin(ctx, r);
    if (sv_json_parse(&c->json, sv_req_header(r, "cf-r2-request"), &c->err) != SV_OK || !json_is_object(c->json))
        bad(&c->err);
    sv_str method = text_of(c->json, "method");
    take_key(c);
    if (sv_str_is(method, "list")) {
        sv_r2_call_work(c, r, list_work, answer_list);
        return;
    }
    c->get.head = c->get.meta_only = sv_str_is(method, "head");
    if (!c->err.code && !c->get.head && !sv_str_is(method, "get"))
        bad(&c->err);
    if (!c->err.code && sv_r2_check_key(c->key, &c->err) == SV_OK && condition(c, c->json, &c->get.cond, &c->err) == SV_OK &&
        range(c->json, &c->get.range, &c->err) == SV_OK) {
        sv_rc rc = customer_key(c->json, &c->get.ssec, &c->err);
        (void)rc; /* it is in the call */
    }
    sv_r2_call_work(c, r, sv_r2_call_get, answer_object);
}

/* ---- writes ---- */

static sv_rc read_keys(sv_r2_call *c, sv_err *err)
{
    const json_t *many = json_object_get(c->json, "objects"), *v;
    size_t n = json_is_array(many) ? json_array_size(many) : 1, i;
    sv_str *keys = sv_arena_new(c->arena, sv_str, n + 1);
    if (!keys)
        return sv_fail(err, SV_ENOMEM, "no memory for keys");
    keys[0] = c->key;
    json_array_foreach ((json_t *)(uintptr_t)many, i, v) {
        if (!json_is_string(v))
            return bad(err);
        keys[i] = (sv_str){json_string_value(v), json_string_length(v)};
    }
    c->write.keys = keys;
    c->write.n_keys = n;
    return SV_OK;
}

static sv_rc read_parts(sv_r2_call *c, sv_err *err)
{
    const json_t *list = json_object_get(c->json, "parts"), *v;
    size_t n = json_array_size(list), i;
    sv_r2_chosen *parts = n <= SV_R2_MAX_PARTS ? sv_arena_new(c->arena, sv_r2_chosen, n + 1) : NULL;
    if (!parts)
        return bad(err);
    json_array_foreach ((json_t *)(uintptr_t)list, i, v) {
        int64_t part = 0;
        bool found;
        sv_str etag = text_of(v, "etag");
        if (number(v, "part", &part, &found, err) != SV_OK)
            return err->code;
        parts[i].part = part >= 1 && part <= SV_R2_MAX_PARTS ? (int32_t)part : 0; /* none has number 0 */
        snprintf(parts[i].etag, sizeof parts[i].etag, "%.*s", etag.n < 39 ? (int)etag.n : 39, etag.n ? etag.p : "");
    }
    c->write.parts = parts;
    c->write.n_chosen = n;
    return SV_OK;
}

static const struct { const char *method; sv_r2_op op; } ops[] = {
    {"put", SV_R2_PUT}, {"delete", SV_R2_DELETE}, {"createMultipartUpload", SV_R2_CREATE}, {"uploadPart", SV_R2_PUT_PART},
    {"completeMultipartUpload", SV_R2_COMPLETE}, {"abortMultipartUpload", SV_R2_ABORT},
};

/* The document in front of the payload is there: it says what the payload is for. In the pool. */
static sv_rc read_document(void *arg, sv_err *err)
{
    sv_r2_call *c = arg;
    sv_r2_write *w = &c->write;
    int64_t part = 0;
    bool found;
    size_t i = 0;
    if (sv_json_parse(&c->json, sv_buf_str(&c->in.head), err) != SV_OK || !json_is_object(c->json))
        return bad(err);
    while (i < SV_LEN(ops) && !sv_str_is(text_of(c->json, "method"), ops[i].method))
        i++;
    if (i == SV_LEN(ops))
        return bad(err);
    w->op = ops[i].op;
    take_key(c);
    if ((w->op != SV_R2_DELETE || json_object_get(c->json, "object")) && sv_r2_check_key(c->key, err) != SV_OK)
        return err->code;
    sv_str upload = text_of(c->json, "uploadId");
    snprintf(w->upload, sizeof w->upload, "%.*s", upload.n == 64 ? 64 : 0, upload.n ? upload.p : "");
    if (number(c->json, "partNumber", &part, &found, err) != SV_OK || condition(c, c->json, &w->cond, err) != SV_OK)
        return err->code;
    w->part = part >= 1 && part <= SV_R2_MAX_PARTS ? (int32_t)part : 0;
    if (customer_key(c->json, &c->in.ssec, err) != SV_OK)
        return err->code;
    w->ssec = c->in.ssec;
    switch (w->op) {
    case SV_R2_PUT: return metadata(c, c->json, err) == SV_OK ? hashes(c, c->json, err) : err->code;
    case SV_R2_CREATE: return metadata(c, c->json, err);
    case SV_R2_DELETE: return read_keys(c, err);
    case SV_R2_COMPLETE: return read_parts(c, err);
    default: return SV_OK;
    }
}

static sv_rc ready(sv_r2_call *c)
{
    c->in.want |= c->in.expect.mask;
    if (c->write.op == SV_R2_CREATE) /* parts may bring any sum; the binding's bring none */
        c->write.sum = -1;
    return SV_OK;
}

static void write_op(sv_req *r, void *ctx)
{
    sv_r2_call *c = begin(ctx, r);
    int64_t n = 0;
    if (!sv_str_to_i64(sv_req_header(r, "cf-r2-metadata-size"), &n) || n < 2 || n > 1 << 20)
        bad(&c->err);
    c->in.skip = (size_t)n;
    c->in.on_head = read_document;
    c->in.arg = c;
    sv_r2_call_receive(c, r, ready, answer_written);
}

void sv_r2_binding_routes(sv_http *s, sv_r2_http *h)
{
    const sv_route routes[] = {
        {.method = "GET", .path = "/r2", .fn = read_op},
        {.method = "PUT", .path = "/r2", .fn = write_op, .flags = SV_ROUTE_STREAM},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], h);
}
