/* task.c - the table of tasks, and the life of a call
 *
 *     sv_ai_run -> check -> run -> engine ... -> sv_ai_answer | sv_ai_fail | sv_ai_let_go
 *                  |                                 |
 *                  refused                           metered, freed
 *
 * A call that the client leaves, or that the daemon's end cuts off, is freed on the spot: its request of the engine is canceled and the task hears
 * nothing. So tasks have no code for that, only what free_state does.
 *
 * Invariants:
 *   1. While a call is in ai->calls its request is alive: on_close and every end free the call at once.
 *   2. Each call meters once, in call_free, whatever way it ended: what was computed for a client that left is accounted too. */
#include "ai/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/account.h"
#include "ai/ai_impl.h"
#include "ai/batch.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"

#define KIND(k) (UINT32_C(1) << SV_KIND_##k)

static const sv_task tasks[] = {
    {.name = "Text Generation", .own_shape = "prompt-or-messages", .kinds = KIND(GENERATOR), .streams = true,
     .check = sv_tg_check, .run = sv_tg_run, .describe = sv_tg_describe},
    {.name = "Text Embeddings", .own_shape = "embeddings", .kinds = KIND(ENCODER),
     .check = sv_embed_check, .run = sv_embed_run, .describe = sv_embed_describe},
    {.name = "Text Classification", .shape = "text-classification", .own_shape = "text-classification", .kinds = KIND(CLASSIFIER),
     .check = sv_classify_check, .run = sv_classify_run, .describe = sv_classify_describe},
    {.name = "Text Classification", .shape = "rerank", .own_shape = "rerank", .kinds = KIND(RERANKER),
     .check = sv_rerank_check, .run = sv_classify_run, .describe = sv_rerank_describe},
    {.name = "Automatic Speech Recognition", .shape = "whisper", .kinds = KIND(SPEECH), .binary = true, .check = sv_hear_check, .run = sv_hear_run,
     .describe = sv_hear_describe},
    {.name = "Automatic Speech Recognition", .shape = "whisper-large-v3-turbo", .own_shape = "whisper-large-v3-turbo", .kinds = KIND(SPEECH), .binary = true,
     .check = sv_hear_check, .run = sv_hear_run, .describe = sv_hear_describe},
    {.name = "Image Classification", .own_shape = "image-classification", .kinds = KIND(IMAGES), .binary = true, .check = sv_see_check, .run = sv_see_run,
     .describe = sv_see_describe},
    {.name = "Object Detection", .own_shape = "object-detection", .kinds = KIND(OBJECTS), .binary = true, .check = sv_find_check, .run = sv_see_run,
     .describe = sv_find_describe},
    {.name = "Translation", .shape = "translation", .own_shape = "translation", .kinds = KIND(TRANSLATOR),
     .check = sv_translate_check, .run = sv_rewrite_run, .describe = sv_translate_describe},
    {.name = "Summarization", .own_shape = "summarization", .kinds = KIND(SUMMARISER),
     .check = sv_summarise_check, .run = sv_rewrite_run, .describe = sv_summarise_describe},
};

const sv_task *sv_task_of(const sv_model *m)
{
    const sv_task *any = NULL;
    for (size_t i = 0; i < SV_LEN(tasks); i++) {
        if (strcmp(tasks[i].name, m->task) != 0)
            continue;
        if (tasks[i].shape && strcmp(tasks[i].shape, m->shape) == 0)
            return &tasks[i];
        if (!tasks[i].shape)
            any = &tasks[i];
    }
    return any;
}

const sv_task *sv_task_of_kind(sv_model_kind kind)
{
    for (size_t i = 0; i < SV_LEN(tasks); i++)
        if (tasks[i].kinds >> kind & 1)
            return &tasks[i];
    return NULL;
}

/* ---- what clients are told ---- */

int sv_ai_status_of(int code)
{
    switch (code) {
    case 3023: case 3041: case 5016: case 5018: case 5035: return 403;
    case 3042: return 404;
    case 5005: case 5019: return 405;
    case 3007: case 3008: return 408;
    case 3006: return 413;
    case 3036: case 3040: return 429;
    case 3043: return 500;
    default: return code ? 400 : 0;
    }
}

void sv_ai_req_id(const sv_req *r, char out[37])
{
    const char *h = sv_req_id(r);
    snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", h, h + 8, h + 12, h + 16, h + 20);
}

