/* text_generation.h - one generation for one request: engine events in, a dialect's words out
 *
 * The dialects differ in how a body, an event and a refusal are spelled, and in nothing else: they give a table of writers, and
 * sv_tg_start does the rest: it answers the request, whole or streamed, stops the engine when the client leaves, and meters.
 * Threads: the loop's. */
#ifndef SV_AI_TEXT_GENERATION_H
#define SV_AI_TEXT_GENERATION_H

#include "ai/ai.h"
#include "ai/schema.h"

typedef struct sv_tg sv_tg;

/* What a writer may read. */
typedef struct sv_tg_view {
    const sv_model *model;
    const char *req_id;      /* UUID: cf-ai-req-id */
    int64_t created_s;
    bool usage_event;        /* the client asked for usage in the stream */
    sv_str text;             /* all of it, for `whole`; empty when streaming */
    bool logprobs;           /* the client asked for them: then, for `whole` and `piece`, */
    sv_str probs;            /* of the text's tokens: sv_token_probs_next */
    size_t probs_at;         /* code points of all tokens before */
    sv_finish finish;        /* from `whole` and `last` on */
    sv_usage usage;
} sv_tg_view;

typedef struct sv_tg_dialect sv_tg_dialect;
struct sv_tg_dialect {
    /* Appends the JSON body of a whole answer. */
    void (*whole)(const sv_tg_view *v, sv_buf *out);
    /* Append the JSON of one event: of the first (NULL: none), of a piece of text, of the i-th at the end (false: there is no
     * such), of an error in the middle. */
    void (*first)(const sv_tg_view *v, sv_buf *out);
    void (*piece)(const sv_tg_view *v, sv_str text, sv_buf *out);
    bool (*last)(const sv_tg_view *v, int i, sv_buf *out);
    void (*error)(const sv_tg_view *v, int status, int code, const char *message, sv_buf *out);
    /* Answers the request with a refusal. bad: the field, or "". */
    void (*refuse)(sv_req *r, int status, int code, const char *message, const char *bad);
};

/* Takes over the reference *m and the input *in, and answers r, now or later. */
void sv_tg_start(sv_ai *ai, sv_req *r, const sv_model **m, sv_tg_input *in, const sv_tg_dialect *dialect);

/* A call of ai/run in one of its surfaces: finds the model, checks `body` by the model's request family, starts. body is borrowed.
 * classic and chat are the surface's words for the two families. */
void sv_tg_run(sv_ai *ai, sv_req *r, sv_str model_id, json_t *body, const sv_tg_dialect *classic, const sv_tg_dialect *chat);

/* Refuses before a generation exists; counts the refusal. What is our fault is logged with the request's id, and the client gets no detail. */
void sv_tg_refuse(sv_ai *ai, sv_req *r, const sv_err *err, const char *bad, const sv_tg_dialect *dialect);

/* Writers that several surfaces share: the classic schema (here), chat completions (ai_openai.c). */
void sv_classic_whole(const sv_tg_view *v, sv_buf *out);
void sv_classic_piece(const sv_tg_view *v, sv_str text, sv_buf *out);
bool sv_classic_last(const sv_tg_view *v, int i, sv_buf *out);
void sv_classic_error(const sv_tg_view *v, int status, int code, const char *message, sv_buf *out);
void sv_chat_whole(const sv_tg_view *v, sv_buf *out);
void sv_chat_first(const sv_tg_view *v, sv_buf *out);
void sv_chat_piece(const sv_tg_view *v, sv_str text, sv_buf *out);
bool sv_chat_last(const sv_tg_view *v, int i, sv_buf *out);
void sv_openai_error(const sv_tg_view *v, int status, int code, const char *message, sv_buf *out);

/* Status of an AI error code, by the error table; 0 is none. */
int sv_ai_status_of(int code);

/* The id as the header cf-ai-req-id has it: the request's, written as a UUID. */
void sv_ai_req_id(const sv_req *r, char out[37]);

#endif
