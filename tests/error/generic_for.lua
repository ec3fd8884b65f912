local qn = require "quern"
local t = { 1, 2 }
return qn.attention {
  score = function(s, b, h, i, j)
    for _, x in ipairs(t) do s = s + x end -- error: E-SYNTAX kernel functions have only the numeric `for`
    return s
  end,
}
-- help: for n = 1, 4 do .. end