sv_ai_verdict sv_ai_judge(const sv_req *r, const sv_model *m, const sv_err *err)
{
    sv_ai_verdict v = {.code = err->api_code};
    if (v.code == 0 && err->code == SV_ELIMIT && !err->ours)
        v.code = 3040;
    if (v.code == 0 && err->code == SV_EINVAL)
        v.code = 5006;
    if (v.code == 0 && err->code == SV_ETIMEDOUT)
        v.code = 3007;
    if (v.code != 0) {
        v.status = sv_ai_status_of(v.code);
        snprintf(v.message, sizeof v.message, "%s", err->msg);
        return v;
    }
    static sv_log_gate gate;
    const char *id = r ? sv_req_id(r) : "batch";
    if (sv_log_may(&gate, 30))
        sv_log(SV_WARN, "ai.error", "id=%s model=%s rc=%s error='%s'", id, m ? m->id : "-", sv_rc_name(err->code), err->msg);
    bool again = err->code == SV_EIO || err->code == SV_ENOMEM; /* the engine is back in a moment, or another model leaves */
    v.status = again ? 503 : 500;
    v.code = err->code == SV_ENOMEM ? 3040 : 3043;
    const char *what = err->code == SV_EIO ? "the engine stopped while it ran this request; try again"
                       : err->code == SV_ENOMEM ? "not enough memory for this model now; try again"
                                                : "this model does not load here; the log says why";
    snprintf(v.message, sizeof v.message, "Internal server error: %s (request %s)", what, id);
    return v;
}

void sv_ai_refuse(sv_ai *ai, sv_req *r, const sv_err *err, const char *bad, const sv_surface *s)
{
    sv_ai_verdict v = sv_ai_judge(r, NULL, err);
    sv_ai_count_refusal(ai, v.code);
    s->refuse(r, v.status, v.code, v.message, bad);
}

/* ---- calls ---- */

static void meter_end(const sv_ai_call *c)
{
    sv_meter *meter = sv_ai_meter(c->ai, c->model);
    meter->in_flight--;
    meter->n_errors += c->failed;
    meter->tokens_in += c->usage.prompt_tokens;
    meter->tokens_cached += c->usage.cached_tokens;
    meter->tokens_out += c->usage.completion_tokens;
    meter->neurons += sv_ai_neurons(c->model, &c->usage) + c->minutes * c->model->neurons_minute;
}

static void call_free(sv_ai_call *c)
{
    if (c->gen)
        sv_gen_cancel(c->gen);
    if (c->prev) { /* it ran */
        meter_end(c);
        *c->prev = c->next;
        if (c->next)
            c->next->prev = c->prev;
    }
    if (c->free_state)
        c->free_state(c->state);
    sv_model_unref(c->model);
    free(c);
}

static void on_close(sv_req *r, void *arg)
{
    (void)r;
    call_free(arg);
}

static void begin(sv_ai_call *c)
{
    sv_ai *ai = c->ai;
    c->next = ai->calls;
    c->prev = &ai->calls;
    if (c->next)
        c->next->prev = &c->next;
    ai->calls = c;
    sv_meter *meter = sv_ai_meter(ai, c->model);
    meter->n_requests++;
    meter->in_flight++;
    if (c->r)
        sv_req_on_close(c->r, on_close, c);
}

static void tell(sv_ai_call *c, sv_ai_end end)
{
    sv_ai_end_fn ended = c->ended;
    void *arg = c->ended_arg;
    end.usage = c->usage;
    call_free(c);
    ended(&end, arg);
}

sv_req *sv_ai_let_go(sv_ai_call *c)
{
    sv_req *r = c->r;
    sv_req_on_close(r, NULL, NULL);
    call_free(c);
    return r;
}

void sv_ai_send(sv_req *r, sv_str json, const sv_surface *s)
{
    char id[37];
    sv_ai_req_id(r, id);
    sv_req_add_header(r, "cf-ai-req-id", id);
    if (!s->envelope) {
        sv_req_send(r, 200, "application/json", json);
        return;
    }
    SV_AUTO(sv_buf_donep) sv_buf body;
    sv_buf_init(&body, 0);
    sv_buf_adds(&body, "{\"result\":");
    sv_buf_add(&body, json.p, json.n);
    sv_buf_adds(&body, ",\"success\":true,\"errors\":[],\"messages\":[]}");
    sv_req_send(r, 200, "application/json", sv_buf_str(&body));
}

void sv_ai_answer(sv_ai_call *c, sv_str json)
{
    if (!c->r) {
        tell(c, (sv_ai_end){.ok = true, .status = 200, .text = json});
        return;
    }
    const sv_surface *surface = c->surface;
    sv_ai_send(sv_ai_let_go(c), json, surface);
}

