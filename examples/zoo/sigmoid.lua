-- Sigmoid attention: o = sum sigmoid(s + b) v.
-- Ramapuram et al., "Theory, Analysis, and Best Practices for Sigmoid Self-Attention", 2024.
local qn = require "quern"
local bias = qn.param("bias", "f32", -4.0)

return qn.attention {
  name = "sigmoid",
  mask = qn.causal,
  norm = qn.norm.sigmoid,
  score = function(s, b, h, i, j) return s + bias end,
}
