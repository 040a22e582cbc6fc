/* kv_rest.c - namespaces, keys and values under /client/v4/accounts/:account/storage/kv/namespaces
 *
 * A key may be one encoded segment or the rest of the path with its slashes bare; clients send both. A value comes raw, or in a form with
 * its metadata, which the SDK writes as fields metadata[x]. Answers are in the envelope, but for values.
 *
 * A bulk body has up to 100 MB. It is spooled to a file and mapped, and its array is cut into elements by a scanner that knows strings and
 * brackets only; each element is then parsed alone. The first pass checks them all, so that a bad pair refuses the request before anything
 * is written; the second writes them in portions. So memory holds one portion, whatever the body has. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "account/account.h"
#include "base/hash.h"
#include "base/log.h"
#include "http/api.h"
#include "http/multipart.h"
#include "kv/kv_impl.h"

#define BASE "/client/v4/accounts/:account/storage/kv/namespaces"

enum { MAX_JSON = 64 << 10, MAX_KEYS_JSON = 1 << 20, FORM_SLACK = 64 << 10, PORTION_BYTES = 4 << 20, PORTION_PAIRS = 500 };

/* ---- answers ---- */

static void fail(sv_req *r, const sv_err *err)
{
    int status = sv_kvs_status(err);
    if (sv_err_is_ours(err)) {
        sv_api_fail(r, err, 10001);
        return;
    }
    sv_api_error(r, status, err->api_code ? err->api_code : 10001, "%s", err->msg);
}

static void done(sv_req *r) { sv_api_ok(r, NULL); }

static void head(sv_req *r, const sv_kvs_value *v)
{
    char at[32];
    sv_req_add_header(r, "Content-Type", "application/octet-stream");
    snprintf(at, sizeof at, "%lld", (long long)v->expires_s);
    if (v->expires_s)
        sv_req_add_header(r, "Expiration", at);
}

static const sv_kvs_dialect rest = {.fail = fail, .done = done, .head = head};

static sv_str query(sv_req *r, const char *name)
{
    sv_str s;
    return sv_req_query(r, name, 0, &s) ? s : (sv_str){0};
}

static sv_kvs_call *begin(sv_kvs_http *h, sv_req *r)
{
    return sv_kvs_call_new(h, &rest, r, sv_req_param_raw(r, "ns"), sv_req_param_raw(r, "key"));
}

static sv_str account_of(sv_req *r)
{
    const sv_principal *who = sv_req_user(r);
    return sv_str_of(who ? who->account_id : "");
}

/* ---- namespaces; in the pool ---- */

static json_t *ns_json(const char *id, sv_str title)
{
    json_t *o = json_object();
    json_object_set_new(o, "id", json_string(id));
    json_object_set_new(o, "title", json_stringn(title.p, title.n));
    json_object_set_new(o, "supports_url_encoding", json_true());
    return o;
}

static void list_namespaces(sv_req *r, void *ctx)
{
    sv_kvs_http *h = ctx;
    sv_err err = {0};
    sv_kvs_ns *v = NULL;
    size_t n = 0;
    bool by_title = sv_str_is(query(r, "order"), "title");
    if (sv_kvs_ns_list(h->kv, account_of(r), by_title, sv_str_is(query(r, "direction"), "desc"), &v, &n, &err) != SV_OK) {
        fail(r, &err);
        return;
    }
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(all, ns_json(v[i].id, sv_str_of(v[i].title)));
    free(v);
    sv_api_ok_page(r, all, 20);
}

static sv_rc title_of(sv_req *r, json_t **body, sv_str *title, sv_err *err)
{
    if (sv_json_parse(body, sv_req_body(r), err) != SV_OK) {
        err->api_code = 10012;
        return err->code;
    }
    const json_t *t = json_object_get(*body, "title");
    if (!json_is_string(t) || json_string_length(t) == 0)
        return sv_fail_api(err, SV_EINVAL, 10019, "'title' is missing: the namespace needs one");
    *title = (sv_str){json_string_value(t), json_string_length(t)};
    if (title->n > SV_KVS_MAX_TITLE || memchr(title->p, 0, title->n))
        return sv_fail_api(err, SV_EINVAL, 10019, "'title' must be text of at most %d bytes", SV_KVS_MAX_TITLE);
    return SV_OK;
}

