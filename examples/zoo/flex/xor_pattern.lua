-- s + 0.001 ((i xor j) & 255) + 0.1 t[j].
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local t = qn.tensor("t", "f32", { "Nk" })

return qn.attention {
  name = "xor_pattern",
  position = qn.rows,
  score = function(s, b, h, i, j) return s + 0.001 * ((i ~ j) & 255) + 0.1 * t[j] end,
}
