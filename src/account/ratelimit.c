/* ratelimit.c - two tables of counters for each account, one a window
 *
 * All keys of a table expire together, since windows are aligned, so nothing is ever taken out singly: a table of a new window starts
 * empty. A key is kept as 128 bits of its SHA-256, with its namespace and under its account's table: every slot has the same size,
 * however long the keys are that a Worker makes of its visitors' headers, and nobody can choose keys that collide.
 *
 * An account that counts too many keys at once gets no further counters, and not the others'. */
#include "account/ratelimit.h"

#include <stdlib.h>
#include <string.h>

#include "account/account.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/time.h"

enum { FIRST_SLOTS = 64, MAX_BODY = 64 << 10 };

typedef struct counter { uint64_t id[2]; int64_t n; } counter; /* id 0, 0: empty */
typedef struct table { counter *v; size_t n_slots, n; int64_t window; } table;
typedef struct tenant { table of[2]; } tenant; /* 10 s, 60 s */

struct sv_ratelimit {
    size_t max_keys;
    sv_smap *tenants;
};

sv_ratelimit *sv_ratelimit_new(size_t max_keys)
{
    sv_ratelimit *r = sv_xnew0(sv_ratelimit);
    *r = (sv_ratelimit){.max_keys = max_keys, .tenants = sv_smap_new()};
    return r;
}

sv_ratelimit *sv_ratelimit_free(sv_ratelimit *r)
{
    size_t i = 0;
    sv_str key;
    void *v;
    if (!r)
        return NULL;
    while (sv_smap_next(r->tenants, &i, &key, &v)) {
        tenant *t = v;
        free(t->of[0].v);
        free(t->of[1].v);
        free(t);
    }
    sv_smap_free(r->tenants);
    free(r);
    return NULL;
}

/* The slot of an id, or the empty one where it belongs. */
static counter *find(const table *t, const uint64_t id[2])
{
    for (size_t i = id[0] & (t->n_slots - 1);; i = (i + 1) & (t->n_slots - 1)) {
        counter *c = &t->v[i];
        if ((c->id[0] == id[0] && c->id[1] == id[1]) || (c->id[0] == 0 && c->id[1] == 0))
            return c;
    }
}

static bool grow(table *t)
{
    table bigger = {.n_slots = t->n_slots ? t->n_slots * 2 : FIRST_SLOTS, .n = t->n, .window = t->window};
    bigger.v = sv_try_calloc(bigger.n_slots, sizeof *bigger.v);
    if (!bigger.v)
        return false;
    for (size_t i = 0; i < t->n_slots; i++)
        if (t->v[i].id[0] || t->v[i].id[1])
            *find(&bigger, t->v[i].id) = t->v[i];
    free(t->v);
    *t = bigger;
    return true;
}

static void open_window(table *t, int64_t window)
{
    if (t->window == window)
        return;
    free(t->v);
    *t = (table){.window = window};
}

static tenant *tenant_of(sv_ratelimit *r, sv_str account)
{
    tenant *t = sv_smap_get(r->tenants, account);
    if (!t)
        sv_smap_put(r->tenants, account, t = sv_xnew0(tenant));
    return t;
}

static void id_of(sv_str ns, sv_str key, uint64_t id[2])
{
    uint8_t first[32], both[64];
    sv_sha256(first, ns.p, ns.n); /* of each apart: "a" and "bc" are not "ab" and "c" */
    memcpy(both, first, 32);
    sv_sha256(both + 32, key.p, key.n);
    sv_sha256(first, both, sizeof both);
    memcpy(id, first, 16);
}

bool sv_ratelimit_pass(sv_ratelimit *r, sv_str account, sv_str ns, sv_str key, int64_t limit, int64_t weight, int period_s, int64_t now_ms)
{
    uint64_t id[2];
    table *t = &tenant_of(r, account)->of[period_s == 60];
    open_window(t, now_ms / (period_s * 1000));
    id_of(ns, key, id);
    if (t->n * 4 >= t->n_slots * 3 && (t->n >= r->max_keys || !grow(t))) {
        counter *there = t->n_slots ? find(t, id) : NULL;
        if (!there || !there->id[0])
            return limit > 0;
    }
    counter *c = find(t, id);
    if (c->n >= limit)
        return false;
    t->n += c->id[0] == 0 && c->id[1] == 0;
    memcpy(c->id, id, sizeof c->id);
    c->n = c->n > INT64_MAX - weight ? INT64_MAX : c->n + weight;
    return true;
}

size_t sv_ratelimit_keys(const sv_ratelimit *r, sv_str account)
{
    const tenant *t = sv_smap_get(r->tenants, account);
    return t ? t->of[0].n + t->of[1].n : 0;
}

/* ---- the binding ---- */

static void post_limit(sv_req *r, void *ctx)
{
    const sv_principal *who = sv_req_user(r);
    sv_err err = {0};
    sv_str key = {"", 0}, ns = sv_req_header(r, "x-sv-binding");
    int64_t limit = 0, period = 60, delta = 1;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (sv_json_parse(&body, sv_req_body(r), &err) != SV_OK || sv_json_str(body, "key", &key, &err) != SV_OK ||
        sv_json_int(body, "limit", INT64_MIN, INT64_MAX, &limit, &err) != SV_OK || sv_json_int(body, "period", 10, 60, &period, &err) != SV_OK ||
        sv_json_int(body, "delta", 1, UINT32_MAX, &delta, &err) != SV_OK || (period != 10 && period != 60)) {
        sv_req_send_reason(r, 400, err.code ? err.msg : "unsupported period", "text/plain", SV_STR("bad rate limit options"));
        return;
    }
    if (sv_ratelimit_pass(ctx, sv_str_of(who->account_id), ns, key, limit, delta, (int)period, sv_now_ms()))
        sv_req_send(r, 200, "application/json", SV_STR("{\"success\":true}"));
    else
        sv_req_send(r, 200, "application/json", SV_STR("{\"success\":false}"));
}

void sv_ratelimit_binding_routes(sv_http *s, sv_ratelimit *r)
{
    sv_http_route(s, &(sv_route){.method = "POST", .path = "/rl/limit", .fn = post_limit, .max_body = MAX_BODY, .flags = SV_ROUTE_DRAIN_FIRST}, r);
}
