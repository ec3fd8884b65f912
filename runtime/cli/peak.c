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

/* ---------------------------------------------------------------- plain reads */

__attribute__((target("avx2"))) static uint64_t read256(const char *p, size_t n)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    size_t k = 0;
    for (; k + 128 <= n; k += 128) {
        a = _mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)(const void *)(p + k)));
        b = _mm256_xor_si256(b, _mm256_loadu_si256((const __m256i *)(const void *)(p + k + 32)));
        c = _mm256_xor_si256(c, _mm256_loadu_si256((const __m256i *)(const void *)(p + k + 64)));
        d = _mm256_xor_si256(d, _mm256_loadu_si256((const __m256i *)(const void *)(p + k + 96)));
    }
    a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    uint64_t out[4];
    memcpy(out, &a, sizeof out);
    return out[0] ^ out[1] ^ out[2] ^ out[3];
}

static uint64_t read64(const char *p, size_t n)
{
    uint64_t sum = 0, x;
    for (size_t k = 0; k + 8 <= n; k += 8) {
        memcpy(&x, p + k, 8);
        sum ^= x;
    }
    return sum;
}

typedef struct read_job {
    const cli_job *job;
    int part, parts;
    pthread_barrier_t *barrier;
    uint64_t sink;
    double seconds;
} read_job;

static size_t bytes_of(const DLTensor *t)
{
    size_t n = t->dtype.bits / 8u;
    for (int a = 0; a < t->ndim; a++) {
        n *= (size_t)t->shape[a];
    }
    return n;
}

static void *read_thread(void *arg)
{
    read_job *r = arg;
    bool wide = __builtin_cpu_supports("avx2") != 0;
    pthread_barrier_wait(r->barrier);
    double start = cli_now();
    for (int t = 0; t < qn_kernel_args(r->job->signature); t++) {
        if (qn_kernel_arg(r->job->signature, t)->kind == QN_ARG_OUT) {
            continue;
        }
        const DLTensor *x = &r->job->tensors[t].t;
        size_t n = bytes_of(x) / (size_t)r->parts / 128 * 128;
        const char *p = (const char *)x->data + (size_t)r->part * n;
        r->sink ^= wide ? read256(p, n) : read64(p, n);
    }
    r->seconds = cli_now() - start;
    return NULL;
}

double cli_read_rate(const cli_job *j, int threads, double *bytes)
{
    pthread_t ids[64];
    read_job jobs[64];
    pthread_barrier_t barrier;
    threads = threads > 64 ? 64 : threads;
    *bytes = 0;
    for (int t = 0; t < qn_kernel_args(j->signature); t++) {
        *bytes += qn_kernel_arg(j->signature, t)->kind == QN_ARG_OUT
                      ? 0
                      : (double)bytes_of(&j->tensors[t].t);
    }
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int k = 0; k < threads; k++) {
        jobs[k] = (read_job){j, k, threads, &barrier, 0, 0};
    }
    for (int k = 1; k < threads; k++) {
        if (pthread_create(&ids[k], NULL, read_thread, &jobs[k]) != 0) {
            exit(CLI_MACHINE);
        }
    }
    read_thread(&jobs[0]);
    double slowest = jobs[0].seconds;
    for (int k = 1; k < threads; k++) {
        pthread_join(ids[k], NULL);
        slowest = jobs[k].seconds > slowest ? jobs[k].seconds : slowest;
    }
    pthread_barrier_destroy(&barrier);
    return slowest > 0 ? *bytes / slowest * 1e-9 : 0;
}

/* ---------------------------------------------------------------- the peak on many threads */

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
