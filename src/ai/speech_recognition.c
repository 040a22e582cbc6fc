/* speech_recognition.c - a recording in, what was said out
 *
 * Forms, by the model's request family:
 *     whisper                  audio: numbers 0 to 255, or the body itself    {text, word_count, words, vtt}
 *     whisper-large-v3-turbo   audio: base64, or {body, contentType}          {transcription_info, text, word_count, segments, vtt}
 *     OpenAI's transcriptions  multipart: file, and fields                    {text}, verbose, plain text, SubRip, WebVTT
 * Each takes audio in all the ways of the others too, and so do models that the catalogue does not know, which answer as the second.
 *
 * The engine is asked for everything (engine/speech.h) and its answer put into the form's words here. A price by the minute counts the recording's. */
#include "ai/task.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "account/limits.h"
#include "ai/ai_impl.h"
#include "ai/fields.h"
#include "base/mem.h"
#include "engine/client.h"

enum { MAX_ANSWER = 32 << 20, MAX_PROMPT = 16384 };

typedef enum form { WHISPER, TURBO, O_JSON, O_TEXT, O_SRT, O_VTT, O_VERBOSE } form;

typedef struct hear {
    form form;
    json_t *options; /* owned: the engine's */
    sv_buf audio;    /* decoded; or, where the body is it, a copy */
    bool words;      /* of O_VERBOSE */
} hear;

static void hear_free(void *state)
{
    hear *h = state;
    json_decref(h->options);
    sv_buf_done(&h->audio);
    free(h);
}

/* ---- input ---- */

static sv_rc from_numbers(hear *h, sv_fields *f, const json_t *list)
{
    size_t i;
    json_t *v;
    char *p = sv_buf_room(&h->audio, json_array_size(list) + 1);
    if (!p)
        return sv_fail(f->err, SV_ENOMEM, "no memory for %zu bytes of audio", json_array_size(list));
    json_array_foreach(list, i, v) {
        double x = json_is_number(v) ? json_number_value(v) : -1;
        if (x < 0 || x > 255 || x != floor(x))
            return sv_field_refuse(f, "audio", "must have whole numbers from 0 to 255, number %zu is none", i);
        p[i] = (char)(uint8_t)x;
    }
    h->audio.n += i;
    return SV_OK;
}

static sv_rc from_base64(hear *h, sv_fields *f, const char *field, const json_t *v)
{
    sv_str text = {json_string_value(v), json_string_length(v)};
    if (sv_str_starts(text, "data:")) { /* as browsers write it */
        const char *comma = memchr(text.p, ',', text.n);
        text = comma ? (sv_str){comma + 1, (size_t)(text.p + text.n - comma - 1)} : text;
    }
    sv_err why = {0};
    return sv_base64_decode(&h->audio, text, &why) == SV_OK ? SV_OK : sv_field_refuse(f, field, "is no base64: %s", why.msg);
}

static sv_rc read_audio(hear *h, sv_fields *f, const sv_ai_input *in)
{
    const json_t *v = in->json ? sv_field_of(f, "audio") : NULL, *body = json_object_get(v, "body");
    sv_rc rc = SV_OK;
    if (in->bytes.p)
        sv_buf_add(&h->audio, in->bytes.p, in->bytes.n);
    else if (!v)
        return sv_field_missing(f, "audio");
    else if (json_is_array(v) || json_is_array(body))
        rc = from_numbers(h, f, json_is_array(v) ? v : body);
    else if (json_is_string(v) || json_is_string(body))
        rc = from_base64(h, f, json_is_string(v) ? "audio" : "audio/body", json_is_string(v) ? v : body);
    else
        return sv_field_mismatch(f, "audio", v, "array', 'string' or 'object with a body");
    if (rc == SV_OK && h->audio.n == 0)
        return sv_field_refuse(f, "audio", "is empty");
    return rc;
}

static hear *hear_new(sv_ai_call *c, form as)
{
    hear *h = c->state = sv_xnew0(hear);
    c->free_state = hear_free;
    h->form = as;
    h->options = json_pack("{s:I}", "max_seconds", (json_int_t)sv_limit_value(SV_LIMIT_AI_AUDIO_SECONDS));
    sv_buf_init(&h->audio, (size_t)sv_limit_value(SV_LIMIT_AI_BODY_BYTES));
    return h;
}

static void set(hear *h, const char *key, json_t *v) { json_object_set_new(h->options, key, v); }

