/* links: ai */
/* ai_schema_fuzz.c - any bytes as the body of a text generation call, in each of the three request families: taken with every value in
 * its range, or refused with a number and a sentence */
#include <stdint.h>
#include <string.h>

#include "account/limits.h"
#include "ai/schema.h"
#include "base/err.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_taken(sv_tg_input *in)
{
    const sv_sampling *s = &in->sampling;
    SV_ASSERT(in->max_tokens >= 1 && in->max_tokens <= sv_limit_value(SV_LIMIT_AI_MAX_TOKENS));
    SV_ASSERT(s->temperature >= 0 && s->temperature <= 5 && s->top_p > 0 && s->top_p <= 2 && s->top_k >= 0);
    SV_ASSERT(s->frequency_penalty >= -2 && s->frequency_penalty <= 2 && s->presence_penalty >= -2 && s->presence_penalty <= 2);
    SV_ASSERT(s->repetition_penalty >= 0 && s->repetition_penalty <= 2);
    SV_ASSERT(s->n_logit_bias <= SV_MAX_LOGIT_BIAS && (s->n_logit_bias == 0 || s->logit_bias) && s->top_logprobs <= SV_MAX_TOP_LOGPROBS);
    for (int32_t b = 0; b < s->n_logit_bias; b++)
        SV_ASSERT(s->logit_bias[b].token >= 0 && s->logit_bias[b].bias >= -100 && s->logit_bias[b].bias <= 100);
    SV_ASSERT((in->messages != NULL) != (in->prompt.p != NULL));
    size_t i;
    json_t *m;
    json_array_foreach (in->messages, i, m)
        SV_ASSERT(sv_json_cstr(m, "role") && sv_json_cstr(m, "content"));
    for (const char **stop = in->stop; *stop; stop++)
        SV_ASSERT(**stop);
    sv_tg_input_done(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static sv_rc (*const families[])(sv_tg_input *, json_t *, double, sv_err *) = {sv_schema_classic, sv_schema_chat, sv_schema_completion};
    json_t *body = NULL;
    sv_err err = {0};
    if (sv_json_parse(&body, (sv_str){(const char *)p, n}, &err) != SV_OK) {
        SV_ASSERT(err.msg[0]);
        return 0;
    }
    for (size_t i = 0; i < SV_LEN(families); i++) {
        sv_tg_input in = {0};
        err = (sv_err){0};
        if (families[i](&in, body, 0.6, &err) == SV_OK)
            check_taken(&in);
        else
            SV_ASSERT(err.msg[0] && err.api_code && !in.root && !in.messages);
    }
    json_decref(body);
    return 0;
}
