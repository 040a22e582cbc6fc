/* text_embeddings.c - texts in, vectors out
 *
 * Forms, by the model's request family:
 *     text             a string or up to SV_LIMIT_AI_TEXTS of them      {shape, data, pooling}
 *     contexts         bge-m3: as texts                                 {response, shape, pooling}
 *     query, contexts  bge-m3: cosine of query and each context         {response: [{id, score}]}, best first
 *     queries, documents   decoders (Qwen3): a query gets an instruction in front, a document does not
 *     input            OpenAI's /embeddings                             {object, data, model, usage}
 *
 * Vectors have length 1. What is too long for the model is cut without a word, as the hosted service does, but for bge-m3, which refuses it unless
 * truncate_inputs is set.
 *
 * pooling is "mean" where the request does not say, which keeps vectors comparable with old ones; a model that the catalogue does not know gives the
 * vectors that it was trained for, where its files say so. Decoders have one pooling only, that of the last token, and do not tell it; their vectors may be
 * shortened (OpenAI's `dimensions`), since they are trained for that. */
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

enum { MAX_ANSWER = 64 << 20 };

typedef enum form { TEXTS, CONTEXTS, SCORES, OPENAI } form;

typedef struct embed {
    json_t *texts; /* owned list; of SCORES the query is the last */
    form form;
    sv_encode_want want;
    bool refuse_long;
    bool base64;   /* of OPENAI */
    int32_t dim;   /* of OPENAI: shortened to so many numbers; 0: as they are */
} embed;

static void embed_free(void *state)
{
    embed *e = state;
    json_decref(e->texts);
    free(e);
}

/* ---- input ---- */

/* *out: a new list. */
static sv_rc one_or_many(sv_fields *f, const char *key, const json_t *v, json_t **out)
{
    size_t i, n = json_array_size(v);
    json_t *t;
    int64_t max = sv_limit_value(SV_LIMIT_AI_TEXTS);
    if (json_is_string(v) && json_string_length(v) == 0)
        return sv_field_refuse(f, key, "must have at least 1 character");
    if (json_is_string(v)) {
        *out = json_pack("[O]", v);
        return SV_OK;
    }
    if (!json_is_array(v))
        return sv_field_mismatch(f, key, v, "string' or 'array");
    if (n == 0 || (int64_t)n > max)
        return sv_field_refuse(f, key, "must have 1 to %lld texts, got %zu", (long long)max, n);
    json_array_foreach(v, i, t) {
        char field[SV_FIELD_BAD];
        snprintf(field, sizeof field, "%s/%zu", key, i);
        if (!json_is_string(t))
            return sv_field_mismatch(f, field, t, "string");
        if (json_string_length(t) == 0)
            return sv_field_refuse(f, field, "must have at least 1 character");
    }
    *out = json_copy((json_t *)(uintptr_t)v);
    return SV_OK;
}

sv_rc sv_ai_contexts(sv_fields *f, json_t **out)
{
    const json_t *v = sv_field_of(f, "contexts");
    int64_t max = sv_limit_value(SV_LIMIT_AI_TEXTS);
    size_t i, n = json_array_size(v);
    json_t *c;
    if (!v)
        return sv_field_missing(f, "contexts");
    if (!json_is_array(v))
        return sv_field_mismatch(f, "contexts", v, "array");
    if (n == 0 || (int64_t)n > max)
        return sv_field_refuse(f, "contexts", "must have 1 to %lld items, got %zu", (long long)max, n);
    SV_AUTO(sv_json_decrefp) json_t *list = json_array();
    json_array_foreach(v, i, c) {
        char field[SV_FIELD_BAD];
        json_t *t = json_object_get(c, "text");
        snprintf(field, sizeof field, "contexts/%zu", i);
        if (!json_is_object(c))
            return sv_field_mismatch(f, field, c, "object");
        if (!json_is_string(t) || json_string_length(t) == 0)
            return sv_field_refuse(f, field, "needs 'text', a string of at least 1 character");
        json_array_append(list, t);
    }
    *out = SV_TAKE(list);
    return SV_OK;
}