static sv_rc copy_text(hear *h, sv_fields *f, const char *key, const char *as)
{
    sv_str s = {0};
    if (sv_field_string(f, key, &s) != SV_OK)
        return f->err->code;
    if (s.n > MAX_PROMPT)
        return sv_field_refuse(f, key, "has %zu bytes, at most %d are read", s.n, MAX_PROMPT);
    if (s.n > 0)
        set(h, as, json_stringn(s.p, s.n));
    return SV_OK;
}

static sv_rc copy_number(hear *h, sv_fields *f, const char *key, double min, double max)
{
    double v = NAN;
    if (sv_field_number(f, key, min, max, &v) != SV_OK)
        return f->err->code;
    if (!isnan(v))
        set(h, key, json_real(v));
    return SV_OK;
}

static sv_rc copy_boolean(hear *h, sv_fields *f, const char *key, bool otherwise)
{
    bool v = otherwise;
    if (sv_field_boolean(f, key, &v) != SV_OK)
        return f->err->code;
    set(h, key, json_boolean(v));
    return SV_OK;
}

static sv_rc read_turbo(hear *h, sv_fields *f)
{
    static const char *const tasks[] = {"transcribe", "translate", NULL};
    int task = 0;
    int64_t beam = 5;
    if (sv_field_word(f, "task", tasks, &task) != SV_OK || copy_text(h, f, "language", "language") != SV_OK ||
        copy_text(h, f, "initial_prompt", "initial_prompt") != SV_OK || copy_text(h, f, "prefix", "prefix") != SV_OK ||
        copy_boolean(h, f, "vad_filter", false) != SV_OK || copy_boolean(h, f, "condition_on_previous_text", true) != SV_OK ||
        sv_field_integer(f, "beam_size", 1, 8, &beam, NULL) != SV_OK || copy_number(h, f, "no_speech_threshold", 0, 1) != SV_OK ||
        copy_number(h, f, "compression_ratio_threshold", 0, 1e6) != SV_OK || copy_number(h, f, "log_prob_threshold", -1e6, 0) != SV_OK ||
        copy_number(h, f, "hallucination_silence_threshold", 0, 1e6) != SV_OK)
        return f->err->code;
    set(h, "task", json_string(tasks[task]));
    set(h, "beam_size", json_integer(beam));
    set(h, "words", json_true());
    return SV_OK;
}

/* source_lang is the recording's; the only language that Whisper translates to is English. */
static sv_rc read_whisper(hear *h, sv_fields *f)
{
    sv_str to = {0};
    if (copy_text(h, f, "source_lang", "language") != SV_OK || sv_field_string(f, "target_lang", &to) != SV_OK)
        return f->err->code;
    if (to.n > 0 && !sv_str_ieq(to, "en") && !sv_str_ieq(to, "english"))
        return sv_field_refuse(f, "target_lang", "is '%.*s': translations are into English only", (int)(to.n < 40 ? to.n : 40), to.p);
    const json_t *from = json_object_get(h->options, "language");
    bool english = !from || strcasecmp(json_string_value(from), "en") == 0 || strcasecmp(json_string_value(from), "english") == 0;
    if (to.n > 0 && !english)
        set(h, "task", json_string("translate"));
    set(h, "words", json_true());
    return SV_OK;
}

sv_rc sv_hear_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err)
{
    sv_fields f = {in->json, c->bad, err};
    hear *h = hear_new(c, strcmp(c->model->shape, "whisper") == 0 ? WHISPER : TURBO);
    if (read_audio(h, &f, in) != SV_OK)
        return err->code;
    return h->form == WHISPER ? read_whisper(h, &f) : read_turbo(h, &f);
}

/* json: the form's fields, all of them texts; bytes: the file. */
static sv_rc check_openai(sv_ai_call *c, const sv_ai_input *in, bool translate, sv_err *err)
{
    static const char *const formats[] = {"json", "text", "srt", "vtt", "verbose_json", NULL};
    static const form forms[] = {O_JSON, O_TEXT, O_SRT, O_VTT, O_VERBOSE};
    sv_fields f = {in->json, c->bad, err};
    hear *h = hear_new(c, O_JSON);
    int format = 0;
    if (!in->bytes.p)
        return sv_field_missing(&f, "file");
    if (in->bytes.n == 0)
        return sv_field_refuse(&f, "file", "is empty");
    sv_buf_add(&h->audio, in->bytes.p, in->bytes.n);
    if (sv_field_word(&f, "response_format", formats, &format) != SV_OK || copy_text(h, &f, "prompt", "initial_prompt") != SV_OK ||
        (!translate && copy_text(h, &f, "language", "language") != SV_OK) || copy_number(h, &f, "temperature", 0, 1) != SV_OK)
        return err->code;
    h->form = forms[format];
    h->words = json_is_true(json_object_get(in->json, "words"));
    if (h->words && h->form != O_VERBOSE)
        return sv_field_refuse(&f, "timestamp_granularities", "needs response_format verbose_json");
    set(h, "words", json_boolean(h->words));
    if (translate)
        set(h, "task", json_string("translate"));
    return SV_OK;
}

