local qn = require "quern"
local c = 3
return qn.attention {
  score = function(s, b, h, i, j)
    return c(s) -- error: E-CALL an integer is called
  end,
}
