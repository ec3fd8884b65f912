local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j)
    for n = 1, 3, 0 do s = s + n end -- error: E-CONST the step of `for` is 0
    return s
  end,
}
