/* SPDX-License-Identifier: MIT
 * `explain`: the plans of a kernel in plain words. */
#include "runtime/build.h"

#include "ir/print.h"
#include "ir/walk.h"

#include <string.h>

static void count_loops(void *user, qn_stmt *s)
{
    *(int *)user += s->kind == QN_FOR && !s->u.loop.par;
}

static void explain_nests(qn_build *b, const qn_plan_build *p, qn_buf *out)
{
    int launch = 0;
    for (int s = 0; s < p->kernel->body.count; s++) {
        const qn_stmt *l = p->kernel->body.at[s];
        if (l->kind != QN_LAUNCH) {
            continue;
        }
        launch++;
        for (int n = 0; n < l->u.launch.count; n++) {
            const qn_stmt *nest = l->u.launch.at[n];
            const qn_attr *leaf = qn_attr_find(&nest->attrs, "leaf");
            int loops = 0;
            qn_block_stmts(&nest->u.loop.body, count_loops, &loops);
            qn_buf_printf(out, "  launch %d, tasks ", launch);
            for (int i = 0; i < nest->u.loop.niters; i++) {
                const qn_iter *it = &nest->u.loop.iters[i];
                qn_buf_printf(out, "%s%s", i ? ", " : "(", it->name);
                if (it->step) {
                    qn_buf_printf(out, " step %s", qn_expr_text(&b->arena, it->step));
                }
            }
            if (leaf && leaf->nargs >= 3) {
                qn_buf_printf(out, "): register blocks, lanes of %s along %s, %d loops\n",
                              qn_expr_text(&b->arena, leaf->args[0].lo),
                              qn_expr_text(&b->arena, leaf->args[2].lo), loops);
            } else {
                qn_buf_printf(out, "): plain scalar loops (right, and slow), %d loops\n", loops);
            }
        }
    }
}

const char *qn_build_explain(qn_build *b, const qn_plan_build *plans, int nplans)
{
    qn_buf out = qn_buf_of(&b->arena);
    qn_buf_printf(&out, "kernel %s for %s (%d lanes of 32 bits, %d registers)\n",
                  b->kernel->name + 1, b->target->name, b->target->machine.lanes,
                  b->target->machine.registers);
    for (int n = 0; n < nplans; n++) {
        const qn_plan_build *p = &plans[n];
        const qn_attr *cond = qn_attr_find(&p->kernel->attrs, "plan");
        qn_buf_printf(&out, "\nplan %s", p->form[0] ? p->form : "only");
        if (cond && cond->nargs) {
            qn_buf_printf(&out, ", taken when %s", qn_expr_text(&b->arena, cond->args[0].lo));
        } else if (nplans > 1) {
            qn_buf_puts(&out, ", taken otherwise");
        }
        qn_buf_printf(&out, "; %lld bytes of code\n", (long long)p->emitted.code.size);
        explain_nests(b, p, &out);
        qn_print_schedule(p->schedule, true, &out);
    }
    qn_buf remarks = qn_buf_of(&b->arena);
    qn_diags_print(&b->diags, QN_REMARK, &remarks);
    if (remarks.length) {
        qn_buf_printf(&out, "\nwhat could not be done\n%s", remarks.text);
    } else {
        qn_buf_puts(&out, "\nno remarks: nothing was left undone\n");
    }
    return out.text;
}
