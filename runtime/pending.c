#include "passes/pass.h"
#define QN_UNSTABLE
#include "runtime/quern.h"
__attribute__((weak)) void qn_schedule_defaults(qn_ir *ir, qn_schedule *s, const qn_machine *m, const qn_ir_file *f, const qn_kernel_ir *k, const char *form){(void)ir;(void)s;(void)m;(void)f;(void)k;(void)form;}
__attribute__((weak)) QN_API qn_status qn_count(qn_ctx *cx, qn_source source, const qn_options *options, const qn_call *call, qn_count_result *machine, qn_count_result *oracle){(void)cx;(void)source;(void)options;(void)call;(void)machine;(void)oracle;return QN_E_TOOL;}
