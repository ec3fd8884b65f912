local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j)
    return (s + 1
  end, -- error: E-SYNTAX ')' expected (to close '(' at line 4) near 'end'
}
