local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j) -- error: E-SIZE unrolled and inlined, this function is too large
    for n = 1, 1000000000 do s = s + n end
    return s
  end,
}
-- help: fewer rounds of `for`, or a tensor made outside
