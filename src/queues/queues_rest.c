/* queues_rest.c - queues, consumers and messages under /client/v4/accounts/:account/queues
 *
 * Everything runs in the job pool: these are the calls of operators, and of clients that pull. wrangler finds a queue by its name in a list,
 * decides by what the list says of its consumers, and sends JSON as text/plain; a pull answers at once, with whatever is there. */
#include <stdio.h>
#include <string.h>

#include "account/account.h"
#include "account/limits.h"
#include "base/time.h"
#include "http/api.h"
#include "queues/queues_http.h"
#include "queues/queues_send.h"

#define BASE "/client/v4/accounts/:account/queues"

enum { MAX_JSON = 64 << 10, MAX_SEND = 2 << 20, MAX_ACKS = 1000, REF = 1 };

static void fail(sv_req *r, const sv_err *err)
{
    if (sv_err_is_ours(err))
        sv_api_fail(r, err, 10001);
    else
        sv_api_error(r, sv_queues_status(err), err->api_code ? err->api_code : 10001, "%s", err->msg);
}

static sv_str account_of(sv_req *r)
{
    const sv_principal *who = sv_req_user(r);
    return sv_str_of(who ? who->account_id : "");
}

static sv_rc body_of(sv_req *r, json_t **body, sv_err *err)
{
    if (sv_json_parse(body, sv_req_body(r), err) != SV_OK) {
        err->api_code = 10026;
        return err->code;
    }
    return json_is_object(*body) ? SV_OK : sv_fail_api(err, SV_EINVAL, 10026, "the body must be a JSON object");
}

static sv_rc find(sv_req *r, sv_queues_http *h, sv_queues_info *i, sv_err *err)
{
    return sv_queues_find(h->queues, account_of(r), sv_req_param_raw(r, "queue"), i, err);
}

/* Members that a setting may have, whose refusal has the number of its kind. */
static sv_rc number(const json_t *o, const char *key, int64_t *out, int code, sv_err *err)
{
    if (sv_json_int(o, key, INT32_MIN, INT32_MAX, out, err) == SV_OK)
        return SV_OK;
    err->api_code = code;
    return err->code;
}

/* ---- what is shown ---- */

static void set_time(json_t *o, const char *key, int64_t ms)
{
    char text[32];
    sv_iso8601(text, ms);
    json_object_set_new(o, key, json_string(text));
}

static json_t *consumer_json(const sv_queues_info *i)
{
    const sv_queues_consumer *c = &i->consumer;
    bool pull = c->kind == SV_QUEUES_PULL;
    json_t *s = json_pack("{s:I, s:I, s:I}", "batch_size", (json_int_t)c->batch, "max_retries", (json_int_t)c->max_retries, "retry_delay",
                          (json_int_t)c->retry_delay_s);
    json_t *o = json_pack("{s:s, s:s, s:s, s:o}", "consumer_id", c->id, "queue_name", i->name, "type", pull ? "http_pull" : "worker", "settings", s);
    set_time(o, "created_on", c->created_ms);
    if (pull) {
        json_object_set_new(s, "visibility_timeout_ms", json_integer(c->visibility_ms));
    } else {
        json_object_set_new(s, "max_wait_time_ms", json_integer(c->wait_ms));
        json_object_set_new(s, "max_concurrency", c->concurrency ? json_integer(c->concurrency) : json_null());
        json_object_set_new(o, "script", json_string(c->script)); /* wrangler reads the one, the SDK the other */
        json_object_set_new(o, "script_name", json_string(c->script));
    }
    if (c->dead_letter[0])
        json_object_set_new(o, "dead_letter_queue", json_string(c->dead_letter));
    return o;
}

static json_t *consumers_json(const sv_queues_info *i)
{
    return i->consumer.kind == SV_QUEUES_NOBODY ? json_array() : json_pack("[o]", consumer_json(i));
}

