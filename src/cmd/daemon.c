/* daemon.c - where all products meet: one loop, one job pool, two HTTP servers, and the route table
 *
 * The API server takes what the front door does not send to a Worker: Cloudflare's REST, the OpenAI dialect, /metrics, the landing page.
 * The binding server takes the calls of Workers' bindings, each Worker on a socket of its own: who calls is known from the
 * socket, and which product is called from the header that workerd's configuration injects (a Worker cannot change it).
 *
 * Start: fd 3 is the listening socket, fd 4 the supervisor's. Stores first, then the declared Workers, then the API's socket. End: SIGTERM
 * stops accepting, ends what runs, closes the stores. */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "account/account.h"
#include "account/account_rest.h"
#include "account/limits.h"
#include "account/ratelimit.h"
#include "ai/ai.h"
#include "ai/catalogue.h"
#include "analytics/analytics.h"
#include "base/file.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/time.h"
#include "cache/cache_binding.h"
#include "cmd/cmd.h"
#include "cmd/metrics.h"
#include "d1/d1_http.h"
#include "engine/client.h"
#include "http/api.h"
#include "http/client.h"
#include "http/graphql.h"
#include "http/server.h"
#include "kv/kv_http.h"
#include "queues/deliver.h"
#include "queues/queues_http.h"
#include "r2/r2_http.h"
#include "vectorize/vectorize.h"
#include "workers/events.h"
#include "workers/outbound.h"
#include "workers/schedules.h"
#include "workers/runtime.h"
#include "workers/super.h"
#include "workers/workers.h"
#include "workers/workers_rest.h"

enum { API_FD = 3, SUPER_FD = 4, N_JOBS = 8, MAX_JOBS = 1024 };

typedef struct daemon_ctx {
    sv_loop *loop;
    sv_jobs *jobs;
    sv_accounts *accounts;
    sv_catalogue *catalogue;
    sv_engine_client *engine;
    sv_scrapes *scrapes;
    sv_client *outward, *inward; /* to the world; to the dispatchers of Workers */
    sv_ai *ai;
    sv_d1 *d1;
    sv_d1_http *d1_http;
    sv_graphql_set sets[4];
    sv_graphql graphql;
    sv_kvs *kv;
    sv_ratelimit *ratelimit;
    sv_cache *cache;
    sv_cache_http cache_http;
    sv_kvs_http kv_http;
    sv_queues *queues;
    sv_queues_http queues_http;
    sv_deliver *deliver;
    sv_r2 *r2;
    sv_r2_http r2_http;
    sv_crons *crons;
    sv_vectorize *vectorize;
    sv_analytics *analytics;
    sv_workers *workers;
    sv_runtime *runtime;
    sv_http *api, *bindings;
    int64_t started_ms, drain_ms;
    sv_timer *drain_limit;
    bool events_ended;
    int n_events;    /* of deliver and crons, those that have not ended yet */
    int n_draining;  /* servers that have not ended yet; 0 before SIGTERM */
} daemon_ctx;

/* ---- the API server's own routes ---- */

static void get_metrics(sv_req *r, void *ctx)
{
    daemon_ctx *d = ctx;
    sv_buf b;
    sv_buf_init(&b, 1 << 20);
    sv_http_stats api = sv_http_get_stats(d->api), bind = sv_http_get_stats(d->bindings);
    sv_buf_addf(&b,
                "# HELP selvedge_http_requests_total Requests, by server.\n# TYPE selvedge_http_requests_total counter\n"
                "selvedge_http_requests_total{server=\"api\"} %lld\nselvedge_http_requests_total{server=\"bindings\"} %lld\n"
                "# HELP selvedge_http_connections Open connections, by server.\n# TYPE selvedge_http_connections gauge\n"
                "selvedge_http_connections{server=\"api\"} %lld\nselvedge_http_connections{server=\"bindings\"} %lld\n",
                (long long)api.n_requests, (long long)bind.n_requests, (long long)api.n_connections, (long long)bind.n_connections);
    sv_ai_metrics(d->ai, &b);
    sv_vectorize_metrics(d->vectorize, &b);
    sv_scrapes_answer(d->scrapes, r, sv_buf_str(&b));
    sv_buf_done(&b);
}

