/* r2_rest.c - buckets and objects under /client/v4/accounts/:account/r2, event notifications beside it, as wrangler and the SDK call them
 *
 * An object's key is the rest of the path, with its slashes bare or encoded; clients send both. Objects go in and out raw, everything else
 * in the envelope. What only makes sense on the hosted service (public host names, migration from other clouds) is refused with a sentence
 * that says what to do instead. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/time.h"
#include "http/api.h"
#include "http/graphql.h"
#include "r2/r2_call.h"
#include "r2/r2_impl.h"
#include "r2/r2_rules.h"

#define BASE "/client/v4/accounts/:account/r2"
#define NOTES "/client/v4/accounts/:account/event_notifications/r2/:bucket/configuration"

enum { MAX_JSON = 1 << 20 };

/* ---- answers ---- */

static void send_error(sv_req *r, const sv_err *err)
{
    int code = err->api_code && err->api_code < SV_R2_S3_FIRST ? err->api_code : SV_R2_BAD_ARGUMENT;
    if (sv_err_is_ours(err)) {
        sv_api_fail(r, err, SV_R2_INTERNAL);
        return;
    }
    /* The SDK sends a 409 three times. */
    if (err->api_code == SV_R2_BUCKET_EXISTS)
        sv_req_add_header(r, "x-should-retry", "false");
    sv_api_error(r, sv_r2_status(err), code, "%s", err->msg);
}

static void fail(sv_req *r, sv_r2_call *c)
{
    if (c->err.api_code == SV_R2_PRECONDITION && c->not_modified && strcmp(sv_req_method(r), "PUT") != 0)
        sv_req_send(r, 304, NULL, (sv_str){0});
    else
        send_error(r, &c->err);
}

static sv_str query(sv_req *r, const char *name)
{
    sv_str s;
    return sv_req_query(r, name, 0, &s) ? s : (sv_str){0};
}

static sv_str account_of(sv_req *r)
{
    const sv_principal *who = sv_req_user(r);
    return sv_str_of(who ? who->account_id : "");
}

static sv_str bucket_of(sv_req *r) { return sv_req_param_raw(r, "bucket"); } /* a valid name has nothing to decode */

static json_t *text(sv_str s) { return json_stringn(s.n ? s.p : "", s.n); }

/* ---- buckets; in the pool ---- */

static json_t *bucket_json(const sv_r2_bucket *b)
{
    char at[32];
    sv_iso8601_ms(at, b->created_ms);
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", b->name, "creation_date", at, "location", b->location, "storage_class", sv_r2_class_name(b->class),
                     "jurisdiction", b->jurisdiction);
}

static bool class_of(sv_str s, sv_r2_class *out)
{
    if (!sv_str_is(s, "Standard") && !sv_str_is(s, "InfrequentAccess"))
        return false;
    *out = sv_str_is(s, "Standard") ? SV_R2_STANDARD : SV_R2_INFREQUENT;
    return true;
}

static void append_bucket(void *arg, const sv_r2_bucket *b) { json_array_append_new(arg, bucket_json(b)); }

static void list_buckets(sv_req *r, void *ctx)
{
    sv_r2_http *h = ctx;
    sv_err err = {0};
    bool more = false;
    sv_str n = query(r, "per_page"), cursor = query(r, "cursor");
    sv_r2_bucket_page page = {.contains = query(r, "name_contains"), .after = cursor.n ? cursor : query(r, "start_after"),
                              .descending = sv_str_is(query(r, "direction"), "desc"), .limit = 1000};
    if (n.n && (!sv_str_to_i64(n, &page.limit) || page.limit < 1 || page.limit > 1000)) {
        sv_api_error(r, 400, SV_R2_BAD_ARGUMENT, "'per_page' must be a number from 1 to 1000");
        return;
    }
    json_t *all = json_array();
    if (sv_r2_bucket_list(h->r2, account_of(r), &page, append_bucket, all, &more, &err) != SV_OK) {
        json_decref(all);
        send_error(r, &err);
        return;
    }
    json_t *info = json_pack("{s:I}", "per_page", (json_int_t)page.limit);
    if (more)
        json_object_set(info, "cursor", json_object_get(json_array_get(all, json_array_size(all) - 1), "name"));
    sv_api_ok_info(r, json_pack("{s:o}", "buckets", all), info);
}

static sv_rc body_of(sv_req *r, json_t **out, sv_err *err)
{
    if (sv_json_parse(out, sv_req_body(r), err) != SV_OK || !json_is_object(*out))
        return sv_r2_fail(err, SV_R2_BAD_JSON);
    return SV_OK;
}