static sv_rc check_m3(embed *e, sv_fields *f)
{
    bool truncate = false;
    sv_str query = {0};
    if (sv_field_boolean(f, "truncate_inputs", &truncate) != SV_OK)
        return f->err->code;
    e->refuse_long = !truncate;
    if (!sv_field_of(f, "contexts")) {
        const json_t *v = sv_field_of(f, "text");
        if (!v)
            return sv_field_blame(f, "text"), sv_fail_api(f->err, SV_EINVAL, 5006, "required properties at '/' are 'text' or 'contexts'");
        return one_or_many(f, "text", v, &e->texts);
    }
    e->form = CONTEXTS;
    if (sv_ai_contexts(f, &e->texts) != SV_OK || !sv_field_of(f, "query"))
        return f->err->code;
    if (sv_field_text(f, "query", &query) != SV_OK)
        return f->err->code;
    e->form = SCORES;
    json_array_append(e->texts, json_object_get(f->obj, "query"));
    return SV_OK;
}

/* What Qwen3-Embedding was trained with, and its maker's words where a request has none. */
static void instruct(json_t *queries, sv_str instruction)
{
    size_t i;
    json_t *q;
    if (!instruction.n)
        instruction = SV_STR("Given a web search query, retrieve relevant passages that answer the query");
    json_array_foreach(queries, i, q) {
        SV_AUTO(sv_buf_donep) sv_buf b;
        sv_buf_init(&b, 0);
        sv_buf_addf(&b, "Instruct: %.*s\nQuery:", (int)instruction.n, instruction.p);
        sv_buf_add(&b, json_string_value(q), json_string_length(q));
        json_array_set_new(queries, i, json_stringn(b.p, b.n));
    }
}

static sv_rc check_decoder(embed *e, sv_fields *f)
{
    static const char *const keys[] = {"text", "queries", "documents"};
    const char *key = NULL;
    sv_str instruction = {0};
    for (size_t i = 0; i < SV_LEN(keys); i++)
        if (sv_field_of(f, keys[i])) {
            if (key)
                return sv_field_refuse(f, keys[i], "excludes '%s': one of text, queries and documents at a time", key);
            key = keys[i];
        }
    if (!key)
        return sv_field_blame(f, "text"), sv_fail_api(f->err, SV_EINVAL, 5006, "required properties at '/' are 'text', 'queries' or 'documents'");
    if (sv_field_string(f, "instruction", &instruction) != SV_OK || one_or_many(f, key, sv_field_of(f, key), &e->texts) != SV_OK)
        return f->err->code;
    if (strcmp(key, "queries") == 0)
        instruct(e->texts, instruction);
    return SV_OK;
}

static sv_rc check(embed *e, const sv_model *m, sv_fields *f)
{
    static const char *const poolings[] = {"mean", "cls", NULL};
    bool m3 = strcmp(m->shape, "bge-m3") == 0, known = m->listed;
    int pooling = m3 || (!known && m->facts.cls_pooling);
    if (sv_field_word(f, "pooling", poolings, &pooling) != SV_OK)
        return f->err->code;
    e->want = pooling ? SV_ENCODE_CLS : SV_ENCODE_MEAN;
    if (m3)
        return check_m3(e, f);
    if (m->facts.last_pooling)
        return check_decoder(e, f);
    const json_t *v = sv_field_of(f, "text");
    return v ? one_or_many(f, "text", v, &e->texts) : sv_field_missing(f, "text");
}

sv_rc sv_embed_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err)
{
    sv_fields f = {in->json, c->bad, err};
    embed *e = sv_xnew0(embed);
    c->state = e;
    c->free_state = embed_free;
    return check(e, c->model, &f);
}

