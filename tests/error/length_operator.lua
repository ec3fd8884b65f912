local qn = require "quern"
local t = { 1, 2 }
return qn.attention {
  score = function(s, b, h, i, j)
    return s + #t -- error: E-SYNTAX kernel functions have no '#'
  end,
}
-- help: take the length outside, or use qn.dim
