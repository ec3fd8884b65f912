-- Neighbours in a picture 8 wide: |x_i - x_j| <= 3 or |y_i - y_j| <= 3.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "natten_2d",
  position = qn.rows,
  mask = function(b, h, i, j) return math.abs(i % 8 - j % 8) <= 3 or math.abs(i // 8 - j // 8) <= 3 end,
}
