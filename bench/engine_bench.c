/* engine_bench.c - the engine without its process: models through the scheduler, one JSON object a case
 *
 *     engine_bench MODEL THREADS CASE...
 *         prefill:N        a prompt of N tokens, to its first token
 *         prefill:NxM      M prompts of N at once
 *         decode:N@D       N tokens after a prompt of D
 *         batch:NxM@D      M texts, each after a prompt of D, while all write, until there are N tokens of each on average
 *         stall:NxM@D      M texts of N tokens; amid them a prompt of D comes. The gaps between their tokens
 *
 * What a request passes here is what it passes in the engine: pages, budget of rows, sampler, detokenizer; only socket and template are
 * left out. So a peer's bare model loop is held against more than a model loop. Prompts are random tokens, no two alike; texts are greedy. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/time.h"
#include "engine/sched.h"
#include "nn/kernels.h"

enum { MAX_TEXTS = 64, MAX_GAPS = 1 << 20 };

typedef struct text {
    int64_t first_us, last_us;
    bool watched; /* its gaps count */
} text;

static text texts[MAX_TEXTS + 1];
static int n_started, n_ended;
static int64_t all_started_us; /* of the n_awaited texts */
static int64_t tokens_at_start;
static int n_awaited;
static _Atomic bool cancel;
static double gaps[MAX_GAPS]; /* ms */
static size_t n_gaps;
static sv_sched *sched;
static uint64_t rng = 7;

static void die(const sv_err *err)
{
    fprintf(stderr, "engine_bench: %s\n", err->msg);
    exit(1);
}

static uint64_t next_random(void)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return rng >> 33;
}

static int64_t n_tokens_so_far(void)
{
    sv_sched_stats s;
    sv_sched_get_stats(sched, &s);
    return s.tokens;
}

/* --- events ------------------------------------------------------------------------------------------------------- */

static void on_start(void *arg, const sv_usage *usage)
{
    text *t = arg;
    (void)usage;
    t->first_us = sv_mono_us();
    if (++n_started == n_awaited) {
        all_started_us = t->first_us;
        tokens_at_start = n_tokens_so_far();
    }
}

static void on_text(void *arg, sv_str s, int32_t n_tokens)
{
    text *t = arg;
    int64_t now = sv_mono_us();
    (void)s;
    (void)n_tokens;
    if (t->watched && t->last_us && n_gaps < MAX_GAPS)
        gaps[n_gaps++] = (double)(now - t->last_us) / 1000;
    t->last_us = now;
}

