local qn = require "quern"
local slope = qn.tensor("slope", "f32", { "Hq" })
return qn.attention {
  score = function(s, b, h, i, j)
    return s + slope[h + 1] -- error: E-BOUND index 1 of slope can leave 0 .. Hq - 1
  end,
}
-- help: qn.clamp(index, first, last), or a condition that keeps the
