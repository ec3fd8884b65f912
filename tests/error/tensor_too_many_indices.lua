local qn = require "quern"
local slope = qn.tensor("slope", "f32", { "Hq" })
return qn.attention {
  score = function(s, b, h, i, j)
    return s + slope[h][i] -- error: E-RANK a float is indexed
  end,
}
