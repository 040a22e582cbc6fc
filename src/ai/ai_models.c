/* ai_models.c - the catalogue as clients list it: models, tasks, authors, a model's schema
 *
 * Order: what runs here first. Ids are UUIDs in the records; they are made from the names, so that they stay the same from start to start and from node to
 * node. Retired models are listed only where their weights were imported; deprecated ones up to three months past their date, and only on
 * request (include_deprecated), as the hosted service does. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "ai/ai.h"
#include "ai/ai_impl.h"
#include "ai/task.h"
#include "base/hash.h"
#include "base/time.h"
#include "http/api.h"

enum { PER_PAGE = 50 };
#define DAY_MS INT64_C(86400000)

/* A version 8 UUID (RFC 9562: of one's own making) from kind and name. */
static void uuid_of(char out[37], const char *kind, const char *name)
{
    uint8_t h[32];
    char hex[33];
    SV_AUTO(sv_buf_donep) sv_buf key;
    sv_buf_init(&key, 4096);
    sv_buf_addf(&key, "%s %s", kind, name);
    sv_sha256(h, key.p, key.n);
    h[6] = (uint8_t)(0x80 | (h[6] & 0x0f));
    h[8] = (uint8_t)(0x80 | (h[8] & 0x3f));
    sv_hex(hex, h, 16);
    snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

static const struct { const char *name, *about; } tasks[] = {
    {"Text Generation", "Language models that continue a prompt or a conversation."},
    {"Text Embeddings", "Models that turn text into vectors, for search and retrieval."},
    {"Text Classification", "Models that label text, or rank passages by a query."},
    {"Translation", "Models that translate text between languages."},
    {"Summarization", "Models that shorten text."},
    {"Automatic Speech Recognition", "Models that turn speech into text."},
    {"Text-to-Speech", "Models that read text aloud."},
    {"Text-to-Image", "Models that draw from a description."},
    {"Image-to-Text", "Models that describe images."},
    {"Image Classification", "Models that label images."},
    {"Object Detection", "Models that find things in images."},
    {"Dumb Pipe", "Models served as they are, without a task schema: turn detection."},
};

static json_t *task_record(const char *name)
{
    char id[37];
    const char *about = "";
    uuid_of(id, "task", name);
    for (size_t i = 0; i < SV_LEN(tasks); i++)
        if (strcmp(tasks[i].name, name) == 0)
            about = tasks[i].about;
    return json_pack("{s:s, s:s, s:s}", "id", id, "name", name, "description", about);
}

/* ---- one model ---- */

static void add_property(json_t *list, const char *id, const char *value)
{
    json_array_append_new(list, json_pack("{s:s, s:s}", "property_id", id, "value", value));
}

static json_t *price_row(const char *unit, double usd)
{
    return json_pack("{s:s, s:f, s:s}", "unit", unit, "price", usd, "currency", "USD");
}

static json_t *properties_of(const sv_model *m)
{
    json_t *list = json_array();
    char number[32];
    if (m->n_ctx > 0) {
        snprintf(number, sizeof number, "%d", m->n_ctx);
        add_property(list, "context_window", number);
    }
    if (m->facts.kind == SV_KIND_ENCODER && m->facts.dim > 0) {
        snprintf(number, sizeof number, "%d", m->facts.dim);
        add_property(list, "output_dimensions", number);
    }
    if (m->neurons_in > 0 || m->neurons_out > 0) {
        json_t *rows = json_array();
        json_array_append_new(rows, price_row("per M input tokens", m->usd_in));
        if (m->neurons_out > 0)
            json_array_append_new(rows, price_row("per M output tokens", m->usd_out));
        json_array_append_new(list, json_pack("{s:s, s:o}", "property_id", "price", "value", rows));
    }
    if (m->neurons_minute > 0) {
        json_t *rows = json_array();
        json_array_append_new(rows, price_row("per audio minute", m->usd_minute));
        json_array_append_new(list, json_pack("{s:s, s:o}", "property_id", "price", "value", rows));
    }
    const struct { bool has; const char *id; } flags[] = {
        {m->tools, "function_calling"}, {m->reasoning, "reasoning"}, {m->vision, "vision"},          {m->lora, "lora"},
        {m->beta, "beta"},              {m->async_queue, "async_queue"}, {m->paid, "require_workers_paid"},
    };
    for (size_t i = 0; i < SV_LEN(flags); i++)
        if (flags[i].has && !m->path) /* those of the hosted model; what runs here has what this release can do */
            add_property(list, flags[i].id, "true");
    if (m->path && (m->async_queue || !m->listed))
        add_property(list, "async_queue", "true");
    if (m->deprecation_date)
        add_property(list, "planned_deprecation_date", m->deprecation_date);
    add_property(list, "weights", m->path ? "here" : "absent");
    return list;
}

static json_t *model_record(const sv_model *m)
{
    char id[37], created[32];
    uuid_of(id, "model", m->id);
    json_t *rec = json_pack("{s:s, s:i, s:s, s:s, s:o, s:[], s:o}", "id", id, "source", 1, "name", m->id, "description", m->description ? m->description : "",
                            "task", task_record(m->task), "tags", "properties", properties_of(m));
    if (m->created_ms) {
        sv_iso8601(created, m->created_ms);
        json_object_set_new(rec, "created_at", json_string(created));
    }
    return rec;
}

/* ---- search ---- */

typedef struct filter { sv_str search, task, author; bool hide_experimental, deprecated; char today[32], oldest[32]; } filter;

static bool query_bool(sv_req *r, const char *name)
{
    sv_str v;
    return sv_req_query(r, name, 0, &v) && (sv_str_is(v, "true") || sv_str_is(v, "1"));
}

static bool contains(const char *text, sv_str what)
{
    size_t n = text ? strlen(text) : 0;
    for (size_t i = 0; i + what.n <= n; i++)
        if (strncasecmp(text + i, what.p, what.n) == 0)
            return true;
    return what.n == 0;
}

static bool task_is(const char *task, sv_str want)
{
    char id[37];
    if (want.n == 0 || sv_str_ieq(want, task))
        return true;
    uuid_of(id, "task", task);
    return sv_str_is(want, id);
}

static bool listed(const sv_model *m, const filter *f)
{
    if (!task_is(m->task, f->task) || !(contains(m->vendor, f->author) || contains(m->id, f->author)))
        return false;
    if (!contains(m->id, f->search) && !contains(m->description, f->search))
        return false;
    if (m->path)
        return true;
    if ((f->hide_experimental && m->beta) || strcmp(m->status, "retired") == 0)
        return false;
    if (!m->deprecation_date || strcmp(m->deprecation_date, f->today) > 0) /* dates compare as text */
        return true;
    return f->deprecated && strcmp(m->deprecation_date, f->oldest) >= 0;
}

static filter filter_of(sv_req *r)
{
    filter f = {.hide_experimental = query_bool(r, "hide_experimental"), .deprecated = query_bool(r, "include_deprecated")};
    sv_str none = {"", 0};
    if (!sv_req_query(r, "search", 0, &f.search))
        f.search = none;
    if (!sv_req_query(r, "task", 0, &f.task))
        f.task = none;
    if (!sv_req_query(r, "author", 0, &f.author))
        f.author = none;
    sv_iso8601(f.today, sv_now_ms());
    sv_iso8601(f.oldest, sv_now_ms() - 92 * DAY_MS);
    f.today[10] = f.oldest[10] = 0; /* the date alone */
    return f;
}

void sv_ai_models_search(sv_req *r, void *ctx)
{
    sv_ai *ai = ctx;
    sv_str format;
    if (sv_req_query(r, "format", 0, &format) && format.n > 0) {
        sv_api_error(r, 400, 5006, "'format' is not supported: this release lists models in Cloudflare's form only");
        return;
    }
    filter f = filter_of(r);
    json_t *found = json_array();
    sv_model_list all = sv_catalogue_list(ai->catalogue);
    for (size_t i = 0; i < all.n; i++)
        if (listed(all.models[i], &f))
            json_array_append_new(found, model_record(all.models[i]));
    sv_model_list_done(&all);
    sv_api_ok_page(r, found, PER_PAGE);
}

void sv_ai_tasks_search(sv_req *r, void *ctx)
{
    (void)ctx;
    json_t *all = json_array();
    for (size_t i = 0; i < SV_LEN(tasks); i++)
        json_array_append_new(all, task_record(tasks[i].name));
    sv_api_ok(r, all);
}

void sv_ai_authors_search(sv_req *r, void *ctx)
{
    sv_ai *ai = ctx;
    json_t *seen = json_object(), *list = json_array();
    sv_model_list all = sv_catalogue_list(ai->catalogue);
    for (size_t i = 0; i < all.n; i++) {
        char id[37];
        const char *name = all.models[i]->vendor;
        if (!name || json_object_get(seen, name))
            continue;
        uuid_of(id, "author", name);
        json_object_set_new(seen, name, json_true());
        json_array_append_new(list, json_pack("{s:s, s:s}", "id", id, "name", name));
    }
    sv_model_list_done(&all);
    json_decref(seen);
    sv_api_ok(r, list);
}

void sv_ai_models_schema(sv_req *r, void *ctx)
{
    sv_ai *ai = ctx;
    sv_err err = {0};
    sv_str id;
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    if (!sv_req_query(r, "model", 0, &id)) {
        sv_api_error(r, 400, 5006, "required query parameters are 'model'");
        return;
    }
    if (sv_catalogue_find(ai->catalogue, id, &m, &err) != SV_OK)
        sv_api_error(r, 400, 5007, "%s", err.msg);
    else if (!sv_task_of(m))
        sv_api_error(r, 404, 6002, "There is no schema for %s: this release does not run the task %s", m->id, m->task);
    else
        sv_api_ok(r, sv_task_of(m)->describe(m));
}
