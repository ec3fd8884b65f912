-- j < 10 or causal.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "prefix_lm",
  position = qn.rows,
  mask = function(b, h, i, j) return j < 10 or i >= j end,
}
