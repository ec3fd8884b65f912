-- s where tokens are of one sequence: seq_q[i] == seq_k[j].
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local seq_q = qn.tensor("seq_q", "i32", { "Nq" }, { sample = { 0, 3 } })
local seq_k = qn.tensor("seq_k", "i32", { "Nk" }, { sample = { 0, 3 } })

return qn.attention {
  name = "seq_masking",
  position = qn.rows,
  mask = function(b, h, i, j) return seq_q[i] == seq_k[j] end,
}
