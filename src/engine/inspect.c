/* inspect.c - what a model file is
 *
 * Opening maps the file and reads its head: tens of milliseconds for the largest vocabularies, whatever the weights weigh. */
#include "engine/inspect.h"

#include <stdio.h>

#include "models/llm.h"

sv_rc sv_engine_inspect(const char *path, sv_model_facts *out, sv_err *err)
{
    SV_AUTO(sv_llm_unrefp) sv_llm *m = NULL;
    if (sv_llm_open(&m, path, err) != SV_OK)
        return err->code;
    const sv_llm_info *i = sv_llm_get_info(m);
    *out = (sv_model_facts){.n_params = i->n_params, .size_bytes = i->size_bytes, .n_ctx = i->n_ctx, .n_vocab = i->n_vocab,
                            .has_template = sv_llm_template(m) != NULL};
    snprintf(out->arch, sizeof out->arch, "%s", i->arch);
    snprintf(out->name, sizeof out->name, "%s", i->name);
    snprintf(out->weights, sizeof out->weights, "%s", i->weights);
    return SV_OK;
}
