/* queues_binding.c - what workerd's queue binding sends, on the Worker's own socket
 *
 * A send waits for the disk without a thread: it is submitted from the loop, and the store's thread sends the ticket back. A refusal is
 * read from two headers by newer compatibility dates, and from the reason phrase by older ones; the answer must be exactly 200. */
#include <stdio.h>
#include <string.h>

#include "account/account.h"
#include "base/log.h"
#include "http/body_files.h"
#include "queues/queues_http.h"
#include "queues/queues_send.h"

enum { MAX_BODY = 1 << 20 }; /* a batch at its limit, in base64, with room for a refusal that says by how much it is over */

typedef struct send_call {
    sv_queues_batch batch;
    sv_queues_write write;
    sv_ticket *ticket;
} send_call;

static void fail(sv_req *r, const sv_err *err)
{
    char reason[sizeof err->msg], code[16];
    int status = sv_queues_status(err);
    snprintf(reason, sizeof reason, "%s", err->msg);
    snprintf(code, sizeof code, "%d", err->api_code ? err->api_code : 15000);
    if (sv_err_is_ours(err)) {
        sv_log(SV_ERROR, "queues.binding", "id=%s rc=%s error='%s'", sv_req_id(r), sv_rc_name(err->code), err->msg);
        snprintf(reason, sizeof reason, "internal error; the log has it under %s", sv_req_id(r));
    }
    sv_req_add_header(r, "CF-Queues-Error-Code", code);
    sv_req_add_header(r, "CF-Queues-Error-Cause", reason);
    sv_req_send_reason(r, status, reason, "text/plain; charset=utf-8", sv_str_of(reason));
}

static sv_rc find(sv_req *r, sv_queues_http *h, sv_queues_info *info, sv_err *err)
{
    sv_str id = sv_req_header(r, "x-sv-binding"); /* "queue:NAME": the prefix brought us here */
    const sv_principal *who = sv_req_user(r);
    return sv_queues_find_name(h->queues, sv_str_of(who->account_id), (sv_str){id.p + 6, id.n > 6 ? id.n - 6 : 0}, info, err);
}

static void send_free(send_call *c)
{
    sv_queues_batch_done(&c->batch);
    free(c);
}

static void send_back(sv_req *r, void *arg)
{
    send_call *c = arg;
    char body[200];
    const sv_queues_write *w = &c->write;
    if (r && w->rc != SV_OK) {
        fail(r, &w->err);
    } else if (r) {
        snprintf(body, sizeof body, "{\"metadata\":{\"metrics\":{\"backlogCount\":%lld,\"backlogBytes\":%lld,\"oldestMessageTimestamp\":%lld}}}",
                 (long long)w->backlog_n, (long long)w->backlog_bytes, (long long)w->oldest_ms);
        sv_req_send(r, 200, "application/json", sv_str_of(body));
    }
    send_free(c);
}

/* On the store's thread. */
static void send_written(sv_queues_write *w) { sv_ticket_done(((send_call *)w->arg)->ticket); }

static void submit(sv_req *r, sv_queues_http *h, send_call *c, int64_t queue)
{
    c->ticket = sv_req_ticket(r, send_back, c);
    c->write = (sv_queues_write){.op = SV_QUEUES_SEND, .queue = queue, .msgs = c->batch.v, .n = c->batch.n, .done = send_written, .arg = c};
    sv_queues_submit(h->queues, &c->write);
}

static sv_rc delay_header(sv_req *r, int64_t *delay_s, sv_err *err)
{
    sv_str text = sv_req_header(r, "x-msg-delay-secs");
    *delay_s = -1;
    if (text.n == 0 || (sv_str_to_i64(text, delay_s) && *delay_s >= 0 && *delay_s <= SV_QUEUES_MAX_DELAY_S))
        return SV_OK;
    return sv_fail_api(err, SV_EINVAL, 10207, "a delay must be 0 to %d seconds, not %.*s", SV_QUEUES_MAX_DELAY_S, text.n < 20 ? (int)text.n : 20, text.p);
}

static sv_rc take_one(sv_req *r, sv_queues_batch *b, sv_err *err)
{
    sv_str format = sv_req_header(r, "x-msg-fmt"), body = sv_req_body(r);
    sv_queues_msg m = {.body = body, .type = SV_QUEUES_V8};
    if (delay_header(r, &m.delay_s, err) != SV_OK)
        return err->code;
    if (format.n && !sv_queues_type_of(format, &m.type))
        return sv_fail_api(err, SV_EINVAL, 10207, "'%.*s' is no content type of a message", format.n < 20 ? (int)format.n : 20, format.p);
    if (sv_queues_check(&m, 1, err) != SV_OK)
        return err->code;
    sv_buf_init(&b->text, 0);
    sv_buf_add(&b->text, body.p, body.n); /* the client may leave while the disk syncs, and its body with it */
    b->v = sv_xnew0(sv_queues_msg);
    b->v[0] = m;
    b->v[0].body = sv_buf_str(&b->text);
    b->n = 1;
    return b->text.failed ? sv_fail(err, SV_ENOMEM, "no memory for a message") : SV_OK;
}

static sv_rc take_batch(sv_req *r, sv_queues_batch *b, sv_err *err)
{
    int64_t delay_s;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (delay_header(r, &delay_s, err) != SV_OK)
        return err->code;
    if (sv_json_parse(&body, sv_req_body(r), err) != SV_OK) {
        err->api_code = 10207;
        return err->code;
    }
    return sv_queues_batch_of_binding(b, body, delay_s, err);
}

static void send_with(sv_req *r, sv_queues_http *h, sv_rc (*take)(sv_req *r, sv_queues_batch *b, sv_err *err))
{
    sv_err err = {0};
    sv_queues_info info;
    send_call *c = sv_xnew0(send_call);
    if (find(r, h, &info, &err) == SV_OK && take(r, &c->batch, &err) == SV_OK) {
        submit(r, h, c, info.no);
        return;
    }
    fail(r, &err);
    send_free(c);
}

static void send_message(sv_req *r, void *ctx) { send_with(r, ctx, take_one); }
static void send_batch(sv_req *r, void *ctx) { send_with(r, ctx, take_batch); }

static void get_metrics(sv_req *r, void *ctx)
{
    sv_err err = {0};
    sv_queues_info i;
    char body[160];
    if (find(r, ctx, &i, &err) != SV_OK) {
        fail(r, &err);
        return;
    }
    snprintf(body, sizeof body, "{\"backlogCount\":%lld,\"backlogBytes\":%lld,\"oldestMessageTimestamp\":%lld}", (long long)i.n, (long long)i.bytes,
             (long long)i.oldest_ms);
    sv_req_send(r, 200, "application/json", sv_str_of(body));
}

void sv_queues_binding_routes(sv_http *s, sv_queues_http *h)
{
    const sv_route routes[] = {
        {.method = "POST", .path = "/queue/message", .fn = send_message, .max_body = MAX_BODY, .flags = SV_ROUTE_DRAIN_FIRST},
        {.method = "POST", .path = "/queue/batch", .fn = send_batch, .max_body = MAX_BODY, .flags = SV_ROUTE_DRAIN_FIRST},
        {.method = "GET", .path = "/queue/metrics", .fn = get_metrics},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], h);
}
