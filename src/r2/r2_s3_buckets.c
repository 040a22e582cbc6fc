/* r2_s3_buckets.c - S3's operations on buckets, on their lists and on their settings */
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "r2/r2_rules.h"
#include "r2/r2_s3_impl.h"

static void refuse(sv_r2_call *c, sv_req *r, int code)
{
    sv_r2_fail(&c->err, code);
    sv_s3_fail(r, c);
    sv_r2_call_free(c);
}

static void answer_200(sv_req *r, sv_r2_call *c) { sv_s3_empty(r, c, 200); }
static void answer_204(sv_req *r, sv_r2_call *c) { sv_s3_empty(r, c, 204); }

static void add_owner(sv_r2_call *c, const char *name)
{
    sv_buf_addf(&c->answer, "<%s>", name);
    sv_xml_element(&c->answer, "ID", c->account);
    sv_xml_element(&c->answer, "DisplayName", c->account);
    sv_buf_addf(&c->answer, "</%s>", name);
}

/* ---- ListBuckets ---- */

typedef struct lister { sv_r2_call *c; char last[SV_R2_MAX_BUCKET_NAME + 1]; } lister;

static void add_bucket(void *arg, const sv_r2_bucket *b)
{
    lister *l = arg;
    sv_buf_adds(&l->c->answer, "<Bucket>");
    sv_s3_add_date(&l->c->answer, "CreationDate", b->created_ms);
    sv_xml_element(&l->c->answer, "Name", sv_str_of(b->name));
    sv_buf_adds(&l->c->answer, "</Bucket>");
    snprintf(l->last, sizeof l->last, "%s", b->name);
}

static void list_buckets_work(void *arg)
{
    sv_r2_call *c = arg;
    sv_s3 *s = sv_s3_of(c);
    lister l = {.c = c};
    bool more = false;
    sv_s3_begin_xml(c, "ListAllMyBucketsResult");
    sv_buf_adds(&c->answer, "<Buckets>");
    sv_r2_bucket_page page = {.prefix = s->list.prefix, .after = s->list.start_after, .limit = s->list.limit};
    if (sv_r2_bucket_list(c->h->r2, c->account, &page, add_bucket, &l, &more, &c->err) != SV_OK)
        return;
    sv_buf_adds(&c->answer, "</Buckets>");
    add_owner(c, "Owner");
    if (more)
        sv_xml_element(&c->answer, "ContinuationToken", sv_str_of(l.last));
    sv_buf_adds(&c->answer, "</ListAllMyBucketsResult>");
    s->quiet = more;
}

static void answer_buckets(sv_req *r, sv_r2_call *c)
{
    sv_req_add_header(r, "cf-is-truncated", sv_s3_of(c)->quiet ? "true" : "false");
    sv_s3_xml(r, c);
}

static sv_str either(sv_r2_call *c, sv_req *r, const char *query, const char *header)
{
    sv_str q = sv_s3_query(r, query);
    return sv_r2_call_copy(c, q.n ? q : sv_req_header(r, header));
}

void sv_s3_root(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    if (strcmp(sv_req_method(r), "GET") != 0) {
        refuse(c, r, SV_S3_METHOD);
        return;
    }
    sv_str most = either(c, r, "max-buckets", "cf-max-keys"), token = either(c, r, "continuation-token", "cf-continuation-token");
    s->list.prefix = either(c, r, "prefix", "cf-prefix");
    s->list.start_after = token.n ? token : either(c, r, "start-after", "cf-start-after");
    s->list.limit = SV_R2_MAX_BUCKET_LIST;
    if (most.n && (!sv_str_to_i64(most, &s->list.limit) || s->list.limit < 1 || s->list.limit > SV_R2_MAX_BUCKET_LIST))
        sv_r2_failf(&c->err, SV_R2_BAD_ARGUMENT, "max-buckets must be a number from 1 to %d", SV_R2_MAX_BUCKET_LIST);
    sv_r2_call_work(c, r, list_buckets_work, answer_buckets);
}

/* ---- a bucket itself ---- */

