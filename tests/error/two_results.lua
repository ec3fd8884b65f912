local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j) -- error: E-RETURN 'score' returns 2 results instead of one
    return s, 1
  end,
}
