/* inspect.c - what a model file is
 *
 * Opening maps the file and reads its head: tens of milliseconds for the largest vocabularies, whatever the weights weigh. Each family of models
 * says by a glance at the head whether a file is one of its own; language models come last and take what nobody claimed, so that what is no model at
 * all is refused in their words. */
#include "engine/inspect.h"

#include <stdio.h>
#include <string.h>

#include "models/encoder.h"
#include "models/llm.h"
#include "models/seq2seq.h"
#include "models/vision.h"
#include "models/whisper.h"

static const char *const kinds[SV_N_KINDS] = {
    [SV_KIND_GENERATOR] = "language model", [SV_KIND_ENCODER] = "text encoder", [SV_KIND_CLASSIFIER] = "text classifier", [SV_KIND_RERANKER] = "reranker",
    [SV_KIND_SPEECH] = "speech recogniser", [SV_KIND_IMAGES] = "picture classifier", [SV_KIND_OBJECTS] = "detector of objects", [SV_KIND_EYES] = "picture encoder",
    [SV_KIND_TRANSLATOR] = "translator", [SV_KIND_SUMMARISER] = "summariser"};

const char *sv_model_kind_name(sv_model_kind k) { return kinds[k]; }

bool sv_model_kind_named(const char *name, sv_model_kind *out)
{
    for (int k = 0; k < SV_N_KINDS; k++)
        if (strcmp(kinds[k], name) == 0) {
            *out = (sv_model_kind)k;
            return true;
        }
    return false;
}

static void name_all(sv_model_facts *f, const char *arch, const char *name, const char *weights)
{
    snprintf(f->arch, sizeof f->arch, "%s", arch);
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(f->weights, sizeof f->weights, "%s", weights);
}

/* One score for a pair is what rerankers have; more classes are labels of a text. */
static sv_rc inspect_encoder(const char *path, sv_model_facts *out, sv_err *err)
{
    SV_AUTO(sv_encoder_closep) sv_encoder *e = NULL;
    if (sv_encoder_open(&e, path, err) != SV_OK)
        return err->code;
    const sv_encoder_info *i = sv_encoder_get_info(e);
    *out = (sv_model_facts){.kind = i->n_labels == 0 ? SV_KIND_ENCODER : i->n_labels == 1 ? SV_KIND_RERANKER : SV_KIND_CLASSIFIER,
                            .n_params = i->n_params, .size_bytes = i->size_bytes, .n_ctx = i->n_ctx, .n_vocab = i->n_vocab,
                            .dim = i->n_labels ? i->n_labels : i->n_embd, .cls_pooling = i->pooling == SV_POOL_CLS,
                            .last_pooling = i->pooling == SV_POOL_LAST};
    name_all(out, i->arch, i->name, i->weights);
    return SV_OK;
}

static sv_rc inspect_whisper(const char *path, sv_model_facts *out, sv_err *err)
{
    SV_AUTO(sv_whisper_closep) sv_whisper *m = NULL;
    if (sv_whisper_open(&m, path, err) != SV_OK)
        return err->code;
    const sv_whisper_info *i = sv_whisper_get_info(m);
    *out = (sv_model_facts){.kind = SV_KIND_SPEECH, .n_params = i->n_params, .size_bytes = i->size_bytes, .n_vocab = i->n_vocab};
    name_all(out, "whisper", i->name, i->weights);
    return SV_OK;
}

static sv_rc inspect_vision(const char *path, sv_model_facts *out, sv_err *err)
{
    static const sv_model_kind kinds_of[] = {[SV_VISION_VECTORS] = SV_KIND_EYES, [SV_VISION_CLASSES] = SV_KIND_IMAGES, [SV_VISION_BOXES] = SV_KIND_OBJECTS};
    SV_AUTO(sv_vision_closep) sv_vision *v = NULL;
    if (sv_vision_open(&v, path, err) != SV_OK)
        return err->code;
    const sv_vision_info *i = sv_vision_get_info(v);
    *out = (sv_model_facts){.kind = kinds_of[i->task], .n_params = i->n_params, .size_bytes = i->size_bytes, .dim = i->n_labels};
    name_all(out, i->arch, i->name, i->weights);
    return SV_OK;
}

static sv_rc inspect_llm(const char *path, sv_model_facts *out, sv_err *err)
{
    SV_AUTO(sv_llm_unrefp) sv_llm *m = NULL;
    if (sv_llm_open(&m, path, err) != SV_OK)
        return err->code;
    const sv_llm_info *i = sv_llm_get_info(m);
    *out = (sv_model_facts){.kind = SV_KIND_GENERATOR, .n_params = i->n_params, .size_bytes = i->size_bytes, .n_ctx = i->n_ctx, .n_vocab = i->n_vocab,
                            .has_template = sv_llm_template(m) != NULL};
    name_all(out, i->arch, i->name, i->weights);
    return SV_OK;
}

static sv_rc inspect_seq2seq(const char *path, sv_model_facts *out, sv_err *err)
{
    SV_AUTO(sv_seq2seq_closep) sv_seq2seq *m = NULL;
    if (sv_seq2seq_open(&m, path, err) != SV_OK)
        return err->code;
    const sv_seq2seq_info *i = sv_seq2seq_get_info(m);
    *out = (sv_model_facts){.kind = i->translates ? SV_KIND_TRANSLATOR : SV_KIND_SUMMARISER, .n_params = i->n_params, .size_bytes = i->size_bytes,
                            .n_ctx = i->n_ctx, .n_vocab = i->n_vocab};
    name_all(out, i->arch, i->name, i->weights);
    return SV_OK;
}

static const struct { bool (*is)(const char *path); sv_rc (*inspect)(const char *path, sv_model_facts *out, sv_err *err); } families[] = {
    {sv_encoder_is, inspect_encoder}, {sv_whisper_is, inspect_whisper}, {sv_vision_is, inspect_vision}, {sv_seq2seq_is, inspect_seq2seq},
};

sv_rc sv_engine_inspect(const char *path, sv_model_facts *out, sv_err *err)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (families[i].is(path))
            return families[i].inspect(path, out, err);
    return inspect_llm(path, out, err);
}