static void head_work(void *arg)
{
    sv_r2_call *c = arg;
    sv_r2_bucket b;
    if (sv_r2_bucket_find(c->h->r2, c->account, c->bucket, &b, &c->err) != SV_OK)
        return;
    snprintf(c->write.upload, sizeof c->write.upload, "%s", b.location);
    sv_r2_bucket_done(&b);
}

static void answer_head(sv_req *r, sv_r2_call *c)
{
    sv_req_add_header(r, "x-amz-bucket-region", "auto");
    sv_s3_empty(r, c, 200);
}

static void answer_location(sv_req *r, sv_r2_call *c)
{
    sv_s3_begin_xml(c, "LocationConstraint");
    sv_xml_add(&c->answer, sv_str_of(c->write.upload));
    sv_buf_adds(&c->answer, "</LocationConstraint>");
    sv_s3_xml(r, c);
}

static sv_rc create_ready(sv_r2_call *c)
{
    SV_AUTO(sv_arena_freep) sv_arena *a = NULL;
    sv_xml *root = NULL;
    sv_r2_bucket b = {0};
    char where[16] = "";
    if (c->in.n && sv_s3_parse(c, &a, &root) != SV_OK)
        return c->err.code;
    sv_str place = sv_xml_text(root, "LocationConstraint");
    for (size_t i = 0; i < place.n; i++) {
        bool good = place.n < sizeof where - 3 && ((place.p[i] | 32) >= 'a' || (place.p[i] >= '0' && place.p[i] <= '9') || place.p[i] == '-');
        if (!good)
            return sv_r2_fail(&c->err, SV_S3_BAD_LOCATION);
        where[i] = (char)(place.p[i] >= 'a' && place.p[i] <= 'z' ? place.p[i] - 32 : place.p[i]);
    }
    if (strcmp(where, "AUTO") == 0 || strcmp(where, "US-EAST-1") == 0)
        where[0] = 0;
    if (sv_r2_bucket_create(c->h->r2, c->account, c->bucket, sv_str_of(where), (sv_str){0}, SV_R2_STANDARD, &b, &c->err) == SV_OK)
        sv_r2_bucket_done(&b);
    return c->err.code;
}

static void answer_created(sv_req *r, sv_r2_call *c)
{
    SV_AUTO(sv_buf_donep) sv_buf b = {0};
    sv_buf_init(&b, 256);
    sv_buf_addf(&b, "/%s", c->bucket.p);
    sv_req_add_header(r, "Location", sv_buf_cstr(&b));
    sv_s3_empty(r, c, 200);
}

static void delete_work(void *arg)
{
    sv_r2_call *c = arg;
    sv_rc rc = sv_r2_bucket_delete(c->h->r2, c->account, c->bucket, &c->err);
    (void)rc; /* c->err tells */
}

/* ---- lists ---- */

static void add_object(void *arg, const sv_r2_obj *o, sv_str common)
{
    sv_r2_call *c = arg;
    sv_s3 *s = sv_s3_of(c);
    char etag[64];
    s->after++;
    if (!o) {
        sv_buf_adds(&c->answer, "<CommonPrefixes>");
        sv_s3_add_name(c, "Prefix", common);
        sv_buf_adds(&c->answer, "</CommonPrefixes>");
        c->write.copy_key = sv_r2_call_copy(c, common); /* the last name of the page */
        return;
    }
    sv_buf_adds(&c->answer, "<Contents>");
    sv_s3_add_name(c, "Key", (sv_str){o->key, o->n_key});
    sv_s3_add_date(&c->answer, "LastModified", o->uploaded_ms);
    snprintf(etag, sizeof etag, "\"%s\"", o->etag);
    sv_xml_element(&c->answer, "ETag", sv_str_of(etag));
    sv_buf_addf(&c->answer, "<Size>%lld</Size><StorageClass>%s</StorageClass>", (long long)o->size, o->class == SV_R2_INFREQUENT ? "STANDARD_IA" : "STANDARD");
    for (int i = SV_SUM_SHA1; i < SV_N_SUMS; i++)
        if (o->sums.mask & 1u << i)
            sv_buf_addf(&c->answer, "<ChecksumAlgorithm>%s</ChecksumAlgorithm><ChecksumType>%s</ChecksumType>", sv_sum_name((sv_sum)i), o->composite ? "COMPOSITE" : "FULL_OBJECT");
    if (!s->v2 || s->fetch_owner)
        add_owner(c, "Owner");
    sv_buf_adds(&c->answer, "</Contents>");
    c->write.copy_key = sv_r2_call_copy(c, (sv_str){o->key, o->n_key});
}

