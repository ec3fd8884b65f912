/* SPDX-License-Identifier: MIT
 *
 * The yardstick of try.sh: causal attention as the textbook writes it, three plain C loops at -O3,
 * on the same tensors. Prints the best time of several runs in milliseconds. */
#include "tensor.h"

#include <math.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void attend(const float *q, const float *k, const float *v, float *o, int heads, int group,
                   int n, int d, float *s)
{
    float scale = 1.0f / sqrtf((float)d);
    for (int h = 0; h < heads; h++) {
        const float *kh = k + (size_t)(h / group) * (size_t)(n * d),
                    *vh = v + (size_t)(h / group) * (size_t)(n * d);
        for (int i = 0; i < n; i++) {
            const float *qi = q + (size_t)(h * n + i) * (size_t)d;
            float *oi = o + (size_t)(h * n + i) * (size_t)d, m = -INFINITY, l = 0;
            for (int j = 0; j <= i; j++) {
                float x = 0;
                for (int c = 0; c < d; c++) {
                    x += qi[c] * kh[j * d + c];
                }
                s[j] = x * scale;
                m = s[j] > m ? s[j] : m;
            }
            for (int c = 0; c < d; c++) {
                oi[c] = 0;
            }
            for (int j = 0; j <= i; j++) {
                float p = expf(s[j] - m);
                l += p;
                for (int c = 0; c < d; c++) {
                    oi[c] += p * vh[j * d + c];
                }
            }
            for (int c = 0; c < d; c++) {
                oi[c] /= l;
            }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: naive q.npy k.npy v.npy\n", stderr);
        return 2;
    }
    tensor *q = tensor_load(argv[1]), *k = tensor_load(argv[2]), *v = tensor_load(argv[3]);
    if (!q || !k || !v) {
        fputs("naive: a tensor cannot be read\n", stderr);
        return 2;
    }
    int heads = (int)q->shape[1], group = heads / (int)k->shape[1], n = (int)q->shape[2],
        d = (int)q->shape[3];
    tensor *o = tensor_new(4, q->shape);
    float *s = malloc(sizeof *s * (size_t)n);
    if (!o || !s) {
        return 4;
    }
    double best = 1e9;
    for (int r = 0; r < 5; r++) {
        double start = now();
        attend(q->t.data, k->t.data, v->t.data, o->t.data, heads, group, n, d, s);
        double t = now() - start;
        best = t < best ? t : best;
    }
    printf("%.4g\n", best * 1e3);
    return 0;
}
