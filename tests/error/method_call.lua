local qn = require "quern"
local x = qn.tensor("x", "f32", { "Hq" })
return qn.attention {
  score = function(s, b, h, i, j)
    return x:get(h) -- error: E-SYNTAX kernel functions have no methods
  end,
}
-- help: call a function
