local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j) return j <= i end, -- error: E-RETURN 'score' returns a boolean, not a number
}
