local qn = require "quern"
local slope = qn.tensor("slope", "f32", { "Hq" })
return qn.attention {
  score = function(s, b, h, i, j)
    return s + slope[s] -- error: E-TYPE slope is indexed by a float
  end,
}
-- help: indices are integers, from 0; math.floor makes one