static void list_work(void *arg)
{
    sv_r2_call *c = arg;
    sv_s3 *s = sv_s3_of(c);
    SV_AUTO(sv_buf_donep) sv_buf next = {0};
    sv_buf_init(&next, 4096);
    sv_s3_begin_xml(c, "ListBucketResult");
    sv_xml_element(&c->answer, "Name", c->bucket);
    if (s->v2)
        sv_s3_add_name(c, "Prefix", s->list.prefix.p ? s->list.prefix : SV_STR(""));
    else /* which clients do not decode in version 1 */
        sv_xml_element(&c->answer, "Prefix", s->list.prefix.p ? s->list.prefix : SV_STR(""));
    sv_buf_addf(&c->answer, "<MaxKeys>%lld</MaxKeys>", (long long)s->list.limit);
    if (s->list.delimiter.n)
        sv_s3_add_name(c, "Delimiter", s->list.delimiter);
    if (s->encode_url)
        sv_buf_adds(&c->answer, "<EncodingType>url</EncodingType>");
    if (s->v2 && s->list.start_after.n)
        sv_s3_add_name(c, "StartAfter", s->list.start_after);
    if (s->v2 && s->list.cursor.p) /* an empty one is the first page */
        sv_xml_element(&c->answer, "ContinuationToken", s->list.cursor);
    if (!s->v2)
        sv_s3_add_name(c, "Marker", s->list.start_after.p ? s->list.start_after : SV_STR(""));
    if (sv_r2_list_objects(c->h->r2, &s->list, add_object, c, &next, &c->err) != SV_OK)
        return;
    if (s->v2)
        sv_buf_addf(&c->answer, "<KeyCount>%lld</KeyCount>", (long long)s->after);
    sv_buf_addf(&c->answer, "<IsTruncated>%s</IsTruncated>", next.n ? "true" : "false");
    if (next.n && s->v2)
        sv_xml_element(&c->answer, "NextContinuationToken", sv_buf_str(&next));
    else if (next.n)
        sv_s3_add_name(c, "NextMarker", c->write.copy_key);
    sv_buf_adds(&c->answer, "</ListBucketResult>");
    if (c->answer.failed)
        sv_fail(&c->err, SV_ENOMEM, "the answer is too large to be built");
}

static void read_limit(sv_r2_call *c, sv_req *r, const char *name, int64_t *out)
{
    sv_str n = sv_s3_query(r, name);
    *out = SV_R2_MAX_LIST;
    if (n.n && (!sv_str_to_i64(n, out) || *out < 0) && !c->err.code)
        sv_r2_failf(&c->err, SV_R2_BAD_ARGUMENT, "%s must be a number from 0 to %d", name, SV_R2_MAX_LIST);
    if (*out > SV_R2_MAX_LIST)
        *out = SV_R2_MAX_LIST;
}

static void read_encoding(sv_r2_call *c, sv_req *r)
{
    sv_str e = sv_s3_query(r, "encoding-type");
    sv_s3_of(c)->encode_url = sv_str_is(e, "url");
    if (e.n && !sv_str_is(e, "url") && !c->err.code)
        sv_r2_failf(&c->err, SV_R2_BAD_ARGUMENT, "Invalid Encoding Method specified in Request");
}

static void list(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    s->v2 = sv_str_is(sv_s3_query(r, "list-type"), "2");
    s->fetch_owner = sv_str_is(sv_s3_query(r, "fetch-owner"), "true");
    s->list = (sv_r2_list){.account = c->account, .bucket = c->bucket, .prefix = sv_r2_call_copy(c, sv_s3_query(r, "prefix")),
                           .delimiter = sv_r2_call_copy(c, sv_s3_query(r, "delimiter")), .past_prefix = true,
                           .start_after = sv_r2_call_copy(c, sv_s3_query(r, s->v2 ? "start-after" : "marker"))};
    if (s->v2)
        s->list.cursor = sv_r2_call_copy(c, sv_s3_query(r, "continuation-token"));
    read_limit(c, r, "max-keys", &s->list.limit);
    read_encoding(c, r);
    sv_r2_call_work(c, r, list_work, sv_s3_xml);
}

