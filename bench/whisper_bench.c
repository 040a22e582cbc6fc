/* whisper_bench.c - Whisper without its process, one JSON object
 *
 *     whisper_bench MODEL THREADS      {"encode_ms":..,"decode_ms":..,"beam5_ms":..,"prompt_ms":..}
 *
 * Encoding a window (30 s of a real model) with its cross keys and values; one token after 64 others; five lines of a beam in one pass; a prompt of 256
 * tokens. Processor time of all threads, the best of some measurements: the machine's other load only takes away. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "models/whisper.h"

enum { N_BEFORE = 64, N_PROMPT = 256, ROUNDS = 5, STEPS = 16 };

static void die(const char *what)
{
    fprintf(stderr, "whisper_bench: %s\n", what);
    exit(1);
}

/* Of all threads: on a machine that does other work, what a step costs is its processor time. */
static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static double ms_since(int64_t start, double best)
{
    double ms = (double)(now_us() - start) / 1000;
    return best == 0 || ms < best ? ms : best;
}

int main(int argc, char **argv)
{
    sv_err err = {0};
    sv_whisper *m = NULL;
    sv_whisper_ws *ws = NULL;
    if (argc != 3)
        die("MODEL THREADS");
    if (sv_whisper_open(&m, argv[1], &err) != SV_OK || sv_whisper_ws_new(&ws, m, &err) != SV_OK)
        die(err.msg);
    sv_pool *pool = sv_pool_new(atoi(argv[2]));
    const sv_whisper_info *info = sv_whisper_get_info(m);
    float *mel = sv_xcalloc((size_t)info->n_audio_ctx * 2 * (size_t)info->n_mels, sizeof *mel), *logits = sv_xcalloc((size_t)info->n_vocab * 5, sizeof *logits);
    int32_t tokens[N_PROMPT];
    double encode = 0, decode = 0, beam = 0, prompt = 0;
    srand(1);
    for (int32_t i = 0; i < info->n_audio_ctx * 2 * info->n_mels; i++)
        mel[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    for (int32_t i = 0; i < N_PROMPT; i++)
        tokens[i] = rand() % info->n_vocab;
    for (int r = 0; r < ROUNDS; r++) {
        int64_t start = now_us();
        sv_whisper_encode_begin(m, ws, pool, mel);
        for (int32_t i = 0; i < info->n_audio_layer; i++)
            sv_whisper_encode_layer(m, ws, pool, i);
        sv_whisper_encode_end(m, ws, pool);
        encode = ms_since(start, encode);
        start = now_us();
        sv_whisper_decode(m, ws, pool, &(sv_whisper_chunk){.tokens = tokens, .n_tokens = N_PROMPT < info->n_text_ctx ? N_PROMPT : info->n_text_ctx, .logits = logits}, 1, NULL);
        prompt = ms_since(start, prompt);
        for (int32_t s = 1; s < 5; s++)
            sv_whisper_copy_seq(m, ws, s, 0, N_BEFORE);
        for (int k = 0; k < STEPS; k++) {
            sv_whisper_chunk c[5];
            for (int32_t s = 0; s < 5; s++)
                c[s] = (sv_whisper_chunk){.tokens = tokens + k, .n_tokens = 1, .pos = N_BEFORE, .seq = s, .logits = logits + (int64_t)s * info->n_vocab};
            start = now_us();
            sv_whisper_decode(m, ws, pool, c, 1, NULL);
            decode = ms_since(start, decode);
            start = now_us();
            sv_whisper_decode(m, ws, pool, c, 5, NULL);
            beam = ms_since(start, beam);
        }
    }
    printf("{\"weights\":\"%s\",\"threads\":%s,\"encode_ms\":%.1f,\"decode_ms\":%.2f,\"beam5_ms\":%.2f,\"prompt_ms\":%.1f}\n", info->weights, argv[2], encode, decode, beam,
           prompt);
    free(mel);
    free(logits);
    sv_pool_free(pool);
    sv_whisper_ws_free(ws);
    sv_whisper_close(m);
    return 0;
}
