-- A function of functions: twice what is twice the score, less one.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local function twice(x) return 2.0 * x end
local function minus_one(x) return x - 1.0 end

return qn.attention {
  name = "function_composition",
  position = qn.rows,
  score = function(s, b, h, i, j) return minus_one(twice(twice(s))) end,
}
