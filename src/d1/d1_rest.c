/* d1_rest.c - databases in Cloudflare's REST: create, list, show, delete, query, raw, time travel
 *
 * The path takes a database's id or its name. A list shows the size of each file, which costs no opening; the number of tables is only in the
 * answer about one database, since it has to be asked of it, and not there either when the query says `fields` without it: that is how wrangler
 * finds a database before every command, and it must not wait behind a slow query. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "account/limits.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "d1/d1_http_impl.h"
#include "http/api.h"
#include "http/graphql.h"

#define BASE "/client/v4/accounts/:account/d1/database"

void sv_d1_rest_fail(sv_req *r, const sv_err *err)
{
    int code = err->api_code ? err->api_code : 7500;
    if (sv_err_is_ours(err)) {
        sv_api_fail(r, err, 7500);
        return;
    }
    switch (err->code) {
    case SV_ENOENT: sv_api_error(r, code == 7404 || code == 7500 ? 404 : 400, code == 7500 ? 7404 : code, "%s", err->msg); return;
    case SV_ELIMIT: sv_api_error(r, code == 7406 ? 403 : err->api_code == 7500 ? 429 : 400, code, "%s", err->msg); return;
    default: sv_api_error(r, 400, code, "%s", err->msg);
    }
}

static bool database_of(sv_d1_http *h, sv_req *r, sv_d1_info *out)
{
    const char *account;
    sv_err err = {0};
    sv_str id;
    if (sv_d1_account_of(r, &account, &err) == SV_OK && sv_req_param(r, "id", &id, &err) == SV_OK &&
        sv_d1_find(h->d, account, id, out, &err) == SV_OK)
        return true;
    sv_d1_rest_fail(r, &err);
    return false;
}

/* ---- what there is ---- */

static json_t *describe(const sv_d1_info *i)
{
    char created[32];
    sv_iso8601(created, i->created_ms);
    return json_pack("{s:s, s:s, s:s, s:s, s:{s:s}}", "uuid", i->id, "name", i->name, "version", "production", "created_at", created,
                     "read_replication", "mode", i->read_replication);
}

static int64_t file_size(sv_d1_http *h, const char *id)
{
    char path[600];
    struct stat st;
    snprintf(path, sizeof path, "%s/../%s.sqlite", sv_d1_temp_dir(h->d), id);
    return stat(path, &st) == 0 ? st.st_size : 0;
}

static void get_list(sv_req *r, void *ctx)
{
    sv_d1_http *h = ctx;
    const char *account;
    sv_err err = {0};
    sv_str part = {0};
    sv_d1_info *all;
    if (sv_d1_account_of(r, &account, &err) != SV_OK) {
        sv_d1_rest_fail(r, &err);
        return;
    }
    (void)sv_req_query(r, "name", 0, &part);
    size_t n = sv_d1_list(h->d, account, part, &all);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *d = describe(&all[i]);
        json_object_set_new(d, "file_size", json_integer(file_size(h, all[i].id)));
        json_array_append_new(list, d);
    }
    free(all);
    sv_api_ok_page(r, list, 100);
}

static sv_rc mode_of(const json_t *body, const char **mode, sv_err *err)
{
    const json_t *rr = json_object_get(body, "read_replication");
    if (!rr || json_is_null(rr))
        return SV_OK;
    *mode = sv_json_cstr(rr, "mode");
    return *mode ? SV_OK : sv_fail_api(err, SV_EINVAL, 7400, "'read_replication' is an object with a 'mode'");
}

static sv_rc create(sv_d1_http *h, sv_req *r, sv_d1_info *out, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    const char *account, *mode = "disabled";
    sv_str name = {0};
    if (sv_d1_account_of(r, &account, err) != SV_OK)
        return err->code;
    if (sv_json_parse(&body, sv_req_body(r), err) != SV_OK || sv_json_str(body, "name", &name, err) != SV_OK) {
        err->api_code = 7400;
        return err->code;
    }
    return mode_of(body, &mode, err) == SV_OK ? sv_d1_create(h->d, account, name, mode, out, err) : err->code;
}

static void post_create(sv_req *r, void *ctx)
{
    sv_d1_info i;
    sv_err err = {0};
    if (create(ctx, r, &i, &err) == SV_OK)
        sv_api_ok(r, describe(&i));
    else
        sv_d1_rest_fail(r, &err);
}

static void patch_one(sv_req *r, void *ctx)
{
    sv_d1_http *h = ctx;
    sv_d1_info i;
    sv_err err = {0};
    const char *mode = NULL;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (!database_of(h, r, &i))
        return;
    sv_rc rc = sv_json_parse(&body, sv_req_body(r), &err);
    if (rc == SV_OK)
        rc = mode_of(body, &mode, &err);
    if (rc == SV_OK && mode)
        rc = sv_d1_set_replication(h->d, i.account_id, i.id, mode, &err);
    if (rc == SV_OK)
        rc = sv_d1_find(h->d, i.account_id, sv_str_of(i.id), &i, &err);
    if (rc == SV_OK)
        sv_api_ok(r, describe(&i));
    else
        sv_d1_rest_fail(r, &err);
}

