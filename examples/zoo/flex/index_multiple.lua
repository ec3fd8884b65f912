-- s + B[b][i].
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local bias = qn.tensor("bias", "f32", { "B", "Nq" })

return qn.attention {
  name = "index_multiple",
  position = qn.rows,
  score = function(s, b, h, i, j) return s + bias[b][i] end,
}
