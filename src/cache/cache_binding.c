/* cache_binding.c - caches.match() is a GET of the URL itself, put() a PUT with the response inside, delete() a PURGE
 *
 * The runtime decides by CF-Cache-Status alone: HIT, or it is no match. The URL is put together from x-forwarded-proto, Host and the path, or is
 * what the Worker gave as cf.cacheKey. A refused put is 413, of which the Worker sees nothing but that it failed. */
#include "cache/cache_binding.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "account/account.h"
#include "base/json.h"
#include "base/log.h"
#include "cache/freshness.h"
#include "http/body_files.h"

typedef struct call {
    sv_cache_http *h;
    sv_cache_key key;
    bool authorized;
    sv_spool *spool;
    char *asks[3]; /* if-none-match, if-modified-since, range */
    sv_cache_hit hit;
    sv_err err;
} call;

static void call_free(call *c)
{
    sv_spool_free(c->spool);
    sv_cache_hit_done(&c->hit);
    for (size_t i = 0; i < SV_LEN(c->asks); i++)
        free(c->asks[i]);
    free(c);
}

/* cf.cacheKey, when the Worker gave one. */
static json_t *cache_key(sv_req *r)
{
    sv_str cf = sv_req_header(r, "x-sv-cf");
    json_t *all = NULL;
    sv_err err = {0};
    if (cf.n == 0 || sv_json_parse(&all, cf, &err) != SV_OK)
        return NULL;
    json_t *key = json_incref(json_object_get(all, "cacheKey"));
    json_decref(all);
    if (json_string_length(key))
        return key;
    json_decref(key);
    return NULL;
}

static call *begin(sv_cache_http *h, sv_req *r)
{
    call *c = sv_xnew0(call);
    const sv_principal *who = sv_req_user(r);
    sv_str target = sv_req_target(r), proto = sv_req_header(r, "x-forwarded-proto"), host = sv_req_header(r, "host");
    SV_AUTO(sv_json_decrefp) json_t *own = cache_key(r);
    SV_AUTO(sv_buf_donep) sv_buf url;
    sv_buf_init(&url, 1 << 20);
    sv_buf_add(&url, proto.p, proto.n);
    sv_buf_adds(&url, "://");
    sv_buf_add(&url, host.p, host.n);
    sv_buf_add(&url, target.p, target.n);
    *c = (call){.h = h, .hit = {.fd = -1}, .authorized = sv_req_header(r, "authorization").n > 0};
    c->key = sv_cache_key_of(sv_str_of(who ? who->account_id : ""), sv_req_header(r, "x-sv-binding"), sv_req_header(r, "cf-cache-namespace"),
                             own ? (sv_str){json_string_value(own), json_string_length(own)} : sv_buf_str(&url));
    return c;
}

static void answer(sv_req *r, int status, const char *text)
{
    sv_req_send(r, status, "text/plain", sv_str_of(text));
}

static void miss(sv_req *r)
{
    sv_req_add_header(r, "CF-Cache-Status", "MISS");
    answer(r, 504, "Asset not found in cache");
}

static void log_trouble(sv_req *r, const sv_err *err)
{
    static sv_log_gate gate;
    if (sv_log_may(&gate, 10))
        sv_log(SV_ERROR, "cache.fail", "id=%s rc=%s error='%s'", sv_req_id(r), sv_rc_name(err->code), err->msg);
}

/* ---- match ---- */

static void add_head(sv_req *r, const sv_cache_hit *h, bool unsatisfiable)
{
    sv_str name, value, head = sv_str_of(h->head);
    char number[64];
    for (size_t at = 0; !unsatisfiable && sv_head_next(head, &at, &name, &value);) {
        char *n = sv_arena_strndup(sv_req_arena(r), name.p, name.n), *v = sv_arena_strndup(sv_req_arena(r), value.p, value.n);
        if (n && v && !sv_str_ieq(name, "age"))
            sv_req_add_header(r, n, v);
    }
    snprintf(number, sizeof number, "%lld", (long long)h->age_s);
    if (!unsatisfiable)
        sv_req_add_header(r, "Age", number);
    sv_req_add_header(r, "CF-Cache-Status", "HIT");
}

static void send_body(sv_req *r, call *c, int status, int64_t first, int64_t n)
{
    sv_cache_hit *h = &c->hit;
    sv_req_begin(r, status, NULL, n);
    if (h->fd >= 0) {
        int fd = h->fd;
        h->fd = -1;
        sv_req_send_file(r, c->h->jobs, fd, h->at + first, n);
        return;
    }
    if (n)
        sv_req_write(r, h->bytes + first, (size_t)n);
    sv_req_end(r);
}

static sv_str ask_of(const call *c, int i) { return sv_str_of(c->asks[i]); }

