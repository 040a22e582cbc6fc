/* d1_binding.c - what workerd's built-in D1 module asks when a Worker says env.DB.prepare(...).all()
 *
 * Every answer is read as JSON whatever its status, and counts as a failure when `error` is in it; of a batch only the first element is looked
 * at, so a failed batch is one object. exec() alone wants to know which of its lines it was, and counts the elements before the one with the
 * error. run() asks for no results and yet gives them, as in the hosted service.
 *
 * A session's bookmark travels in a header both ways. There is one copy of a database here, which every session reads, so any constraint is met. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "d1/d1_http_impl.h"

#define TOKEN "x-cf-d1-session-commit-token"

static void send_error(sv_req *r, int status, size_t n_before, bool array, const char *message)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 4 << 20);
    sv_buf_adds(&b, array ? "[" : "");
    for (size_t i = 0; array && i < n_before; i++)
        sv_buf_adds(&b, "{\"success\":true,\"meta\":{\"duration\":0}},");
    sv_buf_adds(&b, "{\"success\":false,\"error\":");
    sv_json_add_str(&b, sv_str_of(message));
    sv_buf_adds(&b, array ? "}]" : "}");
    sv_req_send(r, status, "application/json", sv_buf_str(&b));
}

/* What the Worker did not cause it gets no details of. */
static const char *told(sv_req *r, const sv_err *err)
{
    if (!sv_err_is_ours(err))
        return err->msg;
    static sv_log_gate gate;
    if (sv_log_may(&gate, 30))
        sv_log(SV_ERROR, "d1.fail", "id=%s error='%s'", sv_req_id(r), err->msg);
    return "internal error";
}

static void answer(sv_d1_call *c)
{
    if (c->err.code != SV_OK) {
        send_error(c->r, sv_err_is_ours(&c->err) ? 500 : 400, c->run.i_failed, c->list && c->lists_have_no_rows, told(c->r, &c->err));
        return;
    }
    char bookmark[64];
    if (c->session) {
        sv_d1_bookmark(bookmark, c->db.id, c->version);
        sv_req_add_header(c->r, TOKEN, bookmark);
    }
    sv_d1_call_send(c, 200, "", "");
}

static bool database_of(sv_d1_http *h, sv_req *r, sv_d1_info *out, sv_err *err)
{
    const char *account;
    sv_str b = sv_req_header(r, "x-sv-binding");
    const char *colon = b.n ? memchr(b.p, ':', b.n) : NULL;
    sv_str id = colon ? (sv_str){colon + 1, b.n - (size_t)(colon + 1 - b.p)} : (sv_str){0};
    return sv_d1_account_of(r, &account, err) == SV_OK && sv_d1_find(h->d, account, id, out, err) == SV_OK;
}

static void begin(sv_d1_http *h, sv_req *r, bool execute)
{
    sv_err err = {0};
    sv_d1_info db;
    sv_str format;
    if (!database_of(h, r, &db, &err)) {
        send_error(r, 404, 0, false, err.msg);
        return;
    }
    sv_d1_call *c = sv_d1_call_new(h, r, &db);
    c->run.format = sv_req_query(r, "resultsFormat", 0, &format) && sv_str_is(format, "ROWS_AND_COLUMNS") ? SV_D1_ROWS : SV_D1_OBJECTS;
    c->lists_have_no_rows = execute;
    c->session = sv_req_header(r, TOKEN).n > 0;
    c->work = sv_d1_call_query;
    c->answer = answer;
    sv_d1_call_submit(c);
}

static void post_query(sv_req *r, void *ctx) { begin(ctx, r, false); }
static void post_execute(sv_req *r, void *ctx) { begin(ctx, r, true); }

/* ---- dump() ---- */

static void work_dump(sv_d1_call *c, sv_d1_conn *conn)
{
    char path[600], id[33];
    sv_random_hex(id, 16);
    snprintf(path, sizeof path, "%s/%s.dump", sv_d1_temp_dir(c->h->d), id);
    if (sv_d1_conn_copy(conn, path, &c->err) != SV_OK)
        return;
    struct stat st;
    c->out.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (c->out.fd < 0 || fstat(c->out.fd, &st) < 0)
        (void)!sv_fail_errno(&c->err, "open the dump");
    else
        c->out.n_file = st.st_size;
    unlink(path);
}

static void answer_dump(sv_d1_call *c)
{
    if (c->err.code != SV_OK) {
        send_error(c->r, 500, 0, false, told(c->r, &c->err));
        return;
    }
    int fd = c->out.fd;
    c->out.fd = -1;
    sv_d1_send_file(c->r, fd, c->out.n_file, "application/octet-stream");
}

static void post_dump(sv_req *r, void *ctx)
{
    sv_err err = {0};
    sv_d1_info db;
    if (!database_of(ctx, r, &db, &err)) {
        send_error(r, 404, 0, false, err.msg);
        return;
    }
    sv_d1_call *c = sv_d1_call_new(ctx, r, &db);
    c->work = work_dump;
    c->answer = answer_dump;
    sv_d1_call_submit(c);
}

void sv_d1_binding_routes(sv_http *bindings, sv_d1_http *h)
{
    size_t body = (size_t)sv_limit_value(SV_LIMIT_D1_BODY_BYTES);
    const sv_route routes[] = {
        {.method = "POST", .path = "/d1/query", .fn = post_query, .max_body = body, .flags = SV_ROUTE_DRAIN_FIRST},
        {.method = "POST", .path = "/d1/execute", .fn = post_execute, .max_body = body, .flags = SV_ROUTE_DRAIN_FIRST},
        {.method = "POST", .path = "/d1/dump", .fn = post_dump},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(bindings, &routes[i], h);
}
