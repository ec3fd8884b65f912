local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j)
    return s .. "x" -- error: E-SYNTAX kernel functions have no '..'
  end,
}
-- help: join texts outside
