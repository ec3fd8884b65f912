/* SPDX-License-Identifier: MIT
 * .npy files, format versions 1 to 3, little endian, row-major (or column-major, which is turned).
 */
#include "runtime/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *descr;
    DLDataType type;
} types[] = {
    {"<f4", {kDLFloat, 32, 1}},  {"<f8", {kDLFloat, 64, 1}},  {"<f2", {kDLFloat, 16, 1}},
    {"|V2", {kDLBfloat, 16, 1}}, {"<i8", {kDLInt, 64, 1}},    {"<i4", {kDLInt, 32, 1}},
    {"<i2", {kDLInt, 16, 1}},    {"|i1", {kDLInt, 8, 1}},     {"|u1", {kDLUInt, 8, 1}},
    {"|b1", {kDLUInt, 8, 1}},    {"<u2", {kDLBfloat, 16, 1}},
};

static bool bad(const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", path, why);
    return false;
}

static bool parse_header(const char *path, char *h, cli_tensor *out, bool *columns)
{
    char *descr = strstr(h, "'descr'"), *order = strstr(h, "'fortran_order'"),
         *shape = strstr(h, "'shape'");
    if (!descr || !order || !shape) {
        return bad(path, "its .npy header lacks descr, fortran_order or shape");
    }
    *columns = strstr(order, "True") && strstr(order, "True") < order + 24;
    char *q = strchr(descr + 7, '\'');
    if (!q || strlen(q) < 4) {
        return bad(path, "its .npy type cannot be read");
    }
    bool known = false;
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        if (strncmp(q + 1, types[k].descr, 3) == 0 && q[4] == '\'') {
            out->t.dtype = types[k].type;
            known = true;
            break;
        }
    }
    if (!known) {
        return bad(path, "its element type is none of f4 f8 f2 V2 i8 i4 i2 i1 u1 b1");
    }
    char *p = strchr(shape, '(');
    out->t.ndim = 0;
    for (p = p ? p + 1 : NULL; p && *p && *p != ')';) {
        char *end;
        long long n = strtoll(p, &end, 10);
        if (end == p) {
            p++;
            continue;
        }
        if (n < 0 || n > ((long long)1 << 40) || out->t.ndim == 16) {
            return bad(path, "its shape is out of range");
        }
        out->shape[out->t.ndim++] = n;
        p = end;
    }
    return true;
}

/* Column-major to row-major. */
static void turn(const DLTensor *t, const char *from, char *to, size_t item)
{
    int64_t at[16] = {0}, n = 1;
    for (int a = 0; a < t->ndim; a++) {
        n *= t->shape[a];
    }
    for (int64_t k = 0; k < n; k++) {
        int64_t offset = 0, s = 1;
        for (int a = 0; a < t->ndim; a++) {
            offset += at[a] * s;
            s *= t->shape[a];
        }
        memcpy(to + (size_t)k * item, from + (size_t)offset * item, item);
        for (int a = t->ndim - 1; a >= 0 && ++at[a] == t->shape[a]; a--) {
            at[a] = 0;
        }
    }
}

static bool read_all(const char *path, FILE *f, cli_tensor *out)
{
    unsigned char head[12];
    if (fread(head, 1, 8, f) != 8 || memcmp(head, "\x93NUMPY", 6) != 0) {
        return bad(path, "it is no .npy file");
    }
    size_t wide = head[6] >= 2 ? 4 : 2, length = 0;
    if (head[6] > 3 || fread(head, 1, wide, f) != wide) {
        return bad(path, "its .npy version is unknown");
    }
    for (size_t k = wide; k-- > 0;) {
        length = length << 8 | head[k];
    }
    if (length > 1 << 20) {
        return bad(path, "its .npy header is too long");
    }
    char *h = calloc(1, length + 1);
    if (!h || fread(h, 1, length, f) != length) {
        free(h);
        return bad(path, "its .npy header ends early");
    }
    bool columns = false, good = parse_header(path, h, out, &columns);
    free(h);
    if (!good) {
        return false;
    }
    size_t item = out->t.dtype.bits / 8u, bytes = item;
    for (int a = 0; a < out->t.ndim; a++) {
        bytes *= (size_t)out->shape[a];
        if (bytes > (size_t)1 << 42) {
            return bad(path, "it is too large");
        }
    }
    long at = ftell(f);
    fseek(f, 0, SEEK_END);
    if (at < 0 || ftell(f) < at || (size_t)(ftell(f) - at) < bytes) {
        return bad(path, "it ends before its data does");
    }
    fseek(f, at, SEEK_SET);
    char *data = aligned_alloc(64, (bytes + 64) / 64 * 64);
    if (!data || fread(data, 1, bytes, f) != bytes) {
        free(data);
        return bad(path, "its data cannot be read");
    }
    out->t.shape = out->shape;
    if (columns && out->t.ndim > 1) {
        char *rows = aligned_alloc(64, (bytes + 64) / 64 * 64);
        if (!rows) {
            free(data);
            return bad(path, "out of memory");
        }
        turn(&out->t, data, rows, item);
        free(data);
        data = rows;
    }
    out->t.data = data;
    out->t.device.device_type = kDLCPU;
    out->present = true;
    return true;
}

bool npy_read(const char *path, cli_tensor *out)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        return bad(path, "it cannot be opened");
    }
    memset(out, 0, sizeof *out);
    bool good = read_all(path, f, out);
    fclose(f);
    return good;
}

bool npy_write(const char *path, const DLTensor *t)
{
    const char *descr = NULL;
    for (size_t k = 0; k < sizeof types / sizeof *types && !descr; k++) {
        if (types[k].type.code == t->dtype.code && types[k].type.bits == t->dtype.bits) {
            descr = types[k].descr;
        }
    }
    char h[512];
    int n = snprintf(h, sizeof h, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                     descr ? descr : "|V1");
    size_t bytes = t->dtype.bits / 8u;
    for (int a = 0; a < t->ndim; a++) {
        n += snprintf(h + n, sizeof h - (size_t)n, "%lld,%s", (long long)t->shape[a],
                      a + 1 < t->ndim ? " " : "");
        bytes *= (size_t)t->shape[a];
    }
    n += snprintf(h + n, sizeof h - (size_t)n, "), }");
    while ((10 + n + 1) % 64 != 0) {
        h[n++] = ' ';
    }
    h[n++] = '\n';
    FILE *f = fopen(path, "wb");
    if (!f) {
        return bad(path, "it cannot be written");
    }
    unsigned char head[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(n & 255), (unsigned char)(n >> 8)};
    bool good = fwrite(head, 1, 10, f) == 10 && fwrite(h, 1, (size_t)n, f) == (size_t)n &&
                fwrite((char *)t->data + t->byte_offset, 1, bytes, f) == bytes;
    good &= fclose(f) == 0;
    return good || bad(path, "it could not be written whole");
}
