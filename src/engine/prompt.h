/* prompt.h - from messages or text to the tokens that a model reads
 * Threads: immutable once loaded; any thread builds. */
#ifndef SV_ENGINE_PROMPT_H
#define SV_ENGINE_PROMPT_H

#include "base/err.h"
#include "engine/wire.h"
#include "models/llm.h"

typedef struct sv_prompts sv_prompts; /* a model's way of reading */

sv_prompts *sv_prompts_new(sv_llm *m); /* takes a reference */
sv_prompts *sv_prompts_free(sv_prompts *p); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_prompts, sv_prompts_free)

/* Appends the tokens of a request's messages or prompt to *out ({0} before), at least one. BOS is there where the model wants it, once.
 * SV_ELIMIT (api_code 5021) when they and max_tokens are over the window, with both counts; SV_EINVAL for messages that are none, and for
 * what the template itself refuses. */
SV_MUST sv_rc sv_prompts_build(const sv_prompts *p, sv_tokens *out, const sv_wire_gen *g, sv_err *err);

/* The text of the messages as the model sees it, appended to *out. A file without a template has a plain one; one whose template does not compile
 * refuses (SV_EINVAL, with what is wrong with it). */
SV_MUST sv_rc sv_prompts_render(const sv_prompts *p, sv_buf *out, const json_t *messages, const json_t *tools, sv_err *err);

#endif
