-- Batches of 16 in one row, causal inside: i // 16 == j // 16 and i % 16 >= j % 16.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "batchify",
  position = qn.rows,
  mask = function(b, h, i, j) return i // 16 == j // 16 and i % 16 >= j % 16 end,
}
