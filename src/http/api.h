/* api.h - answers in the shapes that clients expect, and the one place where sv_rc becomes an HTTP status
 *
 * Cloudflare's envelope: {"success":true,"errors":[],"messages":[],"result":...}. All calls here are whole answers: the
 * request is dead after them. Loop thread, or SV_ROUTE_JOB handlers. */
#ifndef SV_HTTP_API_H
#define SV_HTTP_API_H

#include "http/server.h"

/* EINVAL, EFORMAT 400; ENOENT 404; ECONFLICT 409; ELIMIT 429; ECANCELED 499; EIO 502; ENOMEM 503; ETIMEDOUT 504 */
int sv_http_status_of(sv_rc rc);

/* result is stolen (decref'd), NULL means null. */
void sv_api_ok(sv_req *r, json_t *result);
void sv_api_ok_status(sv_req *r, int status, json_t *result);
void sv_api_ok_info(sv_req *r, json_t *result, json_t *result_info);
/* result given as finished JSON text: no tree for big answers. */
void sv_api_ok_text(sv_req *r, sv_str result_json);
void sv_api_error(sv_req *r, int status, int code, const char *fmt, ...) SV_PRINTF(4, 5);
/* From an sv_err: status from its code, number from api_code or, if 0, fallback_code. What the client did not
 * cause (sv_err_is_ours) is logged with the request id, and the client gets "internal error" with that id, and 507 (full) or 500
 * where the code's status would blame it. */
void sv_api_fail(sv_req *r, const sv_err *err, int fallback_code);

/* Page style lists (page, per_page; page counts from 1): cuts `all` (stolen) and answers with result_info.
 * A page or per_page that is no number from 1 on (per_page: to 1,000) is answered 400 with 10005. */
void sv_api_ok_page(sv_req *r, json_t *all, int default_per_page);

#endif
