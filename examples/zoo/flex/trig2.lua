-- cos s sin s + tan b.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "trig2",
  position = qn.rows,
  score = function(s, b, h, i, j) return math.cos(s) * math.sin(s) + math.sin(b + 0.0) / math.cos(b + 0.0) end,
}
