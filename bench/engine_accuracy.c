/* engine_accuracy.c - how far a model's next-token distributions lie from those of its float32 weights
 *
 *     engine_accuracy base MASTER HELDOUT.jsonl BASE       computes MASTER's distributions with the portable kernels
 *     engine_accuracy compare BASE MODEL KERNELS           prints {"ppl":..,"ppl_base":..,"kl":..,"kl_p99":..,"same_top":..,"n":..}
 *
 * The text is held-out conversations, rendered by the model's template, one after the other, cut into windows of N_CTX tokens that begin with
 * BOS; positions in the second half of each are scored, as llama-perplexity does. BASE is in llama-perplexity's own format
 * (--kl-divergence-base), so that the peer is held against the same numbers on the same tokens:
 *
 *     "_logits_", u32 n_ctx, i32 n_vocab, i32 n_chunk, i32 tokens [n_chunk, n_ctx], then for each scored position
 *     f32 scale, f32 least log probability, u16 [n_vocab rounded up to even]     log p = scale * u16 + least
 *
 * The 16 bits cost up to 1.3e-4 in a log probability, either way, in each measured number alike. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "engine/compute.h"
#include "models/llm.h"
#include "nn/kernels.h"

enum { N_CTX = 256, FIRST = N_CTX / 2, N_SCORED = N_CTX - 1 - FIRST, MAX_TOKENS = 1 << 20 };

static void die(const sv_err *err)
{
    fprintf(stderr, "engine_accuracy: %s\n", err->msg);
    exit(1);
}

/* --- the text ----------------------------------------------------------------------------------------------------- */

/* A conversation with its answer, as the model reads it. */
static void render(sv_buf *out, const sv_llm *m, const json_t *line)
{
    sv_err err = {0};
    const sv_tokenizer *t = sv_llm_tokenizer(m);
    sv_str bos = sv_tokenizer_text(t, sv_tokenizer_bos(t)), eos = sv_tokenizer_text(t, sv_tokenizer_eos(t));
    SV_AUTO(sv_json_decrefp) json_t *messages = json_deep_copy(json_object_get(line, "messages"));
    json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "assistant", "content", json_object_get(line, "answer")));
    SV_AUTO(sv_json_decrefp) json_t *context = json_pack("{s:O, s:s%, s:s%, s:b}", "messages", messages, "bos_token", bos.p, bos.n, "eos_token", eos.p, eos.n,
                                                         "add_generation_prompt", 0);
    if (!sv_llm_template(m) || sv_template_render(sv_llm_template(m), context, out, &err) != SV_OK)
        die(&err);
}

static void read_text(sv_tokens *out, const sv_llm *m, const char *path)
{
    sv_err err = {0};
    SV_AUTO(sv_buf_donep) sv_buf file, text;
    sv_buf_init(&file, 0);
    sv_buf_init(&text, 0);
    if (sv_file_read(&file, path, &err) != SV_OK)
        die(&err);
    for (char *at = file.p, *end; (end = memchr(at, '\n', (size_t)(file.p + file.n - at))); at = end + 1) {
        SV_AUTO(sv_json_decrefp) json_t *line = NULL;
        if (sv_json_parse(&line, (sv_str){at, (size_t)(end - at)}, &err) != SV_OK)
            die(&err);
        render(&text, m, line);
    }
    if (sv_tokenizer_encode(sv_llm_tokenizer(m), sv_buf_str(&text), SV_TOK_SPECIAL, MAX_TOKENS, out, &err) != SV_OK)
        die(&err);
}

/* --- computing ---------------------------------------------------------------------------------------------------- */

typedef struct runner {
    sv_llm *m;
    sv_llm_ws *ws;
    sv_pool *pool;
    void *pages[N_CTX / SV_KV_PAGE];
    float *logits; /* [N_SCORED, n_vocab] */
    int32_t n_vocab;
} runner;