static void create_bucket(sv_req *r, void *ctx)
{
    sv_r2_http *h = ctx;
    sv_err err = {0};
    sv_r2_bucket b = {0};
    sv_r2_class class = SV_R2_STANDARD;
    sv_str name = {0}, where = {0}, kind = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    sv_rc rc = body_of(r, &body, &err);
    if (rc == SV_OK && (sv_json_str(body, "name", &name, &err) != SV_OK || sv_json_str(body, "locationHint", &where, &err) != SV_OK ||
                        sv_json_str(body, "storageClass", &kind, &err) != SV_OK))
        rc = err.code;
    if (rc == SV_OK && kind.n && !class_of(kind, &class))
        rc = sv_r2_failf(&err, SV_R2_BAD_ARGUMENT, "'storageClass' must be Standard or InfrequentAccess");
    SV_AUTO(sv_buf_donep) sv_buf upper = {0};
    sv_buf_init(&upper, 0);
    for (size_t i = 0; i < where.n && i < 16; i++)
        sv_buf_addc(&upper, (char)(where.p[i] >= 'a' && where.p[i] <= 'z' ? where.p[i] - 32 : where.p[i]));
    if (rc == SV_OK)
        rc = sv_r2_bucket_create(h->r2, account_of(r), name, sv_buf_str(&upper), sv_req_header(r, "cf-r2-jurisdiction"), class, &b, &err);
    if (rc != SV_OK)
        send_error(r, &err);
    else
        sv_api_ok(r, bucket_json(&b));
    sv_r2_bucket_done(&b);
}

static bool find(sv_req *r, sv_r2_http *h, sv_r2_bucket *out)
{
    sv_err err = {0};
    if (sv_r2_bucket_find(h->r2, account_of(r), bucket_of(r), out, &err) == SV_OK)
        return true;
    send_error(r, &err);
    return false;
}

static void get_bucket(sv_req *r, void *ctx)
{
    sv_r2_bucket b;
    if (!find(r, ctx, &b))
        return;
    sv_api_ok(r, bucket_json(&b));
    sv_r2_bucket_done(&b);
}

static void update_bucket(sv_req *r, void *ctx)
{
    sv_r2_http *h = ctx;
    sv_err err = {0};
    sv_r2_class class = SV_R2_STANDARD;
    if (!class_of(sv_req_header(r, "cf-r2-storage-class"), &class))
        sv_api_error(r, 400, SV_R2_BAD_ARGUMENT, "the header cf-r2-storage-class must be Standard or InfrequentAccess");
    else if (sv_r2_bucket_set_class(h->r2, account_of(r), bucket_of(r), class, &err) != SV_OK)
        send_error(r, &err);
    else
        get_bucket(r, ctx);
}

static void delete_bucket(sv_req *r, void *ctx)
{
    sv_r2_http *h = ctx;
    sv_err err = {0};
    if (sv_r2_bucket_delete(h->r2, account_of(r), bucket_of(r), &err) != SV_OK)
        send_error(r, &err);
    else
        sv_api_ok(r, json_object());
}

static json_t *usage_json(const sv_r2_usage *u)
{
    return json_pack("{s:{s:I, s:I, s:I}, s:{s:I, s:I, s:I}}", "published", "objects", (json_int_t)u->n_objects, "payloadSize", (json_int_t)u->n_bytes,
                     "metadataSize", (json_int_t)u->metadata_bytes, "uploaded", "objects", (json_int_t)0, "payloadSize", (json_int_t)0, "metadataSize", (json_int_t)0);
}

typedef struct total { sv_r2_http *h; sv_str account; sv_r2_usage of[2]; sv_err err; } total;

static void add_usage(void *arg, const sv_r2_bucket *b)
{
    total *t = arg;
    for (int class = 0; class < 2; class ++) {
        sv_r2_usage u = {0};
        sv_err err = {0};
        if (sv_r2_bucket_usage(t->h->r2, t->account, sv_str_of(b->name), (sv_r2_class)class, &u, &err) != SV_OK)
            continue; /* gone meanwhile */
        t->of[class].n_objects += u.n_objects;
        t->of[class].n_bytes += u.n_bytes;
        t->of[class].metadata_bytes += u.metadata_bytes;
    }
}

