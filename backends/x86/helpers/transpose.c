/* SPDX-License-Identifier: MIT
 *
 * The transposing gather and scatter of strided lanes. The common case, four 32-bit neighbours in
 * each lane, goes in blocks of 4 x 4 through baseline SSE; a wider machine gains little, since the
 * strided side touches one cache line a lane either way. */
#include "backends/x86/helpers/helpers.h"
#include <emmintrin.h>
#include <stdbool.h>
#include <string.h>

typedef struct shape {
    int64_t lo, hi, from, to, lanes, count, bytes;
} shape;

static shape unpack(int64_t s)
{
    return (shape){s & 255,       s >> 8 & 255,  s >> 16 & 255, s >> 24 & 255,
                   s >> 32 & 255, s >> 40 & 255, s >> 48 & 255};
}

static bool is_common(const shape *s)
{
    return s->bytes == 4 && s->count % 4 == 0 && s->lanes % 4 == 0 && s->lo == 0 &&
           s->hi == s->lanes && s->from == 0 && s->to == s->count;
}

static void gather4(float *r, const float *m, int64_t stride, int64_t lanes)
{
    for (int64_t i = 0; i < lanes; i += 4) {
        __m128 a = _mm_loadu_ps(m + i * stride), b = _mm_loadu_ps(m + (i + 1) * stride);
        __m128 c = _mm_loadu_ps(m + (i + 2) * stride), d = _mm_loadu_ps(m + (i + 3) * stride);
        _MM_TRANSPOSE4_PS(a, b, c, d);
        _mm_storeu_ps(r + i, a);
        _mm_storeu_ps(r + lanes + i, b);
        _mm_storeu_ps(r + 2 * lanes + i, c);
        _mm_storeu_ps(r + 3 * lanes + i, d);
    }
}

static void scatter4(const float *r, float *m, int64_t stride, int64_t lanes)
{
    for (int64_t i = 0; i < lanes; i += 4) {
        __m128 a = _mm_loadu_ps(r + i), b = _mm_loadu_ps(r + lanes + i);
        __m128 c = _mm_loadu_ps(r + 2 * lanes + i), d = _mm_loadu_ps(r + 3 * lanes + i);
        _MM_TRANSPOSE4_PS(a, b, c, d);
        _mm_storeu_ps(m + i * stride, a);
        _mm_storeu_ps(m + (i + 1) * stride, b);
        _mm_storeu_ps(m + (i + 2) * stride, c);
        _mm_storeu_ps(m + (i + 3) * stride, d);
    }
}

void qn_help_gather(void *registers, const void *memory, int64_t stride, int64_t packed,
                    int64_t pad)
{
    shape s = unpack(packed);
    if (is_common(&s)) {
        for (int64_t c = 0; c < s.count; c += 4) {
            gather4((float *)registers + c * s.lanes, (const float *)memory + c, stride, s.lanes);
        }
        return;
    }
    char *r = registers;
    const char *m = memory;
    for (int64_t c = 0; c < s.count; c++) {
        for (int64_t i = 0; i < s.lanes; i++, r += s.bytes) {
            bool inside = s.lo <= i && i < s.hi && s.from <= c && c < s.to;
            const void *from = inside ? (const void *)(m + (i * stride + c) * s.bytes) : &pad;
            if (s.bytes == 4) {
                memcpy(r, from, 4);
            } else if (s.bytes == 2) {
                memcpy(r, from, 2);
            } else if (s.bytes == 8) {
                memcpy(r, from, 8);
            } else {
                memcpy(r, from, 1);
            }
        }
    }
}

void qn_help_scatter(const void *registers, void *memory, int64_t stride, int64_t packed)
{
    shape s = unpack(packed);
    if (is_common(&s)) {
        for (int64_t c = 0; c < s.count; c += 4) {
            scatter4((const float *)registers + c * s.lanes, (float *)memory + c, stride, s.lanes);
        }
        return;
    }
    for (int64_t i = s.lo; i < s.hi; i++) {
        for (int64_t c = s.from; c < s.to; c++) {
            const char *r = (const char *)registers + (c * s.lanes + i) * s.bytes;
            char *m = (char *)memory + (i * stride + c) * s.bytes;
            if (s.bytes == 4) {
                memcpy(m, r, 4);
            } else if (s.bytes == 2) {
                memcpy(m, r, 2);
            } else if (s.bytes == 8) {
                memcpy(m, r, 8);
            } else {
                memcpy(m, r, 1);
            }
        }
    }
}
