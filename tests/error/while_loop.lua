local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j)
    while s > 1 do s = s / 2 end -- error: E-SYNTAX kernel functions have no `while`
    return s
  end,
}
-- help: for n = 1, 4 do .. end, with constant bounds
