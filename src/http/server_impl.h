/* server_impl.h - what server.c (listeners, drain), conn.c (bytes in and out) and req.c (request and answer) share
 *
 * Who owns what:
 *   sv_http   listeners and connections (doubly linked)
 *   sv_conn   its socket, both buffers, parser, timer, and one sv_req that is used again for each request
 *   sv_req    owned by its connection; by nobody but its job once the connection has gone while the job runs
 *
 * Nothing that a handler calls frees a connection or calls a handler back: such calls leave marks on the connection and
 * put it on the server's list of touched ones, which conn_run looks through at the end of the turn. */
#ifndef SV_HTTP_SERVER_IMPL_H
#define SV_HTTP_SERVER_IMPL_H

#include <llhttp.h>

#include "http/router_impl.h"
#include "http/server.h"

typedef struct sv_conn sv_conn;
typedef struct mailbox mailbox; /* finished jobs on their way back to the loop; server.c */

#define SV_CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

enum {
    IN_FIRST = 4096,          /* first size of a connection's read buffer; grows up to the limit of the head */
    BODY_CHUNK = 64 << 10,    /* bytes read at once while a body comes in */
    DROP_MAX = 64 << 10,      /* of an unwanted body: up to here read and dropped, over it the connection ends */
    OUT_KEEP = 16 << 10,      /* an empty write buffer over this size is given back */
    OUT_EAGER = 64 << 10,     /* over this, sv_req_write tries the socket at once */
    OUT_HIGH = 256 << 10,     /* no next pipelined request is begun over this */
    MAX_HEADERS = 256,
    LINGER_MS = 3000,
};

typedef struct byte_buf { char *p; size_t pos, n, cap; } byte_buf; /* bytes [pos, n) count */

typedef struct header_at { uint32_t name, n_name, value, n_value; } header_at; /* offsets from the head's start */

typedef struct job_answer {
    int status;
    char *reason, *content_type, *body; /* owned */
    size_t n_body;
    bool given;
} job_answer;

struct sv_req {
    sv_http *s;
    sv_conn *c; /* NULL: the client went while the job ran */
    sv_arena *arena;
    const char *base; /* the head's first byte, pinned while the request lives */
    char *owned_head; /* set when the head's buffer came over to the request (client gone, job running) */
    header_at *headers;
    int n_headers, cap_headers;
    uint32_t url, n_url;
    sv_str target, path, query;
    bool in_name, in_value; /* where the parser is */
    bool live;          /* from the head's end to the answer's end */
    bool closing;       /* inside on_close: calls are ignored */
    bool http10, expect; /* expect: the client waits for "100 Continue" */
    bool wants_keep;     /* the client would send another request on this connection */
    bool drop_body;      /* nobody wants the body, or what is left of it */
    bool collect, handled; /* the body is kept for the handler; the handler has been called */
    uint8_t method;
    uint64_t body_declared; /* Content-Length, or UINT64_MAX for chunked */

    sv_match match;
    void *listener, *user;
    char id_hex[33];

    /* body */
    sv_buf body;       /* collected in pieces; or */
    sv_str body_view;  /* whole, where it lies in the read buffer */
    uint64_t n_body;   /* bytes so far */
    sv_body_fn on_body;
    void *on_body_arg;
    bool body_paused, body_end_told, too_large;

    /* answer */
    int status;
    sv_buf extra;            /* header lines added by the handler */
    bool has_date, has_type; /* ... among them */
    bool chunked, no_body;
    int64_t left;            /* bytes still owed under Content-Length, -1: not counted */
    void (*on_drain)(sv_req *r, void *arg);
    void *on_drain_arg;
    void (*on_close)(sv_req *r, void *arg);
    void *on_close_arg;

    bool in_job;
    sv_entry job_entry;
    job_answer job;
    mailbox *mail;
    sv_req *next_done; /* on the server's list of finished jobs */
};

typedef enum parse_state { P_HEAD, P_BODY, P_DONE } parse_state;

struct sv_conn {
    sv_http *s;
    sv_listener *l; /* NULL: gone, or adopted */
    void *listener;
    sv_conn *prev, *next;  /* all of the server */
    sv_conn *next_touched; /* see `touched` */
    int fd;
    sv_watch *watch;
    uint32_t events; /* what the watch asks for */
    sv_timer *timer;
    int64_t armed_ms, read_due_ms, write_due_ms; /* 0: none */

