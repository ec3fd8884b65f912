local qn = require "quern"
local slope = qn.tensor("slope", "f32", { "Hq" })
return qn.attention {
  score = function(s, b, h, i, j)
    return s + slope -- error: E-TYPE '+' of a float and a tensor
  end,
}
