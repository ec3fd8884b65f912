-- Bidirectional up to n[b], causal behind: (i <= n and j <= n) or i >= j.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local n = qn.tensor("n", "i32", { "B" }, { sample = { 0, 3 } })

return qn.attention {
  name = "dependent_causal_bidirectional",
  position = qn.rows,
  mask = function(b, h, i, j) return (i <= n[b] and j <= n[b]) or i >= j end,
}