static void create_namespace(sv_req *r, void *ctx)
{
    sv_kvs_http *h = ctx;
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    char id[33];
    sv_random_hex(id, 16);
    sv_kvs_change c = {.op = SV_KVS_NS_CREATE, .ns = sv_str_of(id)};
    if (title_of(r, &body, &c.title, &err) != SV_OK || sv_kvs_apply(h->kv, account_of(r), &c, 1, &err) != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, ns_json(id, c.title));
}

static void get_namespace(sv_req *r, void *ctx)
{
    sv_kvs_http *h = ctx;
    sv_err err = {0};
    sv_kvs_ns ns;
    if (sv_kvs_ns_find(h->kv, account_of(r), sv_req_param_raw(r, "ns"), &ns, &err) != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, ns_json(ns.id, sv_str_of(ns.title)));
}

static void rename_namespace(sv_req *r, void *ctx)
{
    sv_kvs_http *h = ctx;
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    sv_kvs_change c = {.op = SV_KVS_NS_RENAME, .ns = sv_req_param_raw(r, "ns")};
    char *id = sv_arena_strndup(sv_req_arena(r), c.ns.p, c.ns.n);
    if (!id)
        sv_fail(&err, SV_ENOMEM, "no memory for an id");
    if (!id || title_of(r, &body, &c.title, &err) != SV_OK || sv_kvs_apply(h->kv, account_of(r), &c, 1, &err) != SV_OK)
        fail(r, &err);
    else
        sv_api_ok(r, ns_json(id, c.title));
}

static void delete_namespace(sv_req *r, void *ctx)
{
    sv_kvs_http *h = ctx;
    sv_err err = {0};
    sv_kvs_change c = {.op = SV_KVS_NS_DELETE, .ns = sv_req_param_raw(r, "ns")};
    if (sv_kvs_apply(h->kv, account_of(r), &c, 1, &err) != SV_OK)
        fail(r, &err);
    else
        done(r);
}

/* ---- values ---- */

static void get_value(sv_req *r, void *ctx) { sv_kvs_call_get(begin(ctx, r), r); }

static void delete_value(sv_req *r, void *ctx)
{
    sv_kvs_call *c = begin(ctx, r);
    c->change.op = SV_KVS_DELETE;
    sv_kvs_call_change(c, r);
}

static void metadata_work(void *arg)
{
    sv_kvs_call *c = arg;
    sv_kvs_ns ns;
    if (sv_kvs_call_ns(c, &ns) != SV_OK || sv_kvs_get(c->h->kv, &ns, c->change.key, &c->value, &c->err) != SV_OK)
        return;
    sv_buf_adds(&c->answer, c->value.metadata ? c->value.metadata : "null");
}

static void answer_result(sv_req *r, void *arg) { sv_api_ok_text(r, sv_buf_str(&((sv_kvs_call *)arg)->answer)); }

static void get_metadata(sv_req *r, void *ctx) { sv_kvs_call_work(begin(ctx, r), r, metadata_work, answer_result); }

static void answer_done(sv_req *r, void *arg)
{
    (void)arg;
    done(r);
}

