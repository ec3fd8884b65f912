local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j)
    for n = 1, i do s = s + n end -- error: E-CONST the bounds of `for` must be known now; this is an integer
    return s
  end,
}
-- help: loops are unrolled: a constant bound, and `if` inside
