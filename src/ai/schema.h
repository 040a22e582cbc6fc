/* schema.h - from a client's JSON to a checked text generation input
 *
 * Three request families: the classic one of ai/run, chat completions, and text completions. Each field is checked for type and range;
 * a refusal has api_code 5006 (5005 for a LoRA), names the field as a JSON pointer and the limit, in the hosted service's words. Members
 * that the schemas do not name are ignored, as there. What is named there and cannot be done here yet (tools, JSON mode, several answers)
 * is refused, never ignored.
 * Threads: values; any. */
#ifndef SV_AI_SCHEMA_H
#define SV_AI_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "engine/client.h"

enum { SV_TG_MAX_STOPS = 8 }; /* room; the limit is SV_LIMIT_AI_STOPS */

typedef struct sv_tg_input {
    json_t *root;        /* owned: what the views below point into */
    json_t *messages;    /* owned; [{role, content: string}], NULL in the raw prompt form */
    sv_str prompt;       /* without template */
    bool stream;
    bool usage_event;    /* stream_options.include_usage; the classic stream always has it */
    bool capped;         /* max_tokens was given; else it is the default, cut to what is left of the window */
    int32_t max_tokens;
    sv_sampling sampling;
    sv_logit_bias *bias; /* owned: what sampling.logit_bias points to, or NULL */
    const char *stop[SV_TG_MAX_STOPS + 1]; /* NULL-terminated, borrowed from root */
    char bad[64];        /* after a refusal: the field, "max_tokens", or "" */
} sv_tg_input;

void sv_tg_input_done(sv_tg_input *in); /* all zeros is fine */

/* Take a new reference of `body` and fill *out. On failure only out->bad is set and *out needs no done.
 * temperature: what holds when the request has none. */
SV_MUST sv_rc sv_schema_classic(sv_tg_input *out, json_t *body, double temperature, sv_err *err);
SV_MUST sv_rc sv_schema_chat(sv_tg_input *out, json_t *body, double temperature, sv_err *err);
SV_MUST sv_rc sv_schema_completion(sv_tg_input *out, json_t *body, double temperature, sv_err *err);

/* The JSON Schemas of a model's input and output, for models/schema: a new reference. classic or chat. */
json_t *sv_schema_describe(bool chat);

#endif