static void add_upload(void *arg, const sv_r2_upload *u, sv_str common)
{
    sv_r2_call *c = arg;
    if (!u) {
        sv_buf_adds(&c->answer, "<CommonPrefixes>");
        sv_s3_add_name(c, "Prefix", common);
        sv_buf_adds(&c->answer, "</CommonPrefixes>");
        c->write.copy_key = sv_r2_call_copy(c, common);
        c->write.upload[0] = 0;
        return;
    }
    sv_buf_adds(&c->answer, "<Upload>");
    sv_s3_add_name(c, "Key", (sv_str){u->key, u->n_key});
    sv_xml_element(&c->answer, "UploadId", sv_str_of(u->upload));
    sv_buf_adds(&c->answer, "<Initiator>");
    sv_xml_element(&c->answer, "ID", c->account);
    sv_buf_adds(&c->answer, "</Initiator>");
    add_owner(c, "Owner");
    sv_buf_addf(&c->answer, "<StorageClass>%s</StorageClass>", u->class == SV_R2_INFREQUENT ? "STANDARD_IA" : "STANDARD");
    sv_s3_add_date(&c->answer, "Initiated", u->created_ms);
    sv_buf_adds(&c->answer, "</Upload>");
    c->write.copy_key = sv_r2_call_copy(c, (sv_str){u->key, u->n_key});
    snprintf(c->write.upload, sizeof c->write.upload, "%s", u->upload);
}

static void list_uploads_work(void *arg)
{
    sv_r2_call *c = arg;
    sv_s3 *s = sv_s3_of(c);
    bool more = false;
    sv_s3_begin_xml(c, "ListMultipartUploadsResult");
    sv_xml_element(&c->answer, "Bucket", c->bucket);
    sv_s3_add_name(c, "KeyMarker", s->uploads.key_marker.p ? s->uploads.key_marker : SV_STR(""));
    sv_xml_element(&c->answer, "UploadIdMarker", s->uploads.upload_marker.p ? s->uploads.upload_marker : SV_STR(""));
    sv_s3_add_name(c, "Prefix", s->uploads.prefix.p ? s->uploads.prefix : SV_STR(""));
    if (s->uploads.delimiter.n)
        sv_s3_add_name(c, "Delimiter", s->uploads.delimiter);
    if (s->encode_url)
        sv_buf_adds(&c->answer, "<EncodingType>url</EncodingType>");
    sv_buf_addf(&c->answer, "<MaxUploads>%lld</MaxUploads>", (long long)s->uploads.limit);
    if (sv_r2_upload_list(c->h->r2, c->account, c->bucket, &s->uploads, add_upload, c, &more, &c->err) != SV_OK)
        return;
    sv_buf_addf(&c->answer, "<IsTruncated>%s</IsTruncated>", more ? "true" : "false");
    if (more) {
        sv_s3_add_name(c, "NextKeyMarker", c->write.copy_key);
        sv_xml_element(&c->answer, "NextUploadIdMarker", sv_str_of(c->write.upload));
    }
    sv_buf_adds(&c->answer, "</ListMultipartUploadsResult>");
}

static void list_uploads(sv_r2_call *c, sv_req *r)
{
    sv_s3 *s = sv_s3_of(c);
    s->uploads = (sv_r2_upload_page){.prefix = sv_r2_call_copy(c, sv_s3_query(r, "prefix")), .delimiter = sv_r2_call_copy(c, sv_s3_query(r, "delimiter")),
                                     .key_marker = sv_r2_call_copy(c, sv_s3_query(r, "key-marker")),
                                     .upload_marker = sv_r2_call_copy(c, sv_s3_query(r, "upload-id-marker"))};
    read_limit(c, r, "max-uploads", &s->uploads.limit);
    read_encoding(c, r);
    sv_r2_call_work(c, r, list_uploads_work, sv_s3_xml);
}

