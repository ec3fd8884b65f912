local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j)
    return s + true -- error: E-TYPE '+' of a float and a boolean
  end,
}
