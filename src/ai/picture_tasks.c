/* picture_tasks.c - what is in a picture, and where
 *
 *     Image Classification   [{label, score}], five, best first; scores are a softmax
 *     Object Detection       [{label, score, box: {xmin, ymin, xmax, ymax}}], best first, of those that are more likely so than not; pixels of the upright
 *                            picture
 *
 * The picture is the body as it is, a stream, or `image`: a list of its bytes (or what JSON makes of a Uint8Array), base64, or a data URI. Nothing of it is
 * looked at here: the daemon holds the stores, and a file of a stranger's is taken apart in a process that holds nothing (engine/pictures.h). */
#include "ai/task.h"

#include <stdlib.h>
#include <string.h>

#include "account/limits.h"
#include "ai/ai_impl.h"
#include "ai/fields.h"
#include "base/mem.h"
#include "engine/client.h"

enum { MAX_ANSWER = 4 << 20, CLASSES = 5, BOXES = 100 };

typedef struct ask {
    sv_buf image;
    bool boxes;
} ask;

static void ask_free(void *state)
{
    ask *a = state;
    sv_buf_done(&a->image);
    free(a);
}

/* --- the picture's bytes ------------------------------------------------------------------------------------------ */

static sv_rc add_byte(sv_buf *out, sv_fields *f, const json_t *v, size_t i)
{
    char at[SV_FIELD_BAD];
    double n = json_number_value(v);
    if (json_is_number(v) && n >= 0 && n <= 255 && n == (double)(int)n)
        return sv_buf_addc(out, (char)(int)n) ? SV_OK : SV_ELIMIT;
    snprintf(at, sizeof at, "image/%zu", i);
    return json_is_number(v) ? sv_field_refuse(f, at, "must be an integer from 0 to 255, got %g", n) : sv_field_mismatch(f, at, v, "integer");
}

/* A list, or an object with the keys "0", "1", ...: what JSON.stringify makes of a Uint8Array. */
static sv_rc from_numbers(sv_buf *out, sv_fields *f, const json_t *image)
{
    size_t n = json_is_array(image) ? json_array_size(image) : json_object_size(image);
    for (size_t i = 0; i < n && !out->failed; i++) {
        char key[24];
        snprintf(key, sizeof key, "%zu", i);
        const json_t *v = json_is_array(image) ? json_array_get(image, i) : json_object_get(image, key);
        if (!v)
            return sv_field_refuse(f, "image", "is an object, but not one of bytes: '%s' is missing", key);
        if (add_byte(out, f, v, i) != SV_OK && !out->failed)
            return f->err->code;
    }
    return SV_OK;
}

/* "data:image/png;base64,..." or base64 alone. */
static sv_rc from_text(sv_buf *out, sv_fields *f, sv_str text)
{
    sv_err why = {0};
    if (sv_str_starts(text, "data:")) {
        const char *comma = memchr(text.p, ',', text.n);
        size_t n = comma ? (size_t)(comma - text.p) : 0;
        if (n < 7 || memcmp(comma - 7, ";base64", 7) != 0)
            return sv_field_refuse(f, "image", "is a data URI, but not one of base64");
        text = (sv_str){comma + 1, text.n - n - 1};
    }
    if (sv_str_starts(text, "http://") || sv_str_starts(text, "https://"))
        return sv_field_refuse(f, "image", "is a URL: send the bytes, nothing is fetched here");
    if (sv_base64_decode(out, text, &why) == SV_OK || out->failed)
        return SV_OK;
    sv_field_blame(f, "image");
    return sv_fail_api(f->err, SV_EINVAL, 5004, "Type mismatch of '/image', it is no base64: %s", why.msg);
}

static sv_rc read_json(sv_buf *out, sv_fields *f)
{
    const json_t *image = sv_field_of(f, "image");
    if (!image)
        return sv_field_missing(f, "image");
    if (json_is_string(image))
        return from_text(out, f, (sv_str){json_string_value(image), json_string_length(image)});
    if (json_is_array(image) || json_is_object(image))
        return from_numbers(out, f, image);
    return sv_field_mismatch(f, "image", image, "array");
}

