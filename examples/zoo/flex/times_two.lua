-- 2 s.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "times_two",
  position = qn.rows,
  score = function(s, b, h, i, j) return 2.0 * s end,
}