/* metadata[a], metadata[a][b] as the SDK writes an object: values are text there. */
static sv_rc form_metadata(sv_kvs_call *c, const sv_parts *parts)
{
    const sv_part *whole = sv_parts_find(parts, "metadata");
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, 64 << 10);
    if (whole) {
        sv_kvs_call_metadata(c, whole->data);
        return c->err.code;
    }
    SV_AUTO(sv_json_decrefp) json_t *all = json_object();
    for (size_t i = 0; i < parts->n; i++) {
        sv_str name = parts->v[i].name, v = parts->v[i].data;
        json_t *at = all;
        if (!sv_str_starts(name, "metadata["))
            continue;
        for (name.p += 8, name.n -= 8; name.n;) {
            const char *end = name.p[0] == '[' ? memchr(name.p, ']', name.n) : NULL;
            if (!end || end == name.p + 1 || json_object_size(all) > SV_KVS_MAX_METADATA)
                return sv_fail_api(&c->err, SV_EINVAL, 10012, "the form's metadata has fields that make no object");
            sv_str key = {name.p + 1, (size_t)(end - name.p - 1)};
            name = (sv_str){end + 1, name.n - (size_t)(end + 1 - name.p)};
            json_t *next = json_object_getn(at, key.p, key.n);
            if (name.n == 0) {
                if (next || json_object_setn_new(at, key.p, key.n, json_stringn(v.p, v.n)) != 0)
                    return sv_fail_api(&c->err, SV_EINVAL, 10012, "the form's metadata has fields that make no object");
                break;
            }
            if (!next)
                json_object_setn_new(at, key.p, key.n, next = json_object());
            if (!json_is_object(next))
                return sv_fail_api(&c->err, SV_EINVAL, 10012, "the form's metadata has fields that make no object");
            at = next;
        }
    }
    if (json_object_size(all) == 0)
        return SV_OK;
    sv_json_add_value(&text, all);
    if (text.failed)
        return sv_fail_api(&c->err, SV_EINVAL, 10022, "Metadata exceeds the limit of %d bytes.", SV_KVS_MAX_METADATA);
    sv_kvs_call_metadata(c, sv_buf_str(&text));
    return c->err.code;
}

/* The file of a value, or its row. */
static sv_rc put_view(sv_kvs_call *c, sv_str value)
{
    c->change.value = value;
    if (sv_kvs_check_value(value.n, &c->err) != SV_OK || sv_kvs_spill(c->h->kv, &c->change, &c->err) != SV_OK)
        return c->err.code;
    return sv_kvs_apply(c->h->kv, sv_str_of(c->account), &c->change, 1, &c->err);
}

static void form_work(void *arg)
{
    sv_kvs_call *c = arg;
    sv_map map = {0};
    sv_str body;
    sv_parts parts = {0};
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    sv_rc rc = sv_spool_view(c->spool, &map, &body, &c->err);
    if (rc == SV_OK && (rc = sv_multipart_parse(&parts, a, sv_str_of(c->content_type), body, &c->err)) != SV_OK)
        c->err.api_code = 10012;
    const sv_part *value = rc == SV_OK ? sv_parts_find(&parts, "value") : NULL;
    if (rc == SV_OK && !value)
        rc = sv_fail_api(&c->err, SV_EINVAL, 10012, "the form has no part 'value'");
    if (rc == SV_OK)
        rc = form_metadata(c, &parts);
    if (rc == SV_OK)
        rc = put_view(c, value->data);
    sv_map_close(&map);
}

static void form_spooled(sv_req *r, sv_spool *s, void *arg)
{
    sv_kvs_call *c = arg;
    c->spool = s;
    if (!r) {
        sv_kvs_call_free(c);
        return;
    }
    if (!c->err.code && s->too_large)
        sv_fail_api(&c->err, SV_EINVAL, 10022, "a form of %llu bytes holds a value over the limit of %d.", (unsigned long long)s->n, SV_KVS_MAX_VALUE);
    if (!c->err.code && s->err.code)
        c->err = s->err;
    sv_kvs_call_work(c, r, form_work, answer_done);
}

static bool is_form(sv_str type) { return type.n >= 19 && sv_str_ieq((sv_str){type.p, 19}, "multipart/form-data"); }

