local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j)
    if j > i then return s end -- error: E-RETURN one path of this `if` ends without `return`
  end,
}