static const char landing[] =
    "<!doctype html><meta charset=utf-8><title>Selvedge</title><style>body{font:16px/1.5 system-ui;max-width:44em;margin:3em auto;"
    "padding:0 1em}code{background:#8882;padding:.1em .3em;border-radius:3px}</style><h1>Selvedge</h1>"
    "<p>Edge AI on your own machine. The API is at <code>/client/v4</code>, an OpenAI base URL at "
    "<code>/client/v4/accounts/ACCOUNT/ai/v1</code>, a Worker at <code>http://NAME.localhost</code> on this port, counters at "
    "<a href=/metrics>/metrics</a>. The account id and the first token are in the data directory, in <code>account</code> and "
    "<code>token</code>.";

static void get_landing(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_send(r, 200, "text/html; charset=utf-8", SV_STR(landing));
}

static void not_found(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_str path = sv_req_path(r);
    static sv_log_gate gate;
    if (sv_log_may(&gate, 60))
        sv_log(SV_INFO, "api.unrouted", "method=%s path_bytes=%zu id=%s", sv_req_method(r), path.n, sv_req_id(r));
    sv_api_error(r, 404, 7003, "No route for %s %.*s: the path or an identifier in it is wrong, or this release does not have it", sv_req_method(r),
                 (int)(path.n > 160 ? 160 : path.n), path.p);
}

/* NAME.localhost came here, so the front door knows no Worker of that name. */
static bool refuse_unknown_worker(sv_req *r)
{
    sv_str host = sv_req_header(r, "host");
    const char *colon = host.n ? memchr(host.p, ':', host.n) : NULL;
    if (colon)
        host.n = (size_t)(colon - host.p);
    static const char suffix[] = ".localhost";
    size_t n = sizeof suffix - 1;
    if (host.n <= n || memcmp(host.p + host.n - n, suffix, n) != 0)
        return false;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 4096);
    sv_buf_addf(&b, "There is no Worker named %.*s here. Deploy one with wrangler.\n", (int)(host.n - n), host.p);
    sv_req_send(r, 404, "text/plain; charset=utf-8", sv_buf_str(&b));
    return true;
}

static bool before_api(sv_req *r, void *ctx)
{
    daemon_ctx *d = ctx;
    if (refuse_unknown_worker(r))
        return false;
    if (!sv_str_starts(sv_req_path(r), "/client/v4/"))
        return true;
    return sv_account_before(r, d->accounts);
}

/* ---- the binding server ---- */

static bool before_bindings(sv_req *r, void *ctx)
{
    (void)ctx;
    const sv_worker_id *id = sv_req_listener(r);
    sv_principal *who = sv_arena_new(sv_req_arena(r), sv_principal, 1); /* a copy: the Worker may be deleted while this call runs */
    if (!who) {
        sv_api_error(r, 503, 10013, "out of memory");
        return false;
    }
    *who = id->principal;
    sv_req_set_user(r, who);
    return true;
}

/* The product a binding call is for: "ai", "kv:ns1", ... stands in front of its path when its route is looked up. */
static sv_str binding_prefix(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_str b = sv_req_header(r, "x-sv-binding");
    const char *colon = b.n ? memchr(b.p, ':', b.n) : NULL;
    return (sv_str){b.p, colon ? (size_t)(colon - b.p) : b.n};
}

static void no_binding(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_str b = sv_req_header(r, "x-sv-binding");
    SV_AUTO(sv_buf_donep) sv_buf body;
    sv_buf_init(&body, 4096);
    sv_buf_addf(&body, "{\"internalCode\":7003,\"name\":\"AiError\",\"message\":\"no such operation\",\"description\":\"the binding '%.*s' has no %s ",
                (int)(b.n > 32 ? 32 : b.n), b.n ? b.p : "", sv_req_method(r));
    sv_str path = sv_req_path(r);
    for (size_t i = 0; i < path.n && i < 100; i++)
        sv_buf_addc(&body, path.p[i] == '"' || path.p[i] == '\\' || (unsigned char)path.p[i] < 0x20 ? '?' : path.p[i]);
    sv_buf_adds(&body, " in this release\"}");
    sv_req_send(r, 404, "application/json", sv_buf_str(&body));
}