static void get_metrics(sv_req *r, void *ctx)
{
    total t = {.h = ctx, .account = account_of(r)};
    bool more;
    if (sv_r2_bucket_list(t.h->r2, t.account, &(sv_r2_bucket_page){.limit = SV_R2_MAX_BUCKETS}, add_usage, &t, &more, &t.err) != SV_OK)
        send_error(r, &t.err);
    else
        sv_api_ok(r, json_pack("{s:o, s:o}", "standard", usage_json(&t.of[0]), "infrequentAccess", usage_json(&t.of[1])));
}

/* The size of one bucket now, which is what `wrangler r2 bucket info` asks for. */
json_t *sv_r2_analytics(void *ctx, const char *account_id, const json_t *variables)
{
    sv_r2_http *h = ctx;
    sv_err err = {0};
    sv_r2_usage u = {0};
    char now[32];
    if (sv_r2_bucket_usage(h->r2, sv_str_of(account_id), sv_graphql_find(variables, "bucketName"), SV_R2_CLASS_OF_BUCKET, &u, &err) != SV_OK)
        return NULL;
    sv_iso8601_ms(now, sv_now_ms());
    return json_pack("[{s:{s:I, s:I, s:I}, s:{s:s}}]", "max", "objectCount", (json_int_t)u.n_objects, "payloadSize", (json_int_t)u.n_bytes, "metadataSize",
                     (json_int_t)u.metadata_bytes, "dimensions", "datetime", now);
}

/* ---- settings; in the pool ---- */

static void put_setting(sv_req *r, sv_r2_http *h, sv_r2_setting which)
{
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    SV_AUTO(sv_buf_donep) sv_buf out = {0};
    sv_buf_init(&out, 2 * MAX_JSON);
    if (body_of(r, &body, &err) != SV_OK || sv_r2_rules_check(which, body, &err) != SV_OK) {
        send_error(r, &err);
        return;
    }
    SV_AUTO(sv_json_decrefp) json_t *kept = json_pack("{s:O}", "rules", json_object_get(body, "rules"));
    sv_json_add_value(&out, kept);
    if (sv_r2_bucket_set(h->r2, account_of(r), bucket_of(r), which, sv_buf_str(&out), &err) != SV_OK)
        send_error(r, &err);
    else
        sv_api_ok(r, json_object());
}

static void get_setting(sv_req *r, sv_r2_http *h, sv_r2_setting which)
{
    sv_r2_bucket b;
    if (!find(r, h, &b))
        return;
    const char *none[] = {[SV_R2_CORS] = NULL, [SV_R2_LIFECYCLE] = sv_r2_default_lifecycle, [SV_R2_LOCKS] = "{\"rules\":[]}"};
    const char *has = which == SV_R2_CORS ? b.cors : which == SV_R2_LIFECYCLE ? b.lifecycle : b.locks;
    if (!has)
        has = none[which];
    if (has)
        sv_api_ok_text(r, sv_str_of(has));
    else
        sv_api_error(r, 404, SV_R2_NO_CORS, "The CORS configuration does not exist.");
    sv_r2_bucket_done(&b);
}

static void put_cors(sv_req *r, void *ctx) { put_setting(r, ctx, SV_R2_CORS); }
static void get_cors(sv_req *r, void *ctx) { get_setting(r, ctx, SV_R2_CORS); }
static void put_lifecycle(sv_req *r, void *ctx) { put_setting(r, ctx, SV_R2_LIFECYCLE); }
static void get_lifecycle(sv_req *r, void *ctx) { get_setting(r, ctx, SV_R2_LIFECYCLE); }
static void put_locks(sv_req *r, void *ctx) { put_setting(r, ctx, SV_R2_LOCKS); }
static void get_locks(sv_req *r, void *ctx) { get_setting(r, ctx, SV_R2_LOCKS); }

static void delete_cors(sv_req *r, void *ctx)
{
    sv_r2_http *h = ctx;
    sv_err err = {0};
    if (sv_r2_bucket_set(h->r2, account_of(r), bucket_of(r), SV_R2_CORS, (sv_str){0}, &err) != SV_OK)
        send_error(r, &err);
    else
        sv_api_ok(r, json_object());
}

static void get_managed(sv_req *r, void *ctx)
{
    sv_r2_bucket b;
    char id[33];
    if (!find(r, ctx, &b))
        return;
    snprintf(id, sizeof id, "%032llx", (unsigned long long)b.no);
    sv_api_ok(r, json_pack("{s:s, s:s, s:b}", "bucketId", id, "domain", "", "enabled", 0));
    sv_r2_bucket_done(&b);
}

