/* links: models */
/* template_fuzz.c - chat templates that a stranger made, over a chat that another one sent
 *
 * The input is the template, or, with a NUL in it, the template before it and the JSON context after. */
#include <jansson.h>

#include "base/json.h"
#include "models/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static const char usual[] = "{\"messages\": [{\"role\": \"user\", \"content\": \" \xc3\xa9,b \"}, {\"role\": \"assistant\", \"content\": null,"
                            " \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"x\": [1, 2.5, true]}}}]}],"
                            " \"bos_token\": \"<s>\", \"add_generation_prompt\": true}";

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_err err = {0};
    json_t *context = NULL;
    SV_AUTO(sv_template_freep) sv_template *t = NULL;
    SV_AUTO(sv_buf_donep) sv_buf out;
    const uint8_t *nul = n ? memchr(p, 0, n) : NULL;
    sv_buf_init(&out, 1 << 20);
    sv_str source = {(const char *)p, nul ? (size_t)(nul - p) : n};
    sv_str json = nul ? (sv_str){(const char *)nul + 1, n - source.n - 1} : SV_STR(usual);
    if (sv_template_compile(&t, source, &err) != SV_OK || sv_json_parse(&context, json, &err) != SV_OK) {
        SV_ASSERT(err.msg[0] != '\0');
        return 0;
    }
    if (sv_template_render(t, context, &out, &err) != SV_OK)
        SV_ASSERT(err.code != SV_OK && out.n == 0);
    else
        SV_ASSERT(out.n <= 1 << 20 && sv_utf8_valid(sv_buf_str(&out)));
    json_decref(context);
    return 0;
}