static void put_value(sv_req *r, void *ctx)
{
    sv_kvs_call *c = begin(ctx, r);
    sv_str type = sv_req_header(r, "content-type");
    if (!c->err.code) {
        sv_rc rc = sv_kvs_expiry(query(r, "expiration"), query(r, "expiration_ttl"), &c->change.expires_s, &c->err);
        (void)rc; /* it is in the call */
    }
    if (!is_form(type)) {
        sv_kvs_call_put(c, r);
        return;
    }
    c->change.op = SV_KVS_PUT;
    c->content_type = sv_xstrndup(type.p, type.n);
    sv_spool_opts o = {.jobs = c->h->jobs, .dir = sv_kvs_folder(c->h->kv), .keep = SV_KVS_INLINE, .max = c->err.code ? 0 : SV_KVS_MAX_VALUE + FORM_SLACK};
    sv_spool_start(r, &o, form_spooled, c);
}

/* ---- keys ---- */

static void keys_work(void *arg)
{
    sv_kvs_call *c = arg;
    size_t n = 0;
    SV_AUTO(sv_buf_donep) sv_buf next;
    sv_buf_init(&next, 4096);
    sv_buf_adds(&c->answer, "{\"success\":true,\"errors\":[],\"messages\":[],\"result\":");
    if (sv_kvs_call_list(c, false, &next, &n) != SV_OK)
        return;
    sv_buf_addf(&c->answer, ",\"result_info\":{\"count\":%zu,\"cursor\":", n);
    sv_json_add_str(&c->answer, sv_buf_str(&next));
    sv_buf_adds(&c->answer, "}}");
    if (c->answer.failed)
        sv_fail(&c->err, SV_ENOMEM, "the answer is too large to be built");
}

static void answer_json(sv_req *r, void *arg)
{
    sv_kvs_call *c = arg;
    size_t n = c->answer.n;
    sv_req_send_memory(r, 200, "application/json", sv_buf_take(&c->answer), n);
}

static void list_keys(sv_req *r, void *ctx)
{
    sv_kvs_call *c = begin(ctx, r);
    sv_kvs_call_page(c, query(r, "prefix"), query(r, "cursor"), query(r, "limit"), "limit");
    sv_kvs_call_work(c, r, keys_work, answer_json);
}

/* ---- bulk get ---- */

static void bulk_get_work(void *arg)
{
    sv_kvs_call *c = arg;
    sv_kvs_bulk_opts o;
    if (sv_kvs_bulk_parse(c->body, &o, &c->err) != SV_OK)
        return;
    o.with_expiration = true;
    sv_buf_adds(&c->answer, "{\"success\":true,\"errors\":[],\"messages\":[],\"result\":{\"values\":");
    sv_kvs_bulk_get(c, &o);
    sv_buf_adds(&c->answer, "}}");
}

static void bulk_get(sv_req *r, void *ctx)
{
    sv_kvs_call *c = begin(ctx, r);
    if (sv_json_parse(&c->body, sv_req_body(r), &c->err) != SV_OK)
        c->err.api_code = 10012;
    sv_kvs_call_work(c, r, bulk_get_work, answer_json);
}

/* ---- bulk put and delete ---- */

static sv_str skip_space(sv_str s)
{
    while (s.n && memchr(" \t\r\n", s.p[0], 4))
        s = (sv_str){s.p + 1, s.n - 1};
    return s;
}

/* Bytes up to the ',' or ']' that ends the element at s, outside its strings and brackets. */
static size_t element_bytes(sv_str s)
{
    size_t depth = 0, i = 0;
    bool in_text = false;
    for (; i < s.n; i++) {
        char c = s.p[i];
        if (in_text) {
            i += c == '\\';
            in_text = c != '"';
        } else if (c == '"') {
            in_text = true;
        } else if (c == '[' || c == '{') {
            depth++;
        } else if (depth && (c == ']' || c == '}')) {
            depth--;
        } else if (!depth && (c == ',' || c == ']')) {
            break;
        }
    }
    return i < s.n ? i : s.n;
}