static void put_managed(sv_req *r, void *ctx)
{
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (body_of(r, &body, &err) == SV_OK && json_is_false(json_object_get(body, "enabled")))
        get_managed(r, ctx);
    else
        sv_api_error(r, 400, 10015, "this server has no r2.dev: serve the bucket from a Worker (env.BUCKET.get), or by a presigned URL of the S3 endpoint");
}

static void get_domains(sv_req *r, void *ctx)
{
    sv_r2_bucket b;
    if (!find(r, ctx, &b))
        return;
    sv_api_ok(r, json_pack("{s:[]}", "domains"));
    sv_r2_bucket_done(&b);
}

static void refuse_domain(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_api_error(r, 400, 10015, "this server gives buckets no domains of their own: serve the bucket from a Worker, or by a presigned URL of the S3 endpoint");
}

static void refuse_sippy(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_api_error(r, 400, 10015, "this server does not migrate from other clouds on demand: copy the objects through the S3 endpoint");
}

static void get_sippy(sv_req *r, void *ctx)
{
    sv_r2_bucket b;
    if (!find(r, ctx, &b))
        return;
    sv_api_ok(r, json_pack("{s:b}", "enabled", 0));
    sv_r2_bucket_done(&b);
}

static void refuse_temp(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_api_error(r, 400, 10015, "this server makes no temporary credentials: make a token (selvedge token create), and revoke it afterwards");
}

/* ---- event notifications; in the pool ---- */

static const struct { const char *name; int bit; } actions[] = {
    {"PutObject", SV_R2_ON_PUT}, {"CompleteMultipartUpload", SV_R2_ON_COMPLETE}, {"CopyObject", SV_R2_ON_COPY}, {"DeleteObject", SV_R2_ON_DELETE},
    {"LifecycleDeletion", SV_R2_ON_EXPIRE},
};

static sv_rc read_rule(const json_t *rule, size_t i, sv_str queue, sv_r2_rule *out, sv_err *err)
{
    const json_t *list = json_object_get(rule, "actions"), *a;
    size_t k, known;
    *out = (sv_r2_rule){0};
    snprintf(out->queue, sizeof out->queue, "%.*s", (int)(queue.n < 64 ? queue.n : 64), queue.p);
    if (!json_is_object(rule) || !json_is_array(list) || json_array_size(list) == 0)
        return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "rules[%zu]: 'actions' must be a list", i);
    json_array_foreach ((json_t *)(uintptr_t)list, k, a) {
        for (known = 0; known < SV_LEN(actions) && (!json_is_string(a) || strcmp(json_string_value(a), actions[known].name) != 0);)
            known++;
        if (known == SV_LEN(actions))
            return sv_r2_failf(err, SV_R2_BAD_ARGUMENT,
                               "rules[%zu]: actions are PutObject, CompleteMultipartUpload, CopyObject, DeleteObject and LifecycleDeletion", i);
        out->actions |= actions[known].bit;
    }
    if (sv_json_str(rule, "prefix", &out->prefix, err) != SV_OK || sv_json_str(rule, "suffix", &out->suffix, err) != SV_OK ||
        sv_json_str(rule, "description", &out->description, err) != SV_OK)
        return sv_wrap(err, "rules[%zu]", i);
    if (out->prefix.n > SV_R2_MAX_KEY || out->suffix.n > SV_R2_MAX_KEY || out->description.n > 1024)
        return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "rules[%zu]: prefix, suffix and description have at most 1024 bytes", i);
    return SV_OK;
}

static sv_rc queue_name(sv_r2_http *h, sv_req *r, sv_str queue, char out[64], sv_err *err)
{
    char id[65];
    const sv_r2_notify *n = sv_r2_get_notify(h->r2);
    SV_AUTO(sv_freep) char *account = sv_xstrndup(account_of(r).p, account_of(r).n);
    snprintf(id, sizeof id, "%.*s", (int)(queue.n < 64 ? queue.n : 64), queue.p);
    out[0] = 0;
    if (!n || !n->queue_name)
        return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "this server has no queues");
    return n->queue_name(n->ctx, account, id, out, 64, err);
}

