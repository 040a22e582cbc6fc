/* account_rest.c - who am I, in Cloudflare's REST; and the bearer check before every route
 *
 * What wrangler makes of a refusal depends on the call: a bad token is 401/1000 at tokens/verify, 403/9109 at /user and 403/10000
 * everywhere else; other codes it takes for another kind of token or for no answer at all. OpenAI's SDK reads `error.message` and not
 * the envelope, so refusals below ai/v1 carry both.
 *
 * A token belongs to one account, which stands for its user as well: /accounts and /memberships list that one. There are no zones
 * here, and an empty list is how wrangler learns it.
 *
 * The path is looked at as it came, as the router does: an escaped "%61ccounts" is no route, so it needs no check of its account. */
#include "account/account_rest.h"

#include <stdio.h>

#include "base/json.h"
#include "base/time.h"
#include "http/api.h"

#define PREFIX "/client/v4"

/* ---- the check ---- */

/* Cuts the next segment off *path ("/a/b" gives "a", leaves "/b"). Empty at the end. */
static sv_str next_segment(sv_str *path)
{
    if (path->n == 0)
        return (sv_str){"", 0};
    const char *start = path->p + 1, *end = path->p + path->n;
    const char *slash = start < end ? memchr(start, '/', (size_t)(end - start)) : NULL;
    if (!slash)
        slash = end;
    *path = (sv_str){slash, (size_t)(end - slash)};
    return (sv_str){start, (size_t)(slash - start)};
}

static bool is_account_id(sv_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
            return false;
    return s.n == 32;
}

static void refuse_openai(sv_req *r, int status, int code, const char *message)
{
    json_t *body = json_pack("{s:{s:s, s:s, s:s, s:n}, s:b, s:[{s:i, s:s}], s:[], s:n}", "error", "message", message, "type",
                             "invalid_request_error", "code", "invalid_api_key", "param", "success", 0, "errors", "code", code, "message",
                             message, "messages", "result");
    sv_buf out;
    sv_buf_init(&out, 0);
    sv_json_add_value(&out, body);
    sv_req_send(r, status, "application/json", sv_buf_str(&out));
    sv_buf_done(&out);
    json_decref(body);
}

/* `below`: what follows /client/v4. */
static void refuse(sv_req *r, sv_str below)
{
    if (sv_str_is(below, "/user/tokens/verify"))
        return sv_api_error(r, 401, 1000, "Invalid API Token");
    if (sv_str_is(below, "/user"))
        return sv_api_error(r, 403, 9109, "Invalid access token");
    sv_str rest = below;
    if (sv_str_is(next_segment(&rest), "accounts")) {
        next_segment(&rest);
        if (sv_str_is(rest, "/ai/v1") || sv_str_starts(rest, "/ai/v1/"))
            return refuse_openai(r, 403, 10000, "Authentication error");
    }
    sv_api_error(r, 403, 10000, "Authentication error");
}

static bool is_asset_upload(const sv_req *r, sv_str after_account)
{
    return strcmp(sv_req_method(r), "POST") == 0 &&
           (sv_str_is(after_account, "/workers/assets/upload") || sv_str_starts(after_account, "/workers/assets/upload/"));
}

static bool check_account(sv_req *r, sv_str below, const sv_principal *who)
{
    sv_str rest = below;
    if (!sv_str_is(next_segment(&rest), "accounts") || rest.n <= 1)
        return true;
    sv_str id = next_segment(&rest);
    if (sv_str_is(id, who->account_id))
        return true;
    if (is_account_id(id))
        refuse(r, below);
    else
        sv_api_error(r, 404, 7003, "Could not route to " PREFIX "%.*s, perhaps your object identifier is invalid?",
                     below.n < 200 ? (int)below.n : 200, below.p);
    return false;
}

