local qn = require "quern"
local T = qn.tensor("T", "f32", { "Hq", "Nbucket" })
return qn.attention {
  score = qn.bias(T), -- error: E-SPEC qn.bias takes a tensor whose dimensions are among B, Hq, Nq and Nk
}
-- help: of others, write the score: function(s, b, h, i, j) return s