static sv_rc check(sv_ai_call *c, const sv_ai_input *in, bool boxes, sv_err *err)
{
    sv_fields f = {in->json, c->bad, err};
    ask *a = c->state = sv_xnew0(ask);
    size_t max = (size_t)sv_limit_value(SV_LIMIT_AI_IMAGE_BYTES);
    c->free_state = ask_free;
    a->boxes = boxes;
    sv_buf_init(&a->image, max);
    if (in->bytes.p)
        sv_buf_add(&a->image, in->bytes.p, in->bytes.n);
    else if (read_json(&a->image, &f) != SV_OK)
        return err->code;
    if (a->image.failed) {
        sv_field_blame(&f, "image");
        return sv_fail_api(err, SV_ELIMIT, 3006, "'/image' has more than %zu bytes", max);
    }
    return a->image.n ? SV_OK : sv_field_refuse(&f, "image", "is empty");
}

sv_rc sv_see_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err) { return check(c, in, false, err); }
sv_rc sv_find_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err) { return check(c, in, true, err); }

/* --- the answer --------------------------------------------------------------------------------------------------- */

static void add_hit(sv_buf *out, const json_t *hit)
{
    static const char *const sides[] = {"xmin", "ymin", "xmax", "ymax"};
    const json_t *box = json_object_get(hit, "box");
    sv_buf_adds(out, "{\"label\":");
    sv_json_add_value(out, json_object_get(hit, "label"));
    sv_buf_adds(out, ",\"score\":");
    sv_json_add_value(out, json_object_get(hit, "score"));
    for (size_t i = 0; box && i < 4; i++) {
        sv_buf_addf(out, "%s\"%s\":", i ? "," : ",\"box\":{", sides[i]);
        sv_json_add_value(out, json_array_get(box, i));
    }
    sv_buf_adds(out, box ? "}}" : "}");
}

static void on_done(sv_gen *gen, sv_rc rc, sv_str json, const sv_usage *usage, const sv_err *err, void *arg)
{
    sv_ai_call *c = arg;
    SV_AUTO(sv_json_decrefp) json_t *answer = NULL;
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_err why = {0};
    size_t i;
    const json_t *hit;
    (void)gen;
    (void)usage;
    c->gen = NULL;
    sv_buf_init(&out, MAX_ANSWER);
    if (rc != SV_OK || sv_json_parse(&answer, json, &why) != SV_OK) {
        sv_ai_fail(c, rc != SV_OK ? err : &why);
        return;
    }
    sv_buf_addc(&out, '[');
    json_array_foreach(json_object_get(answer, "hits"), i, hit) {
        if (i)
            sv_buf_addc(&out, ',');
        add_hit(&out, hit);
    }
    sv_buf_addc(&out, ']');
    sv_ai_answer_buf(c, &out);
}

void sv_see_run(sv_ai_call *c)
{
    const ask *a = c->state;
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *options = json_pack("{s:i}", "top", a->boxes ? BOXES : CLASSES);
    sv_media_opts o = {.model_path = c->model->path, .tenant = c->tenant, .options = options, .bytes = sv_buf_str(&a->image), .on_done = on_done, .arg = c};
    if (sv_engine_media(&c->gen, c->ai->engine, &o, &err) != SV_OK)
        sv_ai_fail(c, &err);
}

static json_t *describe_input(void)
{
    json_t *bytes = json_pack("{s:s, s:s}", "type", "string", "format", "binary");
    json_t *numbers = json_pack("{s:s, s:{s:s, s:i, s:i}}", "type", "array", "items", "type", "integer", "minimum", 0, "maximum", 255);
    json_t *text = json_pack("{s:s, s:s}", "type", "string", "description", "base64, or a data URI of it");
    json_t *object = json_pack("{s:s, s:{s:{s:[o,o]}}, s:[s]}", "type", "object", "properties", "image", "oneOf", numbers, text, "required", "image");
    return json_pack("{s:[o,o]}", "oneOf", bytes, object);
}

json_t *sv_see_describe(const sv_model *m)
{
    (void)m;
    return json_pack("{s:o, s:{s:s, s:{s:s, s:{s:{s:s}, s:{s:s}}}}}", "input", describe_input(), "output", "type", "array", "items", "type", "object", "properties",
                     "label", "type", "string", "score", "type", "number");
}

json_t *sv_find_describe(const sv_model *m)
{
    (void)m;
    json_t *box = json_pack("{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s}}}", "type", "object", "properties", "xmin", "type", "number", "ymin", "type", "number",
                            "xmax", "type", "number", "ymax", "type", "number");
    return json_pack("{s:o, s:{s:s, s:{s:s, s:{s:{s:s}, s:{s:s}, s:o}}}}", "input", describe_input(), "output", "type", "array", "items", "type", "object",
                     "properties", "label", "type", "string", "score", "type", "number", "box", box);
}