static json_t *queue_json(sv_queues_http *h, const sv_queues_info *i)
{
    json_t *producers = h->producers ? h->producers(h->ctx, i->account, i->name) : json_array(), *consumers = consumers_json(i);
    json_t *o = json_pack("{s:s, s:s, s:{s:I, s:I, s:b}}", "queue_id", i->id, "queue_name", i->name, "settings", "delivery_delay",
                          (json_int_t)i->delay_s, "message_retention_period", (json_int_t)i->retention_s, "delivery_paused", i->paused);
    set_time(o, "created_on", i->created_ms);
    set_time(o, "modified_on", i->modified_ms);
    json_object_set_new(o, "producers_total_count", json_integer((json_int_t)json_array_size(producers)));
    json_object_set_new(o, "producers", producers);
    json_object_set_new(o, "consumers_total_count", json_integer((json_int_t)json_array_size(consumers)));
    json_object_set_new(o, "consumers", consumers);
    return o;
}

static json_t *metrics_json(int64_t n, int64_t bytes, int64_t oldest_ms)
{
    return json_pack("{s:I, s:I, s:I}", "backlog_count", (json_int_t)n, "backlog_bytes", (json_int_t)bytes, "oldest_message_timestamp_ms",
                     (json_int_t)oldest_ms);
}

/* ---- queues ---- */

static bool is_asked_for(sv_req *r, const char *name)
{
    sv_str want;
    if (!sv_req_query(r, "name", 0, &want))
        return true;
    for (int i = 0; sv_req_query(r, "name", i, &want); i++) /* any of these */
        if (sv_str_is(want, name))
            return true;
    return false;
}

static void list_queues(sv_req *r, void *ctx)
{
    sv_queues_http *h = ctx;
    sv_queues_info *v;
    size_t n;
    sv_queues_list(h->queues, account_of(r), &v, &n);
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++)
        if (is_asked_for(r, v[i].name))
            json_array_append_new(all, queue_json(h, &v[i]));
    free(v);
    sv_api_ok_page(r, all, 100);
}

/* What no client of ours may believe to have set is refused. */
static sv_rc settings_of(const json_t *body, sv_str *name, sv_queues_settings *s, sv_err *err)
{
    bool paused = false;
    const json_t *o = json_object_get(body, "settings");
    *s = (sv_queues_settings){-1, -1, -1};
    if (sv_json_str(body, "queue_name", name, err) != SV_OK) {
        err->api_code = 11003;
        return err->code;
    }
    if (!o || json_is_null(o))
        return SV_OK;
    if (!json_is_object(o))
        return sv_fail_api(err, SV_EINVAL, 100128, "'settings' must be an object");
    if (number(o, "delivery_delay", &s->delay_s, 100128, err) != SV_OK || number(o, "message_retention_period", &s->retention_s, 100128, err) != SV_OK)
        return err->code;
    if (sv_json_bool(o, "delivery_paused", &paused, err) != SV_OK) {
        err->api_code = 100128;
        return err->code;
    }
    if (json_is_boolean(json_object_get(o, "delivery_paused")))
        s->paused = paused;
    bool negative = (json_object_get(o, "delivery_delay") && s->delay_s < 0) || (json_object_get(o, "message_retention_period") && s->retention_s < 0);
    return negative ? sv_fail_api(err, SV_EINVAL, 100128, "a setting in seconds is negative") : SV_OK;
}

static void create_queue(sv_req *r, void *ctx)
{
    sv_queues_http *h = ctx;
    sv_err err = {0};
    sv_queues_info i;
    sv_queues_settings s;
    sv_str name = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (body_of(r, &body, &err) != SV_OK || settings_of(body, &name, &s, &err) != SV_OK ||
        sv_queues_create(h->queues, account_of(r), name, &s, &i, &err) != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, queue_json(h, &i));
}

static void get_queue(sv_req *r, void *ctx)
{
    sv_err err = {0};
    sv_queues_info i;
    if (find(r, ctx, &i, &err) != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, queue_json(ctx, &i));
}

static void update_queue(sv_req *r, void *ctx)
{
    sv_queues_http *h = ctx;
    sv_err err = {0};
    sv_queues_info i;
    sv_queues_settings s;
    sv_str name = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (body_of(r, &body, &err) != SV_OK || settings_of(body, &name, &s, &err) != SV_OK ||
        sv_queues_update(h->queues, account_of(r), sv_req_param_raw(r, "queue"), name, &s, &i, &err) != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, queue_json(h, &i));
}

