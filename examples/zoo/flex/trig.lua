-- sin(cos s) + tan b.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "trig",
  position = qn.rows,
  score = function(s, b, h, i, j) return math.sin(math.cos(s)) + math.sin(b + 0.0) / math.cos(b + 0.0) end,
}