void sv_ai_answer_buf(sv_ai_call *c, const sv_buf *json)
{
    sv_err err = {0};
    if (!json->failed) {
        sv_ai_answer(c, (sv_str){json->p, json->n});
        return;
    }
    sv_fail(&err, SV_ENOMEM, "no memory for the answer");
    sv_ai_fail(c, &err);
}

void sv_ai_fail(sv_ai_call *c, const sv_err *err)
{
    sv_ai_verdict v = sv_ai_judge(c->r, c->model, err);
    const sv_surface *s = c->surface;
    char bad[sizeof c->bad];
    memcpy(bad, c->bad, sizeof bad);
    c->failed = true;
    sv_ai_count_refusal(c->ai, v.code);
    if (c->r)
        s->refuse(sv_ai_let_go(c), v.status, v.code, v.message, bad);
    else
        tell(c, (sv_ai_end){.status = v.status, .code = v.code, .text = sv_str_of(v.message)});
}

void sv_ai_cancel_all(sv_ai *ai)
{
    while (ai->calls)
        call_free(ai->calls);
}

static void run_call(sv_ai_call *c, const sv_ai_input *in)
{
    sv_err err = {0};
    const sv_task *task = c->task;
    if (in->bytes.p && !task->binary)
        sv_fail_api(&err, SV_EINVAL, 5006, "Type mismatch of '/', the body is not a JSON object: %s has no binary input", task->name);
    if (err.code != SV_OK || task->check(c, in, &err) != SV_OK) {
        sv_ai_fail(c, &err); /* not metered: it did not begin */
        return;
    }
    begin(c);
    task->run(c);
}

void sv_ai_run_task(sv_ai *ai, sv_req *r, const sv_model **m, const sv_task *task, const sv_ai_input *in, const sv_surface *s)
{
    const sv_principal *who = sv_req_user(r);
    sv_ai_call *c = sv_xnew0(sv_ai_call);
    *c = (sv_ai_call){.ai = ai, .r = r, .task = task, .model = SV_TAKE(*m), .surface = s};
    snprintf(c->tenant, sizeof c->tenant, "%s", who ? who->account_id : "");
    sv_ai_req_id(r, c->req_id);
    run_call(c, in);
}

/* The model, and the row of its task. */
static sv_rc find(sv_ai *ai, sv_str model_id, const sv_model **m, const sv_task **task, sv_err *err)
{
    if (sv_catalogue_resolve(ai->catalogue, model_id, m, err) != SV_OK)
        return err->code;
    *task = sv_task_of(*m);
    return *task ? SV_OK : sv_fail_api(err, SV_ENOENT, 5007, "No such model %s here: this release does not run the task %s", (*m)->id, (*m)->task);
}

void sv_ai_run(sv_ai *ai, sv_req *r, sv_str model_id, const sv_ai_input *in, const sv_surface *s)
{
    sv_err err = {0};
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    const sv_task *task = NULL;
    if (ai->batches && !in->bytes.p && json_object_get(in->json, "request_id"))
        sv_batches_poll(ai->batches, r, model_id, in->json, s);
    else if (find(ai, model_id, &m, &task, &err) != SV_OK)
        sv_ai_refuse(ai, r, &err, "model", s);
    else
        sv_ai_run_task(ai, r, &m, task, in, s);
}

void sv_ai_queue(sv_ai *ai, sv_req *r, sv_str model_id, const json_t *body, const sv_surface *s)
{
    sv_err err = {0};
    if (ai->batches) {
        sv_batches_add(ai->batches, r, model_id, body, s);
        return;
    }
    sv_fail_api(&err, SV_EINVAL, 5006, "'queueRequest' is not supported: this node keeps no asynchronous batches");
    sv_ai_refuse(ai, r, &err, "queueRequest", s);
}

void sv_ai_run_for(sv_ai *ai, const char *tenant, sv_str model_id, json_t *input, sv_ai_end_fn ended, void *arg)
{
    sv_err err = {0};
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    const sv_task *task = NULL;
    if (find(ai, model_id, &m, &task, &err) != SV_OK) {
        sv_ai_verdict v = sv_ai_judge(NULL, NULL, &err);
        sv_ai_count_refusal(ai, v.code);
        ended(&(sv_ai_end){.status = v.status, .code = v.code, .text = sv_str_of(v.message)}, arg);
        return;
    }
    sv_ai_call *c = sv_xnew0(sv_ai_call);
    *c = (sv_ai_call){.ai = ai, .task = task, .model = SV_TAKE(m), .ended = ended, .ended_arg = arg};
    snprintf(c->tenant, sizeof c->tenant, "%s", tenant);
    sv_uuid4(c->req_id);
    run_call(c, &(sv_ai_input){.json = input});
}