static void delete_queue(sv_req *r, void *ctx)
{
    sv_queues_http *h = ctx;
    sv_err err = {0};
    if (sv_queues_delete(h->queues, account_of(r), sv_req_param_raw(r, "queue"), &err) != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, NULL);
}

static void get_metrics(sv_req *r, void *ctx)
{
    sv_err err = {0};
    sv_queues_info i;
    if (find(r, ctx, &i, &err) != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, metrics_json(i.n, i.bytes, i.oldest_ms));
}

/* ---- purge ---- */

static void purge(sv_req *r, void *ctx)
{
    sv_queues_http *h = ctx;
    sv_err err = {0};
    bool permanently = false;
    int64_t at = 0;
    sv_queues_info i;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    sv_rc rc = body_of(r, &body, &err);
    if (rc == SV_OK && (rc = sv_json_bool(body, "delete_messages_permanently", &permanently, &err)) == SV_OK && !permanently)
        rc = sv_fail_api(&err, SV_EINVAL, 10026, "a purge deletes messages for good: say so with \"delete_messages_permanently\": true");
    if (rc == SV_OK)
        rc = sv_queues_purge(h->queues, account_of(r), sv_req_param_raw(r, "queue"), &at, &err);
    if (rc == SV_OK)
        rc = find(r, h, &i, &err);
    if (rc != SV_OK) {
        fail(r, &err);
        return;
    }
    json_t *o = queue_json(h, &i); /* the SDK's type has the queue, the reference these two */
    set_time(o, "started_at", at);
    json_object_set_new(o, "complete", json_true());
    sv_api_ok(r, o);
}

/* A purge answers when it is done, so none is ever seen under way. */
static void purge_status(sv_req *r, void *ctx)
{
    sv_err err = {0};
    sv_queues_info i;
    if (find(r, ctx, &i, &err) != SV_OK) {
        fail(r, &err);
        return;
    }
    json_t *o = json_pack("{s:b, s:s}", "complete", 1, "completed", "true");
    set_time(o, "started_at", i.modified_ms);
    sv_api_ok(r, o);
}

/* ---- consumers ---- */

static sv_rc copy_name(const json_t *body, const char *key, char *out, size_t n, sv_err *err)
{
    sv_str s = {0};
    if (sv_json_str(body, key, &s, err) != SV_OK || s.n >= n || (s.n && memchr(s.p, 0, s.n)))
        return sv_fail_api(err, SV_EINVAL, 100127, "'%s' must be text of at most %zu bytes", key, n - 1);
    if (s.p)
        snprintf(out, n, "%.*s", (int)s.n, s.p);
    return SV_OK;
}

static sv_rc consumer_of(const json_t *body, sv_queues_consumer *c, sv_err *err)
{
    sv_str type = SV_STR("worker");
    const json_t *s = json_object_get(body, "settings");
    if (sv_json_str(body, "type", &type, err) != SV_OK || (!sv_str_is(type, "worker") && !sv_str_is(type, "http_pull")))
        return sv_fail_api(err, SV_EINVAL, 100127, "'type' must be \"worker\" or \"http_pull\"");
    if (s && !json_is_null(s) && !json_is_object(s))
        return sv_fail_api(err, SV_EINVAL, 100127, "'settings' must be an object");
    c->kind = sv_str_is(type, "worker") ? SV_QUEUES_WORKER : SV_QUEUES_PULL;
    sv_queues_consumer_defaults(c);
    if (copy_name(body, "script_name", c->script, sizeof c->script, err) != SV_OK ||
        (!c->script[0] && copy_name(body, "script", c->script, sizeof c->script, err) != SV_OK) ||
        copy_name(body, "dead_letter_queue", c->dead_letter, sizeof c->dead_letter, err) != SV_OK)
        return err->code;
    const struct { const char *key; int64_t *out; } numbers[] = {
        {"batch_size", &c->batch}, {"max_retries", &c->max_retries}, {"max_wait_time_ms", &c->wait_ms}, {"max_concurrency", &c->concurrency},
        {"retry_delay", &c->retry_delay_s}, {"visibility_timeout_ms", &c->visibility_ms}, {"visibility_timeout", &c->visibility_ms}};
    for (size_t i = 0; i < SV_LEN(numbers); i++)
        if (number(s, numbers[i].key, numbers[i].out, 100127, err) != SV_OK)
            return err->code;
    if (c->kind == SV_QUEUES_WORKER && json_is_integer(json_object_get(s, "max_concurrency")) && c->concurrency < 1)
        return sv_fail_api(err, SV_EINVAL, 100127, "consumer setting max_concurrency must be 1 to %d, not %lld", SV_QUEUES_MAX_CONCURRENCY,
                           (long long)c->concurrency);
    return SV_OK;
}

