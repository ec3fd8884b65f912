-- s + c.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local c = qn.param("c", "f32", 1.5)

return qn.attention {
  name = "captured_scale",
  position = qn.rows,
  score = function(s, b, h, i, j) return s + c end,
}
