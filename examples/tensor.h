/* SPDX-License-Identifier: MIT
 * Little helpers of the examples: tensors in memory of their own, and f32 .npy files. */
#ifndef EXAMPLES_TENSOR_H
#define EXAMPLES_TENSOR_H

#include <dlpack/dlpack.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tensor {
    DLTensor t;
    int64_t shape[8];
} tensor;

/* A zeroed row-major f32 tensor; NULL when memory is out. */
static inline tensor *tensor_new(int ndim, const int64_t *shape)
{
    tensor *x = calloc(1, sizeof *x);
    size_t bytes = sizeof(float);
    for (int a = 0; x && a < ndim; a++) {
        x->shape[a] = shape[a];
        bytes *= (size_t)shape[a];
    }
    if (x) {
        x->t.ndim = ndim;
        x->t.shape = x->shape;
        x->t.device.device_type = kDLCPU;
        x->t.dtype = (DLDataType){kDLFloat, 32, 1};
        x->t.data = calloc(1, bytes + 64);
    }
    return x && x->t.data ? x : NULL;
}

/* Reads a row-major f32 .npy file (version 1); NULL when it is none. */
static inline tensor *tensor_load(const char *path)
{
    FILE *f = fopen(path, "rb");
    unsigned char head[10];
    char text[4096] = "";
    int64_t shape[8] = {0};
    int ndim = 0;
    if (!f || fread(head, 1, 10, f) != 10 || memcmp(head, "\x93NUMPY\1", 7) != 0) {
        return NULL;
    }
    size_t length = (size_t)head[8] | (size_t)head[9] << 8;
    if (length >= sizeof text || fread(text, 1, length, f) != length || !strstr(text, "<f4")) {
        fclose(f);
        return NULL;
    }
    for (char *p = strchr(text, '('), *end; p && *p && *p != ')' && ndim < 8; p++) {
        int64_t n = strtoll(p, &end, 10);
        if (end != p) {
            shape[ndim++] = n;
            p = end - 1;
        }
    }
    tensor *x = tensor_new(ndim, shape);
    size_t count = 1;
    for (int a = 0; a < ndim; a++) {
        count *= (size_t)shape[a];
    }
    if (x && fread(x->t.data, sizeof(float), count, f) != count) {
        x = NULL;
    }
    fclose(f);
    return x;
}

#endif
