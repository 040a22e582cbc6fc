/* text_generation.h - one generation for one call: engine events in, a dialect's words out
 *
 * The dialects differ in how a body and an event are spelled, and in nothing else: they give a table of writers, and the rest is done here:
 * the call is answered, whole or streamed.
 * Threads: the loop's. */
#ifndef SV_AI_TEXT_GENERATION_H
#define SV_AI_TEXT_GENERATION_H

#include "ai/ai.h"
#include "ai/schema.h"
#include "ai/task.h"

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
};
extern const sv_tg_dialect sv_tg_classic, sv_tg_chat; /* of ai/run: the classic schema (text_generation.c), chat completions (ai_openai.c) */

/* OpenAI's routes are rows of their own: another check, the same run. A check ends with this: it takes over *in. */
void sv_tg_prepare(sv_ai_call *c, sv_tg_input *in, const sv_tg_dialect *d);

#endif
