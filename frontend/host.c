/* SPDX-License-Identifier: MIT
 * Look-ups in what the host handed over; see host.h. */
#include "frontend/host.h"

#include <string.h>

const qn_host_value *qn_host_field_of(const qn_host_value *v, const char *key)
{
    if (!v || v->kind != QN_HOST_TABLE) {
        return NULL;
    }
    int lo = 0, hi = v->u.table.nfields; /* in the order of the keys' bytes */
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        int c = strcmp(v->u.table.fields[mid].key, key);
        if (c == 0) {
            return v->u.table.fields[mid].value;
        }
        lo = c < 0 ? mid + 1 : lo;
        hi = c < 0 ? hi : mid;
    }
    return NULL;
}
