local qn = require "quern"
local r = qn.tensor("rel", "f32", { "Nk" })
return qn.attention {
  score = function(s, b, h, i, j)
    return s + r[i - j] -- error: E-BOUND index 1 of rel can leave 0 .. Nk - 1
  end,
}
-- help: qn.clamp(index, first, last), or a condition that keeps the
