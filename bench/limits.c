/* limits.c - what the machine can do at most: the numbers that the engine's speeds are held against
 *
 *     limits THREADS      prints {"threads":..,"read_gb_s":..,"fma_gflop_s":..,"vnni_gop_s":..,"bf16_gflop_s":..}
 *                         and null where the CPU has no such instruction
 *
 * Reading: each thread sums its own 512 MiB as four streams a quarter apart, which is what a matrix product with four rows of weights in
 * flight does; several streams reach some percent more than one. Arithmetic: chains of multiply-adds on registers alone, enough of them
 * to hide the latency of each. The best of some rounds counts: a limit is what was possible once. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/mem.h"
#include "base/time.h"

enum { MAX_THREADS = 64, ROUNDS = 5, N_STREAMS = 4 };
static const size_t n_read = (size_t)512 << 20;
static const int64_t n_turns = 100 * 1000 * 1000;

typedef struct worker {
    pthread_barrier_t *ready;
    double (*work)(struct worker *w); /* returns how much it did */
    uint64_t *memory;
    uint64_t sink;
    double done;
    int64_t begin_us, end_us;
} worker;

typedef uint64_t lanes __attribute__((vector_size(64)));

#if defined(__x86_64__)
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif

WIDEST static uint64_t sum_streams(const uint64_t *p, size_t n)
{
    size_t quarter = n / N_STREAMS / 8;
    const lanes *s[N_STREAMS];
    lanes sum[N_STREAMS] = {0};
    for (int k = 0; k < N_STREAMS; k++)
        s[k] = (const lanes *)(const void *)p + (size_t)k * quarter;
    for (size_t i = 0; i < quarter; i++)
        for (int k = 0; k < N_STREAMS; k++)
            sum[k] += s[k][i];
    lanes all = sum[0] + sum[1] + sum[2] + sum[3];
    uint64_t r = 0;
    for (int i = 0; i < 8; i++)
        r += all[i];
    return r;
}

static double read_memory(worker *w)
{
    w->sink += sum_streams(w->memory, n_read / sizeof(uint64_t));
    return (double)n_read;
}

#if defined(__x86_64__)
enum { CHAINS = 24 };

__attribute__((target("avx512f"))) static double fma_512(worker *w)
{
    __m512 a[CHAINS], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
    for (int k = 0; k < CHAINS; k++)
        a[k] = _mm512_set1_ps((float)k);
    for (int64_t i = 0; i < n_turns / CHAINS; i++)
#pragma GCC unroll 24
        for (int k = 0; k < CHAINS; k++)
            a[k] = _mm512_fmadd_ps(a[k], x, y);
    for (int k = 1; k < CHAINS; k++)
        a[0] = _mm512_add_ps(a[0], a[k]);
    w->sink += (uint64_t)_mm512_reduce_add_ps(a[0]);
    return (double)(n_turns / CHAINS * CHAINS * 16 * 2);
}

__attribute__((target("avx2,fma"))) static double fma_256(worker *w)
{
    enum { N = 12 };
    __m256 a[N], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
    for (int k = 0; k < N; k++)
        a[k] = _mm256_set1_ps((float)k);
    for (int64_t i = 0; i < n_turns / N; i++)
#pragma GCC unroll 12
        for (int k = 0; k < N; k++)
            a[k] = _mm256_fmadd_ps(a[k], x, y);
    for (int k = 1; k < N; k++)
        a[0] = _mm256_add_ps(a[0], a[k]);
    w->sink += (uint64_t)a[0][0];
    return (double)(n_turns / N * N * 8 * 2);
}

