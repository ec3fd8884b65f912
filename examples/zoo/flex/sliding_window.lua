-- i - j <= 20 and causal.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "sliding_window",
  position = qn.rows,
  mask = function(b, h, i, j) return i >= j and i - j <= 20 end,
}