static void open_runner(runner *r, const char *path)
{
    sv_err err = {0};
    *r = (runner){0};
    if (sv_llm_open(&r->m, path, &err) != SV_OK || sv_llm_ws_new(&r->ws, r->m, N_CTX, &err) != SV_OK)
        die(&err);
    r->pool = sv_pool_new(0);
    r->n_vocab = sv_llm_get_info(r->m)->n_vocab;
    for (size_t i = 0; i < SV_LEN(r->pages); i++)
        r->pages[i] = sv_try_aligned(sv_llm_kv_page_bytes(r->m), 64);
    r->logits = sv_xcalloc((size_t)N_SCORED * (size_t)r->n_vocab, sizeof *r->logits);
}

static void close_runner(runner *r)
{
    for (size_t i = 0; i < SV_LEN(r->pages); i++)
        free(r->pages[i]);
    free(r->logits);
    sv_pool_free(r->pool);
    sv_llm_ws_free(r->ws);
    sv_llm_unref(r->m);
}

/* A window's scored positions are a chunk each, since a chunk gives the logits of its last token. */
static void compute(runner *r, const int32_t *tokens)
{
    sv_llm_chunk chunks[1 + N_SCORED] = {{tokens, FIRST, 0, r->pages, NULL}};
    for (int32_t i = 0; i < N_SCORED; i++)
        chunks[1 + i] = (sv_llm_chunk){tokens + FIRST + i, 1, FIRST + i, r->pages, r->logits + (size_t)i * (size_t)r->n_vocab};
    sv_llm_step(r->m, r->ws, r->pool, chunks, SV_LEN(chunks));
}

/* log of the sum of exp. */
static double log_sum(const float *logits, int32_t n)
{
    double most = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++)
        most = fmax(most, (double)logits[i]);
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - most);
    return most + log(sum);
}

/* --- the base ----------------------------------------------------------------------------------------------------- */

static size_t n_words(int32_t n_vocab) { return (size_t)(n_vocab + 1) / 2 * 2 + 4; } /* u16 a position */

static void pack(uint16_t *out, const float *logits, int32_t n)
{
    double all = log_sum(logits, n), most = -INFINITY, least = INFINITY;
    for (int32_t i = 0; i < n; i++) {
        most = fmax(most, (double)logits[i] - all);
        least = fmin(least, (double)logits[i] - all);
    }
    least = fmax(least, most - 16); /* what is rarer than e^-16 is as rare as that */
    float head[2] = {(float)((most - least) / 65535), (float)least};
    memcpy(out, head, sizeof head);
    for (int32_t i = 0; i < n; i++)
        out[4 + i] = head[0] > 0 ? (uint16_t)lrint(fmin(65535, fmax(0, ((double)logits[i] - all - least) / (double)head[0]))) : 0;
}

static void put(FILE *f, const void *p, size_t n)
{
    if (fwrite(p, 1, n, f) != n) {
        perror("engine_accuracy: write");
        exit(1);
    }
}

static void write_base(const char *master, const char *heldout, const char *path)
{
    runner r;
    sv_tokens tokens = {0};
    if (!sv_kernels_select("portable"))
        abort();
    open_runner(&r, master);
    read_text(&tokens, r.m, heldout);
    int32_t n_chunk = (int32_t)(tokens.n / N_CTX), head[3] = {N_CTX, r.n_vocab, n_chunk}, bos = sv_tokenizer_bos(sv_llm_tokenizer(r.m));
    for (int32_t i = 0; i < n_chunk; i++)
        tokens.v[i * N_CTX] = bos;
    FILE *f = fopen(path, "wb");
    if (!f) {
        perror(path);
        exit(1);
    }
    put(f, "_logits_", 8);
    put(f, head, sizeof head);
    put(f, tokens.v, (size_t)n_chunk * N_CTX * sizeof *tokens.v);
    uint16_t *words = sv_xcalloc(n_words(r.n_vocab), sizeof *words);
    for (int32_t c = 0; c < n_chunk; c++) {
        compute(&r, tokens.v + c * N_CTX);
        for (int32_t i = 0; i < N_SCORED; i++) {
            pack(words, r.logits + (size_t)i * (size_t)r.n_vocab, r.n_vocab);
            put(f, words, n_words(r.n_vocab) * sizeof *words);
        }
    }
    if (fclose(f) != 0) {
        perror(path);
        exit(1);
    }
    free(words);
    free(tokens.v);
    close_runner(&r);
    printf("{\"windows\":%d,\"scored\":%d}\n", n_chunk, n_chunk * N_SCORED);
}