sv_rc sv_hear_check_openai(sv_ai_call *c, const sv_ai_input *in, sv_err *err) { return check_openai(c, in, false, err); }
sv_rc sv_hear_check_translation(sv_ai_call *c, const sv_ai_input *in, sv_err *err) { return check_openai(c, in, true, err); }

/* ---- output ---- */

static sv_str text_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_string(v) ? (sv_str){json_string_value(v), json_string_length(v)} : SV_STR("");
}

static double number_of(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

/* 00:03.480, with hours from the first on; SubRip has them always, and a comma. */
static void add_time(sv_buf *b, double seconds, bool srt)
{
    long long ms = llrint(fmax(0, seconds) * 1000);
    if (srt || ms >= 3600000)
        sv_buf_addf(b, "%02lld:", ms / 3600000);
    sv_buf_addf(b, "%02lld:%02lld%c%03lld", ms / 60000 % 60, ms / 1000 % 60, srt ? ',' : '.', ms % 1000);
}

/* What a cue must not have: an arrow, an empty line. */
static void add_cue_text(sv_buf *b, sv_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.n - i >= 3 && memcmp(s.p + i, "-->", 3) == 0) {
            sv_buf_adds(b, "->");
            i += 2;
        } else {
            sv_buf_addc(b, s.p[i] == '\n' || s.p[i] == '\r' ? ' ' : s.p[i]);
        }
    }
}

static void add_cues(sv_buf *b, const json_t *segments, bool srt)
{
    size_t i;
    const json_t *g;
    if (!srt)
        sv_buf_adds(b, "WEBVTT\n\n");
    json_array_foreach(segments, i, g) {
        if (srt)
            sv_buf_addf(b, "%zu\n", i + 1);
        add_time(b, number_of(g, "start"), srt);
        sv_buf_adds(b, " --> ");
        add_time(b, number_of(g, "end"), srt);
        sv_buf_addc(b, '\n');
        add_cue_text(b, sv_str_trim(text_of(g, "text")));
        sv_buf_adds(b, "\n\n");
    }
}

static void add_numbers(sv_buf *b, const json_t *o, const char *const *keys)
{
    for (; *keys; keys++) {
        sv_buf_addf(b, ",\"%s\":", *keys);
        sv_json_add_num(b, number_of(o, *keys));
    }
}

static void add_words(sv_buf *b, const json_t *segments, size_t *n)
{
    static const char *const times[] = {"start", "end", NULL};
    size_t i, k;
    const json_t *g, *w;
    json_array_foreach(segments, i, g)
        json_array_foreach(json_object_get(g, "words"), k, w) {
            sv_buf_adds(b, (*n)++ ? ",{\"word\":" : "{\"word\":");
            sv_json_add_str(b, sv_str_trim(text_of(w, "word")));
            add_numbers(b, w, times);
            sv_buf_addc(b, '}');
        }
}

static size_t count_words(const json_t *segments)
{
    size_t i, n = 0;
    const json_t *g;
    json_array_foreach(segments, i, g)
        n += json_array_size(json_object_get(g, "words"));
    return n;
}

static void add_vtt_field(sv_buf *b, const json_t *segments)
{
    SV_AUTO(sv_buf_donep) sv_buf vtt;
    sv_buf_init(&vtt, MAX_ANSWER);
    add_cues(&vtt, segments, false);
    sv_buf_adds(b, ",\"vtt\":");
    sv_json_add_str(b, sv_buf_str(&vtt));
    b->failed = b->failed || vtt.failed;
}

static void add_text_field(sv_buf *b, const json_t *t)
{
    sv_buf_adds(b, "\"text\":");
    sv_json_add_str(b, sv_str_trim(text_of(t, "text")));
}

static void add_whisper(sv_buf *b, const json_t *t)
{
    const json_t *segments = json_object_get(t, "segments");
    size_t n = 0;
    sv_buf_addc(b, '{');
    add_text_field(b, t);
    sv_buf_addf(b, ",\"word_count\":%zu,\"words\":[", count_words(segments));
    add_words(b, segments, &n);
    sv_buf_addc(b, ']');
    add_vtt_field(b, segments);
    sv_buf_addc(b, '}');
}

