local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j)
    if j > i then return s else return true end -- error: E-RETURN one path returns a float, another a boolean
  end,
}
