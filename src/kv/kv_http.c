/* kv_http.c - what both dialects do: a call goes to the store and its answer comes back
 *
 * Reads run in the job pool, but for values that lie in memory. A small put needs no thread while the disk syncs: its change is submitted from the loop, and the store's thread
 * sends the ticket back. A big one lies in a file already when its body ends; the pool syncs that and waits for the commit. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "account/account.h"
#include "base/log.h"
#include "kv/kv_impl.h"

sv_kvs_call *sv_kvs_call_new(sv_kvs_http *h, const sv_kvs_dialect *d, sv_req *r, sv_str ns_id, sv_str raw_key)
{
    sv_kvs_call *c = sv_xnew0(sv_kvs_call);
    const sv_principal *who = sv_req_user(r);
    c->h = h;
    c->d = d;
    sv_kvs_value_init(&c->value);
    sv_buf_init(&c->answer, 2 * SV_KVS_MAX_VALUE);
    snprintf(c->account, sizeof c->account, "%s", who ? who->account_id : "");
    snprintf(c->id, sizeof c->id, "%.*s", (int)(ns_id.n < sizeof c->id ? ns_id.n : 0), ns_id.p ? ns_id.p : "");
    c->change.ns = sv_str_of(c->id);
    if (!raw_key.p)
        return c;
    sv_str key;
    if (sv_kvs_decode_key(raw_key, sv_req_arena(r), &key, &c->err) != SV_OK || sv_kvs_check_key(key, &c->err) != SV_OK)
        return c;
    memcpy(c->key, key.p, key.n);
    c->change.key = (sv_str){c->key, key.n};
    return c;
}

void sv_kvs_call_free(sv_kvs_call *c)
{
    sv_kvs_value_done(&c->value);
    sv_spool_free(c->spool);
    sv_buf_done(&c->answer);
    json_decref(c->body);
    free(c->content_type);
    free(c);
}

void sv_kvs_call_metadata(sv_kvs_call *c, sv_str json)
{
    if (json.n == 0 || c->err.code || sv_kvs_check_metadata(json, &c->err) != SV_OK)
        return;
    memcpy(c->metadata, json.p, json.n);
    c->change.metadata = (sv_str){c->metadata, json.n};
}

sv_rc sv_kvs_call_ns(sv_kvs_call *c, sv_kvs_ns *ns)
{
    return sv_kvs_ns_find(c->h->kv, sv_str_of(c->account), sv_str_of(c->id), ns, &c->err);
}

/* ---- work in the pool ---- */

typedef struct trip { sv_kvs_call *c; void (*work)(void *), (*answer)(sv_req *, void *); } trip;

static void trip_work(void *arg)
{
    trip *t = arg;
    t->work(t->c);
}

static void trip_back(sv_req *r, void *arg)
{
    trip t = *(trip *)arg;
    free(arg);
    if (r && t.c->err.code)
        t.c->d->fail(r, &t.c->err);
    else if (r)
        t.answer(r, t.c);
    sv_kvs_call_free(t.c);
}

static void refuse(sv_kvs_call *c, sv_req *r)
{
    c->d->fail(r, &c->err);
    sv_kvs_call_free(c);
}

void sv_kvs_call_work(sv_kvs_call *c, sv_req *r, void (*work)(void *call), void (*answer)(sv_req *r, void *call))
{
    if (c->err.code) {
        refuse(c, r);
        return;
    }
    trip *t = sv_xnew0(trip);
    *t = (trip){c, work, answer};
    if (sv_req_work(r, c->h->jobs, trip_work, trip_back, t))
        return;
    free(t);
    sv_fail_api(&c->err, SV_ELIMIT, 10047, "too much is waiting; try again in a moment");
    refuse(c, r);
}

/* ---- one value ---- */

static void get_work(void *arg)
{
    sv_kvs_call *c = arg;
    sv_kvs_ns ns;
    sv_rc rc = sv_kvs_call_ns(c, &ns);
    if (rc == SV_OK)
        rc = sv_kvs_get(c->h->kv, &ns, c->change.key, &c->value, &c->err);
    (void)rc; /* c->err tells */
}