bool sv_account_before(sv_req *r, sv_accounts *a)
{
    sv_str below = sv_req_path(r);
    if (!sv_str_starts(below, PREFIX) || (below.n > sizeof PREFIX - 1 && below.p[sizeof PREFIX - 1] != '/'))
        return true;
    below = (sv_str){below.p + sizeof PREFIX - 1, below.n - (sizeof PREFIX - 1)};
    sv_str rest = below;
    if (sv_str_is(next_segment(&rest), "accounts") && is_account_id(next_segment(&rest)) && is_asset_upload(r, rest))
        return true;

    sv_err err = {0};
    sv_principal *who = sv_arena_new(sv_req_arena(r), sv_principal, 1);
    if (!who) {
        sv_api_error(r, 503, 10013, "out of memory");
        return false;
    }
    if (sv_accounts_check(a, sv_req_header(r, "authorization"), who, &err) != SV_OK) {
        refuse(r, below);
        return false;
    }
    if (!check_account(r, below, who))
        return false;
    sv_req_set_user(r, who);
    return true;
}

/* ---- routes ---- */

static json_t *account_json(sv_accounts *a, const char *id)
{
    char created[32];
    sv_account_info info = {0};
    if (!sv_accounts_find(a, sv_str_of(id), &info)) /* a principal's account does not go away under it */
        snprintf(info.id, sizeof info.id, "%s", id);
    sv_iso8601(created, info.created_ms);
    return json_pack("{s:s, s:s, s:s, s:{s:b, s:n}, s:s}", "id", info.id, "name", info.name, "type", "standard", "settings",
                     "enforce_twofactor", 0, "abuse_contact_email", "created_on", created);
}

static json_t *list_of(json_t *one)
{
    json_t *all = json_array();
    json_array_append_new(all, one);
    return all;
}

static void get_verify(sv_req *r, void *ctx)
{
    const sv_principal *who = sv_req_user(r);
    (void)ctx;
    json_t *body = json_pack("{s:b, s:[], s:[{s:i, s:s, s:n}], s:{s:s, s:s}}", "success", 1, "errors", "messages", "code", 10000, "message",
                             "This API Token is valid and active", "type", "result", "id", who->token_id, "status", "active");
    sv_buf out;
    sv_buf_init(&out, 0);
    sv_json_add_value(&out, body);
    sv_req_send(r, 200, "application/json", sv_buf_str(&out));
    sv_buf_done(&out);
    json_decref(body);
}

static void get_user(sv_req *r, void *ctx)
{
    const sv_principal *who = sv_req_user(r);
    (void)ctx;
    sv_api_ok(r, json_pack("{s:s, s:s, s:s, s:n, s:n, s:n, s:n, s:n, s:b, s:b}", "id", who->account_id, "email", "owner@localhost",
                           "username", who->account_id, "first_name", "last_name", "country", "telephone", "zipcode",
                           "two_factor_authentication_enabled", 0, "suspended", 0));
}

static void get_accounts(sv_req *r, void *ctx)
{
    const sv_principal *who = sv_req_user(r);
    sv_api_ok_page(r, list_of(account_json(ctx, who->account_id)), 20);
}

static void get_account(sv_req *r, void *ctx)
{
    const sv_principal *who = sv_req_user(r);
    sv_api_ok(r, account_json(ctx, who->account_id));
}

static void get_memberships(sv_req *r, void *ctx)
{
    const sv_principal *who = sv_req_user(r);
    json_t *one = json_pack("{s:s, s:s, s:o, s:b, s:[s], s:{}}", "id", who->account_id, "status", "accepted", "account",
                            account_json(ctx, who->account_id), "api_access_enabled", 1, "roles", "Super Administrator - All Privileges",
                            "permissions");
    sv_api_ok_page(r, list_of(one), 20);
}

static void get_zones(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_api_ok_page(r, json_array(), 20);
}

void sv_account_rest_routes(sv_http *s, sv_accounts *a)
{
    static const sv_route routes[] = {
        {.method = "GET", .path = PREFIX "/user/tokens/verify", .fn = get_verify},
        {.method = "GET", .path = PREFIX "/accounts/:account/tokens/verify", .fn = get_verify},
        {.method = "GET", .path = PREFIX "/user", .fn = get_user},
        {.method = "GET", .path = PREFIX "/accounts", .fn = get_accounts},
        {.method = "GET", .path = PREFIX "/accounts/:account", .fn = get_account},
        {.method = "GET", .path = PREFIX "/memberships", .fn = get_memberships},
        {.method = "GET", .path = PREFIX "/zones", .fn = get_zones},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], a);
}