/* A list of one kind of tokens is a text in their client's encoding, which no model here reads: so say, rather than embed noise. */
static sv_rc check_openai(embed *e, const sv_model *m, sv_fields *f)
{
    static const char *const formats[] = {"float", "base64", NULL};
    int format = 0;
    int64_t dimensions = m->facts.dim;
    const json_t *v = sv_field_of(f, "input"), *first = json_array_get(v, 0);
    e->form = OPENAI;
    e->want = strcmp(m->shape, "bge-m3") == 0 || (!m->listed && m->facts.cls_pooling) ? SV_ENCODE_CLS : SV_ENCODE_MEAN;
    if (!v)
        return sv_field_missing(f, "input");
    if (json_is_integer(first) || json_is_array(first))
        return sv_field_refuse(f, "input", "is a list of tokens: send the text, since tokens of another model mean nothing to %s", m->id);
    if (one_or_many(f, "input", v, &e->texts) != SV_OK || sv_field_word(f, "encoding_format", formats, &format) != SV_OK ||
        sv_field_integer(f, "dimensions", 1, INT32_MAX, &dimensions, NULL) != SV_OK)
        return f->err->code;
    if (dimensions > m->facts.dim || (dimensions < m->facts.dim && !m->facts.last_pooling))
        return sv_field_refuse(f, "dimensions", "must be %d or left out: vectors of %s cannot be %s", m->facts.dim, m->id,
                               dimensions > m->facts.dim ? "longer" : "shortened");
    e->dim = (int32_t)dimensions;
    e->base64 = format == 1;
    return SV_OK;
}

sv_rc sv_embed_check_openai(sv_ai_call *c, const sv_ai_input *in, sv_err *err)
{
    sv_fields f = {in->json, c->bad, err};
    embed *e = sv_xnew0(embed);
    c->state = e;
    c->free_state = embed_free;
    return check_openai(e, c->model, &f);
}

/* ---- answers ---- */

static const float *row_of(const sv_vectors *v, int32_t i, float *scratch)
{
    memcpy(scratch, (const char *)v->v + (size_t)i * (size_t)v->dim * sizeof(float), (size_t)v->dim * sizeof(float));
    return scratch;
}

static void add_rows(sv_buf *out, const sv_vectors *v, float *scratch)
{
    sv_buf_addc(out, '[');
    for (int32_t i = 0; i < v->n; i++) {
        sv_buf_adds(out, i ? "," : "");
        sv_floats_write(out, row_of(v, i, scratch), (size_t)v->dim);
    }
    sv_buf_addc(out, ']');
}

static void add_vectors(sv_buf *out, const embed *e, const sv_vectors *v, float *scratch, bool pooling)
{
    sv_buf_addf(out, "{\"shape\":[%d,%d],\"%s\":", v->n, v->dim, e->form == CONTEXTS ? "response" : "data");
    add_rows(out, v, scratch);
    if (pooling)
        sv_buf_addf(out, ",\"pooling\":\"%s\"", e->want == SV_ENCODE_CLS ? "cls" : "mean");
    sv_buf_addc(out, '}');
}

/* The first n numbers, of length 1 again. */
static void shorten(float *x, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    for (int32_t i = 0; i < n && sum > 0; i++)
        x[i] = (float)((double)x[i] / sqrt(sum));
}

