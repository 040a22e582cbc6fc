/* task.h - what a model can be asked: one table of tasks behind ai/run, the binding and OpenAI's API
 *
 * A surface (REST, binding, OpenAI's dialect) finds the model and hands its input to sv_ai_run; the row of the model's task checks it and
 * computes. Everything that is the same for all tasks is done here: finding the row, refusals in the surface's words, the end when the client
 * leaves, meters, the envelope.
 *
 * To add a task:
 *   1. engine/inspect.h: a kind of model, and in inspect.c what recognises its files and tells their facts.
 *   2. a file here, thing.c, with `check` and `run` of the row below, declared in this header's last section.
 *   3. a row in `tasks` of task.c. The catalogue then imports files of that kind under ids of that task (or under ids of one's own), lists say the
 *      task, and all surfaces reach it.
 * check takes what it needs of the input to c->state; run starts a request of the engine with c as its arg, keeps it in c->gen, and on its end
 * sets c->gen = NULL and calls exactly one of sv_ai_answer and sv_ai_fail. text_embeddings.c is the shortest example.
 * Threads: the loop's. */
#ifndef SV_AI_TASK_H
#define SV_AI_TASK_H

#include "ai/ai.h"
#include "base/json.h"

typedef struct sv_ai_call sv_ai_call;

/* An input as it came. json and bytes may both be there: binary inputs of a Worker have their other fields beside them. */
typedef struct sv_ai_input {
    json_t *json;       /* an object, borrowed; or NULL */
    sv_str bytes;       /* a body that is no JSON; p NULL: none. Borrowed until check returns */
    sv_str media_type;  /* of bytes: what content-type says, or empty */
} sv_ai_input;

/* How a surface speaks. */
typedef struct sv_surface {
    bool envelope; /* whole answers are the result of an envelope */
    /* Answers with a refusal. bad: the field, or "". */
    void (*refuse)(sv_req *r, int status, int code, const char *message, const char *bad);
} sv_surface;

typedef struct sv_task {
    const char *name;   /* as the catalogue has it: "Text Embeddings" */
    const char *shape;  /* request family (sv_model.shape) that this row serves; NULL: all that no other row of the task names */
    const char *own_shape; /* the family of models that the catalogue does not know */
    uint32_t kinds;     /* models that serve it: bits 1 << sv_model_kind */
    bool binary;        /* takes bytes */
    bool streams;       /* the answer may be a stream of events; others are whole */
    /* Fills c->state and c->free_state. A refusal: api_code 5006 where it is the input's fault; c->bad may name the field. */
    sv_rc (*check)(sv_ai_call *c, const sv_ai_input *in, sv_err *err);
    void (*run)(sv_ai_call *c);
    json_t *(*describe)(const sv_model *m); /* {"input": schema, "output": schema}: a new reference */
} sv_task;

/* The row for a model, by its task and shape; NULL: this release does not run it. */
const sv_task *sv_task_of(const sv_model *m);
/* The row that a model of that kind gets under an id that the catalogue does not know; NULL: none is served by such models. */
const sv_task *sv_task_of_kind(sv_model_kind kind);

/* Who waits for a call that is no request: an entry of a batch. Called once, last; not when the daemon ends. text: the result's JSON, or what went wrong. */
typedef struct sv_ai_end { bool ok; int status, code; sv_str text; sv_usage usage; } sv_ai_end;
typedef void (*sv_ai_end_fn)(const sv_ai_end *end, void *arg);

/* One call, from a checked input to its one end. The task's, until then. */
struct sv_ai_call {
    sv_ai *ai;
    sv_req *r;                /* NULL: ended(…, ended_arg) is told instead. Such calls do not stream */
    sv_ai_end_fn ended;
    void *ended_arg;
    const sv_task *task;
    const sv_model *model;    /* owned reference */
    const sv_surface *surface;
    char req_id[37];          /* the header cf-ai-req-id */
    char tenant[33];          /* account id */
    char bad[64];             /* after a refused check: the field */
    sv_usage usage;           /* metered at the end, whatever way it came */
    double minutes;           /* of a recording; for prices by the minute */
    bool failed;
    struct sv_gen *gen;       /* the engine's request; canceled with the call. NULL exactly when the engine will call no more */
    void *state;              /* the task's */
    void (*free_state)(void *state);
    struct sv_ai_call *next, **prev; /* ai->calls */
};