static const char *account_of(sv_req *r) { return ((const sv_principal *)sv_req_user(r))->account_id; }

/* ---- start ---- */

static void add_routes(daemon_ctx *d)
{
    static const sv_route own[] = {
        {.method = "GET", .path = "/", .fn = get_landing},
        {.method = "GET", .path = "/metrics", .fn = get_metrics},
    };
    for (size_t i = 0; i < SV_LEN(own); i++)
        sv_http_route(d->api, &own[i], d);
    sv_account_rest_routes(d->api, d->accounts);
    sv_workers_rest_routes(d->api, d->workers);
    sv_ai_rest_routes(d->api, d->ai);
    sv_ai_openai_routes(d->api, d->ai);
    sv_ai_binding_routes(d->bindings, d->ai);
    sv_d1_rest_routes(d->api, d->d1_http);
    sv_d1_binding_routes(d->bindings, d->d1_http);
    d->sets[0] = (sv_graphql_set){.name = "d1AnalyticsAdaptiveGroups", .rows = sv_d1_analytics, .ctx = d->d1_http};
    d->sets[1] = (sv_graphql_set){.name = "r2StorageAdaptiveGroups", .rows = sv_r2_analytics, .ctx = &d->r2_http};
    d->graphql = (sv_graphql){.sets = d->sets, .account_of = account_of};
    sv_graphql_routes(d->api, &d->graphql);
    sv_kvs_rest_routes(d->api, &d->kv_http);
    sv_kvs_binding_routes(d->bindings, &d->kv_http);
    sv_queues_rest_routes(d->api, &d->queues_http);
    sv_queues_binding_routes(d->bindings, &d->queues_http);
    sv_r2_rest_routes(d->api, &d->r2_http);
    sv_r2_s3_routes(d->api, &d->r2_http);
    sv_r2_binding_routes(d->bindings, &d->r2_http);
    sv_ratelimit_binding_routes(d->bindings, d->ratelimit);
    sv_cache_binding_routes(d->bindings, &d->cache_http);
    sv_vectorize_rest_routes(d->api, d->vectorize);
    sv_vectorize_binding_routes(d->bindings, d->vectorize);
    sv_analytics_rest_routes(d->api, d->analytics);
    sv_analytics_binding_routes(d->bindings, d->analytics);
    sv_outbound_routes(d->bindings, d->outward);
}

/* The runtime is there before the store that tells it what to run (each needs the other): it asks through us. */
static sv_rc prepare(void *ctx, const char *key, sv_unit_spec *out, sv_arena *arena, sv_err *err)
{
    daemon_ctx *d = ctx;
    return sv_workers_prepare(d->workers, key, out, arena, err);
}

/* For sv_workers_opts.binding_exists: a line for each product of workers/products.h. */
static sv_rc binding_exists(void *ctx, const char *kind, const char *id, const char *account_id, sv_err *err)
{
    daemon_ctx *d = ctx;
    sv_kvs_ns ns;
    if (strcmp(kind, "d1") == 0)
        return sv_d1_find(d->d1, account_id, sv_str_of(id), NULL, err);
    if (strcmp(kind, "kv_namespace") == 0)
        return sv_kvs_ns_find(d->kv, sv_str_of(account_id), sv_str_of(id), &ns, err);
    if (strcmp(kind, "queue") == 0) {
        sv_queues_info queue;
        return sv_queues_find_name(d->queues, sv_str_of(account_id), sv_str_of(id), &queue, err);
    }
    if (strcmp(kind, "r2_bucket") == 0) {
        sv_r2_bucket bucket;
        sv_rc rc = sv_r2_bucket_find(d->r2, sv_str_of(account_id), sv_str_of(id), &bucket, err);
        if (rc == SV_OK)
            sv_r2_bucket_done(&bucket);
        return rc;
    }
    if (strcmp(kind, "ratelimit") == 0 || strcmp(kind, "analytics_engine") == 0) /* its namespace, its dataset is only a name */
        return SV_OK;
    if (strcmp(kind, "vectorize") == 0) {
        SV_AUTO(sv_json_decrefp) json_t *index = NULL;
        return sv_vectorize_get(d->vectorize, sv_str_of(account_id), sv_str_of(id), &index, err);
    }
    return sv_fail(err, SV_ENOENT, "there is no %s '%s' in this account", kind, id);
}

