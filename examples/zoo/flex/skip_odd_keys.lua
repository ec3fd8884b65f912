-- s where j is even.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "skip_odd_keys",
  position = qn.rows,
  mask = function(b, h, i, j) return j % 2 == 0 end,
}
