/* template.h - chat templates: the Jinja subset that model files carry, rendered over JSON
 *
 * Safe by construction: no I/O; steps (about a second), memory, depth and output are bounded. Threads: immutable once compiled; any
 * thread renders. */
#ifndef SV_MODELS_TEMPLATE_H
#define SV_MODELS_TEMPLATE_H

#include <jansson.h>

#include "base/err.h"
#include "base/str.h"

typedef struct sv_template sv_template;
/* SV_EFORMAT: "line 3: unknown tag 'macroo'"; over 1 MiB SV_ELIMIT. Unknown filters and tests are refused where a render reaches them. */
SV_MUST sv_rc sv_template_compile(sv_template **out, sv_str source, sv_err *err);
sv_template *sv_template_free(sv_template *t);
SV_DEFINE_AUTO(sv_template, sv_template_free)
/* context: an object with messages, bos_token, eos_token, add_generation_prompt, tools, ... The template's raise_exception(msg)
 * is SV_EINVAL with its message; other failures are SV_EINVAL with Python's words and the line. Output over out's cap or too many
 * steps: SV_ELIMIT. Appends to out; on failure out is untouched. trim_blocks and lstrip_blocks are on, as
 * the transformers library renders. */
SV_MUST sv_rc sv_template_render(const sv_template *t, const json_t *context, sv_buf *out, sv_err *err);

#endif