/* ---- DeleteObjects ---- */

static void add_deleted(sv_r2_call *c, sv_str key, int code)
{
    const sv_r2_error *e = sv_r2_error_of(code);
    if (!code && sv_s3_of(c)->quiet)
        return;
    sv_buf_adds(&c->answer, code ? "<Error>" : "<Deleted>");
    sv_xml_element(&c->answer, "Key", key);
    if (code) {
        sv_xml_element(&c->answer, "Code", sv_str_of(e->s3));
        sv_xml_element(&c->answer, "Message", sv_str_of(e->text));
    }
    sv_buf_adds(&c->answer, code ? "</Error>" : "</Deleted>");
}

/* The keys that can be; those that cannot are answered for at once. */
static size_t read_keys(sv_r2_call *c, const sv_xml *root, sv_str *keys)
{
    size_t n = 0;
    for (const sv_xml *o = root->first; o; o = o->next) {
        const sv_xml *k = strcmp(o->name, "Object") == 0 ? sv_xml_child(o, "Key") : NULL;
        sv_err why = {0};
        if (!k)
            continue;
        sv_str key = k->text.p ? k->text : SV_STR(""); /* untrimmed: a key may begin with a space */
        if (sv_r2_check_key(key, &why) != SV_OK)
            add_deleted(c, key, SV_R2_BAD_KEY);
        else
            keys[n++] = key;
    }
    return n;
}

static sv_rc delete_keys(sv_r2_call *c, const sv_xml *root)
{
    size_t n_objects = 0;
    SV_AUTO(sv_freep) sv_str *keys = sv_try_calloc(SV_R2_MAX_DELETE, sizeof *keys);
    SV_AUTO(sv_freep) int *codes = sv_try_calloc(SV_R2_MAX_DELETE, sizeof *codes);
    for (const sv_xml *o = root->first; o; o = o->next)
        n_objects += strcmp(o->name, "Object") == 0;
    if (strcmp(root->name, "Delete") != 0 || n_objects == 0 || n_objects > SV_R2_MAX_DELETE)
        return sv_r2_fail(&c->err, SV_S3_MALFORMED_XML);
    if (!keys || !codes)
        return sv_fail(&c->err, SV_ENOMEM, "no memory for keys");
    sv_s3_of(c)->quiet = sv_str_is(sv_xml_text(root, "Quiet"), "true");
    sv_s3_begin_xml(c, "DeleteResult");
    c->write.op = SV_R2_DELETE;
    c->write.keys = keys;
    c->write.key_codes = codes;
    c->write.n_keys = read_keys(c, root, keys);
    sv_rc rc = sv_r2_apply(c->h->r2, &c->write, &c->err);
    for (size_t i = 0; rc == SV_OK && i < c->write.n_keys; i++)
        add_deleted(c, keys[i], codes[i]);
    sv_buf_adds(&c->answer, "</DeleteResult>");
    c->write.op = (sv_r2_op)SV_R2_NOTHING;
    return rc;
}

static sv_rc delete_ready(sv_r2_call *c)
{
    SV_AUTO(sv_arena_freep) sv_arena *a = NULL;
    sv_xml *root = NULL;
    return sv_s3_parse(c, &a, &root) == SV_OK ? delete_keys(c, root) : c->err.code;
}

/* ---- settings: XML here, JSON in the store ---- */

static json_t *texts_of(const sv_xml *rule, const char *name)
{
    json_t *all = json_array();
    for (const sv_xml *x = rule->first; x; x = x->next)
        if (strcmp(x->name, name) == 0) {
            sv_str t = sv_str_trim(x->text);
            json_array_append_new(all, json_stringn(t.n ? t.p : "", t.n));
        }
    return all;
}

static json_t *text_json(sv_str s) { return json_stringn(s.n ? s.p : "", s.n); }

