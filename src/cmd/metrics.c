/* metrics.c - what /metrics shows of the engine process
 *
 * The engine is another process, asked over its socket at every scrape: nothing is sent while nobody looks. So an answer waits for it, a
 * second at most (the daemon's own counters must be readable while an engine is being started again), and a client may leave
 * meanwhile. A scrape lives until the engine's client has called back, or until it is gone; its request is NULL once that is answered
 * or left. */
#include "cmd/metrics.h"

#include "base/json.h"
#include "base/mem.h"

enum { WAIT_MS = 1000 };

typedef struct scrape {
    struct scrape *next, **link;
    sv_req *r; /* NULL: answered, or its client left */
    sv_buf text;
    sv_timer *limit;
} scrape;

struct sv_scrapes {
    sv_loop *loop;
    sv_engine_client *engine;
    scrape *list;
};

/* --- the text ------------------------------------------------------------------------------------------------------- */

static void head(sv_buf *out, const char *name, const char *type, const char *help)
{
    sv_buf_addf(out, "# HELP selvedge_engine_%s %s\n# TYPE selvedge_engine_%s %s\n", name, help, name, type);
}

static void value(sv_buf *out, const json_t *stats, const char *key, const char *name, const char *labels)
{
    sv_buf_addf(out, "selvedge_engine_%s%s %lld\n", name, labels, (long long)json_integer_value(json_object_get(stats, key)));
}

static void counter(sv_buf *out, const json_t *stats, const char *key, const char *name, const char *help)
{
    head(out, name, "counter", help);
    value(out, stats, key, name, "");
}

/* [[bound, count], ..., [null, count]], counts between bounds; Prometheus wants them up to each. */
static void histogram(sv_buf *out, const json_t *buckets, const char *name, double unit, double sum, const char *help)
{
    size_t i;
    const json_t *b;
    int64_t n = 0;
    head(out, name, "histogram", help);
    json_array_foreach(buckets, i, b) {
        const json_t *bound = json_array_get(b, 0);
        n += json_integer_value(json_array_get(b, 1));
        if (json_is_integer(bound))
            sv_buf_addf(out, "selvedge_engine_%s_bucket{le=\"%g\"} %lld\n", name, (double)json_integer_value(bound) * unit, (long long)n);
        else
            sv_buf_addf(out, "selvedge_engine_%s_bucket{le=\"+Inf\"} %lld\n", name, (long long)n);
    }
    sv_buf_addf(out, "selvedge_engine_%s_sum %.17g\nselvedge_engine_%s_count %lld\n", name, sum, name, (long long)n);
}

void sv_metrics_of_engine(sv_buf *out, const json_t *stats)
{
    head(out, "up", "gauge", "1: the engine answered.");
    sv_buf_addf(out, "selvedge_engine_up %d\n", stats ? 1 : 0);
    if (!stats)
        return;
    head(out, "models", "gauge", "Models for text in memory.");
    sv_buf_addf(out, "selvedge_engine_models %zu\n", json_array_size(json_object_get(stats, "models")));
    head(out, "requests", "gauge", "Requests for text: in the batch, and waiting for a place in it.");
    value(out, stats, "active", "requests", "{state=\"active\"}");
    value(out, stats, "queue", "requests", "{state=\"queued\"}");
    head(out, "kv_pages", "gauge", "Pages of KV caches: used by requests, kept for requests to come, and all there may be.");
    value(out, stats, "kv_pages_used", "kv_pages", "{state=\"used\"}");
    value(out, stats, "kv_pages_cached", "kv_pages", "{state=\"cached\"}");
    value(out, stats, "kv_pages", "kv_pages", "{state=\"all\"}");
    counter(out, stats, "tokens", "tokens_total", "Tokens chosen.");
    counter(out, stats, "rows", "rows_total", "Tokens computed: those of texts, and of prompts where they were not kept.");
    counter(out, stats, "cached_tokens", "cached_tokens_total", "Prompt tokens that were kept and not computed again.");
    counter(out, stats, "cancelled", "cancelled_total", "Requests canceled.");
    counter(out, stats, "preempted", "preempted_total", "Times that a request paused for want of pages.");
    histogram(out, json_object_get(stats, "steps_by_ms"), "step_seconds", 1e-3, json_real_value(json_object_get(stats, "step_s")), "Time of a step of a batch.");
    histogram(out, json_object_get(stats, "steps_by_rows"), "step_rows", 1, (double)json_integer_value(json_object_get(stats, "rows")),
              "Tokens computed in a step of a batch.");
}

/* --- a scrape ------------------------------------------------------------------------------------------------------- */

static void scrape_free(scrape *x)
{
    *x->link = x->next;
    if (x->next)
        x->next->link = x->link;
    sv_timer_free(x->limit);
    sv_buf_done(&x->text);
    free(x);
}

static void answer(scrape *x, const json_t *stats)
{
    sv_req *r = SV_TAKE(x->r);
    sv_timer_set(x->limit, -1);
    if (!r)
        return;
    sv_metrics_of_engine(&x->text, stats);
    sv_req_send(r, 200, "text/plain; version=0.0.4; charset=utf-8", sv_buf_str(&x->text));
}

static void on_stats(const json_t *stats, void *arg)
{
    answer(arg, stats);
    scrape_free(arg);
}

static void on_limit(void *arg) { answer(arg, NULL); }

static void on_close(sv_req *r, void *arg)
{
    scrape *x = arg;
    (void)r;
    x->r = NULL;
}

void sv_scrapes_answer(sv_scrapes *s, sv_req *r, sv_str others)
{
    scrape *x = sv_xnew0(scrape);
    *x = (scrape){.next = s->list, .link = &s->list, .r = r};
    if (s->list)
        s->list->link = &x->next;
    s->list = x;
    sv_buf_init(&x->text, 0);
    sv_buf_add(&x->text, others.p, others.n);
    x->limit = sv_timer_new(s->loop, on_limit, x);
    sv_timer_set(x->limit, WAIT_MS);
    sv_req_on_close(r, on_close, x);
    sv_engine_stats(s->engine, on_stats, x);
}

sv_scrapes *sv_scrapes_new(sv_loop *loop, sv_engine_client *engine)
{
    sv_scrapes *s = sv_xnew0(sv_scrapes);
    s->loop = loop;
    s->engine = engine;
    return s;
}

sv_scrapes *sv_scrapes_free(sv_scrapes *s)
{
    while (s && s->list)
        scrape_free(s->list);
    free(s);
    return NULL;
}
