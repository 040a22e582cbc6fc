/* encoder_bench.c - a text encoder without its process, one JSON object a case
 *
 *     encoder_bench MODEL THREADS TOKENSxBATCH...      {"tokens":128,"batch":8,"per_s":..}
 *
 * Random tokens; batches are packed as the engine packs them (encode.c): runs of at most 512 rows. The best of three measurements of half a second each
 * counts, since the machine's other load only takes away. */
#include <stdio.h>
#include <stdlib.h>

#include "base/time.h"
#include "models/encoder.h"

enum { ROWS = 512, MAX_BATCH = 64 };

static void die(const char *what)
{
    fprintf(stderr, "encoder_bench: %s\n", what);
    exit(1);
}

static void batch(const sv_encoder *e, sv_encoder_ws *ws, sv_pool *pool, const sv_encoder_seq *seqs, int n)
{
    int a_run = seqs->n_tokens < ROWS ? ROWS / seqs->n_tokens : 1;
    for (int i = 0; i < n; i += a_run)
        sv_encoder_run(e, ws, pool, seqs + i, n - i < a_run ? n - i : a_run, SV_WANT_MEAN);
}

static double measure(const sv_encoder *e, sv_encoder_ws *ws, sv_pool *pool, const sv_encoder_seq *seqs, int n)
{
    double best = 0;
    batch(e, ws, pool, seqs, n);
    for (int k = 0; k < 3; k++) {
        int64_t start = sv_mono_us(), now;
        int done = 0;
        do {
            batch(e, ws, pool, seqs, n);
            done += n;
        } while ((now = sv_mono_us()) - start < 500000);
        double per_s = done * 1e6 / (double)(now - start);
        best = per_s > best ? per_s : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    sv_err err = {0};
    sv_encoder *e = NULL;
    sv_encoder_ws *ws = NULL;
    if (argc < 4)
        die("MODEL THREADS TOKENSxBATCH...");
    if (sv_encoder_open(&e, argv[1], &err) != SV_OK || sv_encoder_ws_new(&ws, e, ROWS, &err) != SV_OK)
        die(err.msg);
    sv_pool *pool = sv_pool_new(atoi(argv[2]));
    const sv_encoder_info *info = sv_encoder_get_info(e);
    srand(1);
    for (int a = 3; a < argc; a++) {
        int n_tokens, n;
        if (sscanf(argv[a], "%dx%d", &n_tokens, &n) != 2 || n_tokens < 1 || n_tokens > info->n_ctx || n_tokens > ROWS || n < 1 || n > MAX_BATCH)
            die("a case is TOKENSxBATCH, with at most 512 and 64");
        sv_encoder_seq seqs[MAX_BATCH];
        int32_t *tokens = sv_xcalloc((size_t)n * (size_t)n_tokens, sizeof *tokens);
        float *out = sv_xcalloc((size_t)n * (size_t)info->n_embd, sizeof *out);
        for (int i = 0; i < n * n_tokens; i++)
            tokens[i] = rand() % info->n_vocab;
        for (int i = 0; i < n; i++)
            seqs[i] = (sv_encoder_seq){.tokens = tokens + i * n_tokens, .n_tokens = n_tokens, .n_first = n_tokens, .out = out + (size_t)i * (size_t)info->n_embd};
        printf("{\"tokens\":%d,\"batch\":%d,\"per_s\":%.2f}\n", n_tokens, n, measure(e, ws, pool, seqs, n));
        fflush(stdout);
        free(tokens);
        free(out);
    }
    sv_pool_free(pool);
    sv_encoder_ws_free(ws);
    sv_encoder_close(e);
    return 0;
}