static json_t *cors_rule(const sv_xml *rule)
{
    int64_t age = 0;
    sv_str id = sv_xml_text(rule, "ID"), max = sv_xml_text(rule, "MaxAgeSeconds");
    json_t *one = json_pack("{s:{s:o, s:o, s:o}}", "allowed", "origins", texts_of(rule, "AllowedOrigin"), "methods", texts_of(rule, "AllowedMethod"), "headers",
                            texts_of(rule, "AllowedHeader"));
    json_object_set_new(one, "exposeHeaders", texts_of(rule, "ExposeHeader"));
    if (id.n)
        json_object_set_new(one, "id", text_json(id));
    if (max.n)
        json_object_set_new(one, "maxAgeSeconds", sv_str_to_i64(max, &age) ? json_integer(age) : json_string("no number"));
    return one;
}

/* <Days> or <Date> of a transition as a condition; NULL: neither. */
static json_t *when_of(const sv_xml *x, const char *days)
{
    int64_t n = 0;
    sv_str d = sv_xml_text(x, days), date = sv_xml_text(x, "Date");
    if (d.n)
        return json_pack("{s:s, s:I}", "type", "Age", "maxAge", sv_str_to_i64(d, &n) && n > 0 ? (json_int_t)n * 86400 : (json_int_t)-1);
    return date.n ? json_pack("{s:s, s:o}", "type", "Date", "date", text_json(date)) : NULL;
}

static json_t *life_rule(const sv_xml *rule, size_t i)
{
    const sv_xml *filter = sv_xml_child(rule, "Filter"), *expire = sv_xml_child(rule, "Expiration"), *stop = sv_xml_child(rule, "AbortIncompleteMultipartUpload"),
                 *move = sv_xml_child(rule, "Transition");
    const sv_xml *both = sv_xml_child(filter, "And");
    sv_str prefix = sv_xml_text(both ? both : filter ? filter : rule, "Prefix"), id = sv_xml_text(rule, "ID"), status = sv_xml_text(rule, "Status");
    char made[24];
    json_t *when;
    snprintf(made, sizeof made, "rule-%zu", i + 1);
    json_t *one = json_pack("{s:o, s:{s:o}}", "id", id.n ? text_json(id) : json_string(made), "conditions", "prefix", text_json(prefix));
    json_object_set_new(one, "enabled", sv_str_is(status, "Enabled") ? json_true() : sv_str_is(status, "Disabled") ? json_false() : json_null());
    if (expire && (when = when_of(expire, "Days")))
        json_object_set_new(one, "deleteObjectsTransition", json_pack("{s:o}", "condition", when));
    if (stop && (when = when_of(stop, "DaysAfterInitiation")))
        json_object_set_new(one, "abortMultipartUploadsTransition", json_pack("{s:o}", "condition", when));
    if (move && (when = when_of(move, "Days")))
        json_object_set_new(one, "storageClassTransitions",
                            json_pack("[{s:o, s:s}]", "condition", when, "storageClass",
                                      sv_str_is(sv_xml_text(move, "StorageClass"), "STANDARD_IA") ? "InfrequentAccess" : "none"));
    return one;
}

static sv_rc setting_ready(sv_r2_call *c)
{
    sv_s3 *s = sv_s3_of(c);
    bool cors = s->setting == SV_R2_CORS;
    SV_AUTO(sv_arena_freep) sv_arena *a = NULL;
    SV_AUTO(sv_buf_donep) sv_buf text = {0};
    sv_xml *root = NULL;
    sv_err why = {0};
    if (sv_s3_parse(c, &a, &root) != SV_OK)
        return c->err.code;
    if (strcmp(root->name, cors ? "CORSConfiguration" : "LifecycleConfiguration") != 0)
        return sv_r2_fail(&c->err, SV_S3_MALFORMED_XML);
    SV_AUTO(sv_json_decrefp) json_t *rules = json_array();
    for (const sv_xml *x = root->first; x; x = x->next)
        if (strcmp(x->name, cors ? "CORSRule" : "Rule") == 0)
            json_array_append_new(rules, cors ? cors_rule(x) : life_rule(x, json_array_size(rules)));
    SV_AUTO(sv_json_decrefp) json_t *all = json_pack("{s:O}", "rules", rules);
    size_t i;
    json_t *rule;
    json_array_foreach (rules, i, rule)
        if (!cors && json_is_null(json_object_get(rule, "enabled"))) /* a Status that is none */
            return sv_r2_fail(&c->err, SV_S3_MALFORMED_XML);
    if (!cors && json_array_size(rules) && sv_r2_rules_check(s->setting, all, &c->err) != SV_OK)
        return c->err.code;
    if (json_array_size(rules) == 0 || sv_r2_rules_check(s->setting, all, &why) != SV_OK)
        return json_array_size(rules) ? sv_r2_failf(&c->err, SV_S3_MALFORMED_XML, "%s", why.msg) : sv_r2_fail(&c->err, SV_S3_MALFORMED_XML);
    sv_buf_init(&text, 2 << 20);
    sv_json_add_value(&text, all);
    return sv_r2_bucket_set(c->h->r2, c->account, c->bucket, s->setting, sv_buf_str(&text), &c->err);
}

