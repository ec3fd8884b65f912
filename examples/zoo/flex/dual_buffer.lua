-- s + eta[h] + p[i].
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local eta = qn.tensor("eta", "f32", { "Hq" })
local p = qn.tensor("p", "f32", { "Nq" })

return qn.attention {
  name = "dual_buffer",
  position = qn.rows,
  score = function(s, b, h, i, j) return s + eta[h] + p[i] end,
}
