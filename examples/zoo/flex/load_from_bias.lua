-- s + B[b, h, i, j].
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local bias = qn.tensor("bias", "f32", { "B", "Hq", "Nq", "Nk" })

return qn.attention {
  name = "load_from_bias",
  position = qn.rows,
  score = function(s, b, h, i, j) return s + bias[b][h][i][j] end,
}