    llhttp_t parser;
    parse_state parse;
    byte_buf in;      /* holds the head of the request in progress, and what came with it */
    size_t head_start;
    byte_buf more;    /* what came later, while `in` is pinned */
    uint64_t n_skip;  /* bytes of an unwanted body dropped so far */

    byte_buf out;
    sv_req *req;
    bool keep_alive;  /* after the present answer */
    bool touched, busy;
    bool half_closed; /* the client will send nothing more, but still reads (unix sockets tell) */
    bool broken;      /* the socket failed, or is another's (hijack): close at the next look */
    bool cut;         /* the answer stops short: write what waits, then close without its end */
    bool reset_on_cut;
    bool last;        /* close once `out` is written */
    bool lingering;   /* our side is shut; what still comes is dropped for a moment */
    bool ending;      /* its listener is gone: no further request */
    bool unread_end;  /* bytes may still come after the last answer: shut, wait, then close */
    bool eof, gone, tcp;
    bool zombie;      /* closed while on the list of touched ones */
    bool head_done;   /* the parser has seen a whole head that is not dispatched yet */
    bool owes;        /* it was paused at the last byte there is: it may still have the message's end to tell */
    bool got_bytes, body_progress;
    int refuse_status;
    const char *refuse_text;
    uint64_t n_heads, due_key;
    bool wrote;       /* something was queued since on_drain was last told */
};

struct sv_listener {
    sv_http *s;
    sv_listener *next;
    int fd;
    sv_watch *watch;
    void *arg;
    bool tcp;
};

struct sv_http {
    sv_loop *loop;
    sv_http_opts o;
    sv_router *router;
    sv_listener *listeners;
    sv_conn *conns, *touched;
    bool turn_pending, accept_paused, draining, in_free;
    sv_timer *turn_timer; /* run_touched; a timer of 0 ms and not a post, which would cost a write to an eventfd */
    sv_timer *accept_timer, *drain_timer;
    void (*drained_fn)(void *);
    void *drained_arg;
    mailbox *mail;
    sv_http_stats stats;
    uint64_t id_key, n_ids;
    int64_t date_s; /* the second that `date` was made for */
    char date[48];  /* "Date: ...\r\n" */
    size_t n_date;
    sv_buf scratch; /* heads of answers are put together here */
};

/* server.c */
sv_conn *sv_http_adopt(sv_http *s, int fd, sv_listener *l, bool tcp); /* a connected, non-blocking fd */
void sv_http_conn_gone(sv_http *s);                       /* accept again, finish the drain */
void sv_http_touch(sv_conn *c);                           /* conn_run at the end of this turn */
const char *sv_http_date(sv_http *s, size_t *n);
bool sv_http_job_start(sv_req *r);                        /* false: the pool is full */

/* conn.c */
extern const llhttp_settings_t sv_conn_parser_settings;
void sv_conn_on_event(void *arg, int fd, uint32_t events);
void sv_conn_on_timer(void *arg);
void sv_conn_run(sv_conn *c);   /* may free c */
void sv_conn_close(sv_conn *c); /* tells on_close and after; frees c */
bool sv_conn_idle(const sv_conn *c);
bool sv_conn_put(sv_conn *c, const void *p, size_t n); /* false: memory is gone, c is marked broken */
bool sv_conn_flush(sv_conn *c);                        /* false: marked broken */
void sv_conn_write_now(sv_conn *c, const char *p, size_t n); /* behind what waits; the rest is queued */
void sv_conn_refuse(sv_conn *c, int status, const char *text); /* an answer without a request; closes after it */

/* req.c */
sv_req *sv_req_new(sv_http *s);
sv_req *sv_req_free(sv_req *r);
void sv_req_reset(sv_req *r);
bool sv_req_head_done(sv_req *r);         /* splits the target, gives the id; false: a target that we do not serve */
void sv_req_gone(sv_req *r);              /* on_close (once) and after; the request is dead */
void sv_req_job_answered(sv_req *r);      /* loop thread: sends what the job left */
const char *sv_http_reason(int status);

#endif
