-- Soft cap of scores: c tanh(s / c).
-- Gemma Team, "Gemma 2", 2024, section 2.
local qn = require "quern"
return qn.attention { name = "softcap", mask = qn.causal, score = qn.softcap(50.0) }