static void get_answer(sv_req *r, void *arg)
{
    sv_kvs_call *c = arg;
    sv_kvs_value *v = &c->value;
    c->d->head(r, v);
    sv_req_begin(r, 200, NULL, v->n);
    if (v->fd >= 0) {
        int fd = v->fd;
        v->fd = -1;
        sv_req_send_file(r, c->h->jobs, fd, 0, v->n);
        return;
    }
    if (v->n)
        sv_req_write(r, v->bytes, (size_t)v->n);
    sv_req_end(r);
}

void sv_kvs_call_get(sv_kvs_call *c, sv_req *r)
{
    if (c->err.code || !sv_kvs_get_hot(c->h->kv, sv_str_of(c->account), sv_str_of(c->id), c->change.key, &c->value)) {
        sv_kvs_call_work(c, r, get_work, get_answer);
        return;
    }
    get_answer(r, c);
    sv_kvs_call_free(c);
}

static void change_back(sv_req *r, void *arg)
{
    sv_kvs_call *c = arg;
    if (r && c->write.rc != SV_OK)
        c->d->fail(r, &c->write.err);
    else if (r)
        c->d->done(r);
    sv_kvs_call_free(c);
}

/* On the store's thread. */
static void change_written(sv_kvs_write *w)
{
    sv_kvs_call *c = w->arg;
    sv_ticket_done(c->ticket);
}

void sv_kvs_call_change(sv_kvs_call *c, sv_req *r)
{
    if (c->err.code) {
        refuse(c, r);
        return;
    }
    c->ticket = sv_req_ticket(r, change_back, c);
    c->write = (sv_kvs_write){.account = sv_str_of(c->account), .v = &c->change, .n = 1, .done = change_written, .arg = c};
    sv_kvs_submit(c->h->kv, &c->write);
}

static void put_big(void *arg)
{
    sv_kvs_call *c = arg;
    if (sv_kvs_adopt(c->h->kv, &c->change, c->spool->path, (int64_t)c->spool->n, &c->err) != SV_OK)
        return;
    c->spool->path[0] = 0; /* the store's now */
    sv_rc rc = sv_kvs_apply(c->h->kv, sv_str_of(c->account), &c->change, 1, &c->err);
    (void)rc;
}

static void answer_done(sv_req *r, void *arg) { ((sv_kvs_call *)arg)->d->done(r); }

static void put_spooled(sv_req *r, sv_spool *s, void *arg)
{
    sv_kvs_call *c = arg;
    c->spool = s;
    if (!r) {
        sv_kvs_call_free(c);
        return;
    }
    if (!c->err.code && s->err.code)
        c->err = s->err;
    if (!c->err.code && sv_kvs_check_value(s->n, &c->err) == SV_OK && !s->path[0])
        c->change.value = sv_buf_str(&s->mem);
    if (c->err.code)
        refuse(c, r);
    else if (s->path[0])
        sv_kvs_call_work(c, r, put_big, answer_done);
    else
        sv_kvs_call_change(c, r);
}

void sv_kvs_call_put(sv_kvs_call *c, sv_req *r)
{
    c->change.op = SV_KVS_PUT;
    sv_spool_opts o = {.jobs = c->h->jobs, .dir = sv_kvs_folder(c->h->kv), .keep = SV_KVS_INLINE, .max = c->err.code ? 0 : SV_KVS_MAX_VALUE};
    sv_spool_start(r, &o, put_spooled, c);
}

/* ---- lists ---- */