static void forget_work(void *arg)
{
    sv_r2_call *c = arg;
    sv_rc rc = sv_r2_bucket_set(c->h->r2, c->account, c->bucket, sv_s3_of(c)->setting, (sv_str){0}, &c->err);
    (void)rc; /* c->err tells */
}

static void add_texts(sv_buf *b, const json_t *list, const char *name)
{
    size_t i;
    json_t *t;
    json_array_foreach ((json_t *)(uintptr_t)list, i, t)
        sv_xml_element(b, name, sv_str_of(json_string_value(t)));
}

static void show_cors(sv_buf *b, const json_t *rule)
{
    const json_t *allowed = json_object_get(rule, "allowed"), *age = json_object_get(rule, "maxAgeSeconds");
    sv_buf_adds(b, "<CORSRule>");
    if (sv_json_cstr(rule, "id"))
        sv_xml_element(b, "ID", sv_str_of(sv_json_cstr(rule, "id")));
    add_texts(b, json_object_get(allowed, "origins"), "AllowedOrigin");
    add_texts(b, json_object_get(allowed, "methods"), "AllowedMethod");
    add_texts(b, json_object_get(allowed, "headers"), "AllowedHeader");
    add_texts(b, json_object_get(rule, "exposeHeaders"), "ExposeHeader");
    if (json_is_integer(age))
        sv_buf_addf(b, "<MaxAgeSeconds>%lld</MaxAgeSeconds>", (long long)json_integer_value(age));
    sv_buf_adds(b, "</CORSRule>");
}

static void show_when(sv_buf *b, const json_t *transition, const char *root, const char *days, const char *more)
{
    const json_t *c = json_object_get(transition, "condition"), *age = json_object_get(c, "maxAge");
    if (!json_is_object(c))
        return;
    sv_buf_addf(b, "<%s>", root);
    if (json_is_integer(age))
        sv_buf_addf(b, "<%s>%lld</%s>", days, (long long)((json_integer_value(age) + 86399) / 86400), days);
    else
        sv_xml_element(b, "Date", sv_str_of(sv_json_cstr(c, "date")));
    sv_buf_addf(b, "%s</%s>", more, root);
}

static void show_life(sv_buf *b, const json_t *rule)
{
    sv_buf_adds(b, "<Rule>");
    sv_xml_element(b, "ID", sv_str_of(sv_json_cstr(rule, "id")));
    sv_buf_adds(b, "<Filter>");
    sv_xml_element(b, "Prefix", sv_str_of(sv_json_cstr(json_object_get(rule, "conditions"), "prefix")));
    sv_buf_addf(b, "</Filter><Status>%s</Status>", json_is_true(json_object_get(rule, "enabled")) ? "Enabled" : "Disabled");
    show_when(b, json_object_get(rule, "deleteObjectsTransition"), "Expiration", "Days", "");
    show_when(b, json_array_get(json_object_get(rule, "storageClassTransitions"), 0), "Transition", "Days", "<StorageClass>STANDARD_IA</StorageClass>");
    show_when(b, json_object_get(rule, "abortMultipartUploadsTransition"), "AbortIncompleteMultipartUpload", "DaysAfterInitiation", "");
    sv_buf_adds(b, "</Rule>");
}

