-- s + r[i - j + S]: a bias by distance, from a table around its middle.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local rel = qn.tensor("rel", "f32", { "Nk+1" })
local Nk = qn.dim "Nk"

return qn.attention {
  name = "load_rel_bias",
  position = qn.rows,
  score = function(s, b, h, i, j) return s + rel[qn.clamp(i - j + Nk // 2, 0, Nk)] end,
}
