-- Causal inside a document: i >= j and doc_q[i] == doc_k[j].
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local doc_q = qn.tensor("doc_q", "i32", { "Nq" }, { sample = { 0, 3 } })
local doc_k = qn.tensor("doc_k", "i32", { "Nk" }, { sample = { 0, 3 } })

return qn.attention {
  name = "doc_mask_sparse",
  position = qn.rows,
  mask = function(b, h, i, j) return i >= j and doc_q[i] == doc_k[j] end,
}
