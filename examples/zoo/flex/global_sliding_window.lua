-- |i - j| <= 8 or either token is global.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local gq = qn.tensor("gq", "i32", { "Nq" }, { sample = { 0, 3 } })
local gk = qn.tensor("gk", "i32", { "Nk" }, { sample = { 0, 3 } })

return qn.attention {
  name = "global_sliding_window",
  position = qn.rows,
  mask = function(b, h, i, j) return math.abs(i - j) <= 8 or gq[i] ~= 0 or gk[j] ~= 0 end,
}
