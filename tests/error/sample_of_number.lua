local qn = require "quern"
local t = qn.tensor("t", "i32", { "Nk" }, { sample = 3 }) -- error: E-SAMPLE the sample of t is no range of integers
return qn.attention {
  score = function(s, b, h, i, j)
    return s + t[j]
  end,
}
-- help: sample = { 0, 7 }, or "offsets" for a tensor of one dimension
