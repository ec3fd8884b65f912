-- A gate a token and head on the output.
-- Jin et al., "MoH: Multi-Head Attention as Mixture-of-Head Attention", 2024.
local qn = require "quern"
local G = qn.tensor("G", "f32", { "B", "Nq", "Hq" })

return qn.attention {
  name = "out_gate",
  mask = qn.causal,
  out = function(o, b, h, i) return o * G[b][i][h] end,
}