void sv_kvs_call_page(sv_kvs_call *c, sv_str prefix, sv_str cursor, sv_str limit, const char *what)
{
    c->limit = SV_KVS_MAX_LIST;
    if (c->err.code)
        return;
    if (limit.n && (!sv_str_to_i64(limit, &c->limit) || c->limit < 1))
        sv_fail_api(&c->err, SV_EINVAL, 10012, "Invalid %s of %.*s. Please specify an integer greater than 0.", what, limit.n < 40 ? (int)limit.n : 40,
                    limit.p);
    else if (c->limit > SV_KVS_MAX_LIST)
        sv_fail_api(&c->err, SV_EINVAL, 10012, "Invalid %s of %lld. Please specify an integer less than %d.", what, (long long)c->limit, SV_KVS_MAX_LIST);
    else if (prefix.n > SV_KVS_MAX_KEY)
        sv_fail_api(&c->err, SV_EINVAL, 10030, "UTF-8 encoded length of %zu exceeds key length limit of %d.", prefix.n, SV_KVS_MAX_KEY);
    else if (cursor.n > sizeof c->cursor)
        sv_fail_api(&c->err, SV_EINVAL, 10012, "Invalid cursor: it is none of this namespace");
    if (c->err.code)
        return;
    if (prefix.n)
        memcpy(c->prefix, prefix.p, prefix.n);
    if (cursor.n)
        memcpy(c->cursor, cursor.p, cursor.n);
    c->n_prefix = prefix.n;
    c->n_cursor = cursor.n;
}

typedef struct lister { sv_buf *b; bool as_text; size_t n; } lister;

static void add_entry(void *arg, const sv_kvs_entry *e)
{
    lister *l = arg;
    sv_buf_adds(l->b, l->n++ ? ",{\"name\":" : "{\"name\":");
    sv_json_add_str(l->b, e->name);
    if (e->expires_s)
        sv_buf_addf(l->b, ",\"expiration\":%lld", (long long)e->expires_s);
    if (e->metadata.n)
        sv_buf_adds(l->b, ",\"metadata\":");
    if (e->metadata.n && l->as_text)
        sv_json_add_str(l->b, e->metadata);
    else if (e->metadata.n)
        sv_buf_add(l->b, e->metadata.p, e->metadata.n);
    sv_buf_addc(l->b, '}');
}

sv_rc sv_kvs_call_list(sv_kvs_call *c, bool metadata_as_text, sv_buf *next, size_t *n)
{
    sv_kvs_ns ns;
    lister l = {.b = &c->answer, .as_text = metadata_as_text};
    if (sv_kvs_call_ns(c, &ns) != SV_OK)
        return c->err.code;
    sv_buf_addc(&c->answer, '[');
    if (sv_kvs_list(c->h->kv, &ns, (sv_str){c->prefix, c->n_prefix}, (sv_str){c->cursor, c->n_cursor}, c->limit, add_entry, &l, next, &c->err) != SV_OK)
        return c->err.code;
    sv_buf_addc(&c->answer, ']');
    *n = l.n;
    return SV_OK;
}

/* ---- bulk get ---- */

