-- s - floor(i / (1 + j)).
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "subgraph",
  position = qn.rows,
  score = function(s, b, h, i, j) return s - i // (1 + j) end,
}