/* --- comparing ---------------------------------------------------------------------------------------------------- */

typedef struct sums {
    double nll, nll_base, kl;
    int64_t n, n_same_top;
    double *all_kl;
} sums;

static void score(sums *s, const float *logits, const uint16_t *words, int32_t n, int32_t next)
{
    float head[2];
    memcpy(head, words, sizeof head);
    double all = log_sum(logits, n), kl = 0;
    int32_t top = 0, top_base = 0;
    for (int32_t i = 0; i < n; i++) {
        double base = (double)head[0] * words[4 + i] + (double)head[1], mine = (double)logits[i] - all;
        if (base > -16)
            kl += exp(base) * (base - mine);
        top = logits[i] > logits[top] ? i : top;
        top_base = words[4 + i] > words[4 + top_base] ? i : top_base;
    }
    s->nll += all - (double)logits[next];
    s->nll_base -= (double)head[0] * words[4 + next] + (double)head[1];
    s->kl += kl;
    s->n_same_top += top == top_base;
    s->all_kl[s->n++] = kl;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void compare(const char *path, const char *model, const char *kernels)
{
    runner r;
    sv_map map;
    sv_err err = {0};
    int32_t head[3];
    if (!sv_kernels_select(kernels)) {
        printf("{}\n"); /* not on this CPU */
        return;
    }
    open_runner(&r, model);
    if (sv_map_open(&map, path, &err) != SV_OK)
        die(&err);
    memcpy(head, map.p + 8, sizeof head);
    if (head[0] != N_CTX || head[1] != r.n_vocab) {
        fprintf(stderr, "engine_accuracy: '%s' is of %d tokens a window and a vocabulary of %d\n", path, head[0], head[1]);
        exit(1);
    }
    const int32_t *tokens = (const int32_t *)(const void *)(map.p + 20);
    const uint16_t *words = (const uint16_t *)(const void *)(tokens + (size_t)head[2] * N_CTX);
    sums s = {.all_kl = sv_xcalloc((size_t)head[2] * N_SCORED, sizeof(double))};
    for (int32_t c = 0; c < head[2]; c++) {
        const int32_t *window = tokens + (size_t)c * N_CTX;
        compute(&r, window);
        for (int32_t i = 0; i < N_SCORED; i++, words += n_words(r.n_vocab))
            score(&s, r.logits + (size_t)i * (size_t)r.n_vocab, words, r.n_vocab, window[FIRST + i + 1]);
    }
    qsort(s.all_kl, (size_t)s.n, sizeof *s.all_kl, by_value);
    double n = (double)s.n;
    printf("{\"ppl\":%.6f,\"ppl_base\":%.6f,\"kl\":%.8f,\"kl_p99\":%.6f,\"same_top\":%.6f,\"n\":%lld}\n", exp(s.nll / n), exp(s.nll_base / n), s.kl / n,
           s.all_kl[(size_t)(0.99 * (n - 1))], (double)s.n_same_top / n, (long long)s.n);
    free(s.all_kl);
    sv_map_close(&map);
    close_runner(&r);
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "base") == 0) {
        write_base(argv[2], argv[3], argv[4]);
    } else if (argc == 5 && strcmp(argv[1], "compare") == 0) {
        compare(argv[2], argv[3], argv[4]);
    } else {
        fprintf(stderr, "usage: engine_accuracy base MASTER HELDOUT.jsonl BASE | compare BASE MODEL KERNELS\n");
        return 2;
    }
    return 0;
}
