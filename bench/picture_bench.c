/* picture_bench.c - an image model without its process, one JSON object a case
 *
 *     picture_bench MODEL THREADS [WIDTHxHEIGHT]...      {"width":224,"height":224,"ms":..,"cpu_ms":..}
 *
 * One picture at a time, as the engine computes them; without a size the one that the model is prepared to. The best of five measurements of a third of a second each
 * counts, since the machine's other load only takes away; cpu_ms is what all threads together used of their cores for a picture. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/time.h"
#include "models/vision.h"

static void die(const char *what)
{
    fprintf(stderr, "picture_bench: %s\n", what);
    exit(1);
}

static void one(const sv_vision *v, sv_vision_run *r, sv_pool *pool, const uint8_t *rgb)
{
    sv_vision_set_pixels(r, rgb);
    for (int32_t i = 0; i < sv_vision_n_steps(v); i++)
        sv_vision_step(r, pool, i);
}

static void measure(const sv_vision *v, sv_pool *pool, int32_t w, int32_t h)
{
    SV_AUTO(sv_vision_run_freep) sv_vision_run *r = NULL;
    SV_AUTO(sv_freep) uint8_t *rgb = calloc((size_t)w * (size_t)h, 3);
    sv_err err = {0};
    double best = 1e9, best_cpu = 1e9;
    if (!rgb || sv_vision_run_new(&r, v, w, h, &err) != SV_OK)
        die(err.msg);
    for (int32_t i = 0; i < w * h * 3; i++)
        rgb[i] = (uint8_t)(rand() >> 8);
    one(v, r, pool, rgb);
    for (int k = 0; k < 5; k++) {
        int64_t start = sv_mono_us(), now;
        clock_t cpu = clock();
        int done = 0;
        do {
            one(v, r, pool, rgb);
            done++;
        } while ((now = sv_mono_us()) - start < 333333);
        double ms = (double)(now - start) / 1000 / done;
        double cpu_ms = (double)(clock() - cpu) * 1000 / CLOCKS_PER_SEC / done;
        best = ms < best ? ms : best;
        best_cpu = cpu_ms < best_cpu ? cpu_ms : best_cpu;
    }
    printf("{\"width\":%d,\"height\":%d,\"ms\":%.3f,\"cpu_ms\":%.3f}\n", w, h, best, best_cpu);
}

int main(int argc, char **argv)
{
    sv_err err = {0};
    SV_AUTO(sv_vision_closep) sv_vision *v = NULL;
    if (argc < 3)
        die("MODEL THREADS [WIDTHxHEIGHT]...");
    if (sv_vision_open(&v, argv[1], &err) != SV_OK)
        die(err.msg);
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(atoi(argv[2]));
    int32_t w = 0, h = 0;
    if (argc == 3 && sv_image_prep_fixed(sv_vision_prep(v), &w, &h))
        measure(v, pool, w, h);
    for (int i = 3; i < argc; i++) {
        if (sscanf(argv[i], "%dx%d", &w, &h) != 2 || w < 1 || h < 1 || w > 4096 || h > 4096)
            die("a size is WIDTHxHEIGHT");
        measure(v, pool, w, h);
    }
    return 0;
}
