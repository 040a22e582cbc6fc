/* api.c - Cloudflare's envelope around results and errors
 *
 * Answers are written as text into one buffer; a result that is a tree is printed straight into it, so a large list is
 * never held twice. What the client did not cause (disk, memory, a child) is logged under the request's id, and the
 * client gets that id: the message may name paths or other accounts' things. */
#include "http/api.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"

enum { MAX_PER_PAGE = 1000, ANSWER_MAX = 256 << 20 };

static const char type_json[] = "application/json";

int sv_http_status_of(sv_rc rc)
{
    switch (rc) {
    case SV_OK: return 200;
    case SV_EINVAL:
    case SV_EFORMAT: return 400;
    case SV_ENOENT: return 404;
    case SV_ECONFLICT: return 409;
    case SV_ELIMIT: return 429;
    case SV_EIO: return 502;
    case SV_ENOMEM: return 503;
    case SV_ETIMEDOUT: return 504;
    case SV_ECANCELED: return 499;
    }
    return 500;
}

static void send_error(sv_req *r, int status, int code, sv_str msg)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_addf(&b, "{\"success\":false,\"errors\":[{\"code\":%d,\"message\":", code);
    sv_json_add_str(&b, msg);
    sv_buf_adds(&b, "}],\"messages\":[],\"result\":null}");
    sv_req_send(r, status, type_json, sv_buf_str(&b));
}

static void send_no_memory(sv_req *r)
{
    sv_log(SV_ERROR, "api.no_memory", "id=%s", sv_req_id(r));
    send_error(r, 503, 10013, SV_STR("the answer is too large to be built"));
}

/* result_info NULL: none. Exactly one of result and text counts: text where it is not empty. */
static void send_ok(sv_req *r, int status, const json_t *result, sv_str text, const json_t *result_info)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, ANSWER_MAX);
    sv_buf_adds(&b, "{\"success\":true,\"errors\":[],\"messages\":[],\"result\":");
    if (text.n > 0)
        sv_buf_add(&b, text.p, text.n);
    else if (result)
        sv_json_add_value(&b, result);
    else
        sv_buf_adds(&b, "null");
    if (result_info) {
        sv_buf_adds(&b, ",\"result_info\":");
        sv_json_add_value(&b, result_info);
    }
    sv_buf_addc(&b, '}');
    if (b.failed)
        send_no_memory(r);
    else
        sv_req_send(r, status, type_json, sv_buf_str(&b));
}

void sv_api_ok_status(sv_req *r, int status, json_t *result)
{
    send_ok(r, status, result, SV_STR(""), NULL);
    json_decref(result);
}

void sv_api_ok(sv_req *r, json_t *result) { sv_api_ok_status(r, 200, result); }

void sv_api_ok_info(sv_req *r, json_t *result, json_t *result_info)
{
    send_ok(r, 200, result, SV_STR(""), result_info);
    json_decref(result);
    json_decref(result_info);
}

void sv_api_ok_text(sv_req *r, sv_str result_json) { send_ok(r, 200, NULL, result_json, NULL); }

void sv_api_error(sv_req *r, int status, int code, const char *fmt, ...)
{
    char msg[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    sv_str s = {msg, n < 0 ? 0 : (size_t)n < sizeof msg ? (size_t)n : sizeof msg - 1};
    if ((size_t)n >= sizeof msg) /* never half a character */
        s.n = sv_utf8_whole(s);
    send_error(r, status, code, s);
}

void sv_api_fail(sv_req *r, const sv_err *err, int fallback_code)
{
    int status = sv_http_status_of(err->code), code = err->api_code ? err->api_code : fallback_code;
    if (!sv_err_is_ours(err)) {
        sv_api_error(r, status, code, "%s", err->msg);
        return;
    }
    if (status < 500) /* a full disk, a missing file of ours: not what these codes mean to a client */
        status = err->code == SV_ELIMIT ? 507 : 500;
    sv_log(SV_ERROR, "api.fail", "id=%s rc=%s error='%s'", sv_req_id(r), sv_rc_name(err->code), err->msg);
    sv_api_error(r, status, code, "internal error; the log has it under %s", sv_req_id(r));
}

/* A positive number from the query; absent: value stays. */
static bool query_count(sv_req *r, const char *name, int64_t max, int64_t *value)
{
    sv_str s;
    int64_t v;
    if (!sv_req_query(r, name, 0, &s) || s.n == 0)
        return true;
    if (!sv_str_to_i64(s, &v) || v < 1 || v > max) {
        sv_api_error(r, 400, 10005, "'%s' must be a whole number from 1 to %lld", name, (long long)max);
        return false;
    }
    *value = v;
    return true;
}

void sv_api_ok_page(sv_req *r, json_t *all, int default_per_page)
{
    int64_t page = 1, per_page = default_per_page, total = (int64_t)json_array_size(all);
    if (!query_count(r, "page", INT32_MAX, &page) || !query_count(r, "per_page", MAX_PER_PAGE, &per_page)) {
        json_decref(all);
        return;
    }
    int64_t first = (page - 1) * per_page;
    json_t *cut = json_array();
    for (int64_t i = first; i < total && i < first + per_page; i++)
        json_array_append(cut, json_array_get(all, (size_t)i));
    json_t *info = json_pack("{s:I,s:I,s:I,s:I,s:I}", "page", (json_int_t)page, "per_page", (json_int_t)per_page, "count",
                             (json_int_t)json_array_size(cut), "total_count", (json_int_t)total, "total_pages",
                             (json_int_t)((total + per_page - 1) / per_page));
    json_decref(all);
    sv_api_ok_info(r, cut, info);
}
