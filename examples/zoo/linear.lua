-- Weights linear in the score: o = sum s v / sum s, with positive scores.
-- Katharopoulos et al., "Transformers are RNNs", 2020, equation 4, with (q.k)^2 as the kernel.
local qn = require "quern"
return qn.attention {
  name = "linear",
  mask = qn.causal,
  norm = qn.norm.linear,
  score = function(s, b, h, i, j) return s * s + 0.01 end,
}