/* Sixteen chains of one instruction, the registers named: gcc 12 keeps an array of them in memory, which is then what is measured. */
#define ONE(instruction, r) instruction " %%zmm30, %%zmm31, %%zmm" #r "\n\t"
#define FOUR(i, a, b, c, d) ONE(i, a) ONE(i, b) ONE(i, c) ONE(i, d)
#define CHAINS_OF(fn, instruction, n_ops)                                                                                                     \
    __attribute__((target("avx512f"))) static double fn(worker *w)                                                                            \
    {                                                                                                                                         \
        (void)w;                                                                                                                              \
        for (int64_t i = 0; i < n_turns / 16; i++)                                                                                            \
            __asm__ volatile(FOUR(instruction, 0, 1, 2, 3) FOUR(instruction, 4, 5, 6, 7) FOUR(instruction, 8, 9, 10, 11)                      \
                                 FOUR(instruction, 12, 13, 14, 15)::                                                                          \
                                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",      \
                                       "xmm12", "xmm13", "xmm14", "xmm15");                                                                   \
        return (double)(n_turns / 16 * 16 * (n_ops));                                                                                         \
    }
CHAINS_OF(vnni_512, "vpdpbusd", 64 * 2)
CHAINS_OF(bf16_512, "vdpbf16ps", 32 * 2)
#endif

static void *worker_main(void *arg)
{
    worker *w = arg;
    pthread_barrier_wait(w->ready);
    w->begin_us = sv_mono_us(); /* not the main thread's: on a full machine it comes late */
    w->done = w->work(w);
    w->end_us = sv_mono_us();
    return NULL;
}

/* Work a second, by all threads together, in the best round. */
static double measure(worker *workers, int n, double (*work)(worker *w))
{
    double best = 0;
    pthread_barrier_t ready;
    pthread_barrier_init(&ready, NULL, (unsigned)n);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[MAX_THREADS];
        double done = 0;
        int64_t begin = INT64_MAX, end = 0;
        for (int i = 0; i < n; i++) {
            workers[i].ready = &ready;
            workers[i].work = work;
            if (pthread_create(&threads[i], NULL, worker_main, &workers[i]) != 0)
                abort();
        }
        for (int i = 0; i < n; i++) {
            pthread_join(threads[i], NULL);
            done += workers[i].done;
            begin = workers[i].begin_us < begin ? workers[i].begin_us : begin;
            end = workers[i].end_us > end ? workers[i].end_us : end;
        }
        double s = (double)(end - begin) / 1e6;
        best = done / s > best ? done / s : best;
    }
    pthread_barrier_destroy(&ready);
    return best;
}

static void print_rate(const char *name, double rate)
{
    if (rate > 0)
        printf(",\"%s\":%.1f", name, rate / 1e9);
    else
        printf(",\"%s\":null", name);
}

int main(int argc, char **argv)
{
    int n = argc == 2 ? atoi(argv[1]) : 0;
    if (n < 1 || n > MAX_THREADS) {
        fprintf(stderr, "usage: limits THREADS (1 to %d)\n", MAX_THREADS);
        return 2;
    }
    worker workers[MAX_THREADS] = {0};
    for (int i = 0; i < n; i++) {
        workers[i].memory = sv_try_aligned(n_read, 2 << 20);
        if (!workers[i].memory) {
            fprintf(stderr, "limits: no memory for %zu MiB\n", n_read >> 20);
            return 1;
        }
        memset(workers[i].memory, i + 1, n_read);
    }
    double read = measure(workers, n, read_memory), fma = 0, vnni = 0, bf16 = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        fma = measure(workers, n, fma_512);
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        fma = measure(workers, n, fma_256);
    if (__builtin_cpu_supports("avx512vnni"))
        vnni = measure(workers, n, vnni_512);
    if (__builtin_cpu_supports("avx512bf16"))
        bf16 = measure(workers, n, bf16_512);
#endif
    printf("{\"threads\":%d", n);
    print_rate("read_gb_s", read);
    print_rate("fma_gflop_s", fma);
    print_rate("vnni_gop_s", vnni);
    print_rate("bf16_gflop_s", bf16);
    printf("}\n");
    for (int i = 0; i < n; i++)
        free(workers[i].memory);
    return 0;
}