/* ---- queues and Workers, which do not know each other ---- */

static void deliver_batch(void *ctx, const char *account, const char *script, sv_buf *body, sv_deliver_done done, void *arg)
{
    daemon_ctx *d = ctx;
    sv_event_send(d->runtime, d->inward, account, script, "/queue", body, done, arg);
}

static sv_rc consumer_ready(void *ctx, const char *account, const char *script, sv_err *err)
{
    return sv_workers_enable_events(((daemon_ctx *)ctx)->workers, account, script, err);
}

static json_t *queue_producers(void *ctx, const char *account, const char *name)
{
    daemon_ctx *d = ctx;
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *scripts = NULL;
    json_t *all = json_array(), *s;
    size_t i;
    if (sv_workers_bound_to(d->workers, account, "queue", name, &scripts, &err) != SV_OK)
        sv_log(SV_WARN, "queues.producers", "error='%s' shown=none", err.msg);
    json_array_foreach (scripts, i, s)
        json_array_append_new(all, json_pack("{s:s, s:O}", "type", "worker", "script", s));
    return all;
}

/* ---- events of buckets, into queues ---- */

static sv_rc send_event(void *ctx, const char *account, const char *queue, sv_str message, sv_err *err)
{
    daemon_ctx *d = ctx;
    sv_queues_msg m = {.body = message, .type = SV_QUEUES_JSON, .delay_s = -1};
    return sv_queues_send(d->queues, sv_str_of(account), sv_str_of(queue), &m, 1, err);
}

static sv_rc name_queue(void *ctx, const char *account, const char *queue, char *name, size_t size, sv_err *err)
{
    daemon_ctx *d = ctx;
    sv_queues_info info;
    if (sv_queues_find(d->queues, sv_str_of(account), sv_str_of(queue), &info, err) != SV_OK)
        return err->code;
    snprintf(name, size, "%s", info.name);
    return SV_OK;
}

typedef struct daemon_args { const char *data, *models, *workerd, *haproxy; } daemon_args;

