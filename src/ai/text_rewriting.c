/* text_rewriting.c - translations and summaries
 *
 *     text, target_lang, source_lang ("en")    {translated_text}
 *     input_text, max_length (1024)            {summary}
 *
 * Languages are codes ("fr") or English names. What is longer than the model reads is cut; max_length is of tokens, and never over the model's own. */
#include "ai/task.h"

#include <stdlib.h>
#include <string.h>

#include "ai/ai_impl.h"
#include "ai/fields.h"
#include "base/mem.h"
#include "engine/client.h"

enum { MAX_ANSWER = 8 << 20, MAX_LANG = 64 };

typedef struct rewrite {
    json_t *options; /* owned */
    json_t *text;    /* owned: a string */
    bool translate;
} rewrite;

static void rewrite_free(void *state)
{
    rewrite *w = state;
    json_decref(w->options);
    json_decref(w->text);
    free(w);
}

static rewrite *rewrite_new(sv_ai_call *c)
{
    rewrite *w = c->state = sv_xnew0(rewrite);
    c->free_state = rewrite_free;
    w->options = json_object();
    return w;
}

static sv_rc keep_language(sv_fields *f, const char *field, sv_str v, json_t *options, const char *key)
{
    if (v.n > MAX_LANG)
        return sv_field_refuse(f, field, "must have at most %d characters, got %zu", MAX_LANG, v.n);
    json_object_set_new(options, key, json_stringn(v.p, v.n));
    return SV_OK;
}

sv_rc sv_translate_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err)
{
    sv_fields f = {in->json, c->bad, err};
    rewrite *w = rewrite_new(c);
    sv_str text, target, source = SV_STR("en");
    w->translate = true;
    if (sv_field_text(&f, "text", &text) != SV_OK || sv_field_text(&f, "target_lang", &target) != SV_OK || sv_field_string(&f, "source_lang", &source) != SV_OK ||
        keep_language(&f, "target_lang", target, w->options, "target") != SV_OK || keep_language(&f, "source_lang", source, w->options, "source") != SV_OK)
        return err->code;
    w->text = json_incref(json_object_get(in->json, "text"));
    return SV_OK;
}

sv_rc sv_summarise_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err)
{
    sv_fields f = {in->json, c->bad, err};
    rewrite *w = rewrite_new(c);
    sv_str text;
    int64_t max_length = 1024;
    if (sv_field_text(&f, "input_text", &text) != SV_OK || sv_field_integer(&f, "max_length", 1, INT32_MAX, &max_length, NULL) != SV_OK)
        return err->code;
    json_object_set_new(w->options, "max_tokens", json_integer(max_length));
    w->text = json_incref(json_object_get(in->json, "input_text"));
    return SV_OK;
}

static void on_done(sv_gen *gen, sv_rc rc, sv_str json, const sv_usage *usage, const sv_err *err, void *arg)
{
    sv_ai_call *c = arg;
    const rewrite *w = c->state;
    sv_err why = {0};
    SV_AUTO(sv_json_decrefp) json_t *answer = NULL;
    (void)gen;
    c->gen = NULL;
    if (rc != SV_OK || sv_json_parse(&answer, json, &why) != SV_OK) {
        sv_ai_fail(c, rc != SV_OK ? err : &why);
        return;
    }
    c->usage = *usage;
    sv_str text = {0};
    if (sv_json_str(answer, "text", &text, &why) != SV_OK) {
        sv_ai_fail(c, &why);
        return;
    }
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, MAX_ANSWER);
    sv_buf_adds(&out, w->translate ? "{\"translated_text\":" : "{\"summary\":");
    sv_json_add_str(&out, text);
    sv_buf_addc(&out, '}');
    sv_ai_answer_buf(c, &out);
}

void sv_rewrite_run(sv_ai_call *c)
{
    const rewrite *w = c->state;
    sv_err err = {0};
    sv_media_opts o = {.model_path = c->model->path, .tenant = c->tenant, .options = w->options,
                       .bytes = {json_string_value(w->text), json_string_length(w->text)}, .on_done = on_done, .arg = c};
    if (sv_engine_media(&c->gen, c->ai->engine, &o, &err) != SV_OK)
        sv_ai_fail(c, &err);
}

static json_t *text_schema(void) { return json_pack("{s:s, s:i}", "type", "string", "minLength", 1); }

json_t *sv_translate_describe(const sv_model *m)
{
    (void)m;
    return json_pack("{s:{s:s, s:{s:o, s:o, s:{s:s, s:s}}, s:[s,s]}, s:{s:s, s:{s:{s:s}}}}", "input", "type", "object", "properties", "text", text_schema(),
                     "target_lang", text_schema(), "source_lang", "type", "string", "default", "en", "required", "text", "target_lang", "output", "type", "object",
                     "properties", "translated_text", "type", "string");
}

json_t *sv_summarise_describe(const sv_model *m)
{
    (void)m;
    return json_pack("{s:{s:s, s:{s:o, s:{s:s, s:i, s:i}}, s:[s]}, s:{s:s, s:{s:{s:s}}}}", "input", "type", "object", "properties", "input_text", text_schema(),
                     "max_length", "type", "integer", "minimum", 1, "default", 1024, "required", "input_text", "output", "type", "object", "properties", "summary",
                     "type", "string");
}