static void show_work(void *arg)
{
    sv_r2_call *c = arg;
    bool cors = sv_s3_of(c)->setting == SV_R2_CORS;
    const char *root = cors ? "CORSConfiguration" : "LifecycleConfiguration";
    SV_AUTO(sv_json_decrefp) json_t *all = NULL;
    sv_r2_bucket b;
    size_t i;
    json_t *rule;
    if (sv_r2_bucket_find(c->h->r2, c->account, c->bucket, &b, &c->err) != SV_OK)
        return;
    const char *text = cors ? b.cors : b.lifecycle ? b.lifecycle : sv_r2_default_lifecycle;
    if (!text)
        sv_r2_fail(&c->err, SV_R2_NO_CORS);
    else if (sv_json_parse(&all, sv_str_of(text), &c->err) == SV_OK && !cors && json_array_size(json_object_get(all, "rules")) == 0)
        sv_r2_fail(&c->err, SV_S3_NO_LIFECYCLE);
    sv_s3_begin_xml(c, root);
    json_array_foreach (json_object_get(all, "rules"), i, rule)
        (cors ? show_cors : show_life)(&c->answer, rule);
    sv_buf_addf(&c->answer, "</%s>", root);
    sv_r2_bucket_done(&b);
}

static void setting(sv_r2_call *c, sv_req *r, sv_r2_setting which)
{
    const char *m = sv_req_method(r);
    sv_s3_of(c)->setting = which;
    if (strcmp(m, "GET") == 0)
        sv_r2_call_work(c, r, show_work, sv_s3_xml);
    else if (strcmp(m, "PUT") == 0)
        sv_s3_receive_xml(c, r, setting_ready, answer_200);
    else if (strcmp(m, "DELETE") == 0)
        sv_r2_call_work(c, r, forget_work, answer_204);
    else
        refuse(c, r, SV_S3_METHOD);
}

static void encryption(sv_r2_call *c, sv_req *r)
{
    if (strcmp(sv_req_method(r), "GET") == 0)
        sv_r2_fail(&c->err, SV_S3_NO_ENCRYPTION);
    else
        sv_r2_failf(&c->err, SV_S3_NOT_IMPLEMENTED, "This server does not encrypt objects by itself: encrypt its disk, or send keys of your own (SSE-C)");
    sv_s3_fail(r, c);
    sv_r2_call_free(c);
}

/* ---- which ---- */

void sv_s3_bucket(sv_r2_call *c, sv_req *r)
{
    static const char *const no[] = {"acl", "policy", "policyStatus", "versioning", "versions", "tagging", "website", "replication", "notification", "inventory",
                                     "analytics", "metrics", "logging", "requestPayment", "accelerate", "object-lock", "ownershipControls", "publicAccessBlock",
                                     "intelligent-tiering"};
    const char *m = sv_req_method(r);
    for (size_t i = 0; i < SV_LEN(no); i++)
        if (sv_s3_has(r, no[i])) {
            refuse(c, r, SV_S3_NOT_IMPLEMENTED);
            return;
        }
    if (sv_s3_has(r, "cors"))
        setting(c, r, SV_R2_CORS);
    else if (sv_s3_has(r, "lifecycle"))
        setting(c, r, SV_R2_LIFECYCLE);
    else if (sv_s3_has(r, "encryption"))
        encryption(c, r);
    else if (strcmp(m, "GET") == 0 && sv_s3_has(r, "location"))
        sv_r2_call_work(c, r, head_work, answer_location);
    else if (strcmp(m, "GET") == 0 && sv_s3_has(r, "uploads"))
        list_uploads(c, r);
    else if (strcmp(m, "GET") == 0)
        list(c, r);
    else if (strcmp(m, "HEAD") == 0)
        sv_r2_call_work(c, r, head_work, answer_head);
    else if (strcmp(m, "PUT") == 0)
        sv_s3_receive_xml(c, r, create_ready, answer_created);
    else if (strcmp(m, "DELETE") == 0)
        sv_r2_call_work(c, r, delete_work, answer_204);
    else if (strcmp(m, "POST") == 0 && sv_s3_has(r, "delete"))
        sv_s3_receive_xml(c, r, delete_ready, sv_s3_xml);
    else
        refuse(c, r, strcmp(m, "POST") == 0 ? SV_S3_NOT_IMPLEMENTED : SV_S3_METHOD);
}