static sv_rc open_stores(daemon_ctx *d, const daemon_args *a, const char *run_dir, sv_err *err)
{
    if (sv_accounts_open(&d->accounts, a->data, err) != SV_OK)
        return sv_wrap(err, "accounts");
    if (sv_catalogue_open(&d->catalogue, a->data, a->models, err) != SV_OK)
        return sv_wrap(err, "models");
    if (sv_vectorize_open(&d->vectorize, a->data, err) != SV_OK)
        return err->code;
    if (sv_d1_open(&d->d1, a->data, err) != SV_OK)
        return sv_wrap(err, "D1");
    d->d1_http = sv_d1_http_new(d->d1, d->loop, d->jobs);
    if (sv_kvs_open(&d->kv, a->data, err) != SV_OK)
        return sv_wrap(err, "KV");
    if (sv_r2_open(&d->r2, a->data, err) != SV_OK)
        return sv_wrap(err, "R2");
    d->r2_http = (sv_r2_http){.r2 = d->r2, .jobs = d->jobs, .accounts = d->accounts};
    if (sv_analytics_open(&d->analytics, a->data, err) != SV_OK)
        return sv_wrap(err, "Analytics Engine");
    if (sv_queues_open(&d->queues, &(sv_queues_opts){.data_dir = a->data}, err) != SV_OK)
        return sv_wrap(err, "queues");
    sv_r2_set_notify(d->r2, &(sv_r2_notify){.send = send_event, .queue_name = name_queue, .ctx = d});
    d->ratelimit = sv_ratelimit_new((size_t)sv_limit_value(SV_LIMIT_RATE_KEYS));
    if (sv_cache_open(&d->cache, a->data, sv_limit_value(SV_LIMIT_CACHE_BYTES), sv_limit_value(SV_LIMIT_CACHE_ENTRY_BYTES), err) != SV_OK)
        return sv_wrap(err, "cache");
    d->cache_http = (sv_cache_http){.cache = d->cache, .jobs = d->jobs, .max_message = sv_limit_value(SV_LIMIT_CACHE_ENTRY_BYTES)};
    d->queues_http = (sv_queues_http){.queues = d->queues, .jobs = d->jobs, .ready = consumer_ready, .producers = queue_producers, .ctx = d};
    d->kv_http = (sv_kvs_http){.kv = d->kv, .jobs = d->jobs};
    char engine_socket[128];
    snprintf(engine_socket, sizeof engine_socket, "%s/engine.sock", run_dir);
    d->engine = sv_engine_client_new(d->loop, engine_socket);
    d->scrapes = sv_scrapes_new(d->loop, d->engine);
    d->outward = sv_client_new(d->loop);
    d->inward = sv_client_new(d->loop);
    d->ai = sv_ai_new(&(sv_ai_opts){.loop = d->loop, .engine = d->engine, .catalogue = d->catalogue});
    if (sv_ai_keep_batches(d->ai, a->data, err) != SV_OK)
        return sv_wrap(err, "batches of Workers AI");

    sv_http_opts http = {.jobs = d->jobs, .ctx = d,
                         .max_head = (size_t)sv_limit_value(SV_LIMIT_HEAD_BYTES), .head_timeout_ms = sv_limit_value(SV_LIMIT_HEAD_MS),
                         .idle_timeout_ms = sv_limit_value(SV_LIMIT_IDLE_MS), .write_timeout_ms = sv_limit_value(SV_LIMIT_WRITE_MS),
                         .max_connections = (size_t)sv_limit_value(SV_LIMIT_CONNECTIONS)};
    http.not_found = not_found;
    http.before = before_api;
    d->api = sv_http_new(d->loop, &http);
    http.not_found = no_binding;
    http.before = before_bindings;
    http.prefix = binding_prefix;
    http.proxy = true;
    d->bindings = sv_http_new(d->loop, &http);
    return sv_runtime_new(&d->runtime,
                          &(sv_runtime_opts){.loop = d->loop, .jobs = d->jobs, .super_fd = SUPER_FD, .run_dir = run_dir, .workerd = a->workerd,
                                             .haproxy = a->haproxy, .bindings = d->bindings, .drain_ms = d->drain_ms,
                                             .prepare = prepare, .ctx = d},
                          err);
}

/* Workers are there: now they can be called. */
static void start_events(void *arg)
{
    daemon_ctx *d = arg;
    if (d->n_draining)
        return;
    d->deliver = sv_deliver_new(&(sv_deliver_opts){.queues = d->queues, .loop = d->loop, .jobs = d->jobs, .invoke = deliver_batch, .ctx = d});
    d->crons = sv_crons_new(d->workers, d->runtime, d->inward, d->jobs);
}

/* On a job thread: the loop must run while Workers are declared. */
static void declare_workers(void *arg)
{
    daemon_ctx *d = arg;
    sv_err err = {0};
    if (sv_workers_declare_all(d->workers, &err) != SV_OK)
        sv_log(SV_ERROR, "workers.declare", "error='%s'", err.msg);
    if (sv_runtime_settle(d->runtime, &err) != SV_OK)
        sv_log(SV_ERROR, "workers.settle", "error='%s'", err.msg);
    sv_loop_post(d->loop, start_events, d);
    sv_log(SV_INFO, "daemon.ready", "start_ms=%lld", (long long)(sv_mono_ms() - d->started_ms));
}

static void drained(void *arg)
{
    daemon_ctx *d = arg;
    if (--d->n_draining == 0)
        sv_loop_stop(d->loop);
}

static void drain_over(void *arg)
{
    daemon_ctx *d = arg;
    if (!d->events_ended)
        drained(d);
    d->events_ended = true;
}

static void events_drained(void *arg)
{
    daemon_ctx *d = arg;
    if (--d->n_events == 0)
        drain_over(d);
}