static void send_hit(sv_req *r, call *c)
{
    char text[96];
    int64_t first = 0, last = -1;
    sv_cache_hit *h = &c->hit;
    sv_cache_ask ask = {ask_of(c, 0), ask_of(c, 1), ask_of(c, 2)};
    sv_cache_how how = sv_cache_decide(&ask, sv_str_of(h->head), h->length, &first, &last);
    add_head(r, h, how == SV_CACHE_UNSATISFIABLE);
    switch (how) {
    case SV_CACHE_WHOLE: send_body(r, c, h->status, 0, h->length); break;
    case SV_CACHE_NOT_MODIFIED: /* the length is that of what it stands for */
        sv_req_begin(r, 304, NULL, h->length);
        sv_req_end(r);
        break;
    case SV_CACHE_PART:
        snprintf(text, sizeof text, "bytes %lld-%lld/%lld", (long long)first, (long long)last, (long long)h->length);
        sv_req_add_header(r, "Content-Range", text);
        send_body(r, c, 206, first, last - first + 1);
        break;
    case SV_CACHE_UNSATISFIABLE:
        snprintf(text, sizeof text, "bytes */%lld", (long long)h->length);
        sv_req_add_header(r, "Content-Range", text);
        sv_req_begin(r, 416, NULL, 0);
        sv_req_end(r);
        break;
    }
}

static void match_work(void *arg)
{
    call *c = arg;
    sv_rc rc = sv_cache_match(c->h->cache, &c->key, &c->hit, &c->err);
    (void)rc; /* c->err tells */
}

static void match_back(sv_req *r, void *arg)
{
    call *c = arg;
    if (r && !c->err.code) {
        send_hit(r, c);
    } else if (r) {
        if (c->err.code != SV_ENOENT)
            log_trouble(r, &c->err);
        miss(r); /* a cache in trouble is a cache that has nothing */
    }
    call_free(c);
}

static void get(sv_req *r, void *ctx)
{
    static const char *const names[] = {"if-none-match", "if-modified-since", "range"};
    call *c = begin(ctx, r);
    for (size_t i = 0; i < SV_LEN(names); i++) {
        sv_str v = sv_req_header(r, names[i]);
        if (v.p)
            c->asks[i] = sv_xstrndup(v.p, v.n);
    }
    if (sv_req_work(r, c->h->jobs, match_work, match_back, c))
        return;
    call_free(c);
    miss(r);
}

/* ---- put ---- */

static void put_work(void *arg)
{
    call *c = arg;
    sv_map map = {0};
    sv_str message;
    char path[sizeof c->spool->path];
    if (sv_spool_view(c->spool, &map, &message, &c->err) != SV_OK)
        return;
    snprintf(path, sizeof path, "%s", c->spool->path);
    c->spool->path[0] = 0; /* the cache's from here on */
    sv_rc rc = sv_cache_put(c->h->cache, &c->key, message, path, c->authorized, &c->err);
    (void)rc;
    sv_map_close(&map);
}

static void put_back(sv_req *r, void *arg)
{
    call *c = arg;
    bool ours = sv_err_is_ours(&c->err);
    if (r && ours)
        log_trouble(r, &c->err);
    if (r && c->err.code)
        answer(r, ours ? 500 : 413, c->err.msg);
    else if (r)
        sv_req_send(r, 204, NULL, SV_STR(""));
    call_free(c);
}

static void put_spooled(sv_req *r, sv_spool *s, void *arg)
{
    call *c = arg;
    c->spool = s;
    c->err = s->err;
    if (s->too_large)
        sv_fail(&c->err, SV_ELIMIT, "Cache storage failed");
    if (!r || c->err.code) {
        put_back(r, c);
        return;
    }
    if (sv_req_work(r, c->h->jobs, put_work, put_back, c))
        return;
    sv_fail(&c->err, SV_ELIMIT, "too much is waiting; try again in a moment");
    put_back(r, c);
}

static void put(sv_req *r, void *ctx)
{
    call *c = begin(ctx, r);
    sv_spool_opts o = {.jobs = c->h->jobs, .dir = sv_cache_folder(c->h->cache), .keep = SV_CACHE_INLINE, .max = (uint64_t)c->h->max_message};
    sv_spool_start(r, &o, put_spooled, c);
}

/* ---- delete ---- */

static void purge_work(void *arg)
{
    call *c = arg;
    sv_rc rc = sv_cache_delete(c->h->cache, &c->key, &c->err);
    (void)rc;
}

static void purge_back(sv_req *r, void *arg)
{
    call *c = arg;
    if (r && c->err.code && c->err.code != SV_ENOENT)
        log_trouble(r, &c->err);
    if (r)
        answer(r, !c->err.code ? 200 : c->err.code == SV_ENOENT ? 404 : 500, c->err.msg);
    call_free(c);
}

static void purge(sv_req *r, void *ctx)
{
    call *c = begin(ctx, r);
    if (sv_req_work(r, c->h->jobs, purge_work, purge_back, c))
        return;
    call_free(c);
    answer(r, 503, "too much is waiting; try again in a moment");
}

void sv_cache_binding_routes(sv_http *s, sv_cache_http *h)
{
    const sv_route routes[] = {
        {.method = "GET", .path = "/cache", .fn = get},          {.method = "GET", .path = "/cache/*url", .fn = get},
        {.method = "PUT", .path = "/cache", .fn = put, .flags = SV_ROUTE_STREAM}, {.method = "PUT", .path = "/cache/*url", .fn = put, .flags = SV_ROUTE_STREAM},
        {.method = "PURGE", .path = "/cache", .fn = purge},      {.method = "PURGE", .path = "/cache/*url", .fn = purge},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], h);
}
