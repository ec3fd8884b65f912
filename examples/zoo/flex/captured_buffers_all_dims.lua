-- s + t[i] + beta[b] + eta[h].
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local t = qn.tensor("t", "f32", { "Nq" })
local beta = qn.tensor("beta", "f32", { "B" })
local eta = qn.tensor("eta", "f32", { "Hq" })

return qn.attention {
  name = "captured_buffers_all_dims",
  position = qn.rows,
  score = function(s, b, h, i, j) return s + t[i] + beta[b] + eta[h] end,
}
