/* r2_call.h - one call of any dialect, on its way from the loop to the store and back
 *
 * A call outlives its request (a client may leave while the store works), so that everything in it is a copy, in its arena.
 * Threads: the loop's, but for the functions that say so. */
#ifndef SV_R2_R2_CALL_H
#define SV_R2_R2_CALL_H

#include "base/json.h"
#include "http/body_files.h"
#include "r2/r2_body.h"
#include "r2/r2_http.h"

typedef struct sv_r2_call sv_r2_call;
typedef void (*sv_r2_answer)(sv_req *r, sv_r2_call *c);

struct sv_r2_call {
    sv_r2_http *h;
    void (*fail)(sv_req *r, sv_r2_call *c); /* answers c->err */
    void *own;                              /* the dialect's, in the arena */
    sv_arena *arena;
    sv_str account, bucket, key;
    sv_r2_get get;
    sv_r2_write write;
    sv_r2_intake in;
    sv_r2_piece piece;
    sv_spool *spool;
    sv_ticket *ticket;
    sv_r2_obj obj;
    sv_r2_reader *body;
    int64_t at, n;
    bool not_modified;
    json_t *http, *custom, *json;           /* owned */
    sv_buf answer;
    sv_rc (*ready)(sv_r2_call *c);
    sv_r2_answer back;
    sv_err err;                             /* code 0: no error yet */
};

sv_r2_call *sv_r2_call_new(sv_r2_http *h, sv_str account, sv_str bucket, sv_str key, void (*fail)(sv_req *r, sv_r2_call *c));
void sv_r2_call_free(sv_r2_call *c);
sv_str sv_r2_call_copy(sv_r2_call *c, sv_str s); /* in the arena, with a NUL behind it; {NULL, 0} stays */
/* The tags of an If-Match or If-None-Match header. */
void sv_r2_call_etags(sv_r2_call *c, sv_str header, const sv_r2_etag **out, size_t *n, bool *has);

/* Runs work(c) in the pool; then answers with c->err, or calls `answer`. c is taken. */
void sv_r2_call_work(sv_r2_call *c, sv_req *r, void (*work)(void *call), sv_r2_answer answer);
/* Takes the body in through c->in, from a stream route; then ready(c) in the pool, which fills c->write's op; a PUT or PUT_PART gets its
 * bytes, its sums and its key of encryption from the intake. Then the write is submitted (op -1: ready has done all there is to do), and
 * `answer` called, or c->err answered. c is taken. */
void sv_r2_call_receive(sv_r2_call *c, sv_req *r, sv_rc (*ready)(sv_r2_call *c), sv_r2_answer answer);
enum { SV_R2_NOTHING = -1 };
/* In the pool, for `work`: looks the object up as c->get says. */
void sv_r2_call_get(void *call);
/* The rest of an answer whose sv_req_begin promised before + c->n bytes: what `before` has, then the object. The call's c->body is taken. */
void sv_r2_call_send(sv_req *r, sv_r2_call *c, sv_str before);
/* c->answer as a whole answer. */
void sv_r2_call_send_answer(sv_req *r, sv_r2_call *c, int status, const char *type);

#endif
