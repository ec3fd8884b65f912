-- 20 tanh(s / 20).
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "softcap",
  position = qn.rows,
  score = function(s, b, h, i, j) return 20.0 * qn.tanh(s / 20.0) end,
}