static void put_rules(sv_req *r, void *ctx)
{
    sv_r2_http *h = ctx;
    sv_err err = {0};
    char name[64];
    size_t i;
    json_t *rule;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    sv_rc rc = body_of(r, &body, &err);
    const json_t *list = json_object_get(body, "rules");
    size_t n = json_array_size(list);
    if (rc == SV_OK && (n == 0 || n > 100))
        rc = sv_r2_failf(&err, SV_R2_BAD_ARGUMENT, "'rules' must be a list of 1 to 100 rules");
    if (rc == SV_OK)
        rc = queue_name(h, r, sv_req_param_raw(r, "queue"), name, &err);
    sv_r2_rule *v = rc == SV_OK ? sv_arena_new(sv_req_arena(r), sv_r2_rule, n) : NULL;
    json_array_foreach ((json_t *)(uintptr_t)list, i, rule)
        if (rc == SV_OK && v)
            rc = read_rule(rule, i, sv_req_param_raw(r, "queue"), &v[i], &err);
    if (rc == SV_OK)
        rc = sv_r2_rules_add(h->r2, account_of(r), bucket_of(r), v, n, &err);
    if (rc != SV_OK) {
        send_error(r, &err);
        return;
    }
    sv_api_ok(r, json_pack("{s:s}", "event_notification_detail_id", v[0].id));
}

typedef struct rules_json { json_t *queues; json_t *last; } rules_json; /* last: of the queue that came last, borrowed */

static void append_rule(void *arg, const sv_r2_rule *rule)
{
    rules_json *j = arg;
    char at[32];
    sv_iso8601_ms(at, rule->created_ms);
    const char *last = j->last ? json_string_value(json_object_get(j->last, "queueId")) : NULL;
    if (!last || strcmp(last, rule->queue) != 0) {
        j->last = json_pack("{s:s, s:s, s:[]}", "queueId", rule->queue, "queueName", "", "rules");
        json_array_append_new(j->queues, j->last);
    }
    json_t *list = json_array();
    for (size_t i = 0; i < SV_LEN(actions); i++)
        if (rule->actions & actions[i].bit)
            json_array_append_new(list, json_string(actions[i].name));
    json_t *one = json_pack("{s:s, s:s, s:o, s:o, s:o}", "ruleId", rule->id, "createdAt", at, "prefix", text(rule->prefix), "suffix", text(rule->suffix), "actions", list);
    if (rule->description.n)
        json_object_set_new(one, "description", text(rule->description));
    json_array_append_new(json_object_get(j->last, "rules"), one);
}

/* All queues of the bucket's rules; the caller's. */
static json_t *rules_of(sv_req *r, sv_r2_http *h, sv_err *err)
{
    rules_json j = {.queues = json_array()};
    json_t *q;
    size_t i;
    if (sv_r2_rules_list(h->r2, account_of(r), bucket_of(r), append_rule, &j, err) != SV_OK) {
        json_decref(j.queues);
        return NULL;
    }
    json_array_foreach (j.queues, i, q) {
        char name[64];
        sv_err why = {0};
        if (queue_name(h, r, sv_str_of(sv_json_cstr(q, "queueId")), name, &why) == SV_OK)
            json_object_set_new(q, "queueName", json_string(name));
    }
    return j.queues;
}

static void list_rules(sv_req *r, void *ctx)
{
    sv_err err = {0};
    json_t *queues = rules_of(r, ctx, &err);
    if (!queues) {
        send_error(r, &err);
    } else if (json_array_size(queues) == 0) {
        json_decref(queues);
        sv_api_error(r, 404, SV_R2_NO_NOTIFICATION, "The bucket has no event notification configuration.");
    } else {
        sv_api_ok(r, json_pack("{s:o, s:o}", "bucketName", text(bucket_of(r)), "queues", queues));
    }
}

static void get_rules(sv_req *r, void *ctx)
{
    sv_err err = {0};
    json_t *q, *found = NULL;
    size_t i;
    SV_AUTO(sv_json_decrefp) json_t *queues = rules_of(r, ctx, &err);
    json_array_foreach (queues, i, q)
        if (sv_str_is(sv_req_param_raw(r, "queue"), sv_json_cstr(q, "queueId")))
            found = q;
    if (!queues)
        send_error(r, &err);
    else if (!found)
        sv_api_error(r, 404, SV_R2_NO_NOTIFICATION, "The bucket has no event notification rules for this queue.");
    else
        sv_api_ok(r, json_incref(found));
}

