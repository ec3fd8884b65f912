-- |i - j| <= 20 and |i - j| even.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "dilated_window",
  position = qn.rows,
  mask = function(b, h, i, j) return math.abs(i - j) <= 20 and math.abs(i - j) % 2 == 0 end,
}
