/* SPDX-License-Identifier: MIT
 * The measured roof: fused multiply-adds in registers, on as many threads as the kernel uses. */
#include "runtime/cli/cli.h"

#include <immintrin.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 4096 };

/* 12 or 24 independent chains hide the latency of every machine we know. */
#define CHAINS(V, SET, FMA, N)                                 \
    V acc[N], a = SET(1.0000001f), b = SET(1e-9f);             \
    for (int k = 0; k < (N); k++) {                            \
        acc[k] = SET((float)k);                                \
    }                                                          \
    for (int s = 0; s < STEPS; s++) {                          \
        _Pragma("GCC unroll 24") for (int k = 0; k < (N); k++) \
        {                                                      \
            acc[k] = FMA(acc[k], a, b);                        \
        }                                                      \
    }                                                          \
    float out[16];                                             \
    V sum = acc[0];                                            \
    for (int k = 1; k < (N); k++) {                            \
        sum = FMA(acc[k], a, sum);                             \
    }

__attribute__((target("avx512f"))) static float run512(double *flops)
{
    CHAINS(__m512, _mm512_set1_ps, _mm512_fmadd_ps, 24)
    _mm512_storeu_ps(out, sum);
    *flops += 2.0 * 16 * 24 * STEPS;
    return out[0];
}

__attribute__((target("avx2,fma"))) static float run256(double *flops)
{
    CHAINS(__m256, _mm256_set1_ps, _mm256_fmadd_ps, 12)
    _mm256_storeu_ps(out, sum);
    *flops += 2.0 * 8 * 12 * STEPS;
    return out[0];
}

static float run1(double *flops)
{
    float acc[12], a = 1.0000001f, b = 1e-9f, sum = 0;
    for (int k = 0; k < 12; k++) {
        acc[k] = (float)k;
    }
    for (int s = 0; s < STEPS; s++) {
        for (int k = 0; k < 12; k++) {
            __asm__ volatile("mulss %1, %0\n\taddss %2, %0" : "+x"(acc[k]) : "x"(a), "x"(b));
        }
    }
    for (int k = 0; k < 12; k++) {
        sum += acc[k];
    }
    *flops += 2.0 * 12 * STEPS;
    return sum;
}

const char *cli_isa(const char *target)
{
    const char *forced = target ? target : getenv("QUERN_ISA");
    bool v4 = __builtin_cpu_supports("avx512f") != 0,
         v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (forced && (strcmp(forced, "scalar") == 0 || strcmp(forced, "x86-64") == 0)) {
        return "scalar";
    }
    if (v3 && forced && (strcmp(forced, "avx2") == 0 || strcmp(forced, "x86-64-v3") == 0)) {
        return "avx2";
    }
    return v4 ? "avx512" : v3 ? "avx2" : "scalar";
}

typedef struct peak_job {
    const char *isa;
    double seconds, rate;
    pthread_barrier_t *barrier;
    float sink;
} peak_job;

static void *peak_thread(void *arg)
{
    peak_job *p = arg;
    pthread_barrier_wait(p->barrier);
    double start = cli_now(), flops = 0, now;
    do {
        p->sink += p->isa[3] == '5'   ? run512(&flops)
                   : p->isa[0] == 'a' ? run256(&flops)
                                      : run1(&flops);
        now = cli_now();
    } while (now - start < p->seconds);
    p->rate = flops / (now - start) * 1e-9;
    return NULL;
}

double cli_peak(int threads, double seconds, const char *isa)
{
    pthread_t ids[64];
    peak_job jobs[64];
    pthread_barrier_t barrier;
    if (threads > 64) {
        threads = 64;
    }
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    double total = 0;
    for (int k = 0; k < threads; k++) {
        jobs[k] = (peak_job){isa, seconds, 0, &barrier, 0};
    }
    for (int k = 1; k < threads; k++) {
        if (pthread_create(&ids[k], NULL, peak_thread, &jobs[k]) != 0) {
            exit(CLI_MACHINE); /* the barrier waits for all */
        }
    }
    peak_thread(&jobs[0]);
    for (int k = 0; k < threads; k++) {
        if (k) {
            pthread_join(ids[k], NULL);
        }
        total += jobs[k].rate;
    }
    pthread_barrier_destroy(&barrier);
    return total;
}
