-- s o[h].
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local offset = qn.tensor("offset", "f32", { "Hq" })

return qn.attention {
  name = "head_offset",
  position = qn.rows,
  score = function(s, b, h, i, j) return s * offset[h] end,
}