typedef struct array_reader { sv_str rest; size_t n; bool begun; } array_reader;

/* *out: the next element, parsed; NULL after the last. */
static sv_rc next_element(array_reader *a, json_t **out, sv_err *err)
{
    *out = NULL;
    a->rest = skip_space(a->rest);
    char sign = a->begun ? ',' : '[';
    if (a->begun && a->rest.n && a->rest.p[0] == ']') {
        a->rest = skip_space((sv_str){a->rest.p + 1, a->rest.n - 1});
        return a->rest.n == 0 ? SV_OK : sv_fail_api(err, SV_EFORMAT, 10012, "something follows the array");
    }
    if (a->rest.n == 0 || a->rest.p[0] != sign)
        return sv_fail_api(err, SV_EFORMAT, 10012, a->begun ? "the array does not end" : "the body is not a JSON array");
    a->rest = skip_space((sv_str){a->rest.p + 1, a->rest.n - 1});
    if (!a->begun && a->rest.n && a->rest.p[0] == ']') {
        a->begun = true;
        return next_element(a, out, err);
    }
    a->begun = true;
    size_t n = element_bytes(a->rest);
    sv_str one = {a->rest.p, n};
    a->rest = (sv_str){a->rest.p + n, a->rest.n - n};
    if (++a->n > SV_KVS_MAX_BULK)
        return sv_fail_api(err, SV_EINVAL, 10029, "more than %d pairs or keys", SV_KVS_MAX_BULK);
    if (sv_json_parse(out, one, err) == SV_OK)
        return SV_OK;
    err->api_code = 10012;
    return sv_wrap(err, "element %zu", a->n - 1);
}

/* One portion: changes and what they point at. */
typedef struct portion {
    sv_kvs_change v[PORTION_PAIRS];
    json_t *from[PORTION_PAIRS];
    sv_buf metadata[PORTION_PAIRS], decoded[PORTION_PAIRS];
    size_t n, bytes;
} portion;

static void drop_portion(portion *p)
{
    for (size_t i = 0; i < p->n; i++) {
        json_decref(p->from[i]);
        sv_buf_done(&p->metadata[i]);
        sv_buf_done(&p->decoded[i]);
    }
    p->n = p->bytes = 0;
}

static sv_rc number_text(const json_t *o, const char *name, char out[32], sv_err *err)
{
    const json_t *v = json_object_get(o, name);
    out[0] = 0;
    if (!v || json_is_null(v))
        return SV_OK;
    if (!json_is_integer(v))
        return sv_fail_api(err, SV_EINVAL, 10012, "'%s' must be a whole number", name);
    snprintf(out, 32, "%lld", (long long)json_integer_value(v));
    return SV_OK;
}

static sv_rc pair_value(const json_t *o, sv_buf *decoded, sv_str *value, sv_err *err)
{
    const json_t *v = json_object_get(o, "value");
    bool base64 = false;
    if (!json_is_string(v))
        return sv_fail_api(err, SV_EINVAL, 10012, "'value' must be text");
    *value = (sv_str){json_string_value(v), json_string_length(v)};
    if (sv_json_bool(o, "base64", &base64, err) != SV_OK) {
        err->api_code = 10012;
        return err->code;
    }
    sv_buf_init(decoded, SV_KVS_MAX_VALUE + 64);
    if (base64 && value->n / 4 > SV_KVS_MAX_VALUE / 3 + 16)
        return sv_kvs_check_value(value->n / 4 * 3, err);
    if (base64 && sv_base64_decode(decoded, *value, err) != SV_OK) {
        err->api_code = 10012;
        return err->code;
    }
    if (base64)
        *value = sv_buf_str(decoded);
    return sv_kvs_check_value(value->n, err);
}

