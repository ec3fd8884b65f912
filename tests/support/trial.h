/* SPDX-License-Identifier: MIT
 *
 * A call made from names: compiles a source through quern.h and fills its tensors.
 *
 *     qn_trial t;
 *     qn_trial_open(&t, qn_text("x.lua", spec), &options, "B=1 Hq=4 Hk=2 Nq=7 Nk=9 D=8 Dv=8", 1);
 *     cr_assert_eq(qn_run(t.kernel, &t.call), QN_OK, "%s", t.message);
 *     qn_trial_close(&t);
 *
 * Floats are standard normal by seed; an integer tensor named cu holds rising offsets from 0 to the
 * size Nk, any other 0, 1, 2, 0 .. (at most one less than any size). Sizes that nobody gives are 3.
 */
#ifndef QN_TESTS_TRIAL_H
#define QN_TESTS_TRIAL_H

#ifndef QN_UNSTABLE
#define QN_UNSTABLE
#endif
#include "runtime/quern.h"

#include <stdbool.h>

enum { QN_TRIAL_MOST = 32 };

typedef struct qn_trial {
    qn_ctx *cx;
    qn_kernel *kernel;
    qn_status status; /* of the compilation */
    qn_source source;
    qn_options options;
    char dims[256];
    const char *sizes; /* as given last */
    DLTensor tensors[QN_TRIAL_MOST];
    int64_t shapes[QN_TRIAL_MOST][12];
    const DLTensor *list[QN_TRIAL_MOST];
    const char *dim_names[QN_TRIAL_MOST];
    int64_t dim_values[QN_TRIAL_MOST];
    qn_call call;
    char message[512];
} qn_trial;

/* D and Dv of `sizes` are fixed in the options. False: t->status and qn_ctx_message(t->cx) say why;
 * close it all the same. */
bool qn_trial_open(qn_trial *t, qn_source source, const qn_options *options, const char *sizes,
                   uint64_t seed);
/* The arguments alone, without a kernel: for qn_check and its like, which compile by themselves. */
bool qn_trial_arguments(qn_trial *t, qn_source source, const qn_options *options, const char *sizes,
                        uint64_t seed);
/* New sizes (but for D and Dv) for the same kernel; fills anew. */
bool qn_trial_resize(qn_trial *t, const char *sizes, uint64_t seed);
void qn_trial_close(qn_trial *t);
float *qn_trial_data(qn_trial *t, const char *name, int64_t *count); /* of an f32 tensor */

#endif
