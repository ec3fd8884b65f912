-- s m[i].
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local w = qn.tensor("w", "f32", { "Nq" })

return qn.attention {
  name = "multiplicative_bias",
  position = qn.rows,
  score = function(s, b, h, i, j) return s * w[i] end,
}
