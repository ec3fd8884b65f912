-- s + beta[b].
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local beta = qn.tensor("beta", "f32", { "B" })

return qn.attention {
  name = "batch_bias",
  position = qn.rows,
  score = function(s, b, h, i, j) return s + beta[b] end,
}