/* Adds the pair to the portion; its memory goes there. */
static sv_rc add_pair(portion *p, sv_str ns, json_t *o, sv_err *err)
{
    sv_kvs_change *c = &p->v[p->n];
    sv_buf *metadata = &p->metadata[p->n], *decoded = &p->decoded[p->n];
    char at[32], ttl[32];
    *c = (sv_kvs_change){.op = SV_KVS_PUT, .ns = ns};
    *metadata = *decoded = (sv_buf){0};
    p->from[p->n++] = o;
    const json_t *key = json_object_get(o, "key"), *meta = json_object_get(o, "metadata");
    if (!json_is_object(o) || !json_is_string(key))
        return sv_fail_api(err, SV_EINVAL, 10012, "a pair is an object with 'key' and 'value'");
    c->key = (sv_str){json_string_value(key), json_string_length(key)};
    if (sv_kvs_check_key(c->key, err) != SV_OK || pair_value(o, decoded, &c->value, err) != SV_OK || number_text(o, "expiration", at, err) != SV_OK ||
        number_text(o, "expiration_ttl", ttl, err) != SV_OK || sv_kvs_expiry(sv_str_of(at), sv_str_of(ttl), &c->expires_s, err) != SV_OK)
        return err->code;
    p->bytes += c->value.n;
    if (!meta || json_is_null(meta))
        return SV_OK;
    sv_buf_init(metadata, 64 << 10);
    sv_json_add_value(metadata, meta);
    c->metadata = sv_buf_str(metadata);
    return metadata->failed ? sv_fail_api(err, SV_EINVAL, 10022, "Metadata exceeds the limit of %d bytes.", SV_KVS_MAX_METADATA)
                            : sv_kvs_check_metadata(c->metadata, err);
}

static sv_rc add_name(portion *p, sv_str ns, json_t *o, sv_err *err)
{
    const json_t *name = json_is_object(o) ? json_object_get(o, "name") : o; /* wrangler accepts what it listed */
    p->metadata[p->n] = p->decoded[p->n] = (sv_buf){0};
    p->v[p->n] = (sv_kvs_change){.op = SV_KVS_DELETE, .ns = ns};
    p->from[p->n] = o;
    sv_kvs_change *c = &p->v[p->n++];
    if (!json_is_string(name))
        return sv_fail_api(err, SV_EINVAL, 10012, "a key to delete is a string");
    c->key = (sv_str){json_string_value(name), json_string_length(name)};
    return sv_kvs_check_key(c->key, err);
}

static sv_rc write_portion(sv_kvs_call *c, portion *p)
{
    size_t i = 0;
    sv_rc rc = SV_OK;
    for (; rc == SV_OK && i < p->n; i++)
        rc = sv_kvs_spill(c->h->kv, &p->v[i], &c->err);
    if (rc == SV_OK)
        return p->n ? sv_kvs_apply(c->h->kv, sv_str_of(c->account), p->v, p->n, &c->err) : SV_OK;
    for (size_t k = 0; k < i; k++) /* files that no submission will take */
        if (p->v[k].file[0]) {
            char path[600];
            snprintf(path, sizeof path, "%s/%s", sv_kvs_folder(c->h->kv), p->v[k].file);
            unlink(path);
        }
    return rc;
}

/* One pass over the array; `write`: with the changes made. */
static sv_rc bulk_pass(sv_kvs_call *c, sv_str body, bool write, portion *p, size_t *n)
{
    array_reader a = {.rest = body};
    bool put = c->change.op == SV_KVS_PUT;
    for (;;) {
        json_t *o;
        if (next_element(&a, &o, &c->err) != SV_OK)
            return c->err.code;
        if (o && (put ? add_pair : add_name)(p, c->change.ns, o, &c->err) != SV_OK)
            return sv_wrap(&c->err, "element %zu", a.n - 1);
        bool full = p->n == PORTION_PAIRS || p->bytes >= PORTION_BYTES;
        if (write && (!o || full) && write_portion(c, p) != SV_OK)
            return c->err.code;
        if (!o || full || !write)
            drop_portion(p);
        if (!o)
            break;
    }
    *n = a.n;
    return SV_OK;
}