static void set_consumer(sv_req *r, sv_queues_http *h, sv_str id)
{
    sv_err err = {0};
    sv_queues_info i;
    sv_queues_consumer c = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    sv_rc rc = find(r, h, &i, &err);
    if (rc == SV_OK)
        rc = body_of(r, &body, &err);
    if (rc == SV_OK)
        rc = consumer_of(body, &c, &err);
    if (rc == SV_OK && id.n && (i.consumer.kind == SV_QUEUES_NOBODY || !sv_str_is(id, i.consumer.id)))
        rc = sv_fail_api(&err, SV_ENOENT, 11004, "Queue '%s' has no such consumer.", i.name);
    if (rc == SV_OK && id.n)
        memcpy(c.id, i.consumer.id, sizeof c.id);
    if (rc == SV_OK && c.kind == SV_QUEUES_WORKER && c.script[0] && h->ready)
        rc = h->ready(h->ctx, i.account, c.script, &err);
    if (rc == SV_OK)
        rc = sv_queues_set_consumer(h->queues, account_of(r), sv_str_of(i.id), &c, &err);
    if (rc == SV_OK)
        rc = find(r, h, &i, &err);
    if (rc != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, consumer_json(&i));
}

static void create_consumer(sv_req *r, void *ctx) { set_consumer(r, ctx, (sv_str){0}); }
static void update_consumer(sv_req *r, void *ctx) { set_consumer(r, ctx, sv_req_param_raw(r, "consumer")); }

static void list_consumers(sv_req *r, void *ctx)
{
    sv_err err = {0};
    sv_queues_info i;
    if (find(r, ctx, &i, &err) != SV_OK)
        fail(r, &err);
    else
        sv_api_ok_page(r, consumers_json(&i), 100);
}

static void get_consumer(sv_req *r, void *ctx)
{
    sv_err err = {0};
    sv_queues_info i;
    sv_rc rc = find(r, ctx, &i, &err);
    if (rc == SV_OK && (i.consumer.kind == SV_QUEUES_NOBODY || !sv_str_is(sv_req_param_raw(r, "consumer"), i.consumer.id)))
        rc = sv_fail_api(&err, SV_ENOENT, 11004, "Queue '%s' has no such consumer.", i.name);
    if (rc != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, consumer_json(&i));
}

static void delete_consumer(sv_req *r, void *ctx)
{
    sv_queues_http *h = ctx;
    sv_err err = {0};
    if (sv_queues_drop_consumer(h->queues, account_of(r), sv_req_param_raw(r, "queue"), sv_req_param_raw(r, "consumer"), &err) != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, NULL);
}

/* ---- messages ---- */