static void delete_one(sv_req *r, void *ctx)
{
    sv_d1_http *h = ctx;
    sv_d1_info i;
    sv_err err = {0};
    if (!database_of(h, r, &i))
        return;
    if (sv_d1_delete(h->d, i.account_id, i.id, &err) == SV_OK) {
        sv_d1_usage_forget(h->usage, i.id);
        sv_api_ok(r, NULL);
    } else {
        sv_d1_rest_fail(r, &err);
    }
}

static void work_info(sv_d1_call *c, sv_d1_conn *conn)
{
    SV_AUTO(sv_json_decrefp) json_t *d = describe(&c->db);
    json_object_set_new(d, "num_tables", json_integer(sv_d1_conn_n_tables(conn)));
    json_object_set_new(d, "file_size", json_integer(sv_d1_conn_size(conn)));
    json_object_set_new(d, "running_in_region", json_string("LOCAL"));
    sv_json_add_value(&c->out.b, d);
}

static const char head[] = "{\"success\":true,\"errors\":[],\"messages\":[],\"result\":", tail[] = "}";

static void answer(sv_d1_call *c)
{
    if (c->err.code == SV_OK)
        sv_d1_call_send(c, 200, head, tail);
    else
        sv_d1_rest_fail(c->r, &c->err);
}

static void get_one(sv_req *r, void *ctx)
{
    sv_d1_info i;
    sv_str fields;
    if (!database_of(ctx, r, &i))
        return;
    if (sv_req_query(r, "fields", 0, &fields) && !memmem(fields.p, fields.n, "num_tables", 10) && !memmem(fields.p, fields.n, "file_size", 9)) {
        sv_api_ok(r, describe(&i));
        return;
    }
    sv_d1_call *c = sv_d1_call_new(ctx, r, &i);
    c->work = work_info;
    c->answer = answer;
    sv_d1_call_submit(c);
}

/* ---- queries ---- */

static void begin(sv_d1_http *h, sv_req *r, sv_d1_format format)
{
    sv_d1_info i;
    if (!database_of(h, r, &i))
        return;
    sv_d1_call *c = sv_d1_call_new(h, r, &i);
    c->run.format = format;
    c->run.per_statement = true;
    c->work = sv_d1_call_query;
    c->answer = answer;
    sv_d1_call_submit(c);
}

static void post_query(sv_req *r, void *ctx) { begin(ctx, r, SV_D1_OBJECTS); }
static void post_raw(sv_req *r, void *ctx) { begin(ctx, r, SV_D1_ROWS); }

/* ---- time travel ---- */

/* "2026-11-25T02:43:58.123Z", "...+01:00", or seconds since 1970. */
static sv_rc read_time(sv_str s, int64_t *out, sv_err *err)
{
    struct tm t = {0};
    char text[64], sign;
    int hours, minutes;
    if (sv_str_to_i64(s, out) && *out >= 0 && *out < ((int64_t)1 << 40))
        return SV_OK;
    snprintf(text, sizeof text, "%.*s", (int)(s.n > 60 ? 60 : s.n), s.p);
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &t);
    if (!rest)
        rest = strptime(text, "%Y-%m-%d %H:%M:%S", &t);
    if (rest && *rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    if (!rest)
        return sv_fail_api(err, SV_EINVAL, 7400, "'timestamp' is a time as in RFC 3339, such as 2026-11-25T08:00:00Z");
    *out = (int64_t)timegm(&t);
    if (*rest == '\0' || strcmp(rest, "Z") == 0 || strcmp(rest, "z") == 0)
        return SV_OK;
    if (sscanf(rest, "%c%2d:%2d", &sign, &hours, &minutes) != 3 || (sign != '+' && sign != '-'))
        return sv_fail_api(err, SV_EINVAL, 7400, "'timestamp': a zone is Z or like +01:00");
    *out -= (sign == '+' ? 1 : -1) * (hours * 3600 + minutes * 60);
    return SV_OK;
}

static void work_bookmark(sv_d1_call *c, sv_d1_conn *conn)
{
    char text[64];
    sv_d1_version v = sv_d1_conn_version(conn);
    if (c->at_s && sv_d1_state_at(c->h->d, c->db.id, conn, c->at_s, &v, &c->err) != SV_OK)
        return;
    sv_d1_bookmark(text, c->db.id, v);
    sv_buf_addf(&c->out.b, "{\"bookmark\":\"%s\"}", text);
}

