/* client.h - outbound HTTP over libcurl on an sv_loop: streamed both ways, cancelled at once
 * Threads: the loop's. TLS, DNS, proxies and HTTP/2 are curl's trade. */
#ifndef SV_HTTP_CLIENT_H
#define SV_HTTP_CLIENT_H

#include "base/err.h"
#include "base/loop.h"
#include "base/str.h"

typedef struct sv_client sv_client; /* a curl multi handle with its connection pool */
typedef struct sv_fetch sv_fetch;   /* one exchange */

typedef struct sv_fetch_opts {
    const char *method, *url;
    const char *const *headers; /* "Name: value", NULL-terminated; borrowed during sv_fetch_start */
    sv_str body;                /* whole body, borrowed until on_done; or */
    bool stream_body;           /* true: body by sv_fetch_write / sv_fetch_write_end */
    int64_t timeout_ms;         /* whole exchange; 0: none */
    const char *unix_path;      /* connect here instead of to the URL's host; NULL: no */
    bool public_only;           /* refuse loopback, private and link-local addresses after DNS (user code's fetch) */
    /* Callbacks on the loop's thread. on_head once; on_data any times; on_done exactly once, last, rc SV_OK when the
     * exchange is complete, also with status 500. */
    void (*on_head)(sv_fetch *f, int status, sv_str reason, void *arg);
    void (*on_header)(sv_fetch *f, sv_str name, sv_str value, void *arg); /* before on_head */
    void (*on_data)(sv_fetch *f, const char *p, size_t n, void *arg);
    void (*on_writable)(sv_fetch *f, void *arg); /* stream_body: buffer is empty again */
    void (*on_done)(sv_fetch *f, sv_rc rc, const sv_err *err, void *arg);
    void *arg;
} sv_fetch_opts;

sv_client *sv_client_new(sv_loop *loop);
sv_client *sv_client_free(sv_client *c); /* cancels what is open, without on_done */
SV_MUST sv_rc sv_fetch_start(sv_fetch **out, sv_client *c, const sv_fetch_opts *opts, sv_err *err);
size_t sv_fetch_write(sv_fetch *f, const char *p, size_t n); /* bytes waiting */
void sv_fetch_write_end(sv_fetch *f);
void sv_fetch_pause(sv_fetch *f, bool pause); /* stop reading the answer */
void sv_fetch_cancel(sv_fetch *f); /* no callback after it; f is dead */

#endif