static void delete_rules(sv_req *r, void *ctx)
{
    sv_r2_http *h = ctx;
    sv_err err = {0};
    size_t i;
    json_t *id;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    sv_rc rc = sv_req_body(r).n ? body_of(r, &body, &err) : SV_OK;
    const json_t *list = json_object_get(body, "ruleIds");
    sv_str *ids = sv_arena_new(sv_req_arena(r), sv_str, json_array_size(list) + 1);
    json_array_foreach ((json_t *)(uintptr_t)list, i, id)
        if (ids)
            ids[i] = json_is_string(id) ? sv_str_of(json_string_value(id)) : SV_STR("");
    if (rc == SV_OK && ids)
        rc = sv_r2_rules_remove(h->r2, account_of(r), bucket_of(r), sv_req_param_raw(r, "queue"), ids, json_array_size(list), &err);
    if (rc != SV_OK)
        send_error(r, &err);
    else
        sv_api_ok(r, json_object());
}

/* ---- objects ---- */

/* Everything behind "/objects/": the route's own parameter loses a slash at the end. */
static sv_str raw_key(sv_req *r)
{
    static const char mark[] = "/objects/";
    sv_str path = sv_req_path(r);
    const char *at = memmem(path.p, path.n, mark, sizeof mark - 1);
    if (!at)
        return (sv_str){0};
    at += sizeof mark - 1;
    return (sv_str){at, path.n - (size_t)(at - path.p)};
}

static sv_r2_call *begin(sv_r2_http *h, sv_req *r)
{
    sv_str key = {0}, raw = raw_key(r);
    sv_err err = {0};
    sv_rc rc = raw.p ? sv_percent_decode(&key, sv_req_arena(r), raw, &err) : SV_OK;
    sv_r2_call *c = sv_r2_call_new(h, account_of(r), bucket_of(r), key, fail);
    if (rc != SV_OK || (raw.p && sv_r2_check_key(c->key, &c->err) != SV_OK))
        sv_r2_fail(&c->err, SV_R2_BAD_KEY);
    return c;
}

static const struct { const char *header, *name; } fields[] = {
    {"content-type", "contentType"}, {"content-language", "contentLanguage"}, {"content-disposition", "contentDisposition"},
    {"content-encoding", "contentEncoding"}, {"cache-control", "cacheControl"},
};

/* The condition of If-None-Match and If-Modified-Since; several tags. */
static void condition(sv_r2_call *c, sv_req *r)
{
    int64_t s;
    sv_str none = sv_req_header(r, "if-none-match"), since = sv_req_header(r, "if-modified-since");
    if (since.n && sv_parse_http_date(since, &s)) {
        c->get.cond.has_after = c->get.cond.seconds = true;
        c->get.cond.after_ms = s * 1000;
    }
    if (none.n)
        sv_r2_call_etags(c, none, &c->get.cond.none, &c->get.cond.n_none, &c->get.cond.has_none);
}

static void answer_object(sv_req *r, sv_r2_call *c)
{
    char at[64];
    const sv_r2_obj *o = &c->obj;
    for (size_t i = 0; i < SV_LEN(fields); i++) {
        const char *v = sv_json_cstr(o->http, fields[i].name);
        if (v)
            sv_req_add_header(r, fields[i].header, v);
    }
    if (!sv_json_cstr(o->http, "contentType"))
        sv_req_add_header(r, "content-type", "application/octet-stream");
    snprintf(at, sizeof at, "\"%s\"", o->etag);
    sv_req_add_header(r, "etag", at);
    sv_http_date_text(at, o->uploaded_ms / 1000);
    sv_req_add_header(r, "last-modified", at);
    sv_req_begin(r, 200, NULL, c->n);
    sv_r2_call_send(r, c, (sv_str){0});
}

static void get_object(sv_req *r, void *ctx)
{
    sv_r2_call *c = begin(ctx, r);
    condition(c, r);
    c->get.head = strcmp(sv_req_method(r), "HEAD") == 0;
    sv_r2_call_work(c, r, sv_r2_call_get, answer_object);
}

static void answer_put(sv_req *r, sv_r2_call *c)
{
    char at[32], size[24];
    const sv_r2_obj *o = &c->write.out;
    sv_iso8601_ms(at, o->uploaded_ms);
    snprintf(size, sizeof size, "%lld", (long long)o->size);
    sv_api_ok(r, json_pack("{s:o, s:s, s:s, s:s, s:s, s:s}", "key", text((sv_str){o->key, o->n_key}), "etag", o->etag, "size", size, "storage_class",
                           sv_r2_class_name(o->class), "uploaded", at, "version", o->version));
}

static sv_rc put_ready(sv_r2_call *c)
{
    c->write.op = SV_R2_PUT;
    return SV_OK;
}

