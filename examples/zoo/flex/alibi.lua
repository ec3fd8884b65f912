-- s + (j - i) 2^(-8 (h + 1) / 8).
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "alibi",
  position = qn.rows,
  score = function(s, b, h, i, j) return s + (j - i) * 2.0 ^ (-8.0 * (h + 1) / 8.0) end,
}
