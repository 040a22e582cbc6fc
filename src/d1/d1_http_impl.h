/* d1_http_impl.h - what both dialects share: a call, from the loop to a database's thread and back */
#ifndef SV_D1_D1_HTTP_IMPL_H
#define SV_D1_D1_HTTP_IMPL_H

#include <pthread.h>

#include "account/account.h"
#include "d1/d1_http.h"
#include "d1/d1_usage.h"

typedef struct transfer transfer; /* d1_transfer_rest.c */

struct sv_d1_http {
    sv_d1 *d;
    sv_loop *loop;
    sv_jobs *jobs;
    uint8_t key[32];       /* signs the addresses of files */
    pthread_mutex_t lock;  /* over transfers and what is in them */
    transfer *transfers;
    sv_d1_usage *usage;    /* what `d1 info` shows */
    int64_t n_transfers;   /* ever */
};

typedef struct sv_d1_call sv_d1_call;
struct sv_d1_call {
    sv_d1_job job;
    sv_d1_http *h;
    sv_req *r;      /* NULL: the client has gone. The loop's */
    sv_arena *arena;
    sv_d1_info db;
    sv_str body;    /* in the arena */
    sv_d1_run run;
    sv_d1_out out;   /* JSON */
    sv_err err;     /* code SV_OK: out is the answer */
    sv_d1_version version, to; /* after it; what is asked for */
    int64_t at_s;
    sv_d1_version previous;
    bool session;
    bool lists_have_no_rows; /* exec() asks so, with a list */
    bool list;               /* it was one */
    void (*work)(sv_d1_call *c, sv_d1_conn *conn);  /* on the database's thread; leaves its error in err */
    void (*answer)(sv_d1_call *c);                  /* on the loop; r is there, and dead after it */
};

/* A call of the request on a database of its account; r is answered where there is none, and NULL returned. With the body in the arena. */
sv_d1_call *sv_d1_call_new(sv_d1_http *h, sv_req *r, const sv_d1_info *db);
void sv_d1_call_submit(sv_d1_call *c); /* on failure `answer` is called at once */
/* The body as statements, and run as c->run says, into c->out. */
void sv_d1_call_query(sv_d1_call *c, sv_d1_conn *conn);
/* Sends before + c->out + after, and lets the call go. */
void sv_d1_call_send(sv_d1_call *c, int status, const char *before, const char *after);

/* Sends a file from its start, `n` bytes; takes fd. r is dead after it. */
void sv_d1_send_file(sv_req *r, int fd, int64_t n, const char *content_type);

sv_rc sv_d1_account_of(sv_req *r, const char **account_id, sv_err *err);
void sv_d1_rest_fail(sv_req *r, const sv_err *err); /* in the envelope */
void sv_d1_transfer_routes(sv_http *api, sv_d1_http *h);
void sv_d1_transfers_free(sv_d1_http *h);

#endif
