local qn = require "quern"
local total = 0
return qn.attention {
  score = function(s, b, h, i, j)
    total = total + 1 -- error: E-ASSIGN 'total' lives outside of this function
    return s
  end,
}
-- help: kernel functions have no effects: use a `local`