static void push(sv_req *r, sv_queues_http *h, bool single)
{
    sv_err err = {0};
    sv_queues_info i;
    sv_queues_batch b = {.n = 0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (find(r, h, &i, &err) != SV_OK || body_of(r, &body, &err) != SV_OK || sv_queues_batch_of_rest(&b, body, single, &err) != SV_OK) {
        fail(r, &err);
        return;
    }
    sv_queues_write w = {.op = SV_QUEUES_SEND, .queue = i.no, .msgs = b.v, .n = b.n};
    if (sv_queues_apply(h->queues, &w, &err) != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, json_pack("{s:{s:o}}", "metadata", "metrics", metrics_json(w.backlog_n, w.backlog_bytes, w.oldest_ms)));
    sv_queues_batch_done(&b);
}

static void push_one(sv_req *r, void *ctx) { push(r, ctx, true); }
static void push_batch(sv_req *r, void *ctx) { push(r, ctx, false); }

typedef struct pulled { sv_buf *b; size_t n; bool leased; } pulled;

static void add_pulled(void *arg, const sv_queues_item *it)
{
    pulled *p = arg;
    char lease[SV_QUEUES_LEASE];
    sv_queues_item named = *it;
    if (!p->leased)
        named.lease = REF;
    sv_queues_lease_text(&named, lease);
    sv_buf_addf(p->b, "%s{\"id\":\"%s\",\"timestamp_ms\":%lld,\"attempts\":%lld,\"%s\":\"%s\",\"metadata\":{\"CF-sourceMessageSource\":\"dash\","
                      "\"CF-Content-Type\":\"%s\"},\"body\":", p->n++ ? "," : "", it->id, (long long)it->sent_ms,
                (long long)(p->leased ? it->attempts : it->attempts - 1), p->leased ? "lease_id" : "ref", lease, sv_queues_type_name(it->type));
    if (it->type == SV_QUEUES_TEXT) {
        sv_json_add_str(p->b, it->body);
    } else {
        sv_buf_addc(p->b, '"');
        sv_base64_encode(p->b, it->body.p, it->body.n);
        sv_buf_addc(p->b, '"');
    }
    sv_buf_addc(p->b, '}');
}

static void answer_pulled(sv_req *r, sv_queues_http *h, const sv_queues_info *i, sv_buf *list)
{
    sv_queues_info after = *i;
    sv_err ignore = {0};
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    if (sv_queues_find_no(h->queues, i->no, &after, &ignore) != SV_OK)
        after.n = 0;
    sv_buf_addf(&b, "{\"message_backlog_count\":%lld,\"metadata\":{\"metrics\":{\"backlog_count\":%lld,\"backlog_bytes\":%lld,"
                    "\"oldest_message_timestamp_ms\":%lld}},\"messages\":[", (long long)after.n, (long long)after.n, (long long)after.bytes,
                (long long)after.oldest_ms);
    sv_buf_add(&b, list->p, list->n);
    sv_buf_adds(&b, "]}");
    if (b.failed || list->failed)
        sv_api_error(r, 503, 10001, "no memory for the messages");
    else
        sv_api_ok_text(r, sv_buf_str(&b));
}

static sv_rc batch_size(const json_t *body, int64_t *out, sv_err *err)
{
    if (sv_json_int(body, "batch_size", 1, SV_QUEUES_MAX_BATCH, out, err) == SV_OK)
        return SV_OK;
    err->api_code = 10207;
    return err->code;
}

static void pull(sv_req *r, void *ctx)
{
    sv_queues_http *h = ctx;
    sv_err err = {0};
    sv_queues_info i;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    SV_AUTO(sv_buf_donep) sv_buf list;
    sv_buf_init(&list, 0);
    sv_rc rc = find(r, h, &i, &err);
    if (rc == SV_OK && sv_req_body(r).n)
        rc = body_of(r, &body, &err);
    if (rc == SV_OK && i.consumer.kind != SV_QUEUES_PULL)
        rc = sv_fail_api(&err, SV_EINVAL, 11005, "Queue '%s' has no consumer of type http_pull: add one first", i.name);
    int64_t limit = i.consumer.batch, visible = i.consumer.visibility_ms;
    if (rc == SV_OK)
        rc = batch_size(body, &limit, &err);
    for (int k = 0; k < 2 && rc == SV_OK; k++)
        if ((rc = sv_json_int(body, k ? "visibility_timeout_ms" : "visibility_timeout", 1, SV_QUEUES_MAX_VISIBILITY_MS, &visible, &err)) != SV_OK)
            err.api_code = 10207;
    pulled p = {&list, 0, true};
    if (rc == SV_OK)
        rc = sv_queues_lease(h->queues, i.no, limit, visible, add_pulled, &p, &err);
    if (rc != SV_OK)
        fail(r, &err);
    else
        answer_pulled(r, h, &i, &list);
}

static void peek(sv_req *r, void *ctx)
{
    sv_queues_http *h = ctx;
    sv_err err = {0};
    sv_queues_info i;
    int64_t limit = 5, next;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    SV_AUTO(sv_buf_donep) sv_buf list;
    sv_buf_init(&list, 0);
    pulled p = {&list, 0, false};
    sv_rc rc = find(r, h, &i, &err);
    if (rc == SV_OK && sv_req_body(r).n)
        rc = body_of(r, &body, &err);
    if (rc == SV_OK)
        rc = batch_size(body, &limit, &err);
    if (rc == SV_OK)
        rc = sv_queues_read(h->queues, i.no, 0, limit, add_pulled, &p, &next, &err);
    if (rc != SV_OK)
        fail(r, &err);
    else
        answer_pulled(r, h, &i, &list);
}

/* ---- acknowledgements ---- */

/* One list of {lease_id, delay_seconds}: its verdicts are appended to v. An id that is none of ours becomes a warning. */
static sv_rc verdicts_of(const json_t *list, const char *what, const char *id, bool retry, sv_queues_verdict *v, size_t *n, json_t *warnings, sv_err *err)
{
    size_t i;
    json_t *o;
    if (list && !json_is_null(list) && !json_is_array(list))
        return sv_fail_api(err, SV_EINVAL, 10207, "'%s' must be an array", what);
    if (json_array_size(list) > MAX_ACKS - *n)
        return sv_fail_api(err, SV_EINVAL, 10207, "more than %d messages in one call", MAX_ACKS);
    json_array_foreach ((json_t *)(uintptr_t)list, i, o) {
        const json_t *t = json_object_get(o, id);
        sv_queues_verdict one;
        if (!json_is_string(t))
            return sv_fail_api(err, SV_EINVAL, 10207, "%s[%zu] has no '%s'", what, i, id);
        if (!sv_queues_lease_parse((sv_str){json_string_value(t), json_string_length(t)}, &one)) {
            json_object_set_new(warnings, json_string_value(t), json_string("no such message"));
            continue;
        }
        one.retry = retry;
        if (one.lease == REF)
            one.lease = 0;
        if (retry && sv_json_int(o, "delay_seconds", 0, SV_QUEUES_MAX_DELAY_S, &one.delay_s, err) != SV_OK) {
            err->api_code = 10207;
            return err->code;
        }
        v[(*n)++] = one;
    }
    return SV_OK;
}

static sv_rc settle(sv_queues_http *h, const sv_queues_info *i, sv_queues_verdict *v, size_t n, json_t *warnings, int64_t counts[2], sv_err *err)
{
    sv_queues_write w = {.op = SV_QUEUES_SETTLE, .queue = i->no, .verdicts = v, .n = n};
    if (n && sv_queues_apply(h->queues, &w, err) != SV_OK)
        return err->code;
    for (size_t k = 0; k < n; k++) {
        char text[SV_QUEUES_LEASE];
        sv_queues_lease_text(&(sv_queues_item){.no = v[k].no, .lease = v[k].lease ? v[k].lease : REF}, text);
        counts[v[k].retry] += v[k].found;
        if (!v[k].found)
            json_object_set_new(warnings, text, json_string("the message is gone, or somebody else's by now"));
    }
    return SV_OK;
}

static void ack(sv_req *r, void *ctx)
{
    sv_queues_http *h = ctx;
    sv_err err = {0};
    sv_queues_info i;
    size_t n = 0;
    int64_t counts[2] = {0, 0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL, *warnings = json_object();
    sv_queues_verdict *v = sv_arena_new(sv_req_arena(r), sv_queues_verdict, MAX_ACKS);
    sv_rc rc = v ? find(r, h, &i, &err) : sv_fail(&err, SV_ENOMEM, "no memory for the call");
    if (rc == SV_OK)
        rc = body_of(r, &body, &err);
    if (rc == SV_OK)
        rc = verdicts_of(json_object_get(body, "acks"), "acks", "lease_id", false, v, &n, warnings, &err);
    if (rc == SV_OK)
        rc = verdicts_of(json_object_get(body, "retries"), "retries", "lease_id", true, v, &n, warnings, &err);
    for (size_t k = 0; k < n && rc == SV_OK; k++)
        if (v[k].lease == 0)
            rc = sv_fail_api(&err, SV_EINVAL, 10207, "a 'ref' of a peek is no lease: pull the message first");
    if (rc == SV_OK)
        rc = settle(h, &i, v, n, warnings, counts, &err);
    if (rc != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, json_pack("{s:I, s:I, s:O}", "ackCount", (json_int_t)counts[0], "retryCount", (json_int_t)counts[1], "warnings", warnings));
}

/* By the refs of a peek. */
static void purge_messages(sv_req *r, void *ctx)
{
    sv_queues_http *h = ctx;
    sv_err err = {0};
    sv_queues_info i;
    size_t n = 0;
    int64_t counts[2] = {0, 0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL, *warnings = json_object();
    sv_queues_verdict *v = sv_arena_new(sv_req_arena(r), sv_queues_verdict, MAX_ACKS);
    sv_rc rc = v ? find(r, h, &i, &err) : sv_fail(&err, SV_ENOMEM, "no memory for the call");
    if (rc == SV_OK)
        rc = body_of(r, &body, &err);
    if (rc == SV_OK)
        rc = verdicts_of(json_object_get(body, "refs"), "refs", "ref", false, v, &n, warnings, &err);
    if (rc == SV_OK)
        rc = settle(h, &i, v, n, warnings, counts, &err);
    if (rc != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, json_pack("{s:[], s:O}", "errors", "warnings", warnings));
}

void sv_queues_rest_routes(sv_http *s, sv_queues_http *h)
{
    const sv_route routes[] = {
        {.method = "GET", .path = BASE, .fn = list_queues},
        {.method = "POST", .path = BASE, .fn = create_queue, .max_body = MAX_JSON},
        {.method = "GET", .path = BASE "/:queue", .fn = get_queue},
        {.method = "PUT", .path = BASE "/:queue", .fn = update_queue, .max_body = MAX_JSON},
        {.method = "PATCH", .path = BASE "/:queue", .fn = update_queue, .max_body = MAX_JSON},
        {.method = "DELETE", .path = BASE "/:queue", .fn = delete_queue},
        {.method = "GET", .path = BASE "/:queue/metrics", .fn = get_metrics},
        {.method = "POST", .path = BASE "/:queue/purge", .fn = purge, .max_body = MAX_JSON},
        {.method = "GET", .path = BASE "/:queue/purge", .fn = purge_status},
        {.method = "GET", .path = BASE "/:queue/consumers", .fn = list_consumers},
        {.method = "POST", .path = BASE "/:queue/consumers", .fn = create_consumer, .max_body = MAX_JSON},
        {.method = "GET", .path = BASE "/:queue/consumers/:consumer", .fn = get_consumer},
        {.method = "PUT", .path = BASE "/:queue/consumers/:consumer", .fn = update_consumer, .max_body = MAX_JSON},
        {.method = "DELETE", .path = BASE "/:queue/consumers/:consumer", .fn = delete_consumer},
        {.method = "POST", .path = BASE "/:queue/messages", .fn = push_one, .max_body = MAX_SEND},
        {.method = "POST", .path = BASE "/:queue/messages/batch", .fn = push_batch, .max_body = MAX_SEND},
        {.method = "POST", .path = BASE "/:queue/messages/pull", .fn = pull, .max_body = MAX_JSON},
        {.method = "POST", .path = BASE "/:queue/messages/peek", .fn = peek, .max_body = MAX_JSON},
        {.method = "POST", .path = BASE "/:queue/messages/ack", .fn = ack, .max_body = MAX_SEND},
        {.method = "POST", .path = BASE "/:queue/messages/purge", .fn = purge_messages, .max_body = MAX_SEND},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++) {
        sv_route route = routes[i];
        route.flags |= SV_ROUTE_JOB;
        sv_http_route(s, &route, h);
    }
}
