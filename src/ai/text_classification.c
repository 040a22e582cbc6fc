/* text_classification.c - scores of a text's classes, and contexts ranked by a query
 *
 *     text                     [{label, score}], in the model's order of classes; scores are a softmax
 *     query, contexts, top_k   {response: [{id, score}]}, best first; scores are a sigmoid
 *
 * Both are logits of a head over the first token; a reranker reads query and context as a pair. What is too long is cut: of a pair the longer one. */
#include "ai/task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "account/limits.h"
#include "ai/ai_impl.h"
#include "ai/fields.h"
#include "base/floats.h"
#include "base/mem.h"
#include "engine/client.h"

enum { MAX_ANSWER = 4 << 20 };

typedef struct ask {
    json_t *texts;  /* owned: a text, or pairs of query and context */
    int64_t top;    /* of a ranking; 0: it is a classification */
} ask;

static void ask_free(void *state)
{
    ask *a = state;
    json_decref(a->texts);
    free(a);
}

static ask *ask_new(sv_ai_call *c)
{
    ask *a = c->state = sv_xnew0(ask);
    c->free_state = ask_free;
    return a;
}

sv_rc sv_classify_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err)
{
    sv_fields f = {in->json, c->bad, err};
    ask *a = ask_new(c);
    sv_str text;
    if (sv_field_text(&f, "text", &text) != SV_OK)
        return err->code;
    a->texts = json_pack("[O]", json_object_get(in->json, "text"));
    return SV_OK;
}

sv_rc sv_rerank_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err)
{
    sv_fields f = {in->json, c->bad, err};
    ask *a = ask_new(c);
    SV_AUTO(sv_json_decrefp) json_t *contexts = NULL;
    sv_str query;
    size_t i;
    json_t *text;
    a->top = INT32_MAX;
    if (sv_field_text(&f, "query", &query) != SV_OK || sv_ai_contexts(&f, &contexts) != SV_OK ||
        sv_field_integer(&f, "top_k", 1, INT32_MAX, &a->top, NULL) != SV_OK)
        return err->code;
    a->texts = json_array();
    json_array_foreach(contexts, i, text)
        json_array_append_new(a->texts, json_pack("[O,O]", json_object_get(in->json, "query"), text));
    return SV_OK;
}

/* In place; the largest is taken out first, so that nothing overflows. */
static void softmax(double *x, int32_t n)
{
    double most = x[0], sum = 0;
    for (int32_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (int32_t i = 0; i < n; i++)
        sum += x[i] = exp(x[i] - most);
    for (int32_t i = 0; i < n; i++)
        x[i] /= sum;
}

static float logit(const sv_vectors *v, int32_t row, int32_t class)
{
    float x;
    memcpy(&x, (const char *)v->v + ((size_t)row * (size_t)v->dim + (size_t)class) * sizeof x, sizeof x);
    return x;
}

static void add_score(sv_buf *out, double x)
{
    char number[SV_FLOAT_TEXT];
    sv_buf_add(out, number, sv_float_write(number, (float)x));
}

static sv_rc add_classes(sv_buf *out, const sv_vectors *v, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *labels = NULL;
    if (sv_json_parse(&labels, v->labels, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_freep) double *x = sv_xcalloc((size_t)v->dim, sizeof *x);
    for (int32_t i = 0; i < v->dim; i++)
        x[i] = (double)logit(v, 0, i);
    softmax(x, v->dim);
    for (int32_t i = 0; i < v->dim; i++) {
        const json_t *name = json_array_get(labels, (size_t)i);
        sv_buf_addf(out, "%s{\"label\":", i ? "," : "[");
        sv_json_add_str(out, (sv_str){json_string_value(name), json_string_length(name)});
        sv_buf_adds(out, ",\"score\":");
        add_score(out, x[i]);
        sv_buf_addc(out, '}');
    }
    sv_buf_addc(out, ']');
    return SV_OK;
}

static void add_ranking(sv_buf *out, const sv_vectors *v, int64_t top)
{
    SV_AUTO(sv_freep) float *scores = sv_xcalloc((size_t)v->n, sizeof *scores);
    for (int32_t i = 0; i < v->n; i++)
        scores[i] = (float)(1 / (1 + exp(-(double)logit(v, i, 0))));
    sv_ai_add_scores(out, scores, v->n, (int32_t)top);
}

static void on_done(sv_gen *gen, sv_rc rc, const sv_vectors *v, const sv_err *err, void *arg)
{
    sv_ai_call *c = arg;
    const ask *a = c->state;
    sv_err why = {0};
    (void)gen;
    c->gen = NULL;
    if (rc != SV_OK) {
        sv_ai_fail(c, err);
        return;
    }
    c->usage.prompt_tokens = v->n_tokens;
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, MAX_ANSWER);
    if (a->top > 0)
        add_ranking(&out, v, a->top);
    else if (add_classes(&out, v, &why) != SV_OK) {
        sv_ai_fail(c, &why);
        return;
    }
    sv_ai_answer_buf(c, &out);
}

void sv_classify_run(sv_ai_call *c)
{
    const ask *a = c->state;
    sv_err err = {0};
    sv_encode_opts o = {.model_path = c->model->path, .tenant = c->tenant, .texts = a->texts, .want = SV_ENCODE_LOGITS, .max_tokens = c->model->n_ctx,
                        .cut = true, .on_done = on_done, .arg = c};
    if (sv_engine_encode(&c->gen, c->ai->engine, &o, &err) != SV_OK)
        sv_ai_fail(c, &err);
}

json_t *sv_classify_describe(const sv_model *m)
{
    (void)m;
    return json_pack("{s:{s:s, s:{s:{s:s, s:i}}, s:[s]}, s:{s:s, s:{s:s, s:{s:{s:s}, s:{s:s}}}}}", "input", "type", "object", "properties", "text", "type",
                     "string", "minLength", 1, "required", "text", "output", "type", "array", "items", "type", "object", "properties", "label", "type", "string",
                     "score", "type", "number");
}

json_t *sv_rerank_describe(const sv_model *m)
{
    (void)m;
    json_t *contexts = json_pack("{s:s, s:i, s:I, s:{s:s, s:{s:{s:s, s:i}}, s:[s]}}", "type", "array", "minItems", 1, "maxItems",
                                 (json_int_t)sv_limit_value(SV_LIMIT_AI_TEXTS), "items", "type", "object", "properties", "text", "type", "string", "minLength", 1,
                                 "required", "text");
    json_t *item = json_pack("{s:s, s:{s:{s:s}, s:{s:s}}}", "type", "object", "properties", "id", "type", "integer", "score", "type", "number");
    return json_pack("{s:{s:s, s:{s:{s:s, s:i}, s:o, s:{s:s, s:i}}, s:[s,s]}, s:{s:s, s:{s:{s:s, s:o}}}}", "input", "type", "object", "properties", "query",
                     "type", "string", "minLength", 1, "contexts", contexts, "top_k", "type", "integer", "minimum", 1, "required", "query", "contexts", "output",
                     "type", "object", "properties", "response", "type", "array", "items", item);
}
