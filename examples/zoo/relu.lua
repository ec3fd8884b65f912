-- ReLU attention: o = sum max(s, 0) v, here with the score over the number of keys.
-- Wortsman et al., "Replacing softmax with ReLU in Vision Transformers", 2023.
local qn = require "quern"
local Nk = qn.dim "Nk"

return qn.attention {
  name = "relu",
  norm = qn.norm.relu,
  score = function(s, b, h, i, j) return s / Nk end,
}
