local qn = require "quern"
local x = qn.tensor("x", "f32", { "Nq" })
return qn.attention {
  score = function(s, b, h, i, j)
    return s + x[j] -- error: E-BOUND index 1 of x can leave 0 .. Nq - 1
  end,
}
-- help: qn.clamp(index, first, last), or a condition that keeps the