static void on_signal(void *arg, int fd, uint32_t events)
{
    daemon_ctx *d = arg;
    struct signalfd_siginfo si;
    (void)events;
    if (read(fd, &si, sizeof si) != sizeof si || d->n_draining)
        return;
    d->n_draining = 3; /* Workers may still be at work for waitUntil, so their bindings end as the API does */
    sv_http_drain(d->api, d->drain_ms, drained, d);
    sv_http_drain(d->bindings, d->drain_ms, drained, d);
    if (!d->deliver) { /* it has not even begun */
        d->events_ended = true;
        drained(d);
        return;
    }
    d->n_events = 2;
    sv_deliver_drain(d->deliver, events_drained, d);
    sv_crons_drain(d->crons, events_drained, d);
    d->drain_limit = sv_timer_new(d->loop, drain_over, d); /* a handler may take minutes: what has not ended comes again */
    sv_timer_set(d->drain_limit, d->drain_ms);
}

static void close_all(daemon_ctx *d)
{
    sv_jobs_free(d->jobs);
    sv_crons_free(d->crons);
    sv_timer_free(d->drain_limit);
    sv_runtime_free(d->runtime);
    sv_http_free(d->api);
    sv_http_free(d->bindings);
    sv_ai_free(d->ai);
    sv_client_free(d->outward);
    sv_client_free(d->inward);
    sv_engine_client_free(d->engine);
    sv_scrapes_free(d->scrapes);
    sv_workers_close(d->workers);
    sv_d1_close(d->d1);
    sv_d1_http_free(d->d1_http);
    sv_kvs_close(d->kv);
    sv_r2_close(d->r2); /* whose events go to the queues */
    sv_queues_close(d->queues);
    sv_deliver_free(d->deliver);
    sv_cache_close(d->cache);
    sv_ratelimit_free(d->ratelimit);
    sv_vectorize_close(d->vectorize);
    sv_analytics_close(d->analytics);
    sv_catalogue_close(d->catalogue);
    sv_accounts_close(d->accounts);
    sv_loop_free(d->loop);
}

int sv_cmd_daemon(int argc, char **argv)
{
    static const struct option options[] = {
        {"data", required_argument, NULL, 'd'},    {"models", required_argument, NULL, 'm'},
        {"workerd", required_argument, NULL, 'w'}, {"haproxy", required_argument, NULL, 'x'},
        {"drain-ms", required_argument, NULL, 'D'}, {0}};
    daemon_args a = {0};
    daemon_ctx d = {.drain_ms = 10000, .started_ms = sv_mono_ms()};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'd': a.data = optarg; break;
        case 'm': a.models = optarg; break;
        case 'w': a.workerd = optarg; break;
        case 'x': a.haproxy = optarg; break;
        case 'D': sv_str_to_i64(sv_str_of(optarg), &d.drain_ms); break;
        default: return 2;
        }
    if (!a.data || !a.models || !a.workerd || !a.haproxy)
        return sv_cmd_usage("selvedge daemon: started by `selvedge serve`\n");
    sv_log_init("daemon", SV_INFO);
    signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);

    sv_err err = {0};
    char run_dir[64];
    d.loop = sv_loop_new();
    d.jobs = sv_jobs_new(N_JOBS, MAX_JOBS);
    if (sv_run_dir(run_dir, a.data, &err) != SV_OK || open_stores(&d, &a, run_dir, &err) != SV_OK ||
        sv_workers_open(&d.workers,
                        &(sv_workers_opts){.data_dir = a.data, .accounts = d.accounts, .runtime = d.runtime,
                                           .binding_exists = binding_exists, .ctx = &d},
                        &err) != SV_OK) {
        sv_log(SV_ERROR, "daemon.start", "error='%s'", err.msg);
        return 1;
    }
    add_routes(&d);
    int sig = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    sv_watch *w = sv_loop_watch(d.loop, sig, EPOLLIN, on_signal, &d);
    fcntl(API_FD, F_SETFD, FD_CLOEXEC);
    sv_http_listen(d.api, API_FD, NULL);
    sv_jobs_post(d.jobs, declare_workers, &d);
    sv_loop_run(d.loop);
    sv_watch_remove(w);
    close(sig);
    close_all(&d);
    sv_log(SV_INFO, "daemon.end", "drained=1");
    return 0;
}