static void bulk_work(void *arg)
{
    sv_kvs_call *c = arg;
    sv_map map = {0};
    sv_str body;
    sv_kvs_ns ns;
    size_t n = 0;
    SV_AUTO(sv_freep) portion *p = sv_xnew0(portion);
    sv_rc rc = sv_kvs_call_ns(c, &ns);
    if (rc == SV_OK)
        rc = sv_spool_view(c->spool, &map, &body, &c->err);
    if (rc == SV_OK)
        rc = bulk_pass(c, body, false, p, &n);
    if (rc == SV_OK)
        rc = bulk_pass(c, body, true, p, &n);
    drop_portion(p);
    sv_map_close(&map);
    if (rc == SV_OK)
        sv_buf_addf(&c->answer, "{\"successful_key_count\":%zu,\"unsuccessful_keys\":[]}", n);
}

static void bulk_spooled(sv_req *r, sv_spool *s, void *arg)
{
    sv_kvs_call *c = arg;
    c->spool = s;
    if (!r) {
        sv_kvs_call_free(c);
        return;
    }
    if (!c->err.code && s->too_large)
        sv_fail_api(&c->err, SV_EINVAL, 10022, "a bulk body has at most %d bytes, this one %llu", SV_KVS_MAX_BULK_BYTES, (unsigned long long)s->n);
    if (!c->err.code && s->err.code)
        c->err = s->err;
    sv_kvs_call_work(c, r, bulk_work, answer_result);
}

static void bulk(sv_req *r, void *ctx, sv_kvs_op op)
{
    sv_kvs_call *c = begin(ctx, r);
    c->change.op = op;
    sv_spool_opts o = {.jobs = c->h->jobs, .dir = sv_kvs_folder(c->h->kv), .keep = SV_KVS_INLINE, .max = SV_KVS_MAX_BULK_BYTES};
    sv_spool_start(r, &o, bulk_spooled, c);
}

static void bulk_put(sv_req *r, void *ctx) { bulk(r, ctx, SV_KVS_PUT); }
static void bulk_delete(sv_req *r, void *ctx) { bulk(r, ctx, SV_KVS_DELETE); }

void sv_kvs_rest_routes(sv_http *s, sv_kvs_http *h)
{
    const sv_route routes[] = {
        {.method = "GET", .path = BASE, .fn = list_namespaces, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = BASE, .fn = create_namespace, .max_body = MAX_JSON, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = BASE "/:ns", .fn = get_namespace, .flags = SV_ROUTE_JOB},
        {.method = "PUT", .path = BASE "/:ns", .fn = rename_namespace, .max_body = MAX_JSON, .flags = SV_ROUTE_JOB},
        {.method = "DELETE", .path = BASE "/:ns", .fn = delete_namespace, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = BASE "/:ns/keys", .fn = list_keys},
        {.method = "GET", .path = BASE "/:ns/values/*key", .fn = get_value},
        {.method = "PUT", .path = BASE "/:ns/values/*key", .fn = put_value, .flags = SV_ROUTE_STREAM},
        {.method = "DELETE", .path = BASE "/:ns/values/*key", .fn = delete_value},
        {.method = "GET", .path = BASE "/:ns/metadata/*key", .fn = get_metadata},
        {.method = "PUT", .path = BASE "/:ns/bulk", .fn = bulk_put, .flags = SV_ROUTE_STREAM},
        {.method = "DELETE", .path = BASE "/:ns/bulk", .fn = bulk_delete, .flags = SV_ROUTE_STREAM},
        {.method = "POST", .path = BASE "/:ns/bulk/delete", .fn = bulk_delete, .flags = SV_ROUTE_STREAM},
        {.method = "POST", .path = BASE "/:ns/bulk/get", .fn = bulk_get, .max_body = MAX_KEYS_JSON},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], h);
}