static void add_openai(sv_buf *out, const sv_ai_call *c, const sv_vectors *v, float *scratch)
{
    const embed *e = c->state;
    int32_t dim = e->dim > 0 && e->dim < v->dim ? e->dim : v->dim;
    sv_buf_adds(out, "{\"object\":\"list\",\"data\":[");
    for (int32_t i = 0; i < v->n; i++) {
        sv_buf_addf(out, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", i ? "," : "", i);
        row_of(v, i, scratch);
        if (dim < v->dim)
            shorten(scratch, dim);
        if (e->base64) {
            sv_buf_addc(out, '"');
            sv_base64_encode(out, scratch, (size_t)dim * sizeof *scratch);
            sv_buf_addc(out, '"');
        } else {
            sv_floats_write(out, scratch, (size_t)dim);
        }
        sv_buf_addc(out, '}');
    }
    sv_buf_addf(out, "],\"model\":\"%s\",\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d}}", c->model->id, v->n_tokens, v->n_tokens);
}

typedef struct score { int32_t id; float score; } score;

/* Ties keep the order of the contexts. */
static int by_score(const void *a, const void *b)
{
    const score *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : x->id - y->id;
}

void sv_ai_add_scores(sv_buf *out, const float *scores, int32_t n, int32_t top)
{
    char number[SV_FLOAT_TEXT];
    score *s = sv_xcalloc((size_t)n, sizeof *s);
    for (int32_t i = 0; i < n; i++)
        s[i] = (score){i, scores[i]};
    qsort(s, (size_t)n, sizeof *s, by_score);
    sv_buf_adds(out, "{\"response\":[");
    for (int32_t i = 0; i < n && i < top; i++) {
        sv_buf_addf(out, "%s{\"id\":%d,\"score\":", i ? "," : "", s[i].id);
        sv_buf_add(out, number, sv_float_write(number, s[i].score));
        sv_buf_addc(out, '}');
    }
    sv_buf_adds(out, "]}");
    free(s);
}

/* Vectors have length 1: the cosine is their product. The query is the last. */
static void add_cosines(sv_buf *out, const sv_vectors *v, float *scratch)
{
    int32_t n = v->n - 1;
    float *scores = sv_xcalloc((size_t)n, sizeof *scores), *query = sv_xcalloc((size_t)v->dim, sizeof *query);
    row_of(v, n, query);
    for (int32_t i = 0; i < n; i++) {
        double sum = 0;
        row_of(v, i, scratch);
        for (int32_t k = 0; k < v->dim; k++)
            sum += (double)scratch[k] * (double)query[k];
        scores[i] = (float)sum;
    }
    sv_ai_add_scores(out, scores, n, n);
    free(scores);
    free(query);
}

static void on_done(sv_gen *gen, sv_rc rc, const sv_vectors *v, const sv_err *err, void *arg)
{
    sv_ai_call *c = arg;
    const embed *e = c->state;
    (void)gen;
    c->gen = NULL;
    if (rc != SV_OK) {
        sv_ai_fail(c, err);
        return;
    }
    c->usage.prompt_tokens = v->n_tokens;
    SV_AUTO(sv_buf_donep) sv_buf out;
    SV_AUTO(sv_freep) float *scratch = sv_xcalloc((size_t)v->dim, sizeof *scratch); /* aligned, one row at a time */
    sv_buf_init(&out, MAX_ANSWER);
    if (e->form == SCORES)
        add_cosines(&out, v, scratch);
    else if (e->form == OPENAI)
        add_openai(&out, c, v, scratch);
    else
        add_vectors(&out, e, v, scratch, !c->model->facts.last_pooling);
    sv_ai_answer_buf(c, &out);
}

void sv_embed_run(sv_ai_call *c)
{
    const embed *e = c->state;
    sv_err err = {0};
    sv_encode_opts o = {.model_path = c->model->path, .tenant = c->tenant, .texts = e->texts, .want = e->want, .max_tokens = c->model->n_ctx,
                        .cut = !e->refuse_long, .on_done = on_done, .arg = c};
    if (sv_engine_encode(&c->gen, c->ai->engine, &o, &err) != SV_OK)
        sv_ai_fail(c, &err);
}

/* ---- schema ---- */

json_t *sv_embed_describe(const sv_model *m)
{
    (void)m;
    json_t *text = json_pack("{s:s, s:i}", "type", "string", "minLength", 1);
    json_t *list = json_pack("{s:s, s:O, s:i, s:I}", "type", "array", "items", text, "minItems", 1, "maxItems", (json_int_t)sv_limit_value(SV_LIMIT_AI_TEXTS));
    return json_pack("{s:{s:s, s:{s:{s:[o,o]}, s:{s:s, s:[s,s]}}, s:[s]}, s:{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s}}}}", "input", "type", "object", "properties",
                     "text", "oneOf", text, list, "pooling", "type", "string", "enum", "mean", "cls", "required", "text", "output", "type", "object",
                     "properties", "shape", "type", "array", "data", "type", "array", "pooling", "type", "string");
}