sv_rc sv_kvs_bulk_parse(const json_t *body, sv_kvs_bulk_opts *out, sv_err *err)
{
    sv_str type = SV_STR("text");
    *out = (sv_kvs_bulk_opts){.keys = json_object_get(body, "keys")};
    size_t n = json_array_size(out->keys), i;
    json_t *k;
    if (!json_is_object(body) || !json_is_array(out->keys))
        return sv_fail_api(err, SV_EINVAL, 10012, "'keys' must be an array of key names");
    if (sv_json_str(body, "type", &type, err) != SV_OK || sv_json_bool(body, "withMetadata", &out->with_metadata, err) != SV_OK) {
        err->api_code = 10012;
        return err->code;
    }
    if (!sv_str_is(type, "text") && !sv_str_is(type, "json"))
        return sv_fail_api(err, SV_EINVAL, 10012, "\"%.*s\" is not a valid type. Use \"json\" or \"text\"", type.n < 40 ? (int)type.n : 40, type.p);
    out->as_json = sv_str_is(type, "json");
    if (n > SV_KVS_MAX_BULK_GET)
        return sv_fail_api(err, SV_EINVAL, 10029, "You can request a maximum of %d keys", SV_KVS_MAX_BULK_GET);
    if (n == 0)
        return sv_fail_api(err, SV_EINVAL, 10029, "You must request a minimum of 1 key");
    json_array_foreach ((json_t *)(uintptr_t)out->keys, i, k) {
        if (!json_is_string(k))
            return sv_fail_api(err, SV_EINVAL, 10012, "keys[%zu] is not a string", i);
        if (sv_kvs_check_key((sv_str){json_string_value(k), json_string_length(k)}, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

static sv_rc add_value(sv_buf *out, const sv_kvs_value *v, bool as_json, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_json_decrefp) json_t *tree = NULL;
    sv_err why = {0};
    sv_buf_init(&text, SV_KVS_MAX_VALUE);
    if (sv_kvs_value_read(v, &text, err) != SV_OK)
        return err->code;
    if (as_json && sv_json_parse(&tree, sv_buf_str(&text), &why) != SV_OK)
        return sv_fail_api(err, SV_EINVAL, 10012, "At least one of the requested keys corresponds to a non-json value");
    if (as_json) /* it is JSON as it stands */
        sv_buf_add(out, text.p, text.n);
    else
        sv_json_add_str(out, sv_buf_str(&text));
    return SV_OK;
}

static sv_rc add_member(sv_kvs_call *c, const sv_kvs_ns *ns, const sv_kvs_bulk_opts *o, sv_str key, int64_t *n_bytes)
{
    sv_kvs_value v;
    sv_kvs_value_init(&v);
    sv_json_add_str(&c->answer, key);
    sv_buf_addc(&c->answer, ':');
    sv_rc rc = sv_kvs_get(c->h->kv, ns, key, &v, &c->err);
    if (rc == SV_ENOENT) {
        c->err = (sv_err){0};
        sv_buf_adds(&c->answer, "null");
        return SV_OK;
    }
    if (rc != SV_OK)
        return rc;
    *n_bytes += v.n;
    if (*n_bytes > SV_KVS_MAX_VALUE)
        rc = sv_fail_api(&c->err, SV_EINVAL, 10022, "Total size of request exceeds the limit of %dMB", SV_KVS_MAX_VALUE >> 20);
    if (rc == SV_OK && o->with_metadata)
        sv_buf_adds(&c->answer, "{\"value\":");
    if (rc == SV_OK)
        rc = add_value(&c->answer, &v, o->as_json, &c->err);
    if (rc == SV_OK && o->with_metadata) {
        sv_buf_addf(&c->answer, ",\"metadata\":%s", v.metadata ? v.metadata : "null");
        if (o->with_expiration && v.expires_s)
            sv_buf_addf(&c->answer, ",\"expiration\":%lld", (long long)v.expires_s);
        sv_buf_addc(&c->answer, '}');
    }
    sv_kvs_value_done(&v);
    return rc;
}

void sv_kvs_bulk_get(sv_kvs_call *c, const sv_kvs_bulk_opts *o)
{
    sv_kvs_ns ns;
    int64_t n_bytes = 0;
    size_t i;
    json_t *k;
    if (sv_kvs_call_ns(c, &ns) != SV_OK)
        return;
    SV_AUTO(sv_json_decrefp) json_t *seen = json_object();
    sv_buf_addc(&c->answer, '{');
    json_array_foreach ((json_t *)(uintptr_t)o->keys, i, k) {
        sv_str key = {json_string_value(k), json_string_length(k)};
        if (json_object_getn(seen, key.p, key.n))
            continue;
        if (json_object_size(seen))
            sv_buf_addc(&c->answer, ',');
        if (add_member(c, &ns, o, key, &n_bytes) != SV_OK)
            return;
        json_object_setn_new(seen, key.p, key.n, json_true());
    }
    sv_buf_addc(&c->answer, '}');
    if (c->answer.failed)
        sv_fail(&c->err, SV_ENOMEM, "the answer is too large to be built");
}
