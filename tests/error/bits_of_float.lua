local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j)
    return s & 1 -- error: E-TYPE '&' of a float and an integer
  end,
}
-- help: bit operations take integers; math.floor makes one