static void add_turbo(sv_buf *b, const json_t *t)
{
    static const char *const info[] = {"language_probability", "duration", "duration_after_vad", NULL};
    static const char *const facts[] = {"start", "end", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob", NULL};
    const json_t *segments = json_object_get(t, "segments"), *g;
    size_t i;
    sv_buf_adds(b, "{\"transcription_info\":{\"language\":");
    sv_json_add_str(b, text_of(t, "language"));
    add_numbers(b, t, info);
    sv_buf_adds(b, "},");
    add_text_field(b, t);
    sv_buf_addf(b, ",\"word_count\":%zu,\"segments\":[", count_words(segments));
    json_array_foreach(segments, i, g) {
        SV_AUTO(sv_json_decrefp) json_t *one = json_pack("[O]", g);
        size_t n = 0;
        sv_buf_adds(b, i ? ",{\"text\":" : "{\"text\":");
        sv_json_add_str(b, text_of(g, "text"));
        add_numbers(b, g, facts);
        sv_buf_adds(b, ",\"words\":[");
        add_words(b, one, &n);
        sv_buf_adds(b, "]}");
    }
    sv_buf_addc(b, ']');
    add_vtt_field(b, segments);
    sv_buf_addc(b, '}');
}

static void add_usage(sv_buf *b, const json_t *t)
{
    sv_buf_addf(b, ",\"usage\":{\"type\":\"duration\",\"seconds\":%lld}", (long long)ceil(number_of(t, "duration")));
}

static void add_verbose(sv_buf *b, const hear *h, const json_t *t)
{
    static const char *const facts[] = {"seek", "start", "end", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob", NULL};
    const json_t *segments = json_object_get(t, "segments"), *g, *task = json_object_get(h->options, "task");
    size_t i, n = 0;
    sv_buf_addf(b, "{\"task\":\"%s\",\"language\":", task ? json_string_value(task) : "transcribe");
    sv_json_add_str(b, text_of(t, "language_name"));
    sv_buf_adds(b, ",\"duration\":");
    sv_json_add_num(b, number_of(t, "duration"));
    sv_buf_addc(b, ',');
    add_text_field(b, t);
    sv_buf_adds(b, ",\"segments\":[");
    json_array_foreach(segments, i, g) {
        sv_buf_addf(b, "%s{\"id\":%zu,\"text\":", i ? "," : "", i);
        sv_json_add_str(b, text_of(g, "text"));
        add_numbers(b, g, facts);
        sv_buf_adds(b, ",\"tokens\":");
        sv_json_add_value(b, json_object_get(g, "tokens"));
        sv_buf_addc(b, '}');
    }
    sv_buf_addc(b, ']');
    if (h->words) {
        sv_buf_adds(b, ",\"words\":[");
        add_words(b, segments, &n);
        sv_buf_addc(b, ']');
    }
    add_usage(b, t);
    sv_buf_addc(b, '}');
}

static void add_answer(sv_buf *b, const hear *h, const json_t *t)
{
    switch (h->form) {
    case WHISPER: add_whisper(b, t); break;
    case TURBO: add_turbo(b, t); break;
    case O_VERBOSE: add_verbose(b, h, t); break;
    case O_SRT: add_cues(b, json_object_get(t, "segments"), true); break;
    case O_VTT: add_cues(b, json_object_get(t, "segments"), false); break;
    case O_TEXT: {
        sv_str s = sv_str_trim(text_of(t, "text"));
        sv_buf_add(b, s.p, s.n);
        sv_buf_addc(b, '\n');
        break;
    }
    case O_JSON:
        sv_buf_addc(b, '{');
        add_text_field(b, t);
        add_usage(b, t);
        sv_buf_addc(b, '}');
        break;
    }
}

/* Text that is no JSON: answered here. */
static void answer_text(sv_ai_call *c, const char *type, const sv_buf *b)
{
    char id[sizeof c->req_id];
    memcpy(id, c->req_id, sizeof id);
    sv_req *r = sv_ai_let_go(c);
    sv_req_add_header(r, "cf-ai-req-id", id);
    sv_req_send(r, 200, type, sv_buf_str(b));
}

static void on_done(sv_gen *gen, sv_rc rc, sv_str json, const sv_usage *usage, const sv_err *err, void *arg)
{
    sv_ai_call *c = arg;
    const hear *h = c->state;
    sv_err why = {0};
    SV_AUTO(sv_json_decrefp) json_t *t = NULL;
    (void)gen;
    c->gen = NULL;
    if (rc != SV_OK) {
        sv_ai_fail(c, err);
        return;
    }
    c->usage = *usage;
    if (sv_json_parse(&t, json, &why) != SV_OK) {
        sv_ai_fail(c, &why);
        return;
    }
    c->minutes = number_of(t, "duration") / 60;
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, MAX_ANSWER);
    add_answer(&out, h, t);
    if (!out.failed && (h->form == O_TEXT || h->form == O_SRT))
        answer_text(c, "text/plain; charset=utf-8", &out);
    else if (!out.failed && h->form == O_VTT)
        answer_text(c, "text/vtt; charset=utf-8", &out);
    else
        sv_ai_answer_buf(c, &out);
}

void sv_hear_run(sv_ai_call *c)
{
    hear *h = c->state;
    sv_err err = {0};
    const sv_media_opts o = {.model_path = c->model->path, .tenant = c->tenant, .options = h->options, .bytes = sv_buf_str(&h->audio), .on_done = on_done,
                             .arg = c};
    if (sv_engine_media(&c->gen, c->ai->engine, &o, &err) != SV_OK) {
        sv_ai_fail(c, &err);
        return;
    }
    sv_buf_done(&h->audio); /* it is on its way */
}

/* ---- schemas ---- */

static const char words_schema[] =
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"word\":{\"type\":\"string\"},\"start\":{\"type\":\"number\"},\"end\":{\"type\":\"number\"}}}}";
static const char whisper_schema[] =
    "{\"input\":{\"oneOf\":[{\"type\":\"string\",\"format\":\"binary\"},{\"type\":\"object\",\"properties\":{\"audio\":{\"type\":\"array\",\"items\":{\"type\":"
    "\"number\"}},\"source_lang\":{\"type\":\"string\"},\"target_lang\":{\"type\":\"string\"}},\"required\":[\"audio\"]}]},\"output\":{\"type\":\"object\","
    "\"properties\":{\"text\":{\"type\":\"string\"},\"word_count\":{\"type\":\"number\"},\"words\":%s,\"vtt\":{\"type\":\"string\"}},\"required\":[\"text\"]}}";
static const char turbo_schema[] =
    "{\"input\":{\"type\":\"object\",\"properties\":{\"audio\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"object\",\"properties\":{\"body\":{\"type\":\"object\"},"
    "\"contentType\":{\"type\":\"string\"}}}]},\"task\":{\"type\":\"string\",\"default\":\"transcribe\"},\"language\":{\"type\":\"string\"},\"vad_filter\":{\"type\":"
    "\"boolean\",\"default\":false},\"initial_prompt\":{\"type\":\"string\"},\"prefix\":{\"type\":\"string\"},\"beam_size\":{\"type\":\"integer\",\"default\":5},"
    "\"condition_on_previous_text\":{\"type\":\"boolean\",\"default\":true},\"no_speech_threshold\":{\"type\":\"number\",\"default\":0.6},"
    "\"compression_ratio_threshold\":{\"type\":\"number\",\"default\":2.4},\"log_prob_threshold\":{\"type\":\"number\",\"default\":-1},"
    "\"hallucination_silence_threshold\":{\"type\":\"number\"}},\"required\":[\"audio\"]},\"output\":{\"type\":\"object\",\"properties\":{\"transcription_info\":"
    "{\"type\":\"object\"},\"text\":{\"type\":\"string\"},\"word_count\":{\"type\":\"number\"},\"segments\":{\"type\":\"array\",\"items\":{\"type\":\"object\","
    "\"properties\":{\"start\":{\"type\":\"number\"},\"end\":{\"type\":\"number\"},\"text\":{\"type\":\"string\"},\"temperature\":{\"type\":\"number\"},"
    "\"avg_logprob\":{\"type\":\"number\"},\"compression_ratio\":{\"type\":\"number\"},\"no_speech_prob\":{\"type\":\"number\"},\"words\":%s}}},\"vtt\":{\"type\":"
    "\"string\"}},\"required\":[\"text\"]}}";

json_t *sv_hear_describe(const sv_model *m)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_err err = {0};
    json_t *v = NULL;
    const char *schema = strcmp(m->shape, "whisper") == 0 ? whisper_schema : turbo_schema, *at = strstr(schema, "%s");
    sv_buf_init(&b, 0);
    sv_buf_add(&b, schema, (size_t)(at - schema));
    sv_buf_adds(&b, words_schema);
    sv_buf_adds(&b, at + 2);
    SV_ASSERT(sv_json_parse(&v, sv_buf_str(&b), &err) == SV_OK); /* ours */
    return v;
}
