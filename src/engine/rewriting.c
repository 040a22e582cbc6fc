/* rewriting.c - requests to models that make a text of a text: translations, summaries (models/seq2seq.h)
 *
 *     in   the text as the file; source, target: languages, of translators; max_tokens: of what is written. All optional but target
 *     out  {"text"}
 *
 * A layer of the encoder and a token of all beams are a step each, between which others compute. */
#include "base/json.h"
#include "engine/media.h"
#include "models/seq2seq.h"

static bool rewriting_is(const char *path) { return sv_seq2seq_is(path); }

static sv_rc rewriting_open(void **out, const char *path, sv_err *err)
{
    sv_seq2seq *m = NULL;
    if (sv_seq2seq_open(&m, path, err) != SV_OK)
        return err->code;
    *out = m;
    return SV_OK;
}

static void rewriting_close(void *model) { sv_seq2seq_close(model); }

static sv_rc begin(sv_seq2seq_run **out, const sv_seq2seq *m, const sv_media *j, sv_err *err)
{
    int64_t max_tokens = 0;
    sv_seq2seq_text t = {.text = j->req.bytes};
    if (sv_json_int(j->req.options, "max_tokens", 1, INT32_MAX, &max_tokens, err) != SV_OK || sv_json_str(j->req.options, "source", &t.source, err) != SV_OK ||
        sv_json_str(j->req.options, "target", &t.target, err) != SV_OK) {
        err->api_code = 5006;
        return err->code;
    }
    t.max_tokens = (int32_t)max_tokens;
    return sv_seq2seq_begin(out, m, &t, err);
}

static sv_rc rewriting_run(void *model, sv_media *j, const sv_media_run *run, sv_err *err)
{
    SV_AUTO(sv_seq2seq_run_freep) sv_seq2seq_run *r = NULL;
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, 1 << 20);
    if (begin(&r, model, j, err) != SV_OK)
        return err->code;
    for (bool more = true; more;) {
        if (atomic_load(run->cancel))
            return sv_fail(err, SV_ECANCELED, "canceled");
        more = sv_seq2seq_step(r, sv_compute_enter(run->compute));
        sv_compute_leave(run->compute);
    }
    if (sv_seq2seq_written(r, &text, &j->usage.prompt_tokens, &j->usage.completion_tokens, err) != SV_OK)
        return err->code;
    sv_buf_adds(&j->json, "{\"text\":");
    sv_json_add_str(&j->json, sv_buf_str(&text));
    sv_buf_addc(&j->json, '}');
    return SV_OK;
}

const sv_media_family sv_media_rewriting = {.is = rewriting_is, .open = rewriting_open, .close = rewriting_close, .run = rewriting_run};