static void on_end(void *arg, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err)
{
    (void)arg;
    (void)finish;
    (void)usage;
    if (rc != SV_OK && rc != SV_ECANCELED)
        die(err);
    n_ended++;
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

static void ask(text *t, int n_prompt, int n_tokens, int32_t n_vocab)
{
    static int32_t prompt[1 << 16];
    sv_err err = {0};
    *t = (text){.watched = t->watched};
    for (int i = 0; i < n_prompt; i++)
        prompt[i] = (int32_t)(next_random() % (uint64_t)(n_vocab - 1)); /* the last one is the end of text */
    if (sv_sched_add(sched, &(sv_sched_req){.tenant = "bench", .tokens = prompt, .n_tokens = n_prompt, .max_tokens = n_tokens, .cancel = &cancel, .arg = t},
                     &err) != SV_OK)
        die(&err);
}

static void begin(int n)
{
    n_started = n_ended = 0;
    n_awaited = n;
    n_gaps = 0;
    memset(texts, 0, sizeof texts);
}

static void run(void)
{
    while (sv_sched_busy(sched))
        sv_sched_step(sched);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double q) { return n_gaps ? gaps[(size_t)(q * (double)(n_gaps - 1))] : 0; }

/* --- cases -------------------------------------------------------------------------------------------------------- */

static void prefill(const char *name, int n, int m, int32_t n_vocab)
{
    begin(m);
    int64_t start = sv_mono_us();
    for (int i = 0; i < m; i++)
        ask(&texts[i], n, 1, n_vocab);
    run();
    printf("{\"case\":\"%s\",\"tokens_s\":%.2f}\n", name, n * m / ((double)(all_started_us - start) / 1e6));
}

/* Counted from the time when all write. Prompts are read one after the other, so the first text is longer than the last by then; so none has an
 * end of its own, and all are canceled once m times n tokens are there. */
static void decode(const char *name, int n, int m, int depth, int32_t n_vocab, int32_t n_ctx)
{
    begin(m);
    if (depth < 1)
        depth = 1;
    for (int i = 0; i < m; i++)
        ask(&texts[i], depth, n_ctx / 2 - depth, n_vocab);
    while (n_ended == 0 && (n_started < m || n_tokens_so_far() < tokens_at_start + (int64_t)n * m))
        sv_sched_step(sched);
    double s = (double)(sv_mono_us() - all_started_us) / 1e6;
    if (n_ended > 0) {
        fprintf(stderr, "engine_bench: %s: a text ended by itself\n", name);
        exit(1);
    }
    printf("{\"case\":\"%s\",\"tokens_s\":%.2f}\n", name, (double)(n_tokens_so_far() - tokens_at_start) / s);
    cancel = true;
    run();
    cancel = false;
}

static void stall(const char *name, int n, int m, int depth, int32_t n_vocab)
{
    begin(m);
    for (int i = 0; i < m; i++) {
        texts[i].watched = true;
        ask(&texts[i], 16, n, n_vocab);
    }
    while (n_started < m || tokens_at_start + 8 * m > n_tokens_so_far())
        sv_sched_step(sched);
    int64_t start = sv_mono_us();
    n_gaps = 0;
    ask(&texts[m], depth, 1, n_vocab);
    while (sv_sched_busy(sched) && texts[m].first_us == 0)
        sv_sched_step(sched);
    double first_ms = (double)(texts[m].first_us - start) / 1000;
    qsort(gaps, n_gaps, sizeof *gaps, by_value);
    printf("{\"case\":\"%s\",\"gap_p50_ms\":%.2f,\"gap_p99_ms\":%.2f,\"gap_max_ms\":%.2f,\"first_token_ms\":%.1f}\n", name, quantile(0.5), quantile(0.99),
           quantile(1), first_ms);
    run();
}

static bool run_case(const char *name, int32_t n_vocab, int32_t n_ctx)
{
    int n = 0, m = 1, depth = 0;
    if (sscanf(name, "prefill:%dx%d", &n, &m) >= 1 && m <= MAX_TEXTS)
        prefill(name, n, m, n_vocab);
    else if (sscanf(name, "decode:%d@%d", &n, &depth) == 2)
        decode(name, n, 1, depth, n_vocab, n_ctx);
    else if (sscanf(name, "batch:%dx%d@%d", &n, &m, &depth) == 3 && m <= MAX_TEXTS)
        decode(name, n, m, depth, n_vocab, n_ctx);
    else if (sscanf(name, "stall:%dx%d@%d", &n, &m, &depth) == 3 && m <= MAX_TEXTS)
        stall(name, n, m, depth, n_vocab);
    else
        return false;
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    static const sv_sched_events events = {.on_start = on_start, .on_text = on_text, .on_end = on_end};
    sv_err err = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: engine_bench MODEL THREADS CASE...\n");
        return 2;
    }
    int64_t start = sv_mono_us();
    SV_AUTO(sv_llm_unrefp) sv_llm *m = NULL;
    SV_AUTO(sv_compute_freep) sv_compute *compute = sv_compute_new(atoi(argv[2]));
    if (sv_llm_open(&m, argv[1], &err) != SV_OK || sv_llm_pack(m, getenv("SV_PACK_DIR"), &err) != SV_OK || sv_sched_new(&sched, m, compute, &events, &(sv_sched_opts){.kv_bytes = (size_t)3 << 30}, &err) != SV_OK)
        die(&err);
    const sv_llm_info *info = sv_llm_get_info(m);
    double open_ms = (double)(sv_mono_us() - start) / 1000;
    begin(1);
    ask(&texts[0], 32, 2, info->n_vocab); /* the pages of the weights, the threads and the clock wake up */
    run();
    printf("{\"case\":\"open\",\"kernels\":\"%s\",\"open_ms\":%.1f,\"first_token_ms\":%.1f}\n", sv_kernels_name(), open_ms,
           (double)(texts[0].first_us - start) / 1000);
    for (int i = 3; i < argc; i++)
        if (!run_case(argv[i], info->n_vocab, info->n_ctx)) {
            fprintf(stderr, "engine_bench: no such case: %s\n", argv[i]);
            return 2;
        }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"case\":\"memory\",\"peak_mb\":%.1f}\n", (double)used.ru_maxrss / 1024);
    sched = sv_sched_free(sched);
    return 0;
}
