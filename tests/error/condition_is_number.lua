local qn = require "quern"
return qn.attention {
  mask = function(b, h, i, j)
    if i - j then return true else return false end -- error: E-COND the condition is an integer
  end,
}
-- help: a condition is boolean: compare with something, such as ~= 0
