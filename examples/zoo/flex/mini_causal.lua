-- i % 32 >= j % 32.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "mini_causal",
  position = qn.rows,
  mask = function(b, h, i, j) return i % 32 >= j % 32 end,
}
