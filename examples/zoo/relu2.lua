-- Squared ReLU attention: o = sum max(s, 0)^2 v.
-- Hua et al., "Transformer Quality in Linear Time", 2022.
local qn = require "quern"
return qn.attention { name = "relu2", norm = qn.norm.relu2, mask = qn.causal, scale = 0.05 }
