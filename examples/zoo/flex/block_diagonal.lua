-- i // 64 == j // 64.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "block_diagonal",
  position = qn.rows,
  mask = function(b, h, i, j) return i // 64 == j // 64 end,
}