/* A call of ai/run: finds the model and its task, checks, runs. */
void sv_ai_run(sv_ai *ai, sv_req *r, sv_str model_id, const sv_ai_input *in, const sv_surface *s);
/* Of a model that was found (*m is taken over), by a row of the caller's choice. */
void sv_ai_run_task(sv_ai *ai, sv_req *r, const sv_model **m, const sv_task *task, const sv_ai_input *in, const sv_surface *s);

/* The same with queueRequest: an asynchronous batch (batch.h). */
void sv_ai_queue(sv_ai *ai, sv_req *r, sv_str model_id, const json_t *body, const sv_surface *s);

/* A call for nobody's request: an object as its input. It may end inside. */
void sv_ai_run_for(sv_ai *ai, const char *tenant, sv_str model_id, json_t *input, sv_ai_end_fn ended, void *arg);

/* The ends. c is gone after each. */
void sv_ai_answer(sv_ai_call *c, sv_str json);                          /* 200; in the envelope where the surface has one */
void sv_ai_answer_buf(sv_ai_call *c, const sv_buf *json);               /* the same; a buffer over its cap fails the call */
void sv_ai_fail(sv_ai_call *c, const sv_err *err);                      /* refused in the surface's words, counted, what is ours is logged */
sv_req *sv_ai_let_go(sv_ai_call *c);                                    /* the task answered by itself: a stream */
void sv_ai_cancel_all(sv_ai *ai);                                       /* without answers */

/* An answer without a call: 200, in the envelope where the surface has one. */
void sv_ai_send(sv_req *r, sv_str json, const sv_surface *s);
/* Refuses before a call exists; counts the refusal. */
void sv_ai_refuse(sv_ai *ai, sv_req *r, const sv_err *err, const char *bad, const sv_surface *s);

/* What a client is told of an error. What is its own doing keeps its words; what is ours is logged (m may be NULL), and a message that may name files
 * stays here. */
typedef struct sv_ai_verdict { int status, code; char message[480]; } sv_ai_verdict;
sv_ai_verdict sv_ai_judge(const sv_req *r, const sv_model *m, const sv_err *err);
int sv_ai_status_of(int code); /* status of an AI error code, by the error table; 0 is none */

/* The id as the header cf-ai-req-id has it: the request's, written as a UUID. */
void sv_ai_req_id(const sv_req *r, char out[37]);

/* ---- the rows' functions ---- */

sv_rc sv_tg_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err); /* text_generation.c */
void sv_tg_run(sv_ai_call *c);
json_t *sv_tg_describe(const sv_model *m);
sv_rc sv_embed_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err); /* text_embeddings.c */
sv_rc sv_embed_check_openai(sv_ai_call *c, const sv_ai_input *in, sv_err *err);
void sv_embed_run(sv_ai_call *c);
json_t *sv_embed_describe(const sv_model *m);
sv_rc sv_classify_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err); /* text_classification.c */
sv_rc sv_rerank_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err);
void sv_classify_run(sv_ai_call *c); /* of both */
json_t *sv_classify_describe(const sv_model *m);
json_t *sv_rerank_describe(const sv_model *m);
sv_rc sv_translate_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err); /* text_rewriting.c */
sv_rc sv_summarise_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err);
void sv_rewrite_run(sv_ai_call *c); /* of both */
json_t *sv_translate_describe(const sv_model *m);
json_t *sv_summarise_describe(const sv_model *m);
sv_rc sv_hear_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err); /* speech_recognition.c */
sv_rc sv_hear_check_openai(sv_ai_call *c, const sv_ai_input *in, sv_err *err);
sv_rc sv_hear_check_translation(sv_ai_call *c, const sv_ai_input *in, sv_err *err);
void sv_hear_run(sv_ai_call *c);
json_t *sv_hear_describe(const sv_model *m);
sv_rc sv_see_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err); /* picture_tasks.c */
sv_rc sv_find_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err);
void sv_see_run(sv_ai_call *c); /* of both */
json_t *sv_see_describe(const sv_model *m);
json_t *sv_find_describe(const sv_model *m);

#endif