static void work_restore(sv_d1_call *c, sv_d1_conn *conn)
{
    char to[64], before[64];
    sv_d1_version v;
    sv_d1_bookmark(before, c->db.id, sv_d1_conn_version(conn));
    if (c->at_s && sv_d1_state_at(c->h->d, c->db.id, conn, c->at_s, &c->to, &c->err) != SV_OK)
        return;
    if (sv_d1_restore(c->h->d, c->db.id, conn, c->to, &v, &c->err) != SV_OK)
        return;
    sv_d1_bookmark(to, c->db.id, v);
    sv_log(SV_INFO, "d1.restore", "id=%s from=%u to=%u", c->db.id, c->to.seq, v.seq);
    sv_buf_addf(&c->out.b, "{\"bookmark\":\"%s\",\"previous_bookmark\":\"%s\",\"message\":\"The database is what it was; the previous bookmark undoes it.\"}",
                to, before);
}

static void travel(sv_d1_http *h, sv_req *r, bool restore)
{
    sv_d1_info i;
    sv_err err = {0};
    sv_str when = {0}, bookmark = {0};
    int64_t at_s = 0;
    sv_d1_version to = {0};
    if (!database_of(h, r, &i))
        return;
    bool has_time = sv_req_query(r, "timestamp", 0, &when), has_bookmark = restore && sv_req_query(r, "bookmark", 0, &bookmark);
    sv_rc rc = SV_OK;
    if (has_time)
        rc = read_time(when, &at_s, &err);
    else if (has_bookmark)
        rc = sv_d1_bookmark_parse(&to, i.id, bookmark, &err);
    else if (restore)
        rc = sv_fail_api(&err, SV_EINVAL, 7400, "'bookmark' or 'timestamp' says what to restore");
    if (rc != SV_OK) {
        sv_d1_rest_fail(r, &err);
        return;
    }
    sv_d1_call *c = sv_d1_call_new(h, r, &i);
    c->at_s = has_time && at_s == 0 ? 1 : at_s;
    c->to = to;
    c->work = restore ? work_restore : work_bookmark;
    c->answer = answer;
    sv_d1_call_submit(c);
}

static void get_bookmark(sv_req *r, void *ctx) { travel(ctx, r, false); }
static void post_restore(sv_req *r, void *ctx) { travel(ctx, r, true); }

/* Only of a database that the account has. */
json_t *sv_d1_analytics(void *ctx, const char *account_id, const json_t *variables)
{
    sv_d1_http *h = ctx;
    sv_d1_info i;
    sv_err err = {0};
    sv_d1_hour hours[SV_D1_USAGE_HOURS];
    char at[32];
    if (sv_d1_find(h->d, account_id, sv_graphql_find(variables, "databaseId"), &i, &err) != SV_OK)
        return NULL;
    json_t *rows = json_array();
    for (int n = sv_d1_usage_get(h->usage, i.id, sv_now_ms(), hours), k = 0; k < n; k++) {
        sv_iso8601(at, hours[k].hour * 3600 * 1000);
        json_array_append_new(rows, json_pack("{s:{s:I, s:I, s:I, s:I}, s:{s:s, s:s}}", "sum", "readQueries", (json_int_t)hours[k].read_queries, "writeQueries",
                                              (json_int_t)hours[k].write_queries, "rowsRead", (json_int_t)hours[k].rows_read, "rowsWritten",
                                              (json_int_t)hours[k].rows_written, "dimensions", "datetimeHour", at, "databaseId", i.id));
    }
    return rows;
}

void sv_d1_rest_routes(sv_http *api, sv_d1_http *h)
{
    size_t body = (size_t)sv_limit_value(SV_LIMIT_API_BODY_BYTES), sql = (size_t)sv_limit_value(SV_LIMIT_D1_BODY_BYTES);
    const sv_route routes[] = {
        {.method = "GET", .path = BASE, .fn = get_list, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = BASE, .fn = post_create, .max_body = body, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = BASE "/:id", .fn = get_one},
        {.method = "PUT", .path = BASE "/:id", .fn = patch_one, .max_body = body, .flags = SV_ROUTE_JOB},
        {.method = "PATCH", .path = BASE "/:id", .fn = patch_one, .max_body = body, .flags = SV_ROUTE_JOB},
        {.method = "DELETE", .path = BASE "/:id", .fn = delete_one, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = BASE "/:id/query", .fn = post_query, .max_body = sql},
        {.method = "POST", .path = BASE "/:id/raw", .fn = post_raw, .max_body = sql},
        {.method = "GET", .path = BASE "/:id/time_travel/bookmark", .fn = get_bookmark},
        {.method = "POST", .path = BASE "/:id/time_travel/restore", .fn = post_restore, .max_body = body},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(api, &routes[i], h);
    sv_d1_transfer_routes(api, h);
}