static void put_object(sv_req *r, void *ctx)
{
    sv_r2_call *c = begin(ctx, r);
    sv_str class = sv_req_header(r, "cf-r2-storage-class"), expires = sv_req_header(r, "expires");
    int64_t s;
    char ms[24];
    c->http = json_object();
    for (size_t i = 0; i < SV_LEN(fields); i++) {
        sv_str v = sv_req_header(r, fields[i].header);
        if (v.n && sv_utf8_valid(v))
            json_object_set_new(c->http, fields[i].name, text(v));
    }
    if (expires.n && sv_parse_http_date(expires, &s)) {
        snprintf(ms, sizeof ms, "%lld", (long long)s * 1000);
        json_object_set_new(c->http, "cacheExpiry", json_string(ms));
    }
    c->write.http = c->http;
    if (class.n && !class_of(class, &c->write.class) && !c->err.code)
        sv_r2_failf(&c->err, SV_R2_BAD_ARGUMENT, "the header cf-r2-storage-class must be Standard or InfrequentAccess");
    sv_r2_call_receive(c, r, put_ready, answer_put);
}

static void delete_work(void *arg)
{
    sv_r2_call *c = arg;
    c->write.op = SV_R2_DELETE;
    c->write.keys = &c->key;
    c->write.n_keys = 1;
    sv_rc rc = sv_r2_apply(c->h->r2, &c->write, &c->err);
    (void)rc; /* c->err tells */
}

static void answer_delete(sv_req *r, sv_r2_call *c) { sv_api_ok(r, json_pack("{s:o}", "key", text(c->key))); }

static void delete_object(sv_req *r, void *ctx) { sv_r2_call_work(begin(ctx, r), r, delete_work, answer_delete); }

/* ---- lists ---- */

typedef struct lister { sv_buf *b; json_t *delimited; size_t n; } lister;

static void add_entry(void *arg, const sv_r2_obj *o, sv_str common)
{
    lister *l = arg;
    char at[32];
    if (!o) {
        json_array_append_new(l->delimited, text(common));
        return;
    }
    sv_iso8601_ms(at, o->uploaded_ms);
    sv_buf_adds(l->b, l->n++ ? ",{\"key\":" : "{\"key\":");
    sv_json_add_str(l->b, (sv_str){o->key, o->n_key});
    sv_buf_addf(l->b, ",\"etag\":\"%s\",\"last_modified\":\"%s\",\"size\":%lld,\"storage_class\":\"%s\",\"http_metadata\":", o->etag, at, (long long)o->size,
                sv_r2_class_name(o->class));
    if (o->http)
        sv_json_add_value(l->b, o->http);
    else
        sv_buf_adds(l->b, "{}");
    sv_buf_adds(l->b, ",\"custom_metadata\":");
    if (o->custom)
        sv_json_add_value(l->b, o->custom);
    else
        sv_buf_adds(l->b, "{}");
    sv_buf_addf(l->b, "%s}", o->ssec_md5[0] ? ",\"ssec\":true" : "");
}

typedef struct list_own { sv_r2_list how; } list_own;

static void list_work(void *arg)
{
    sv_r2_call *c = arg;
    list_own *own = c->own;
    SV_AUTO(sv_json_decrefp) json_t *delimited = json_array();
    SV_AUTO(sv_buf_donep) sv_buf next = {0};
    lister l = {.b = &c->answer, .delimited = delimited};
    sv_buf_init(&next, 4096);
    sv_buf_adds(&c->answer, "{\"success\":true,\"errors\":[],\"messages\":[],\"result\":[");
    if (sv_r2_list_objects(c->h->r2, &own->how, add_entry, &l, &next, &c->err) != SV_OK)
        return;
    sv_buf_addf(&c->answer, "],\"result_info\":{\"per_page\":%lld,\"is_truncated\":%s,\"cursor\":", (long long)own->how.limit, next.n ? "true" : "false");
    sv_json_add_str(&c->answer, sv_buf_str(&next));
    sv_buf_adds(&c->answer, ",\"delimited\":");
    sv_json_add_value(&c->answer, delimited);
    sv_buf_adds(&c->answer, "}}");
    if (c->answer.failed)
        sv_fail(&c->err, SV_ENOMEM, "the answer is too large to be built");
}

static void answer_list(sv_req *r, sv_r2_call *c) { sv_r2_call_send_answer(r, c, 200, "application/json"); }

