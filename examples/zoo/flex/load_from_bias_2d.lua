-- s + B[i, j].
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local bias = qn.tensor("bias", "f32", { "Nq", "Nk" })

return qn.attention {
  name = "load_from_bias_2d",
  position = qn.rows,
  score = function(s, b, h, i, j) return s + bias[i][j] end,
}