static void list_objects(sv_req *r, void *ctx)
{
    sv_r2_call *c = sv_r2_call_new(ctx, account_of(r), bucket_of(r), (sv_str){0}, fail);
    list_own *own = sv_arena_new(c->arena, list_own, 1);
    sv_str n = query(r, "per_page");
    own->how = (sv_r2_list){.account = c->account, .bucket = c->bucket, .prefix = sv_r2_call_copy(c, query(r, "prefix")),
                            .delimiter = sv_r2_call_copy(c, query(r, "delimiter")), .start_after = sv_r2_call_copy(c, query(r, "start_after")),
                            .cursor = sv_r2_call_copy(c, query(r, "cursor")), .limit = 20, .http = true, .custom = true};
    if (n.n && (!sv_str_to_i64(n, &own->how.limit) || own->how.limit < 1 || own->how.limit > SV_R2_MAX_LIST))
        sv_r2_fail(&c->err, SV_R2_BAD_MAX_KEYS);
    c->own = own;
    sv_r2_call_work(c, r, list_work, answer_list);
}

void sv_r2_rest_routes(sv_http *s, sv_r2_http *h)
{
    const sv_route routes[] = {
        {.method = "GET", .path = BASE "/buckets", .fn = list_buckets, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = BASE "/buckets", .fn = create_bucket, .max_body = MAX_JSON, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = BASE "/buckets/:bucket", .fn = get_bucket, .flags = SV_ROUTE_JOB},
        {.method = "PATCH", .path = BASE "/buckets/:bucket", .fn = update_bucket, .flags = SV_ROUTE_JOB},
        {.method = "DELETE", .path = BASE "/buckets/:bucket", .fn = delete_bucket, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = BASE "/metrics", .fn = get_metrics, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = BASE "/temp-access-credentials", .fn = refuse_temp, .max_body = MAX_JSON},
        {.method = "PUT", .path = BASE "/buckets/:bucket/cors", .fn = put_cors, .max_body = MAX_JSON, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = BASE "/buckets/:bucket/cors", .fn = get_cors, .flags = SV_ROUTE_JOB},
        {.method = "DELETE", .path = BASE "/buckets/:bucket/cors", .fn = delete_cors, .flags = SV_ROUTE_JOB},
        {.method = "PUT", .path = BASE "/buckets/:bucket/lifecycle", .fn = put_lifecycle, .max_body = MAX_JSON, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = BASE "/buckets/:bucket/lifecycle", .fn = get_lifecycle, .flags = SV_ROUTE_JOB},
        {.method = "PUT", .path = BASE "/buckets/:bucket/lock", .fn = put_locks, .max_body = MAX_JSON, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = BASE "/buckets/:bucket/lock", .fn = get_locks, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = BASE "/buckets/:bucket/domains/managed", .fn = get_managed, .flags = SV_ROUTE_JOB},
        {.method = "PUT", .path = BASE "/buckets/:bucket/domains/managed", .fn = put_managed, .max_body = MAX_JSON, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = BASE "/buckets/:bucket/domains/custom", .fn = get_domains, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = BASE "/buckets/:bucket/domains/custom", .fn = refuse_domain, .max_body = MAX_JSON},
        {.method = "*", .path = BASE "/buckets/:bucket/domains/custom/:domain", .fn = refuse_domain, .max_body = MAX_JSON},
        {.method = "GET", .path = BASE "/buckets/:bucket/sippy", .fn = get_sippy, .flags = SV_ROUTE_JOB},
        {.method = "PUT", .path = BASE "/buckets/:bucket/sippy", .fn = refuse_sippy, .max_body = MAX_JSON},
        {.method = "DELETE", .path = BASE "/buckets/:bucket/sippy", .fn = get_sippy, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = BASE "/buckets/:bucket/objects", .fn = list_objects},
        {.method = "GET", .path = BASE "/buckets/:bucket/objects/*key", .fn = get_object},
        {.method = "PUT", .path = BASE "/buckets/:bucket/objects/*key", .fn = put_object, .flags = SV_ROUTE_STREAM},
        {.method = "DELETE", .path = BASE "/buckets/:bucket/objects/*key", .fn = delete_object},
        {.method = "GET", .path = NOTES, .fn = list_rules, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = NOTES "/queues/:queue", .fn = get_rules, .flags = SV_ROUTE_JOB},
        {.method = "PUT", .path = NOTES "/queues/:queue", .fn = put_rules, .max_body = MAX_JSON, .flags = SV_ROUTE_JOB},
        {.method = "DELETE", .path = NOTES "/queues/:queue", .fn = delete_rules, .max_body = MAX_JSON, .flags = SV_ROUTE_JOB},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], h);
}
